"""Two classes of scores made ready to be compared: NaN left out, ascending, labelled by cluster."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from auditkit.data.dataset import Floats, Ints
from auditkit.errors import DataError
from auditkit.statistics.intervals import dropped_note, flat, join_notes


def without_nan(values: ArrayLike, name: str) -> tuple[Floats, str]:
    """Values without NaN (infinite ones are kept: only order counts) and a note on what was dropped."""
    array = flat(values, name)
    missing = np.isnan(array)
    dropped = int(missing.sum())
    return (array[~missing] if dropped else array), dropped_note(dropped, name)


def two_classes(positive: ArrayLike, negative: ArrayLike) -> tuple[Floats, Floats, str]:
    """Both classes without NaN, and a note on what was dropped from either."""
    (above, note), (below, other) = without_nan(positive, "positive"), without_nan(negative, "negative")
    return above, below, join_notes(note, other)


def empty_note(positive: Floats, negative: Floats) -> str:
    """Which classes hold no score; empty where both hold one."""
    names = [name for name, side in (("positive", positive), ("negative", negative)) if not len(side)]
    return f"no {' and no '.join(names)} scores" if names else ""


def is_ascending(scores: Floats) -> bool:
    """Whether no score lies below the one before it."""
    return bool((scores[1:] >= scores[:-1]).all())


def ascending(scores: Floats) -> Floats:
    """The scores in order; those that are in order already are returned as they are, so that a caller sorts once."""
    return scores if is_ascending(scores) else np.sort(scores)


def in_order(scores: Floats, labels: NDArray[np.generic]) -> tuple[Floats, NDArray[np.generic]]:
    """Scores in ascending order, each with its label; equal scores in any order."""
    if is_ascending(scores):
        return scores, labels
    order = np.argsort(scores)
    return scores[order], labels[order]


def wins(scores: Floats, others: Floats) -> Ints:
    """Twice how many of `others` lie below each score, ties counting one half.

    Args:
        scores: float64 [n]; look-ups of ascending scores stay in cache, several times faster than others.
        others: float64 [m], ascending.

    Returns:
        int64 [n], in 0..2m.
    """
    made: Ints = np.searchsorted(others, scores, side="left")
    made += np.searchsorted(others, scores, side="right")
    return made


def labelled(scores: ArrayLike, clusters: ArrayLike, name: str) -> tuple[Floats, NDArray[np.generic], str]:
    """Scores without NaN, their labels, and a note on what was dropped.

    Raises:
        DataError: not one label per score.
    """
    array, labels = flat(scores, name), np.asarray(clusters)
    if labels.shape != array.shape:
        raise DataError(f"{name}_clusters must hold one label per score, got shapes {labels.shape} and {array.shape}")
    missing = np.isnan(array)
    dropped = int(missing.sum())
    if dropped:
        array, labels = array[~missing], labels[~missing]
    return array, labels, dropped_note(dropped, name)


def cluster_codes(first: NDArray[np.generic], second: NDArray[np.generic]) -> tuple[Ints, Ints, int]:
    """Labels of two classes as 0..n_clusters-1, equal labels alike: int64 [m], int64 [n], n_clusters."""
    codes, labels = pd.factorize(np.concatenate([first, second]), use_na_sentinel=False)
    codes = codes.astype(np.int64, copy=False)
    return codes[: len(first)], codes[len(first) :], len(labels)
