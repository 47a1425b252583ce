"""How many steps a model needs to learn again what it forgot, compared with one that never knew it."""

from __future__ import annotations

import numpy as np

from auditkit.data.dataset import Floats
from auditkit.errors import DataError


def steps_to_reach(curves: Floats, steps: Floats, level: float) -> Floats:
    """The first number of steps at which each curve reaches a level, straight lines between what was read.

    Args:
        curves: float64 [n, n_read], a signal that rises as the model learns.
        steps: float64 [n_read], rising, from 0.
        level: to reach.

    Returns:
        Float64 [n], 0 for a curve that starts there; infinite for one that does not get there; NaN for one with NaN.

    Raises:
        DataError: steps do not rise, or are not as many as a curve has readings.
    """
    steps = np.asarray(steps, np.float64)
    if curves.ndim != 2 or curves.shape[1] != len(steps) or not (np.diff(steps) > 0).all():
        raise DataError(f"curves must be [n, n_read] with n_read rising steps, got {curves.shape} and steps {steps}")
    there = curves >= level
    after = there.argmax(1)
    before = np.maximum(after - 1, 0)
    rows = np.arange(len(curves))
    low, high = curves[rows, before], curves[rows, after]
    share = np.divide(level - low, high - low, out=np.zeros(len(curves)), where=high > low)
    found = np.where(after == 0, steps[0], steps[before] + share * (steps[after] - steps[before]))
    found = np.where(there.any(1), found, np.inf)
    return np.where(np.isnan(curves).any(1), np.nan, found)


def anamnesis_index(curves: Floats, originals: Floats, golds: Floats, steps: Floats, *, share: float = 0.5) -> Floats:
    """Steps to recover, relative to Gold: near 1 is like a model that never knew, near 0 has not forgotten.

    A system has recovered where its curve reaches the mean start of the Golds plus `share` of the way to the mean start
    of the originals. The index is its number of steps divided by the mean Gold's. Chundawat et al. (IEEE TIFS 18, 2023)
    ask for nearly all of the original's accuracy. A ranking signal has no zero of its own, so the way from Gold counts,
    and what was asked and not told never comes back whole, so half of the way does.

    Args:
        curves: float64 [n, n_read], a system's signal after each number of steps, averaged over what was asked.
        originals, golds: the same of originals (at least 1) and Golds (at least 1).
        steps: float64 [n_read], rising, from 0.
        share: in (0, 1].

    Returns:
        Float64 [n], 0 or above; infinite for a system that does not recover while the mean Gold does. NaN where the
        mean Gold does not recover within the steps, where the originals start no higher than the Golds, and for curves
        with NaN.
    """
    start, end = golds[:, 0].mean(), originals[:, 0].mean()
    level = float(start + share * (end - start))
    slowest = float(steps_to_reach(golds.mean(0, keepdims=True), steps, level)[0])
    if not end > start or not np.isfinite(slowest):
        return np.full(len(curves), np.nan)
    return np.asarray(steps_to_reach(curves, steps, level) / slowest)
