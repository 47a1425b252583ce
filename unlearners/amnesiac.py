"""Amnesiac unlearning by relabelling: the forgotten samples get wrong labels, and training goes on over all samples.

Graves, Nagisetty and Ganesh, "Amnesiac Machine Learning" (AAAI 2021) describe it, as "unlearning", for classifiers,
where a wrong label is another class. What a wrong label of an implicit pair is has not been published: reconstructed
here as the pair turned round, the forgotten item the negative of a random item.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from auditkit.contracts import Backbone, Recipe, Task, Unlearner
from auditkit.data.dataset import Ints
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError
from auditkit.unlearners.refusals import without_a_loss
from auditkit.unlearners.sampling import retained_batches
from auditkit.unlearners.steps import Batches, Triples, bpr_steps


@dataclass(frozen=True, eq=False)
class Relabelled(Batches):
    """Shuffled batches of the retained pairs and the relabelled forgotten ones together.

    Attributes:
        forgotten: int64 [3, n_forgotten]; users, the random items that are their positives from now on, and the
            forgotten items.
    """

    forgotten: Ints = field(default_factory=lambda: np.empty((3, 0), np.int64))

    @classmethod
    def of(cls, task: Task, size: int, rng: np.random.Generator) -> Relabelled:
        """Draw the wrong labels, once for all epochs: items that the user never held, where there are any.

        Args:
            task: what may stay and what goes.
            size: pairs per batch.
            rng: of the labels.
        """
        retain = retained_batches(task, size)
        labels = retain.negatives(task.forget.users, rng)
        forgotten = np.stack([task.forget.users, labels, task.forget.items])
        return cls(retain.pairs, retain.n_items, size, retain.excluded, forgotten, pool=retain.pool)

    def epoch(self, rng: np.random.Generator) -> list[Triples]:
        """(users, positives, negatives) of every batch of one pass over both kinds."""
        retained = np.stack([self.pairs.users, self.pairs.items, self.negatives(self.pairs.users, rng)])
        triples = np.concatenate([retained, self.forgotten], axis=1)
        triples = triples[:, rng.permutation(triples.shape[1])]
        cuts = range(0, triples.shape[1], self.size)
        return [(part[0], part[1], part[2]) for part in (triples[:, c : c + self.size] for c in cuts)]


@dataclass(frozen=True)
class Amnesiac(Unlearner):
    """Training goes on over the retained pairs and the relabelled forgotten pairs together, which all weigh alike.

    The labels are drawn once, so that further epochs learn them as they would learn any pair.

    Attributes:
        epochs: passes over both.
        learning_rate: of Adam.
        batch: pairs per step.
    """

    epochs: int = 5
    learning_rate: float = 4e-3
    batch: int = 2048
    name: ClassVar[str] = "amnesiac"
    label: ClassVar[str] = "reconstructed"

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
        """The parent after epochs on wrong labels, served over the retain set.

        A request for nothing is fine-tuning; one for everything trains on wrong labels alone.
        """
        served = model.on(task.retain)
        bpr_steps(
            served, Relabelled.of(task, self.batch, rng), None, epochs=self.epochs, learning_rate=self.learning_rate,
            l2=task.recipe.fit.l2, rng=rng,
        )  # fmt: skip
        return served
