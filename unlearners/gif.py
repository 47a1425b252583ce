"""GIF, graph influence function: one step that answers for lost samples and for what the lost edges did to others.

Wu et al., "GIF: A General Graph Unlearning Strategy via Influence Function" (WWW 2023): H^-1 (grad_1 - grad_2), grad_1
the gradient of the removed samples and of those they affect, with the graph as it was; grad_2 that of the affected ones
with the graph as it is left; H^-1 by a recursion with damping and scale. The formula is published for node classifiers.
Here the samples are interactions with sampled negatives, under the backbone's own loss; the defaults are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from auditkit.contracts import Backbone, Recipe, Task, Unlearner
from auditkit.data.dataset import Bools, Interactions, Ints
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError
from auditkit.unlearners.influence import Hessian, Selection, Times
from auditkit.unlearners.refusals import without_a_loss
from auditkit.unlearners.sampling import original_batches
from auditkit.unlearners.steps import Batches, Triples, tensors

_POWER_STEPS = 10
# The power method comes from below.
_SAFETY = 1.1


@dataclass(frozen=True)
class GIF(Unlearner):
    """theta + H^-1 (grad_1 - grad_2) / n, H the Hessian of the mean loss over the n pairs the parent was trained on.

    Affected are the retained pairs within `hops` of a forgotten one; on a backbone that is served without a graph their
    two gradients are equal, so that only the forgotten pairs count. The Hessian is that of the parent's own graph.

    Attributes:
        steps: of the recursion, one product with the Hessian each. Few of them are a form of damping: directions of
            curvature below 1 / `steps` of the largest are hardly moved along.
        damping: of the recursion, in [0, 1): added to H as a share of `scale`.
        scale: of the recursion, in units of H's largest eigenvalue as estimated; the recursion needs more than half.
        hops: how far the loss of an edge reaches; 0 leaves the affected pairs out, as for models without a graph.
        draws: negatives per pair in the two gradients.
        batch: most pairs that the Hessian is estimated from, and most in one gradient.
    """

    steps: int = 30
    damping: float = 0.02
    scale: float = 1.0
    hops: int = 2
    draws: int = 4
    batch: int = 2**17
    name: ClassVar[str] = "gif"
    label: ClassVar[str] = "published"

    def __post_init__(self) -> None:
        wanted = (
            (self.steps >= 1, f"steps must be 1 or more, got {self.steps}"),
            (0 <= self.damping < 1, f"damping must be in [0, 1), got {self.damping}"),
            (self.scale > 0.5, f"scale must be above 0.5, got {self.scale}; below it the recursion diverges"),
            (self.hops >= 0, f"hops must be 0 or more, got {self.hops}"),
            (self.draws >= 1, f"draws must be 1 or more, got {self.draws}"),
            (self.batch >= 1, f"batch must be 1 or more, got {self.batch}"),
        )
        problems = [problem for fine, problem in wanted if not fine]
        if problems:
            raise ConfigurationError(problems)

    def refuses(self, recipe: Recipe, request: DeletionRequest) -> str | None:
        """Backbones without a loss."""
        return without_a_loss(recipe)

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """The parent after one influence step, served over the retain set; nothing moves without a forgotten pair."""
        served = model.on(task.retain)
        if not len(task.forget):
            return served
        chosen = Selection(model.trained)
        lost = self.lost_gradient(chosen, (model, served), task, rng)
        times = self._hessian(chosen, model, task, rng)
        largest = largest_eigenvalue(times, lost)
        if largest > 0:
            step = damped_inverse(times, lost, steps=self.steps, damping=self.damping, scale=self.scale * largest)
            chosen.add(step / len(task.data.train))
        return served

    def lost_gradient(
        self, chosen: Selection, graphs: tuple[Backbone, Backbone], task: Task, rng: np.random.Generator
    ) -> Tensor:
        """grad_1 - grad_2, [size].

        Args:
            chosen: the parameters.
            graphs: the parent over the data it was trained on, and the same parameters over the retain set.
            task: what goes and what stays.
            rng: of negatives; an affected pair has the same ones in both gradients.
        """
        before, after = graphs
        sampler, l2 = original_batches(task, self.batch), task.recipe.fit.l2
        lost = _gradient(chosen, before, self._triples(task.forget, sampler, rng), l2)
        if not _same_graph(before, after):
            affected = task.retain.train.take(within(task.retain.train, task.forget, self.hops))
            triples = list(self._triples(affected, sampler, rng))
            lost = lost + _gradient(chosen, before, triples, l2) - _gradient(chosen, after, triples, l2)
        return lost / self.draws

    def _triples(self, pairs: Interactions, sampler: Batches, rng: np.random.Generator) -> Iterator[Triples]:
        """Every pair with each of its negatives, in batches."""
        for _ in range(self.draws):
            for start in range(0, len(pairs), self.batch):
                users, items = pairs.users[start : start + self.batch], pairs.items[start : start + self.batch]
                yield users.copy(), items.copy(), sampler.negatives(users, rng)

    def _hessian(self, chosen: Selection, model: Backbone, task: Task, rng: np.random.Generator) -> Times:
        """Of the mean loss over pairs that the parent was trained on, one negative each."""
        triples = original_batches(task, self.batch).epoch(rng)[0]
        return Hessian(chosen, model.loss(*tensors(triples, model.device), l2=task.recipe.fit.l2)).times


def _gradient(chosen: Selection, model: Backbone, batches: Iterator[Triples] | list[Triples], l2: float) -> Tensor:
    """Gradient of the loss' sum over all triples, [size]."""
    total = torch.zeros_like(chosen.values())
    for triples in batches:
        total += len(triples[0]) * chosen.gradient(model.loss(*tensors(triples, model.device), l2=l2))
    return total


def _same_graph(one: Backbone, other: Backbone) -> bool:
    """Whether two models of the same parameters compute the same: nothing is built from the data, or it is equal."""
    pairs = zip(one.buffers(), other.buffers(), strict=True)
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


def within(pairs: Interactions, others: Interactions, hops: int) -> Bools:
    """Which pairs are within some hops of others, bool [n_pairs]: one hop shares a user or an item.

    Args:
        pairs: the edges that are walked.
        others: where walks start.
        hops: steps, 0 or more.
    """
    reached = np.zeros(len(pairs), np.bool_)
    users, items = others.users, others.items
    for _ in range(hops):
        reached = np.isin(pairs.users, users) | np.isin(pairs.items, items)
        users, items = _joined(users, pairs.users[reached]), _joined(items, pairs.items[reached])
    return reached


def _joined(known: Ints, more: Ints) -> Ints:
    return np.union1d(known, more)


def damped_inverse(times: Times, g: Tensor, *, steps: int, damping: float, scale: float) -> Tensor:
    """(H + damping scale I)^-1 g by LiSSA's recursion h <- g + (1 - damping) h - H h / scale, h / scale; [size].

    h is a sum of the powers of M = (1 - damping) I - H / scale, times g. Their lengths shrink and then, if H has
    negative curvature beyond the damping (the loss of a product of vectors is not convex), grow for good: the sum
    ends before the first that is longer than the one before it.

    Args:
        times: H v of a symmetric H.
        g: float [size].
        steps: most products with H.
        damping: in [0, 1).
        scale: above half of H's largest eigenvalue.
    """
    total, term = g.clone(), g
    for _ in range(steps):
        following = (1 - damping) * term - times(term) / scale
        if following.norm() > term.norm():
            break
        term = following
        total += term
    return total / scale


def largest_eigenvalue(times: Times, start: Tensor) -> float:
    """The size of a symmetric matrix' largest eigenvalue, a little above the power method's estimate; 0 for 0.

    Args:
        times: product with a vector.
        start: float [size], the direction that the method starts from.
    """
    vector, found = start, float(start.norm())
    for _ in range(_POWER_STEPS):
        if not found > 0:
            return 0.0
        vector = times(vector / found)
        found = float(vector.norm())
    return _SAFETY * found
