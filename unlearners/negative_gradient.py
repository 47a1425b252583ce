"""Negative gradient: climb the loss of the forgotten pairs and look at nothing else. The oldest baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from auditkit.contracts import Backbone, Recipe, Task, Unlearner
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError
from auditkit.unlearners.refusals import without_a_loss
from auditkit.unlearners.sampling import forgotten_batches
from auditkit.unlearners.steps import bpr_steps


@dataclass(frozen=True)
class NegativeGradient(Unlearner):
    """Gradient ascent on the backbone's own loss of the forgotten pairs, each against a random item.

    The loss has no upper bound, so many epochs ruin the model: the step grows as a pair is forgotten.

    Attributes:
        epochs: passes over the forget set.
        learning_rate: of Adam.
        batch: pairs per step.
    """

    epochs: int = 15
    learning_rate: float = 2e-3
    batch: int = 256
    name: ClassVar[str] = "negative-gradient"

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
        """The parent after steps uphill, served over the retain set; of an empty forget set, the parent's weights."""
        served = model.on(task.retain)
        # No L2 term: climbing it would inflate the weights.
        bpr_steps(
            served, forgotten_batches(task, self.batch), None, epochs=self.epochs, learning_rate=self.learning_rate,
            l2=0.0, rng=rng, retain_weight=-1.0,
        )  # fmt: skip
        return served
