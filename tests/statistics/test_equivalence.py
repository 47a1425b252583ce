"""Two one-sided tests against statsmodels, their power against simulation and Owen's Q."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import integrate, special, stats
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW, ttost_ind, ttost_paired

from auditkit.data.dataset import Floats
from auditkit.errors import ConfigurationError, DataError
from auditkit.statistics.equivalence import (
    Equivalence,
    equivalence_independent,
    equivalence_mean,
    equivalence_paired,
    equivalence_power,
    runs_needed,
)

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(2, 30)


def _sample(seed: int, n: int, scale: float = 1.0) -> Floats:
    """One decimal, so that ties occur; never constant."""
    values = np.round(scale * np.random.default_rng(seed).standard_normal(n), 1)
    values[0] += 0.05
    return values


def _numbers(*values: float | None) -> Floats:
    assert None not in values
    return np.array(values, np.float64)


def _same(found: Equivalence, oracle: tuple[float, Any, Any]) -> None:
    p, lower, upper = oracle
    assert_allclose(_numbers(found.p, found.p_lower, found.p_upper), [p, lower[1], upper[1]], rtol=1e-10)
    assert_allclose(_numbers(found.degrees), lower[2], rtol=1e-10)


@given(seeds, sizes, st.floats(-1, 0.2), st.floats(0.3, 1.5))
def test_one_mean_equals_statsmodels(seed: int, n: int, low: float, high: float) -> None:
    values = _sample(seed, n)
    found, described = equivalence_mean(values, low, high), DescrStatsW(values)
    p, lower, upper = described.ttost_mean(low, high)
    _same(found, (p, lower, upper))
    assert_allclose(_numbers(found.low, found.high), described.tconfint_mean(alpha=0.1), rtol=1e-10)


@given(seeds, sizes, st.floats(0.1, 2))
def test_pairs_equal_statsmodels(seed: int, n: int, margin: float) -> None:
    first, second = _sample(seed, n), _sample(seed + 1, n)
    second[1] -= 0.03  # differences never tie completely
    _same(equivalence_paired(first, second, -margin, margin), ttost_paired(first, second, -margin, margin))


@given(seeds, sizes, sizes, st.floats(0.1, 2), st.booleans(), st.floats(0.01, 0.3))
def test_independent_samples_equal_statsmodels(
    seed: int, n: int, m: int, margin: float, equal_variances: bool, alpha: float
) -> None:
    first, second = _sample(seed, n), _sample(seed + 1, m, 3.0)
    kind = "pooled" if equal_variances else "unequal"
    found = equivalence_independent(first, second, -margin, margin, equal_variances=equal_variances, alpha=alpha)
    _same(found, ttost_ind(first, second, -margin, margin, usevar=kind))
    compared = CompareMeans(DescrStatsW(first), DescrStatsW(second))
    assert_allclose(
        _numbers(found.low, found.high), compared.tconfint_diff(2 * alpha, usevar=kind), rtol=1e-9, atol=1e-12
    )
    assert found.confidence == 1 - 2 * alpha


@given(seeds, sizes, st.floats(0.05, 2), st.floats(0.01, 0.3))
def test_p_below_alpha_exactly_where_the_interval_is_inside(seed: int, n: int, margin: float, alpha: float) -> None:
    found = equivalence_mean(_sample(seed, n), -margin, margin, alpha=alpha)
    assert found.p is not None
    assert found.low is not None
    assert found.high is not None
    assert (found.p < alpha) == (-margin < found.low and found.high < margin)


# --- named cases ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("values", "value"), [([], None), ([0.3], 0.3), ([np.nan, 0.3], 0.3)])
def test_fewer_than_two_values(values: list[float], value: float | None) -> None:
    found = equivalence_mean(values, -1, 1)
    assert (found.value, found.low, found.high, found.p, found.degrees) == (value, None, None, None, None)
    assert found.note.startswith("scatter needs at least 2 values")


@pytest.mark.parametrize(("first", "value"), [([], None), ([0.5], 0.25)])
@pytest.mark.parametrize("equal_variances", [False, True])
def test_a_side_with_fewer_than_two_values(first: list[float], value: float | None, equal_variances: bool) -> None:
    found = equivalence_independent(first, [0.0, 0.5, 0.25], -1, 1, equal_variances=equal_variances)
    assert (found.value, found.low, found.p, found.p_lower) == (value, None, None, None)
    assert found.note == "each side needs at least 2 values"


@pytest.mark.parametrize(("value", "expected"), [(0.0, (0, 0)), (0.5, (0, 1)), (1.0, (0, 1)), (-0.5, (1, 0))])
def test_values_without_scatter_are_inside_or_not(value: float, expected: tuple[float, float]) -> None:
    for found in (
        equivalence_mean([value] * 3, -0.5, 0.5),
        equivalence_paired([value] * 3, [0.0] * 3, -0.5, 0.5),
        equivalence_independent([value] * 3, [0.0] * 4, -0.5, 0.5),
        equivalence_independent([value] * 3, [0.0] * 4, -0.5, 0.5, equal_variances=True),
    ):
        assert (found.p_lower, found.p_upper) == expected
        assert (found.value, found.low, found.high, found.p) == (value, value, value, max(expected))
        assert found.note == "values do not differ at all"


def test_nan_is_dropped_and_counted_by_pair_where_paired() -> None:
    first, second = [1.0, np.nan, 2.0, 4.0, 3.0], [0.5, 1.0, np.nan, 2.0, 2.2]
    paired = equivalence_paired(first, second, -3, 3)
    assert paired.note == "2 NaN dropped from pairs"
    assert paired.p == equivalence_mean([0.5, 2.0, 0.8], -3, 3).p
    independent = equivalence_independent(first, second, -3, 3)
    assert independent.note == "1 NaN dropped from first; 1 NaN dropped from second"
    assert independent.p == equivalence_independent([1.0, 2.0, 4.0, 3.0], [0.5, 1.0, 2.0, 2.2], -3, 3).p


def test_infinite_values_and_other_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="infinite"):
        equivalence_mean([1.0, np.inf], -1, 1)
    with pytest.raises(DataError, match="infinite"):
        equivalence_paired([1.0, np.inf], [1.0, np.inf], -1, 1)
    with pytest.raises(DataError, match="infinite"):
        equivalence_independent([1.0, 2.0], [-np.inf, 0.0], -1, 1)
    with pytest.raises(DataError, match="same pairs"):
        equivalence_paired([1.0, 2.0], [1.0], -1, 1)
    with pytest.raises(DataError, match="one-dimensional"):
        equivalence_mean([[1.0, 2.0]], -1, 1)


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (1, -1), (-np.inf, 1), (0, np.nan)])
def test_margins_enclose_something(low: float, high: float) -> None:
    with pytest.raises(ConfigurationError, match="low < high"):
        equivalence_independent([1.0, 2.0], [1.0, 2.0], low, high)


@pytest.mark.parametrize("alpha", [0.0, 0.5, -0.1, np.nan])
def test_alpha_leaves_an_interval(alpha: float) -> None:
    with pytest.raises(ConfigurationError, match="alpha"):
        equivalence_mean([1.0, 2.0], -1, 1, alpha=alpha)


# --- error rates and power --------------------------------------------------------------------------------------


def _pass_rate(n: int, sd: float, margin: float, true: float, alpha: float = 0.05, draws: int = 100_000) -> float:
    """Share of simulated samples whose interval lies inside the margins."""
    values = true + sd * np.random.default_rng(n).standard_normal((draws, n))
    mean, half = values.mean(1), stats.t.isf(alpha, n - 1) * values.std(1, ddof=1) / math.sqrt(n)
    return float(((mean - half > -margin) & (mean + half < margin)).mean())


@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_at_the_margin_the_error_rate_is_alpha_and_beyond_it_less(alpha: float) -> None:
    """4,000 real calls at the boundary; the interval is narrow against the margins, so one side alone decides."""
    drawn = np.random.default_rng(0).standard_normal((4_000, 12)) * 0.1
    at, beyond = (
        np.mean([(equivalence_mean(x + true, -1, 1, alpha=alpha).p or 0.0) < alpha for x in drawn])
        for true in (1.0, 1.03)
    )
    error = math.sqrt(alpha * (1 - alpha) / 4_000)
    assert at == pytest.approx(alpha, abs=4 * error)
    assert beyond < at


@pytest.mark.parametrize("equal_variances", [False, True])
def test_independent_samples_at_the_margin(equal_variances: bool) -> None:
    rng = np.random.default_rng(1)
    first, second = 1 + 0.1 * rng.standard_normal((3_000, 6)), 0.1 * rng.standard_normal((3_000, 9))
    passed = [
        (equivalence_independent(a, b, -1, 1, equal_variances=equal_variances).p or 0.0) < 0.05
        for a, b in zip(first, second, strict=True)
    ]
    assert np.mean(passed) == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 3_000))


@pytest.mark.parametrize(
    ("n", "sd", "margin", "true"), [(2, 0.1, 1, 0), (5, 1, 1, 0), (8, 1, 1, 0.3), (20, 2, 1, 0), (60, 2, 1, -0.5)]
)
def test_power_against_simulation(n: int, sd: float, margin: float, true: float) -> None:
    expected = _pass_rate(n, sd, margin, true)
    found = equivalence_power(n, sd, margin, true=true)
    assert found == pytest.approx(expected, abs=4 * math.sqrt(0.25 / 100_000))


def _owens_q(degrees: int, t: float, delta: float, high: float) -> float:
    """Owen (1965): integral of Phi(t x / sqrt(v) - delta) x^(v-1) phi(x) from 0 to `high`, normalised."""
    factor = math.sqrt(2 * math.pi) / (special.gamma(degrees / 2) * 2 ** ((degrees - 2) / 2))
    integrand = lambda x: special.ndtr(t * x / math.sqrt(degrees) - delta) * x ** (degrees - 1) * stats.norm.pdf(x)  # noqa: E731
    return float(factor * integrate.quad(integrand, 0, high, epsabs=1e-13, limit=200)[0])


@given(st.integers(2, 25), st.floats(0.3, 3), st.floats(-0.9, 0.9), st.floats(0.01, 0.2))
def test_power_is_the_difference_of_owens_q(n: int, sd: float, true: float, alpha: float) -> None:
    t, root = float(stats.t.isf(alpha, n - 1)), math.sqrt(n) / sd
    lower, upper = (1 + true) * root, (true - 1) * root
    high = 2 * root * math.sqrt(n - 1) / (2 * t)
    expected = _owens_q(n - 1, -t, upper, high) - _owens_q(n - 1, t, lower, high)
    assert_allclose(equivalence_power(n, sd, 1.0, alpha=alpha, true=true), expected, atol=1e-9)


def test_power_at_its_ends() -> None:
    assert equivalence_power(3, 0.0, 1.0) == 1.0
    assert equivalence_power(3, 0.0, 1.0, true=1.0) == 0.0
    assert equivalence_power(10, 1e-9, 1.0) == pytest.approx(1.0)
    assert equivalence_power(10**6, 1.0, 1.0) == pytest.approx(1.0)
    assert equivalence_power(1_000, 1.0, 1.0, true=1.0) == pytest.approx(0.05, abs=1e-9)
    assert equivalence_power(2, 1e6, 1.0) == pytest.approx(0.0, abs=1e-9)


@given(st.floats(0.05, 2), st.floats(0, 0.6), st.floats(0.5, 0.95))
def test_runs_needed_is_the_smallest_that_is_enough(sd: float, true: float, power: float) -> None:
    n = runs_needed(sd, 1.0, true=true, power=power)
    assert equivalence_power(n, sd, 1.0, true=true) >= power
    assert n == 2 or equivalence_power(n - 1, sd, 1.0, true=true) < power


@pytest.mark.parametrize(
    ("sd", "margin", "runs"),
    [(0.005, 0.02, 3), (0.01, 0.02, 6), (0.02, 0.02, 19), (0.005, 0.01, 6), (0.01, 0.01, 19), (0.02, 0.01, 70)],
)
def test_seeds_needed_to_compare_two_methods(sd: float, margin: float, runs: int) -> None:
    """Runs whose sd is `sd`, two methods in pairs: the difference has sqrt(2) times that sd."""
    paired = math.sqrt(2) * sd
    assert runs_needed(paired, margin) == runs
    assert _pass_rate(runs, paired, margin, 0.0) > 0.8 - 4 * math.sqrt(0.16 / 100_000)
    assert _pass_rate(runs - 1, paired, margin, 0.0) < 0.8


def test_runs_needed_refuses_what_no_number_of_runs_can_show() -> None:
    assert runs_needed(0.0, 0.01) == 2
    with pytest.raises(ConfigurationError, match="true"):
        runs_needed(1.0, 1.0, true=1.0)
    with pytest.raises(ConfigurationError, match="power"):
        runs_needed(1.0, 1.0, power=1.0)
    with pytest.raises(ConfigurationError, match="widen the margin"):
        runs_needed(1.0, 1e-9)
    with pytest.raises(ConfigurationError, match="low < high"):
        equivalence_power(5, 1.0, -1.0)
    with pytest.raises(ConfigurationError, match="n >= 2"):
        equivalence_power(1, 1.0, 1.0)
    with pytest.raises(ConfigurationError, match="sd >= 0"):
        equivalence_power(4, -1.0, 1.0)
