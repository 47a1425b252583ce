from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.backbones.ease import EASE
from auditkit.contracts import Fit, Recipe
from auditkit.data.dataset import Dataset, Interactions
from auditkit.errors import ConfigurationError, NotApplicableError, NotFactorizedError


def random_data(seed: int = 0, n_users: int = 30, n_items: int = 12) -> Dataset:
    mask = np.random.default_rng(seed).random((n_users, n_items)) < 0.3
    mask[3] = False
    return Dataset("random", n_users, n_items, Interactions.unique(*np.nonzero(mask))[0])


def fitted(data: Dataset, regularization: float = 5.0) -> EASE:
    recipe = Recipe("ease", {"regularization": regularization}, Fit(engine="closed-form"))
    return EASE.fit([(data, 0)], recipe, device="cpu")[0]


def without(data: Dataset, n: int, seed: int) -> Dataset:
    gone = np.random.default_rng(seed).choice(len(data.train), n, replace=False)
    return replace(data, train=data.train.take(np.setdiff1d(np.arange(len(data.train)), gone)))


def test_weights_solve_the_regression() -> None:
    """Column i of B minimises |X_i - X b|^2 + lambda |b|^2 with b_i = 0: solved here column by column."""
    data = random_data()
    held = data.train.matrix(30, 12).toarray().astype(np.float64)
    weights = fitted(data).item_weights.numpy()
    for item in range(12):
        others = np.delete(np.arange(12), item)
        x = held[:, others]
        expected = np.linalg.solve(x.T @ x + 5 * np.eye(11), x.T @ held[:, item])
        np.testing.assert_allclose(weights[others, item], expected, atol=1e-12)
    assert not np.diag(weights).any()


def test_scores_logits_and_fold_in_are_history_times_weights() -> None:
    data = random_data()
    model = fitted(data)
    expected = data.train.matrix(30, 12).toarray() @ model.item_weights.numpy()
    users = np.array([4, 3, 0, 4])
    scores = model.score(users)
    assert scores.dtype == torch.float64
    np.testing.assert_allclose(scores.numpy(), expected[users], atol=1e-12)
    pairs = torch.tensor([4, 3, 0]), torch.tensor([1, 2, 11])
    np.testing.assert_allclose(model.logits(*pairs).numpy(), expected[[4, 3, 0], [1, 2, 11]], atol=1e-12)
    histories = [data.train.items[data.train.users == u] for u in users]
    np.testing.assert_allclose(model.fold_in(histories).numpy(), expected[users], atol=1e-12)
    assert not model.score(np.array([3])).any(), "a user without a history scores 0"
    assert model.score(np.array([], np.int64)).shape == (0, 12)


def test_on_serves_other_histories_with_the_same_weights() -> None:
    data = random_data()
    model = fitted(data)
    fewer = without(data, 20, seed=1)
    moved = model.on(fewer)
    assert moved.item_weights is model.item_weights
    expected = fewer.train.matrix(30, 12).toarray() @ model.item_weights.numpy()
    np.testing.assert_allclose(moved.score(np.arange(30)).numpy(), expected, atol=1e-12)


def test_what_a_linear_model_cannot_answer() -> None:
    model = fitted(random_data())
    with pytest.raises(NotFactorizedError):
        model.embed()
    with pytest.raises(NotApplicableError, match="fold in an item"):
        model.fold_in([np.array([0])], side="item")
    with pytest.raises(NotApplicableError, match="no branch"):
        model.score(np.array([0]), branch="text")
    nothing = torch.tensor([0])
    with pytest.raises(NotApplicableError, match="no loss"):
        model.loss(nothing, nothing, nothing, l2=0.0)


def test_configuration_errors() -> None:
    with pytest.raises(ConfigurationError, match="regularization must be above 0"):
        EASE.Config(regularization=0.0)
    with pytest.raises(ConfigurationError, match="closed-form"):
        EASE.fit([(random_data(), 0)], Recipe("ease", {"regularization": 1.0}, Fit(engine="adam")), device="cpu")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 40), st.sampled_from([0.5, 20.0, 200.0]))
def test_downdate_equals_retraining(seed: int, n_removed: int, regularization: float) -> None:
    data = random_data(seed, n_items=25)
    retain = without(data, n_removed, seed)
    updated = fitted(data, regularization).downdate(retain)
    retrained = fitted(retain, regularization)
    np.testing.assert_allclose(updated.item_weights.numpy(), retrained.item_weights.numpy(), rtol=0, atol=1e-10)
    assert updated.data is retain
    np.testing.assert_allclose(updated.score(np.arange(30)).numpy(), retrained.score(np.arange(30)).numpy(), atol=1e-9)


def test_downdate_refuses_weights_of_other_data() -> None:
    data = random_data()
    strangers = fitted(data).on(random_data(seed=5))
    with pytest.raises(NotApplicableError, match="not fitted on the data"):
        strangers.downdate(without(data, 5, seed=0))


@pytest.mark.parametrize("n_removed", [50, 2000])
def test_downdate_on_ml_100k(data_root: Path, n_removed: int) -> None:
    table = pd.read_csv(data_root / "ml-100k" / "ml-100k.inter", sep="\t")
    train = Interactions(table["userID"].to_numpy(), table["itemID"].to_numpy())
    data = Dataset("ml-100k", 943, 1682, train)
    retain = without(data, n_removed, seed=0)
    gap = fitted(data, 200.0).downdate(retain).item_weights - fitted(retain, 200.0).item_weights
    assert float(gap.abs().max()) < 1e-8
