"""Unlearners that are meant to fail because they do a part: some rows, some units, some side, or the graph only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from auditkit.contracts import Backbone, Recipe, Recommender, Task, Unlearner
from auditkit.data.dataset import Dataset, Floats, Ints
from auditkit.deletion import DeletionRequest, Regime
from auditkit.errors import ConfigurationError
from auditkit.unlearners.controls import Masked, patterns, toy_model


def retrained(task: Task, data: Dataset, rng: np.random.Generator) -> Backbone:
    """The parent's procedure from scratch on `data`, with a fresh seed."""
    return task.recipe.architecture().fit([(data, int(rng.integers(2**31)))], task.recipe, device=task.device)[0]


@dataclass(frozen=True)
class RowsDropped(Unlearner):
    """Deletion from the catalogue: erased users or items are not served any more, and all weights are kept.

    An interaction request only leaves histories and graph. Served over the retain set: only the weights can tell.
    """

    name: ClassVar[str] = "rows-dropped"
    label: ClassVar[str] = "control"

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Recommender:
        """The parent over the retain set; erased users' and items' scores read NaN."""
        served = model.on(task.retain)
        return served if task.request.regime == "interaction" else Masked(served, patterns(task))

    def dump(self, served: Recommender) -> tuple[tuple[Backbone, ...], dict[str, Floats | Ints]]:
        """The backbone beneath, and which rows are dropped where there are any."""
        return (served.backbones, {"hidden": served.hidden}) if isinstance(served, Masked) else super().dump(served)

    def load(self, backbones: Sequence[Backbone], arrays: Mapping[str, Any]) -> Recommender:
        """The backbone, without its dropped rows again."""
        return Masked(backbones[0], np.asarray(arrays["hidden"], np.int64)) if "hidden" in arrays else backbones[0]


def _tables(model: Backbone) -> tuple[Tensor, Tensor] | None:
    """The user and the item table of a model that has learned nothing else and whose score both may be rotated for."""
    sides = {name.split("_")[0]: p for name, p in model.trained.items()}
    if len(model.trained) != 2 or set(sides) != {"user", "item"}:
        return None
    users, items = sides["user"], sides["item"]
    fits = (len(users), len(items)) == (model.n_users, model.n_items) and users.shape[1:] == items.shape[1:]
    return (users, items) if fits and users.ndim == 2 else None


def _ignores_rotation(model: Backbone) -> bool:
    """Whether one rotation of both tables leaves every score as it was; the tables are rotated."""
    tables, everybody = _tables(model), np.arange(model.n_users)
    if tables is None:
        return False
    before, width = model.score(everybody), tables[0].shape[1]
    turn = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(0))).Q
    with torch.no_grad():
        for table in tables:
            table.copy_(table @ turn.to(table))
    return torch.allclose(model.score(everybody), before, rtol=1e-3, atol=1e-5)


@dataclass(frozen=True)
class OtherSideRetrained(Unlearner):
    """A Gold in everything but the erased rows, which stay as the original learned them.

    A Gold's vectors lie in axes of their own, where the original's rows would mean nothing. They are turned onto the
    original's by the rotation that fits the retained rows best (Schoenemann, Psychometrika 1966), which no score of
    a product of vectors notices; the erased rows then score much as they used to.
    """

    name: ClassVar[str] = "other-side-retrained"
    label: ClassVar[str] = "control"
    regimes: ClassVar[frozenset[Regime]] = frozenset({"user", "item"})

    def refuses(self, recipe: Recipe, request: DeletionRequest) -> str | None:
        """Backbones whose score is not the product of a user and an item table."""
        if _ignores_rotation(toy_model(recipe)):
            return None
        return (
            f"{recipe.backbone} is not a user and an item table that a rotation of both leaves as they were, so a "
            "Gold's other side means nothing to the original's rows; choose bpr-mf or lightgcn"
        )

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """A Gold with the erased rows put back, served over the retain set."""
        gold = retrained(task, task.retain, rng)
        mine, theirs = _tables(gold), _tables(model)
        assert mine is not None
        assert theirs is not None
        erased = self._erased(task, model)
        turn = _rotation(torch.cat(mine)[~erased], torch.cat(theirs)[~erased])
        with torch.no_grad():
            for new, old, rows in zip(mine, theirs, (erased[: len(mine[0])], erased[len(mine[0]) :]), strict=True):
                new.copy_(torch.where(rows[:, None], old, new @ turn))
        return gold

    @staticmethod
    def _erased(task: Task, model: Backbone) -> Tensor:
        """Which rows go, users before items: bool [n_users + n_items]."""
        found = torch.zeros(model.n_users + model.n_items, dtype=torch.bool)
        if task.request.regime == "user":
            found[torch.from_numpy(task.request.users[task.units])] = True
        else:
            found[torch.from_numpy(task.request.items[task.units]) + model.n_users] = True
        return found.to(model.device)


def _rotation(rows: Tensor, onto: Tensor) -> Tensor:
    """The orthogonal matrix Q that minimises |rows Q - onto|, [d, d]; both [n, d]."""
    left, _, right = torch.linalg.svd(rows.detach().T @ onto.detach())
    found: Tensor = left @ right
    return found


@dataclass(frozen=True)
class RandomPart(Unlearner):
    """Retraining that loses a part of the request on the way: a random tenth of the units is never deleted.

    Of fewer than ten units one stays, so a request for a single unit is not answered at all.

    Attributes:
        share: of the units that is forgotten, in [0, 1).
    """

    share: float = 0.9
    name: ClassVar[str] = "random-90"
    label: ClassVar[str] = "control"

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ConfigurationError(f"share must be in [0, 1) (with 1 this is a Gold), got {self.share}")

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """Trained from scratch without the chosen units, and served over what it was trained on."""
        units = rng.permutation(np.flatnonzero(task.units))
        forgotten = units[: max(min(round(self.share * len(units)), len(units) - 1), 0)]
        gone = np.isin(np.arange(task.request.n_units), forgotten)
        return retrained(task, task.request.erase(task.data, gone), rng)


@dataclass(frozen=True)
class PopularOnly(Unlearner):
    """Retraining without the forgotten pairs of popular items; those of the others are still trained on.

    Popular is the given part of the items in the forget set, by training popularity, rounded down: of a request that
    concerns few items nothing is forgotten, and some item always stays.

    Attributes:
        head: part of the forget set's items that counts as popular, in [0, 1).
    """

    head: float = 0.2
    name: ClassVar[str] = "popular-only"
    label: ClassVar[str] = "control"

    def __post_init__(self) -> None:
        if not 0 <= self.head < 1:
            raise ConfigurationError(f"head must be in [0, 1) (with 1 this is a Gold), got {self.head}")

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """Trained from scratch on the retain set and the forgotten pairs of unpopular items, served over both."""
        stay = task.forget.take(~np.isin(task.forget.items, self._popular(task)))
        codes = np.concatenate([part.codes(task.data.n_items) for part in (task.retain.train, stay)])
        train = task.data.train.take(np.isin(task.data.train.codes(task.data.n_items), codes))
        return retrained(task, replace(task.retain, train=train), rng)

    def _popular(self, task: Task) -> Ints:
        items = np.unique(task.forget.items)
        popularity = np.bincount(task.data.train.items, minlength=task.data.n_items)[items]
        return items[np.argsort(-popularity, kind="stable")][: int(self.head * len(items))]


@dataclass(frozen=True)
class StaleGraph(Unlearner):
    """A Gold's weights over the graph that still has the forgotten edges: training forgot, serving did not."""

    name: ClassVar[str] = "stale-graph"
    label: ClassVar[str] = "control"

    def refuses(self, recipe: Recipe, request: DeletionRequest) -> str | None:
        """Backbones whose scores read nothing of the data that they are served over."""
        if any(True for _ in toy_model(recipe).buffers()):
            return None
        return f"{recipe.backbone} scores through no graph or history, so a stale one changes nothing"

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """A Gold, served over the data of the original."""
        return retrained(task, task.retain, rng).on(task.data)
