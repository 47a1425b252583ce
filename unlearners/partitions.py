"""Dividing training pairs, users or items into parts: at random, by balanced k-means, by optimal transport."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from scipy.special import logsumexp

from auditkit.data.dataset import Floats, Ints


def random_parts(n: int, n_parts: int, rng: np.random.Generator) -> Ints:
    """A part in [0, n_parts) for each of `n` things, int64 [n]; sizes differ by one at most."""
    return np.asarray(rng.permutation(n) % n_parts, np.int64)


@dataclass(frozen=True, eq=False)
class Side:
    """What is clustered, seen from one side: thing k has the vector `table[rows[k]]`.

    Pairs have two sides that share a table's rows; users or items have one, with a row each.

    Attributes:
        table: float64 [n_rows, d].
        rows: int64 [n_things].
    """

    table: Floats
    rows: Ints

    def distances(self, centres: Floats) -> Floats:
        """Squared Euclidean distance of every thing to every centre, float64 [n_things, n_parts]."""
        cross = self.table @ centres.T
        squared = np.square(self.table).sum(1)[:, None] - 2 * cross + np.square(centres).sum(1)
        return np.asarray(np.maximum(squared, 0.0)[self.rows])

    def means(self, parts: Ints, before: Floats) -> Floats:
        """Mean vector of every part; a part without things keeps its centre of `before`."""
        size = len(before) * len(self.table)
        counts = np.bincount(parts * len(self.table) + self.rows, minlength=size).reshape(len(before), -1)
        sizes = counts.sum(1, keepdims=True)
        return np.where(sizes > 0, counts @ self.table / np.maximum(sizes, 1), before)


def capacity_of(n: int, n_parts: int, slack: float) -> int:
    """Most things in a part: slack * n / n_parts, rounded up; `slack` is 1 or more."""
    # 1.1 * 10 is a little more than 11 in floating point.
    return ceil(round(slack * n / n_parts, 9))


def cheapest_with_room(costs: Floats, capacity: int) -> Ints:
    """Greedy balanced assignment: of all (thing, part) places the cheapest goes first, while its part has room.

    Computed as a stable matching, which is the same: things ask their parts in the order of cost, and a part that is
    asked by too many keeps the cheapest. Equal costs go to the lower thing, then the lower part.

    Args:
        costs: float64 [n_things, n_parts], finite.
        capacity: most things in a part; capacity * n_parts is n_things or more.

    Returns:
        int64 [n_things], the part of each.
    """
    left = costs.copy()
    parts = np.asarray(left.argmin(1), np.int64)
    while True:
        crowded = np.flatnonzero(np.bincount(parts, minlength=left.shape[1]) > capacity)
        if not len(crowded):
            return parts
        for part in crowded:
            asking = np.flatnonzero(parts == part)
            refused = asking[np.argsort(left[asking, part], kind="stable")[capacity:]]
            left[refused, part] = np.inf
            parts[refused] = left[refused].argmin(1)


def balanced_kmeans(
    sides: Sequence[Side], n_parts: int, *, slack: float, rounds: int, rng: np.random.Generator
) -> Ints:
    """RecEraser's partition (Chen et al., WWW 2022): k-means whose parts hold slack * n / n_parts things at most.

    The cost of a thing in a part is the product over sides of its squared distances to the part's centre: one side
    for users (UBP) or items (IBP), two for pairs (InBP). Centres start at things drawn at random. It ends after
    `rounds`, or as soon as an assignment repeats the one before.

    Args:
        sides: one or two views of the same things.
        n_parts: 1 or more; with fewer things than parts some stay empty.
        slack: 1 or more; published: 1.2.
        rounds: most assignments, 1 or more; published: 50.
        rng: of the first centres.

    Returns:
        int64 [n_things], in [0, n_parts).
    """
    n = len(sides[0].rows)
    parts, centres = np.zeros(n, np.int64), _first_centres(sides, n_parts, rng)
    for k in range(rounds if n else 0):
        costs = np.prod([side.distances(c) for side, c in zip(sides, centres, strict=True)], axis=0)
        fresh = cheapest_with_room(costs, capacity_of(n, n_parts, slack))
        if k and np.array_equal(fresh, parts):
            break
        parts = fresh
        centres = [side.means(parts, c) for side, c in zip(sides, centres, strict=True)]
    return parts


def _first_centres(sides: Sequence[Side], n_parts: int, rng: np.random.Generator) -> list[Floats]:
    n = len(sides[0].rows)
    if not n:
        return []
    chosen = rng.choice(n, n_parts, replace=n < n_parts)
    return [side.table[side.rows[chosen]] for side in sides]


def transport_plan(costs: Floats, *, blur: float = 0.02, tolerance: float = 1e-3, most: int = 500) -> Floats:
    """Logarithm of the entropic transport plan between things of mass 1/n and parts of mass 1/n_parts.

    Sinkhorn's iteration in the log domain (Cuturi, NeurIPS 2013): the plan minimises <plan, costs> - epsilon * entropy.

    Args:
        costs: float64 [n_things, n_parts], 0 or more; at least one thing and one part.
        blur: epsilon over the mean cost; smaller is closer to the exact transport and takes more iterations.
        tolerance: largest relative error of a part's mass at which it stops.
        most: iterations.

    Returns:
        float64 [n_things, n_parts]; masses of things are exact, those of parts within `tolerance` where it converged.
    """
    n_parts = costs.shape[1]
    scaled = costs / max(blur * costs.mean(), np.finfo(np.float64).tiny)
    price = np.zeros(n_parts)
    for _ in range(most):
        plan = _rows_filled(price - scaled)
        excess = logsumexp(plan, axis=0) + np.log(n_parts)
        if np.abs(np.expm1(excess)).max() <= tolerance:
            break
        price = price - excess
    return _rows_filled(price - scaled)


def _rows_filled(plan: Floats) -> Floats:
    """A log plan whose every row has mass 1/n."""
    return np.asarray(plan - logsumexp(plan, axis=1, keepdims=True) - np.log(len(plan)))


def transport_parts(side: Side, n_parts: int, *, rounds: int, rng: np.random.Generator) -> Ints:
    """UltraRE's partition (Li et al., NeurIPS 2023): clusters of equal size by optimal transport.

    Each round moves things to centres by `transport_plan` under squared distances, then centres to their means. The
    plan is rounded to whole things by its own masses, with room for n / n_parts (rounded up) in a part, so that sizes
    are exact. How the paper rounds its plan is not known to us: reconstructed.

    Args:
        side: what is clustered.
        n_parts: 1 or more; with fewer things than parts some stay empty.
        rounds: most assignments, 1 or more.
        rng: of the first centres.

    Returns:
        int64 [n_things], in [0, n_parts).
    """
    n = len(side.rows)
    parts, centres = np.zeros(n, np.int64), _first_centres([side], n_parts, rng)
    for k in range(rounds if n else 0):
        fresh = cheapest_with_room(-transport_plan(side.distances(centres[0])), capacity_of(n, n_parts, 1.0))
        if k and np.array_equal(fresh, parts):
            break
        parts, centres = fresh, [side.means(fresh, centres[0])]
    return parts
