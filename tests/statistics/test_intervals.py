"""Intervals against scipy and statsmodels, exact coverage and simulated coverage."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from auditkit.errors import ConfigurationError, DataError
from auditkit.statistics.intervals import (
    Interval,
    clopper_pearson,
    difference_interval,
    prediction_interval,
    ratio_interval,
)

Floats = NDArray[np.float64]
counts = st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def ends(found: Interval) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        (math.nan, None, None),
        (0.0, -math.inf, 1.0),
        (0.0, 0.0, math.nan),
        (0.0, None, 1.0),
        (None, 0.0, 1.0),
        (0.0, 1.0, 0.0),
    ],
)
def test_an_interval_refuses_what_a_report_cannot_hold(
    value: float | None, low: float | None, high: float | None
) -> None:
    with pytest.raises(DataError, match=r"interval|low"):
        Interval(value, low, high, 0.95, "test")


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(ConfigurationError, match="confidence"):
        clopper_pearson(1, 2, confidence)


@given(counts, st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_clopper_pearson_equals_scipy_and_statsmodels(count: tuple[int, int], confidence: float) -> None:
    k, n = count
    found = clopper_pearson(k, n, confidence)
    assert found.value == k / n
    exact = stats.binomtest(k, n).proportion_ci(confidence, method="exact")
    assert ends(found) == pytest.approx((exact.low, exact.high), abs=1e-10)
    assert ends(found) == pytest.approx(proportion_confint(k, n, 1 - confidence, method="beta"), abs=1e-10)


@pytest.mark.parametrize("n", [1, 7, 30, 101])
def test_clopper_pearson_covers_every_rate(n: int) -> None:
    """Exact: probabilities of the counts whose interval holds the rate, added up."""
    bounds = np.array([ends(clopper_pearson(k, n)) for k in range(n + 1)])
    for rate in np.linspace(0.001, 0.999, 331):
        inside = (bounds[:, 0] <= rate) & (rate <= bounds[:, 1])
        assert stats.binom.pmf(np.arange(n + 1), n, rate)[inside].sum() >= 0.95 - 1e-12


def test_clopper_pearson_outside_its_domain() -> None:
    assert clopper_pearson(0, 0).value is None
    assert clopper_pearson(0, 0).note == "no trials"
    for k, n in ((-1, 3), (4, 3)):
        with pytest.raises(ConfigurationError, match="successes"):
            clopper_pearson(k, n)


def test_prediction_interval_is_the_t_formula_and_holds_new_runs() -> None:
    found = prediction_interval(1.5, 1.0, 0.2, 8, 0.9)
    half = stats.t.ppf(0.95, 7) * 0.2 * math.sqrt(1 + 1 / 8)
    assert found.value == 0.5
    assert ends(found) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-12)
    rng, hits = np.random.default_rng(0), 0
    for _ in range(4000):
        runs = rng.normal(3, 2, 5)
        low, high = ends(prediction_interval(rng.normal(3, 2), runs[:4].mean(), runs[:4].std(ddof=1), 4))
        hits += low <= 0 <= high
    assert hits / 4000 == pytest.approx(0.95, abs=0.012)
    assert prediction_interval(1.0, 0.0, 0.0, 1).low is None
    assert prediction_interval(1.0, 0.0, 0.0, 1).value == 1.0
    with pytest.raises(ConfigurationError, match="sd"):
        prediction_interval(1.0, 0.0, -0.1, 4)


samples = st.lists(st.integers(-50, 50).map(lambda x: x / 8), min_size=2, max_size=15)


@given(samples, samples, st.sampled_from([0.8, 0.95, 0.99]))
def test_difference_equals_scipy_and_statsmodels(a: list[float], b: list[float], confidence: float) -> None:
    found = difference_interval(a, b, confidence)
    assert found.value == pytest.approx(np.mean(a) - np.mean(b), abs=1e-12)
    if np.var(a) == np.var(b) == 0:
        assert found.low == found.high == found.value
        assert "do not differ" in found.note
        return
    # Scipy warns that precision is lost where one side is constant; its interval is right all the same.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss occurred", RuntimeWarning)
        welch = stats.ttest_ind(a, b, equal_var=False).confidence_interval(confidence)
    assert ends(found) == pytest.approx((welch.low, welch.high), abs=1e-10)
    other = CompareMeans(DescrStatsW(a), DescrStatsW(b)).tconfint_diff(1 - confidence, usevar="unequal")
    assert ends(found) == pytest.approx(other, abs=1e-10)


@given(samples, st.integers(-50, 50).map(float))
def test_one_run_is_held_against_the_spread_of_the_other_side(runs: list[float], single: float) -> None:
    found = difference_interval([single], runs)
    by_hand = prediction_interval(single, float(np.mean(runs)), float(np.std(runs, ddof=1)), len(runs))
    assert ends(found) == pytest.approx(ends(by_hand), abs=1e-10)
    low, high = ends(difference_interval(runs, [single]))
    assert (-high, -low) == pytest.approx(ends(found), abs=1e-10)


positive_runs = st.lists(st.integers(1, 400).map(lambda x: x / 16), min_size=2, max_size=10)


@given(positive_runs, positive_runs)
def test_ratio_is_the_difference_of_logarithms(a: list[float], b: list[float]) -> None:
    found, logs = ratio_interval(a, b), difference_interval(np.log(a), np.log(b))
    assert found.value == pytest.approx(stats.gmean(a) / stats.gmean(b), rel=1e-10)
    assert np.log(ends(found)) == pytest.approx(ends(logs), abs=1e-10)
    inverse = ratio_interval(b, a)
    assert ends(inverse) == pytest.approx((1 / ends(found)[1], 1 / ends(found)[0]), rel=1e-9)
    scaled = ratio_interval(np.array(a) * 60, np.array(b) * 60)
    assert ends(scaled) == pytest.approx(ends(found), rel=1e-9)


@given(positive_runs, st.integers(1, 400).map(float))
def test_ratio_with_one_run_on_a_side(runs: list[float], single: float) -> None:
    logs = np.log(runs)
    half = stats.t.ppf(0.975, len(runs) - 1) * logs.std(ddof=1) * math.sqrt(1 + 1 / len(runs))
    found = ratio_interval([single], runs)
    middle = math.log(single) - logs.mean()
    if middle + half > 700:
        assert found.low is None
        return
    assert np.log(ends(found)) == pytest.approx((middle - half, middle + half), abs=1e-9)


def test_ratio_covers_the_true_speedup() -> None:
    rng = np.random.default_rng(0)
    for m, n in ((3, 5), (1, 4), (3, 1)):
        hits = 0
        for _ in range(2000):
            found = ratio_interval(rng.lognormal(3, 0.3, m), rng.lognormal(1, 0.3, n))
            low, high = ends(found)
            hits += low <= math.exp(2) <= high
        assert 0.935 <= hits / 2000 <= 0.98


def test_undefined_differences_and_ratios_say_why() -> None:
    for interval in (difference_interval, ratio_interval):
        both_single = interval([3.0], [1.5])
        assert both_single.value is not None
        assert (both_single.low, both_single.high) == (None, None)
        assert "2 runs" in both_single.note
        nothing = interval([math.nan], [1.0, 2.0])
        assert nothing.value is None
        assert "no runs" in nothing.note
        assert "1 NaN dropped from " in nothing.note
        with pytest.raises(DataError, match="infinite"):
            interval([math.inf], [1.0])
    assert ratio_interval([3.0], [1.5]).value == pytest.approx(2.0)
    assert "numerators" in ratio_interval([math.nan, 1.0, 2.0], [1.0]).note
    for bad in (0.0, -1.0):
        with pytest.raises(DataError, match="denominators must be positive"):
            ratio_interval([1.0], [2.0, bad])
    wild = ratio_interval([1e-150, 1e150], [1.0, 2.0])
    assert wild.value is not None
    assert wild.low is None
    assert "upper end" in wild.note
