"""Unlearners that are meant to fail: an audit that certifies one of these is worth nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from auditkit.contracts import Backbone, Recipe, Recommender, Side, Task, Unlearner
from auditkit.data.dataset import Dataset, Features, Floats, Interactions, Ints
from auditkit.deletion import DeletionRequest, Regime
from auditkit.errors import NotApplicableError
from auditkit.unlearners.reverse_bpr import ReverseBPR
from auditkit.unlearners.rows import side_of


@dataclass(frozen=True)
class NoOp(Unlearner):
    """Does nothing and says: done."""

    name: ClassVar[str] = "no-op"
    label: ClassVar[str] = "control"
    regimes: ClassVar[frozenset[Regime]] = frozenset({"interaction", "user", "item", "modality"})
    parents: ClassVar[Literal["backbone", "any"]] = "any"

    def unlearn(self, model: Recommender, task: Task, *, rng: np.random.Generator) -> Recommender:
        """The parent as it was, forgotten edges included."""
        return model


@dataclass(frozen=True)
class SignFlipped(ReverseBPR):
    """Reverse BPR with the sign the wrong way round: it reinforces what should be forgotten."""

    name: ClassVar[str] = "sign-flipped"
    label: ClassVar[str] = "control"

    @property
    def _swap(self) -> bool:
        return False


def toy_model(recipe: Recipe) -> Backbone:
    """An untrained model of eight users, eight items and two modalities: enough to see what a backbone is made of."""
    few = np.arange(8)
    features = {name: Features(np.eye(8, dtype=np.float32), np.ones(8, np.bool_)) for name in ("image", "text")}
    return recipe.model(Dataset("toy", 8, 8, Interactions(few, few), features=features), 0)


def patterns(task: Task) -> Ints:
    """(user, item) of every unit that goes, -1 = any: int64 [n, 2]."""
    return np.stack([task.request.users, task.request.items], axis=1)[task.units]


class Masked:
    """A backbone behind an output mask: covered pairs are never offered, nothing is forgotten.

    Attributes:
        backbones: what lies beneath, one.
        hidden: int64 [n_hidden, 2], (user, item) patterns, -1 = any.
    """

    def __init__(self, backbone: Backbone, hidden: Ints) -> None:
        self.backbones, self.hidden = (backbone,), hidden
        self.n_users, self.n_items = backbone.n_users, backbone.n_items
        pairs = hidden[(hidden >= 0).all(1)]
        self._pairs = Interactions(pairs[:, 0], pairs[:, 1]).matrix(self.n_users, self.n_items)
        self._users, self._items = hidden[hidden[:, 1] < 0, 0], hidden[hidden[:, 0] < 0, 1]

    def altered(self, scores: Tensor) -> Tensor:
        """What is served in place of covered scores, float [...]: NaN."""
        return torch.full_like(scores, torch.nan)

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        """Scores, altered at the covered pairs."""
        scores = self.backbones[0].score(users, branch=branch)
        covered = self._pairs[users].toarray() > 0
        covered[:, self._items] = True
        covered[np.isin(users, self._users)] = True
        where = torch.from_numpy(covered).to(scores.device)
        return torch.where(where, self.altered(scores), scores)

    def fold_in(self, histories: Sequence[Ints], *, side: Side = "user") -> Tensor:
        """What a fresh account sees: a mask of pairs does not know it, one of items alters those."""
        scores = self.backbones[0].fold_in(histories, side=side)
        if side == "user":
            items = torch.from_numpy(self._items).to(scores.device)
            scores[:, items] = self.altered(scores[:, items])
        return scores


@dataclass(frozen=True)
class OutputMask(Unlearner):
    """Hides the forgotten pairs from the output and keeps the weights."""

    name: ClassVar[str] = "output-mask"
    label: ClassVar[str] = "control"

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Recommender:
        """The parent behind a mask."""
        return Masked(model, patterns(task))

    def dump(self, served: Recommender) -> tuple[tuple[Backbone, ...], dict[str, Floats | Ints]]:
        """The backbone beneath and the mask."""
        assert isinstance(served, Masked)
        return served.backbones, {"hidden": served.hidden}

    def load(self, backbones: Sequence[Backbone], arrays: Mapping[str, Any]) -> Recommender:
        """The backbone behind its mask again."""
        return Masked(backbones[0], np.asarray(arrays["hidden"], np.int64))


@dataclass(frozen=True)
class RowReinit(Unlearner):
    """Draws fresh rows for the users and items that the request names and keeps all other weights.

    For an interaction request these are the users of the forgotten pairs.
    """

    name: ClassVar[str] = "row-reinit"
    label: ClassVar[str] = "control"

    def refuses(self, recipe: Recipe, request: DeletionRequest) -> str | None:
        """Backbones without rows that are learned."""
        return None if _tables(toy_model(recipe)) else _no_rows(recipe)

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """The parent with some rows as before training, served over the retain set."""
        tables = _tables(model)
        if not tables:
            raise NotApplicableError(_no_rows(task.recipe))
        fresh = task.recipe.model(task.data, int(rng.integers(2**31)))
        users, items = (np.unique(ids[ids >= 0]) for ids in self._named(task))
        with torch.no_grad():
            start = dict(fresh.named_parameters())
            for name, parameter in tables.items():
                rows = torch.as_tensor(users if name.startswith("user") else items, device=parameter.device)
                parameter[rows] = start[name].to(parameter.device)[rows]
        return model.on(task.retain)

    @staticmethod
    def _named(task: Task) -> tuple[Ints, Ints]:
        if task.request.regime == "interaction":
            return task.forget.users, np.empty(0, np.int64)
        return task.request.users[task.units], task.request.items[task.units]


def _no_rows(recipe: Recipe) -> str:
    return f"{recipe.backbone} has no rows of its own per user or item to draw again"


def _tables(model: Backbone) -> dict[str, nn.Parameter]:
    """The trained parameters with one row per user or item, by name and length."""
    return {name: p for name, p in model.trained.items() if side_of(model, name)}
