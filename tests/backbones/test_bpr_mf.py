from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from auditkit.backbones import bpr_mf
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
    negatives = np.random.default_rng(0).integers(len(table), size=(1, bpr_mf._FOLD_IN_NEGATIVES))[0]
    negatives = negatives[~np.isin(negatives, history)]

    def loss(vector: np.ndarray) -> float:
        margins = (table[history] @ vector)[:, None] - (table[negatives] @ vector)[None]
        return float(np.logaddexp(0, -margins).mean() + 0.5 * bpr_mf._FOLD_IN_L2 * vector @ vector)

    best = minimize(loss, np.zeros(table.shape[1]), method="BFGS")
    served = model.fold_in([history], side=side)[0].numpy()  # type: ignore[arg-type]
    vector = np.linalg.lstsq(table, served, rcond=None)[0]
    assert_allclose(table @ vector, served, atol=1e-9)
    assert best.fun <= loss(vector) < best.fun + 0.5 * (loss(np.zeros(table.shape[1])) - best.fun)


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
