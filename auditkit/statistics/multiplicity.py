"""p-values adjusted for how many were looked at."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from auditkit.data.dataset import Floats
from auditkit.errors import DataError
from auditkit.statistics.intervals import flat


def _sorted(p_values: ArrayLike) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """A copy to write into, the known p-values in ascending order, and where they stand."""
    adjusted = flat(p_values, "p_values").copy()
    known = np.flatnonzero(~np.isnan(adjusted))
    order = known[np.argsort(adjusted[known], kind="stable")]
    ascending = adjusted[order]
    if len(ascending) and (ascending[0] < 0 or ascending[-1] > 1):
        raise DataError(f"p_values must be in [0, 1] or NaN, got {ascending[0]} to {ascending[-1]}")
    return adjusted, ascending, order


def _step_up(p_values: ArrayLike, *, dependent: bool) -> Floats:
    adjusted, ascending, order = _sorted(p_values)
    ranks = np.arange(1, len(ascending) + 1)
    factor = len(ascending) * (float((1 / ranks).sum()) if dependent else 1.0)
    scaled = ascending * factor / ranks
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def holm(p_values: ArrayLike) -> Floats:
    """Adjusted for the family-wise error rate, under any dependence (Holm 1979).

    Formula: with p ascending of m, the running maximum of (m - i + 1) p_i, at most 1.

    Args:
        p_values: [m], in [0, 1]; NaN is not a test: it stays NaN and does not count in m.

    Returns:
        float64 [m], in the order given; reject where it is at most alpha.

    Raises:
        DataError: a value lies outside [0, 1].
    """
    adjusted, ascending, order = _sorted(p_values)
    scaled = ascending * np.arange(len(ascending), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Adjusted for the false discovery rate, without negative dependence (Benjamini and Hochberg 1995).

    Formula: with p ascending of m, the running minimum from the largest of p_i m / i, at most 1.

    Args:
        p_values: [m], in [0, 1]; NaN is not a test: it stays NaN and does not count in m.

    Returns:
        float64 [m], in the order given; reject where it is at most the rate.

    Raises:
        DataError: a value lies outside [0, 1].
    """
    return _step_up(p_values, dependent=False)


def benjamini_yekutieli(p_values: ArrayLike) -> Floats:
    """Adjusted for the false discovery rate, under any dependence (Benjamini and Yekutieli 2001).

    Formula: Benjamini-Hochberg times 1 + 1/2 + ... + 1/m.

    Args:
        p_values: [m], in [0, 1]; NaN is not a test: it stays NaN and does not count in m.

    Returns:
        float64 [m], in the order given; reject where it is at most the rate.

    Raises:
        DataError: a value lies outside [0, 1].
    """
    return _step_up(p_values, dependent=True)
