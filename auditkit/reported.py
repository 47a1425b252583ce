"""Readings as the Record reports them: doses with their intervals, AUC and TPR at low FPR."""

from __future__ import annotations

import numpy as np

from auditkit.data.dataset import Floats, Ints
from auditkit.record import Estimate
from auditkit.statistics.dose import Reading, SpreadReading
from auditkit.statistics.intervals import Interval
from auditkit.statistics.roc import auc_clustered, tpr_at_fpr

_FPRS = (0.01, 0.001)


def reported_interval(interval: Interval, **more: object) -> Estimate:
    """An interval of the statistics as an estimate of the Record."""
    kept = {
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
        "confidence": interval.confidence,
    }
    return Estimate.model_validate({**kept, "method": interval.method, "note": interval.note, **more})


def finite(value: float) -> float | None:
    """The value, or None where there is none."""
    return float(value) if np.isfinite(value) else None


def dose_estimate(
    reading: Reading | SpreadReading | None, alpha: float, runs: int, method: str, absent: str
) -> Estimate:
    """A reading with its two one-sided 1 - alpha bounds; without one, the reason."""
    if reading is None:
        return Estimate(note=absent)
    low, high = reading.bounds(alpha)
    return Estimate(
        value=finite(reading.value), low=finite(low), high=finite(high), confidence=1 - 2 * alpha,
        method=method, n_systems=runs,
    )  # fmt: skip


def separation(runs: Floats, golds: Floats, clusters: Ints, confidence: float) -> dict[str, object]:
    """AUC and TPR at low FPR of a system's unit scores against the Golds', as fields of a finding.

    Args:
        runs: float64 [R, n_units], the system's runs.
        golds: float64 [S, n_units].
        clusters: int64 [n_units], units that vary together.
        confidence: of the intervals.
    """
    positive, negative = runs.mean(0), golds.ravel()
    area = auc_clustered(positive, negative, clusters, np.tile(clusters, len(golds)), confidence)
    rates = {f"{f:g}": reported_interval(tpr_at_fpr(positive, negative, f, confidence=confidence)) for f in _FPRS}
    return {"auc": reported_interval(area, n_units=len(positive)), "tpr_at_fpr": rates}
