"""Equivalence by two one-sided tests: is a mean, or a difference of means, inside given margins?

Published: Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15(6), 1987. A difference that a test fails to
find is no evidence of equality; here the burden is turned round, and too few runs can only fail to show equivalence.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import integrate, special

from auditkit.data.dataset import Floats
from auditkit.errors import ConfigurationError, DataError
from auditkit.statistics.dose import t_isf, t_sf
from auditkit.statistics.intervals import join_notes, known, satterthwaite

_MOST_RUNS = 10_000_000


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests; None where undefined, and then `note` says why.

    Attributes:
        value: the mean or the difference (first less second).
        low, high: interval of `confidence`; inside the margins exactly where p < alpha.
        p_lower: p-value of "the truth is at or below `margin_low`".
        p_upper: p-value of "the truth is at or above `margin_high`".
        p: the larger of the two; equivalent where it is below alpha.
        margin_low, margin_high: what still counts as equal, margin_low < margin_high.
        degrees: of freedom.
        confidence: 1 - 2 alpha.
        note: what was dropped, refused or degenerate.
    """

    value: float | None
    low: float | None
    high: float | None
    p_lower: float | None
    p_upper: float | None
    p: float | None
    margin_low: float
    margin_high: float
    degrees: float | None
    confidence: float
    note: str = ""


def equivalence_mean(values: ArrayLike, low: float, high: float, *, alpha: float = 0.05) -> Equivalence:
    """Is the mean inside (low, high)?

    - Fewer than 2 values: no interval and no p; the mean stays where there is one.
    - No scatter: the interval is the point; p is 0 inside the margins, 1 outside and at them.

    Args:
        values: float [n], independent; NaN is dropped and counted in the note.
        low, high: margins, low < high, finite.
        alpha: of each one-sided test, in (0, .5).

    Raises:
        ConfigurationError: margins or alpha outside their domain.
        DataError: a value is infinite.
    """
    _check(low, high, alpha)
    kept, note = known(values, "values")
    return _mean(kept, low, high, alpha, note)


def equivalence_paired(
    first: ArrayLike, second: ArrayLike, low: float, high: float, *, alpha: float = 0.05
) -> Equivalence:
    """Is the mean of first - second inside (low, high)? `equivalence_mean` of the differences.

    Args:
        first, second: float [n], pairs; a pair with a NaN is dropped and counted in the note.
        low, high: margins, low < high, finite.
        alpha: of each one-sided test, in (0, .5).

    Raises:
        ConfigurationError: margins or alpha outside their domain.
        DataError: lengths differ, or a value is infinite.
    """
    _check(low, high, alpha)
    mine, theirs = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if mine.shape != theirs.shape:
        raise DataError(f"first and second must hold the same pairs, got shapes {mine.shape} and {theirs.shape}")
    if np.isinf(mine).any() or np.isinf(theirs).any():
        raise DataError("first and second must be finite or NaN, got an infinite value; drop it or mark it NaN")
    kept, note = known(mine - theirs, "pairs")
    return _mean(kept, low, high, alpha, note)


def equivalence_independent(
    first: ArrayLike, second: ArrayLike, low: float, high: float, *, equal_variances: bool = False, alpha: float = 0.05
) -> Equivalence:
    """Is mean(first) - mean(second) inside (low, high)?

    - Fewer than 2 values on a side: no interval and no p.
    - No scatter on either side: as in `equivalence_mean`.

    Args:
        first: float [n], independent; NaN is dropped and counted in the note.
        second: float [m], alike.
        low, high: margins, low < high, finite.
        equal_variances: pool the variances (n + m - 2 degrees) instead of Welch's with Satterthwaite's degrees.
        alpha: of each one-sided test, in (0, .5).

    Raises:
        ConfigurationError: margins or alpha outside their domain.
        DataError: a value is infinite.
    """
    _check(low, high, alpha)
    (mine, note), (theirs, other) = known(first, "first"), known(second, "second")
    note = join_notes(note, other)
    value = float(mine.mean() - theirs.mean()) if len(mine) and len(theirs) else None
    if value is None or min(len(mine), len(theirs)) < 2:
        return _undefined(value, low, high, alpha, join_notes("each side needs at least 2 values", note))
    error, degrees = (_pooled if equal_variances else _welch)(mine, theirs)
    return _tests(value, error, degrees, low, high, alpha, note)


def _check(low: float, high: float, alpha: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigurationError(f"margins must be finite with low < high, got {low} and {high}")
    _check_alpha(alpha)


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 0.5:
        raise ConfigurationError(f"alpha must be in (0, 0.5), got {alpha}; 0.05 is usual")


def _mean(values: Floats, low: float, high: float, alpha: float, note: str) -> Equivalence:
    n = len(values)
    if n < 2:
        value = float(values[0]) if n else None
        return _undefined(value, low, high, alpha, join_notes("scatter needs at least 2 values", note))
    return _tests(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(n), n - 1, low, high, alpha, note)


def _pooled(first: Floats, second: Floats) -> tuple[float, float]:
    """Standard error of the difference and its degrees, one variance for both sides."""
    n, m = len(first), len(second)
    squares = float(first.var(ddof=1)) * (n - 1) + float(second.var(ddof=1)) * (m - 1)
    return math.sqrt(squares / (n + m - 2) * (1 / n + 1 / m)), n + m - 2


def _welch(first: Floats, second: Floats) -> tuple[float, float]:
    """Standard error of the difference and its degrees, a variance for each side."""
    mine, theirs = float(first.var(ddof=1)) / len(first), float(second.var(ddof=1)) / len(second)
    return math.sqrt(mine + theirs), satterthwaite(mine, len(first), theirs, len(second))


def _undefined(value: float | None, low: float, high: float, alpha: float, note: str) -> Equivalence:
    return Equivalence(value, None, None, None, None, None, low, high, None, 1 - 2 * alpha, note)


def _tests(value: float, error: float, degrees: float, low: float, high: float, alpha: float, note: str) -> Equivalence:
    half = t_isf(alpha, degrees) * error
    p_lower, p_upper = _tail(value - low, error, degrees), _tail(high - value, error, degrees)
    note = join_notes("" if error > 0 else "values do not differ at all", note)
    return Equivalence(
        value, value - half, value + half, p_lower, p_upper, max(p_lower, p_upper), low, high, float(degrees),
        1 - 2 * alpha, note,
    )  # fmt: skip


def _tail(inside: float, error: float, degrees: float) -> float:
    """p-value of lying `inside` a margin by that much; without scatter, what lies at the margin is not inside."""
    if error > 0:
        return t_sf(inside / error, degrees)
    return 0.0 if inside > 0 else 1.0


def equivalence_power(n: int, sd: float, margin: float, *, alpha: float = 0.05, true: float = 0.0) -> float:
    """Probability that a paired (or one-sample) test with n differences shows equivalence within +-margin.

    Formula, exact for normal differences: with t the 1 - alpha quantile on v = n - 1 degrees, u = s / sd with density f
    of chi_v / sqrt(v), and the mean normal whatever u is, the power is the integral over u from 0 to
    margin sqrt(n) / (sd t) of [Phi((margin - true) sqrt(n)/sd - t u) - Phi(t u - (margin + true) sqrt(n)/sd)] f(u).
    (Owen's Q gives the same number; published e.g. in Phillips, Journal of Pharmacokinetics and Biopharmaceutics 18(2),
    1990.)

    Args:
        n: pairs, at least 2.
        sd: of the differences, 0 or above; independent runs of one sd s differ by sqrt(2) s.
        margin: above 0.
        alpha: of each one-sided test, in (0, .5).
        true: difference there really is; any finite number.

    Raises:
        ConfigurationError: a number lies outside its domain.
    """
    _check(-margin, margin, alpha)
    if n < 2 or not 0 <= sd < math.inf or not math.isfinite(true):
        raise ConfigurationError(f"equivalence_power needs n >= 2, sd >= 0 and a finite true, got {n}, {sd}, {true}")
    if sd == 0:
        return float(abs(true) < margin)
    root, degrees = math.sqrt(n) / sd, n - 1
    t = t_isf(alpha, degrees)
    constant = math.log(2) + degrees / 2 * math.log(degrees / 2) - math.lgamma(degrees / 2)

    def passed(u: float) -> float:
        wide = special.ndtr((margin - true) * root - t * u) - special.ndtr(t * u - (margin + true) * root)
        return float(wide) * math.exp(constant + (degrees - 1) * math.log(u) - degrees * u * u / 2)

    # Beyond these quantiles nothing is left, and a narrow density is not overlooked between them.
    low, high = np.sqrt(2 * special.gammaincinv(degrees / 2, [1e-14, 1 - 1e-14]) / degrees)
    high = min(high, margin * root / t)
    if high <= low:
        return 0.0
    return float(integrate.quad(passed, low, high, epsabs=1e-12, epsrel=1e-10, limit=200)[0])


def runs_needed(sd: float, margin: float, *, power: float = 0.8, alpha: float = 0.05, true: float = 0.0) -> int:
    """The smallest number of paired runs with which equivalence within +-margin is shown with probability `power`.

    Args:
        sd: of the paired differences, 0 or above; independent runs of one sd s differ by sqrt(2) s.
        margin: above 0.
        power: in (0, 1).
        alpha: of each one-sided test, in (0, .5).
        true: difference there really is, inside the margin.

    Raises:
        ConfigurationError: a number lies outside its domain, |true| is not below the margin (no number of runs is
            enough), or more than ten million runs would be needed.
    """
    if not abs(true) < margin or not 0 < power < 1:
        raise ConfigurationError(
            f"runs_needed needs |true| < margin and power in (0, 1), got {true}, {margin}, {power}"
        )

    def enough(n: int) -> bool:
        return equivalence_power(n, sd, margin, alpha=alpha, true=true) >= power

    high = 2
    while not enough(high):
        high *= 2
        if high > _MOST_RUNS:
            raise ConfigurationError(f"over {_MOST_RUNS} runs for sd {sd} and margin {margin}; widen the margin")
    low = max(high // 2, 2)
    return low + bisect_left(range(low, high), True, key=enough)
