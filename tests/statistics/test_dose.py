from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats

from auditkit.data.dataset import Floats
from auditkit.statistics.dose import (
    FLOOR,
    DoseLine,
    LinearScale,
    Reading,
    SpreadScale,
    fit_line,
    standard_error,
)

seeds = st.integers(0, 2**32 - 1)


def systems(seed: int, n_golds: int = 5, n_originals: int = 2, n_units: int = 30) -> tuple[Floats, Floats]:
    """Unit scores of Golds and originals, whose gain differs from unit to unit."""
    rng = np.random.default_rng(seed)
    gain = rng.gamma(2.0, 1.0, n_units)
    return rng.standard_normal((n_golds, n_units)), gain + rng.standard_normal((n_originals, n_units))


# --- the linear scale -------------------------------------------------------------------------------------------


@given(seeds, st.integers(2, 9), st.integers(1, 4), st.integers(1, 40))
def test_mean_gold_is_0_and_mean_original_is_1(seed: int, n_golds: int, n_originals: int, n_units: int) -> None:
    golds, originals = systems(seed, n_golds, n_originals, n_units)
    scale = LinearScale(golds, originals)
    ends = scale.dose(np.stack([golds.mean(0), originals.mean(0)]))
    assert_allclose(ends, [0, 1], atol=1e-9)
    assert_allclose(scale.gold_doses.mean(), 0, atol=1e-9)


@given(seeds, st.floats(-3, 3))
def test_dose_is_linear_between_and_beyond(seed: int, share: float) -> None:
    golds, originals = systems(seed)
    mixed = (1 - share) * golds.mean(0) + share * originals.mean(0)
    assert_allclose(LinearScale(golds, originals).dose(mixed[None]), [share], atol=1e-9)


@given(seeds, st.floats(0.01, 100), st.floats(-50, 50))
def test_dose_does_not_depend_on_units_of_the_score(seed: int, factor: float, shift: float) -> None:
    golds, originals = systems(seed)
    target = np.random.default_rng(seed).standard_normal((1, 30))
    one = LinearScale(golds, originals)
    other = LinearScale(factor * golds + shift, factor * originals + shift)
    assert_allclose(other.dose(factor * target + shift), one.dose(target), rtol=1e-6, atol=1e-6)
    assert_allclose(other.sd_golds, one.sd_golds, rtol=1e-6)


def test_effective_dose_is_the_held_part_of_the_gain() -> None:
    golds, originals = systems(1)
    held = np.random.default_rng(2).random(30) < 0.3
    gain = originals.mean(0) - golds.mean(0)
    naive = sum(g for g, h in zip(gain, held, strict=True) if h) / sum(gain)
    scale = LinearScale(golds, originals)
    assert_allclose(scale.effective(held.astype(float)), naive)
    assert_allclose(scale.effective(np.ones(30)), 1)
    assert scale.effective(np.zeros(30)) == 0
    assert abs(naive - held.mean()) > 0.01  # the plain share of the units is another number


def test_equal_golds_read_an_exact_system_as_equal() -> None:
    """A deterministic procedure: no seed noise, and one in a million of the gap is told from none."""
    golds, originals = np.zeros((4, 25)), np.full((1, 25), 2.0)
    scale = LinearScale(golds, originals)
    assert scale.sd_golds == FLOOR
    exact, wrong = scale.read(golds[:1] + 1e-12), scale.read(golds[:1] + 2e-2)
    assert max(map(abs, exact.bounds(0.05))) < 1e-5
    assert exact.p_beyond(0.05) > 0.99
    assert wrong.bounds(0.05)[0] == pytest.approx(0.01, abs=1e-5)
    assert scale.power.bounds(0.05)[0] > 0.99


@pytest.mark.parametrize("gain", [0.0, -1.0], ids=["no gap", "negative gap"])
def test_without_a_gap_there_is_no_power_and_nothing_infinite(gain: float) -> None:
    golds = np.random.default_rng(0).standard_normal((4, 25))
    scale = LinearScale(golds, golds.mean(0)[None] + gain)
    assert scale.gap == pytest.approx(25 * gain, abs=1e-9)
    assert not scale.power.bounds(0.05)[0] > 0
    reading = scale.read(golds[:1])
    assert np.isfinite([reading.value, reading.error]).all()


def test_an_original_within_the_golds_scatter_has_no_power() -> None:
    golds = np.array([[-1.0], [1.0], [0.5], [-0.5]])
    assert LinearScale(golds, np.array([[1.0]])).power.bounds(0.05)[0] < 0
    assert LinearScale(golds, np.array([[10.0]])).power.bounds(0.05)[0] > 0


def test_effective_dose_without_a_gap_is_undefined() -> None:
    assert np.isnan(LinearScale(np.zeros((2, 3)), np.zeros((1, 3))).effective(np.ones(3)))


def test_one_unit_and_two_golds() -> None:
    scale = LinearScale(np.array([[0.0], [2.0]]), np.array([[11.0]]))
    reading = scale.read(np.array([[6.0]]))
    assert (scale.zero, scale.gap) == (1.0, 10.0)
    assert reading.value == 0.5
    assert reading.degrees == 1
    assert_allclose(reading.error, np.std([-0.1, 0.1], ddof=1) * np.sqrt(1.5))


def test_the_originals_own_noise_grows_with_the_dose() -> None:
    golds, originals = systems(3, n_originals=3)
    scale = LinearScale(golds, originals)
    gap_error = np.std(scale.dose(originals), ddof=1) / np.sqrt(3)
    at_zero, at_one = scale.read(golds.mean(0)[None]), scale.read(originals.mean(0)[None])
    assert_allclose(at_one.error**2, at_zero.error**2 + gap_error**2)
    assert LinearScale(golds, originals[:1]).gap_error == 0.0


# --- standard errors and bounds ---------------------------------------------------------------------------------


@given(st.floats(1e-3, 10), st.integers(2, 30))
def test_one_run_is_a_prediction(sd: float, n_golds: int) -> None:
    error, degrees = standard_error(sd, n_golds, np.array([0.3]))
    assert_allclose(error, sd * np.sqrt(1 + 1 / n_golds))
    assert degrees == n_golds - 1


@given(seeds, st.integers(2, 12), st.integers(2, 12))
def test_several_runs_are_welch_with_the_golds_scatter_as_floor(seed: int, n_golds: int, n_runs: int) -> None:
    rng = np.random.default_rng(seed)
    golds, runs = rng.standard_normal(n_golds), 0.4 + 2 * rng.standard_normal(n_runs)
    sd = float(golds.std(ddof=1))
    error, degrees = standard_error(sd, n_golds, runs)
    floored = max(runs.std(ddof=1), sd)
    oracle = stats.ttest_ind_from_stats(runs.mean(), floored, n_runs, golds.mean(), sd, n_golds, equal_var=False)
    assert_allclose((runs.mean() - golds.mean()) / error, oracle.statistic)
    assert degrees <= n_golds - 1
    if floored > sd:
        parts = floored**2 / n_runs, sd**2 / n_golds
        welch = sum(parts) ** 2 / (parts[0] ** 2 / (n_runs - 1) + parts[1] ** 2 / (n_golds - 1))
        assert_allclose(degrees, min(welch, n_golds - 1))


def test_equal_runs_count_as_scattered_like_golds() -> None:
    error, degrees = standard_error(0.3, 5, np.full(3, 0.1))
    assert_allclose([error, degrees], [0.3 * np.sqrt(1 / 3 + 1 / 5), 4])


def test_bounds_and_p_value_agree() -> None:
    """A one-sided bound touches a margin exactly where the p-value of lying beyond it is alpha."""
    reading = Reading(0.4, 0.1, 7)
    low, high = reading.bounds(0.05)
    assert_allclose(reading.p_beyond(low), 0.05)
    assert_allclose(Reading(-0.4, 0.1, 7).p_beyond(low), 0.05)
    assert_allclose(high - 0.4, 0.4 - low)
    assert_allclose(Reading(0.05, 0.1, 7).p_beyond(0.05), 0.5)


# --- level and spread of Gold against Golds: what the interval claims -------------------------------------------


@cache
def _gold_audits(n_golds: int, n_audits: int = 4_000, n_units: int = 40) -> tuple[Floats, Floats]:
    """t of the level and of log V for a fresh Gold in many audits of independent normal systems."""
    rng = np.random.default_rng(n_golds)
    level, spread = np.empty(n_audits), np.empty(n_audits)
    gain = rng.gamma(2.0, 1.0, n_units) * 4
    for k in range(n_audits):
        drawn = rng.standard_normal((n_golds + 2, n_units))
        golds, fresh, originals = drawn[:n_golds], drawn[-1:], drawn[-2:-1] + gain
        reading = LinearScale(golds, originals).read(fresh)
        level[k] = reading.value / reading.error
        scale = SpreadScale(golds, originals)
        spread_reading = scale.read(fresh)
        spread[k] = (spread_reading.log_variance - np.log(scale.gold)) / spread_reading.error
    return level, spread


@pytest.mark.parametrize("n_golds", [2, 4, 8, 20])
def test_two_sided_level_rejects_a_true_gold_one_time_in_twenty(n_golds: int) -> None:
    level, _ = _gold_audits(n_golds)
    rejected = (np.abs(level) > stats.t.isf(0.025, n_golds - 1)).mean()
    assert rejected == pytest.approx(0.05, abs=0.012)  # 3.5 standard errors of 4,000 audits


@pytest.mark.parametrize("n_golds", [4, 8, 20])
def test_corrected_spread_rejects_a_true_gold_about_one_time_in_twenty(n_golds: int) -> None:
    _, spread = _gold_audits(n_golds)
    t = stats.t.isf(0.05, n_golds - 1)
    assert 0.03 <= (spread > t).mean() <= 0.08
    assert 0.03 <= (spread < -t).mean() <= 0.08


@pytest.mark.parametrize("n_golds", [4, 8, 20])
def test_mean_squares_of_a_target_and_of_a_gold_left_out_agree(n_golds: int) -> None:
    rng = np.random.default_rng(n_golds)
    own, other = [], []
    for _ in range(1_500):
        drawn = rng.standard_normal((n_golds + 1, 40))
        scale = SpreadScale(drawn[:n_golds], drawn[-1:] + 9)
        own.append(np.exp(scale.gold_logs).mean())
        other.append(float(scale.variance(drawn[-1:])[0]))
    assert np.mean(own) / np.mean(other) == pytest.approx(1, abs=0.02)
    assert np.mean(other) == pytest.approx(1, abs=0.02)  # both estimate the variance of one system


@pytest.mark.parametrize("n_golds", [4, 8])
def test_uncorrected_squares_would_differ(n_golds: int) -> None:
    """The distance to the mean of the others is inflated by S/(S-1), that of a fresh system by 1 + 1/S."""
    rng = np.random.default_rng(0)
    golds = rng.standard_normal((2_000, n_golds, 40))
    fresh = rng.standard_normal((2_000, 40))
    others = (golds.sum(1, keepdims=True) - golds) / (n_golds - 1)
    assert ((golds - others) ** 2).mean() == pytest.approx(n_golds / (n_golds - 1), rel=0.02)
    assert ((fresh - golds.mean(1)) ** 2).mean() == pytest.approx(1 + 1 / n_golds, rel=0.02)


def test_left_out_gold_against_a_loop() -> None:
    golds, originals = systems(5, n_golds=6)
    naive = [np.log(((g - np.delete(golds, k, 0).mean(0)) ** 2).mean() * 5 / 6) for k, g in enumerate(golds)]
    assert_allclose(SpreadScale(golds, originals).gold_logs, naive)


@pytest.mark.parametrize("runs", [2, 3, 5])
def test_several_runs_never_reject_too_often(runs: int) -> None:
    rng = np.random.default_rng(runs)
    rejected = 0
    for _ in range(3_000):
        golds, fresh = rng.standard_normal((8, 10)), rng.standard_normal((runs, 10))
        reading = LinearScale(golds, np.full((1, 10), 5.0)).read(fresh)
        rejected += abs(reading.value / reading.error) > stats.t.isf(0.025, reading.degrees)
    assert 0.01 <= rejected / 3_000 <= 0.05


# --- the line from readings to doses ----------------------------------------------------------------------------


@given(st.floats(-0.9, 0.9), st.floats(-2, 3))
def test_a_reading_is_the_inverse_of_its_dose(curvature: float, reading: float) -> None:
    line = DoseLine(curvature)
    assert line.reading(line.dose(reading)) == pytest.approx(reading, abs=1e-7)
    assert line.dose(line.reading(reading)) == pytest.approx(reading, abs=1e-7)


@given(st.floats(-0.9, 0.9), st.lists(st.floats(-2, 3), min_size=2, max_size=20))
def test_line_rises_and_meets_its_ends(curvature: float, at: list[float]) -> None:
    line = DoseLine(curvature)
    assert line.dose(0) == 0
    assert line.dose(1) == pytest.approx(1)
    readings = sorted(at)
    doses = [line.dose(x) for x in readings]
    assert all(b >= a for a, b in pairwise(doses))
    assert all(line.slope(x) > 0.09 for x in readings)


@given(st.floats(-0.9, 0.9), st.sampled_from([0.0, 1.0]))
def test_line_is_continuous_with_its_slope_at_both_ends(curvature: float, end: float) -> None:
    line, step = DoseLine(curvature), 1e-7
    for side in (-step, step):
        assert line.dose(end + side) == pytest.approx(line.dose(end), abs=1e-6)
        assert (line.dose(end + side) - line.dose(end)) / side == pytest.approx(line.slope(end), abs=1e-4)


@given(st.floats(-0.9, 0.9), st.floats(-1, 2))
def test_slope_is_the_derivative(curvature: float, at: float) -> None:
    line, step = DoseLine(curvature), 1e-6
    assert (line.dose(at + step) - line.dose(at - step)) / (2 * step) == pytest.approx(line.slope(at), abs=1e-4)


@given(st.floats(-0.8, 0.8), st.integers(3, 40), seeds)
def test_fit_recovers_a_planted_curvature(curvature: float, n: int, seed: int) -> None:
    readings = np.random.default_rng(seed).uniform(0.05, 0.95, n)
    line = fit_line(readings, np.array([DoseLine(curvature).dose(x) for x in readings]))
    assert_allclose(line.curvature, curvature, atol=1e-9)
    assert line.residual_sd == pytest.approx(0, abs=1e-9)
    assert line.n_references == n


def test_fit_with_noise_recovers_curvature_and_residual() -> None:
    rng = np.random.default_rng(0)
    readings = rng.uniform(0, 1, 2_000)
    doses = readings + 0.3 * readings * (1 - readings) + 0.02 * rng.standard_normal(2_000)
    line = fit_line(readings, doses)
    assert line.curvature == pytest.approx(0.3, abs=0.02)
    assert line.residual_sd == pytest.approx(0.02, rel=0.05)


def test_fit_is_least_squares() -> None:
    rng = np.random.default_rng(1)
    readings = rng.uniform(0.02, 0.98, 16)
    doses = readings + 0.2 * readings * (1 - readings) + 0.05 * rng.standard_normal(16)

    def squares(c: float) -> float:
        return float(sum((d - DoseLine(c).dose(e)) ** 2 for e, d in zip(readings, doses, strict=True)))

    fitted = fit_line(readings, doses).curvature
    assert squares(fitted) <= min(squares(fitted + 1e-4), squares(fitted - 1e-4))


def test_fit_leaves_nan_out_and_needs_three() -> None:
    readings, doses = np.array([0.2, np.nan, 0.5, 0.8]), np.array([0.2, 0.3, np.nan, 0.8])
    assert fit_line(readings, doses) == DoseLine(n_references=2)
    assert fit_line(np.array([0.2, np.nan, 0.5, 0.8]), np.array([0.2, 0.3, 0.5, 0.8])).n_references == 3


def test_fit_cannot_turn_the_line_round() -> None:
    assert fit_line(np.full(5, 0.5), np.full(5, 3.0)).curvature == 0.9
    assert fit_line(np.full(5, 0.5), np.full(5, -3.0)).curvature == -0.9


def test_mapped_error_follows_the_slope() -> None:
    mapped = DoseLine(0.4).map(Reading(0.25, 0.02, 7))
    assert_allclose([mapped.value, mapped.error, mapped.degrees], [0.25 + 0.4 * 0.1875, 0.02 * 1.2, 7])


# --- coverage -----------------------------------------------------------------------------------------------------


def test_interval_covers_the_effective_dose_of_half_holding_systems() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(1_500):
        gain = 4 * rng.gamma(2.0, 1.0, 30)
        golds, noise = rng.standard_normal((8, 30)), rng.standard_normal(30)
        held = (rng.random(30) < 0.4).astype(float)
        scale = LinearScale(golds, gain + 0.01 * rng.standard_normal((2, 30)))
        low, high = scale.read((gain * held + noise)[None]).bounds(0.05)
        covered += low <= scale.effective(held) <= high
    # The effective share is read off noisy gains, which costs a little.
    assert 0.85 <= covered / 1_500 <= 0.95
