"""Fine-tuning: keep the weights, train on over the retain set, and hope that the rest fades."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from auditkit.contracts import Backbone, Recipe, Task, Unlearner
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError
from auditkit.unlearners.refusals import without_a_loss
from auditkit.unlearners.steps import Batches, bpr_steps


@dataclass(frozen=True)
class Finetune(Unlearner):
    """Warm start: gradient steps on the retain set from the parent's weights, served over the retain set.

    Attributes:
        epochs: passes over the retain set.
        learning_rate: of Adam.
        batch: pairs per step.
    """

    epochs: int = 5
    learning_rate: float = 1e-3
    batch: int = 2048
    name: ClassVar[str] = "finetune"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or not self.learning_rate > 0:
            raise ConfigurationError(
                "epochs and batch must be 1 or more and learning_rate above 0, got "
                f"{self.epochs}, {self.batch}, {self.learning_rate}"
            )

    def refuses(self, recipe: Recipe, request: DeletionRequest) -> str | None:
        """Backbones without a loss."""
        return without_a_loss(recipe)

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """The parent after further epochs on what may stay."""
        served = model.on(task.retain)
        retain = Batches(task.retain.train, served.n_items, self.batch)
        bpr_steps(
            served,
            retain,
            None,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            l2=task.recipe.fit.l2,
            rng=rng,
        )
        return served
