"""Reverse BPR: push the forgotten pairs below random items while the retained pairs are trained on as before.

Reconstructed from the description of MMRecUn (arXiv 2405.15328): reverse BPR on the forget set, forward BPR on the
retain set, from the trained weights. Loss weights, learning rate and epochs are not published.
"""

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
class ReverseBPR(Unlearner):
    """The bounded form: the pair is swapped, so the gradient stays within that of BPR.

    Attributes:
        epochs: passes over the retain set; each of its batches goes with one forget batch.
        learning_rate: of Adam.
        forget_weight: of the reverse term; the forward term counts 1.
        batch: retain pairs per step.
        forget_batch: forget pairs per step.
    """

    epochs: int = 2
    learning_rate: float = 1e-3
    forget_weight: float = 1.0
    batch: int = 2048
    forget_batch: int = 256
    name: ClassVar[str] = "reverse-bpr"
    label: ClassVar[str] = "reconstructed"

    def __post_init__(self) -> None:
        if (
            min(self.epochs, self.batch, self.forget_batch) < 1
            or not self.learning_rate > 0
            or not self.forget_weight >= 0
        ):
            raise ConfigurationError(
                "epochs, batch and forget_batch must be 1 or more, learning_rate above 0, forget_weight 0 or more, got "
                f"{self.epochs}, {self.batch}, {self.forget_batch}, {self.learning_rate}, {self.forget_weight}"
            )

    def refuses(self, recipe: Recipe, request: DeletionRequest) -> str | None:
        """Backbones without a loss."""
        return without_a_loss(recipe)

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """The parent after reverse steps, served over the retain set."""
        served = model.on(task.retain)
        retain = Batches(task.retain.train, served.n_items, self.batch, excluded=task.forget)
        forget = Batches(task.forget, served.n_items, self.forget_batch, excluded=task.retain.train)
        bpr_steps(
            served, retain, forget, epochs=self.epochs, learning_rate=self.learning_rate, l2=task.recipe.fit.l2,
            forget_weight=self.forget_weight, swap=self._swap, rng=rng,
        )  # fmt: skip
        return served

    @property
    def _swap(self) -> bool:
        return True
