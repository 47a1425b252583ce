"""Studies on a whole pool: references in and out of sample, what varies together, spread's sizes, per-unit p-values."""

from __future__ import annotations

from typing import Any

import numpy as np

from auditkit.contracts import Scores
from auditkit.crossing import read_ladder, score_targets
from auditkit.data.dataset import Bools, Floats
from auditkit.plan import SIZES
from auditkit.statistics.dose import SpreadScale
from auditkit.statistics.units import unit_p_values
from auditkit.yardstick import calibrate
from benchmarks.calibration.audits import draw, rules_of
from benchmarks.calibration.candidates import Candidate
from benchmarks.calibration.pools import Pool

# Golds under test of one draw of the Golds that they are compared with: more tell little new of that draw.
_FRESH = 12


def _slope(doses: Floats, readings: Floats) -> float:
    known = np.isfinite(doses) & np.isfinite(readings)
    return float(np.polyfit(doses[known], readings[known], 1)[0]) if known.sum() > 2 else float("nan")


def reference_slopes(pool: Pool, profile: str, audits: int, primary: Candidate) -> dict[str, Any]:
    """Slope of reading on effective dose of references: each read without itself, and by weights it was fitted in."""
    attack = primary.attack
    without, within = [], []
    for seed in range(audits):
        drawn = draw(pool, profile, np.random.default_rng([seed, 17]))
        yardstick = calibrate(attack, drawn.background, rules_of(pool, profile, primary))
        ladder = read_ladder(attack, drawn.background, yardstick.judged)
        doses = np.array([r.level_dose for r in ladder])
        without.append(_slope(doses, np.array([r.level for r in ladder])))
        rows = drawn.background.rows("reference")
        own = score_targets(attack, drawn.background.take(rows), drawn.background).level[:, yardstick.judged]
        within.append(_slope(doses, yardstick.scale(yardstick.scores.level, yardstick.judged).dose(own)))
    return {
        "world": pool.world.name, "profile": profile, "left out": float(np.mean(without)),
        "in sample": float(np.mean(within)),
    }  # fmt: skip


def _unit_scores(pool: Pool, profile: str, seed: int, primary: Candidate) -> tuple[Scores, Bools]:
    """Scores of all Golds of the pool under one draw of references, and which units have one."""
    attack = primary.attack
    background = draw(pool, profile, np.random.default_rng([seed, 23])).background
    scores = score_targets(attack, pool.evidence.take(pool.group("gold")), background)
    return scores, np.asarray(np.isfinite(scores.level).all(0))


def dependence(pool: Pool, primary: Candidate, profile: str = "standard") -> dict[str, Any]:
    """Variance of the level over Golds, beside what independent units and independent probe points would give."""
    attack = primary.attack
    background = draw(pool, profile, np.random.default_rng(29)).background
    golds = pool.evidence.take(pool.group("gold"))
    scores = score_targets(attack, golds, background)
    known = np.isfinite(scores.level).all(0)
    units = scores.level[:, known] - scores.level[:, known].mean(0)
    fitted, usable = attack.fit(background)
    reading = golds.readings[attack.probes[0]]
    points = fitted.weights()[usable] * attack.values(reading, background)[:, usable]
    points = points - points.mean(0)
    actual = float(units.sum(1).var(ddof=1))
    return {
        "world": pool.world.name, "units": int(known.sum()), "points": int(usable.sum()),
        "actual / units": actual / float(units.var(0, ddof=1).sum()),
        "actual / points": actual / float(points.var(0, ddof=1).sum()),
    }  # fmt: skip


def spread_sizes(pool: Pool, golds: int, primary: Candidate, draws: int = 400) -> dict[str, Any]:
    """Mean squares of a Gold left out and of a fresh one after the size correction, and upper 5% rejections."""
    scores, known = _unit_scores(pool, "standard", 0, primary)
    values, rng = scores.level[:, known], np.random.default_rng(31)
    original = score_targets(
        primary.attack, pool.evidence.take(pool.group("original")),
        draw(pool, "standard", np.random.default_rng([0, 23])).background,
    ).level[:, known]  # fmt: skip
    ratio, rejected = [], []
    for _ in range(draws):
        rows = rng.permutation(len(values))
        scale = SpreadScale(values[rows[:golds]], original[:2])
        fresh = values[rows[golds : golds + 4]]
        ratio.append([np.exp(scale.gold_logs).mean(), scale.variance(fresh).mean()])
        rejected += [scale.read(one[None]).bounds(0.05)[0] > 0 for one in fresh]
    left_out, new = np.mean(ratio, 0)
    return {
        "world": pool.world.name, "Golds": golds, "left out / fresh": float(left_out / new),
        "rejected above at 5%": float(np.mean(rejected)),
    }  # fmt: skip


def unit_tests(pool: Pool, profile: str, primary: Candidate, audits: int = 40) -> dict[str, Any]:
    """Per-unit p-values of fresh Golds: shares at .05 and .001, for both kinds, and false discoveries."""
    golds = SIZES[profile][0]
    small, tiny, conformal, audits_with_any = [], [], [], []
    for seed in range(audits):
        scores, known = _unit_scores(pool, profile, seed, primary)
        rows = np.random.default_rng([seed, 37]).permutation(len(scores.level))
        own = scores.level[rows[:golds]][:, known]
        for fresh in rows[golds : golds + _FRESH]:
            tests = unit_p_values(scores.level[fresh : fresh + 1][:, known], own)
            small.append((tests.p <= 0.05).mean())
            tiny.append((tests.p <= 0.001).mean())
            conformal.append((tests.conformal_p <= 0.05).mean())
            audits_with_any.append(bool((tests.q <= 0.05).any()))
    return {
        "world": pool.world.name, "profile": profile, "units": int(known.sum()), "p <= .05": float(np.mean(small)),
        "p <= .001": float(np.mean(tiny)), "conformal <= .05": float(np.mean(conformal)),
        "audits with a false discovery at q .05": float(np.mean(audits_with_any)),
        "floor": float(np.asarray(tests.floor)),
    }  # fmt: skip
