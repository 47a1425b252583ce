"""Row shrinking: what a row learned from forgotten pairs goes back to the average row, then training goes on."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from auditkit.contracts import Backbone, Recipe, Task, Unlearner
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError
from auditkit.unlearners.refusals import without_a_loss
from auditkit.unlearners.steps import Batches, bpr_steps


@dataclass(frozen=True)
class RowShrink(Unlearner):
    """Move every user's and item's row towards the mean row, by the share of its pairs that go, then fine-tune.

    The row of an erased user becomes the mean row. A row without forgotten pairs stays as it is.

    Attributes:
        epochs: passes over the retain set afterwards.
        learning_rate: of Adam.
        batch: pairs per step.
    """

    epochs: int = 5
    learning_rate: float = 1e-3
    batch: int = 2048
    name: ClassVar[str] = "row-shrink"

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch < 1 or not self.learning_rate > 0:
            raise ConfigurationError(
                "epochs must be 0 or more, batch 1 or more and learning_rate above 0, got "
                f"{self.epochs}, {self.batch}, {self.learning_rate}"
            )

    def refuses(self, recipe: Recipe, request: DeletionRequest) -> str | None:
        """Backbones that are not trained by gradient steps: they have no learned rows, and cannot be fine-tuned."""
        return without_a_loss(recipe)

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """The parent with shrunken rows, fine-tuned on what may stay and served over it."""
        served = model.on(task.retain)
        shares = {
            "user": _share(task.forget.users, task.data.train.users, model.n_users),
            "item": _share(task.forget.items, task.data.train.items, model.n_items),
        }
        with torch.no_grad():
            for name, table in served.trained.items():
                share = shares.get(name[:4])
                if share is not None and len(table) == len(share):
                    _shrink(table, share)
        retain = Batches(task.retain.train, served.n_items, self.batch)
        l2 = task.recipe.fit.l2
        bpr_steps(served, retain, None, epochs=self.epochs, learning_rate=self.learning_rate, l2=l2, rng=rng)
        return served


def _share(forgotten: NDArray[np.int64], trained: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """The part of each id's training pairs that is forgotten, float64 [n]; 0 for an id without pairs."""
    gone, all_of_them = np.bincount(forgotten, minlength=n), np.bincount(trained, minlength=n)
    return gone / np.maximum(all_of_them, 1)


def _shrink(table: torch.Tensor, share: NDArray[np.float64]) -> None:
    weight = torch.as_tensor(share, dtype=table.dtype, device=table.device)
    table.lerp_(table.mean(0).expand_as(table), weight.view(-1, *[1] * (table.ndim - 1)))
