"""How alike two rankings are, row by row: lists of items, or scores of the same items."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from auditkit.data.dataset import Floats, Ints
from auditkit.errors import ConfigurationError, DataError


def _lists(a: ArrayLike, b: ArrayLike) -> tuple[Ints, Ints]:
    left, right = np.asarray(a), np.asarray(b)
    if left.ndim != 2 or left.shape != right.shape:
        raise DataError(f"lists must be two arrays [n, k] of one shape, got {left.shape} and {right.shape}")
    for name, lists in (("a", left), ("b", right)):
        if not np.issubdtype(lists.dtype, np.integer):
            raise DataError(f"lists {name} must hold integer item ids, got {lists.dtype}; pad with -1")
        if lists.size and lists.min() < -1:
            raise DataError(f"lists {name} must hold ids of 0 or above, or -1 (absent), got {lists.min()}")
        if ((lists[:, :-1] < 0) & (lists[:, 1:] >= 0)).any():
            raise DataError(f"lists {name} have an item after an absent place; -1 may only pad the end")
    return left.astype(np.int64, copy=False), right.astype(np.int64, copy=False)


def _shared(a: Ints, b: Ints) -> Ints:
    """How many items the first d places of both lists share, for d = 1..k. int64 [n, k]."""
    n, k = a.shape
    both = np.concatenate([a, b], axis=1)
    order = np.argsort(both, axis=1, kind="stable")
    items = np.take_along_axis(both, order, axis=1)
    equal = (items[:, 1:] == items[:, :-1]) & (items[:, 1:] >= 0)
    first, second = order[:, :-1], order[:, 1:]
    # The sort is stable: of an item in both lists, the place in a (below k) comes before the place in b.
    if (equal & ((first >= k) | (second < k))).any():
        raise DataError("a list names an item twice; every place of a ranked list holds another item")
    rows, cells = np.nonzero(equal)
    depth = np.maximum(first[rows, cells], second[rows, cells] - k)
    counts = np.bincount(rows * k + depth, minlength=n * k).reshape(n, k)
    return np.cumsum(counts, axis=1, dtype=np.int64)


def jaccard_at_k(a: ArrayLike, b: ArrayLike) -> Floats:
    """Share of the items in either list that are in both.

    Args:
        a: int [n, k], distinct item ids of 0 or above; -1 pads the end of a short list.
        b: int [n, k], alike.

    Returns:
        float64 [n], in [0, 1]; NaN where both lists are empty.

    Raises:
        DataError: shapes differ, ids are not integers, an item twice in a list, or padding before an item.
    """
    left, right = _lists(a, b)
    if not left.size:
        return np.full(len(left), np.nan)
    shared = _shared(left, right)[:, -1]
    union = (left >= 0).sum(axis=1) + (right >= 0).sum(axis=1) - shared
    made: Floats = np.divide(shared, union, out=np.full(len(left), np.nan), where=union > 0)
    return made


def rbo(a: ArrayLike, b: ArrayLike, p: float = 0.9) -> Floats:
    """Rank-biased overlap, extrapolated (RBO_ext; Webber, Moffat and Zobel 2010, equations 30 and 32).

    The expected agreement of two lists at the depth where a reader stops who goes on with probability p at
    every place: (1 - p) * sum over d of p^(d-1) A_d, where A_d = X_d / d and X_d counts the items that the
    first d places share. Beyond the lists' ends, A stays at its last value. Where padding makes one list
    shorter (s places), its unseen places are taken to agree as often as the seen ones: X_d grows by (d - s)
    X_s / s.

    Args:
        a: int [n, k], distinct item ids of 0 or above, best first; -1 pads the end of a short list.
        b: int [n, k], alike.
        p: in (0, 1); the expected depth is 1 / (1 - p).

    Returns:
        float64 [n], in [0, 1]; 0 where one list is empty, NaN where both are.

    Raises:
        ConfigurationError: p outside (0, 1).
        DataError: shapes differ, ids are not integers, an item twice in a list, or padding before an item.
    """
    if not 0 < p < 1:
        raise ConfigurationError(f"p must be in (0, 1), got {p}; 0.9 looks at about the first 10 places")
    left, right = _lists(a, b)
    n, k = left.shape
    if not left.size:
        return np.full(n, np.nan)
    lengths = np.stack([(left >= 0).sum(axis=1), (right >= 0).sum(axis=1)])
    short, long = lengths.min(axis=0)[:, None], lengths.max(axis=0)[:, None]
    shared, depth = _shared(left, right), np.arange(1, k + 1)
    at_short = np.take_along_axis(shared, np.maximum(short - 1, 0), axis=1)
    unseen = np.maximum(depth - short, 0) * at_short / np.maximum(short, 1)
    agreement = (shared + unseen) / depth
    agreement = np.take_along_axis(agreement, np.minimum(depth, np.maximum(long, 1)) - 1, axis=1)
    weights = (1 - p) * p ** (depth - 1.0)
    overlap: Floats = agreement @ weights + p**k * agreement[:, -1]
    return np.where(long[:, 0] > 0, overlap, np.nan)


def kendall_tau(a: ArrayLike, b: ArrayLike) -> Floats:
    """Kendall's tau-b of two scorings of the same items (Kendall 1945).

    Formula: (agreeing - disagreeing pairs) / sqrt(pairs not tied in a * pairs not tied in b).

    Args:
        a: float [n, k], scores of k items; infinite values are ordered like others.
        b: float [n, k], alike: column j of a row is the same item in both.

    Returns:
        float64 [n], in [-1, 1]; NaN where a row holds a NaN, has fewer than 2 items, or scores all items alike in a or
        in b. Takes time and memory of n * k^2 comparisons, k at a time.

    Raises:
        DataError: shapes differ or are not [n, k].
    """
    left, right = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if left.ndim != 2 or left.shape != right.shape:
        raise DataError(f"scores must be two arrays [n, k] of one shape, got {left.shape} and {right.shape}")
    agreeing, untied_left, untied_right = np.zeros((3, len(left)), np.int64)
    for gap in range(1, left.shape[1]):
        mine, theirs = _above(left, gap), _above(right, gap)
        agreeing += (mine * theirs).sum(1)
        untied_left += np.count_nonzero(mine, axis=1)
        untied_right += np.count_nonzero(theirs, axis=1)
    untied = np.sqrt(untied_left.astype(np.float64) * untied_right)
    defined = (untied > 0) & ~np.isnan(left).any(1) & ~np.isnan(right).any(1)
    made: Floats = np.divide(agreeing, untied, out=np.full(len(left), np.nan), where=defined)
    return made


def _above(scores: Floats, gap: int) -> NDArray[np.int8]:
    """1, 0 or -1: each item scores above, equal to or below the one `gap` columns before, int8 [n, k - gap]."""
    later, earlier = scores[:, gap:], scores[:, :-gap]
    return (later > earlier).view(np.int8) - (later < earlier).view(np.int8)
