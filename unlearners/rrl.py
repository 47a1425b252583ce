"""RRL, recommendation reverse learning: reverse steps on the forgotten pairs that spare what the retained pairs need.

Reconstructed from the description of You et al. (AAAI 2024): reverse BPR on the forget set, steps guided by the
diagonal of the Fisher information of the retained data. The published step and its constants are not known to us.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from auditkit.contracts import Backbone, Recipe, Task, Unlearner
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError
from auditkit.unlearners.refusals import without_a_loss
from auditkit.unlearners.sampling import forgotten_batches, retained_batches
from auditkit.unlearners.steps import Gradients, Triples, gradients, reversed_bpr, tensors

# A parent whose retained pairs have no gradient at all (nothing to spare, no scale of a step) is not moved.
_LEAST = 1e-30


@dataclass(frozen=True)
class RRL(Unlearner):
    """Steps theta <- theta - learning_rate G / (n F + damping mean(n F)), with no training on the retain set.

    G is the gradient of the sum over a batch of forgotten pairs of -log sigmoid(s_uj - s_ui), j a random item. n F is
    the diagonal of the Fisher information of the n retained pairs, at the parent. In these units a learning rate of 1
    and a damping of 0 are a Newton step of a log likelihood whose curvature is diagonal.

    F is estimated in one pass from gradients of batches, not of single pairs: the squares of each batch's summed
    gradient, added up. They are the squares of the pairs' own gradients added up where these are independent with mean
    0, as at the end of training; elsewhere they are more, above all for parameters that every pair shares.

    Attributes:
        epochs: passes over the forget set.
        learning_rate: see above.
        damping: share of the mean over all parameters that is added to each; it bounds the steps of parameters that
            the retained pairs do not use, such as the rows of erased users.
        batch: retained pairs per gradient of the estimate.
        forget_batch: forgotten pairs per step.
    """

    epochs: int = 2
    learning_rate: float = 0.025
    damping: float = 1.0
    batch: int = 1024
    forget_batch: int = 256
    name: ClassVar[str] = "rrl"
    label: ClassVar[str] = "reconstructed"

    def __post_init__(self) -> None:
        wanted = (
            (self.epochs >= 1, f"epochs must be 1 or more, got {self.epochs}"),
            (self.learning_rate > 0, f"learning_rate must be above 0, got {self.learning_rate}"),
            (self.damping > 0, f"damping must be above 0, got {self.damping}; unused parameters have no other bound"),
            (self.batch >= 1, f"batch must be 1 or more, got {self.batch}"),
            (self.forget_batch >= 1, f"forget_batch must be 1 or more, got {self.forget_batch}"),
        )
        problems = [problem for fine, problem in wanted if not fine]
        if problems:
            raise ConfigurationError(problems)

    def refuses(self, recipe: Recipe, request: DeletionRequest) -> str | None:
        """Backbones without a loss."""
        return without_a_loss(recipe)

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """The parent after scaled reverse steps, served over the retain set.

        Nothing moves without a forgotten pair, and nothing without a retained one: then no information says how long a
        step is.
        """
        served = model.on(task.retain)
        if not len(task.forget) or not len(task.retain.train):
            return served
        retain = retained_batches(task, self.batch).epoch(rng)
        scales = self._scales(fisher_diagonal(served, retain, l2=task.recipe.fit.l2))
        forget = forgotten_batches(task, self.forget_batch)
        for _ in range(self.epochs):
            for triples in forget.epoch(rng):
                _step(served, triples, scales)
        return served

    def _scales(self, information: Gradients) -> Gradients:
        """learning_rate / (n F + damping mean(n F)), by parameter."""
        total = sum(float(part.sum()) for part in information.values())
        if total < _LEAST:
            return {name: torch.zeros_like(part) for name, part in information.items()}
        floor = self.damping * total / sum(part.numel() for part in information.values())
        return {name: self.learning_rate / (part + floor) for name, part in information.items()}


def _step(model: Backbone, triples: Triples, scales: Gradients) -> None:
    """One reverse step on a batch of forgotten pairs, in place."""
    users, positives, negatives = tensors(triples, model.device)
    positive, negative = model.logits(torch.cat([users, users]), torch.cat([positives, negatives])).chunk(2)
    loss = len(users) * reversed_bpr(positive, negative, "swapped")
    changes = gradients(loss, model.trained)
    with torch.no_grad():
        for name, parameter in model.trained.items():
            parameter.sub_(scales[name] * changes[name])


def fisher_diagonal(model: Backbone, batches: Iterable[Triples], *, l2: float) -> Gradients:
    """Diagonal of the empirical Fisher information of all triples together (n F), by trained parameter.

    Args:
        model: at the parameters where it is taken.
        batches: users, positives and negatives; batches of one triple each give the squares of every triple's own
            gradient, larger ones estimate their sum.
        l2: weight of the model's L2 term, the prior's share of each triple.
    """
    found = {name: torch.zeros_like(parameter, requires_grad=False) for name, parameter in model.trained.items()}
    for triples in batches:
        loss = len(triples[0]) * model.loss(*tensors(triples, model.device), l2=l2)
        for name, gradient in gradients(loss, model.trained).items():
            found[name].addcmul_(gradient, gradient)
    return found
