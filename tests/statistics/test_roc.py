"""ROC statistics against scikit-learn, scipy, quadratic re-implementations and simulated truth."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics

from auditkit.errors import ConfigurationError, DataError, NotApplicableError
from auditkit.statistics.intervals import Interval
from auditkit.statistics.roc import Roc, auc, auc_clustered, auc_delong, roc_curve, tpr_at_fpr

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

scores = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=12).map(np.array)
extended = st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 1.0, np.inf]), min_size=1, max_size=12).map(np.array)


def random_case(seed: int) -> tuple[Floats, Floats]:
    """Two classes of other sizes; every other case is full of ties."""
    rng = np.random.default_rng(seed)
    m, n = rng.integers(1, 60, size=2)
    positive, negative = rng.normal(rng.normal(), 1, m), rng.normal(size=n)
    return (np.round(positive, 1), np.round(negative, 1)) if seed % 2 else (positive, negative)


def components(positive: Floats, negative: Floats) -> tuple[float, Floats, Floats]:
    """AUC and DeLong's components from all m x n comparisons."""
    table = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    return float(table.mean()), table.mean(axis=1), table.mean(axis=0)


def obuchowski(positive: Floats, negative: Floats, of_positive: Labels, of_negative: Labels) -> float:
    """Variance of the AUC, cluster by cluster, as published."""
    area, v10, v01 = components(positive, negative)
    names = sorted({*of_positive.tolist(), *of_negative.tolist()})
    a, b = [], []
    for name in names:
        mine, theirs = of_positive == name, of_negative == name
        a.append(v10[mine].sum() - mine.sum() * area)
        b.append(v01[theirs].sum() - theirs.sum() * area)
    i10, i01, i = len(set(of_positive.tolist())), len(set(of_negative.tolist())), len(names)
    m, n = len(positive), len(negative)
    s10 = i10 / ((i10 - 1) * m) * sum(x * x for x in a)
    s01 = i01 / ((i01 - 1) * n) * sum(y * y for y in b)
    s11 = i / (i - 1) * sum(x * y for x, y in zip(a, b, strict=True))
    return float(s10 / m + s01 / n + 2 * s11 / (m * n))


def ends(found: Interval) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def implied_error(found: Interval, degrees: float) -> float:
    """The standard error that a logit interval was made of."""
    assert found.value is not None
    low, high = ends(found)
    width = math.log(high / (1 - high)) - math.log(low / (1 - low))
    return width / 2 / float(stats.t.ppf(0.975, degrees)) * found.value * (1 - found.value)


def covers(found: Interval, truth: float) -> bool:
    low, high = ends(found)
    return low <= truth <= high


@pytest.mark.parametrize("seed", range(40))
def test_auc_equals_scikit_learn_and_mann_whitney(seed: int) -> None:
    positive, negative = random_case(seed)
    found = auc(positive, negative)
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    assert found == pytest.approx(metrics.roc_auc_score(labels, np.concatenate([positive, negative])), abs=1e-12)
    u = stats.mannwhitneyu(positive, negative, method="asymptotic").statistic
    assert found == pytest.approx(u / (len(positive) * len(negative)), abs=1e-12)
    assert found == pytest.approx(components(positive, negative)[0], abs=1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_roc_curve_equals_scikit_learn(seed: int) -> None:
    positive, negative = random_case(seed)
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    fpr, tpr, thresholds = metrics.roc_curve(labels, np.concatenate([positive, negative]), drop_intermediate=False)
    found = roc_curve(positive, negative)
    np.testing.assert_allclose(found.fpr, fpr, atol=1e-12)
    np.testing.assert_allclose(found.tpr, tpr, atol=1e-12)
    np.testing.assert_array_equal(found.thresholds, thresholds)


@given(extended, extended)
def test_roc_curve_from_corner_to_corner_and_its_area_is_the_auc(positive: Floats, negative: Floats) -> None:
    curve = roc_curve(positive, negative)
    assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(curve.fpr) >= 0).all()
    assert (np.diff(curve.tpr) >= 0).all()
    assert (np.diff(curve.fpr) + np.diff(curve.tpr) > 0).all()
    assert np.trapezoid(curve.tpr, curve.fpr) == pytest.approx(auc(positive, negative), abs=1e-12)
    for fpr, tpr, threshold in zip(curve.fpr[1:], curve.tpr[1:], curve.thresholds[1:], strict=True):
        assert fpr == (negative >= threshold).mean()
        assert tpr == (positive >= threshold).mean()


@pytest.mark.parametrize("grow", [np.arctan, lambda x: 3 * x + 1, lambda x: x**3, np.exp])
@given(positive=scores, negative=scores)
def test_only_order_counts(grow: Callable[[Floats], Floats], positive: Floats, negative: Floats) -> None:
    assert auc(grow(positive), grow(negative)) == auc(positive, negative)
    assert auc_delong(grow(positive), grow(negative)) == auc_delong(positive, negative)
    assert tpr_at_fpr(grow(positive), grow(negative), 0.5) == tpr_at_fpr(positive, negative, 0.5)
    np.testing.assert_array_equal(roc_curve(grow(positive), grow(negative)).tpr, roc_curve(positive, negative).tpr)


@given(scores, scores, st.integers(0, 2**32 - 1))
def test_neither_order_of_arrival_nor_direction_counts(positive: Floats, negative: Floats, seed: int) -> None:
    rng = np.random.default_rng(seed)
    area = auc(positive, negative)
    assert area is not None
    assert auc(rng.permutation(positive), rng.permutation(negative)) == area
    assert auc(negative, positive) == pytest.approx(1 - area, abs=1e-15)
    assert auc(-positive, -negative) == pytest.approx(1 - area, abs=1e-15)
    users, items = rng.integers(0, 4, len(positive)), rng.integers(0, 4, len(negative))
    found = auc_clustered(positive, negative, users, items)
    turn = rng.permutation(len(positive))
    again = auc_clustered(positive[turn], negative, users[turn], items)
    assert (found.value, found.method, found.note) == (again.value, again.method, again.note)
    if found.low is not None:
        assert ends(found) == pytest.approx(ends(again), abs=1e-9)


def test_auc_is_exact_where_halves_of_floats_would_round() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 50, 3001).astype(float), rng.integers(0, 50, 1999).astype(float)
    twice = sum(2 * int((negative < value).sum()) + int((negative == value).sum()) for value in positive)
    assert auc(positive, negative) == twice / (2 * 3001 * 1999)


def test_infinite_scores_are_ordered_and_nan_is_dropped_and_counted() -> None:
    positive, negative = np.array([np.inf, 1.0, np.nan]), np.array([-np.inf, 1.0, np.nan, np.nan])
    assert auc(positive, negative) == 0.875
    assert auc([3.0, 1.0], [-3.0, 1.0]) == 0.875
    for found in (
        auc_delong(positive, negative),
        auc_clustered(positive, negative, np.arange(3), np.arange(4) + 3),
        tpr_at_fpr(np.append(positive, 2.0), np.append(negative, [0.0, 0.1]), 0.9),
    ):
        assert "1 NaN dropped from positive" in found.note
        assert "2 NaN dropped from negative" in found.note
    assert roc_curve(positive, negative).thresholds.tolist() == [np.inf, np.inf, 1.0, -np.inf]


@pytest.mark.parametrize(
    ("positive", "negative", "reason"),
    [([], [1.0], "no positive"), ([1.0], [np.nan], "no negative"), ([], [], "no positive and no negative")],
)
def test_an_empty_class_has_no_value_and_a_reason(positive: list[float], negative: list[float], reason: str) -> None:
    assert auc(positive, negative) is None
    with pytest.raises(NotApplicableError, match=reason):
        roc_curve(positive, negative)
    for found in (
        auc_delong(positive, negative),
        auc_clustered(positive, negative, np.zeros(len(positive)), np.zeros(len(negative))),
        tpr_at_fpr(positive, negative, 0.1),
    ):
        assert (found.value, found.low, found.high) == (None, None, None)
        assert reason in found.note


@given(scores, scores, st.integers(2, 30))
def test_thin_keeps_points_of_the_curve_and_both_ends(positive: Floats, negative: Floats, most: int) -> None:
    curve = roc_curve(positive, negative)
    thin = curve.thin(most)
    assert len(thin) <= most
    points = {*zip(curve.fpr.tolist(), curve.tpr.tolist(), curve.thresholds.tolist(), strict=True)}
    assert {*zip(thin.fpr.tolist(), thin.tpr.tolist(), thin.thresholds.tolist(), strict=True)} <= points
    assert (thin.fpr[0], thin.tpr[0], thin.fpr[-1], thin.tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(thin.fpr) + np.diff(thin.tpr) > 0).all()


def test_thin_keeps_detail_at_low_false_positive_rates() -> None:
    rng = np.random.default_rng(3)
    curve = roc_curve(rng.normal(1, 1, 20_000), rng.normal(size=20_000))
    thin = curve.thin(200)
    assert 150 <= len(thin) <= 200
    assert np.trapezoid(thin.tpr, thin.fpr) == pytest.approx(np.trapezoid(curve.tpr, curve.fpr), abs=1e-3)
    for decade in (1e-4, 1e-3, 1e-2, 1e-1):
        assert ((thin.fpr >= decade) & (thin.fpr < 10 * decade)).sum() >= 15
    # The height of the vertical start, which a log axis cannot show, is one of the points kept.
    assert curve.tpr[curve.fpr == 0].max() in thin.tpr[thin.fpr == 0]
    assert curve.thin(len(curve)) is curve
    with pytest.raises(ConfigurationError, match="max_points"):
        curve.thin(1)


@given(scores, st.lists(st.integers(-4, 4).map(float), min_size=6, max_size=40), st.floats(0.5, 1))
def test_tpr_is_the_largest_whose_realised_fpr_is_not_above(
    positive: Floats, negative: list[float], fpr: float
) -> None:
    found = tpr_at_fpr(positive, negative, fpr)
    curve = roc_curve(positive, negative)
    assert found.value == curve.tpr[curve.fpr <= fpr].max()
    exact = stats.binomtest(round(float(found.value or 0) * len(positive)), len(positive))
    low, high = exact.proportion_ci(0.95, method="exact")
    assert found.low == pytest.approx(low, abs=1e-10)
    assert found.high == pytest.approx(high, abs=1e-10)


@pytest.mark.parametrize("n", [100, 300, 700, 1000])
def test_rates_that_do_not_round_down_are_reached(n: int) -> None:
    """0.29 * 100 is 28.999...: a plain floor would waste one admissible false positive."""
    negative = np.arange(n, dtype=float)
    for allowed in range(3, n + 1):
        found = tpr_at_fpr(negative + 0.5, negative, allowed / n)
        assert f"realised FPR {allowed}/{n}" in found.note
        assert found.value == min(allowed + 1, n) / n


def test_tpr_at_fpr_is_refused_where_negatives_are_too_few() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(1, 1, 50), rng.normal(size=299)
    refused = tpr_at_fpr(positive, negative, 0.01)
    assert (refused.value, refused.low) == (None, None)
    assert "3/299" in refused.note
    assert tpr_at_fpr(positive, rng.normal(size=300), 0.01).value is not None
    with pytest.raises(ConfigurationError, match="fpr"):
        tpr_at_fpr(positive, negative, 1.5)


@pytest.mark.parametrize("seed", range(20))
def test_delong_equals_the_quadratic_form(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive, negative = rng.normal(0.5, 1, rng.integers(5, 40)), rng.normal(size=rng.integers(5, 40))
    if seed % 2:
        positive, negative = np.round(positive, 1), np.round(negative, 1)
    found = auc_delong(positive, negative)
    area, v10, v01 = components(positive, negative)
    m, n = len(positive), len(negative)
    a, b = float(np.var(v10, ddof=1)) / m, float(np.var(v01, ddof=1)) / n
    degrees = (a + b) ** 2 / (a**2 / (m - 1) + b**2 / (n - 1))
    assert found.value == pytest.approx(area, abs=1e-12)
    assert implied_error(found, degrees) == pytest.approx(math.sqrt(a + b), rel=1e-9)
    own = auc_clustered(positive, negative, np.arange(m), np.arange(n) + m)
    assert ends(own) == pytest.approx(ends(found), abs=1e-10)


@pytest.mark.parametrize("seed", range(20))
def test_clustered_equals_the_published_formula(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, n = rng.integers(20, 60, size=2)
    of_positive, of_negative = rng.integers(0, 9, m), rng.integers(3, 12, n)
    effects = rng.normal(size=12)
    positive = np.round(effects[of_positive] + rng.normal(0.4, 1, m), 1)
    negative = np.round(effects[of_negative] + rng.normal(size=n), 1)
    found = auc_clustered(positive, negative, of_positive, of_negative)
    area, v10, v01 = components(positive, negative)
    assert found.value == pytest.approx(area, abs=1e-12)

    def own(values: Floats, labels: Labels) -> tuple[float, int]:
        names = np.unique(labels)
        squares = sum((values[labels == name] - area).sum() ** 2 for name in names)
        return float(len(names) / (len(names) - 1) * squares / len(values) ** 2), len(names)

    (a, i10), (b, i01) = own(v10, of_positive), own(v01, of_negative)
    clusters = len({*of_positive.tolist(), *of_negative.tolist()})
    degrees = min((a + b) ** 2 / (a**2 / (i10 - 1) + b**2 / (i01 - 1)), clusters - 1)
    expected = obuchowski(positive, negative, of_positive, of_negative)
    assert implied_error(found, degrees) == pytest.approx(math.sqrt(expected), rel=1e-9)
    names = np.array([f"user {k}" for k in range(12)])
    assert auc_clustered(positive, negative, names[of_positive], names[of_negative]).value == found.value


def test_repeating_every_unit_within_its_cluster_changes_no_clustered_interval() -> None:
    rng = np.random.default_rng(5)
    positive, negative = rng.normal(0.5, 1, 30), rng.normal(size=25)
    of_positive, of_negative = np.arange(30), np.arange(25) + 20
    once = auc_clustered(positive, negative, of_positive, of_negative)
    thrice = auc_clustered(positive.repeat(3), negative.repeat(3), of_positive.repeat(3), of_negative.repeat(3))
    assert ends(thrice) == pytest.approx(ends(once), abs=1e-9)
    iid = auc_delong(np.repeat(positive, 3), np.repeat(negative, 3))
    assert ends(iid)[0] > ends(once)[0] + 0.03


@pytest.mark.parametrize(("area", "positive"), [(1.0, [5.0] * 8), (0.0, [-5.0] * 8), (0.5, [0.0] * 8)])
def test_without_variance_bounds_come_from_disjoint_pairs(area: float, positive: list[float]) -> None:
    negative = [0.0] * 11
    found = auc_delong(positive, negative)
    assert found.value == area
    assert "8 disjoint pairs" in found.method
    assert "variance vanishes" in found.note
    low, high = stats.binomtest(round(area * 8), 8).proportion_ci(0.95, method="exact")
    assert ends(found) == pytest.approx((low, high), abs=1e-10)
    clustered = auc_clustered(positive, negative, np.arange(8) // 2, np.arange(11) // 3)
    assert clustered.value == area
    # Four clusters, each with both classes: two disjoint pairs of clusters.
    assert "2 disjoint pairs" in clustered.method


def largest_matching(positives: list[int], negatives: list[int]) -> int:
    """The most pairs, by trial, of a cluster with positives and one with negatives that share no cluster."""
    sizes = [
        size
        for size in range(1, 1 + len(positives))
        for chosen in itertools.combinations(positives, size)
        if len({*negatives} - {*chosen}) >= size
    ]
    return max(sizes)


def test_number_of_disjoint_pairs_is_that_of_a_largest_matching() -> None:
    """All ways in which five clusters hold positives (1), negatives (2) or both (3)."""
    for kinds in itertools.product([1, 2, 3], repeat=5):
        positives = [c for c, kind in enumerate(kinds) if kind & 1]
        negatives = [c for c, kind in enumerate(kinds) if kind & 2]
        found = auc_clustered(np.ones(len(positives)), np.zeros(len(negatives)), positives, negatives)
        if min(len(positives), len(negatives)) < 2:
            assert found.low is None
        else:
            assert f"over {largest_matching(positives, negatives)} disjoint pairs" in found.method


def test_too_few_units_or_clusters_have_a_value_but_no_ends() -> None:
    single = auc_delong([1.0], [0.0, 2.0, 0.5])
    assert single.value == pytest.approx(2 / 3)
    assert single.low is None
    assert "2 of each class" in single.note
    one = auc_clustered([1.0, 2.0], [0.0, 3.0], [7, 7], [7, 7])
    assert (one.value, one.low, one.high) == (0.5, None, None)
    assert "2 clusters of each class, got 1 and 1" in one.note
    with pytest.raises(DataError, match="positive_clusters"):
        auc_clustered([1.0, 2.0], [0.0], [1], [1])
    with pytest.raises(DataError, match="one-dimensional"):
        auc(np.ones((2, 2)), [0.0])


@pytest.mark.parametrize(("m", "n", "shift"), [(50, 60, 0.5), (12, 200, 1.0), (300, 300, 0.0)])
def test_delong_covers_the_true_auc(m: int, n: int, shift: float) -> None:
    rng = np.random.default_rng(11)
    truth = float(stats.norm.cdf(shift / math.sqrt(2)))
    hits = [covers(auc_delong(rng.normal(shift, 1, m), rng.normal(size=n)), truth) for _ in range(1500)]
    assert 0.935 <= np.mean(hits) <= 0.975


def separated_users(rng: np.random.Generator, users: int, pairs: int) -> tuple[Floats, Labels, NDArray[np.bool_]]:
    """Every user is all forgotten or all not, as in user requests."""
    labels = np.arange(users).repeat(pairs)
    return rng.normal(size=users).repeat(pairs) + rng.normal(size=users * pairs), labels, labels % 2 == 0


def mixed_users(rng: np.random.Generator, users: int, pairs: int) -> tuple[Floats, Labels, NDArray[np.bool_]]:
    """A user has some of both, in shares that differ widely."""
    values, labels, _ = separated_users(rng, users, pairs)
    return values, labels, rng.random(users * pairs) < rng.beta(0.5, 0.5, users).repeat(pairs)


@pytest.mark.parametrize("draw", [separated_users, mixed_users])
@pytest.mark.parametrize(("users", "runs", "worst"), [(200, 1000, 0.07), (8, 2000, 0.075)])
def test_under_the_null_clusters_hold_the_level_that_independence_breaks(
    draw: Callable[[np.random.Generator, int, int], tuple[Floats, Labels, NDArray[np.bool_]]],
    users: int,
    runs: int,
    worst: float,
) -> None:
    rng, rejected = np.random.default_rng(2), np.zeros(2)
    for _ in range(runs):
        values, labels, positive = draw(rng, users, 20)
        clustered = auc_clustered(values[positive], values[~positive], labels[positive], labels[~positive])
        rejected += [
            not covers(auc_delong(values[positive], values[~positive]), 0.5),
            not covers(clustered, 0.5),
        ]
    iid, clustered_rate = rejected / runs
    assert iid > 0.3
    assert 0.015 <= clustered_rate <= worst
    if users == 200:
        assert clustered_rate >= 0.035


def test_a_million_scores_take_moments() -> None:
    """A quadratic or per-score Python loop would take minutes; the limit is loose for slow machines."""
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(0.2, 1, 500_000), rng.normal(size=500_000)
    start = time.perf_counter()
    area, curve = auc(positive, negative), roc_curve(positive, negative)
    clustered = auc_clustered(positive, negative, np.arange(500_000) // 20, np.arange(500_000) // 20)
    assert time.perf_counter() - start < 10
    assert isinstance(curve, Roc)
    assert area == clustered.value == pytest.approx(stats.norm.cdf(0.2 / math.sqrt(2)), abs=3e-3)
