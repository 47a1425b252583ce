"""Systems under test that only the calibration needs: honest deletions of other kinds, and dishonest ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from auditkit.contracts import Backbone, Task, Unlearner
from auditkit.data.dataset import Dataset, Features, Interactions, Ints
from auditkit.deletion import Regime


def _without_items(data: Dataset, kept: Ints) -> Dataset:
    """The data over the kept items alone, renumbered 0, 1, ... in their order."""
    place = np.full(data.n_items, -1, np.int64)
    place[kept] = np.arange(len(kept))

    def renumbered(part: Interactions) -> Interactions:
        left = part.take(np.flatnonzero(place[part.items] >= 0))
        return Interactions(left.users, place[left.items], left.ratings, left.times)

    features = {name: Features(f.values[kept], f.present[kept]) for name, f in data.features.items()}
    return Dataset(
        data.name, data.n_users, len(kept), renumbered(data.train), renumbered(data.valid), renumbered(data.test),
        features,
    )  # fmt: skip


@dataclass(frozen=True)
class CatalogueDeletion(Unlearner):
    """An honest deletion that plain Gold is not: retrained on a catalogue from which the erased items are gone.

    Plain Gold still draws negatives from the erased items, which this never does; their rows stay as drawn.
    """

    name: ClassVar[str] = "catalogue-deletion"
    regimes: ClassVar[frozenset[Regime]] = frozenset({"item"})

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """A model trained over the kept items, its rows put back at their ids."""
        kept = np.setdiff1d(np.arange(task.data.n_items), task.request.items[task.units])
        seed = int(rng.integers(2**31))
        small = task.recipe.architecture().fit(
            [(_without_items(task.retain, kept), seed)], task.recipe, device=task.device
        )[0]
        served = task.recipe.model(task.retain, seed).to(task.device)
        learned = dict(small.named_parameters())
        with torch.no_grad():
            for name, parameter in served.named_parameters():
                rows = torch.as_tensor(kept if name.startswith("item") else np.arange(len(parameter)))
                parameter[rows.to(parameter.device)] = learned[name].to(parameter.device)
        return served


@dataclass(frozen=True)
class OtherEpochs(Unlearner):
    """An honest deletion by another procedure than the Golds': retrained for a part (or a multiple) of the epochs."""

    part: float
    name: ClassVar[str] = "other-epochs"

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """A model trained from scratch on the retain set."""
        fit = replace(task.recipe.fit, epochs=round(self.part * task.recipe.fit.epochs))
        recipe, seed = replace(task.recipe, fit=fit), int(rng.integers(2**31))
        return recipe.architecture().fit([(task.retain, seed)], recipe, device=task.device)[0]


@dataclass(frozen=True)
class Downdate(Unlearner):
    """EASE with the erased pairs taken out of its Gram matrix exactly: a Gold without retraining."""

    name: ClassVar[str] = "downdate"

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """The exact solution on the retain set."""
        found: Backbone = model.downdate(task.retain)  # type: ignore[operator]
        return found
