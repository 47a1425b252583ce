"""Attainable margin, power and what settles an audit: against brute force, closed forms and the real readings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import integrate, special, stats

from auditkit.data.dataset import Floats
from auditkit.errors import ConfigurationError, DataError
from auditkit.statistics.dose import FLOOR, DoseLine, LinearScale, SpreadScale, standard_error, standard_errors
from auditkit.statistics.power import (
    attainable_margin,
    detection_power,
    pass_probability,
)

from .test_dose import systems

seeds = st.integers(0, 2**32 - 1)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def standard_level(n: int) -> Floats:
    """Readings of n Golds with mean 0 and standard deviation 1."""
    level = stats.norm.ppf((np.arange(n) + 0.5) / n)
    return np.asarray(level / level.std(ddof=1))


def statistics_of(seed: int, n_golds: int = 8) -> tuple[Floats, Floats, SpreadScale]:
    golds, originals = systems(seed, n_golds=n_golds, n_units=60)
    weights = np.random.default_rng(seed).standard_normal(60)
    pattern = LinearScale(golds * weights, originals * weights).gold_doses * 0.02
    return LinearScale(golds, originals).gold_doses, pattern, SpreadScale(golds, originals)


# --- the audit as it stands -------------------------------------------------------------------------------------


def _brute_margin(golds: Floats, golds_pattern: Floats, spread: SpreadScale, alpha: float) -> float:
    """Draw Golds with a scale as uncertain as S draws leave it, form every bound, search the margin that 90% pass."""
    n = len(golds)
    rng = np.random.default_rng(77)
    columns = np.stack([golds, golds_pattern, spread.gold_logs])
    factor = np.linalg.cholesky(np.cov(columns) * (1 + 1 / n))
    t = stats.t.isf(alpha, n - 1)
    uncertain = np.sqrt((rng.standard_normal((20_000, n - 1)) ** 2).mean(1))
    drawn = rng.standard_normal((20_000, 3)) @ factor.T / uncertain[:, None]
    half = t * columns.std(1, ddof=1) * np.sqrt(1 + 1 / n)
    logs = spread.gold_logs.mean() + drawn[:, 2] + half[2]
    rho = (np.exp(logs) - spread.gold) / (spread.original - spread.gold)

    def passing(margin: float) -> float:
        inside = (drawn[:, :2] + half[:2] < margin) & (drawn[:, :2] - half[:2] > -margin)
        return float((inside.all(1) & (rho < margin)).mean())

    low, high = 0.0, 10.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if passing(middle) >= 0.9 else (middle, high)
    return high


@pytest.mark.parametrize("n_golds", [4, 8, 20])
def test_attainable_margin_against_brute_force(n_golds: int) -> None:
    golds, originals = systems(n_golds, n_golds=n_golds, n_units=60)
    level = LinearScale(golds, originals).gold_doses
    weights = np.random.default_rng(1).standard_normal(60)
    pattern = LinearScale(golds * weights, originals * weights).gold_doses * 0.02
    spread = SpreadScale(golds, originals)
    found = attainable_margin(level, pattern, spread, alpha=0.05, rng=np.random.default_rng(0))
    assert found == pytest.approx(_brute_margin(level, pattern, spread, 0.05), rel=0.05)


def test_a_margin_set_by_the_spread_is_on_its_curve() -> None:
    golds, originals = systems(3, n_golds=8, n_units=60)
    level, curve = np.zeros(8), DoseLine(curvature=-0.5)
    found = [
        attainable_margin(level, None, spread, alpha=0.05, rng=np.random.default_rng(0))
        for spread in (SpreadScale(golds, originals), SpreadScale(golds, originals, curve))
    ]
    assert found[1] == pytest.approx(curve.dose(found[0]))
    assert found[1] < 0.7 * found[0]


@pytest.mark.parametrize("n_golds", [4, 8, 20])
def test_nine_in_ten_fresh_golds_pass_at_the_attainable_margin(n_golds: int) -> None:
    """Over audits whose own Golds set the margin, which is what a reader of the report is promised."""
    rng = np.random.default_rng(n_golds)
    passed = 0
    for _ in range(800):
        golds, fresh = 0.1 * rng.standard_normal((n_golds, 1)), 0.1 * rng.standard_normal((1, 1))
        scale = LinearScale(golds, np.ones((1, 1)))
        margin = attainable_margin(scale.gold_doses, None, None, alpha=0.05, rng=rng, draws=4_000)
        low, high = scale.read(fresh).bounds(0.05)
        passed += -margin < low and high < margin
    assert passed / 800 == pytest.approx(0.9, abs=0.035)


def test_nine_in_ten_fresh_golds_pass_at_the_attainable_margin_with_a_bridge() -> None:
    rng, line = np.random.default_rng(0), DoseLine(bridge=0.03)
    passed, wider = 0, 0
    for _ in range(800):
        golds, fresh = 0.1 * rng.standard_normal((8, 1)), 0.1 * rng.standard_normal((1, 1))
        scale = LinearScale(golds, np.ones((1, 1)))
        level = scale.gold_doses
        margin = attainable_margin(level, None, None, alpha=0.05, rng=rng, draws=4_000, bridges=(0.03, 0.0))
        low, high = line.map(scale.read(fresh)).bounds(0.05)
        passed += -margin < low and high < margin
        wider += margin > attainable_margin(level, None, None, alpha=0.05, rng=rng, draws=4_000)
    assert passed / 800 == pytest.approx(0.9, abs=0.035)
    assert wider > 780


@given(st.floats(0.1, 10))
def test_attainable_margin_does_not_depend_on_units_of_the_score(factor: float) -> None:
    golds, originals = systems(2, n_golds=6)
    margins = [
        attainable_margin(
            LinearScale(f * golds, f * originals).gold_doses, None, SpreadScale(f * golds, f * originals),
            alpha=0.05, rng=np.random.default_rng(0), draws=2_000,
        )
        for f in (1.0, factor)
    ]  # fmt: skip
    assert_allclose(margins[0], margins[1], rtol=1e-6)


def test_attainable_margin_of_the_level_alone_has_a_floor() -> None:
    """With many Golds: (z_.95 + z_.95) standard deviations, 3.3, for PASS at 90% with two-sided bounds."""
    level = stats.norm.ppf((np.arange(4_000) + 0.5) / 4_000) * 0.03
    found = attainable_margin(level, None, None, alpha=0.05, rng=np.random.default_rng(0), draws=200_000)
    assert found == pytest.approx(0.03 * 2 * 1.645, rel=0.01)


def test_more_statistics_and_more_power_need_a_wider_margin() -> None:
    golds, originals = systems(11, n_golds=8, n_units=60)
    level, spread = LinearScale(golds, originals).gold_doses, SpreadScale(golds, originals)
    alone, joint = (attainable_margin(level, None, s, alpha=0.05, rng=np.random.default_rng(0)) for s in (None, spread))
    surer = attainable_margin(level, None, spread, alpha=0.05, rng=np.random.default_rng(0), power=0.95)
    assert alone <= joint < surer


def test_attainable_margin_without_a_wider_original_is_infinite() -> None:
    golds = np.random.default_rng(0).standard_normal((5, 30))
    level = LinearScale(golds, golds.mean(0)[None] + 1.0).gold_doses
    spread = SpreadScale(golds, golds.mean(0)[None])
    assert attainable_margin(level, None, spread, alpha=0.05, rng=np.random.default_rng(0)) == np.inf


def test_attainable_margin_of_equal_golds_is_next_to_nothing() -> None:
    spread = SpreadScale(np.zeros((4, 30)), np.full((1, 30), 3.0))
    found = attainable_margin(np.zeros(4), np.zeros(4), spread, alpha=0.05, rng=np.random.default_rng(0))
    assert 0 < found < 1e-5


@pytest.mark.parametrize("n_golds", [2, 4, 20])
def test_margins_are_the_formula_draw_by_draw(n_golds: int) -> None:
    """The joint margin written out for one draw at a time, on the same stream."""
    level, pattern, spread = statistics_of(n_golds, n_golds)
    columns, stream = np.stack([level, pattern, spread.gold_logs]), rng()
    drawn = stream.multivariate_normal(np.zeros(3), np.cov(columns) * (1 + 1 / n_golds), size=500, method="svd")
    chi2 = stream.chisquare(n_golds - 1, size=(500, 1))
    half = stats.t.isf(0.05, n_golds - 1) * np.sqrt(1 + 1 / n_golds) * columns.std(1, ddof=1)
    needed = []
    for deviation, c in zip(drawn, chi2[:, 0], strict=True):
        one = deviation * np.sqrt((n_golds - 1) / c)
        top = min(spread.gold_logs.mean() + one[2] + half[2], 700.0)
        needed.append(max(abs(one[0]) + half[0], abs(one[1]) + half[1], spread.rho(top)))
    found = attainable_margin(level, pattern, spread, alpha=0.05, rng=rng(), draws=500)
    assert_allclose(found, np.quantile(needed, 0.9), rtol=1e-10)


@settings(max_examples=25, deadline=None)
@given(seeds, st.floats(0.02, 2))
def test_pass_probability_is_the_inverse(seed: int, margin: float) -> None:
    arguments = statistics_of(seed % 1000)
    share = pass_probability(*arguments, margin, alpha=0.05, rng=rng(), draws=1_000)
    wider = pass_probability(*arguments, 1.2 * margin, alpha=0.05, rng=rng(), draws=1_000)
    assert share <= wider
    attained = attainable_margin(*arguments, alpha=0.05, rng=rng(), draws=1_000)
    assert (share >= 0.9) == (margin > attained) or abs(margin / attained - 1) < 0.02
    assert pass_probability(*arguments, 0.0, alpha=0.05, rng=rng()) == 0.0


def test_an_original_that_spreads_no_wider_never_passes() -> None:
    golds = rng().standard_normal((5, 30))
    spread = SpreadScale(golds, golds.mean(0)[None])
    assert pass_probability(golds[:, 0], None, spread, 1e9, alpha=0.05, rng=rng()) == 0.0


def test_two_golds_that_hardly_differ_in_the_original_overflow_quietly() -> None:
    golds = np.stack([np.zeros(30), np.full(30, 1e-3)])
    golds[1] += np.linspace(0, 1e5, 30)
    spread = SpreadScale(golds, golds.mean(0)[None] + 1e7)
    assert attainable_margin(golds[:, 0], None, spread, alpha=0.05, rng=rng(), power=0.999) > 0


# --- other plans ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("planned", [3, 4, 8, 20, 64])
def test_level_alone_with_other_golds_is_two_t_quantiles(planned: int) -> None:
    level = 0.03 * standard_level(8)
    found = attainable_margin(level, None, None, alpha=0.05, rng=rng(), golds=planned, draws=200_000)
    t = float(stats.t.isf(0.05, planned - 1))
    assert found == pytest.approx(0.03 * 2 * t * np.sqrt(1 + 1 / planned), rel=0.015)


@pytest.mark.parametrize(("planned", "runs"), [(4, 1), (8, 1), (20, 1), (8, 3), (20, 5)])
def test_nine_in_ten_golds_pass_a_plan_made_from_many(planned: int, runs: int) -> None:
    """A pilot that knows the scatter; audits of the planned size, judged by their real bounds, at the fixed margin."""
    stream = np.random.default_rng([planned, runs])
    margin = attainable_margin(0.1 * standard_level(4_000), None, None, alpha=0.05, rng=rng(), golds=planned, runs=runs)
    passed = 0
    for _ in range(1_500):
        scale = LinearScale(0.1 * stream.standard_normal((planned, 1)), np.ones((1, 1)))
        low, high = scale.read(0.1 * stream.standard_normal((runs, 1))).bounds(0.05)
        passed += -margin < low and high < margin
    # On the safe side: the plan has the uncertainty of its Golds in the deviation and in the bounds.
    assert 0.9 - 0.025 <= passed / 1_500 <= 0.98


@pytest.mark.parametrize(("n_golds", "runs"), [(4, 3), (8, 2), (8, 3), (20, 5)])
def test_nine_in_ten_fresh_golds_pass_with_several_runs(n_golds: int, runs: int) -> None:
    """Each audit's own Golds set the margin."""
    stream = np.random.default_rng([n_golds, runs, 1])
    passed = 0
    for _ in range(500):
        scale = LinearScale(0.1 * stream.standard_normal((n_golds, 1)), np.ones((1, 1)))
        margin = attainable_margin(scale.gold_doses, None, None, alpha=0.05, rng=stream, draws=1_500, runs=runs)
        low, high = scale.read(0.1 * stream.standard_normal((runs, 1))).bounds(0.05)
        passed += -margin < low and high < margin
    assert passed / 500 == pytest.approx(0.9, abs=0.045)


def test_all_three_statistics_with_other_golds_and_runs_by_the_real_readings() -> None:
    """World of independent units with known scatter; a plan of 12 Golds and 3 runs from a pilot of 300."""
    stream, units = np.random.default_rng(5), 40
    gain = 2 * stream.gamma(2.0, 1.0, units)
    weights = stream.standard_normal(units) + 0.5

    def scales(n: int) -> tuple[LinearScale, LinearScale, SpreadScale]:
        golds, originals = stream.standard_normal((n, units)), np.tile(gain, (1, 1))
        return (
            LinearScale(golds, originals), LinearScale(golds * weights, originals * weights),
            SpreadScale(golds, originals),
        )  # fmt: skip

    level, pattern, spread = scales(300)
    margin = attainable_margin(level.gold_doses, pattern.gold_doses, spread, alpha=0.05, rng=rng(), golds=12, runs=3)
    passed = 0
    for _ in range(1_000):
        level, pattern, spread = scales(12)
        runs = stream.standard_normal((3, units))
        ends = [*level.read(runs).bounds(0.05), *pattern.read(runs * weights).bounds(0.05)]
        passed += max(map(abs, ends)) < margin and spread.read(runs).bounds(0.05)[1] < margin
    assert 0.87 <= passed / 1_000 <= 0.98


def test_more_units_narrow_the_margin_as_larger_requests_do() -> None:
    def mean_margin(units: int, factor: float) -> float:
        found = []
        for seed in range(60):
            golds, originals = systems(seed, n_golds=8, n_originals=1, n_units=units)
            level, spread = LinearScale(golds, originals).gold_doses, SpreadScale(golds, originals)
            found.append(
                attainable_margin(level, None, spread, alpha=0.05, rng=rng(), draws=2_000, units_factor=factor)
            )
        return float(np.mean(found))

    assert mean_margin(50, 4.0) == pytest.approx(mean_margin(200, 1.0), rel=0.1)
    assert mean_margin(50, 1.0) > 1.5 * mean_margin(50, 4.0)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 500), st.integers(2, 40), st.floats(1, 50))
def test_more_golds_and_more_units_never_widen_the_margin(seed: int, planned: int, factor: float) -> None:
    arguments: Any = statistics_of(seed)
    plan: dict[str, Any] = {"alpha": 0.05, "draws": 1_000}
    here = attainable_margin(*arguments, **plan, rng=rng(), golds=planned)
    assert attainable_margin(*arguments, **plan, rng=rng(), golds=planned + 3) <= here
    assert attainable_margin(*arguments, **plan, rng=rng(), golds=planned, units_factor=factor) <= here
    once, many = (attainable_margin(*arguments, **plan, rng=rng(), runs=runs) for runs in (1, 16))
    assert many < once


def test_two_runs_need_a_wider_margin_than_one() -> None:
    """Their own scatter has one degree of freedom: where they lie far apart the bounds are very wide."""
    margins = [
        attainable_margin(standard_level(8), None, None, alpha=0.05, rng=rng(), runs=runs) for runs in (1, 2, 3, 5)
    ]
    assert margins[1] > 1.5 * margins[0]
    assert margins[0] > margins[2] > margins[3]


@pytest.mark.parametrize(
    "plan", [{"golds": 1}, {"runs": 0}, {"units_factor": 0.0}, {"units_factor": np.nan}, {"units_factor": np.inf}]
)
def test_plans_that_cannot_be_are_refused(plan: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="a plan has at least 2 Golds"):
        attainable_margin(standard_level(4), None, None, alpha=0.05, rng=rng(), **plan)
    with pytest.raises(ConfigurationError, match="a plan has at least 2 Golds"):
        pass_probability(standard_level(4), None, None, 0.1, alpha=0.05, rng=rng(), **plan)


def test_statistics_of_different_golds_are_refused() -> None:
    with pytest.raises(DataError, match=r"at least 2, got \[1\]"):
        attainable_margin(np.zeros(1), None, None, alpha=0.05, rng=rng())
    with pytest.raises(DataError, match=r"\[4, 5\]"):
        attainable_margin(np.zeros(4), np.zeros(5), None, alpha=0.05, rng=rng())


# --- errors of many audits --------------------------------------------------------------------------------------


@given(seeds, st.integers(2, 30), st.integers(2, 9))
def test_standard_errors_are_those_of_one_audit_at_a_time(seed: int, n_golds: int, n_runs: int) -> None:
    stream = np.random.default_rng(seed)
    sd, runs = stream.uniform(0.5, 2, 6), stream.standard_normal((6, n_runs))
    errors, degrees = standard_errors(sd, n_golds, runs.var(1, ddof=1), n_runs)
    for k in range(6):
        assert_allclose((errors[k], degrees[k]), standard_error(float(sd[k]), n_golds, runs[k]), rtol=1e-12)
    fixed = standard_errors(sd, np.inf, runs.var(1, ddof=1), n_runs)
    assert_allclose(fixed[0], np.maximum(runs.std(1, ddof=1), sd) / np.sqrt(n_runs))
    assert_allclose(fixed[1], np.where(runs.std(1, ddof=1) > sd, n_runs - 1, np.inf))


# --- power ------------------------------------------------------------------------------------------------------


@given(st.floats(0.01, 1), st.integers(2, 40), st.floats(-1, 2), st.floats(0.005, 0.4))
def test_power_of_one_run_against_an_integral_over_the_golds_scatter(
    sd: float, n: int, dose: float, alpha: float
) -> None:
    error, t = sd * np.sqrt(1 + 1 / n), stats.t.isf(alpha, n - 1)

    def found(share: float) -> float:
        u = np.sqrt(special.chdtri(n - 1, 1 - share) / (n - 1))
        return float(special.ndtr(dose / error - t * u))

    expected = integrate.quad(found, 0, 1, limit=300, epsabs=1e-9)[0]
    assert_allclose(detection_power(sd, n, dose, alpha), expected, atol=1e-6)


@pytest.mark.parametrize(("n", "runs", "dose"), [(4, 1, 0.5), (8, 1, 0.5), (4, 2, 0.6), (8, 3, 0.3), (20, 5, 0.2)])
def test_power_against_simulated_audits(n: int, runs: int, dose: float) -> None:
    stream, found = np.random.default_rng([n, runs]), 0
    for _ in range(4_000):
        scale = LinearScale(0.2 * stream.standard_normal((n, 1)), np.ones((1, 1)))
        # The gap is read from the Golds' own mean; a system of this dose lies so far from the true Gold.
        golds = LinearScale(scale.golds, scale.golds.mean(0)[None] + 1.0)
        found += golds.read(dose + 0.2 * stream.standard_normal((runs, 1))).bounds(0.05)[0] > 0
    expected = detection_power(0.2, n, dose, 0.05, runs)
    assert found / 4_000 == pytest.approx(expected, abs=4 * np.sqrt(0.25 / 4_000))


def test_power_at_its_ends() -> None:
    assert detection_power(0.3, 8, 0.0, 0.05) == pytest.approx(0.05, abs=1e-9)
    assert 0.005 < detection_power(0.3, 8, 0.0, 0.05, 3) < 0.05
    assert detection_power(0.0, 4, 0.5, 0.05) == 1.0
    assert detection_power(0.0, 4, -0.5, 0.05) == pytest.approx(0.0, abs=1e-12)
    assert detection_power(0.0, 4, 0.5 * FLOOR, 0.05) < 0.2
    assert detection_power(1e9, 4, 0.5, 0.05) == pytest.approx(0.05, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 1), st.integers(2, 20), st.floats(0.01, 1), st.integers(3, 6))
def test_power_grows_with_dose_and_golds(sd: float, n: int, dose: float, runs: int) -> None:
    here = detection_power(sd, n, dose, 0.05)
    assert detection_power(sd, n, 1.5 * dose, 0.05) >= here
    assert detection_power(sd, n + 1, dose, 0.05) >= here - 1e-9
    assert detection_power(sd, n, 1.5 * dose, 0.05, runs) >= detection_power(sd, n, dose, 0.05, runs)


@pytest.mark.parametrize(
    "bad",
    [
        {"sd_golds": -1.0}, {"sd_golds": np.nan}, {"n_golds": 1}, {"dose": np.inf}, {"alpha": 0.0}, {"alpha": 0.5},
        {"runs": 0},
    ],
)  # fmt: skip
def test_power_refuses_what_lies_outside_its_domain(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="detection_power needs"):
        detection_power(**{"sd_golds": 0.1, "n_golds": 4, "dose": 0.5, "alpha": 0.05, **bad})
