"""What the engine decides epoch by epoch: learning rates, random streams, pools of negatives, threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from auditkit.backbones.lightgcn import LightGCN
from auditkit.contracts import Fit, Recipe
from auditkit.data.dataset import Dataset, Interactions
from auditkit.errors import ConfigurationError
from auditkit.training import stacked
from auditkit.training.samplers import TripleSampler


def small(seed: int = 0) -> Dataset:
    return Dataset.synthetic(n_users=30, n_items=20, n_interactions=300, clusters=3, features=(), seed=seed)


def recipe(**fit: Any) -> Recipe:
    return Recipe("lightgcn", asdict(LightGCN.Config(factors=4, layers=1)), Fit(**{"epochs": 3, "batch": 64, **fit}))


def tables(model: torch.nn.Module) -> np.ndarray:
    return np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])


class Noisy(LightGCN):
    """A backbone whose loss adds noise from the draws of the epoch, alike for every stacked companion."""

    name: ClassVar[str] = "noisy"
    heard: ClassVar[list[int]] = []

    def start_epoch(self, draws: Sequence[np.random.Generator]) -> None:
        super().start_epoch(draws)
        type(self).heard.append(len(draws))

    def loss(self, users: Any, positives: Any, negatives: Any, *, l2: float, weights: Any = None) -> torch.Tensor:
        found = super().loss(users, positives, negatives, l2=l2, weights=weights)
        if self.training and self.draws:
            noise = torch.cat([torch.from_numpy(d.normal(size=self.n_users // self.members)) for d in self.draws])
            found = found + 0.01 * (self.user_table * noise[:, None].float()).sum()
        return found


@contextmanager
def threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_what_is_random_follows_from_the_members_seed_alone() -> None:
    members = [(small(k), 10 + k) for k in range(3)]
    together = Noisy.fit(members, recipe(), device="cpu")
    assert max(Noisy.heard) > 1, "nothing was stacked, so nothing would be shown"
    for member, model in zip(members, together, strict=True):
        alone, again = (Noisy.fit([member], recipe(), device="cpu")[0] for _ in range(2))
        np.testing.assert_allclose(tables(model), tables(alone), atol=1e-6)
        assert np.array_equal(tables(alone), tables(again))
        assert model.draws == ()
    quiet = LightGCN.fit([members[0]], recipe(), device="cpu")[0]
    assert np.abs(tables(together[0]) - tables(quiet)).max() > 1e-4


def test_side_by_side_in_threads_is_as_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked, "_MOST_MEMBERS", 1)
    members = [(small(k), k) for k in range(4)]
    serial = LightGCN.fit(members, recipe(), device="cpu")
    with threads(3):
        parallel = LightGCN.fit(members, recipe(), device="cpu")
        assert torch.get_num_threads() == 3
    for one, other in zip(serial, parallel, strict=True):
        assert np.array_equal(tables(one), tables(other))


def test_an_error_in_a_thread_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked, "_MOST_MEMBERS", 1)

    def broken(*_: Any) -> None:
        raise ConfigurationError("from within")

    monkeypatch.setattr(stacked, "_train", broken)
    with threads(2), pytest.raises(ConfigurationError, match="from within"):
        LightGCN.fit([(small(), 0), (small(), 1)], recipe(), device="cpu")


def test_the_learning_rate_falls_by_decay_in_fifty_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.Adam.step

    def watched(self: torch.optim.Adam, *arguments: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    data = Dataset("few", 3, 4, Interactions(np.arange(3), np.arange(3)))
    LightGCN.fit([(data, 0)], recipe(epochs=101, decay=0.5, learning_rate=0.01), device="cpu")
    assert rates[0] == 0.01
    assert rates[50] == pytest.approx(0.005)
    assert rates[100] == pytest.approx(0.0025)
    assert rates[25] == pytest.approx(0.01 * 0.5**0.5)


def test_negatives_among_the_trained_items() -> None:
    pairs = Interactions(np.array([0, 0, 1]), np.array([2, 5, 7]))
    sampler = TripleSampler(Dataset("few", 2, 9, pairs), "shuffle", "trained")
    drawn = [sampler.draw(0, epoch) for epoch in range(60)]
    of_first = np.concatenate([t.negatives[t.users == 0] for t in drawn])
    of_second = np.concatenate([t.negatives[t.users == 1] for t in drawn])
    assert set(of_first) == {7}
    assert set(of_second) == {2, 5}


def test_users_who_hold_all_trained_items_are_left_out() -> None:
    pairs = Interactions(np.array([0, 0, 1]), np.array([2, 5, 5]))
    sampler = TripleSampler(Dataset("few", 2, 9, pairs), "shuffle", "trained")
    assert sampler.draw(0, 0).users.tolist() == [1]


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        ({"decay": 0.0}, r"decay must be in \(0, 1\], got 0.0"),
        ({"decay": 1.5}, r"decay must be in \(0, 1\], got 1.5"),
        ({"engine": "sgd", "negatives": "trained"}, "belong to engine 'adam'"),
        ({"engine": "sgd", "decay": 0.9}, "belong to engine 'adam'"),
    ],
)
def test_what_does_not_fit(fit: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Fit(**fit)
