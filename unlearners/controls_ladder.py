"""The control that knows the audit: it trains a small ladder of its own and tunes itself to read level 0 on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from auditkit.contracts import Backbone, Side, Task
from auditkit.data.dataset import Bools, Floats, Ints
from auditkit.deletion import Share
from auditkit.errors import ConfigurationError
from auditkit.probes import blocks, offered, row_moments
from auditkit.statistics.likelihood import fit_in_out
from auditkit.unlearners.controls_search import TunedReverseBPR

# Fewer pairs cannot be halved into something to tell a fresh account and something to ask it.
_MIN_PAIRS = 4


@dataclass(frozen=True, eq=False)
class Questions:
    """What the level is read at: pairs of the forget set, in served rows or in those of fresh accounts.

    Attributes:
        unit: int64 [n], the unit of the request that each pair belongs to.
        row: int64 [n], rising: which row, counted over `users` or `histories`.
        column: int64 [n], the item (the user, where fresh items are asked about).
        users: int64 [n_rows], whose served rows are read; None where fresh accounts answer.
        histories: what each fresh account is told.
        side: what is fresh.
    """

    unit: Ints
    row: Ints
    column: Ints
    users: Ints | None
    histories: Sequence[Ints] = ()
    side: Side = "user"

    @classmethod
    def of(cls, task: Task, rng: np.random.Generator) -> Questions:
        """As the audit's primary attack asks: forgotten pairs in served rows, or of fresh accounts told either half."""
        unit, pairs = task.request.unit_of(task.forget, task.data.n_items), task.forget
        if task.request.regime == "interaction":
            order = np.argsort(pairs.users, kind="stable")
            users, row = np.unique(pairs.users[order], return_inverse=True)
            return cls(unit[order], row, pairs.items[order], users)
        ids = pairs.items if task.request.regime == "user" else pairs.users
        order = np.lexsort((rng.random(len(ids)), unit))
        unit, ids = unit[order], ids[order]
        _, fresh, sizes = np.unique(unit, return_inverse=True, return_counts=True)
        place = np.arange(len(unit)) - (np.cumsum(sizes) - sizes)[fresh]
        known, enough = np.flatnonzero(sizes >= _MIN_PAIRS), sizes[fresh] >= _MIN_PAIRS
        first = (place < sizes[fresh] // 2)[enough]
        unit, ids, place = unit[enough], ids[enough], np.searchsorted(known, fresh[enough])
        histories = [ids[told & (place == k)] for told in (first, ~first) for k in range(len(known))]
        asked = np.concatenate([np.flatnonzero(~first), np.flatnonzero(first)])
        account = place[asked] + len(known) * first[asked]
        side: Side = "user" if task.request.regime == "user" else "item"
        return cls(unit[asked], account, ids[asked], None, histories, side)

    def z(self, model: Backbone) -> Floats:
        """The score of each pair within its row, float64 [n]; NaN where the row is constant."""
        if not len(self.row):
            return np.empty(0)
        if self.users is None:
            return self._within(model.fold_in(self.histories, side=self.side), self.row, self.column)
        found, start = [], 0
        for block in blocks(self.users, model.n_items):
            mine = slice(*np.searchsorted(self.row, [start, start + len(block)]))
            found.append(self._within(model.score(block), self.row[mine] - start, self.column[mine]))
            start += len(block)
        return np.concatenate(found)

    @staticmethod
    def _within(scores: Tensor, row: Ints, column: Ints) -> Floats:
        rows, columns = (torch.tensor(ids, device=scores.device) for ids in (row, column))
        mean, spread = row_moments(offered(scores))
        z = (scores.double()[rows, columns] - mean[rows]) / spread[rows]
        return np.asarray(z.cpu().numpy(), np.float64)


@dataclass(frozen=True, eq=False)
class Level:
    """The level of the audit's primary attack, on a ladder of one's own: 0 like its Golds, 1 like the original.

    L = w.(z - m) / w.(o - m), with m the mean Gold, o the original and w = (mean in - mean out) / variance within, of
    references that hold a random part of the units; see "The scale" in docs/methods.md.

    Attributes:
        questions: what is asked.
        weights: float64 [n], w.
        zero, one: w.m and w.o.
    """

    questions: Questions
    weights: Floats
    zero: float
    one: float

    @classmethod
    def on(cls, questions: Questions, original: Backbone, golds: Sequence[Backbone], references: Sequence[Backbone],
           held: Bools) -> Level:  # fmt: skip
        """Fit the weights.

        Args:
            questions: what is asked.
            original: reads 1.
            golds: read 0 on average.
            references: systems that hold a known part of the units.
            held: bool [n_references, n_units], which.
        """
        answers = np.stack([questions.z(model) for model in references])
        golden = np.stack([questions.z(model) for model in golds]).mean(0)
        full = questions.z(original)
        fitted = fit_in_out(answers, held[:, questions.unit])
        weights = np.where(np.isfinite(golden) & np.isfinite(full), fitted.weights(), 0.0)
        return cls(questions, weights, _weighted(weights, golden), _weighted(weights, full))

    def read(self, model: Backbone) -> float:
        """The level of a system; NaN where the original does not stand above the Golds."""
        if not self.one > self.zero:
            return float("nan")
        return (_weighted(self.weights, self.questions.z(model)) - self.zero) / (self.one - self.zero)


def _weighted(weights: Floats, values: Floats) -> float:
    return float((weights * np.where(weights == 0, 0.0, values)).sum())


@dataclass(frozen=True)
class TunedToLevel(TunedReverseBPR):
    """Reverse BPR, tuned to level 0 by the audit's own primary attack on Golds and references that it trains itself.

    Attributes:
        golds: of its own, 2 or more.
        references: of its own, an even number of 4 or more.
    """

    golds: int = 4
    references: int = 16
    name: ClassVar[str] = "tuned-to-level"
    label: ClassVar[str] = "control"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.golds < 2 or self.references < 4 or self.references % 2:
            raise ConfigurationError(
                "golds must be 2 or more and references an even number of 4 or more, got "
                f"{self.golds} and {self.references}"
            )

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """The parent after reverse steps, served over the retain set.

        Nothing moves where its own ladder shows no memory: of an empty forget set, or of units too small to halve.
        """
        served, questions = model.on(task.retain), Questions.of(task, rng)
        if len(questions.row):
            level = self.level(model, task, questions, rng)
            self.tune(served, task, lambda: level.read(served), 0.0, rng)
        return served

    def level(self, original: Backbone, task: Task, questions: Questions, rng: np.random.Generator) -> Level:
        """Train the ladder and fit the weights on it."""
        held = self.held(task, rng)
        data = [task.retain] * self.golds + [task.request.erase(task.data, ~row & task.units) for row in held]
        members = [(part, int(rng.integers(2**31))) for part in data]
        models = task.recipe.architecture().fit(members, task.recipe, device=task.device)
        return Level.on(questions, original, models[: self.golds], models[self.golds :], held)

    def held(self, task: Task, rng: np.random.Generator) -> Bools:
        """Which units each reference is trained on, bool [n_references, n_units]: shares in complementary pairs.

        Every unit that goes is held by half of the references, and the doses lie on a grid.
        """
        units = np.flatnonzero(task.units)
        found = np.ones((self.references, task.request.n_units), np.bool_)
        for j in range(self.references // 2):
            cut, order = (2 * j + 1) / self.references, int(rng.integers(2**31))
            for k, share in enumerate((Share(0.0, cut, order), Share(cut, 1.0, order))):
                found[2 * j + k, units[share.of(len(units))]] = False
        return found
