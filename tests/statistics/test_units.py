"""Per-unit tests against naive loops, the law the prior is fitted to, and simulated audits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import optimize, special, stats

from auditkit.data.dataset import Floats
from auditkit.errors import ConfigurationError, DataError
from auditkit.statistics.units import MIN_UNITS_PRIOR, UnitTests, conformal_p, moderated_variances, unit_p_values

seeds = st.integers(0, 2**32 - 1)


# --- moderated variances ----------------------------------------------------------------------------------------


def _naive_moderated(variances: Floats, degrees: int) -> tuple[list[float], float]:
    """The moment equations written out, solved by a bracketing search over the prior degrees."""
    positive = [v for v in variances if v > 1e-12 * sum(variances) / len(variances)]
    if len(positive) < MIN_UNITS_PRIOR:
        return list(variances), float(degrees)
    expected = special.digamma(degrees / 2) - np.log(degrees / 2)
    logs = [float(np.log(v) - expected) for v in positive]
    middle = sum(logs) / len(logs)
    excess = sum((x - middle) ** 2 for x in logs) / (len(logs) - 1) - special.polygamma(1, degrees / 2)
    if excess < 1e-8:
        return [sum(positive) / len(positive)] * len(variances), float(degrees * len(positive))
    log_prior = optimize.brentq(
        lambda x: float(np.log(special.polygamma(1, np.exp(x) / 2)) - np.log(excess)), -20, 25, xtol=1e-14
    )
    prior = float(np.exp(log_prior))
    common = float(np.exp(middle + special.digamma(prior / 2) - np.log(prior / 2)))
    mixed = [(prior * common + degrees * v) / (prior + degrees) for v in variances]
    return mixed, min(prior + degrees, degrees * len(positive))


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 60), st.integers(1, 19), st.floats(0, 2))
def test_moderated_variances_against_the_moment_equations(seed: int, n: int, degrees: int, scatter: float) -> None:
    rng = np.random.default_rng(seed)
    # One decimal: zeros and ties.
    variances = np.round(rng.lognormal(0, scatter, n) * rng.chisquare(degrees, n) / degrees, 1)
    expected, freedom = _naive_moderated(variances, degrees)
    found = moderated_variances(variances, degrees)
    assert_allclose(found.variances, expected, rtol=1e-10)
    assert_allclose(found.degrees, freedom, rtol=1e-10)


@pytest.mark.parametrize(("degrees", "prior", "common"), [(3, 4.0, 0.25), (7, 12.0, 3.0), (19, 1.5, 1e-9)])
def test_many_units_recover_the_prior(degrees: int, prior: float, common: float) -> None:
    rng = np.random.default_rng(degrees)
    n = 1_000_000
    variances = common * prior / rng.chisquare(prior, n) * rng.chisquare(degrees, n) / degrees
    found = moderated_variances(variances, degrees)
    assert_allclose(found.prior_degrees, prior, rtol=0.02)
    assert_allclose(found.prior_variance, common, rtol=0.01)
    assert_allclose(found.degrees, prior + degrees, rtol=0.02)


def test_one_common_variance_for_many_units_is_the_normal_tail() -> None:
    sampled = moderated_variances(2.0 * np.random.default_rng(5).chisquare(7, 100_000) / 7, 7)
    assert sampled.prior_degrees > 500
    assert_allclose(sampled.variances, 2.0, rtol=0.05)
    equal = moderated_variances(np.full(100_000, 2.0), 7)
    assert (equal.prior_variance, equal.prior_degrees, equal.degrees) == (2.0, np.inf, 700_000.0)
    assert_array_equal(equal.variances, 2.0)
    assert_allclose(2 * special.stdtr(equal.degrees, -4.0), 2 * stats.norm.sf(4.0), rtol=1e-3)


@pytest.mark.parametrize("variances", [[], [0.7], [0.0, 0.0, 0.0], np.zeros(50), np.arange(MIN_UNITS_PRIOR)])
def test_too_few_scattered_units_have_no_prior(variances: Floats) -> None:
    found = moderated_variances(variances, 4)
    assert_array_equal(found.variances, variances)
    assert (found.prior_degrees, found.degrees) == (0.0, 4.0)
    assert np.isnan(found.prior_variance)


def test_units_on_which_golds_agree_are_drawn_to_the_prior() -> None:
    variances = np.random.default_rng(1).lognormal(0, 1.5, 200)
    # The second is what rounding leaves of a constant.
    found = moderated_variances(np.append(variances, [0.0, 1e-33]), 5)
    alone = moderated_variances(variances, 5)
    assert found.prior_degrees == alone.prior_degrees
    share = alone.prior_degrees / (alone.prior_degrees + 5)
    assert_allclose(found.variances[-2:], share * alone.prior_variance, rtol=1e-12)


def test_variances_that_are_nan_stay_so_and_do_not_count() -> None:
    variances = np.random.default_rng(2).lognormal(0, 1.0, 60)
    holed = np.insert(variances, [0, 20, 60], np.nan)
    found, alone = moderated_variances(holed, 3), moderated_variances(variances, 3)
    assert_array_equal(found.variances[~np.isnan(holed)], alone.variances)
    assert np.isnan(found.variances[np.isnan(holed)]).all()
    same = moderated_variances(np.append(np.ones(30), np.nan), 3)
    assert same.prior_degrees == np.inf
    assert np.isnan(same.variances[-1])


def test_variances_that_cannot_be_are_refused() -> None:
    with pytest.raises(DataError, match=r"0 or above.*-1"):
        moderated_variances([1.0, -1.0], 3)
    with pytest.raises(DataError, match="finite"):
        moderated_variances([1.0, np.inf], 3)
    with pytest.raises(ConfigurationError, match="degrees must be at least 1, got 0"):
        moderated_variances([1.0], 0)
    with pytest.raises(DataError, match="one-dimensional"):
        moderated_variances(np.ones((2, 2)), 3)


# --- conformal p-values -----------------------------------------------------------------------------------------

tied = st.lists(st.one_of(st.sampled_from([0.0, 0.5, 1.0, np.inf, -np.inf, np.nan]), st.floats(-2, 2)), max_size=30)


@given(tied, tied)
def test_conformal_p_counts_ties_against_the_score(scores: list[float], calibration: list[float]) -> None:
    p, floor = conformal_p(scores, calibration)
    kept = [c for c in calibration if c == c]
    assert floor == 1 / (len(kept) + 1)
    for value, found in zip(scores, p, strict=True):
        if value == value:
            assert_allclose(found, (1 + sum(c >= value for c in kept)) / (len(kept) + 1), rtol=1e-14)
        else:
            assert np.isnan(found)


def test_conformal_p_without_calibration_says_nothing() -> None:
    p, floor = conformal_p([3.0, np.inf], [])
    assert_array_equal(p, [1.0, 1.0])
    assert floor == 1.0


@pytest.mark.parametrize("ties", [False, True])
def test_conformal_p_is_valid_at_every_level(ties: bool) -> None:
    """P(p <= k/20) = k/20 without ties with 19 calibration scores, and less with."""
    drawn = np.random.default_rng(0).standard_normal((20_000, 20))
    drawn = np.round(drawn) if ties else drawn
    p = np.array([conformal_p(row[:1], row[1:])[0][0] for row in drawn])
    for level in (0.05, 0.2, 0.5):
        rate, error = float((p <= level + 1e-12).mean()), np.sqrt(level * (1 - level) / len(p))
        assert rate <= level + 4 * error
        assert ties or rate >= level - 4 * error


# --- unit tests -------------------------------------------------------------------------------------------------


def _t(runs: Floats, golds: Floats, resolution: float = 0.0) -> tuple[Floats, float]:
    """Moderated t with `numpy.var`, whose variances are oracle-checked above."""
    moderated = moderated_variances(golds.var(0, ddof=1), len(golds) - 1)
    error = np.maximum(np.sqrt(moderated.variances * (1 / len(runs) + 1 / len(golds))), resolution)
    return (runs.mean(0) - golds.mean(0)) / error, moderated.degrees


def _naive(runs: Floats, golds: Floats, resolution: float = 0.0) -> UnitTests:
    """Everything by definition: each Gold in turn is a run against the others, counted in a loop."""
    t, degrees = _t(runs, golds, resolution)
    floor = 1 / (golds.size + 1)
    p = np.maximum(2 * stats.t.sf(np.abs(t), degrees), floor)
    left_out = [
        abs(value) for s in range(len(golds)) for value in _t(golds[s : s + 1], np.delete(golds, s, 0), resolution)[0]
    ]
    counted = np.array([(1 + sum(x >= abs(value) for x in left_out)) / (len(left_out) + 1) for value in t])
    by = stats.false_discovery_control(p, method="by")
    return UnitTests(
        runs.mean(0) - golds.mean(0), t, p, counted, stats.false_discovery_control(p), by, floor, floor, degrees
    )


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 3), st.integers(3, 6), st.integers(1, 40), st.sampled_from([0.0, 0.4]))
def test_unit_tests_against_naive_loops(seed: int, n_runs: int, n_golds: int, n: int, resolution: float) -> None:
    rng = np.random.default_rng(seed)
    scale = rng.lognormal(0, 1, n)
    golds, runs = scale * rng.standard_normal((n_golds, n)), 0.5 + scale * rng.standard_normal((n_runs, n))
    found, expected = unit_p_values(runs, golds, resolution=resolution), _naive(runs, golds, resolution)
    for name in ("deviation", "t", "p", "q", "q_dependent", "floor", "conformal_floor", "degrees"):
        assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-12, err_msg=name)
    # The same number, summed in another order, may fall on the other side of a tie by rounding.
    assert_allclose(found.conformal_p, expected.conformal_p, atol=1.01 * expected.floor)


def test_scores_with_ties_against_naive_loops() -> None:
    rng = np.random.default_rng(3)
    golds, runs = rng.integers(0, 2, (4, 90)).astype(float), rng.integers(0, 2, (2, 90)).astype(float)
    assert (golds.std(0) == 0).any()
    found, expected = unit_p_values(runs, golds), _naive(runs, golds)
    assert_allclose(found.t, expected.t, rtol=1e-10, atol=1e-14)
    assert_allclose(found.q_dependent, expected.q_dependent, rtol=1e-10)


@given(seeds, st.floats(0.01, 100), st.floats(-1e3, 1e3))
def test_units_of_the_score_do_not_matter(seed: int, factor: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    golds, run = rng.standard_normal((5, 30)), rng.standard_normal((1, 30))
    one, other = unit_p_values(run, golds), unit_p_values(factor * run + shift, factor * golds + shift)
    assert_allclose(other.deviation, factor * one.deviation, rtol=1e-6, atol=1e-9)
    assert_allclose(other.p, one.p, rtol=1e-6, atol=1e-6)


def test_units_without_an_answer_are_nan_and_do_not_count() -> None:
    rng = np.random.default_rng(4)
    golds, runs = rng.standard_normal((5, 40)), rng.standard_normal((2, 40))
    alone = unit_p_values(runs, golds)
    golds, runs = np.insert(golds, [3, 10], 0.0, axis=1), np.insert(runs, [3, 10], 0.0, axis=1)
    golds[2, 3] = runs[1, 11] = np.nan
    found, known = unit_p_values(runs, golds), np.delete(np.arange(42), [3, 11])
    for name in ("deviation", "t", "p", "conformal_p", "q", "q_dependent"):
        assert_array_equal(getattr(found, name)[known], getattr(alone, name), err_msg=name)
        assert np.isnan(getattr(found, name)[[3, 11]]).all()
    assert (found.floor, found.conformal_floor) == (1 / 201, 1 / 201)
    assert found.note == "2 NaN dropped from units"


def test_no_p_value_lies_below_what_left_out_golds_can_confirm() -> None:
    rng = np.random.default_rng(6)
    golds = rng.standard_normal((8, 100))
    found = unit_p_values(np.full((1, 100), 1e6), golds)
    assert_array_equal(found.p, 1 / 801)
    assert_array_equal(found.conformal_p, 1 / 801)
    assert_allclose(found.q, 1 / 801)


def test_no_unit_answered() -> None:
    found = unit_p_values(np.full((1, 3), np.nan), np.zeros((4, 3)))
    assert np.isnan(found.p).all()
    assert (found.floor, found.conformal_floor) == (1.0, 1.0)
    assert "no unit was answered" in found.note
    assert unit_p_values(np.empty((1, 0)), np.empty((4, 0))).p.shape == (0,)


def test_golds_that_agree_take_any_deviation_as_certain_unless_told_the_resolution() -> None:
    golds, run = np.full((4, 30), 0.1), np.full((1, 30), 0.1)
    run[0, 5] += 1e-9
    found = unit_p_values(run, golds)
    assert np.isposinf(found.t[5])
    assert (found.p[5], found.p[0], found.t[0]) == (found.floor, 1.0, 0.0)
    assert (found.conformal_p[5], found.conformal_p[0]) == (found.conformal_floor, 1.0)
    assert "agree on every unit" in found.note
    coarse = unit_p_values(run, golds, resolution=1e-6)
    assert coarse.p[5] > 0.9


def test_two_golds_have_no_conformal_p() -> None:
    rng = np.random.default_rng(8)
    found = unit_p_values(rng.standard_normal((1, 50)), rng.standard_normal((2, 50)))
    assert np.isnan(found.conformal_p).all()
    assert np.isfinite(found.p).all()
    assert found.note.startswith("no conformal p-values: they need 3 Golds")


def test_one_unit_is_the_plain_prediction_t() -> None:
    golds, run = np.array([[0.1], [0.4], [0.2], [0.9]]), np.array([[5.0]])
    found = unit_p_values(run, golds)
    t = (5 - golds.mean()) / (golds.std(ddof=1) * np.sqrt(1 + 1 / 4))
    assert_allclose(found.t, t, rtol=1e-12)
    assert found.degrees == 3
    assert_allclose(found.p, max(2 * stats.t.sf(t, 3), 1 / 5))
    assert found.conformal_p == pytest.approx(1 / 5)
    assert "no prior" in found.note


def test_runs_that_agree_by_chance_promise_no_more_than_the_golds_scatter() -> None:
    rng = np.random.default_rng(9)
    golds, run = rng.standard_normal((6, 50)), rng.standard_normal((1, 50))
    once, thrice = unit_p_values(run, golds), unit_p_values(np.repeat(run, 3, axis=0), golds)
    assert_allclose(thrice.t / once.t, np.sqrt((1 + 1 / 6) / (1 / 3 + 1 / 6)))


@pytest.mark.parametrize(
    ("runs", "golds", "match"),
    [
        (np.zeros((1, 4)), np.zeros((1, 4)), "golds.*at least 2"),
        (np.zeros((0, 4)), np.zeros((3, 4)), "runs.*at least 1"),
        (np.zeros(4), np.zeros((3, 4)), "runs.*shape"),
        (np.zeros((1, 5)), np.zeros((3, 4)), "same units"),
        (np.full((1, 4), np.inf), np.zeros((3, 4)), "infinite"),
        (np.zeros((1, 4)), np.full((3, 4), -np.inf), "golds.*infinite"),
    ],
)
def test_shapes_and_infinities_are_refused(runs: Floats, golds: Floats, match: str) -> None:
    with pytest.raises(DataError, match=match):
        unit_p_values(runs, golds)


@pytest.mark.parametrize("resolution", [-1.0, np.inf, np.nan])
def test_resolution_is_a_finite_length(resolution: float) -> None:
    with pytest.raises(ConfigurationError, match="resolution"):
        unit_p_values(np.zeros((1, 3)), np.zeros((3, 3)), resolution=resolution)


# --- simulated audits of true Golds -----------------------------------------------------------------------------

WORLDS: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "one variance": lambda _, n: np.ones(n),
    "inverse chi2, 4": lambda rng, n: 4 / rng.chisquare(4, n),
    "inverse chi2, 12": lambda rng, n: 12 / rng.chisquare(12, n),
    "lognormal": lambda rng, n: rng.lognormal(0, 1, n),
    "wide lognormal": lambda rng, n: rng.lognormal(0, 2, n),
}
AUDITS, UNITS = 140, 500


@cache
def _rates(world: str, n_golds: int, n_runs: int = 1) -> dict[str, tuple[float, float]]:
    """Share of p-values at .05 and at .001 for fresh Golds, over audits with new variances each."""
    rng = np.random.default_rng([n_golds, n_runs, *world.encode()])
    p, counted = [], []
    for _ in range(AUDITS):
        scale = np.sqrt(WORLDS[world](rng, UNITS))
        drawn = scale * rng.standard_normal((n_runs + n_golds, UNITS))
        found = unit_p_values(drawn[:n_runs], drawn[n_runs:])
        p.append(found.p)
        counted.append(found.conformal_p)
    both = {"t": np.stack(p), "conformal": np.stack(counted)}
    return {name: (float((v <= 0.05).mean()), float((v <= 0.001).mean())) for name, v in both.items()}


def _error(rate: float) -> float:
    """Monte-Carlo standard error; doubled variance for the prior that the units of an audit share."""
    return float(np.sqrt(2 * rate * (1 - rate) / (AUDITS * UNITS)))


@pytest.mark.parametrize("n_golds", [4, 8, 20])
@pytest.mark.parametrize("world", ["one variance", "inverse chi2, 4", "inverse chi2, 12"])
def test_p_is_honest_where_variances_follow_the_prior(world: str, n_golds: int) -> None:
    at_5, at_01 = _rates(world, n_golds)["t"]
    assert at_5 == pytest.approx(0.05, abs=4 * _error(0.05) + 0.0015)
    assert at_01 == pytest.approx(0.001, abs=4 * _error(0.001) + 0.0001)


@pytest.mark.parametrize("n_golds", [4, 8, 20])
@pytest.mark.parametrize("world", ["lognormal", "wide lognormal"])
def test_p_stays_honest_on_average_where_they_do_not(world: str, n_golds: int) -> None:
    at_5, at_01 = _rates(world, n_golds)["t"]
    assert 0.045 <= at_5 <= 0.058
    assert at_01 <= 0.002


@pytest.mark.parametrize("n_golds", [4, 8, 20])
@pytest.mark.parametrize("world", list(WORLDS))
def test_conformal_p_errs_on_the_safe_side_only(world: str, n_golds: int) -> None:
    at_5, at_01 = _rates(world, n_golds)["conformal"]
    assert 0.025 <= at_5 <= 0.05 + 4 * _error(0.05)
    assert at_01 <= 0.001 + 4 * _error(0.001)
    if n_golds >= 8:
        assert at_5 >= 0.044


@pytest.mark.parametrize("n_runs", [2, 5])
def test_several_runs_stay_honest(n_runs: int) -> None:
    at_5, at_01 = _rates("inverse chi2, 4", 8, n_runs)["t"]
    assert at_5 == pytest.approx(0.05, abs=4 * _error(0.05) + 0.0015)
    assert at_01 == pytest.approx(0.001, abs=4 * _error(0.001) + 0.0001)


def test_moderation_finds_what_each_units_own_variance_cannot() -> None:
    """A tenth of 1,000 units is 6 sd off, 4 Golds: with own variances Benjamini-Hochberg finds next to nothing."""
    rng = np.random.default_rng(11)
    golds, run = rng.standard_normal((4, 1000)), rng.standard_normal((1, 1000))
    run[0, :100] += 6
    found = unit_p_values(run, golds)
    own = 2 * stats.t.sf(np.abs(run[0] - golds.mean(0)) / (golds.std(0, ddof=1) * np.sqrt(1.25)), 3)
    assert (found.q[:100] <= 0.05).mean() > 0.9
    assert (stats.false_discovery_control(own)[:100] <= 0.05).mean() < 0.2


@pytest.mark.parametrize("world", ["inverse chi2, 4", "lognormal"])
def test_false_discoveries_are_controlled(world: str) -> None:
    """A fifth of the units is off; the rate is at most .05 times the share of true nulls."""
    rng = np.random.default_rng(12)
    found: list[float] = []
    found_dependent: list[float] = []
    off = np.arange(300) < 60
    for _ in range(300):
        scale = np.sqrt(WORLDS[world](rng, 300))
        drawn = scale * rng.standard_normal((9, 300))
        tests = unit_p_values(drawn[:1] + 6 * off, drawn[1:])
        for q, rates in ((tests.q, found), (tests.q_dependent, found_dependent)):
            rates.append((q[~off] <= 0.05).sum() / max((q <= 0.05).sum(), 1))
    assert 0.01 < np.mean(found) <= 0.05 * 0.8 + 4 * np.std(found) / np.sqrt(300)
    assert np.mean(found_dependent) < np.mean(found)
