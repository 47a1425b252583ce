"""ROC curves, areas and true-positive rates, exact under ties, for independent and clustered units."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from auditkit.data.dataset import Floats, Ints
from auditkit.errors import ConfigurationError, DataError, NotApplicableError
from auditkit.statistics.intervals import (
    Interval,
    beta_bounds,
    clopper_pearson,
    dropped_note,
    flat,
    join_notes,
    satterthwaite,
    t_quantile,
)

# A standard error below 1e-12 is rounding, not spread.
_NO_VARIANCE = 1e-24


@dataclass(frozen=True, eq=False)
class Roc:
    """A receiver operating characteristic: at each threshold, score >= threshold counts as positive.

    Attributes:
        fpr, tpr: float64 [n_points], ascending from 0 to 1.
        thresholds: float64 [n_points], descending; the first is infinite by convention (nothing is positive).
    """

    fpr: Floats
    tpr: Floats
    thresholds: Floats

    def __len__(self) -> int:
        return len(self.fpr)

    def thin(self, max_points: int) -> Roc:
        """At most `max_points` of the points, for a drawing: both ends, half over log FPR, half over TPR.

        At FPR 0 and at every log-spaced FPR the point kept is the highest not above it: low rates stay exact.

        Raises:
            ConfigurationError: `max_points` is below 2.
        """
        if max_points < 2:
            raise ConfigurationError(f"max_points must be 2 or above (the two ends), got {max_points}")
        if len(self) <= max_points:
            return self
        by_fpr = max_points // 2 - 1
        lowest = float(self.fpr[self.fpr > 0][0])
        targets = np.append(0.0, np.geomspace(lowest, 1, max(by_fpr, 1))[:-1])[:by_fpr]
        at_fpr = np.searchsorted(self.fpr, targets, side="right") - 1
        at_tpr = np.searchsorted(self.tpr, np.linspace(0, 1, max_points - by_fpr)[1:-1])
        keep = np.unique(np.concatenate([[0, len(self) - 1], at_fpr, at_tpr]))
        return Roc(self.fpr[keep], self.tpr[keep], self.thresholds[keep])


def _ordered(values: ArrayLike, name: str) -> tuple[Floats, str]:
    """Values without NaN (infinite ones are kept: only order counts) and a note on what was dropped."""
    array = flat(values, name)
    missing = np.isnan(array)
    dropped = int(missing.sum())
    return (array[~missing] if dropped else array), dropped_note(dropped, name)


def _empty_note(positive: Floats, negative: Floats) -> str:
    names = [name for name, side in (("positive", positive), ("negative", negative)) if not len(side)]
    return f"no {' and no '.join(names)} scores" if names else ""


def _wins(scores: Floats, ordered: Floats) -> Ints:
    """Twice how many of `ordered` (ascending) lie below each score, ties counting one half. int64 [n]."""
    made: Ints = np.searchsorted(ordered, scores, side="left")
    made += np.searchsorted(ordered, scores, side="right")
    return made


def auc(positive: ArrayLike, negative: ArrayLike) -> float | None:
    """Area under the ROC curve: the chance that a positive scores above a negative, a tie counting one half.

    Equals the Mann-Whitney statistic U / (m n), computed in whole numbers: exact but for one division.

    Args:
        positive: float [m]; infinite values are ordered like others, NaN is dropped.
        negative: float [n], alike.

    Returns:
        In [0, 1]; None where a class is empty.
    """
    (above, _), (below, _) = _ordered(positive, "positive"), _ordered(negative, "negative")
    if _empty_note(above, below):
        return None
    # Sorted look-ups stay in cache: several times faster than those in random order.
    return int(_wins(np.sort(above), np.sort(below)).sum()) / (2 * len(above) * len(below))


def roc_curve(positive: ArrayLike, negative: ArrayLike) -> Roc:
    """All points of the ROC curve from (0, 0) to (1, 1); every block of tied scores is one step.

    Args:
        positive: float [m]; infinite values are ordered like others, NaN is dropped.
        negative: float [n], alike.

    Raises:
        NotApplicableError: a class is empty.
    """
    (above, _), (below, _) = _ordered(positive, "positive"), _ordered(negative, "negative")
    reason = _empty_note(above, below)
    if reason:
        raise NotApplicableError(f"a ROC curve needs scores of both classes, got {reason}")
    above, below = np.sort(above), np.sort(below)
    everything = np.sort(np.concatenate([above, below]))
    starts = np.flatnonzero(np.append(True, everything[1:] != everything[:-1]))
    levels = everything[starts][::-1]
    rates = [
        np.append(0.0, (len(side) - np.searchsorted(side, levels, side="left")) / len(side)) for side in (below, above)
    ]
    return Roc(rates[0], rates[1], np.append(np.inf, levels))


def _allowed(fpr: float, n: int) -> int:
    """The most false positives whose realised rate k / n is at most `fpr`, however fpr * n rounds."""
    allowed = min(math.floor(fpr * n) + 1, n)
    while allowed / n > fpr:
        allowed -= 1
    return allowed


def tpr_at_fpr(positive: ArrayLike, negative: ArrayLike, fpr: float, *, confidence: float = 0.95) -> Interval:
    """The largest true-positive rate at a threshold whose realised false-positive rate is never above `fpr`.

    Args:
        positive: float [m]; infinite values are ordered like others, NaN is dropped and counted.
        negative: float [n], alike.
        fpr: in [0, 1]; refused below 3 / n, where a rate rests on fewer than 3 negatives.
        confidence: in (0, 1); of the Clopper-Pearson interval, given the threshold and independent positives.

    Raises:
        ConfigurationError: fpr outside [0, 1].
    """
    if not 0 <= fpr <= 1:
        raise ConfigurationError(f"fpr must be in [0, 1], got {fpr}")
    (above, note), (below, other) = _ordered(positive, "positive"), _ordered(negative, "negative")
    note, n = join_notes(note, other), len(below)
    method = f"TPR at FPR <= {fpr:g}, Clopper-Pearson given the threshold"
    refused = _empty_note(above, below) or (
        f"FPR {fpr:g} is below 3/{n}: too few negatives to set the threshold" if fpr < 3 / n else ""
    )
    if refused:
        return Interval.without_ends(None, confidence, method, refused, note)
    allowed = _allowed(fpr, n)
    # Admissible thresholds lie above the (allowed + 1)-th largest negative; all allowed, none is too low.
    cut = float(np.partition(below, n - allowed - 1)[n - allowed - 1]) if allowed < n else None
    found, false = ((len(side) if cut is None else int((side > cut).sum())) for side in (above, below))
    made = clopper_pearson(found, len(above), confidence)
    realised = f"realised FPR {false}/{n}"
    return Interval(made.value, made.low, made.high, confidence, method, join_notes(realised, note))


def _auc_interval(
    value: float, variance: float, quantile: float, pairs: int, confidence: float, method: str, note: str
) -> Interval:
    """Wald interval of logit(AUC), or bounds from disjoint pairs where the variance vanishes.

    Of `pairs` disjoint pairs of a positive and a negative, each is an independent trial that succeeds with
    probability AUC. When the AUC is 0 or 1 every choice of pairs agrees, so that Clopper-Pearson is exact.
    """
    if variance > _NO_VARIANCE and 0 < value < 1:
        half = quantile * math.sqrt(variance) / (value * (1 - value))
        centre = float(special.logit(value))
        low, high = float(special.expit(centre - half)), float(special.expit(centre + half))
        return Interval(value, low, high, confidence, f"{method}, logit scale", note)
    low, high = beta_bounds(value * pairs, pairs, confidence)
    method = f"Clopper-Pearson over {pairs} disjoint pairs instead of {method}"
    return Interval(value, low, high, confidence, method, join_notes("the variance vanishes", note))


def auc_delong(positive: ArrayLike, negative: ArrayLike, confidence: float = 0.95) -> Interval:
    """AUC with DeLong's variance, for independent units (DeLong, DeLong and Clarke-Pearson 1988).

    Formula: var = var(V10) / m + var(V01) / n, where V10 of a positive is the share of negatives below it and
    V01 of a negative the share of positives above it (ties one half). Interval of logit(AUC) with a t
    quantile, Satterthwaite's degrees of freedom (the normal one is too narrow for a small class). Where the
    variance vanishes (AUC 0 or 1, constant scores), Clopper-Pearson bounds over min(m, n) disjoint pairs.

    Args:
        positive: float [m]; infinite values are ordered like others, NaN is dropped and counted.
        negative: float [n], alike.
        confidence: in (0, 1).

    Returns:
        Ends are None with fewer than 2 of a class, the value too where a class is empty.
    """
    (above, note), (below, other) = _ordered(positive, "positive"), _ordered(negative, "negative")
    note, method = join_notes(note, other), "AUC, DeLong"
    empty = _empty_note(above, below)
    if empty:
        return Interval.without_ends(None, confidence, method, empty, note)
    above, below = np.sort(above), np.sort(below)
    m, n = len(above), len(below)
    wins = _wins(above, below)
    value = int(wins.sum()) / (2 * m * n)
    if min(m, n) < 2:
        return Interval.without_ends(value, confidence, method, "variance needs 2 of each class", note)
    v10, v01 = wins / (2 * n), 1 - _wins(below, above) / (2 * m)
    s10, s01 = float(v10.var(ddof=1) / m), float(v01.var(ddof=1) / n)
    quantile = t_quantile(satterthwaite(s10, m, s01, n), confidence)
    return _auc_interval(value, s10 + s01, quantile, min(m, n), confidence, method, note)


def _placements(scores: Floats, others: Floats) -> Floats:
    """Share of `others` below each score, ties one half, in the order of `scores`."""
    order, placed = np.argsort(scores), np.empty(len(scores))
    placed[order] = _wins(scores[order], np.sort(others)) / (2 * len(others))
    return placed


def _labelled(scores: ArrayLike, clusters: ArrayLike, name: str) -> tuple[Floats, NDArray[np.generic], str]:
    array, labels = flat(scores, name), np.asarray(clusters)
    if labels.shape != array.shape:
        raise DataError(f"{name}_clusters must hold one label per score, got shapes {labels.shape} and {array.shape}")
    kept = ~np.isnan(array)
    return array[kept], labels[kept], dropped_note(int((~kept).sum()), name)


def auc_clustered(
    positive: ArrayLike,
    negative: ArrayLike,
    positive_clusters: ArrayLike,
    negative_clusters: ArrayLike,
    confidence: float = 0.95,
) -> Interval:
    """AUC with a variance over clusters, such as users (Obuchowski 1997); a cluster may hold both classes.

    Formula: var = S10 / M + S01 / N + 2 S11 / (M N), with M positives, N negatives, AUC A, and
        S10 = I10 / ((I10 - 1) M) * sum over clusters of (V10_i - m_i A)^2,
        S01 = I01 / ((I01 - 1) N) * sum over clusters of (V01_i - n_i A)^2,
        S11 = I / (I - 1) * sum over clusters of the products of both brackets,
    where V10_i and V01_i add up DeLong's components over the m_i positives and n_i negatives of cluster i,
    and I10, I01, I count the clusters with a positive, with a negative, with either. One unit per cluster
    gives DeLong's.

    Interval of logit(AUC), with a t quantile: Satterthwaite's degrees of freedom for S10 / M and S01 / N
    (of I10 - 1 and I01 - 1), at most I - 1. Where the variance vanishes, Clopper-Pearson bounds over
    min(I10, I01, I // 2) disjoint pairs of clusters.

    Args:
        positive: float [m]; infinite values are ordered like others, NaN is dropped and counted.
        negative: float [n], alike.
        positive_clusters: [m], a label per positive, such as its user.
        negative_clusters: [n], labels of the same kind; equal labels are one cluster.
        confidence: in (0, 1).

    Returns:
        Ends are None with fewer than 2 clusters of a class, the value too where a class is empty.

    Raises:
        DataError: a class has not one label per score.
    """
    above, of_above, note = _labelled(positive, positive_clusters, "positive")
    below, of_below, other = _labelled(negative, negative_clusters, "negative")
    note, method = join_notes(note, other), "AUC, Obuchowski's clustered variance"
    value = auc(above, below)
    if value is None:
        return Interval.without_ends(None, confidence, method, _empty_note(above, below), note)
    labels, codes = np.unique(np.concatenate([of_above, of_below]), return_inverse=True)
    code10, code01 = codes[: len(above)], codes[len(above) :]
    i10, i01, clusters = len(np.unique(code10)), len(np.unique(code01)), len(labels)
    if min(i10, i01) < 2:
        reason = f"variance needs 2 clusters of each class, got {i10} and {i01}"
        return Interval.without_ends(value, confidence, method, reason, note)
    v10 = np.bincount(code10, _placements(above, below) - value, clusters) / len(above)
    # Placements of negatives count the positives below them, V01 those above: hence value - (1 - placement).
    v01 = np.bincount(code01, 1 - _placements(below, above) - value, clusters) / len(below)
    s10, s01 = i10 / (i10 - 1) * float((v10**2).sum()), i01 / (i01 - 1) * float((v01**2).sum())
    variance = s10 + s01 + 2 * clusters / (clusters - 1) * float((v10 * v01).sum())
    degrees = min(satterthwaite(s10, i10, s01, i01), clusters - 1)
    quantile = t_quantile(degrees, confidence)
    pairs = min(i10, i01, clusters // 2)
    return _auc_interval(value, variance, quantile, pairs, confidence, method, note)
