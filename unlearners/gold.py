"""Gold as a method: retraining from scratch on the retain set. The honest answer, and the yardstick's own price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from auditkit.contracts import Backbone, Task, Unlearner
from auditkit.deletion import Regime


@dataclass(frozen=True)
class Gold(Unlearner):
    """The recipe of the parent, trained on the retain set with a fresh seed; the parent's weights are not used."""

    name: ClassVar[str] = "gold"
    regimes: ClassVar[frozenset[Regime]] = frozenset({"interaction", "user", "item", "modality"})

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """A model that never saw the forget set."""
        seed = int(rng.integers(2**31))
        return task.recipe.architecture().fit([(task.retain, seed)], task.recipe, device=task.device)[0]
