"""Bootstraps against scipy, exact re-computation and simulated coverage."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from auditkit.errors import ConfigurationError, DataError
from auditkit.statistics.bootstrap import Bootstrap, bootstrap_clustered, bootstrap_clustered_systems, bootstrap_mean
from auditkit.statistics.intervals import Interval

Floats = NDArray[np.float64]


def ends(found: Interval) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(ConfigurationError, match="confidence"):
        bootstrap_mean([1.0, 2.0], [0, 1], confidence=confidence)


@pytest.mark.parametrize("kind", ["bca", "percentile"])
@pytest.mark.parametrize("seed", range(4))
def test_bootstrap_of_single_units_equals_scipy_on_the_same_draws(kind: Bootstrap, seed: int) -> None:
    values = np.random.default_rng(seed).exponential(size=25)
    expected = stats.bootstrap(
        (values,),
        np.median if seed % 2 else np.mean,
        n_resamples=400,
        method="BCa" if kind == "bca" else "percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    statistic = np.median if seed % 2 else np.mean
    found = bootstrap_clustered(
        np.arange(25), lambda rows: float(statistic(values[rows])), n_resamples=400, kind=kind, rng=seed
    )
    assert ends(found) == pytest.approx((expected.low, expected.high), abs=1e-10)
    if not seed % 2:
        mean = bootstrap_mean(values, np.arange(25), n_resamples=400, kind=kind, rng=seed)
        assert ends(mean) == pytest.approx(ends(found), abs=1e-10)


@pytest.mark.parametrize("kind", ["bca", "percentile"])
def test_mean_from_cluster_sums_equals_the_general_bootstrap(kind: Bootstrap) -> None:
    rng = np.random.default_rng(1)
    clusters = rng.permutation(np.repeat(np.arange(12) * 7, rng.integers(1, 9, 12)))
    values = rng.normal(size=len(clusters)) + clusters / 20
    general = bootstrap_clustered(clusters, lambda rows: float(values[rows].mean()), n_resamples=300, kind=kind, rng=3)
    fast = bootstrap_mean(values, clusters, n_resamples=300, kind=kind, rng=3)
    assert fast.value == pytest.approx(general.value, abs=1e-12)
    assert ends(fast) == pytest.approx(ends(general), abs=1e-10)
    assert fast == bootstrap_mean(values, clusters, n_resamples=300, kind=kind, rng=3)
    assert ends(fast) != ends(bootstrap_mean(values, clusters, n_resamples=300, kind=kind, rng=4))
    assert "12 clusters" in fast.method


def test_resamples_hold_whole_clusters() -> None:
    clusters = np.array([4, 2, 4, 9, 2, 4])
    sizes = {2: 2, 4: 3, 9: 1}
    seen: list[int] = []

    def statistic(rows: NDArray[np.int64]) -> float:
        for label, size in sizes.items():
            members = np.flatnonzero(clusters == label)
            times = [int((rows == member).sum()) for member in members]
            assert len(members) == size
            assert len(set(times)) == 1
        seen.append(len(rows))
        return float(len(rows))

    found = bootstrap_clustered(clusters, statistic, n_resamples=200)
    assert found.value == 6
    assert {3, 9} <= {*seen}


def test_clusters_cover_what_independent_units_miss() -> None:
    rng, hits, runs = np.random.default_rng(0), np.zeros(2), 300
    for run in range(runs):
        clusters = np.arange(40).repeat(10)
        values = rng.normal(size=40).repeat(10) + rng.normal(size=400)
        for way, labels in enumerate((clusters, np.arange(400))):
            low, high = ends(bootstrap_mean(values, labels, n_resamples=400, rng=run))
            hits[way] += low <= 0 <= high
    clustered, iid = hits / runs
    assert 0.90 <= clustered <= 0.98
    assert iid < 0.65


def test_bca_corrects_the_percentile_interval_of_a_skewed_mean() -> None:
    rng, misses = np.random.default_rng(4), {"bca": 0, "percentile": 0}
    for run in range(400):
        values = rng.lognormal(0, 1, 30)
        for kind in get_args(Bootstrap):
            low, high = ends(bootstrap_mean(values, np.arange(30), n_resamples=400, kind=kind, rng=run))
            misses[kind] += not low <= math.exp(0.5) <= high
    assert misses["bca"] < misses["percentile"]


def test_bootstrap_says_why_it_has_no_interval() -> None:
    one = bootstrap_mean([1.0, 2.0], [5, 5])
    assert (one.value, one.low, one.high) == (1.5, None, None)
    assert "one cluster" in one.note
    assert bootstrap_clustered([5, 5], lambda rows: 1.0).low is None
    assert bootstrap_mean([math.nan], [0]).value is None
    dropped = bootstrap_mean([math.nan, 1.0, 2.0, 3.0], [0, 1, 2, 3])
    assert "1 NaN dropped from values" in dropped.note
    assert "3 clusters" in dropped.method
    undefined = bootstrap_clustered([0, 1, 2], lambda rows: math.nan)
    assert (undefined.value, undefined.low) == (None, None)
    for kind in get_args(Bootstrap):
        often = bootstrap_clustered([0, 1, 2], lambda rows: 1.0 if 0 in rows else math.nan, kind=kind)
        assert (often.value, often.low) == (1.0, None)
        assert "resamples" in often.note


def test_bootstrap_counts_the_few_resamples_without_a_value() -> None:
    values = np.random.default_rng(0).normal(size=60)

    def rarely_undefined(rows: NDArray[np.int64]) -> float:
        return float(values[rows].mean()) if len(np.unique(rows)) > 33 else math.nan

    found = bootstrap_clustered(np.arange(60), rarely_undefined, n_resamples=500, rng=2)
    low, high = ends(found)
    assert low < values.mean() < high
    assert "no finite value on" in found.note


def test_bootstrap_without_spread_and_beyond_its_resamples() -> None:
    assert ends(bootstrap_mean([2.0] * 5, np.arange(5))) == (2.0, 2.0)
    rows_seen: list[int] = []

    def first_call_differs(rows: NDArray[np.int64]) -> float:
        rows_seen.append(len(rows))
        return 5.0 if np.array_equal(rows, np.arange(30)) else float(rows.mean() / 30)

    found = bootstrap_clustered(np.arange(30), first_call_differs)
    assert found.value == 5
    assert "percentile interval instead of BCa" in found.note
    assert ends(found)[1] < 1
    outlier = bootstrap_mean([100.0] + [0.0] * 29, np.arange(30), confidence=1 - 1e-12)
    assert "acceleration too large" in outlier.note


@pytest.mark.parametrize(("options", "message"), [({"kind": "basic"}, "kind"), ({"n_resamples": 10}, "n_resamples")])
def test_bootstrap_options_outside_their_domain(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        bootstrap_mean([1.0, 2.0], [0, 1], **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=message):
        bootstrap_clustered([0, 1], lambda rows: 1.0, **options)  # type: ignore[arg-type]


def test_bootstrap_data_outside_its_domain() -> None:
    with pytest.raises(DataError, match="label per value"):
        bootstrap_mean([1.0, 2.0], [0])
    with pytest.raises(DataError, match="finite"):
        bootstrap_mean([1.0, math.inf], [0, 1])
    with pytest.raises(DataError, match="at least one"):
        bootstrap_clustered([], lambda rows: 0.0)


def crossed(rng: np.random.Generator, systems: int, users: int, scatter: tuple[float, float, float]) -> Floats:
    """A table of systems and users with 3 units each: both factors and each cell's own noise, true mean 0."""
    of_system, of_user, own = scatter
    table = rng.normal(0, of_system, (systems, 1)) + rng.normal(0, of_user, users).repeat(3)
    return np.asarray(table + rng.normal(0, own, table.shape))


@pytest.mark.parametrize("kind", ["bca", "percentile"])
@pytest.mark.parametrize("seed", range(4))
def test_systems_and_clusters_equal_a_naive_resampling(kind: Bootstrap, seed: int) -> None:
    """The same draws, every value copied out; influences from leaving out each system and each cluster in turn."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(7) * 3, rng.integers(1, 5, 7)))
    # Eighths add up without rounding, so that resamples that tie with the value tie in both computations.
    values = np.round(8 * rng.normal(size=(5, len(labels))) + 3 * np.arange(5)[:, None]) / 8
    values[rng.random(values.shape) < 0.1] = np.nan
    names, stream, draws = np.unique(labels), np.random.default_rng(seed), []
    for _ in range(300):
        systems, drawn = stream.integers(5, size=5), stream.integers(7, size=7)
        units = np.concatenate([np.flatnonzero(labels == names[c]) for c in drawn])
        draws.append(np.nanmean(values[np.ix_(systems, units)]))
    value, tails = np.nanmean(values), np.array([0.025, 0.975])
    if kind == "bca":
        without_system = np.array([np.nanmean(np.delete(values, k, axis=0)) for k in range(5)])
        without_cluster = np.array([np.nanmean(values[:, labels != name]) for name in names])
        moves = np.concatenate([(len(x) - 1) / len(x) * (x.mean() - x) for x in (without_system, without_cluster)])
        acceleration = (moves**3).sum() / (6 * (moves**2).sum() ** 1.5)
        bias = stats.norm.ppf((np.mean(draws < value) + np.mean(draws <= value)) / 2)
        z = bias + stats.norm.ppf(tails)
        tails = stats.norm.cdf(bias + z / (1 - acceleration * z))
    found = bootstrap_clustered_systems(values, labels, n_resamples=300, kind=kind, rng=seed)
    assert found.value == pytest.approx(value, abs=1e-12)
    assert ends(found) == pytest.approx(np.quantile(draws, tails), abs=1e-10)
    assert "5 systems and 7 clusters" in found.method
    assert f"{np.isnan(values).sum()} NaN dropped" in found.note


def test_acceleration_over_two_factors_is_that_of_scipy_for_two_samples() -> None:
    """Where units do not differ within a system and systems not within a cluster, the mean is a sum of two."""
    rng = np.random.default_rng(0)
    of_system, of_user = rng.exponential(size=9), rng.exponential(size=14)
    expected = stats.bootstrap(
        (of_system, of_user),
        lambda a, b, axis=-1: a.mean(axis) + b.mean(axis),
        n_resamples=20_000,
        method="BCa",
        rng=np.random.default_rng(1),
    ).confidence_interval
    table = of_system[:, None] + of_user
    found = bootstrap_clustered_systems(table, np.arange(14), n_resamples=20_000, rng=2)
    assert ends(found) == pytest.approx((expected.low, expected.high), abs=0.05)
    plain = bootstrap_clustered_systems(table, np.arange(14), n_resamples=20_000, rng=2, kind="percentile")
    assert ends(plain)[1] < expected.high - 0.1


@pytest.mark.parametrize(
    ("systems", "scatter", "least", "most"),
    [(20, (1.0, 3.0, 1.0), 0.92, 0.98), (20, (1.0, 0.3, 1.0), 0.87, 0.95), (4, (1.0, 0.3, 1.0), 0.78, 0.88)],
)
def test_systems_and_clusters_cover_as_documented(
    systems: int, scatter: tuple[float, float, float], least: float, most: float
) -> None:
    rng, hits, alone, runs = np.random.default_rng(6), 0, 0, 300
    users = np.arange(40).repeat(3)
    for run in range(runs):
        table = crossed(rng, systems, 40, scatter)
        low, high = ends(bootstrap_clustered_systems(table, users, n_resamples=200, rng=run))
        hits += low <= 0 <= high
        low, high = ends(bootstrap_mean(table.mean(0), users, n_resamples=100, rng=run))
        alone += low <= 0 <= high
    assert least <= hits / runs <= most
    # Clusters alone speak of these systems only: drawing them as well must widen what is claimed of others.
    assert alone < hits


def test_systems_and_clusters_say_why_there_is_no_interval() -> None:
    for values, labels in (([[1.0, 2.0]], [0, 1]), ([[1.0], [2.0]], [0])):
        found = bootstrap_clustered_systems(values, labels)
        assert (found.value, found.low) == (1.5, None)
        assert "no spread" in found.note
    nothing = bootstrap_clustered_systems([[math.nan] * 2] * 2, [0, 1])
    assert nothing.value is None
    assert "4 NaN dropped" in nothing.note
    assert ends(bootstrap_clustered_systems(np.ones((3, 4)), np.arange(4))) == (1.0, 1.0)
    gaps = np.array([[1.0, math.nan], [math.nan, 2.0]])
    assert "no finite value on" in bootstrap_clustered_systems(gaps, [0, 1]).note
    with pytest.raises(DataError, match="n_systems"):
        bootstrap_clustered_systems([1.0, 2.0], [0, 1])
    with pytest.raises(DataError, match="finite"):
        bootstrap_clustered_systems([[math.inf, 1.0], [1.0, 1.0]], [0, 1])
