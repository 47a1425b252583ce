from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats

from auditkit.data.dataset import Floats
from auditkit.statistics.dose import LinearScale, SpreadScale, attainable_margin

from .test_dose import systems


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
