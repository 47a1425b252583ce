"""The bridge: how far systems of a known dose scatter about the calibration line beyond what their seeds explain."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from auditkit.statistics.dose import DoseLine, Reading, bridge_error, fit_line


def test_the_bridge_is_added_between_gold_and_original_only() -> None:
    line = DoseLine(0.0, bridge=0.04)
    errors = [line.map(Reading(value, 0.03, 7)).error for value in (0.0, 1.0, 0.5, -0.5)]
    assert_allclose(errors, [0.03, 0.03, np.hypot(0.03, 0.1), np.hypot(0.03, 0.2 * np.sqrt(0.75))])
    assert_allclose(bridge_error(np.array([0.04, 0.0]), np.array([0.5, 0.5])), [0.1, 0.0])


def bridged(rng: np.random.Generator, n: int, bridge: float, sd: float) -> tuple[np.ndarray, np.ndarray]:
    """Readings and doses of n systems that scatter about the line by seeds and by what they hold."""
    doses = rng.uniform(0.02, 0.98, n)
    return doses + np.hypot(sd, np.sqrt(bridge * doses * (1 - doses))) * rng.standard_normal(n), doses


@pytest.mark.parametrize(("bridge", "sd"), [(0.01, 0.02), (0.001, 0.02), (0.01, 0.0)])
def test_fit_recovers_a_planted_bridge_beyond_the_seed_noise(bridge: float, sd: float) -> None:
    readings, doses = bridged(np.random.default_rng(2), 20_000, bridge, sd)
    found = fit_line(readings, doses, np.full(20_000, sd))
    assert found.bridge == pytest.approx(bridge, rel=0.08)


def test_a_bridge_is_what_the_seeds_do_not_explain() -> None:
    """By hand: residuals of .1 about a straight line, errors of .05 known from 7 degrees of freedom."""
    doses = np.tile([0.2, 0.4, 0.6, 0.8], 4)
    readings = doses + 0.1 * np.repeat([1, -1, -1, 1], 4)
    found = fit_line(readings, doses, np.full(16, 0.05), 7)
    slopes = np.array([found.slope(x) for x in readings])
    residuals = doses - np.array([found.dose(x) for x in readings])
    explained = stats.f.ppf(0.9, 15, 7) * np.mean((0.05 * slopes) ** 2)
    assert found.bridge == pytest.approx((np.sum(residuals**2) / 15 - explained) / 0.2)
    assert found.bridge > 0
    assert fit_line(readings, doses, np.full(16, 0.08), 7).bridge == 0


def test_seed_noise_alone_makes_no_bridge() -> None:
    readings, doses = bridged(np.random.default_rng(3), 20_000, 0.0, 0.03)
    assert fit_line(readings, doses, np.full(20_000, 0.03)).bridge < 1e-4
    assert fit_line(readings, doses, np.full(20_000, 0.1)).bridge == 0
    assert fit_line(np.array([0.0, 1.0, 1.1]), np.array([0.0, 1.0, 1.0])).bridge == 0


def test_intervals_with_the_bridge_cover_systems_without_seed_noise() -> None:
    """A deterministic procedure: the seeds alone promise an interval of no width."""
    rng, covered, naive = np.random.default_rng(4), [], []
    for _ in range(200):
        line = fit_line(*bridged(rng, 32, 0.004, 0.0), np.full(32, 1e-6))
        for reading, dose in zip(*bridged(rng, 10, 0.004, 0.0), strict=True):
            low, high = line.map(Reading(reading, 1e-6, 7)).bounds(0.025)
            covered.append(low <= dose <= high)
            low, high = Reading(line.dose(reading), 1e-6, 7).bounds(0.025)
            naive.append(low <= dose <= high)
    assert np.mean(covered) > 0.93
    assert np.mean(naive) < 0.05
