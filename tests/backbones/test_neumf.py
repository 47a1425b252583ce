from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from auditkit.architecture import Backbone, Side
from auditkit.backbones import neumf
from auditkit.backbones.neumf import NeuMF
from auditkit.data.dataset import Dataset, Floats, Interactions
from auditkit.errors import ConfigurationError, NotApplicableError, NotFactorizedError
from auditkit.testing import BackboneTests
from auditkit.training.stacked import union
from auditkit.utility import evaluate


class TestNeuMF(BackboneTests):
    backbone = NeuMF
    config = {"factors": 8, "layers": 2, "init_scale": 0.1}  # noqa: RUF012
    fit = {"epochs": 30, "learning_rate": 0.02, "batch": 256}  # noqa: RUF012

    def loss_of(self, model: Backbone) -> Tensor:
        """On 40 triples: among a thousand some ReLU turns within the step of finite differences."""
        rng = np.random.default_rng(9)
        held = self.data.train.matrix(self.data.n_users, self.data.n_items).toarray() > 0
        (users, positives), (others, negatives) = (rng.permutation(np.argwhere(part)).T for part in (held, ~held))
        chosen = [np.flatnonzero(others == user)[0] for user in users[:40]]
        return model.loss(*map(torch.from_numpy, (users[:40], positives[:40], negatives[chosen])), l2=1e-4)


def made(members: int = 1, n_users: int = 6, n_items: int = 8, **config: Any) -> NeuMF:
    """A small model in double precision over data without pairs: nothing but the parameters is read."""
    data = Dataset("small", n_users, n_items, Interactions.empty())
    chosen = NeuMF.Config(**{"factors": 3, "layers": 3, "init_scale": 1.0, **config})
    rng = np.random.default_rng(3)
    model = NeuMF(union([data] * members), chosen, rng=rng, members=members).double()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.copy_(torch.from_numpy(rng.normal(size=len(parameter))))
    return model


def score_of(model: NeuMF, user: Floats, item: Floats) -> float:
    """Eq. 12 of one pair of rows, number by number."""
    state = {name: p.detach().numpy() for name, p in model.named_parameters()}
    f = model.config.factors
    x = np.concatenate([user[f:], item[f:]])
    for k in range(model.config.layers):
        x = np.maximum(state[f"hidden.{k}.weight"] @ x + state[f"hidden.{k}.bias"], 0)
    return float(state["output.weight"][0] @ np.concatenate([user[:f] * item[:f], x]))


def reference(model: NeuMF) -> Floats:
    """All scores, pair by pair."""
    users, items = (model.get_parameter(name).detach().numpy() for name in ("user_table", "item_table"))
    return np.array([[score_of(model, user, item) for item in items] for user in users])


@pytest.mark.parametrize("block", [1, 40, 2**18])
@pytest.mark.parametrize("layers", [1, 3])
def test_scores_from_the_formula_whatever_the_block(layers: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neumf, "_BLOCK", block)
    model = made(layers=layers)
    expected = reference(model)
    assert_allclose(model.score(np.arange(6)).numpy(), expected, atol=1e-8)
    assert_allclose(model.score(np.array([4, 1, 4]), branch="id").numpy(), expected[[4, 1, 4]], atol=1e-8)
    pairs = torch.tensor([0, 5, 2]), torch.tensor([7, 0, 2])
    assert_allclose(model.logits(*pairs).detach().numpy(), expected[[0, 5, 2], [7, 0, 2]], atol=1e-8)
    assert model.score(np.array([], np.int64)).shape == (0, 8)


def test_a_block_of_pairs_is_all_that_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neumf, "_BLOCK", 60)
    sizes = []

    def relu(x: Tensor) -> Tensor:
        sizes.append(x.numel())
        return torch.relu(x)

    monkeypatch.setattr(neumf, "relu", relu)
    made().score(np.arange(6))
    assert 0 < max(sizes) <= 60


def test_the_score_is_no_product() -> None:
    """A matrix of products has at most as high a rank as the rows have columns; this one has more."""
    model = made(factors=1, layers=1, n_users=12, n_items=12)
    assert np.linalg.matrix_rank(model.score(np.arange(12)).numpy(), tol=1e-6) > model.user_table.shape[1]
    with pytest.raises(NotFactorizedError, match="by a product of vectors; use score"):
        model.embed()


@pytest.mark.parametrize("weighted", [False, True])
def test_loss_is_log_loss_on_both_pairs_of_a_triple(weighted: bool) -> None:
    model = made()
    scores = reference(model)
    users, items = (model.get_parameter(name).detach().numpy() for name in ("user_table", "item_table"))
    u, i, j = np.array([0, 5, 5]), np.array([1, 2, 3]), np.array([7, 7, 1])
    counts = np.array([0.2, 0.3, 0.5]) if weighted else np.full(3, 1 / 3)
    expected = 0.0
    for count, a, b, c in zip(counts, u, i, j, strict=True):
        yes, no = (1 / (1 + math.exp(-scores[a, item])) for item in (b, c))
        norms = (users[a] ** 2).sum() + (items[b] ** 2).sum() + (items[c] ** 2).sum()
        expected += count * (-math.log(yes) - math.log(1 - no) + 0.5 * 0.3 * norms)
    ids = (torch.from_numpy(a) for a in (u, i, j))
    given = torch.from_numpy(counts) if weighted else None
    assert float(model.loss(*ids, l2=0.3, weights=given).detach()) == pytest.approx(expected, abs=1e-8)


def test_logits_of_stacked_members_are_each_members_own() -> None:
    both, pairs = made(members=2), (torch.tensor([0, 3, 6, 11, 7]), torch.tensor([2, 7, 8, 15, 9]))
    found = both.logits(*pairs).detach()
    for m, (rows, start) in enumerate(((slice(0, 2), 0), (slice(2, 5), 1))):
        alone = made()
        with torch.no_grad():
            for name, parameter in alone.named_parameters():
                parameter.copy_(both.get_parameter(name).chunk(2)[m])
        expected = alone.logits(pairs[0][rows] - 6 * start, pairs[1][rows] - 8 * start).detach()
        assert_allclose(found[rows].numpy(), expected.numpy(), atol=1e-12)
    with pytest.raises(NotApplicableError, match="cannot score stacked members at once"):
        both.score(np.array([0]))


def test_start_follows_the_published_one() -> None:
    data = Dataset("wide", 500, 400, Interactions.empty())
    model = NeuMF(data, NeuMF.Config(), rng=np.random.default_rng(0))
    # The authors' tower for 8 factors is 64, 32, 16, 8: vectors of 32 columns each.
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert [shapes[f"hidden.{k}.weight"] for k in range(3)] == [(32, 64), (16, 32), (8, 16)]
    assert (shapes["user_table"], shapes["output.weight"]) == ((500, 8 + 32), (1, 16))
    assert float(model.item_table.detach().std()) == pytest.approx(0.01, rel=0.02)
    assert not any(model.get_parameter(f"hidden.{k}.bias").detach().any() for k in range(3))


def slope_of(model: NeuMF, fresh: Floats, other: Floats, side: Side) -> Floats:
    """Derivative of the score of a pair by the fresh row, by hand."""
    state = {name: p.detach().numpy() for name, p in model.named_parameters()}
    f, top = model.config.factors, state["output.weight"][0]
    rows = (fresh, other) if side == "user" else (other, fresh)
    x, weights = np.concatenate([row[f:] for row in rows]), []
    for k in range(model.config.layers):
        open_ = state[f"hidden.{k}.weight"] @ x + state[f"hidden.{k}.bias"] > 0
        weights.append(open_[:, None] * state[f"hidden.{k}.weight"])
        x = weights[-1] @ x + open_ * state[f"hidden.{k}.bias"]
    back = top[f:]
    for weight in reversed(weights):
        back = back @ weight
    own = np.split(back, 2)[0 if side == "user" else 1]
    return np.concatenate([top[:f] * other[:f], own])


@pytest.mark.parametrize("side", ["user", "item"])
def test_fold_in_takes_its_steps_of_gradient_descent(side: Side) -> None:
    """Log loss on a fresh row, one pair after another; the second of two histories, with its own negatives."""
    model = made(n_users=30, n_items=40, layers=2)
    told = model.get_parameter("item_table" if side == "user" else "user_table").detach().numpy()
    history = np.array([1, 4, 9, 16])
    negatives = np.random.default_rng(0).integers(len(told), size=(2, 64))[1]
    negatives = negatives[~np.isin(negatives, history)]
    pairs = [(told[k], 1, 1 / 4) for k in history] + [(told[k], 0, 1 / len(negatives)) for k in negatives]

    def score(row: Floats, other: Floats) -> float:
        return score_of(model, row, other) if side == "user" else score_of(model, other, row)

    row: Floats = np.zeros(told.shape[1])
    losses: list[float] = []
    for _ in range(60):
        ascent, bend, loss = np.asarray(-0.005 * row), 0.005, 0.0025 * float(row @ row)
        for other, label, weight in pairs:
            s, slope = score(row, other), slope_of(model, row, other, side)
            loss += weight * math.log1p(math.exp(-s if label else s))
            ascent += weight * (label - 1 / (1 + math.exp(-s))) * slope
            bend += 0.25 * weight * float(slope @ slope)
        losses.append(loss)
        row = row + ascent / bend
    assert losses[-1] < 0.9 * losses[0]
    found = model.fold_in([np.array([0, 2]), history], side=side)[1].numpy()
    assert_allclose(found, [score(row, other) for other in told], atol=1e-8)


def test_fold_in_never_takes_a_told_id_for_a_negative() -> None:
    everything = np.arange(8)
    pairs = neumf._Pairs.of([everything, np.array([2])], 8)
    of_first, of_second = (pairs.owner == 0), (pairs.owner == 1)
    assert pairs.weight[of_first & ~pairs.is_told].sum() == 0
    assert not pairs.weight[of_second & ~pairs.is_told & (pairs.other == 2)].any()
    for owned in (of_first, of_second):
        assert pairs.weight[owned & pairs.is_told].sum() == pytest.approx(1)
    assert pairs.weight[of_second & ~pairs.is_told].sum() == pytest.approx(1)


def test_a_fresh_entity_told_nothing_is_fitted_to_its_negatives_alone() -> None:
    model, nothing = made(), np.array([], np.int64)
    found = model.fold_in([nothing, np.array([1, 2])]).numpy()
    assert np.isfinite(found).all()
    assert found[0].mean() < model._all_scores(torch.zeros_like(model.user_table[:1]), model.item_table).mean()


def test_training_ranks_held_out_pairs_above_chance() -> None:
    case = TestNeuMF()
    untrained, trained = case.recipe.model(case.data, 3), case.trained
    chance, learned = (evaluate(m, case.data.test, case.data.train).mean()["recall@10"] for m in (untrained, trained))
    assert learned > chance + 0.1


def test_problems_of_a_configuration_come_together() -> None:
    with pytest.raises(ConfigurationError) as raised:
        NeuMF.Config(factors=0, layers=0, init_scale=0.0)
    assert len(raised.value.problems) == 3
