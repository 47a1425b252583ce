"""The ROC curve on a logarithmic axis, with its band, and where it cannot be measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from auditkit.data.dataset import Bools, Floats
from auditkit.errors import ConfigurationError, DataError, NotApplicableError
from auditkit.statistics.intervals import check_confidence, flat, lower_rate, upper_rate
from auditkit.statistics.roc import allowed_false_positives
from auditkit.statistics.scores import ascending, empty_note, two_classes

# Ten points a decade, down to what 100,000 negatives can show.
DEFAULT_FPRS = np.logspace(-5, 0, 51)


@dataclass(frozen=True, eq=False)
class RocBand:
    """True-positive rates at given false-positive rates, each with its own interval; NaN where not measured.

    Attributes:
        fpr: float64 [k], the rates asked for, ascending.
        tpr: float64 [k]; NaN where `measurable` is False.
        low, high: float64 [k], pointwise Clopper-Pearson ends given the threshold; NaN below 3 / n_negative, where the
            threshold rests on fewer than 3 negatives.
        realised: float64 [k], the share of negatives beyond the threshold, never above `fpr`.
        measurable: bool [k], False below 1 / n_negative: not one negative may be beyond the threshold.
        confidence: of each point, in (0, 1); no statement about all points at once.
        n_positive, n_negative: units.
        note: what was dropped.
    """

    fpr: Floats
    tpr: Floats
    low: Floats
    high: Floats
    realised: Floats
    measurable: Bools
    confidence: float
    n_positive: int
    n_negative: int
    note: str = ""


def _checked(fprs: ArrayLike) -> Floats:
    rates = flat(fprs, "fprs").copy()
    if not ((rates > 0) & (rates <= 1)).all():
        raise ConfigurationError(f"fprs must be in (0, 1], got {rates}; a log axis has no 0")
    if (np.diff(rates) <= 0).any():
        raise DataError(f"fprs must ascend, got {rates}")
    return rates


def roc_band(
    positive: ArrayLike, negative: ArrayLike, *, confidence: float = 0.95, fprs: ArrayLike = DEFAULT_FPRS
) -> RocBand:
    """`tpr_at_fpr` at many rates from one sort: the largest TPR whose realised FPR is never above the one asked for.

    Args:
        positive: float [m]; infinite values are ordered like others, NaN is dropped and counted.
        negative: float [n], alike.
        confidence: in (0, 1), of each point.
        fprs: float [k], in (0, 1], ascending.

    Raises:
        ConfigurationError: confidence or a rate outside its domain.
        DataError: the rates do not ascend.
        NotApplicableError: a class is empty.
    """
    check_confidence(confidence)
    rates = _checked(fprs)
    above, below, note = two_classes(positive, negative)
    reason = empty_note(above, below)
    if reason:
        raise NotApplicableError(f"a ROC curve needs scores of both classes, got {reason}")
    above, below, m, n = ascending(above), ascending(below), len(above), len(below)
    allowed = np.array([allowed_false_positives(rate, n) for rate in rates.tolist()], np.int64)
    # Admissible thresholds lie above the (allowed + 1)-th largest negative; all allowed, none is too low.
    cuts = np.where(allowed < n, below[np.maximum(n - allowed - 1, 0)], np.nan)
    found, false = (_beyond(side, cuts) for side in (above, below))
    measurable, banded, tail = rates >= 1 / n, rates >= 3 / n, (1 - confidence) / 2
    return RocBand(
        rates,
        np.where(measurable, found / m, np.nan),
        np.where(banded, lower_rate(found, m, tail), np.nan),
        np.where(banded, upper_rate(found, m, tail), np.nan),
        false / n,
        measurable,
        confidence,
        m,
        n,
        note,
    )


def _beyond(scores: Floats, cuts: Floats) -> Floats:
    """How many ascending scores lie above each cut; all where the cut is NaN."""
    found = len(scores) - np.searchsorted(scores, cuts, side="right")
    return np.where(np.isnan(cuts), len(scores), found).astype(np.float64)
