"""Lower bounds on differential-privacy parameters from how well membership was guessed.

(epsilon, delta)-differential privacy bounds every guesser: TPR <= e^epsilon FPR + delta, TNR <= e^epsilon FNR + delta
(Kairouz, Oh and Viswanath 2015). Turned round, a guesser that does better shows an epsilon that is at least so large.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from auditkit.data.dataset import Floats, Ints
from auditkit.errors import ConfigurationError
from auditkit.statistics.intervals import check_confidence, join_notes, upper_rate
from auditkit.statistics.roc import roc_curve
from auditkit.statistics.scores import cluster_codes, empty_note, labelled, two_classes

Direction = Literal["high", "low"]
# From counts of n to upper bounds of the rate.
Bound = Callable[[Ints, int], Floats]
# Counts at which a rate is bounded simultaneously grow by this factor; docstring of `epsilon_scan` says what was tried.
_GROWTH = 1.1
# Thresholds tried on the half that chooses; more would only choose among neighbours.
_CANDIDATES = 1000


@dataclass(frozen=True)
class EpsilonBound:
    """An epsilon that the guesses show to be exceeded; None where undefined, and then `note` says why.

    Attributes:
        value: epsilon is at least this, 0 or above; 0 shows nothing.
        resolution: the largest value that as many guesses could ever show, all of them right.
        delta: in [0, 1).
        confidence: one-sided, of "epsilon >= value".
        method: how threshold and rates were bounded.
        direction: `high` guesses "member" at or above the threshold, `low` at or below it; None for counts.
        threshold: infinite only where a score is; None for counts.
        false_positives, n_negative, true_positives, n_positive: the counts that `value` rests on.
        note: what was dropped, refused or could not be computed.
    """

    value: float | None
    resolution: float | None
    delta: float
    confidence: float
    method: str
    direction: Direction | None = None
    threshold: float | None = None
    false_positives: int = 0
    n_negative: int = 0
    true_positives: int = 0
    n_positive: int = 0
    note: str = ""


def _check(delta: float, confidence: float) -> None:
    check_confidence(confidence)
    if not 0 <= delta < 1:
        raise ConfigurationError(f"delta must be in [0, 1), got {delta}; 0 is pure differential privacy")


def check_counts(true_positives: int, n_positive: int, false_positives: int, n_negative: int) -> None:
    """Refuse counts of guesses that are no counts.

    Raises:
        ConfigurationError: more right or wrong guesses than units, or fewer than none.
    """
    if not 0 <= true_positives <= n_positive:
        raise ConfigurationError(f"true_positives must be in 0..n_positive, got {true_positives} of {n_positive}")
    if not 0 <= false_positives <= n_negative:
        raise ConfigurationError(f"false_positives must be in 0..n_negative, got {false_positives} of {n_negative}")


def _epsilon(fpr_high: Floats, fnr_high: Floats, delta: float) -> Floats:
    """What upper bounds of both error rates show, float64, not yet cut at 0; -inf where they show nothing."""
    ratio = np.maximum((1 - fnr_high - delta) / fpr_high, (1 - fpr_high - delta) / fnr_high)
    return np.log(ratio, out=np.full(np.shape(ratio), -np.inf), where=ratio > 0)


def _each(tail: float) -> Bound:
    """Clopper-Pearson at each count by itself."""
    return lambda counts, n: upper_rate(counts, n, tail)


def _resolution(n_positive: int, n_negative: int, bound: Bound, delta: float) -> float:
    none = np.zeros(1, np.int64)
    return max(float(_epsilon(bound(none, n_negative), bound(none, n_positive), delta)[0]), 0.0)


def epsilon_lower(
    true_positives: int,
    n_positive: int,
    false_positives: int,
    n_negative: int,
    *,
    delta: float = 0.0,
    confidence: float = 0.95,
) -> EpsilonBound:
    """The epsilon that guesses at a threshold fixed beforehand show (Jagielski, Ullman and Oprea 2020).

    Formula: log max((1 - FNR_hi - delta) / FPR_hi, (1 - FPR_hi - delta) / FNR_hi), at least 0, with one-sided
    Clopper-Pearson upper bounds at (1 - confidence) / 2 each, so that both hold together under any dependence
    between the classes. Units of a class must be independent. A threshold that was chosen on the same guesses
    breaks it: see `epsilon_split` and `epsilon_scan`.

    Args:
        true_positives: members that were guessed to be members, in 0..n_positive.
        n_positive: members.
        false_positives: others that were guessed to be members, in 0..n_negative.
        n_negative: others.
        delta: in [0, 1).
        confidence: in (0, 1), one-sided.

    Returns:
        `value` is None without members or without others.

    Raises:
        ConfigurationError: a number lies outside its domain.
    """
    _check(delta, confidence)
    check_counts(true_positives, n_positive, false_positives, n_negative)
    method, counts = "Clopper-Pearson, threshold fixed", (false_positives, n_negative, true_positives, n_positive)
    if min(n_positive, n_negative) == 0:
        return EpsilonBound(None, None, delta, confidence, method, None, None, *counts, note="no guesses in a class")
    bound = _each((1 - confidence) / 2)
    false, missed = np.array([false_positives]), np.array([n_positive - true_positives])
    value = max(float(_epsilon(bound(false, n_negative), bound(missed, n_positive), delta)[0]), 0.0)
    resolution = _resolution(n_positive, n_negative, bound, delta)
    return EpsilonBound(value, resolution, delta, confidence, method, None, None, *counts)


@dataclass(frozen=True)
class _Best:
    """The threshold of a curve at which the bounds show most."""

    value: float
    direction: Direction
    threshold: float
    false_positives: int
    true_positives: int


def _best(positive: Floats, negative: Floats, bound: Bound, delta: float, most: int | None = None) -> _Best:
    """Over all thresholds (at most `most`) and both directions; `bound` maps counts of n to upper rates."""
    m, n = len(positive), len(negative)
    found: list[_Best] = []
    directions: tuple[Direction, ...] = ("high", "low")
    for direction in directions:
        sign = 1 if direction == "high" else -1
        curve = roc_curve(sign * positive, sign * negative)
        curve = curve if most is None else curve.thin(most)
        # The first point guesses "member" for nobody, whatever its threshold: it shows nothing.
        false = np.rint(curve.fpr[1:] * n).astype(np.int64)
        true = np.rint(curve.tpr[1:] * m).astype(np.int64)
        shown = _epsilon(bound(false, n), bound(m - true, m), delta)
        k = int(np.argmax(shown))
        threshold = sign * float(curve.thresholds[k + 1])
        found.append(_Best(float(shown[k]), direction, threshold, int(false[k]), int(true[k])))
    return max(found, key=lambda best: best.value)


def _halves(codes10: Ints, codes01: Ints, clusters: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which clusters choose, bool [clusters]: every other one of those with positives, negatives or both, at random."""
    kind = np.zeros(clusters, np.int64)
    kind[codes10] += 1
    kind[codes01] += 2
    order = rng.permutation(clusters)
    order = order[np.argsort(kind[order], kind="stable")]
    chooses = np.zeros(clusters, bool)
    chooses[order[::2]] = True
    return chooses


def _one_each(codes: Ints, rng: np.random.Generator) -> Ints:
    """Rows of one unit of each cluster, drawn at random: units of one cluster are no independent trials."""
    rows = rng.permutation(len(codes))
    _, first = np.unique(codes[rows], return_index=True)
    return np.asarray(rows[first])


def epsilon_split(
    positive: ArrayLike,
    negative: ArrayLike,
    *,
    clusters_positive: ArrayLike | None = None,
    clusters_negative: ArrayLike | None = None,
    seed: int,
    delta: float = 0.0,
    confidence: float = 0.95,
) -> EpsilonBound:
    """`epsilon_lower` with threshold and direction chosen on one random half, and the bound taken on the other.

    Clusters go to one half as a whole. The half that chooses uses all its units; the other counts one unit,
    drawn at random, of each cluster and class, since Clopper-Pearson needs independent trials.

    Args:
        positive: float [m], scores of members; a block of tied scores falls on one side, infinite values are
            ordered like others, NaN is dropped and counted. Constant scores show 0.
        negative: float [n], of others, alike.
        clusters_positive, clusters_negative: [m] and [n] labels, such as users, equal labels being one cluster;
            both or neither. Without them every unit is its own.
        seed: of the halves and the draws.
        delta: in [0, 1).
        confidence: in (0, 1), one-sided.

    Returns:
        `value` is None where a class is empty in a half.

    Raises:
        ConfigurationError: a number outside its domain, or clusters of one class only.
        DataError: a class has not one label per score.
    """
    _check(delta, confidence)
    units = _units(positive, negative, clusters_positive, clusters_negative)
    rng = np.random.default_rng(seed)
    chooses = _halves(units.codes10, units.codes01, units.clusters, rng)
    chosen, judged = units.take(chooses), units.take(~chooses)
    return _held_out(chosen.above, chosen.below, judged, "the other half", rng, delta, confidence)


def epsilon_held_out(
    choosing_positive: ArrayLike,
    choosing_negative: ArrayLike,
    positive: ArrayLike,
    negative: ArrayLike,
    *,
    clusters_positive: ArrayLike | None = None,
    clusters_negative: ArrayLike | None = None,
    seed: int,
    delta: float = 0.0,
    confidence: float = 0.95,
) -> EpsilonBound:
    """`epsilon_split` where the units that choose are given; they must be independent of those that count.

    Args:
        choosing_positive, choosing_negative: float [k] and [l], scores of other members and non-members.
        positive, negative, clusters_positive, clusters_negative, seed, delta, confidence: as in `epsilon_split`.

    Returns:
        `value` is None where a class is empty.

    Raises:
        ConfigurationError: a number outside its domain, or clusters of one class only.
        DataError: a class has not one label per score.
    """
    _check(delta, confidence)
    above, below, note = two_classes(choosing_positive, choosing_negative)
    units = _units(positive, negative, clusters_positive, clusters_negative)
    units = replace(units, note=join_notes(note and f"choosing: {note}", units.note))
    return _held_out(above, below, units, "other units", np.random.default_rng(seed), delta, confidence)


def _held_out(
    above: Floats, below: Floats, units: _Units, where: str, rng: np.random.Generator, delta: float, confidence: float
) -> EpsilonBound:
    method = f"Clopper-Pearson, threshold chosen on {where}"
    empty = empty_note(above, below) or empty_note(units.above, units.below)
    if empty:
        return EpsilonBound(None, None, delta, confidence, method, note=join_notes(f"a part has {empty}", units.note))
    best = _best(above, below, _each((1 - confidence) / 2), delta, _CANDIDATES)
    rows = _one_each(units.codes10, rng), _one_each(units.codes01, rng)
    true, false = _guessed(units.above[rows[0]], best), _guessed(units.below[rows[1]], best)
    made = epsilon_lower(true, len(rows[0]), false, len(rows[1]), delta=delta, confidence=confidence)
    return replace(made, method=method, direction=best.direction, threshold=best.threshold, note=units.note)


def _guessed(scores: Floats, best: _Best) -> int:
    hits = scores >= best.threshold if best.direction == "high" else scores <= best.threshold
    return int(hits.sum())


@dataclass(frozen=True, eq=False)
class _Units:
    """Scores of both classes without NaN, and the codes of their clusters in 0..clusters-1."""

    above: Floats
    below: Floats
    codes10: Ints
    codes01: Ints
    clusters: int
    note: str

    def take(self, which: NDArray[np.bool_]) -> _Units:
        """Those of some clusters, bool [clusters]."""
        mine, theirs = which[self.codes10], which[self.codes01]
        taken = self.above[mine], self.below[theirs], self.codes10[mine], self.codes01[theirs]
        return _Units(*taken, self.clusters, self.note)


def _units(
    positive: ArrayLike, negative: ArrayLike, clusters_positive: ArrayLike | None, clusters_negative: ArrayLike | None
) -> _Units:
    if (clusters_positive is None) != (clusters_negative is None):
        raise ConfigurationError("clusters_positive and clusters_negative go together: give both or neither")
    m, n = np.size(positive), np.size(negative)
    mine = np.arange(m) if clusters_positive is None else clusters_positive
    theirs = np.arange(m, m + n) if clusters_negative is None else clusters_negative
    above, of_above, note = labelled(positive, mine, "positive")
    below, of_below, other = labelled(negative, theirs, "negative")
    return _Units(above, below, *cluster_codes(of_above, of_below), join_notes(note, other))


def _counts_bounded(n: int) -> Ints:
    """Counts of 0..n-1 at which a rate is bounded: each at first, then ever fewer."""
    growing = np.ceil(_GROWTH ** np.arange(math.log(n + 1) / math.log(_GROWTH) + 1)).astype(np.int64) - 1
    return np.unique(np.append(growing[growing < n], n - 1))


def simultaneous_upper(counts: Ints, n: int, tail: float) -> Floats:
    """Upper bounds of a rate at every threshold at once, whichever of them is looked at afterwards.

    Of n independent scores, the true rate at the (k + 1)-th most extreme one is the (k + 1)-th of n uniform
    order statistics, Beta(k + 1, n - k), whose upper quantile is Clopper-Pearson's bound at k; rates at all thresholds
    with k scores beyond lie below it, and ties only lower them. Bonferroni over the counts 0, 1, ..., growing by
    10%; a count between takes the bound of the next.

    Args:
        counts: int64 [t], in 0..n.
        n: independent scores, 1 or above.
        tail: how often any of the bounds may fail, in (0, 1).

    Returns:
        float64 [t], in (0, 1].
    """
    bounded = _counts_bounded(n)
    highs = np.append(upper_rate(bounded, n, tail / len(bounded)), 1.0)
    return highs[np.searchsorted(bounded, counts)]


def epsilon_scan(
    positive: ArrayLike, negative: ArrayLike, *, delta: float = 0.0, confidence: float = 0.95
) -> EpsilonBound:
    """The largest epsilon over all thresholds and both directions, corrected for having looked at them all.

    The four error rates (of both classes, beyond the threshold on either side) have `simultaneous_upper` bounds at
    (1 - confidence) / 4 each. Chosen by simulation on normal shifts 0.5, 1, 2 and 4 with 200, 2,000 and 20,000
    units a class: mean bounds with a growth of 10% exceed those of the Dvoretzky-Kiefer-Wolfowitz band everywhere
    but at (200, 0.5), at shift 4 by 1.0, 1.9 and 2.8; Bonferroni over every count gains at most .05 (at 20,000) and
    loses up to .4. `epsilon_split` shows less with 200 units (0.51 against 0.57 at shift 1) and more with 20,000
    (2.15 against 1.92), except at shift 4.

    Args:
        positive: float [m], scores of members, independent; infinite values are ordered like others, NaN is dropped
            and counted. Constant scores show 0.
        negative: float [n], of others, alike.
        delta: in [0, 1).
        confidence: in (0, 1), one-sided.

    Returns:
        `value` is None where a class is empty.

    Raises:
        ConfigurationError: a number outside its domain.
    """
    _check(delta, confidence)
    tail = (1 - confidence) / 4
    how = "Clopper-Pearson at all thresholds, Bonferroni over order statistics"
    return _scan(positive, negative, lambda k, n: simultaneous_upper(k, n, tail), delta, confidence, how)


def epsilon_max_uncorrected(
    positive: ArrayLike, negative: ArrayLike, *, delta: float = 0.0, confidence: float = 0.95
) -> EpsilonBound:
    """WRONG, for studies only: the largest `epsilon_lower` over all thresholds, as if none had been chosen.

    Where both classes have one and the same distribution, epsilon is said to exceed 0 at confidence .95 in 11% of
    cases with 500 units a class, 20% with 5,000 and 32% with 100,000. `confidence` in the result is what is claimed,
    not what holds. Arguments and result as in `epsilon_scan`.
    """
    _check(delta, confidence)
    how = "maximum over thresholds WITHOUT correction"
    return _scan(positive, negative, _each((1 - confidence) / 2), delta, confidence, how)


def _scan(
    positive: ArrayLike,
    negative: ArrayLike,
    bound: Bound,
    delta: float,
    confidence: float,
    how: str,
) -> EpsilonBound:
    above, below, note = two_classes(positive, negative)
    empty = empty_note(above, below)
    if empty:
        return EpsilonBound(None, None, delta, confidence, how, note=join_notes(empty, note))
    best, m, n = _best(above, below, bound, delta), len(above), len(below)
    resolution = _resolution(m, n, bound, delta)
    counts = best.false_positives, n, best.true_positives, m
    found = max(best.value, 0.0), resolution, delta, confidence, how, best.direction, best.threshold
    return EpsilonBound(*found, *counts, note)
