"""Distances in units of what Golds show of one another, on what was to go, what was to stay, and what nobody held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from auditkit.data.dataset import Bools, Floats
from auditkit.errors import DataError
from auditkit.statistics.intervals import Interval, prediction_interval

Group = Literal["forget", "retain", "outside"]
GROUPS: tuple[Group, ...] = ("forget", "retain", "outside")
# Two Golds have one distance, which is the same for both: no scatter.
MIN_GOLDS = 3
# Relative to the mean distance: below this the Golds are equally far from one another but for rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class GoldBand:
    """How far one system lies from the Golds on one group of units.

    Attributes:
        group: forget, retain, or outside (test pairs).
        distance: (mean distance - mean of left-out Golds) / sd of a Gold: 0 is what a Gold shows, above it the system
            lies farther off than Golds do. The interval covers 0 for a share `confidence` of Golds.
        mean: of the system's distances over the units, in the attack's own unit; None where nothing was answered.
        golds_mean: of the left-out Golds' means; None with it.
        n_units: that all Golds and the system answered.
        n_golds: S.
    """

    group: Group
    distance: Interval
    mean: float | None
    golds_mean: float | None
    n_units: int
    n_golds: int


def gold_bands(
    distances: ArrayLike,
    golds: ArrayLike,
    groups: ArrayLike,
    *,
    to_mean_gold: bool = False,
    confidence: float = 0.95,
) -> tuple[tuple[GoldBand, ...], ...]:
    """Read systems' distances to the Golds against the Golds' distances to one another.

    Formula: (m - mean of m_k) / sd -/+ t_{S-1} sqrt(1 + 1/S), m a system's mean over a group's units, m_k that of Gold
    k left out. Left-out Golds pull one another together, for every distance between two of them counts in both means:
    only (S - 2) / (S - 1) of what makes a Gold far from others is left in its own m_k. So sd is the sample's times
    (S - 1) / (S - 2). Without that, a 95% interval leaves out some 9% of fresh Golds at S = 4 (BPR-MF, MovieLens-100K,
    measures of `divergence`), with it some 3%.

    Args:
        distances: float [n_systems, n_units], 0 or above, scores of an unsigned attack; NaN where there is none.
        golds: float [S, n_units], each Gold's against the other Golds, as `cross_score` gives them.
        groups: str [n_units].
        to_mean_gold: the attack measures the distance to the mean Gold, not the mean of distances. That of S Golds is
            nearer to a fresh Gold than that of S - 1 to the one left out, by sqrt(1 - 1/S^2), which is corrected.
        confidence: in (0, 1).

    Returns:
        One band per system and group of `GROUPS`, in this order. The distance is None with its reason where there are
        fewer than 3 Golds, where these do not differ (a deterministic procedure), and where nothing was answered.

    Raises:
        DataError: the arrays are not about the same units.
    """
    mine, theirs, labels = np.asarray(distances, np.float64), np.asarray(golds, np.float64), np.asarray(groups)
    if mine.ndim != 2 or theirs.ndim != 2 or not mine.shape[1] == theirs.shape[1] == labels.size:
        raise DataError(
            f"distances and golds must be [n, n_units] of the same units as groups, got {mine.shape}, {theirs.shape} "
            f"and {labels.shape}"
        )
    size = len(theirs)
    farther = size / np.sqrt(size**2 - 1) if to_mean_gold and size > 1 else 1.0
    known = np.isfinite(theirs).all(0)
    return tuple(
        tuple(_band(own * farther, theirs, known & np.isfinite(own) & (labels == g), g, confidence) for g in GROUPS)
        for own in mine
    )


def _band(own: Floats, golds: Floats, units: Bools, group: Group, confidence: float) -> GoldBand:
    n = len(golds)
    if not units.any() or not n:
        reason = "no unit of this group was answered by the system and every Gold" if n else "there are no Golds"
        nothing = Interval.without_ends(None, confidence, _METHOD, reason)
        return GoldBand(group, nothing, None, None, int(units.sum()), n)
    mean, means = float(own[units].mean()), golds[:, units].mean(1)
    distance = _in_units_of_golds(mean, means, confidence)
    return GoldBand(group, distance, mean, float(means.mean()), int(units.sum()), n)


_METHOD = "units of a Gold's sd, t prediction interval"


def _in_units_of_golds(mean: float, golds: Floats, confidence: float) -> Interval:
    n = len(golds)
    if n < MIN_GOLDS:
        reason = f"Golds' scatter about one another needs {MIN_GOLDS} Golds, there {'is' if n == 1 else 'are'} {n}"
        return Interval.without_ends(None, confidence, _METHOD, reason)
    sd = float(golds.std(ddof=1)) * (n - 1) / (n - 2)
    if not sd > _ROUNDING * abs(float(golds.mean())):
        reason = "the Golds do not differ in their distances, so there is no unit to measure in"
        return Interval.without_ends(None, confidence, _METHOD, reason)
    made = prediction_interval(mean / sd, float(golds.mean()) / sd, 1.0, n, confidence)
    return Interval(made.value, made.low, made.high, confidence, f"{_METHOD}, {n} Golds", made.note)
