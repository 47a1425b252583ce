"""What peers print, against scipy, closed forms and loops; and what fresh Golds read on it."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import integrate, stats

from auditkit.errors import ConfigurationError, DataError
from auditkit.statistics.forget_quality import klom, klom_gaussian, ks_forget_quality, neurips_epsilon

Floats = NDArray[np.float64]

tied = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=20).map(np.array)


def tables(seed: int) -> tuple[Floats, Floats]:
    """Runs and Golds over 12 points; every other case full of ties."""
    rng = np.random.default_rng(seed)
    runs, golds = rng.integers(2, 15, size=2)
    mine, theirs = rng.normal(0.7, 1.3, (runs, 12)), rng.normal(size=(golds, 12))
    return (np.round(mine), np.round(theirs)) if seed % 2 else (mine, theirs)


@given(tied, tied)
def test_ks_is_scipys(unlearned: Floats, gold: Floats) -> None:
    found = ks_forget_quality(unlearned, gold)
    # Where rounding breaks its exact count, scipy warns and takes the asymptotic p.
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        expected = stats.ks_2samp(unlearned, gold)
    distances = [abs((unlearned <= x).mean() - (gold <= x).mean()) for x in np.append(unlearned, gold)]
    assert found.statistic == pytest.approx(max(distances), abs=1e-12)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-10)
    assert found.log10_p == pytest.approx(math.log10(expected.pvalue), abs=1e-9)
    assert found.method.endswith("asymptotic" if said else "exact")


def test_ks_keeps_a_logarithm_where_p_underflows() -> None:
    far = ks_forget_quality(np.arange(20_000) + 1e6, np.arange(15_000))
    assert (far.statistic, far.p) == (1.0, 0.0)
    assert far.method.endswith("asymptotic")
    assert far.log10_p == pytest.approx((math.log(2) - 2 * 20_000 * 15_000 / 35_000) / math.log(10))
    # Where p does not underflow yet, the leading term is what scipy has.
    near = ks_forget_quality(np.arange(11_000) + 2_000, np.arange(12_000))
    leading = (math.log(2) - 2 * (near.statistic or 0) ** 2 * 11_000 * 12_000 / 23_000) / math.log(10)
    assert near.log10_p == pytest.approx(leading, rel=0.02)


def test_ks_names_what_it_dropped_and_orders_infinite_scores() -> None:
    found = ks_forget_quality([math.nan, math.inf, 1.0, 2.0], [math.nan, math.nan, 0.0, -math.inf])
    assert found.note == "1 NaN dropped from unlearned; 2 NaN dropped from gold"
    assert found.statistic == 1.0
    assert found.p == ks_forget_quality([9.0, 1.0, 2.0], [0.0, -9.0]).p
    empty = ks_forget_quality([math.nan], [1.0])
    assert (empty.statistic, empty.p, empty.log10_p) == (None, None, None)
    assert "no scores" in empty.note
    assert ks_forget_quality(np.ones(5), np.ones(7)).p == 1.0


def test_a_large_ks_p_says_nothing_with_few_units_and_seeds_are_rejected_with_many() -> None:
    """The two ways in which the number misleads: it passes what remembers, and fails what forgot."""
    rng = np.random.default_rng(0)
    remembers = [ks_forget_quality(rng.normal(0.8, 1, 10), rng.normal(size=10)).p for _ in range(200)]
    assert np.mean(np.array(remembers, float) > 0.05) > 0.5
    seeds = [ks_forget_quality(rng.normal(0.05 * rng.normal(), 1, 9_000), rng.normal(size=9_000)).p for _ in range(40)]
    assert np.mean(np.array(seeds, float) < 0.05) > 0.3


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("bins", [2, 5, 20])
def test_klom_equals_numpy_histograms_and_scipys_entropy(seed: int, bins: int) -> None:
    mine, theirs = tables(seed)
    mine[0, 0], theirs[0, 1] = np.inf, -np.inf
    mine[:, 2] = theirs[:, 2] = 3.0
    found = klom(mine, theirs, clip=2.5, bins=bins)
    expected = []
    for x, y in zip(np.clip(mine, -2.5, 2.5).T, np.clip(theirs, -2.5, 2.5).T, strict=True):
        low, high = min(x.min(), y.min()), max(x.max(), y.max())
        edges = np.linspace(low, high if high > low else low + 1, bins + 1)
        p, q = np.histogram(x, edges)[0] / len(x), np.histogram(y, edges)[0] / len(y)
        expected.append(stats.entropy(p, np.where(p > 0, np.maximum(q, 1e-5), q)))
    np.testing.assert_allclose(found.per_point, expected, atol=1e-10)
    assert found.mean == pytest.approx(np.mean(expected), abs=1e-10)
    assert found.percentile_95 == pytest.approx(np.percentile(expected, 95), abs=1e-10)
    assert found.per_point[2] == 0


@pytest.mark.parametrize("seed", range(8))
def test_gaussian_klom_is_the_integral_of_the_normals(seed: int) -> None:
    mine, theirs = tables(2 * seed)
    found = klom_gaussian(mine, theirs)
    for k in range(3):
        p = stats.norm(mine[:, k].mean(), mine[:, k].std(ddof=1))
        q = stats.norm(theirs[:, k].mean(), theirs[:, k].std(ddof=1))
        reach = 12 * p.std()
        divergence = integrate.quad(
            lambda x, p=p, q=q: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), p.mean() - reach, p.mean() + reach, limit=200
        )[0]
        assert found.per_point[k] == pytest.approx(divergence, rel=1e-6)


def test_both_estimates_of_klom_find_a_known_divergence_with_many_systems() -> None:
    rng = np.random.default_rng(1)
    mine, theirs = rng.normal(1.0, 1, (20_000, 8)), rng.normal(size=(20_000, 8))
    assert klom_gaussian(mine, theirs).mean == pytest.approx(0.5, abs=0.02)
    assert klom(mine, theirs).mean == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("systems", "histogram", "normal"), [(4, 8.6, 1.8), (20, 3.0, 0.117), (100, 0.35, 0.0206)])
def test_fresh_golds_do_not_read_zero_on_klom(systems: int, histogram: float, normal: float) -> None:
    """The figures of the docstrings."""
    rng = np.random.default_rng(2)
    mine, theirs = rng.normal(size=(systems, 3000)), rng.normal(size=(systems, 3000))
    assert klom(mine, theirs).mean == pytest.approx(histogram, rel=0.1)
    assert klom_gaussian(mine, theirs).mean == pytest.approx(normal, rel=0.2)


def test_klom_without_runs_scatter_or_answers() -> None:
    rng = np.random.default_rng(3)
    mine, theirs = rng.normal(size=(3, 4)), rng.normal(size=(5, 4))
    mine[0, 0], mine[:, 1] = np.nan, 0.5
    found = klom_gaussian(mine, theirs)
    assert np.isnan(found.per_point[:2]).all()
    assert np.isfinite(found.per_point[2:]).all()
    assert found.note == "1 points with NaN left out; 1 points without scatter left out"
    assert klom(mine, theirs).note == "1 points with NaN left out"
    for estimate in (klom, klom_gaussian):
        single = estimate(mine[:1], theirs)
        assert (single.mean, single.percentile_95) == (None, None)
        assert "needs 2 runs and 2 Golds, got 1 and 5" in single.note
        nothing = estimate(np.full((2, 3), np.nan), theirs[:, :3])
        assert nothing.mean is None
        assert "no point has a value" in nothing.note
        with pytest.raises(DataError, match="same points"):
            estimate(mine, theirs[:, :2])
        with pytest.raises(ConfigurationError, match="clip"):
            estimate(mine, theirs, clip=0.0)
    with pytest.raises(ConfigurationError, match="bins"):
        klom(mine, theirs, bins=1)


def naive_epsilon(mine: Floats, theirs: Floats, delta: float) -> float:
    """Every threshold at a value and one below all, either side of it guessed to be unlearned."""
    best = 0.0
    for cut in [-np.inf, *mine, *theirs]:
        for above in (True, False):
            fpr = float(((theirs > cut) == above).mean())
            fnr = float(((mine > cut) != above).mean())
            if fpr == fnr == 0:
                return math.inf
            if fpr == 0 or fnr == 0:
                continue
            best = max([best, *(math.log(x) for x in ((1 - delta - fpr) / fnr, (1 - delta - fnr) / fpr) if x > 0)])
    return best


systems = st.tuples(st.integers(2, 6), st.integers(2, 6)).flatmap(
    lambda sizes: st.tuples(
        *(arrays(float, (k, 4), elements=st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0, np.inf])) for k in sizes)
    )
)


@given(systems, st.sampled_from([0.0, 0.01, 0.3]))
def test_competition_epsilon_equals_every_threshold_tried(sides: tuple[Floats, Floats], delta: float) -> None:
    mine, theirs = sides
    found = neurips_epsilon(mine, theirs, delta=delta)
    expected = np.array([naive_epsilon(x, y, delta) for x, y in zip(mine.T, theirs.T, strict=True)])
    np.testing.assert_allclose(found.epsilon, expected, atol=1e-10)
    bins = [sum(e >= 0.5 * k for k in range(13)) for e in expected]
    assert found.score == pytest.approx(np.mean([2 / 2**b for b in bins]), abs=1e-12)
    finite = expected[np.isfinite(expected)]
    assert found.resolution is not None
    assert (finite <= found.resolution + 1e-12).all()
    assert found.share_infinite == np.isinf(expected).mean()


def test_resolution_is_reached_and_nothing_lies_between_it_and_infinity() -> None:
    """One error of either kind among 10 runs and 20 Golds is the best that is not perfect."""
    mine, theirs = np.arange(10.0)[:, None] + 100, np.arange(20.0)[:, None]
    mine[0], theirs[0] = 0.5, 105.5
    found = neurips_epsilon(mine, theirs, delta=0.01)
    assert found.resolution == pytest.approx(math.log((0.99 - 0.1) * 20), abs=1e-12)
    assert found.epsilon[0] == pytest.approx(found.resolution, abs=1e-12)
    assert neurips_epsilon(mine[1:], theirs[1:]).epsilon[0] == math.inf
    assert neurips_epsilon(mine[1:], theirs[1:]).score == 2 / 2**13


@pytest.mark.parametrize(("count", "score"), [(20, 0.24), (100, 0.31), (500, 0.76)])
def test_fresh_golds_do_not_score_one_in_the_competition(count: int, score: float) -> None:
    """The figures of the docstring."""
    rng = np.random.default_rng(4)
    found = neurips_epsilon(rng.normal(size=(count, 1000)), rng.normal(size=(count, 1000)))
    assert found.score == pytest.approx(score, abs=0.03)


def test_competition_epsilon_without_systems_or_answers() -> None:
    rng = np.random.default_rng(5)
    mine, theirs = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    mine[1, 2] = np.nan
    gaps = neurips_epsilon(mine, theirs)
    assert np.isnan(gaps.epsilon[2])
    assert gaps.note == "1 points with NaN left out"
    assert gaps.score == neurips_epsilon(mine[:, :2], theirs[:, :2]).score
    few = neurips_epsilon(mine[:1], theirs)
    assert (few.score, few.resolution, few.share_infinite) == (None, None, None)
    assert "needs 2 runs" in few.note
    assert "no points" in neurips_epsilon(np.full((2, 1), np.nan), np.ones((2, 1))).note
    same = neurips_epsilon(np.ones((4, 2)), np.ones((5, 2)))
    assert (same.epsilon == 0).all()
    assert same.score == 1.0
    for options in ({"delta": 1.0}, {"bins": 0}, {"width": 0.0}):
        with pytest.raises(ConfigurationError, match="neurips_epsilon"):
            neurips_epsilon(mine, theirs, **options)
