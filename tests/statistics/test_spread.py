"""Spread: its scale, its interval, its curve, and where it is not read."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from auditkit.data.dataset import Floats
from auditkit.statistics.dose import DoseLine, SpreadScale, fit_line

from .test_dose import systems


def test_spread_is_0_for_gold_and_1_for_the_original() -> None:
    golds, originals = systems(7, n_golds=20, n_originals=1, n_units=400)
    scale = SpreadScale(golds, originals)
    assert_allclose(scale.read(originals).value, 1)
    assert_allclose(scale.rho(np.log(scale.gold)), 0, atol=1e-12)
    assert abs(scale.read(np.random.default_rng(1).standard_normal((1, 400))).value) < 0.05


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_spread_of_a_system_that_keeps_a_share_of_the_units_reads_the_share(share: float) -> None:
    rng = np.random.default_rng(8)
    gain = np.full(4_000, 3.0)
    golds = rng.standard_normal((8, 4_000))
    originals, kept = gain + rng.standard_normal((1, 4_000)), gain * (rng.random(4_000) < share)
    target = kept + rng.standard_normal(4_000)
    assert SpreadScale(golds, originals).read(target[None]).value == pytest.approx(share, abs=0.03)


def test_spread_interval_is_a_t_interval_of_log_v() -> None:
    golds, originals = systems(9, n_golds=6)
    scale = SpreadScale(golds, originals)
    reading = scale.read(originals[:1] * 0.4)
    half = stats.t.isf(0.05, 5) * np.std(scale.gold_logs, ddof=1) * np.sqrt(7 / 6)
    v = float(scale.variance(originals[:1] * 0.4)[0])
    expected = [(v * np.exp(s * half) - scale.gold) / (scale.original - scale.gold) for s in (-1, 1)]
    assert_allclose(reading.bounds(0.05), expected)
    assert_allclose(reading.p_beyond(reading.bounds(0.05)[0]), 0.05)


def test_equal_golds_and_an_exact_system_spread_nothing() -> None:
    scale = SpreadScale(np.zeros((4, 30)), np.full((1, 30), 3.0))
    exact = scale.read(np.full((1, 30), 1e-9))
    assert exact.value == pytest.approx(0, abs=1e-9)
    assert exact.bounds(0.05)[1] < 1e-6
    assert exact.p_beyond(0.05) > 0.99
    assert scale.read(np.full((1, 30), 3.0)).value == pytest.approx(1)


def test_an_original_no_wider_than_gold_gives_no_spread() -> None:
    golds = np.random.default_rng(0).standard_normal((5, 30))
    assert np.isnan(SpreadScale(golds, golds.mean(0)[None]).read(golds[:1]).value)


def _carried_along(rng: np.random.Generator, held: Floats, gain: Floats, along: float) -> Floats:
    """Scores without seed noise: a unit that is held reads its gain, and moves all others a little."""
    return np.asarray(held * gain + along * (held * gain).mean(-1, keepdims=True))


def _spread_audit(rng: np.random.Generator, along: float) -> tuple[SpreadScale, SpreadScale, Floats, Floats]:
    """The scale without and with a curve fitted on 32 references, and fresh systems with the share each holds."""
    gain = rng.gamma(2.0, 1.0, 200)
    golds = 1e-3 * rng.standard_normal((8, 200))
    originals = _carried_along(rng, np.ones((2, 200)), gain, along)
    straight = SpreadScale(golds, originals)

    def drawn(shares: Floats) -> tuple[Floats, Floats]:
        held = (rng.random((len(shares), 200)) < shares[:, None]).astype(np.float64)
        return _carried_along(rng, held, gain, along), np.array([straight.effective(h) for h in held])

    references, doses = drawn((np.arange(32) + 0.5) / 32)
    read = [straight.read(r[None]) for r in references]
    errors = [r.error * np.exp(r.log_variance) / straight.width for r in read]
    line = fit_line(np.array([r.value for r in read]), doses, np.array(errors), 7)
    return straight, SpreadScale(golds, originals, line), *drawn(np.array([0.05, 0.1, 0.2, 0.4, 0.7]))


def test_spread_where_units_move_one_another_is_read_on_its_curve() -> None:
    """Coverage of the share of squared gains that a system holds, by two-sided 95% intervals."""
    rng, counts = np.random.default_rng(4), {"straight": [0, 0], "curve": [0, 0]}
    for _ in range(60):
        straight, curved, systems_, shares = _spread_audit(rng, along=0.2)
        for name, scale in (("straight", straight), ("curve", curved)):
            for system, share in zip(systems_, shares, strict=True):
                low, high = scale.read(system[None]).bounds(0.025)
                counts[name][0] += low <= share <= high
                counts[name][1] += 1
    covered = {name: inside / total for name, (inside, total) in counts.items()}
    assert covered["straight"] < 0.8
    assert covered["curve"] >= 0.9


def test_a_spread_that_the_original_hardly_shows_would_fail_true_golds() -> None:
    """Originals that spread as Golds do: read wherever the ratio is finite, and only where the original stands out."""
    rng = np.random.default_rng(6)
    failed, shown, audits = 0, 0, 4_000
    failed_where_shown = 0
    for _ in range(audits):
        drawn = rng.standard_normal((11, 60))
        scale = SpreadScale(drawn[:8], drawn[8:10])
        reading = scale.read(drawn[10:])
        if np.isfinite(reading.value):
            fails = reading.p_beyond(0.25) < 0.025 / 3
            failed += fails
            shown += scale.shown(0.05)
            failed_where_shown += fails and scale.shown(0.05)
    assert failed / audits > 0.002
    assert shown / audits <= 0.06
    assert failed_where_shown / audits <= 0.001


def test_margins_of_the_spread_are_on_its_curve() -> None:
    golds, originals = systems(11, n_golds=6)
    scale = SpreadScale(golds, originals, DoseLine(curvature=0.4))
    target = originals[:1] * 0.5
    reading = scale.read(target)
    assert reading.value == pytest.approx(DoseLine(0.4).dose(SpreadScale(golds, originals).read(target).value))
    low, high = reading.bounds(0.05)
    assert low < reading.value < high
    assert_allclose(reading.p_beyond(low), 0.05)
