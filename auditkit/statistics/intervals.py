"""Intervals: binomial rates, clustered bootstraps, a new value against runs, differences and ratios."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from auditkit.data.dataset import Floats, Ints
from auditkit.errors import ConfigurationError, DataError

Bootstrap = Literal["bca", "percentile"]
# Beyond this share of resamples without a value, what is left no longer stands for the sampling distribution.
_MOST_UNDEFINED = 0.05


def _check_confidence(confidence: float) -> None:
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
        _check_confidence(self.confidence)
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


def _known(values: ArrayLike, name: str) -> tuple[Floats, str]:
    """Finite values and a note on the NaN that were dropped."""
    array = flat(values, name)
    if np.isinf(array).any():
        raise DataError(f"{name} must be finite or NaN, got an infinite value; drop it or mark it NaN")
    missing = np.isnan(array)
    return array[~missing], dropped_note(int(missing.sum()), name)


def beta_bounds(successes: float, n: float, confidence: float) -> tuple[float, float]:
    """Clopper-Pearson bounds; `successes` need not be whole.

    Formula: the alpha/2 quantile of Beta(k, n - k + 1) and the 1 - alpha/2 quantile of Beta(k + 1, n - k);
    0 at k = 0 and 1 at k = n.
    """
    tail = (1 - confidence) / 2
    low = float(special.betaincinv(successes, n - successes + 1, tail)) if successes > 0 else 0.0
    high = float(special.betainccinv(successes + 1, n - successes, tail)) if successes < n else 1.0
    return low, high


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


def _ends(draws: Floats, jackknife: Floats, value: float, confidence: float, kind: Bootstrap) -> tuple[Floats, str]:
    """Quantiles of the draws: plain, or bias-corrected and accelerated (Efron 1987)."""
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    if kind == "percentile":
        return np.quantile(draws, tails), ""
    bias = special.ndtri(((draws < value).mean() + (draws <= value).mean()) / 2)
    if not math.isfinite(bias):
        return np.quantile(draws, tails), "value outside all resamples, percentile interval instead of BCa"
    spread = jackknife.mean() - jackknife
    squares = float((spread**2).sum())
    acceleration = float((spread**3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0
    normal = bias + special.ndtri(tails)
    shrink = 1 - acceleration * normal
    if (shrink <= 0).any():
        return np.quantile(draws, tails), "acceleration too large, percentile interval instead of BCa"
    return np.quantile(draws, special.ndtr(bias + normal / shrink)), ""


def _bootstrap_interval(
    value: float, draws: Floats, jackknife: Floats, confidence: float, kind: Bootstrap, note: str
) -> Interval:
    names = {"bca": "BCa", "percentile": "percentile"}
    method = f"cluster bootstrap, {names[kind]}, {len(draws)} resamples of {len(jackknife)} clusters"
    if not math.isfinite(value):
        return Interval.without_ends(None, confidence, method, "the statistic has no finite value", note)
    if len(jackknife) < 2:
        return Interval.without_ends(value, confidence, method, "one cluster has no sampling spread", note)
    undefined = ~np.isfinite(draws)
    if undefined.any():
        note = join_notes(note, f"no finite value on {undefined.sum()} of {len(draws)} resamples")
    if undefined.mean() > _MOST_UNDEFINED or (kind == "bca" and not np.isfinite(jackknife).all()):
        reason = "too many resamples, or a sample without one cluster, leave the statistic undefined"
        return Interval.without_ends(value, confidence, method, reason, note)
    (low, high), remark = _ends(draws[~undefined], jackknife, value, confidence, kind)
    return Interval(value, float(low), float(high), confidence, method, join_notes(remark, note))


def _check_bootstrap(kind: Bootstrap, n_resamples: int, confidence: float) -> None:
    _check_confidence(confidence)
    if kind not in ("bca", "percentile"):
        raise ConfigurationError(f"kind must be bca or percentile, got {kind!r}")
    if n_resamples < 100:
        raise ConfigurationError(f"n_resamples must be at least 100, got {n_resamples}; 2000 is usual")


def bootstrap_clustered(
    clusters: ArrayLike,
    statistic: Callable[[Ints], float],
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    kind: Bootstrap = "bca",
    rng: np.random.Generator | int = 0,
) -> Interval:
    """Bootstrap any statistic of per-unit arrays; whole clusters are drawn with replacement.

    Args:
        clusters: [n_units] labels; units of one cluster stay together. A label per unit makes it an iid
            bootstrap.
        statistic: rows (int64, with repeats, grouped by cluster) -> number; called once for all rows, once
            per resample and, for `bca`, once without each cluster.
        confidence: in (0, 1).
        n_resamples: at least 100.
        kind: `bca` (second-order correct; leaves out each cluster once) or `percentile`.
        rng: generator or seed; resample b takes `rng.integers(n_clusters, size=n_clusters)`, in order.

    Returns:
        The statistic on all rows with its interval. Ends are None for one cluster, or where the statistic
        is not finite on over 5% of the resamples.

    Raises:
        ConfigurationError: `kind` or `n_resamples` outside its domain.
        DataError: no units.
    """
    _check_bootstrap(kind, n_resamples, confidence)
    labels = np.asarray(clusters)
    if labels.ndim != 1 or not len(labels):
        raise DataError(f"clusters must hold one label per unit, at least one, got shape {labels.shape}")
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(sizes)[:-1])
    generator, n = np.random.default_rng(rng), len(sizes)
    # Clusters of one row each (iid) spare a concatenation per resample.
    table = np.concatenate(rows) if sizes.max() == 1 else None

    def at(chosen: Ints) -> float:
        return float(statistic(np.concatenate([rows[c] for c in chosen]) if table is None else table[chosen]))

    everyone = np.arange(n)
    draws = np.array([at(generator.integers(n, size=n)) for _ in range(n_resamples)])
    jackknife = np.full(n, np.nan)
    if kind == "bca" and n > 1:
        jackknife = np.array([at(np.delete(everyone, c)) for c in range(n)])
    return _bootstrap_interval(at(everyone), draws, jackknife, confidence, kind, "")


def bootstrap_mean(
    values: ArrayLike,
    clusters: ArrayLike,
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    kind: Bootstrap = "bca",
    rng: np.random.Generator | int = 0,
) -> Interval:
    """`bootstrap_clustered` for the mean over units, from one sum per cluster: the same draws, far faster.

    Args:
        values: float [n_units]; NaN is dropped and counted in the note.
        clusters: [n_units] labels.
        confidence: in (0, 1).
        n_resamples: at least 100.
        kind: `bca` or `percentile`.
        rng: generator or seed.

    Raises:
        ConfigurationError: `kind` or `n_resamples` outside its domain.
        DataError: lengths differ, or a value is infinite.
    """
    _check_bootstrap(kind, n_resamples, confidence)
    labels, array = np.asarray(clusters), flat(values, "values")
    if labels.shape != array.shape:
        raise DataError(f"clusters must hold one label per value, got shapes {labels.shape} and {array.shape}")
    kept, note = _known(array, "values")
    if not len(kept):
        return Interval.without_ends(None, confidence, "cluster bootstrap", "no values", note)
    _, codes = np.unique(labels[~np.isnan(array)], return_inverse=True)
    sums, sizes = np.bincount(codes, weights=kept), np.bincount(codes)
    generator, n = np.random.default_rng(rng), len(sizes)
    draws = np.empty(n_resamples)
    for b in range(n_resamples):
        chosen = generator.integers(n, size=n)
        draws[b] = sums[chosen].sum() / sizes[chosen].sum()
    left = sizes.sum() - sizes
    jackknife = (sums.sum() - sums) / np.where(left > 0, left, 1)
    return _bootstrap_interval(float(kept.mean()), draws, jackknife, confidence, kind, note)


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
    (ours, note), (theirs, other) = _known(sample, "sample"), _known(reference, "reference")
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
    (above, note), (below, other) = _known(numerators, "numerators"), _known(denominators, "denominators")
    for name, known in (("numerators", above), ("denominators", below)):
        if (known <= 0).any():
            raise DataError(f"{name} must be positive, got {known.min()}; a time of 0 was not measured")
    logs = _welch(np.log(above), np.log(below), confidence, join_notes(note, other))
    method, note = f"ratio of geometric means, {logs.method} on logarithms", logs.note
    value = None if logs.value is None else math.exp(logs.value)
    if logs.low is None or logs.high is None:
        return Interval.without_ends(value, confidence, method, note)
    if logs.high > math.log(np.finfo(np.float64).max):
        return Interval.without_ends(value, confidence, method, "runs vary too much for an upper end", note)
    return Interval(value, math.exp(logs.low), math.exp(logs.high), confidence, method, note)
