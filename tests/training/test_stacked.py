from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from auditkit.backbones.lightgcn import LightGCN
from auditkit.contracts import Fit, Recipe
from auditkit.data.dataset import Dataset, Interactions
from auditkit.errors import ConfigurationError
from auditkit.training import stacked
from auditkit.training.early_stopping import validation_recall, with_validation
from auditkit.training.samplers import TripleSampler

N_USERS, N_ITEMS = 40, 60


def blocks(seed: int = 0, share: float = 1.0) -> Dataset:
    """Four groups of users who prefer a quarter of the items each: learnable, unlike uniform noise."""
    rng = np.random.default_rng(seed)
    same = np.arange(N_USERS)[:, None] % 4 == np.arange(N_ITEMS)[None] % 4
    mask = rng.random((N_USERS, N_ITEMS)) < np.where(same, 0.6, 0.03)
    mask &= np.random.default_rng(99).random(mask.shape) < share
    return Dataset(f"blocks-{seed}", N_USERS, N_ITEMS, Interactions.unique(*np.nonzero(mask))[0])


def recipe(**fit: Any) -> Recipe:
    chosen = Fit(**{"epochs": 6, "batch": 128, "learning_rate": 0.01, **fit})
    return Recipe("lightgcn", asdict(LightGCN.Config(factors=8, layers=2)), chosen)


def tables(models: Sequence[LightGCN]) -> list[torch.Tensor]:
    return [torch.cat([m.user_table, m.item_table]).detach() for m in models]


def largest_gap(first: Sequence[LightGCN], second: Sequence[LightGCN]) -> float:
    pairs = zip(tables(first), tables(second), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


@pytest.mark.parametrize("sampler", ["shuffle", "users"])
def test_eight_stacked_equal_eight_alone(sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members differ in data, in size and in steps an epoch."""
    members = [(blocks(seed % 3, share=1 - 0.05 * (seed % 4)), seed) for seed in range(8)]
    chosen = recipe(sampler=sampler)
    sizes: list[int] = []
    train = stacked._train

    def watched(cls: Any, group: Any, r: Recipe) -> None:
        sizes.append(len(group))
        train(cls, group, r)

    monkeypatch.setattr(stacked, "_train", watched)
    together = LightGCN.fit(members, chosen, device="cpu")
    assert max(sizes) > 1, "nothing was stacked, so nothing would be shown"
    alone = [LightGCN.fit([member], chosen, device="cpu")[0] for member in members]
    start = [LightGCN(d, LightGCN.Config(8, 2), rng=np.random.default_rng(s)) for d, s in members]
    assert largest_gap(alone, start) > 0.05, "nothing was learned, so nothing would be shown"
    assert largest_gap(together, alone) <= 1e-6
    for model, (data, _) in zip(together, members, strict=True):
        assert model.data is data
        assert not model.training


def test_same_seed_same_bytes_and_other_seeds_differ() -> None:
    data, chosen = blocks(), recipe()
    first, again, other = ([(data, 1)], [(data, 1)], [(data, 2)])
    made = [LightGCN.fit(members, chosen, device="cpu")[0] for members in (first, again, other)]
    states = [tables([m])[0].numpy().tobytes() for m in made]
    assert states[0] == states[1] != states[2]


def test_a_stack_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    members = [(blocks(), seed) for seed in range(5)]
    built = [stacked._built(LightGCN, d, s, recipe(), "cpu") for d, s in members]
    assert [len(g) for g in stacked._stacks(built, 128, stackable=True)] == [5]
    monkeypatch.setattr(stacked, "_MOST_ON_A_CPU", 2 * built[0].n_parameters())
    assert [len(g) for g in stacked._stacks(built, 128, stackable=True)] == [2, 2, 1]
    assert [len(g) for g in stacked._stacks(built, 128, stackable=False)] == [1] * 5


def test_only_members_with_equal_steps_are_stacked() -> None:
    members = [(blocks(), 0), (blocks(share=0.5), 1), (blocks(1), 2)]
    built = [stacked._built(LightGCN, d, s, recipe(), "cpu") for d, s in members]
    steps = [m.steps(128) for m in built]
    groups = list(stacked._stacks(built, 128, stackable=True))
    assert len(groups) == len(set(steps)) > 1
    assert all(len({m.steps(128) for m in group}) == 1 for group in groups)


class Shared(LightGCN):
    """A backbone with a parameter that all rows share: never stacked."""

    name: ClassVar[str] = "shared-scale"
    stackable: ClassVar[bool] = False
    scale: torch.nn.Parameter

    def start(self, rng: np.random.Generator) -> None:
        super().start(rng)
        self.register_parameter("scale", torch.nn.Parameter(torch.ones(1)))

    def embed(self, branch: str | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        users, items = super().embed(branch)
        return users * self.scale, items


def test_what_cannot_be_stacked_is_trained_one_by_one() -> None:
    members = [(blocks(), 0), (blocks(), 1)]
    together = Shared.fit(members, recipe(), device="cpu")
    alone = [Shared.fit([m], recipe(), device="cpu")[0] for m in members]
    assert largest_gap(together, alone) == 0
    assert all(isinstance(m, Shared) for m in together)


def test_training_finds_the_structure() -> None:
    chosen = recipe(epochs=40, patience=50, valid=0.2)
    data = blocks()
    held = with_validation(data, chosen.fit)
    untrained = LightGCN(held, LightGCN.Config(8, 2), rng=np.random.default_rng(0))
    trained = LightGCN.fit([(data, 0)], chosen, device="cpu")[0]
    assert validation_recall(trained.on(held), held) > validation_recall(untrained, held) + 0.1
    assert trained.data is data


def recalls(members: Sequence[tuple[Dataset, int]], chosen: Recipe, epochs: int) -> list[list[float]]:
    """Validation Recall@20 of each member after 1..epochs passes, each trained anew without early stopping."""
    found: list[list[float]] = [[] for _ in members]
    for n in range(1, epochs + 1):
        plain = replace(chosen, fit=replace(chosen.fit, epochs=n, patience=None))
        held = [(with_validation(d, chosen.fit), s) for d, s in members]
        for values, model in zip(found, LightGCN.fit(held, plain, device="cpu"), strict=True):
            values.append(validation_recall(model, model.data))
    return found


def test_early_stopping_returns_the_best_epoch_whoever_the_companions_are() -> None:
    members = [(blocks(seed), seed) for seed in range(4)]
    chosen = recipe(epochs=12, learning_rate=0.05, patience=2, every=1, valid=0.2)
    together = LightGCN.fit(members, chosen, device="cpu")
    alone = [LightGCN.fit([m], chosen, device="cpu")[0] for m in members]
    assert largest_gap(together, alone) <= 1e-6
    ended = set()
    for (data, seed), model, values in zip(members, together, recalls(members, chosen, 12), strict=True):
        stop = next((e for e in range(1, 13) if e - 1 - int(np.argmax(values[:e])) >= 2), 12)
        best = int(np.argmax(values[:stop])) + 1
        ended.add(stop)
        plain = replace(chosen, fit=replace(chosen.fit, epochs=best, patience=None))
        expected = LightGCN.fit([(with_validation(data, chosen.fit), seed)], plain, device="cpu")
        assert largest_gap([model], expected) <= 1e-6
    assert len(ended) > 1, "all members stopped together, so independence is not shown"


def test_bad_fits_name_every_problem() -> None:
    with pytest.raises(ConfigurationError) as caught:
        recipe(epochs=0, learning_rate=0.0, l2=-1.0, batch=0, every=0, patience=0, valid=1.0)
    assert len(caught.value.problems) == 7
    with pytest.raises(ConfigurationError, match=r"fit\.engine must be 'adam' for lightgcn, got 'sgd'"):
        LightGCN.fit([(blocks(), 0)], recipe(engine="sgd"), device="cpu")
    with pytest.raises(ConfigurationError, match=r"engine of 'lightgcn' must be adam, got 'sgd'"):
        Recipe.of("lightgcn", fit={"engine": "sgd"})
    with pytest.raises(ConfigurationError, match=r"set fit\.valid"):
        LightGCN.fit([(blocks(), 0)], recipe(patience=2), device="cpu")


def test_no_interactions_leave_the_start() -> None:
    empty = Dataset("empty", 3, 4, Interactions.empty())
    made = LightGCN.fit([(empty, 0)], recipe(), device="cpu")
    start = LightGCN(empty, LightGCN.Config(8, 2), rng=np.random.default_rng(0))
    assert largest_gap(made, [start]) == 0


def test_shuffle_draws_every_pair_once() -> None:
    data = blocks()
    drawn = TripleSampler(data, "shuffle").draw(0, 0)
    assert sorted((drawn.users * N_ITEMS + drawn.positives).tolist()) == sorted(data.train.codes(N_ITEMS).tolist())
    assert drawn.users.tolist() != sorted(drawn.users.tolist())


@pytest.mark.parametrize("kind", ["shuffle", "users"])
def test_triples_are_valid_and_follow_from_seed_and_epoch(kind: Any) -> None:
    data = blocks()
    sampler, held = TripleSampler(data, kind), set(data.train.codes(N_ITEMS).tolist())
    first, again = sampler.draw(3, 1), sampler.draw(3, 1)
    assert len(first) == len(sampler) == len(data.train)
    assert set((first.users * N_ITEMS + first.positives).tolist()) <= held
    assert not set((first.users * N_ITEMS + first.negatives).tolist()) & held
    assert np.array_equal(first.negatives, again.negatives)
    assert np.array_equal(first.positives, again.positives)
    for other in (sampler.draw(4, 1), sampler.draw(3, 2)):
        assert not np.array_equal(first.negatives, other.negatives)


def test_users_are_drawn_uniformly_whatever_their_activity() -> None:
    mask = np.zeros((3, 40), np.bool_)
    mask[0, :30], mask[1, :2] = True, True
    data = Dataset("uneven", 3, 40, Interactions.unique(*np.nonzero(mask))[0])
    sampler = TripleSampler(data, "users")
    drawn = np.concatenate([sampler.draw(0, epoch).users for epoch in range(200)])
    assert np.bincount(drawn, minlength=3)[2] == 0
    assert np.mean(drawn == 1) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(drawn)))


def test_negatives_are_uniform_over_what_the_user_lacks() -> None:
    mask = np.zeros((1, 10), np.bool_)
    mask[0, :6] = True
    sampler = TripleSampler(Dataset("one", 1, 10, Interactions.unique(*np.nonzero(mask))[0]), "shuffle")
    drawn = np.concatenate([sampler.draw(0, epoch).negatives for epoch in range(1000)])
    shares = np.bincount(drawn, minlength=10) / len(drawn)
    assert not shares[:6].any()
    np.testing.assert_allclose(shares[6:], 0.25, atol=4 * np.sqrt(0.1875 / len(drawn)))


@pytest.mark.parametrize("kind", ["shuffle", "users"])
def test_users_who_hold_everything_are_left_out(kind: Any) -> None:
    mask = np.array([[True, True, True], [True, False, False]])
    sampler = TripleSampler(Dataset("full", 2, 3, Interactions.unique(*np.nonzero(mask))[0]), kind)
    assert sampler.draw(0, 0).users.tolist() == [1]
    assert len(TripleSampler(Dataset("none", 2, 3, Interactions.empty()), kind).draw(0, 0)) == 0
