"""Gaps of a pool of really trained systems, and requests of the units with the largest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset, Interactions
from auditkit.deletion import DeletionRequest, Regime, candidates
from auditkit.errors import ConfigurationError
from auditkit.memorised import Pool, gaps
from auditkit.plan import seed_of
from auditkit.testing.examples import small_data
from auditkit.worst_case import choose

RECIPE = Recipe.of("bpr-mf", {"factors": 8}, {"epochs": 40})


def test_gaps_are_those_of_systems_trained_by_hand() -> None:
    data, size = small_data(), 4
    found = gaps(data, "interaction", Pool(RECIPE, size), seed=3)
    users, items, _ = candidates(data, "interaction")
    everything = DeletionRequest("interaction", users, items)
    reads, holds = [], []
    for k in range(size):
        order = np.random.default_rng(seed_of(3, "memorised half", k // 2)).permutation(len(users))
        lower = order < round(len(users) / 2)
        gone = lower if k % 2 == 0 else ~lower
        model = RECIPE.train(everything.erase(data, gone), seed_of(3, "memorised", k), device="cpu")
        scores = model.score(np.arange(data.n_users)).double().numpy()
        z = (scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)
        reads.append(z[users, items])
        holds.append(~gone)
    read, held = np.array(reads), np.array(holds)
    assert_array_equal(held.sum(0), np.full(len(users), size // 2))
    expected = [read[held[:, u], u].mean() - read[~held[:, u], u].mean() for u in range(len(users))]
    assert_allclose(found, expected, rtol=1e-5)


def test_users_and_items_are_read_as_their_audits_read_them() -> None:
    """By fold-in: a unit with fewer than 4 pairs has no half to be told and a half to be asked."""
    data = small_data()
    kept = (data.train.users > 2) | (np.arange(len(data.train)) % 40 == 0)
    few = replace(data, train=data.train.take(kept))
    counts = np.bincount(few.train.users)
    users, _, _ = candidates(few, "user")
    found = gaps(few, "user", Pool(RECIPE, 4))
    assert_array_equal(np.isnan(found), counts[users] < 4)
    assert np.isnan(found).any()
    chosen = choose(few, "user", "memorised", count=5, pool=Pool(RECIPE, 4)).users
    assert (counts[chosen] >= 4).all()


@pytest.mark.parametrize("regime", ["interaction", "user"])
def test_two_pools_agree_on_who_is_remembered(regime: Regime) -> None:
    """The gap is of the unit, not of the pool: without memory the two would be unrelated."""
    first, second = (gaps(small_data(), regime, Pool(RECIPE), seed=seed) for seed in (0, 1))
    assert len(first) == len(candidates(small_data(), regime)[0])
    assert np.isfinite(first).all()
    assert first.mean() > 0.1
    found = stats.spearmanr(first, second, alternative="greater")
    assert found.pvalue < 1e-3


def test_the_request_names_the_largest_gaps() -> None:
    data, pool = small_data(), Pool(RECIPE, 4)
    request = choose(data, "user", "memorised", count=6, seed=2, pool=pool)
    users, _, _ = candidates(data, "user")
    largest = users[np.argsort(gaps(data, "user", pool, seed=2))[-6:]]
    assert set(request.users.tolist()) == set(largest.tolist())
    assert request.selection == "memorised, 6 users, seed 2"
    assert request.digest == choose(data, "user", "memorised", count=6, seed=2, pool=pool).digest


def test_a_stored_pool_is_trained_once(tmp_path: Path) -> None:
    told: list[str] = []
    pool = Pool(RECIPE, 4, tmp_path / "store", progress=lambda text, done, total: told.append(text))
    first = gaps(small_data(), "item", pool)
    assert [text for text in told if text.startswith("building")] == ["building half-1 .. half-4"]
    told.clear()
    assert_array_equal(gaps(small_data(), "item", pool), first)
    assert not any(text.startswith("building") for text in told)
    assert_array_equal(gaps(small_data(), "item", Pool(RECIPE, 4)), first)


def test_features_go_with_the_items_of_a_modality_request() -> None:
    recipe = Recipe.of("vbpr", {"factors": 8}, {"epochs": 4, "learning_rate": 0.02, "batch": 256})
    found = gaps(small_data(), "modality", Pool(recipe, 4), modalities=("text",))
    assert np.isfinite(found).all()
    assert found.std() > 0


def test_a_unit_that_nothing_is_read_of_comes_last() -> None:
    """One item: every row of scores is constant, its z undefined."""
    users = np.arange(6)
    data = Dataset("one item", 6, 1, Interactions(users, np.zeros(6, np.int64)))
    recipe = Recipe.of("ease")
    assert np.isnan(gaps(data, "interaction", Pool(recipe, 4))).all()
    assert choose(data, "interaction", "memorised", count=2, pool=Pool(recipe, 4)).n_units == 2


@pytest.mark.parametrize("size", [0, 2, 5])
def test_pools_refuse_sizes(size: int) -> None:
    with pytest.raises(ConfigurationError, match=f"an even size of 4 or more, got {size}"):
        Pool(RECIPE, size)
