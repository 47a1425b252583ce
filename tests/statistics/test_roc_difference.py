"""Paired differences of AUCs against DeLong's covariance matrix, clusters summed by hand, and simulated truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from auditkit.errors import ConfigurationError, DataError
from auditkit.statistics.intervals import Interval
from auditkit.statistics.roc import auc, auc_difference

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def ends(found: Interval) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def components(positive: Floats, negative: Floats) -> tuple[float, Floats, Floats]:
    """AUC and DeLong's components from all m x n comparisons."""
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    return float(wins.mean()), wins.mean(axis=1), wins.mean(axis=0)


def case(seed: int, m: int, n: int, shift: float = 0.5) -> tuple[Floats, Floats, Floats, Floats]:
    """Two correlated scores of the same units; every other case is full of ties."""
    rng = np.random.default_rng(seed)
    common, own = rng.normal(size=m + n), rng.normal(size=(2, m + n))
    member = np.arange(m + n) < m
    a, b = common + own[0] + shift * member, common + 0.8 * own[1] + 0.3 * member
    a, b = (np.round(a, 1), np.round(b, 1)) if seed % 2 else (a, b)
    return a[:m], a[m:], b[:m], b[m:]


@pytest.mark.parametrize("seed", range(20))
def test_difference_has_the_variance_of_delongs_covariance_matrix(seed: int) -> None:
    m, n = np.random.default_rng(100 + seed).integers(6, 50, size=2)
    positive_a, negative_a, positive_b, negative_b = case(seed, m, n)
    found = auc_difference(positive_a, negative_a, positive_b, negative_b)
    (area_a, a10, a01), (area_b, b10, b01) = components(positive_a, negative_a), components(positive_b, negative_b)
    contrast = np.array([1.0, -1.0])
    s10 = float(contrast @ np.cov(a10, b10) @ contrast) / m
    s01 = float(contrast @ np.cov(a01, b01) @ contrast) / n
    degrees = (s10 + s01) ** 2 / (s10**2 / (m - 1) + s01**2 / (n - 1))
    half = float(stats.t.ppf(0.975, min(degrees, m + n - 1))) * math.sqrt(s10 + s01)
    assert found.value == pytest.approx(area_a - area_b, abs=1e-12)
    assert ends(found) == pytest.approx((max(area_a - area_b - half, -1), min(area_a - area_b + half, 1)), abs=1e-10)
    turned = auc_difference(positive_b, negative_b, positive_a, negative_a)
    assert ends(turned) == pytest.approx((-ends(found)[1], -ends(found)[0]), abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_clustered_difference_equals_sums_cluster_by_cluster(seed: int) -> None:
    rng, m, n = np.random.default_rng(seed), 50, 40
    positive_a, negative_a, positive_b, negative_b = case(seed, m, n)
    of_positive, of_negative = rng.integers(0, 9, m), rng.integers(4, 14, n)
    found = auc_difference(
        positive_a, negative_a, positive_b, negative_b, positive_clusters=of_positive, negative_clusters=of_negative
    )
    (area_a, a10, a01), (area_b, b10, b01) = components(positive_a, negative_a), components(positive_b, negative_b)
    value, names = area_a - area_b, sorted({*of_positive.tolist(), *of_negative.tolist()})
    tens = np.array([(a10 - b10 - value)[of_positive == name].sum() / m for name in names])
    ones = np.array([(a01 - b01 - value)[of_negative == name].sum() / n for name in names])
    i10, i01, i = len(set(of_positive.tolist())), len(set(of_negative.tolist())), len(names)
    s10, s01 = i10 / (i10 - 1) * (tens**2).sum(), i01 / (i01 - 1) * (ones**2).sum()
    variance = s10 + s01 + 2 * i / (i - 1) * (tens * ones).sum()
    degrees = min((s10 + s01) ** 2 / (s10**2 / (i10 - 1) + s01**2 / (i01 - 1)), i - 1)
    half = float(stats.t.ppf(0.975, degrees)) * math.sqrt(variance)
    assert ends(found) == pytest.approx((value - half, value + half), abs=1e-10)
    assert "clustered" in found.method


def test_only_the_order_of_each_score_and_the_pairing_count() -> None:
    positive_a, negative_a, positive_b, negative_b = case(2, 40, 30)
    found = auc_difference(positive_a, negative_a, positive_b, negative_b)
    again = auc_difference(np.exp(positive_a), np.exp(negative_a), 5 * positive_b, 5 * negative_b)
    assert ends(again) == pytest.approx(ends(found), abs=1e-12)
    turn = np.random.default_rng(0).permutation(40)
    together = auc_difference(positive_a[turn], negative_a, positive_b[turn], negative_b)
    assert ends(together) == pytest.approx(ends(found), abs=1e-12)
    # Taken apart, what both scores share no longer cancels.
    apart = auc_difference(positive_a[turn], negative_a, positive_b, negative_b)
    assert apart.value == found.value
    assert ends(apart)[0] < ends(found)[0]


def test_paired_difference_covers_the_true_one_and_clusters_where_units_do_not() -> None:
    rng, runs, hits = np.random.default_rng(3), 1200, np.zeros(3)
    truth = float(stats.norm.cdf(0.5 / 2) - stats.norm.cdf(0.3 / math.sqrt(1.64 * 2)))
    for run in range(runs):
        low, high = ends(auc_difference(*case(2 * run, 60, 50)))
        hits[0] += low <= truth <= high
        if run >= 400:
            continue
        users = np.arange(120) // 6
        # Within a user the advantage of either score is shared: 20 users, not 120 units.
        a = rng.normal(size=20)[users] + 0.3 * rng.normal(size=120)
        b = rng.normal(size=20)[users] + 0.3 * rng.normal(size=120)
        member = users % 2 == 0
        sides = a[member], a[~member], b[member], b[~member]
        clusters = {"positive_clusters": users[member], "negative_clusters": users[~member]}
        for k, found in ((1, auc_difference(*sides)), (2, auc_difference(*sides, **clusters))):
            low, high = ends(found)
            hits[k] += low <= 0 <= high
    assert 0.93 <= hits[0] / runs <= 0.97
    assert hits[1] / 400 < 0.75
    assert 0.91 <= hits[2] / 400 <= 0.985


def test_differences_that_have_no_interval_say_why() -> None:
    positive, negative = np.array([3.0, 1.0, 2.0]), np.array([0.0, 1.5, 0.5])
    alike = auc_difference(positive, negative, 2 * positive, 2 * negative)
    assert (alike.value, alike.low) == (0.0, None)
    assert "variance vanishes" in alike.note
    single = auc_difference([1.0], [0.0, 2.0], [3.0], [0.0, 2.0])
    assert (single.value, single.low) == (-0.5, None)
    assert "2 clusters of each class" in single.note
    empty = auc_difference([], [0.0], [], [0.0])
    assert empty.value is None
    assert "no positive" in empty.note
    gaps = auc_difference([math.nan, 1.0, 2.0, 0.3], [0.0, 1.5], [1.0, math.nan, 2.0, 1.0], [0.0, 3.0])
    assert "2 with a NaN dropped from positive" in gaps.note
    assert gaps.value == (auc([2.0, 0.3], [0.0, 1.5]) or 0) - (auc([2.0, 1.0], [0.0, 3.0]) or 0)
    infinite = auc_difference([math.inf, 1.0, 2.0], [0.0, 1.5], [1.0, 1.0, 2.0], [-math.inf, 1.5])
    finite = auc_difference([9.0, 1.0, 2.0], [0.0, 1.5], [1.0, 1.0, 2.0], [-9.0, 1.5])
    assert infinite == finite


def test_differences_outside_their_domain() -> None:
    with pytest.raises(DataError, match="same units"):
        auc_difference([1.0, 2.0], [0.0], [1.0], [0.0])
    with pytest.raises(DataError, match="negative_clusters"):
        auc_difference([1.0], [0.0], [1.0], [0.0], positive_clusters=[1], negative_clusters=[1, 2])
    with pytest.raises(ConfigurationError, match="both or neither"):
        auc_difference([1.0], [0.0], [1.0], [0.0], positive_clusters=[1])
