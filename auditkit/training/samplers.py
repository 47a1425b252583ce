"""Drawing training triples on the CPU: the stream of a member is its seed's and the epoch's alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from auditkit.data.dataset import Bools, Dataset, Ints

# Keeps these streams apart from others of the same seed (NumPy seeds [s] and [s, 0] alike).
_STREAM = 0x7219


@dataclass(frozen=True, eq=False)
class Triples:
    """Training triples in the order of use.

    Attributes:
        users, positives, negatives: int64 [n]; each user holds the positive and not the negative.
    """

    users: Ints
    positives: Ints
    negatives: Ints

    def __len__(self) -> int:
        return len(self.users)


class TripleSampler:
    """Draws the triples of an epoch from one data set's training pairs.

    `shuffle`: every pair once, in random order. `users`: as many draws as there are pairs, each a user with
    pairs chosen uniformly with replacement, then one of that user's items uniformly (light users weigh
    more). The negative is uniform over the items of the pool that the user does not hold. Users who hold all of
    it have no negative: they and their pairs are left out.
    """

    def __init__(
        self, data: Dataset, kind: Literal["shuffle", "users"], negatives: Literal["all", "trained"] = "all"
    ) -> None:
        """Sort the pairs once.

        Args:
            data: its training pairs are drawn from.
            kind: `shuffle` or `users`.
            negatives: the pool, `all` items or those with training pairs.
        """
        self.kind, self.n_items = kind, data.n_items
        self.pool = np.arange(data.n_items) if negatives == "all" else np.unique(data.train.items)
        self.codes = np.sort(data.train.codes(data.n_items))
        held = np.bincount(data.train.users, minlength=data.n_users)
        self.pairs = self.codes[held[self.codes // data.n_items] < len(self.pool)]
        holders = self.pairs // data.n_items
        self.users, self.starts, self.lengths = np.unique(holders, return_index=True, return_counts=True)

    def __len__(self) -> int:
        """Triples in an epoch."""
        return len(self.pairs)

    def draw(self, seed: int, epoch: int) -> Triples:
        """The triples of one epoch; equal arguments give equal triples.

        Args:
            seed: of the member, 0 or above.
            epoch: counted from 0.
        """
        rng = np.random.default_rng([_STREAM, seed, epoch])
        pairs = self._every_pair(rng) if self.kind == "shuffle" else self._pairs_of_users(rng)
        users, positives = np.divmod(pairs, self.n_items)
        return Triples(users, positives, self._negatives(users, rng))

    def _every_pair(self, rng: np.random.Generator) -> Ints:
        order: Ints = rng.permutation(self.pairs)
        return order

    def _pairs_of_users(self, rng: np.random.Generator) -> Ints:
        chosen = rng.integers(max(len(self.users), 1), size=len(self.pairs))
        drawn: Ints = self.pairs[self.starts[chosen] + rng.integers(self.lengths[chosen])]
        return drawn

    def _negatives(self, users: Ints, rng: np.random.Generator) -> Ints:
        """Draw uniformly and draw again what the user holds."""
        negatives = np.empty(len(users), np.int64)
        open_places = np.arange(len(users))
        while len(open_places):
            drawn = self.pool[rng.integers(len(self.pool), size=len(open_places))]
            negatives[open_places] = drawn
            open_places = open_places[self._held(users[open_places] * self.n_items + drawn)]
        return negatives

    def _held(self, codes: Ints) -> Bools:
        place = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.asarray(self.codes[place] == codes, np.bool_)
