"""MMRecUn (Sinha, Mandal and Kankanhalli, arXiv 2405.15328): reverse BPR on what goes, forward BPR on what stays.

Published: the two terms, from the trained weights, for interactions, users and items of multimodal recommenders. Not
published (neither code nor tables are public): the form of the reverse term, its weight, learning rate, batches, when
to stop, and what a modality request turns round. All that is reconstructed here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, get_args

import numpy as np
import torch

from auditkit.backbones.multimodal import MultimodalBackbone
from auditkit.contracts import Backbone, Recipe, Task, Unlearner
from auditkit.deletion import DeletionRequest, Regime
from auditkit.errors import ConfigurationError
from auditkit.unlearners.never_trained import Watch
from auditkit.unlearners.refusals import without_a_loss
from auditkit.unlearners.reversal import Reversal
from auditkit.unlearners.steps import Form, Gradients, training

Shape = Callable[[Gradients, Gradients], Gradients]
# Where the parent was not trained by Adam: of .001, .002 and .005 what forgot most on BPR-MF of MovieLens-100K.
_RATE = 5e-3


@dataclass(frozen=True)
class MMRecUn(Unlearner):
    """Adam on loss(retain) + forget_weight * reverse BPR(forget), served over the retained data from the first step.

    The backbone's auxiliary losses see retained pairs alone. The reverse term ends as soon as the forgotten pairs
    rank no higher than never-trained ones (`never_trained`), which neither Gold nor test pairs decide, and the forward
    term at the end of that pass; both after `epochs` at the latest. A model that remembers nothing takes no
    step, nor does a request that covers nothing. Without retained pairs the reverse term goes alone.

    In a modality request the interactions stay, and what is turned round is what the withdrawn modality's branch makes
    of the withdrawn features: BPR of the named items' training pairs, scored through that branch alone over the
    parent's data. Trained feature rows of withdrawn items are overwritten by what is served in their place.

    Attributes:
        epochs: passes over the retain set at most.
        learning_rate: of Adam; None is the parent's own where Adam trained it, else .005.
        forget_weight: of the reverse term; the forward term counts 1.
        batch: retain pairs per step; None is the parent's own.
        forget_batch: forget pairs per step.
        form: `swapped`, whose gradient is bounded, or `negated`, gradient ascent.
        every: steps from one look at the stopping rule to the next.
    """

    epochs: int = 10
    learning_rate: float | None = None
    forget_weight: float = 0.1
    batch: int | None = None
    forget_batch: int = 256
    form: Form = "swapped"
    every: int = 5
    name: ClassVar[str] = "mmrecun"
    label: ClassVar[str] = "reconstructed"
    regimes: ClassVar[frozenset[Regime]] = frozenset({"interaction", "user", "item", "modality"})

    def __post_init__(self) -> None:
        problems = [problem for fine, problem in self._wanted() if not fine]
        if problems:
            raise ConfigurationError(problems)

    def _wanted(self) -> tuple[tuple[bool, str], ...]:
        rate = self.learning_rate
        return (
            (self.epochs >= 1, f"epochs must be 1 or more, got {self.epochs}"),
            (rate is None or rate > 0, f"learning_rate must be above 0, or null for the parent's own, got {rate}"),
            (self.forget_weight >= 0, f"forget_weight must be 0 or more, got {self.forget_weight}"),
            (self.batch is None or self.batch >= 1, f"batch must be 1 or more, or null, got {self.batch}"),
            (self.forget_batch >= 1, f"forget_batch must be 1 or more, got {self.forget_batch}"),
            (self.form in get_args(Form), f"form must be one of {', '.join(get_args(Form))}, got {self.form!r}"),
            (self.every >= 1, f"every must be 1 or more, got {self.every}"),
        )

    def refuses(self, recipe: Recipe, request: DeletionRequest) -> str | None:
        """Backbones without a loss, and withdrawn content that the backbone does not read."""
        if request.regime == "modality" and not recipe.architecture().needs_features:
            return f"{recipe.backbone} reads no features, so withdrawing some leaves nothing to turn round"
        return without_a_loss(recipe)

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """The parent after reverse and forward steps, served over the retain set."""
        fit = task.recipe.fit
        reversal = Reversal.of(
            model, task, batch=self.batch or fit.batch, forget_batch=self.forget_batch, form=self.form
        )
        watch = Watch.of(task, reversal.forget.pairs, rng)
        with training(reversal.served):
            self._prepare(reversal, task, rng)
            self._descend(reversal, watch, self._shaping(reversal, task), self.rate(task), rng)
        _overwrite_withdrawn(reversal.served, task)
        return reversal.served

    def rate(self, task: Task) -> float:
        """The learning rate: its own, or what None stands for."""
        fit = task.recipe.fit
        return self.learning_rate or (fit.learning_rate if fit.engine == "adam" else _RATE)

    def _prepare(self, reversal: Reversal, task: Task, rng: np.random.Generator) -> None:
        """What comes before the steps: nothing."""

    def _shaping(self, reversal: Reversal, task: Task) -> Shape:
        """What forward and reverse gradient make of the reverse gradient: itself."""
        return lambda forward, reverse: reverse

    def _descend(self, reversal: Reversal, watch: Watch, shaped: Shape, rate: float, rng: np.random.Generator) -> None:
        """Steps of both terms until the watch says so, then of the forward term to the end of the pass."""
        parameters, device = reversal.served.trained, reversal.served.device
        optimiser = torch.optim.Adam(parameters.values(), lr=rate, fused=True)
        remembered, passes = watch.remembered(reversal.scores, device), 0
        while remembered and passes < self.epochs:
            for k, (retained, forgotten) in enumerate(reversal.batches(rng)):
                if remembered and k and k % self.every == 0:
                    remembered = watch.remembered(reversal.scores, device)
                total = reversal.forward(retained, parameters)
                if remembered:
                    reverse = shaped(total, reversal.reverse(forgotten, parameters))
                    total = {name: g.add_(reverse[name], alpha=self.forget_weight) for name, g in total.items()}
                for name, parameter in parameters.items():
                    parameter.grad = total[name]
                optimiser.step()
            passes += 1
        optimiser.zero_grad()


@torch.no_grad()
def _overwrite_withdrawn(served: Backbone, task: Task) -> None:
    """Put what is served in place of withdrawn features into trained feature tables, which would still hold them."""
    if isinstance(served, MultimodalBackbone):
        for modality in task.request.modalities:
            table = served.trained.get(served.feature_name(modality))
            if table is not None:
                table.copy_(served.item_features(modality))
