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
    flat,
    join_notes,
    satterthwaite,
    t_quantile,
)
from auditkit.statistics.scores import ascending, cluster_codes, empty_note, in_order, labelled, two_classes, wins

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


def auc(positive: ArrayLike, negative: ArrayLike) -> float | None:
    """Area under the ROC curve: the chance that a positive scores above a negative, a tie counting one half.

    Equals the Mann-Whitney statistic U / (m n), computed in whole numbers: exact but for one division.

    Args:
        positive: float [m]; infinite values are ordered like others, NaN is dropped.
        negative: float [n], alike.

    Returns:
        In [0, 1]; None where a class is empty.
    """
    above, below, _ = two_classes(positive, negative)
    if empty_note(above, below):
        return None
    return int(wins(ascending(above), ascending(below)).sum()) / (2 * len(above) * len(below))


def roc_curve(positive: ArrayLike, negative: ArrayLike) -> Roc:
    """All points of the ROC curve from (0, 0) to (1, 1); every block of tied scores is one step.

    Args:
        positive: float [m]; infinite values are ordered like others, NaN is dropped.
        negative: float [n], alike.

    Raises:
        NotApplicableError: a class is empty.
    """
    above, below, _ = two_classes(positive, negative)
    reason = empty_note(above, below)
    if reason:
        raise NotApplicableError(f"a ROC curve needs scores of both classes, got {reason}")
    m, n = len(above), len(below)
    everything = np.concatenate([ascending(above), ascending(below)])
    # Stable on two ascending runs: one merge, linear.
    order = np.argsort(everything, kind="stable")
    everything = everything[order]
    # The last score of every block of ties but the highest; what is above it is positive at the next threshold.
    last = np.flatnonzero(everything[1:] != everything[:-1])
    passed = np.cumsum(order < m)[last]
    points = np.empty((3, len(last) + 2))
    points[:, 0], points[:, -1] = (0, 0, np.inf), (1, 1, everything[0])
    # Written from the end: blocks ascend in score, thresholds of the curve descend.
    fpr, tpr, thresholds = points[:, -2:0:-1]
    np.divide(passed + (n - 1) - last, n, out=fpr)
    np.divide(m - passed, m, out=tpr)
    thresholds[:] = everything[1:][last]
    return Roc(*points)


def allowed_false_positives(fpr: float, n: int) -> int:
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
    above, below, note = two_classes(positive, negative)
    n = len(below)
    method = f"TPR at FPR <= {fpr:g}, Clopper-Pearson given the threshold"
    refused = empty_note(above, below) or (
        f"FPR {fpr:g} is below 3/{n}: too few negatives to set the threshold" if fpr < 3 / n else ""
    )
    if refused:
        return Interval.without_ends(None, confidence, method, refused, note)
    allowed = allowed_false_positives(fpr, n)
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
    above, below, note = two_classes(positive, negative)
    method, empty = "AUC, DeLong", empty_note(above, below)
    if empty:
        return Interval.without_ends(None, confidence, method, empty, note)
    above, below = ascending(above), ascending(below)
    m, n = len(above), len(below)
    won = wins(above, below)
    value = int(won.sum()) / (2 * m * n)
    if min(m, n) < 2:
        return Interval.without_ends(value, confidence, method, "variance needs 2 of each class", note)
    v10, v01 = won / (2 * n), 1 - wins(below, above) / (2 * m)
    s10, s01 = float(v10.var(ddof=1) / m), float(v01.var(ddof=1) / n)
    quantile = t_quantile(satterthwaite(s10, m, s01, n), confidence)
    return _auc_interval(value, s10 + s01, quantile, min(m, n), confidence, method, note)


@dataclass(frozen=True)
class _ClusteredVariance:
    """Obuchowski's variance of an AUC, or of a difference of two, from clusters of its components."""

    value: float
    degrees: float
    pairs: int


def _clustered_variance(v10: Floats, v01: Floats, of_positive: Ints, of_negative: Ints) -> _ClusteredVariance | str:
    """From components less their mean, float64 [m] and [n], and cluster codes alike; else why there is none."""
    clusters = max(int(of_positive.max()), int(of_negative.max())) + 1
    i10, i01 = (int(np.count_nonzero(np.bincount(codes))) for codes in (of_positive, of_negative))
    if min(i10, i01) < 2:
        return f"variance needs 2 clusters of each class, got {i10} and {i01}"
    a = np.bincount(of_positive, v10, clusters) / len(v10)
    b = np.bincount(of_negative, v01, clusters) / len(v01)
    s10, s01 = i10 / (i10 - 1) * float((a**2).sum()), i01 / (i01 - 1) * float((b**2).sum())
    variance = s10 + s01 + 2 * clusters / (clusters - 1) * float((a * b).sum())
    degrees = min(satterthwaite(s10, i10, s01, i01), clusters - 1)
    return _ClusteredVariance(variance, degrees, min(i10, i01, clusters // 2))


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
    above, of_above, note = labelled(positive, positive_clusters, "positive")
    below, of_below, other = labelled(negative, negative_clusters, "negative")
    note, method = join_notes(note, other), "AUC, Obuchowski's clustered variance"
    empty = empty_note(above, below)
    if empty:
        return Interval.without_ends(None, confidence, method, empty, note)
    (above, of_above), (below, of_below) = in_order(above, of_above), in_order(below, of_below)
    m, n = len(above), len(below)
    won = wins(above, below)
    value = int(won.sum()) / (2 * m * n)
    code10, code01, _ = cluster_codes(of_above, of_below)
    # Wins of a negative count the positives below it, V01 those above: hence 1 - its share of wins.
    found = _clustered_variance(won / (2 * n) - value, 1 - wins(below, above) / (2 * m) - value, code10, code01)
    if isinstance(found, str):
        return Interval.without_ends(value, confidence, method, found, note)
    quantile = t_quantile(found.degrees, confidence)
    return _auc_interval(value, found.value, quantile, found.pairs, confidence, method, note)


@dataclass(frozen=True, eq=False)
class _Paired:
    """Two scores of the same units of one class, without the units that lack one, and their clusters' labels."""

    a: Floats
    b: Floats
    labels: NDArray[np.generic]
    note: str


def _paired(a: ArrayLike, b: ArrayLike, clusters: ArrayLike | None, name: str, first: int) -> _Paired:
    """`first`: the label of the first unit where every unit is its own cluster."""
    mine, theirs = flat(a, f"{name}_a"), flat(b, f"{name}_b")
    if mine.shape != theirs.shape:
        raise DataError(f"{name}_a and {name}_b must score the same units, got {len(mine)} and {len(theirs)}")
    labels = np.arange(first, first + len(mine)) if clusters is None else np.asarray(clusters)
    if labels.shape != mine.shape:
        raise DataError(f"{name}_clusters must hold one label per unit, got shapes {labels.shape} and {mine.shape}")
    kept = ~(np.isnan(mine) | np.isnan(theirs))
    missing = len(mine) - int(kept.sum())
    note = f"{missing} with a NaN dropped from {name}" if missing else ""
    return _Paired(mine[kept], theirs[kept], labels[kept], note)


def _components(positive: Floats, negative: Floats) -> tuple[int, Floats, Floats]:
    """Twice the won pairs, and DeLong's V10 and V01 in the order given."""
    won = wins(positive, np.sort(negative))
    lost = wins(negative, np.sort(positive))
    return int(won.sum()), won / (2 * len(negative)), 1 - lost / (2 * len(positive))


def auc_difference(
    positive_a: ArrayLike,
    negative_a: ArrayLike,
    positive_b: ArrayLike,
    negative_b: ArrayLike,
    *,
    positive_clusters: ArrayLike | None = None,
    negative_clusters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Interval:
    """AUC of score a less AUC of score b on the same units (DeLong, DeLong and Clarke-Pearson 1988).

    Formula: DeLong's variance with V10_a - V10_b and V01_a - V01_b as components, which is var_a + var_b -
    2 cov; with clusters, Obuchowski's (1997) of the same components. Wald interval with a t quantile on
    Satterthwaite's degrees of freedom, cut to [-1, 1].

    Args:
        positive_a, positive_b: float [m], both scores of the same positives; infinite values are ordered like
            others, a unit with a NaN in either is dropped and counted.
        negative_a, negative_b: float [n], alike.
        positive_clusters, negative_clusters: [m] and [n] labels, such as users, equal labels being one cluster;
            both or neither. Without them every unit is its own.
        confidence: in (0, 1).

    Returns:
        Ends are None with fewer than 2 units (clusters) of a class, and where the variance vanishes because
        both scores order all pairs alike; the value too where a class is empty.

    Raises:
        ConfigurationError: clusters of one class only.
        DataError: a class has not one score of each kind, or not one label, per unit.
    """
    if (positive_clusters is None) != (negative_clusters is None):
        raise ConfigurationError("positive_clusters and negative_clusters go together: give both or neither")
    above = _paired(positive_a, positive_b, positive_clusters, "positive", 0)
    below = _paired(negative_a, negative_b, negative_clusters, "negative", len(flat(positive_a, "positive_a")))
    note, method = join_notes(above.note, below.note), "AUC difference, paired DeLong"
    if positive_clusters is not None:
        method += ", Obuchowski's clustered variance"
    empty = empty_note(above.a, below.a)
    if empty:
        return Interval.without_ends(None, confidence, method, empty, note)
    won_a, v10_a, v01_a = _components(above.a, below.a)
    won_b, v10_b, v01_b = _components(above.b, below.b)
    value = (won_a - won_b) / (2 * len(v10_a) * len(v01_a))
    code10, code01, _ = cluster_codes(above.labels, below.labels)
    found = _clustered_variance(v10_a - v10_b - value, v01_a - v01_b - value, code10, code01)
    if isinstance(found, str):
        return Interval.without_ends(value, confidence, method, found, note)
    if found.value <= _NO_VARIANCE:
        reason = "the variance vanishes: both scores order the pairs alike"
        return Interval.without_ends(value, confidence, method, reason, note)
    half = t_quantile(found.degrees, confidence) * math.sqrt(found.value)
    return Interval(value, max(value - half, -1.0), min(value + half, 1.0), confidence, method, note)
