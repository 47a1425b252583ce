"""Pairs that a system is asked about, forgotten and others, and its signals there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from auditkit.builds import System, Workshop, build
from auditkit.contracts import Recommender
from auditkit.data.dataset import Bools, Dataset, Floats, Interactions, Ints
from auditkit.deletion import DeletionRequest
from auditkit.probes import blocks, offered, row_moments
from auditkit.talk import Talk
from auditkit.unlearners.steps import Batches

SIGNALS = ("raw", "z")
NON_MEMBERS = ("random", "same users", "test")


@dataclass(frozen=True, eq=False)
class Pairs:
    """User-item pairs in named groups.

    Attributes:
        users, items: int64 [n].
        group: str [n], `forget` or one of the non-members: `random` (user and item drawn uniformly, never seen
            together), `same users` (the forgotten pairs' users, each with a never-seen item) and `test` (test pairs of
            users who have forgotten pairs). Users who have seen every item have no never-seen pairs.
    """

    users: Ints
    items: Ints
    group: np.ndarray

    def rows(self, group: str) -> Ints:
        """Positions of one group."""
        return np.flatnonzero(self.group == group)

    @cached_property
    def forget_users(self) -> Ints:
        """User of each forgotten pair: its cluster."""
        return self.users[self.rows("forget")]

    @cached_property
    def test_users(self) -> Ints:
        """User of each test pair."""
        return self.users[self.rows("test")]


def _known(data: Dataset) -> Interactions:
    parts = (data.train, data.valid, data.test)
    users, items = (np.concatenate([getattr(part, name) for part in parts]) for name in ("users", "items"))
    return Interactions.unique(users, items)[0]


def _never_seen(users: Ints, known: Interactions, n_items: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    items = Batches(known, n_items, 1).negatives(users, rng)
    kept = ~np.isin(users * n_items + items, known.codes(n_items))
    return users[kept], items[kept]


def choose_pairs(data: Dataset, request: DeletionRequest, *, seed: int) -> Pairs:
    """The forgotten pairs and as many non-members of each kind (of test pairs, as many as there are)."""
    rng, known = np.random.default_rng([seed, 7]), _known(data)
    forget = request.forget_set(data)
    eligible = np.flatnonzero(np.isin(data.test.users, forget.users))
    test = data.test.take(rng.permutation(eligible)[: len(forget)])
    parts = [
        (forget.users, forget.items),
        _never_seen(rng.integers(data.n_users, size=len(forget)), known, data.n_items, rng),
        _never_seen(forget.users, known, data.n_items, rng),
        (test.users, test.items),
    ]
    names = np.repeat(["forget", *NON_MEMBERS], [len(users) for users, _ in parts])
    users, items = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Pairs(users, items, names)


def halves_of_users(users: Ints, count: int, *, seed: int) -> list[Bools]:
    """Random halves of the users: which pairs belong to the chosen half, `count` masks of bool [n_pairs]."""
    rng, labels = np.random.default_rng([seed, 11]), np.unique(users)
    return [np.isin(users, rng.permutation(labels)[: len(labels) // 2]) for _ in range(count)]


def signals(model: Recommender, pairs: Pairs) -> dict[str, Floats]:
    """`raw` score and its `z` within the user's row, float64 [n_pairs] each."""
    users, place = np.unique(pairs.users, return_inverse=True)
    found = {name: np.full(len(place), np.nan) for name in SIGNALS}
    start = 0
    for block in blocks(users, model.n_items):
        mine = np.flatnonzero((place >= start) & (place < start + len(block)))
        scores = offered(model.score(block)).cpu()
        mean, spread = row_moments(scores)
        at = place[mine] - start
        raw = scores[at, pairs.items[mine]]
        found["raw"][mine], found["z"][mine] = raw.numpy(), ((raw - mean[at]) / spread[at]).numpy()
        start += len(block)
    return found


def answers(systems: Iterable[System], shop: Workshop, pairs: Pairs, talk: Talk) -> dict[str, Floats]:
    """Signals of several systems, float64 [n_systems, n_pairs] each."""
    each = [signals(model, pairs) for _, model, _ in build(list(systems), shop, talk)]
    return {name: np.stack([answer[name] for answer in each]) for name in SIGNALS}
