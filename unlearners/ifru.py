"""IFRU: one damped Newton step that takes back what forgotten interactions and their edges did to some rows.

Zhang et al., "Recommendation Unlearning via Influence Function" (ACM TORS 2024, arXiv 2307.02147).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from auditkit.backbones.graph import Propagation
from auditkit.contracts import Backbone, Recipe, Task, Unlearner
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError
from auditkit.training.early_stopping import validation_recall
from auditkit.unlearners.ifru_margins import Margins, bend, margins_of, slope
from auditkit.unlearners.ifru_rows import counted, draw_again, rows_of
from auditkit.unlearners.ifru_samples import Sampler, Triples
from auditkit.unlearners.influence import Selection, Times, adam, conjugate_gradients
from auditkit.unlearners.pruning import Nodes, changed, importance, kept
from auditkit.unlearners.refusals import without_a_loss

# Negatives of a forgotten pair, and retained pairs beside which a forgotten item stands as a negative.
_DRAWS, _FREED = 16, 8
_TOLERANCE = 1e-2
# Published: steps of Adam without a better validation metric.
_PATIENCE = 10


@dataclass(frozen=True)
class IFRU(Unlearner):
    """theta_S + H^-1 g, with S the rows of the users and items that importance-based pruning keeps.

    g = sum over forgotten samples of grad l(G) (direct influence) + sum over retained samples at nodes whose degree
    changed of [grad l(G) - grad l(G without what goes)] (spillover; 0 where no graph is read), H the curvature of the
    summed loss over all pairs that the parent was trained on. Formula, pruning and its quantile are published (paper
    and the authors' code). Reconstructed, since they have labels and log loss and we have positives and BPR:

    - A sample is a pair with sampled negatives and l = -log sigmoid(s_ui - s_uj) + (c/2) (|theta_u|^2 + |theta_i|^2 +
      |theta_j|^2). c is the weight for which the parent is stationary along theta_S: it stands for the L2 term and for
      what early stopping does in its stead. Auxiliary losses are no sums over samples and are left out.
    - Retraining draws forgotten items as negatives of their users, so g is less by those samples.
    - H is the Gauss-Newton matrix plus damping * c: the Hessian of a product of vectors is indefinite.
    - Rows of users and items that keep no pair are drawn again, since retraining leaves them at their start.

    Shared matrices stay: what is forgotten is a smaller part of their samples than of any endpoint's, so they would be
    the first to be pruned. Of a backbone that trains no rows, all parameters move. Pairs that were held out for early
    stopping (`fit.valid`) count as trained on.

    Attributes:
        hops: steps k of the importance, 0 or more; None for 0 without a graph and 1 with one (published).
        keep: share of the reached nodes that move where hops is 1 or more, in (0, 1]; published .6 (none pruned at 0).
        changed: share of a node's pairs that must go for its samples to spill over, in [0, 1); published .01.
        damping: in units of c, 0 or more.
        solver: `cg`, or `adam` on p^T H p / 2 - p^T g as published, which stops early on the validation Recall@20
            (published: AUC) where the data has a validation part.
        steps: most products with H, 1 or more. Few steps of `cg` are a regulariser; `adam` takes hundreds.
        learning_rate: of `adam`, above 0: about what a step moves an entry by.
        samples: most triples of each kind in H and in the spillover, 1 or more.
    """

    hops: int | None = None
    keep: float = 0.6
    changed: float = 0.01
    damping: float = 1.25
    solver: Literal["cg", "adam"] = "cg"
    steps: int = 3
    learning_rate: float = 0.01
    samples: int = 2**17
    name: ClassVar[str] = "ifru"
    label: ClassVar[str] = "reconstructed"

    def __post_init__(self) -> None:
        wanted = (
            (self.hops is None or self.hops >= 0, f"hops must be 0 or more, or None, got {self.hops}"),
            (0 < self.keep <= 1, f"keep must be in (0, 1], got {self.keep}"),
            (0 <= self.changed < 1, f"changed must be in [0, 1), got {self.changed}"),
            (self.damping >= 0, f"damping must be 0 or more, got {self.damping}"),
            (self.solver in ("cg", "adam"), f"solver must be cg or adam, got {self.solver!r}"),
            (self.steps >= 1, f"steps must be 1 or more, got {self.steps}"),
            (self.learning_rate > 0, f"learning_rate must be above 0, got {self.learning_rate}"),
            (self.samples >= 1, f"samples must be 1 or more, got {self.samples}"),
        )
        problems = [problem for fine, problem in wanted if not fine]
        if problems:
            raise ConfigurationError(problems)

    def refuses(self, recipe: Recipe, request: DeletionRequest) -> str | None:
        """A closed form (EASE) has no loss whose influence could be taken."""
        return without_a_loss(recipe)

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """The parent with some rows moved, served over the retain set. Without a forgotten pair nothing moves."""
        served = model.on(task.retain)
        if not len(task.forget):
            return served
        graph = any(isinstance(module, Propagation) for module in model.modules())
        nodes, sampler = self.nodes(task, graph=graph), Sampler(task, rng)
        chosen = rows_of(model, nodes)
        before = margins_of(model, chosen)
        held = counted(model, chosen, sampler.counts())
        margins = before(sampler.bending(nodes, self.samples))
        weight = stationary_weight(margins, held, chosen.values())
        lost, near = lost_samples(sampler), self.near(sampler) if graph else Triples.none()
        g = slope(before(lost.and_also(near)))
        g = g + weight * counted(model, chosen, lost.counts(model.n_users, model.n_items)) * chosen.values()
        if len(near):
            g = g - slope(margins_of(served, chosen)(near))
        chosen.add(self._solved(bend(margins), g, weight * held, chosen, served))
        draw_again(served, task, rng)
        return served

    def nodes(self, task: Task, *, graph: bool) -> Nodes:
        """The users and items whose rows move; `graph` says whether the backbone reads one."""
        hops = int(graph) if self.hops is None else self.hops
        return kept(*importance(task.data, task.forget, hops), keep=self.keep if hops else 1.0)

    def near(self, sampler: Sampler) -> Triples:
        """Retained samples at nodes whose degree changed, where the lost edges change gradients most."""
        task = sampler.task
        touched = changed(task.data, task.retain, self.changed).touch(task.retain.train)
        return sampler.at_most(task.retain.train.take(touched), self.samples)

    def _solved(self, times: Times, g: Tensor, ridge: Tensor, chosen: Selection, served: Backbone) -> Tensor:
        """(H + damping ridge)^-1 g, [size]; the parameters are as they were."""
        damping = self.damping * ridge
        if self.solver == "cg":
            # H grows with the samples of a row as the ridge does, so the ridge is a good preconditioner.
            diagonal = ridge if bool((ridge > 0).all()) else None
            found = conjugate_gradients(
                times, g, damping=damping, steps=self.steps, tolerance=_TOLERANCE, diagonal=diagonal
            )
            return found.value
        start = chosen.values()

        def quality(change: Tensor) -> float:
            chosen.put(start + change)
            return validation_recall(served, served.data)

        watched = quality if len(served.data.valid) else None
        rule = partial(adam, learning_rate=self.learning_rate, steps=self.steps, patience=_PATIENCE)
        found = rule(times, g, damping=damping, quality=watched)
        chosen.put(start)
        return found.value


def lost_samples(sampler: Sampler) -> Triples:
    """The forgotten samples, less those which only retraining draws."""
    return sampler.with_negatives(sampler.task.forget, _DRAWS).and_also(sampler.freed(_FREED).times(-1))


def stationary_weight(margins: Margins, held: Tensor, theta: Tensor) -> float:
    """The weight c of an L2 term for which BPR leaves no slope along the parameters themselves, 0 or more.

    Solves theta . (grad BPR + c held * theta) = 0. Of a model trained to its end it is the weight that it was trained
    with; one that stopped early needs more to stand still.

    Args:
        margins: of all samples at these parameters.
        held: samples of each entry, float [size].
        theta: the parameters, float [size].
    """
    stretch = float((held * theta * theta).sum())
    return max(-float(slope(margins).dot(theta)) / stretch, 0.0) if stretch > 0 else 0.0
