"""What other works print as forget quality, for comparison beside a verdict; none of it is one.

All compare an unlearned system with Golds. Their docstrings say what each cannot tell.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from auditkit.data.dataset import Bools, Floats, Ints
from auditkit.errors import ConfigurationError, DataError
from auditkit.statistics.intervals import join_notes
from auditkit.statistics.scores import without_nan

# Up to as many scores on either side scipy computes the exact distribution.
_EXACT = 10_000


@dataclass(frozen=True)
class KolmogorovSmirnov:
    """Two-sample test; None where a side is empty, and then `note` says why.

    Attributes:
        statistic: largest distance between the distribution functions, in [0, 1].
        p: in [0, 1]; 0 where it is below the smallest float.
        log10_p: its decimal logarithm, finite also there.
        method: exact or asymptotic.
        note: what was dropped.
    """

    statistic: float | None
    p: float | None
    log10_p: float | None
    method: str
    note: str = ""


def ks_forget_quality(unlearned: ArrayLike, gold: ArrayLike) -> KolmogorovSmirnov:
    """TOFU's forget quality (Maini et al. 2024; published): p of the two-sample Kolmogorov-Smirnov test on scores.

    No verdict: a large p is what few units give, whatever they hold; with many, systems that differ by their seed
    alone are rejected; units of one user are no independent draws; and order within the units is not looked at, so
    that units may swap what they hold.

    Exact p up to 10,000 scores a side (conservative under ties), asymptotic above or where the exact count fails.
    Where it underflows, log10 p is the leading term 2 exp(-2 d^2 m n / (m + n)).

    Args:
        unlearned: float [m]; infinite values are ordered like others, NaN is dropped and counted.
        gold: float [n], alike.
    """
    (mine, note), (theirs, other) = without_nan(unlearned, "unlearned"), without_nan(gold, "gold")
    note, m, n = join_notes(note, other), len(mine), len(theirs)
    if not m or not n:
        return KolmogorovSmirnov(None, None, None, "Kolmogorov-Smirnov", join_notes("a side has no scores", note))
    found, how = _two_sample(mine, theirs)
    statistic, p = float(found.statistic), float(found.pvalue)
    leading = (math.log(2) - 2 * statistic**2 * m * n / (m + n)) / math.log(10)
    return KolmogorovSmirnov(statistic, p, math.log10(p) if p > 0 else leading, f"Kolmogorov-Smirnov, {how}", note)


def _two_sample(mine: Floats, theirs: Floats) -> tuple[Any, str]:
    if max(len(mine), len(theirs)) <= _EXACT:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            try:
                return stats.ks_2samp(mine, theirs, method="exact"), "exact"
            except RuntimeWarning:  # the count of paths overflowed
                pass
    return stats.ks_2samp(mine, theirs, method="asymp"), "asymptotic"


@dataclass(frozen=True, eq=False)
class MarginDivergence:
    """KL divergence of margins per point; None where undefined, and then `note` says why.

    Attributes:
        mean, percentile_95: over the points that have one.
        per_point: float64 [n], 0 or above; NaN where a point has none.
        method: how it was estimated.
        note: what was left out.
    """

    mean: float | None
    percentile_95: float | None
    per_point: Floats
    method: str
    note: str = ""


def _tables(unlearned: ArrayLike, gold: ArrayLike) -> tuple[Floats, Floats, Bools]:
    """Both as float64 [systems, n], and which points every system answers, bool [n]."""
    mine, theirs = np.asarray(unlearned, np.float64), np.asarray(gold, np.float64)
    if mine.ndim != 2 or theirs.ndim != 2 or mine.shape[1] != theirs.shape[1]:
        shapes = f"{mine.shape} and {theirs.shape}"
        raise DataError(f"unlearned and gold must be [runs, n] and [golds, n] over the same points, got {shapes}")
    return mine, theirs, np.asarray(~(np.isnan(mine).any(0) | np.isnan(theirs).any(0)))


def _missing_note(known: Bools) -> str:
    missing = int((~known).sum())
    return f"{missing} points with NaN left out" if missing else ""


def _few(mine: Floats, theirs: Floats, least: int) -> str:
    few = min(len(mine), len(theirs)) < least
    return f"needs {least} runs and {least} Golds, got {len(mine)} and {len(theirs)}" if few else ""


def _summary(values: Floats, known: Bools, method: str, *notes: str) -> MarginDivergence:
    per_point = np.full(len(known), np.nan)
    per_point[known] = values
    finite, note = per_point[~np.isnan(per_point)], join_notes(_missing_note(known), *notes)
    if not len(finite):
        return MarginDivergence(None, None, per_point, method, join_notes("no point has a value", note))
    return MarginDivergence(float(finite.mean()), float(np.quantile(finite, 0.95)), per_point, method, note)


def klom(
    unlearned_margins: ArrayLike,
    gold_margins: ArrayLike,
    *,
    clip: float = 100.0,
    bins: int = 20,
    smoothing: float = 1e-5,
) -> MarginDivergence:
    """KLoM of "Attribute-to-Delete" (Georgiev et al., arXiv 2410.23232): KL(unlearned || Gold) of each point's margins.

    Definition published, estimator reconstructed: margins are cut to [-clip, clip] and counted in `bins` equal bins
    from a point's smallest to its largest over both sides, the last one closed; Gold's share is at least `smoothing`
    where the unlearned share is above 0, and made to sum to 1.

    No verdict: fresh Golds do not read 0 but about 8.6, 3.0, .35 and .05 with 4, 20, 100 and 500 systems a side; the
    largest value is near log(1 / smoothing) = 11.5, whatever the distance; a mean over points hides the few that
    are remembered, and what points share (a common shift) is not looked at.

    Args:
        unlearned_margins: float [R, n]; infinite margins are cut, points with a NaN left out and counted.
        gold_margins: float [S, n], alike.
        clip: above 0.
        bins: 2 or more.
        smoothing: in (0, 1).

    Returns:
        None with fewer than 2 runs or Golds.

    Raises:
        ConfigurationError: an option outside its domain.
        DataError: the sides have other points.
    """
    if not (clip > 0 and bins >= 2 and 0 < smoothing < 1):
        given = f"clip={clip}, bins={bins}, smoothing={smoothing}"
        raise ConfigurationError(f"klom needs clip > 0, bins >= 2 and smoothing in (0, 1), got {given}")
    mine, theirs, known = _tables(unlearned_margins, gold_margins)
    method, few = f"histogram of {bins} bins", _few(mine, theirs, 2)
    if few:
        return MarginDivergence(None, None, np.full(len(known), np.nan), method, few)
    mine, theirs = (np.clip(side[:, known], -clip, clip) for side in (mine, theirs))
    p, q = _shares(mine, theirs, bins)
    q = np.where(p > 0, np.maximum(q, smoothing), q)
    return _summary(np.asarray(stats.entropy(p, q)), known, method)


def _shares(mine: Floats, theirs: Floats, bins: int) -> tuple[Floats, Floats]:
    """Share of each side in each of the bins that both sides' range is cut into, float64 [bins, n]."""
    low = np.minimum(mine.min(0), theirs.min(0))
    high = np.maximum(mine.max(0), theirs.max(0))
    edges = np.linspace(low, np.where(high > low, high, low + 1), bins + 1)
    counts = [_counted(side, edges) for side in (mine, theirs)]
    return counts[0] / len(mine), counts[1] / len(theirs)


def _counted(values: Floats, edges: Floats) -> Ints:
    """How many of float64 [m, n] fall into each bin between float64 [bins + 1, n], the last one closed."""
    reached = np.stack([(values >= edge).sum(0) for edge in edges[1:-1]])
    below = np.concatenate([np.full((1, values.shape[1]), len(values)), reached, np.zeros((1, values.shape[1]), int)])
    return np.asarray(below[:-1] - below[1:], np.int64)


def klom_gaussian(unlearned_margins: ArrayLike, gold_margins: ArrayLike, *, clip: float = 100.0) -> MarginDivergence:
    """`klom` with each point's margins taken as normal, for few runs. Closed form, ours.

    Formula: log(s_G / s_U) + (s_U^2 + (m_U - m_G)^2) / (2 s_G^2) - 1/2, with sample variances (n - 1).

    No verdict: as `klom`; fresh Golds read about 1.8, .12, .02 and .004.

    Args:
        unlearned_margins: float [R, n]; infinite margins are cut, points with a NaN left out and counted.
        gold_margins: float [S, n], alike.
        clip: above 0.

    Returns:
        None with fewer than 2 runs or Golds; a point without scatter on a side has none and is counted.

    Raises:
        ConfigurationError: clip outside its domain.
        DataError: the sides have other points.
    """
    if not clip > 0:
        raise ConfigurationError(f"clip must be above 0, got {clip}")
    mine, theirs, known = _tables(unlearned_margins, gold_margins)
    few = _few(mine, theirs, 2)
    if few:
        return MarginDivergence(None, None, np.full(len(known), np.nan), "normal margins", few)
    mine, theirs = (np.clip(side[:, known], -clip, clip) for side in (mine, theirs))
    ours, golds = mine.var(0, ddof=1), theirs.var(0, ddof=1)
    flat = (ours == 0) | (golds == 0)
    ours, golds = np.where(flat, np.nan, ours), np.where(flat, np.nan, golds)
    shift = (mine.mean(0) - theirs.mean(0)) ** 2
    values = np.log(golds / ours) / 2 + (ours + shift) / (2 * golds) - 0.5
    note = f"{int(flat.sum())} points without scatter left out" if flat.any() else ""
    return _summary(values, known, "normal margins", note)


@dataclass(frozen=True, eq=False)
class CompetitionEpsilon:
    """Per-example epsilon of the NeurIPS 2023 unlearning competition and its score; None where undefined.

    Attributes:
        score: F, the mean of 2 / 2^bin over points: 1 where every epsilon is below the bin width.
        epsilon: float64 [n], 0 or above; infinite where the systems are told apart without error, NaN where a
            point has none.
        resolution: the largest finite epsilon that as many systems can show.
        share_infinite: of the points.
        note: what was left out.
    """

    score: float | None
    epsilon: Floats
    resolution: float | None
    share_infinite: float | None
    note: str = ""


def neurips_epsilon(
    unlearned: ArrayLike, gold: ArrayLike, *, delta: float = 0.01, bins: int = 13, width: float = 0.5
) -> CompetitionEpsilon:
    """Forgetting score of the NeurIPS 2023 unlearning competition (Triantafillou et al., arXiv 2406.09073).

    Reconstructed from the public description. For each point the outputs of R unlearned systems and S Golds are told
    apart at every threshold, in both directions: epsilon is the largest of log((1 - delta - FPR) / FNR) and log((1 -
    delta - FNR) / FPR). Attacks with one rate of 0 are discarded, both 0 makes it infinite. Then bin = 1, ..., `bins`
    by steps of `width`, and F = mean of 2 / 2^bin. The competition also used fitted attacks.

    No verdict: it is a maximum over thresholds without correction, so that the score of fresh Golds is not 1 but about
    .24 with 20 systems a side, .31 with 100 and .76 with 500; and rates are multiples of 1 / R and 1 / S, so that
    epsilon jumps from `resolution` to infinity.

    Args:
        unlearned: float [R, n], one output per system and point; infinite values are ordered like others, points
            with a NaN left out and counted.
        gold: float [S, n], alike.
        delta: in [0, 1).
        bins: 1 or more.
        width: above 0.

    Returns:
        None with fewer than 2 systems a side, or without points.

    Raises:
        ConfigurationError: an option outside its domain.
        DataError: the sides have other points.
    """
    if not (0 <= delta < 1 and bins >= 1 and width > 0):
        given = f"delta={delta}, bins={bins}, width={width}"
        raise ConfigurationError(f"neurips_epsilon needs delta in [0, 1), bins >= 1 and width > 0, got {given}")
    mine, theirs, known = _tables(unlearned, gold)
    epsilon, reason = np.full(len(known), np.nan), _few(mine, theirs, 2) or ("" if known.any() else "no points")
    note = _missing_note(known)
    if reason:
        return CompetitionEpsilon(None, epsilon, None, None, join_notes(reason, note))
    best = _largest_epsilon(mine[:, known], theirs[:, known], delta)
    epsilon[known] = np.maximum(best, 0.0)
    score = float((2.0 / 2.0 ** np.digitize(epsilon[known], np.arange(bins) * width)).mean())
    one = np.ones(1, np.int64)
    resolution = max(float(_attack_epsilon(one, len(theirs), one, len(mine), delta)[0]), 0.0)
    return CompetitionEpsilon(score, epsilon, resolution, float(np.isinf(epsilon[known]).mean()), note)


def _largest_epsilon(mine: Floats, theirs: Floats, delta: float) -> Floats:
    """Over the thresholds between [R, n] and [S, n], in both directions; float64 [n]."""
    runs, golds = len(mine), len(theirs)
    everything = np.concatenate([mine, theirs])
    order = np.argsort(everything, axis=0, kind="stable")
    ordered = np.take_along_axis(everything, order, axis=0)
    # Above the k-th value "unlearned" is guessed: the runs at or below it are missed, the Golds beyond it false.
    missed: Ints = np.cumsum(order < runs, axis=0, dtype=np.int64)
    false = golds - (np.arange(1, runs + golds + 1)[:, None] - missed)
    shown = np.maximum(
        _attack_epsilon(false, golds, missed, runs, delta),
        _attack_epsilon(golds - false, golds, runs - missed, runs, delta),
    )
    # Within a block of ties lies no threshold.
    shown[:-1][ordered[1:] == ordered[:-1]] = -np.inf
    return np.asarray(shown.max(0))


def _attack_epsilon(false: Ints, golds: int, missed: Ints, runs: int, delta: float) -> Floats:
    """Of attacks with so many errors; infinite without any, -inf where one kind is absent or nothing is shown."""
    fpr, fnr, both = false / golds, missed / runs, (false > 0) & (missed > 0)
    ratios = [
        np.divide(1 - delta - one, other, out=np.zeros(fpr.shape), where=both)
        for one, other in ((fpr, fnr), (fnr, fpr))
    ]
    ratio = np.maximum(*ratios)
    shown = np.log(ratio, out=np.full(fpr.shape, -np.inf), where=ratio > 0)
    return np.where((false == 0) & (missed == 0), np.inf, shown)
