"""Unlearners that are meant to fail: an audit that certifies one of these is worth nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from auditkit.contracts import Backbone, Recommender, Side, Task, Unlearner
from auditkit.data.dataset import Floats, Interactions, Ints
from auditkit.deletion import Regime
from auditkit.errors import NotApplicableError
from auditkit.unlearners.reverse_bpr import ReverseBPR


@dataclass(frozen=True)
class NoOp(Unlearner):
    """Does nothing and says: done."""

    name: ClassVar[str] = "no-op"
    label: ClassVar[str] = "control"
    regimes: ClassVar[frozenset[Regime]] = frozenset({"interaction", "user", "item", "modality"})

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
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


class Masked:
    """A backbone behind an output mask: covered pairs are never offered, nothing is forgotten.

    Attributes:
        backbone: what lies beneath.
        hidden: int64 [n_hidden, 2], (user, item) patterns, -1 = any.
    """

    def __init__(self, backbone: Backbone, hidden: Ints) -> None:
        self.backbone, self.hidden = backbone, hidden
        self.n_users, self.n_items = backbone.n_users, backbone.n_items
        pairs = hidden[(hidden >= 0).all(1)]
        self._pairs = Interactions(pairs[:, 0], pairs[:, 1]).matrix(self.n_users, self.n_items)

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        """Scores with NaN at the hidden pairs."""
        scores = self.backbone.score(users, branch=branch)
        anyone, anything = self.hidden[:, 0] < 0, self.hidden[:, 1] < 0
        scores[:, torch.from_numpy(self.hidden[anyone & ~anything, 1])] = torch.nan
        scores[torch.from_numpy(np.isin(users, self.hidden[anything & ~anyone, 0]))] = torch.nan
        rows, items = self._pairs[users].nonzero()
        scores[torch.from_numpy(rows), torch.from_numpy(items)] = torch.nan
        return scores

    def fold_in(self, histories: Sequence[Ints], *, side: Side = "user") -> Tensor:
        """What a fresh account sees: a mask of pairs does not know it, one of items hides those."""
        scores = self.backbone.fold_in(histories, side=side)
        if side == "user":
            for item in self.hidden[self.hidden[:, 0] < 0, 1]:
                scores[:, int(item)] = torch.nan
        return scores


@dataclass(frozen=True)
class OutputMask(Unlearner):
    """Hides the forgotten pairs from the output and keeps the weights."""

    name: ClassVar[str] = "output-mask"
    label: ClassVar[str] = "control"

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Recommender:
        """The parent behind a mask."""
        patterns = np.stack([task.request.users, task.request.items], axis=1)[task.units]
        return Masked(model, patterns)

    def dump(self, served: Recommender) -> tuple[Backbone, dict[str, Floats | Ints]]:
        """The backbone beneath and the mask."""
        assert isinstance(served, Masked)
        return served.backbone, {"hidden": served.hidden}

    def load(self, backbone: Backbone, arrays: Mapping[str, Any]) -> Recommender:
        """The backbone behind its mask again."""
        return Masked(backbone, np.asarray(arrays["hidden"], np.int64))


@dataclass(frozen=True)
class RowReinit(Unlearner):
    """Draws fresh rows for the users and items that the request names and keeps all other weights.

    For an interaction request these are the users of the forgotten pairs.
    """

    name: ClassVar[str] = "row-reinit"
    label: ClassVar[str] = "control"

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """The parent with some rows as before training, served over the retain set."""
        tables = {name: p for name, p in model.trained.items() if _has_rows(name, p, model)}
        if not tables:
            raise NotApplicableError(f"{task.recipe.backbone} has no rows of its own per user or item to draw again")
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


def _has_rows(name: str, parameter: Tensor, model: Backbone) -> bool:
    """Whether a parameter has one row per user or item, by its name and length."""
    sizes = {"user": model.n_users, "item": model.n_items}
    return any(name.startswith(side) and len(parameter) == size for side, size in sizes.items())
