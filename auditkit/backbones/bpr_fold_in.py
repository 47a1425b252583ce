"""The vector of a fresh user or item under the BPR loss, compiled: the other side's vectors stay as they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from auditkit.data.dataset import Floats, Ints

STEPS = 20
NEGATIVES = 64
L2 = 0.005
_LOWEST = 600.0


def fresh_vectors(table: Floats, histories: Sequence[Ints]) -> Floats:
    """Minimise mean BPR over a history plus L2/2 |x|^2 by full-batch gradient descent from 0.

    Every history has `NEGATIVES` fixed ids of its own as negatives, the same in every system (ids shared by all
    histories would give all fresh vectors one common error); a told id among them counts for nothing. The step is
    1 / (a bound on the curvature), so that it needs no tuning and never diverges.

    Args:
        table: float64 [n_ids, d], vectors of what is told.
        histories: ids in [0, n_ids), told of each fresh entity; none told gives the zero vector.

    Returns:
        float64 [n_histories, d].
    """
    chosen = np.random.default_rng(0).integers(len(table), size=(len(histories), NEGATIVES))
    ends = np.cumsum([0, *(len(h) for h in histories)])
    told = np.concatenate([np.empty(0, np.int64), *(np.asarray(h, np.int64) for h in histories)])
    fresh = np.zeros((len(histories), table.shape[1]))
    _descend(np.ascontiguousarray(table), ends, told, chosen, fresh)
    return fresh


@njit(nogil=True, cache=True)
def _descend(table, ends, told, chosen, fresh):  # type: ignore[no-untyped-def]
    for h in range(len(fresh)):
        positives = table[told[ends[h] : ends[h + 1]]]
        negatives = table[_not_told(chosen[h], told[ends[h] : ends[h + 1]])]
        if len(positives) and len(negatives):
            _minimise(positives, negatives, fresh[h])


@njit(inline="always")
def _not_told(chosen: NDArray[np.int64], told: NDArray[np.int64]) -> NDArray[np.int64]:
    free = np.ones(len(chosen), np.bool_)
    for j in range(len(chosen)):
        for t in range(len(told)):
            if chosen[j] == told[t]:
                free[j] = False
                break
    return chosen[free]


@njit(inline="always")
def _minimise(positives: Floats, negatives: Floats, x: Floats) -> None:
    n_pairs = len(positives) * len(negatives)
    # The trace of the mean outer product of differences bounds its largest eigenvalue; the logistic curve bends by 1/4.
    squares = (positives**2).sum() / len(positives) + (negatives**2).sum() / len(negatives)
    cross = (positives.sum(0) * negatives.sum(0)).sum() / n_pairs
    step = 1 / (0.25 * (squares - 2 * cross) + L2)
    up, down = np.empty(len(positives)), np.empty(len(negatives))
    for _ in range(STEPS):
        a, b = positives @ x, negatives @ x
        top = max(a.max(), b.max())
        # Scores further than this below the best are as good as equal, and their exponentials must not be 0 / 0.
        above, below = np.exp(np.maximum(a - top, -_LOWEST)), np.exp(np.maximum(b - top, -_LOWEST))
        up[:] = 0
        down[:] = 0
        for t in range(len(positives)):
            for j in range(len(negatives)):
                # sigmoid(-(a - b)) of two scores, from their exponentials.
                pull = below[j] / (above[t] + below[j])
                up[t] += pull
                down[j] += pull
        x += step * ((up @ positives - down @ negatives) / n_pairs - L2 * x)
