"""How alike distributions and tables of vectors are, whatever the axes that the vectors are written in."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import orthogonal_procrustes
from scipy.special import rel_entr

from auditkit.data.dataset import Bools, Floats
from auditkit.errors import DataError


def jensen_shannon(p: ArrayLike, q: ArrayLike) -> Floats:
    """Jensen-Shannon divergence of distributions along the last axis, in bits (Lin 1991).

    Formula: (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2 and logarithms to base 2.

    Args:
        p: float [..., k], 0 or above, each row adding up to 1; a value that one side lacks has probability 0.
        q: float [..., k], alike.

    Returns:
        float64 [...], in [0, 1]: 0 for equal distributions, 1 for those without a common value; NaN where one is NaN.
    """
    left, right = np.asarray(p, np.float64), np.asarray(q, np.float64)
    middle = (left + right) / 2
    apart = (rel_entr(left, middle).sum(-1) + rel_entr(right, middle).sum(-1)) / (2 * np.log(2))
    # Of nearly equal distributions the sum may round to a little below 0.
    return np.asarray(np.clip(apart, 0.0, 1.0))


def _tables(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    left, right = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if left.ndim != 2 or right.ndim != 2 or len(left) != len(right):
        raise DataError(f"tables must be [n, columns] with one row per entity, got {left.shape} and {right.shape}")
    return left, right


def linear_cka(a: ArrayLike, b: ArrayLike) -> float:
    """Linear centred kernel alignment of two tables (Kornblith, Norouzi, Lee and Hinton, ICML 2019, section 3).

    Formula: |B^T A|^2 / (|A^T A| |B^T B|) in Frobenius norms, columns centred. Rotating, moving or scaling a table
    changes nothing. With fewer rows than columns it is large for unrelated tables too (n rows of d independent normal
    columns: about d / (n + d)), so compare only tables of one size.

    Args:
        a: float [n, p], finite.
        b: float [n, q], finite; the same entities in the same order.

    Returns:
        In [0, 1]; NaN with fewer than 2 rows and where all rows of a table are equal.

    Raises:
        DataError: the tables do not have one row per entity.
    """
    left, right = _tables(a, b)
    if len(left) < 2:
        return float("nan")
    left, right = left - left.mean(0), right - right.mean(0)
    norms = np.linalg.norm(left.T @ left) * np.linalg.norm(right.T @ right)
    return float(np.linalg.norm(right.T @ left) ** 2 / norms) if norms > 0 else float("nan")


def _standardised(table: Floats, anchors: Bools) -> Floats | None:
    """Moved and scaled so that the anchors have mean 0 and root mean square norm 1; None where they are all equal."""
    centred = table - table[anchors].mean(0)
    size = float(np.sqrt(np.square(centred[anchors]).sum(1).mean()))
    return centred / size if size > 0 else None


def procrustes_residuals(a: ArrayLike, b: ArrayLike, anchors: Bools) -> Floats:
    """How far each row of one table lies from its own in another, after the best rotation of some rows.

    Both tables are moved and scaled so that the anchor rows have mean 0 and a root mean square norm of 1; then one is
    rotated (reflections included) so that its anchors lie as near to the other's as they can (orthogonal Procrustes:
    Schönemann 1966). The root mean square of the anchors' residuals is their Procrustes distance.

    Args:
        a: float [n, d]; anchor rows finite, others may hold NaN.
        b: float [n, d], alike; the same entities in the same order.
        anchors: bool [n], the rows that decide centre, scale and rotation. Fewer than d of them can be laid onto
            anything, so ask for more.

    Returns:
        float64 [n], 0 or above, in units of the anchors' root mean square norm; NaN where a row is NaN, and
        everywhere without anchors or where a table's anchors are all equal.

    Raises:
        DataError: the tables do not have one row per entity, or not the same columns.
    """
    left, right = _tables(a, b)
    if left.shape != right.shape:
        raise DataError(f"tables to be laid onto one another need the same columns, got {left.shape} and {right.shape}")
    if not anchors.any():
        return np.full(len(left), np.nan)
    mine, theirs = _standardised(left, anchors), _standardised(right, anchors)
    if mine is None or theirs is None:
        return np.full(len(left), np.nan)
    rotation, _ = orthogonal_procrustes(mine[anchors], theirs[anchors])
    return np.asarray(np.linalg.norm(mine @ rotation - theirs, axis=1))
