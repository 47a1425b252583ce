"""Gold as a method: retraining from scratch on the retain set. The honest answer, and the yardstick's own price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from auditkit.contracts import Recommender, Task, Unlearner
from auditkit.deletion import Regime


@dataclass(frozen=True)
class Gold(Unlearner):
    """The recipe of the parent, trained on the retain set with a fresh seed; the parent's weights are not used."""

    name: ClassVar[str] = "gold"
    regimes: ClassVar[frozenset[Regime]] = frozenset({"interaction", "user", "item", "modality"})
    parents: ClassVar[Literal["backbone", "any"]] = "any"

    def unlearn(self, model: Recommender, task: Task, *, rng: np.random.Generator) -> Recommender:
        """A model that never saw the forget set."""
        return task.recipe.train(task.retain, int(rng.integers(2**31)), device=task.device)
