"""What an audit can see, known before any unlearned system is read: its power, and what would sharpen it."""

from __future__ import annotations

import numpy as np

from auditkit.linear import LinearAttack
from auditkit.record import Settle
from auditkit.statistics.dose import bridge_error
from auditkit.statistics.power import detection_power, what_would_settle
from auditkit.yardstick import Yardstick


def power_at_half(yardstick: Yardstick) -> float:
    """Probability that one run that holds half of the units is found: lower bound of its level above 0.

    From the scatter of Golds and originals and the line's bridge. The line's slope at one half is 1, so the straight
    line serves.

    Returns:
        In [0, 1]; 0 where the original itself is not found.
    """
    if not yardstick.power:
        return 0.0
    scale = yardstick.scale(yardstick.scores.level, yardstick.judged)
    n = len(scale.golds)
    further = np.hypot(0.5 * scale.gap_error, bridge_error(yardstick.bridges[0], 0.5)) / np.sqrt(1 + 1 / n)
    return detection_power(float(np.hypot(scale.sd_golds, further)), n, 0.5, yardstick.rules.alpha)


def settle(yardstick: Yardstick, runs: int = 1) -> Settle | None:
    """What would make the margin attainable, each remedy alone.

    Args:
        yardstick: of the primary attack.
        runs: of the method under test.

    Returns:
        None where the margin is attainable already, or where no system could PASS at any margin (no power, no pattern,
        an original that spreads no wider than Golds). References are None also for an attack whose weights are not the
        linear score of references.
    """
    null, attainable, rules = yardstick.null_readings, yardstick.attainable, yardstick.rules
    if null is None or attainable is None or attainable <= rules.margin:
        return None
    attack, background = yardstick.attack, yardstick.background
    n_units, n_references = int(yardstick.judged.sum()), len(background.rows("reference"))
    found = what_would_settle(
        *null, rules.margin, alpha=rules.alpha, rng=np.random.default_rng(rules.seed), n_units=n_units,
        weight_noise=attack.weight_noise(background) if isinstance(attack, LinearAttack) else None,
        n_references=n_references or None, runs=runs, bridges=yardstick.bridges,
    )  # fmt: skip
    n_golds = len(null[0])
    if found.golds == n_golds:
        # With so many runs, or within the error of the simulation, the audit as it stands is enough.
        return None
    return Settle(
        golds=found.golds, golds_now=n_golds, runs=found.runs, runs_now=runs, units=found.units, units_now=n_units,
        references=found.references, references_now=n_references, attainable=found.attainable,
        floor=found.floor if np.isfinite(found.floor) else None, note=found.note,
    )  # fmt: skip


def remedies(found: Settle) -> str:
    """One clause: what would settle an audit whose margin is not attainable, and what alone never could."""
    rows = (
        ("Golds", found.golds, found.golds_now), ("runs of the method", found.runs, found.runs_now),
        ("units in the request", found.units, found.units_now), ("references", found.references, found.references_now),
    )  # fmt: skip
    helping = [f"{needed:,} {name} (now {now:,})" for name, needed, now in rows if needed is not None]
    hopeless = [name for name, needed, _ in rows if needed is None]
    said = f"what would settle it: {', or '.join(helping)}" if helping else "no one change alone would settle it"
    return f"{said}; more {' or '.join(hopeless)} alone cannot" if helping and hopeless else said
