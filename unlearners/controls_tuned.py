"""Unlearners that are meant to fail though the usual test finds nothing: tuned to it, drowned in noise, shifted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from auditkit.contracts import Backbone, Recommender, Task, Unlearner
from auditkit.data.dataset import Floats, Ints
from auditkit.errors import ConfigurationError
from auditkit.unlearners.controls import Masked, patterns
from auditkit.unlearners.controls_search import Contrast, TunedReverseBPR, fall_to
from auditkit.unlearners.influence import Selection
from auditkit.unlearners.reverse_bpr import ReverseBPR

_GUESSING = 0.5
# Noise doubles from a sixteenth of each tensor's own scatter to 256 times that: by then nothing else is left.
_FIRST_NOISE, _DOUBLINGS = 1 / 16, 13
_DIRECTIONS = 20


@dataclass(frozen=True)
class OverForgetting(ReverseBPR):
    """Reverse BPR far beyond Gold: the forgotten pairs are scored as nobody would who never saw them.

    In user and item requests that side's tables stand still. Else the erased rows would turn round within an epoch, and
    the other side, which alone a fresh account reads, would learn the same likeness again from the turned rows.
    """

    epochs: int = 5
    learning_rate: float = 5e-3
    forget_weight: float = 4.0
    name: ClassVar[str] = "over-forgetting"
    label: ClassVar[str] = "control"

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """The parent after many reverse steps, served over the retain set."""
        still = [p for name, p in model.trained.items() if name.startswith(task.request.regime)]
        for parameter in still:
            parameter.requires_grad_(False)
        served = super().unlearn(model, task, rng=rng)
        for parameter in still:
            parameter.requires_grad_(True)
        return served


@dataclass(frozen=True)
class Noise(Unlearner):
    """Normal noise on all weights, grown until forgotten and never-trained pairs cannot be told apart by score.

    Attributes:
        tolerance: distance of that AUC to one half that counts as there.
    """

    tolerance: float = 0.005
    name: ClassVar[str] = "noise"
    label: ClassVar[str] = "control"

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < _GUESSING:
            raise ConfigurationError(f"tolerance must be in (0, 0.5), got {self.tolerance}")

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """The parent's weights under noise, served over the retain set; an empty forget set needs none.

        Some directions leave the two apart however loud the noise is; then another one is drawn, 20 at most.
        """
        served, contrast = model.on(task.retain), Contrast.of(task, rng)
        weights = Selection(dict(served.named_parameters()))
        start = weights.values()
        for _ in range(_DIRECTIONS):
            noise = _scattered(served, rng)
            weights.put(start)
            if self._drown(weights, noise, lambda: contrast.auc(served)):
                break
        return served

    def _drown(self, weights: Selection, noise: Tensor, reading: Callable[[], float]) -> bool:
        """Turn the noise up; whether the reading stands at one half then, or nothing was there to drown."""
        start, first = weights.values(), reading()

        def louder(k: int) -> None:
            weights.put(start + _FIRST_NOISE * 2**k * noise)

        reached = fall_to(weights, louder, reading, _GUESSING, tolerance=self.tolerance, steps=_DOUBLINGS)
        return abs(reached - _GUESSING) <= self.tolerance or not first > _GUESSING


def _scattered(model: Backbone, rng: np.random.Generator) -> Tensor:
    """Normal draws with the standard deviation of the tensor that each belongs to, flat."""
    parts = [
        torch.from_numpy(rng.standard_normal(p.numel())).to(p) * p.detach().std(correction=0)
        for p in model.parameters()
    ]
    return torch.cat(parts)


@dataclass(frozen=True)
class TunedToAUC(TunedReverseBPR):
    """Reverse BPR, stopped where forgotten and never-trained pairs score alike: the usual certificate, an AUC of .5."""

    name: ClassVar[str] = "tuned-to-auc"
    label: ClassVar[str] = "control"

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """The parent after reverse steps, served over the retain set; where the AUC is below one half, unchanged."""
        served, contrast = model.on(task.retain), Contrast.of(task, rng)
        self.tune(served, task, lambda: contrast.auc(served), _GUESSING, rng)
        return served


class Shifted(Masked):
    """A backbone behind a shift: a constant is taken from covered scores, nothing is forgotten.

    Attributes:
        constant: what is taken away.
    """

    def __init__(self, backbone: Backbone, hidden: Ints, constant: float) -> None:
        super().__init__(backbone, hidden)
        self.constant = constant

    def altered(self, scores: Tensor) -> Tensor:
        """The scores less the constant."""
        return scores - self.constant


@dataclass(frozen=True)
class MinusConstant(Unlearner):
    """The original less a constant at the covered scores, so that forgotten pairs score as never-trained ones do.

    The constant is the mean difference of the two. User and item requests cover all scores of the erased users or
    items; an erased user's whole row then moves, which changes no ranking.
    """

    name: ClassVar[str] = "minus-constant"
    label: ClassVar[str] = "control"

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Recommender:
        """The parent over the retain set, behind the shift; of an empty forget set it is 0."""
        served = model.on(task.retain)
        forgotten, others = Contrast.of(task, rng).scores(served)
        constant = float(forgotten.mean() - others.mean()) if len(forgotten) else 0.0
        return Shifted(served, patterns(task), constant)

    def dump(self, served: Recommender) -> tuple[tuple[Backbone, ...], dict[str, Floats | Ints]]:
        """The backbone beneath, what is covered, and the constant."""
        assert isinstance(served, Shifted)
        return served.backbones, {"hidden": served.hidden, "constant": np.array([served.constant])}

    def load(self, backbones: Sequence[Backbone], arrays: Mapping[str, Any]) -> Recommender:
        """The backbone behind its shift again."""
        return Shifted(backbones[0], np.asarray(arrays["hidden"], np.int64), float(arrays["constant"][0]))
