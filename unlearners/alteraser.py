"""AltEraser: retraining from the parent's weights on the retain set, sped up by second-order steps, block after block.

Reconstructed from the description of Liu et al., "Forgetting Fast in Recommender Systems": the retraining problem is
solved from a warm start by a Newton-type method, and made tractable by alternating over blocks of parameters. The
published blocks, solver and number of rounds are not known to us.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from auditkit.contracts import Backbone, Recipe, Task, Unlearner
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError
from auditkit.unlearners.influence import Hessian, Selection, conjugate_gradients
from auditkit.unlearners.refusals import without_a_loss
from auditkit.unlearners.rows import side_of
from auditkit.unlearners.sampling import retained_batches

_HALVINGS = 5


@dataclass(frozen=True)
class AltEraser(Unlearner):
    """Damped Newton steps on the backbone's loss of the retained pairs: users, then items, then the rest, in rounds.

    A block's step solves (H + m I) p = -g by conjugate gradients, g and H the gradient and Hessian of the loss by this
    block alone, and m `damping` times the curvature along g. It is halved until the loss falls, and left out where it
    does not after 5 halvings. Within a block of a matrix factorization the loss is convex; elsewhere a direction of
    negative curvature ends the solver early, with the gradient itself where it is the first one. Every round draws its
    pairs and negatives anew: the optimum for one draw of negatives is no better model.

    Attributes:
        rounds: how often every block is visited.
        steps: most products with the Hessian for one step.
        damping: see above.
        batch: most retained pairs of a round; all of them where they are fewer. A loss that compares the rows of a
            batch with one another (MGCN's contrast) costs time and memory in the square of their number: less there.
    """

    rounds: int = 5
    steps: int = 5
    damping: float = 0.1
    batch: int = 2**17
    name: ClassVar[str] = "alteraser"
    label: ClassVar[str] = "reconstructed"

    def __post_init__(self) -> None:
        wanted = (
            (self.rounds >= 1, f"rounds must be 1 or more, got {self.rounds}"),
            (self.steps >= 1, f"steps must be 1 or more, got {self.steps}"),
            (self.damping >= 0, f"damping must be 0 or more, got {self.damping}"),
            (self.batch >= 1, f"batch must be 1 or more, got {self.batch}"),
        )
        problems = [problem for fine, problem in wanted if not fine]
        if problems:
            raise ConfigurationError(problems)

    def refuses(self, recipe: Recipe, request: DeletionRequest) -> str | None:
        """Backbones without a loss."""
        return without_a_loss(recipe)

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """The parent after rounds over the retain set, served over it; without a retained pair nothing moves."""
        served = model.on(task.retain)
        for _ in range(self.rounds if len(task.retain.train) else 0):
            loss = self._loss(served, task, rng)
            for block in blocks(served):
                newton_step(Selection(block), loss, damping=self.damping, steps=self.steps)
        return served

    def _loss(self, model: Backbone, task: Task, rng: np.random.Generator) -> Callable[[], Tensor]:
        """The loss of one draw of pairs and negatives, as a function of the parameters as they are."""
        pairs = task.retain.train
        if len(pairs) > self.batch:
            pairs = pairs.take(rng.choice(len(pairs), self.batch, replace=False))
        # As in retraining, where a forgotten item is a negative like any other that the user does not hold.
        sampler = replace(retained_batches(task, self.batch), excluded=None)
        negatives = sampler.negatives(pairs.users, rng)
        ids = [torch.tensor(column, device=model.device) for column in (pairs.users, pairs.items, negatives)]
        return lambda: model.loss(*ids, l2=task.recipe.fit.l2)


def blocks(model: Backbone) -> Iterator[dict[str, nn.Parameter]]:
    """The trained parameters with a row per user, those with a row per item, and the rest; empty ones are left out."""
    kinds: dict[str | None, dict[str, nn.Parameter]] = {"user": {}, "item": {}, None: {}}
    for name, parameter in model.trained.items():
        kinds[side_of(model, name)][name] = parameter
    return (block for block in kinds.values() if block)


def newton_step(selection: Selection, loss: Callable[[], Tensor], *, damping: float, steps: int) -> None:
    """One damped Newton step on a block of parameters, in place.

    Args:
        selection: the block.
        loss: of the parameters as they are, [], twice differentiable.
        damping: added to the diagonal, as a share of the size of the curvature along the gradient.
        steps: most products with the Hessian to solve for the step.
    """
    value = loss()
    hessian = Hessian(selection, value)
    gradient = hessian.gradient
    square = gradient.dot(gradient)
    if not square > 0:
        return
    curvature = float(gradient.dot(hessian.times(gradient)).abs() / square)
    down = -conjugate_gradients(hessian.times, gradient, damping=damping * curvature, steps=steps).value
    if not down.any() and curvature > 0:
        down = -gradient / curvature
    _descend(selection, loss, down, float(value.detach()))


@torch.no_grad()
def _descend(selection: Selection, loss: Callable[[], Tensor], change: Tensor, before: float) -> None:
    """Add `change`, or a half, a quarter, ... of it that lowers the loss."""
    start = selection.values()
    for halving in range(_HALVINGS + 1):
        selection.put(start + change / 2**halving)
        if float(loss()) < before:
            return
    selection.put(start)
