"""Training triples that an influence is summed over: forgotten, with a changed graph, or bending at some nodes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from auditkit.contracts import Task
from auditkit.data.dataset import Bools, Floats, Interactions, Ints
from auditkit.unlearners.pruning import Nodes, degrees
from auditkit.unlearners.steps import drawn_until


@dataclass(frozen=True, eq=False)
class Triples:
    """Weighted triples.

    Attributes:
        users, positives, negatives: int64 [n].
        weights: float64 [n], what each counts in a sum over the training pairs.
    """

    users: Ints
    positives: Ints
    negatives: Ints
    weights: Floats

    @classmethod
    def none(cls) -> Triples:
        """No triple."""
        ids = np.empty(0, np.int64)
        return cls(ids, ids, ids, np.empty(0))

    def __len__(self) -> int:
        return len(self.users)

    def ids(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Users, positives and negatives on the device, int64 [n] each."""
        users, positives, negatives = (
            torch.as_tensor(ids, device=device) for ids in (self.users, self.positives, self.negatives)
        )
        return users, positives, negatives

    def counts(self, n_users: int, n_items: int) -> tuple[Floats, Floats]:
        """Total weight of the triples of each user, and of each item in either place."""
        items = np.concatenate([self.positives, self.negatives])
        twice = np.concatenate([self.weights, self.weights])
        of_users = np.bincount(self.users, self.weights, n_users).astype(np.float64)
        return of_users, np.bincount(items, twice, n_items).astype(np.float64)

    def times(self, factor: float) -> Triples:
        """The same with weights multiplied."""
        return Triples(self.users, self.positives, self.negatives, factor * self.weights)

    def and_also(self, other: Triples) -> Triples:
        """Both, one after the other."""
        columns = ("users", "positives", "negatives", "weights")
        return Triples(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in columns))

    def take(self, rows: Bools | Ints) -> Triples:
        """Those at `rows`."""
        return Triples(self.users[rows], self.positives[rows], self.negatives[rows], self.weights[rows])


class Sampler:
    """Draws negatives as the parent's training did: uniform over a pool, never an item that the user holds."""

    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        """Take over the task.

        Args:
            task: its `data` says who holds what; its recipe, which items are drawn.
            rng: of all draws.
        """
        self.task, self.rng = task, rng
        self.n_items = task.data.n_items

    @cached_property
    def _pool(self) -> Ints:
        if self.task.recipe.fit.negatives == "trained":
            return np.flatnonzero(np.bincount(self.task.data.train.items, minlength=self.n_items))
        return np.arange(self.n_items)

    @cached_property
    def _held(self) -> Ints:
        """Codes of the training pairs, ascending. A CSR matrix sorts them far faster than a sort does."""
        matrix = self.task.data.train.matrix(self.task.data.n_users, self.n_items)
        rows = np.repeat(np.arange(self.task.data.n_users), np.diff(matrix.indptr))
        return rows * self.n_items + matrix.indices

    def free(self, users: Ints, items: Ints) -> Bools:
        """Which pairs are no training pairs, bool [n]."""
        codes = users * self.n_items + items
        place = np.minimum(np.searchsorted(self._held, codes), len(self._held) - 1)
        return np.asarray(self._held[place] != codes, np.bool_)

    def negatives(self, users: Ints) -> Ints:
        """One of the pool for each user, that the user does not hold where there is one; int64 [n]."""
        return drawn_until(
            lambda places, items: self.free(users[places], items),
            lambda places: self._pool[self.rng.integers(len(self._pool), size=len(places))],
            len(users),
        )

    def with_negatives(self, pairs: Interactions, draws: int = 1) -> Triples:
        """Each pair with `draws` negatives, which share a weight of 1."""
        users, items = np.repeat(pairs.users, draws), np.repeat(pairs.items, draws)
        return Triples(users, items, self.negatives(users), np.full(len(users), 1 / draws))

    def at_most(self, pairs: Interactions, most: int) -> Triples:
        """Pairs with one negative each; of more than `most` a random part that stands for all."""
        if len(pairs) <= most:
            return self.with_negatives(pairs)
        chosen = self.with_negatives(pairs.take(np.sort(self.rng.choice(len(pairs), most, replace=False))))
        return chosen.times(len(pairs) / most)

    def counts(self) -> tuple[Floats, Floats]:
        """Expected training samples of each user and of each item, in either place; float64 [n_users] and [n_items].

        A node without samples counts as one.
        """
        data = self.task.data
        users, items = degrees(data.train, data.n_users, data.n_items)
        drawn = np.bincount(self._pool, minlength=data.n_items) * (len(data.train) / len(self._pool))
        return np.maximum(users, 1), np.maximum(items + drawn, 1)

    def bending(self, nodes: Nodes, most: int) -> Triples:
        """Training triples with an end among `nodes`: their pairs, and pairs that drew one of them as negative.

        Args:
            nodes: where the curvature is wanted.
            most: pairs of each of the two kinds that are looked at.
        """
        pairs = self.task.data.train
        touched = nodes.touch(pairs)
        near = self.at_most(pairs.take(touched), most)
        targets = self._pool[nodes.items[self._pool]]
        far = pairs.take(~touched)
        expected = round(len(far) * len(targets) / len(self._pool))
        if not expected:
            return near
        drawn = min(expected, most)
        chosen = far.take(self.rng.choice(len(far), drawn, replace=False))
        items = targets[self.rng.integers(len(targets), size=drawn)]
        # What is held is never drawn, so that each free item is drawn more often than one in the pool.
        weights = expected / drawn * len(self._pool) / self._free_items(pairs)[chosen.users]
        found = Triples(chosen.users, chosen.items, items, weights)
        return near.and_also(found.take(self.free(chosen.users, items)))

    def _free_items(self, pairs: Interactions) -> Ints:
        """How many items of the pool are no items of each user in `pairs`, 1 or more; int64 [n_users]."""
        held = np.bincount(pairs.users, minlength=self.task.data.n_users)
        return np.maximum(len(self._pool) - held, 1)

    def freed(self, draws: int) -> Triples:
        """What retraining draws and training did not: a forgotten item as a negative of its user's retained pairs.

        Each retained pair of a user meets a given free item with probability 1 / (free items of the user), so a
        forgotten pair is a negative with the weight retained / free; `draws` of the retained pairs stand for all.
        """
        retain, forget = self.task.retain.train, self.task.forget
        matrix = retain.matrix(self.task.data.n_users, self.n_items)
        counts = np.diff(matrix.indptr)
        open_to = forget.take(counts[forget.users] > 0)
        users, items = np.repeat(open_to.users, draws), np.repeat(open_to.items, draws)
        places = matrix.indptr[users] + self.rng.integers(counts[users])
        weights = counts[users] / self._free_items(retain)[users] / draws
        return Triples(users, matrix.indices[places].astype(np.int64), items, weights)
