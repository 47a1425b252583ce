"""Intervals: binomial rates, a new value against runs, differences and ratios."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from auditkit.data.dataset import Floats
from auditkit.errors import ConfigurationError, DataError


def check_confidence(confidence: float) -> None:
    """Refuse a confidence that is no share.

    Raises:
        ConfigurationError: it is not in (0, 1).
    """
    if not 0 < confidence < 1:
        raise ConfigurationError(f"confidence must be in (0, 1), got {confidence}; 0.95 is usual")


@dataclass(frozen=True)
class Interval:
    """A number with its interval; None where undefined, and then `note` says why. Never NaN or infinite.

    Attributes:
        value: point estimate.
        low, high: ends of the interval, both or neither.
        confidence: coverage of [low, high], two-sided, in (0, 1).
        method: how estimate and interval were made.
        note: what was dropped, refused or could not be computed.

    Raises:
        ConfigurationError: the confidence is not in (0, 1).
        DataError: a number is NaN or infinite, an end stands alone or valueless, or the ends are reversed.
    """

    value: float | None
    low: float | None
    high: float | None
    confidence: float
    method: str
    note: str = ""

    def __post_init__(self) -> None:
        check_confidence(self.confidence)
        ends = (self.low, self.high)
        if any(number is not None and not math.isfinite(number) for number in (self.value, *ends)):
            raise DataError(f"an interval holds finite numbers or None, got {self.value}, {ends}; use None and a note")
        if (self.low is None) != (self.high is None) or (self.value is None and self.low is not None):
            raise DataError(f"an interval has both ends or neither, and none without a value, got {self.value}, {ends}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise DataError(f"low must not lie above high, got {ends}")

    @classmethod
    def without_ends(cls, value: float | None, confidence: float, method: str, *notes: str) -> Interval:
        """A value (or None) that has no interval, and why."""
        return cls(value, None, None, confidence, method, join_notes(*notes))


def join_notes(*notes: str) -> str:
    """The notes that say something, separated by semicolons."""
    return "; ".join(note for note in notes if note)


def dropped_note(count: int, what: str) -> str:
    """Say how many NaN values were left out; empty when there were none."""
    return f"{count} NaN dropped from {what}" if count else ""


def flat(values: ArrayLike, name: str) -> Floats:
    """`values` as float64 [n].

    Raises:
        DataError: `values` has another number of dimensions.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise DataError(f"{name} must be one-dimensional, got shape {array.shape}; pass one number per unit")
    return array


def known(values: ArrayLike, name: str) -> tuple[Floats, str]:
    """Finite values and a note on the NaN that were dropped.

    Raises:
        DataError: a value is infinite.
    """
    array = flat(values, name)
    if np.isinf(array).any():
        raise DataError(f"{name} must be finite or NaN, got an infinite value; drop it or mark it NaN")
    missing = np.isnan(array)
    return array[~missing], dropped_note(int(missing.sum()), name)


def upper_rate(successes: ArrayLike, n: float, tail: float) -> Floats:
    """One-sided Clopper-Pearson upper bounds of binomial rates, float64, in the shape of `successes`.

    Formula: the 1 - tail quantile of Beta(k + 1, n - k); 1 at k = n.

    Args:
        successes: in 0..n, need not be whole.
        n: trials, above 0.
        tail: how often a bound may lie below the rate, in (0, 1).
    """
    k = np.asarray(successes, np.float64)
    return np.where(k < n, special.betainccinv(k + 1, np.maximum(n - k, 1e-300), tail), 1.0)


def lower_rate(successes: ArrayLike, n: float, tail: float) -> Floats:
    """One-sided Clopper-Pearson lower bounds: those of the failures, turned round."""
    k = np.asarray(successes, np.float64)
    return np.where(k > 0, special.betaincinv(np.maximum(k, 1e-300), n - k + 1, tail), 0.0)


def beta_bounds(successes: float, n: float, confidence: float) -> tuple[float, float]:
    """Clopper-Pearson bounds, each with half of 1 - confidence; `successes` need not be whole."""
    tail = (1 - confidence) / 2
    return float(lower_rate(successes, n, tail)), float(upper_rate(successes, n, tail))


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Exact interval of a binomial rate (Clopper and Pearson 1934); covers at least `confidence`.

    Args:
        successes: in 0..n.
        n: independent trials, 0 or more; with 0 nothing is defined.
        confidence: in (0, 1).

    Raises:
        ConfigurationError: a number lies outside its domain.
    """
    if not 0 <= successes <= n:
        raise ConfigurationError(f"clopper_pearson needs 0 <= successes <= n, got successes={successes}, n={n}")
    if not n:
        return Interval.without_ends(None, confidence, "Clopper-Pearson", "no trials")
    low, high = beta_bounds(successes, n, confidence)
    return Interval(successes / n, low, high, confidence, "Clopper-Pearson")


def t_quantile(degrees: float, confidence: float) -> float:
    """The (1 + confidence) / 2 quantile of Student's t with `degrees` (above 0) of freedom."""
    return float(special.stdtrit(degrees, (1 + confidence) / 2))


def prediction_interval(value: float, mean: float, sd: float, n: int, confidence: float = 0.95) -> Interval:
    """How far one new value lies from where `n` runs put such values.

    Formula: value - mean -/+ t_{n-1} * sd * sqrt(1 + 1/n). It covers 0 in a share `confidence` of
    cases where the new value is one more such run (normal runs).

    Args:
        value: the new value.
        mean: of the runs.
        sd: of the runs, with n - 1 in the denominator; 0 or above.
        n: how many runs; with fewer than 2 there is no interval.
        confidence: in (0, 1).

    Raises:
        ConfigurationError: sd is negative.
    """
    method = f"t prediction interval, {n} runs"
    if sd < 0:
        raise ConfigurationError(f"sd must be 0 or above, got {sd}")
    difference = value - mean
    if n < 2:
        return Interval.without_ends(difference, confidence, method, "spread needs at least 2 runs")
    half = t_quantile(n - 1, confidence) * sd * math.sqrt(1 + 1 / n)
    return Interval(difference, difference - half, difference + half, confidence, method)


def satterthwaite(first: float, n_first: int, second: float, n_second: int) -> float:
    """Degrees of freedom of the sum of two variances of means over `n_first` and `n_second` (2 or more).

    Formula: (a + b)^2 / (a^2 / (m - 1) + b^2 / (n - 1)); m + n - 2 where both vanish.
    """
    total = first + second
    if total == 0:
        return n_first + n_second - 2
    # Shares instead of squares of variances: no underflow where runs hardly differ.
    return 1 / ((first / total) ** 2 / (n_first - 1) + (second / total) ** 2 / (n_second - 1))


def _spread(sample: Floats, reference: Floats) -> tuple[float, float, str]:
    """Standard error of mean(sample) - mean(reference), its degrees of freedom, and the method."""
    if min(len(sample), len(reference)) == 1:
        runs = max(sample, reference, key=len)
        error = float(runs.std(ddof=1)) * math.sqrt(1 + 1 / len(runs))
        return error, len(runs) - 1, "one run against the spread of the other side, t"
    ours, theirs = (float(side.var(ddof=1)) / len(side) for side in (sample, reference))
    return math.sqrt(ours + theirs), satterthwaite(ours, len(sample), theirs, len(reference)), "Welch t"


def difference_interval(sample: ArrayLike, reference: ArrayLike, confidence: float = 0.95) -> Interval:
    """mean(sample) - mean(reference) with Welch's t interval (Satterthwaite's degrees of freedom).

    Where one side has a single run, the other side's spread stands for both: t_{n-1} * sd * sqrt(1 + 1/n).

    Args:
        sample: float [n], independent runs; NaN is dropped and counted in the note.
        reference: float [m], alike.
        confidence: in (0, 1).

    Returns:
        Ends are None when both sides have a single run, the value too when a side has none.

    Raises:
        DataError: a value is infinite.
    """
    (ours, note), (theirs, other) = known(sample, "sample"), known(reference, "reference")
    return _welch(ours, theirs, confidence, join_notes(note, other))


def _welch(ours: Floats, theirs: Floats, confidence: float, note: str) -> Interval:
    if not len(ours) or not len(theirs):
        return Interval.without_ends(None, confidence, "Welch t", "a side has no runs", note)
    difference = float(ours.mean() - theirs.mean())
    if max(len(ours), len(theirs)) == 1:
        return Interval.without_ends(difference, confidence, "Welch t", "spread needs 2 runs on a side", note)
    error, degrees, method = _spread(ours, theirs)
    half = t_quantile(degrees, confidence) * error
    note = join_notes("" if error > 0 else "runs do not differ at all", note)
    return Interval(difference, difference - half, difference + half, confidence, method, note)


def ratio_interval(numerators: ArrayLike, denominators: ArrayLike, confidence: float = 0.95) -> Interval:
    """Ratio of geometric means of positive values such as wall times: `difference_interval` of logarithms.

    Args:
        numerators: float [n], positive, independent runs; NaN is dropped and counted in the note.
        denominators: float [m], alike.
        confidence: in (0, 1).

    Returns:
        Ends are None when both sides have a single run or the upper end overflows, the value too when a
        side has none.

    Raises:
        DataError: a value is infinite, 0 or negative.
    """
    (above, note), (below, other) = known(numerators, "numerators"), known(denominators, "denominators")
    for name, times in (("numerators", above), ("denominators", below)):
        if (times <= 0).any():
            raise DataError(f"{name} must be positive, got {times.min()}; a time of 0 was not measured")
    logs = _welch(np.log(above), np.log(below), confidence, join_notes(note, other))
    method, note = f"ratio of geometric means, {logs.method} on logarithms", logs.note
    value = None if logs.value is None else math.exp(logs.value)
    if logs.low is None or logs.high is None:
        return Interval.without_ends(value, confidence, method, note)
    if logs.high > math.log(np.finfo(np.float64).max):
        return Interval.without_ends(value, confidence, method, "runs vary too much for an upper end", note)
    return Interval(value, math.exp(logs.low), math.exp(logs.high), confidence, method, note)
