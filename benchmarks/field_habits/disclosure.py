"""Habit 3: the largest epsilon over all thresholds, as if the threshold had not been chosen by looking."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from auditkit.data.dataset import Floats, Ints
from auditkit.statistics.epsilon import EpsilonBound, epsilon_max_uncorrected, epsilon_scan, epsilon_split
from benchmarks.field_habits.pairs import halves_of_users


@dataclass(frozen=True, eq=False)
class Contrast:
    """Scores of one system at two sets of pairs, or of two systems.

    Attributes:
        positive, negative: float64 [m], [n].
        positive_users, negative_users: int64 [m], [n].
    """

    positive: Floats
    negative: Floats
    positive_users: Ints
    negative_users: Ints


def _split_by_user(c: Contrast) -> EpsilonBound:
    return epsilon_split(
        c.positive, c.negative, clusters_positive=c.positive_users, clusters_negative=c.negative_users, seed=0
    )


BOUNDS: Mapping[str, Callable[[Contrast], EpsilonBound]] = {
    "maximum, uncorrected": lambda c: epsilon_max_uncorrected(c.positive, c.negative),
    "maximum, corrected": lambda c: epsilon_scan(c.positive, c.negative),
    "split": lambda c: epsilon_split(c.positive, c.negative, seed=0),
    "split, by user": _split_by_user,
}


def epsilons(contrasts: list[Contrast]) -> dict[str, Floats]:
    """Every bound on every contrast, float64 [n_contrasts] by name; undefined ones read 0, which shows nothing."""
    return {name: np.array([bound(c).value or 0.0 for c in contrasts]) for name, bound in BOUNDS.items()}


def between_systems(first: Floats, second: Floats, users: Ints) -> list[Contrast]:
    """The same pairs read in two systems; rows of float64 [n_systems, n_pairs] are compared."""
    return [Contrast(a, b, users, users) for a, b in zip(first, second, strict=True)]


def against_outside(values: Floats, outside: Floats, users: Ints, outside_users: Ints) -> list[Contrast]:
    """Forgotten against test pairs within each system, float64 [n_systems, n_pairs] and [n_systems, n_test]."""
    return [Contrast(a, b, users, outside_users) for a, b in zip(values, outside, strict=True)]


def halves(values: Floats, users: Ints, *, seed: int) -> list[Contrast]:
    """Half of the erased users against the other half within each system, drawn anew for each."""
    masks = halves_of_users(users, len(values), seed=seed)
    return [Contrast(row[m], row[~m], users[m], users[~m]) for row, m in zip(values, masks, strict=True)]
