from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from auditkit.backbones import bpr_fold_in
from auditkit.backbones.bpr_mf import BPRMF
from auditkit.contracts import Recipe
from auditkit.errors import ConfigurationError
from auditkit.testing import BackboneTests
from auditkit.utility import evaluate


class TestCompiled(BackboneTests):
    backbone = BPRMF
    config = {"factors": 8}  # noqa: RUF012
    fit = {"engine": "sgd", "epochs": 20}  # noqa: RUF012


class TestAdam(BackboneTests):
    backbone = BPRMF
    config = {"factors": 8}  # noqa: RUF012
    fit = {"engine": "adam", "epochs": 15, "learning_rate": 0.02, "batch": 256}  # noqa: RUF012


@pytest.mark.parametrize("case", [TestCompiled(), TestAdam()], ids=["sgd", "adam"])
def test_training_ranks_held_out_pairs_above_chance(case: BackboneTests) -> None:
    data = case.data
    untrained, trained = case.recipe.model(data, 3), case.fitted((data, 3))[0]
    chance, learned = (evaluate(m, data.test, data.train).mean()["recall@10"] for m in (untrained, trained))
    assert learned > chance + 0.1


@pytest.mark.parametrize("side", ["user", "item"])
def test_fold_in_descends_towards_the_minimum_of_its_loss(side: str) -> None:
    """L2-regularised BPR of one fresh vector against fixed negatives: convex, so scipy knows the minimum."""
    case = TestCompiled()
    model = case.fitted((case.data, 3))[0]
    table = model.get_parameter("item_table" if side == "user" else "user_table").detach().double().numpy()
    history = np.array([1, 4, 9, 16])
    negatives = np.random.default_rng(0).integers(len(table), size=(1, bpr_fold_in.NEGATIVES))[0]
    negatives = negatives[~np.isin(negatives, history)]

    def loss(vector: np.ndarray) -> float:
        margins = (table[history] @ vector)[:, None] - (table[negatives] @ vector)[None]
        return float(np.logaddexp(0, -margins).mean() + 0.5 * bpr_fold_in.L2 * vector @ vector)

    best = minimize(loss, np.zeros(table.shape[1]), method="BFGS")
    served = model.fold_in([history], side=side)[0].numpy()  # type: ignore[arg-type]
    vector = np.linalg.lstsq(table, served, rcond=None)[0]
    assert_allclose(table @ vector, served, atol=1e-9)
    assert best.fun <= loss(vector) < best.fun + 0.5 * (loss(np.zeros(table.shape[1])) - best.fun)


def test_fold_in_steps_as_written_out_one_by_one() -> None:
    """Against gradient descent by autograd with the same step, histories of several lengths at once."""
    rng = np.random.default_rng(5)
    table = rng.standard_normal((40, 6)) * 3
    histories = [np.array([3]), np.arange(0, 40, 2), rng.permutation(40)[:11], np.empty(0, np.int64)]
    found = bpr_fold_in.fresh_vectors(table, histories)
    chosen = np.random.default_rng(0).integers(40, size=(4, bpr_fold_in.NEGATIVES))
    for vector, told, drawn in zip(found[:3], histories, chosen, strict=False):
        positives, negatives = (torch.from_numpy(table[ids]) for ids in (told, drawn[~np.isin(drawn, told)]))
        apart = positives[:, None] - negatives
        step = 1 / (0.25 * apart.square().sum(-1).mean() + bpr_fold_in.L2)
        x = torch.zeros(6, dtype=torch.float64, requires_grad=True)
        for _ in range(bpr_fold_in.STEPS):
            loss = torch.nn.functional.softplus(-(apart @ x)).mean() + bpr_fold_in.L2 / 2 * x.square().sum()
            (slope,) = torch.autograd.grad(loss, x)
            x = (x - step * slope).detach().requires_grad_()
        assert_allclose(vector, x.detach().numpy(), rtol=1e-9, atol=1e-12)
    assert not found[3].any()


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_fold_in_stays_finite_with_absurd_vectors(scale: float) -> None:
    """Also where everything that could be a negative was told."""
    table = np.random.default_rng(0).standard_normal((30, 4)) * scale
    found = bpr_fold_in.fresh_vectors(table, [np.arange(5), np.arange(30)])
    assert np.isfinite(found).all()
    assert not found[1].any()


def test_loss_is_the_mean_of_the_triples() -> None:
    case = TestAdam()
    model = case.recipe.model(case.data, 1)
    users, items, others = (torch.tensor(ids) for ids in ([0, 1], [2, 3], [4, 5]))
    p, q, r = model.get_parameter("user_table")[users], *(model.get_parameter("item_table")[i] for i in (items, others))
    margin, squares = (p * (q - r)).sum(1), (p**2).sum(1) + (q**2).sum(1) + (r**2).sum(1)
    by_hand = (torch.log1p(torch.exp(-margin)) + 0.5 * 0.3 * squares).detach()
    assert float(model.loss(users, items, others, l2=0.3).detach()) == pytest.approx(float(by_hand.mean()), rel=1e-5)
    weights = torch.tensor([2.0, 0.5])
    weighted = float(model.loss(users, items, others, l2=0.3, weights=weights).detach())
    assert weighted == pytest.approx(float((by_hand * weights).sum()), rel=1e-5)


@pytest.mark.parametrize("options", [{"factors": 0}, {"init_scale": 0.0}])
def test_domains(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="factors must be 1 or more"):
        Recipe.of("bpr-mf", options)
