"""The linear score of references with and without a unit, for every attack that reads one signal at points."""

from __future__ import annotations

from auditkit.contracts import Probe, Scores
from auditkit.data.dataset import Bools, Floats
from auditkit.evidence import Evidence, Reading, Targets
from auditkit.statistics.likelihood import InOut, fit_in_out


def fit_references(probe: Probe, signal: str, background: Evidence) -> tuple[InOut, Bools]:
    """Gaussians of the background's references at each point, and which points carry a contrast, bool [n_points]."""
    reading, references = background.readings[probe], background.rows("reference")
    fitted = fit_in_out(reading.values[signal][references], background.held[references][:, reading.unit])
    return fitted, fitted.usable


def summed(reading: Reading, values: Floats, usable: Bools) -> Floats:
    """Sums over each unit's usable points, float64 [n_systems, n_units]; NaN for units without one."""
    part = Reading(reading.points[usable], {}, reading.n_units)
    return part.sums(values[:, usable])


def linear_scores(probe: Probe, signal: str, targets: Targets, background: Evidence) -> Scores:
    """Level and pattern of the linear score; weights come from the background's references alone."""
    fitted, usable = fit_references(probe, signal, background)
    reading = targets.readings[probe]
    weights = fitted.weights()
    centred = reading.values[signal] - fitted.middle()
    # Written so that a point without weight never carries a target's NaN into a unit that has other points.
    pattern_weights = weights - weights[usable].mean() if usable.any() else weights
    return Scores(
        summed(reading, weights * centred, usable),
        summed(reading, pattern_weights * centred, usable),
        int(usable.sum()),
    )
