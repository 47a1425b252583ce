"""Reverse and forward BPR side by side: what is turned round, on which scores, and the gradients of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from auditkit.backbones.multimodal import MultimodalBackbone
from auditkit.contracts import Backbone, Task
from auditkit.data.dataset import Interactions
from auditkit.unlearners.sampling import forgotten_batches, retained_batches
from auditkit.unlearners.steps import Batches, Form, Gradients, Triples, gradients, reversed_bpr, tensors

Scores = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Reversal:
    """Both terms of a reverse update.

    The forward term is the backbone's own loss, auxiliary terms included, on retained pairs; the reverse term is bare
    BPR turned round, so that no auxiliary term ever sees a forgotten pair.

    Attributes:
        served: over the retained data; its parameters are what moves.
        scores: users and items (int64 [n] each) to the scores that the reverse term reads, float [n].
        retain, forget: batches of the two terms.
        l2: weight of the backbone's own L2 term.
        form: of the reverse term.
        untouched: parameters that the reverse term reads but does not move.
    """

    served: Backbone
    scores: Scores
    retain: Batches
    forget: Batches
    l2: float
    form: Form
    untouched: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: Backbone, task: Task, *, batch: int, forget_batch: int, form: Form) -> Reversal:
        """Serve the parent over the retained data and say what is turned round.

        Args:
            model: the parent, over the data it was trained on.
            task: what goes and what stays.
            batch, forget_batch: retained and forgotten pairs per step.
            form: of the reverse term.
        """
        served, fit = model.on(task.retain), task.recipe.fit
        retain, forget = retained_batches(task, batch), forgotten_batches(task, forget_batch, turned_round(task))
        if task.request.regime != "modality":
            return cls(served, served.logits, retain, forget, fit.l2, form)
        modalities = task.request.modalities
        # Trained rows of withdrawn features are overwritten in the end: what the others learned from them must go.
        features = tuple(map(MultimodalBackbone.feature_name, modalities))
        return cls(served, partial(branch_logits, model, modalities), retain, forget, fit.l2, form, features)

    def batches(self, rng: np.random.Generator) -> Iterator[tuple[Triples | None, Triples]]:
        """Batches of both terms for one pass over the retained pairs; forgotten ones are cycled.

        Without retained pairs the pass goes over the forgotten ones, with None beside each. Without anything to forget
        there is no batch.
        """
        if not len(self.forget.pairs):
            return
        self.served.start_epoch((rng,))
        if not len(self.retain.pairs):
            yield from ((None, batch) for batch in self.forget.epoch(rng))
        cycle: list[Triples] = []
        for batch in self.retain.epoch(rng):
            cycle = cycle or self.forget.epoch(rng)
            yield batch, cycle.pop()

    def forward(self, batch: Triples | None, parameters: Mapping[str, nn.Parameter]) -> Gradients:
        """Gradient of the backbone's own loss; zeros without a batch."""
        if batch is None:
            return {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
        return gradients(self.served.loss(*tensors(batch, self.served.device), l2=self.l2), parameters)

    def reverse(self, batch: Triples, parameters: Mapping[str, nn.Parameter]) -> Gradients:
        """Gradient of the reverse term."""
        users, positives, negatives = tensors(batch, self.served.device)
        positive, negative = self.scores(torch.cat([users, users]), torch.cat([positives, negatives])).chunk(2)
        found = gradients(reversed_bpr(positive, negative, self.form), parameters)
        return {name: torch.zeros_like(g) if name in self.untouched else g for name, g in found.items()}


def turned_round(task: Task) -> Interactions:
    """The pairs of the reverse term: the forgotten ones; in a modality request, those of items whose content goes."""
    if task.request.regime != "modality":
        return task.forget
    train = task.data.train
    return train.take(np.isin(train.items, task.request.items[task.units]))


def branch_logits(model: Backbone, branches: tuple[str, ...], users: Tensor, items: Tensor) -> Tensor:
    """Scores of pairs through some branches alone, summed over them; float [n], differentiable.

    Args:
        model: over the data whose features are read.
        branches: one or more of the model's.
        users, items: int64 [n].
    """
    tables = [model.embed(branch) for branch in branches]
    return torch.stack([(u[users] * i[items]).sum(-1) for u, i in tables]).sum(0)
