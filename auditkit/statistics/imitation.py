"""Is a system one more of ours? Where the next of several systems is expected, and how far off it may lie.

Systems hold different shares of a request, and what they show may follow that share. So a straight line over the share
is fitted and read at 1, where a system that holds everything lies; its residuals are the scatter of training seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from auditkit.data.dataset import Floats
from auditkit.statistics.dose import t_isf
from auditkit.statistics.lists import jaccard_at_k

# Shares, and leverages, closer than this are equal.
_EQUAL = 1e-9


@dataclass(frozen=True)
class Forecast:
    """One figure of the next system of ours.

    Attributes:
        value: expected.
        error: standard error of the next value about it; 0 for a deterministic procedure.
        degrees: of freedom of the t distribution that goes with it; 0 where too few systems say how they scatter.
    """

    value: float
    error: float
    degrees: float

    def half(self, alpha: float) -> float:
        """Half width of the two-sided 1 - alpha prediction interval; infinite without degrees of freedom."""
        return t_isf(alpha / 2, self.degrees) * self.error if self.degrees > 0 else float("inf")


@dataclass(frozen=True, eq=False)
class _Line:
    """Least squares over the share held: what n systems say of one that holds everything.

    Attributes:
        weights: float64 [n], of each system's value in the value at share 1.
        residual: float64 [n, n], values to residuals.
        degrees: n less the parameters.
    """

    weights: Floats
    residual: Floats
    degrees: int

    @property
    def wider(self) -> float:
        """Variance of a new value less the line's own, over the variance of a value."""
        return 1.0 + float(self.weights @ self.weights)


def _line(held: Floats) -> _Line:
    columns = [np.ones(len(held))]
    if np.ptp(held) > _EQUAL and len(held) > 2:
        columns.append(held - 1.0)
    design = np.column_stack(columns)
    solve = np.linalg.pinv(design)
    return _Line(solve[0], np.eye(len(held)) - design @ solve, len(held) - len(columns))


def forecast(values: ArrayLike, held: ArrayLike) -> Forecast:
    """What the next system that holds everything shows.

    Formula: y = a + b (share - 1) by least squares; a, with standard error s sqrt(1 + h), h the leverage at share 1 and
    s^2 the residual variance. Where all hold the same share, or there are two systems, a is their mean.

    Args:
        values: float [n], one figure of each system.
        held: float [n], the share of the request that each holds, in [0, 1].
    """
    y, line = np.asarray(values, np.float64), _line(np.asarray(held, np.float64))
    square = float(((line.residual @ y) ** 2).sum() / max(line.degrees, 1))
    return Forecast(float(line.weights @ y), float(np.sqrt(square * line.wider)), line.degrees)


def next_original(originals: ArrayLike, golds: ArrayLike) -> Forecast:
    """The next original on a scale where both ends scatter alike: variances pooled, O - 1 and S - 1 degrees.

    Args:
        originals: float [O], O >= 1.
        golds: float [S], S >= 2.
    """
    mine, others = np.asarray(originals, np.float64), np.asarray(golds, np.float64)
    squares = float(((mine - mine.mean()) ** 2).sum() + ((others - others.mean()) ** 2).sum())
    degrees = len(mine) + len(others) - 2
    return Forecast(float(mine.mean()), float(np.sqrt(squares / degrees * (1 + 1 / len(mine)))), degrees)


def square_distances(theirs: ArrayLike, ours: ArrayLike, held: ArrayLike) -> tuple[float, Floats]:
    """Mean square distance from where ours are expected, corrected for that being uncertain.

    Every point has its own line over the share held. A new system's squares are divided by 1 + h, those of a system the
    line was fitted on by 1 - h, h its leverage: both then estimate the variance of one system.

    Args:
        theirs: float [n_points], a system that holds everything.
        ours: float [n, n_points].
        held: float [n], shares.

    Returns:
        That of theirs, and of ours, float64 [m]; systems that the line must pass through tell nothing and are left out.
    """
    values, line = np.asarray(ours, np.float64), _line(np.asarray(held, np.float64))
    away = float(((np.asarray(theirs, np.float64) - line.weights @ values) ** 2).mean() / line.wider)
    left = np.diag(line.residual)
    usable = left > _EQUAL
    own = ((line.residual[usable] @ values) ** 2).mean(1) / left[usable]
    return away, np.asarray(own)


def overlaps(theirs: ArrayLike, ours: ArrayLike) -> tuple[float, Floats]:
    """How much the lists of a system share with those of ours, and ours with one another: mean Jaccard index.

    Args:
        theirs: int [n_lists, k], item ids, -1 pads.
        ours: int [n, n_lists, k], n >= 2.

    Returns:
        Mean over lists and systems of ours, and the same of each of ours against the others, float64 [n]. Lists that
        are empty on both sides do not count; NaN where no list does.
    """
    mine, others = np.asarray(theirs), np.asarray(ours)
    table = np.full((len(others), len(others)), np.nan)
    for a in range(len(others)):
        for b in range(a):
            table[a, b] = table[b, a] = _mean(jaccard_at_k(others[a], others[b]))
    return _mean(np.array([_mean(jaccard_at_k(mine, one)) for one in others])), np.array([_mean(row) for row in table])


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
