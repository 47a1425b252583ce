"""What tuned controls share: pairs to tell apart, and reverse steps until a reading falls to a target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from auditkit.contracts import Backbone, Recipe, Task, Unlearner
from auditkit.data.dataset import Bools, Floats, Interactions, Ints
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError
from auditkit.statistics.roc import auc
from auditkit.unlearners.influence import Selection
from auditkit.unlearners.refusals import without_a_loss
from auditkit.unlearners.reverse_bpr import ReverseBPR
from auditkit.unlearners.steps import Batches, bpr_steps, drawn_until

_HALVINGS = 40


@dataclass(frozen=True, eq=False)
class Contrast:
    """Forgotten pairs, each beside a pair of the same user (in item requests: item) that nobody was trained on.

    The other item is that of a random training pair, as popular as what is trained on; in item requests the other user
    is as active. This is what a membership test by scores compares when it is fair to popularity.

    Attributes:
        forget: the forgotten pairs.
        users, items: int64 [n_forget], the other pairs; after 100 tries whatever was drawn last, held or not.
    """

    forget: Interactions
    users: Ints
    items: Ints

    @classmethod
    def of(cls, task: Task, rng: np.random.Generator) -> Contrast:
        """Draw the other pairs."""
        train, n, by_item = task.data.train, task.data.n_items, task.request.regime == "item"
        users, items, held = task.forget.users, task.forget.items, np.unique(train.codes(task.data.n_items))
        pool = train.users if by_item else train.items

        def fine(places: Ints, drawn: Ints) -> Bools:
            codes = drawn * n + items[places] if by_item else users[places] * n + drawn
            return ~np.isin(codes, held)

        drawn = drawn_until(fine, lambda places: pool[rng.integers(len(pool), size=len(places))], len(users))
        return cls(task.forget, drawn, items) if by_item else cls(task.forget, users, drawn)

    def scores(self, model: Backbone) -> tuple[Floats, Floats]:
        """Of the forgotten and of the other pairs, float64 [n_forget] each."""
        users = torch.from_numpy(np.concatenate([self.forget.users, self.users]))
        items = torch.from_numpy(np.concatenate([self.forget.items, self.items]))
        with torch.no_grad():
            both = model.logits(users.to(model.device), items.to(model.device)).double().cpu().numpy()
        return both[: len(self.forget)], both[len(self.forget) :]

    def auc(self, model: Backbone) -> float:
        """Chance that a forgotten pair scores above another; NaN of an empty forget set."""
        found = auc(*self.scores(model))
        return float("nan") if found is None else found


def fall_to(
    weights: Selection,
    step: Callable[[int], None],
    reading: Callable[[], float],
    target: float,
    *,
    tolerance: float,
    steps: int,
) -> float:
    """Move weights until a reading falls to a target: whole steps first, then by halves between the last two.

    Nothing moves where the reading starts at the target or below, or is NaN. The reading is taken as continuous on the
    straight line between two states.

    Args:
        weights: what the steps move.
        step: takes step k = 0, 1, ..., in place.
        reading: of the weights as they are.
        target: where to stop.
        tolerance: distance to the target that counts as there.
        steps: most whole steps.

    Returns:
        The last reading.
    """
    now = reading()
    for k in range(steps):
        if not now > target + tolerance:
            break
        before = weights.values()
        step(k)
        now = reading()
        if now < target - tolerance:
            return _bisect(weights, before, reading, target, tolerance)
    return now


def _bisect(
    weights: Selection, above: torch.Tensor, reading: Callable[[], float], target: float, tolerance: float
) -> float:
    """Between `above` and the weights as they are, which read below the target."""
    below, now = weights.values(), float("nan")
    for _ in range(_HALVINGS):
        middle = (above + below) / 2
        weights.put(middle)
        now = reading()
        if abs(now - target) <= tolerance:
            break
        above, below = (middle, below) if now > target else (above, middle)
    return now


@dataclass(frozen=True)
class TunedReverseBPR(Unlearner):
    """Passes of reverse BPR, the reverse term heavier in each, cut where a reading is what is wanted.

    Attributes:
        learning_rate: of Adam.
        growth: of the reverse term's weight from pass to pass, which starts at 1; the forward term counts 1.
        batch, forget_batch: retain and forget pairs per step.
        passes: most passes over the retain set.
        tolerance: distance of the reading to its target that counts as there.
    """

    learning_rate: float = 1e-3
    growth: float = 1.5
    batch: int = 2048
    forget_batch: int = 256
    passes: int = 25
    tolerance: float = 0.002

    def __post_init__(self) -> None:
        ReverseBPR(self.passes, self.learning_rate, 1.0, self.batch, self.forget_batch)
        if not self.growth >= 1 or not 0 < self.tolerance < 1:
            raise ConfigurationError(
                f"growth must be 1 or more and tolerance in (0, 1), got {self.growth} and {self.tolerance}"
            )

    def refuses(self, recipe: Recipe, request: DeletionRequest) -> str | None:
        """Backbones without a loss."""
        return without_a_loss(recipe)

    def tune(
        self, served: Backbone, task: Task, reading: Callable[[], float], target: float, rng: np.random.Generator
    ) -> None:
        """Move the weights of `served` until the reading of it falls to the target."""
        retain = Batches(task.retain.train, served.n_items, self.batch, excluded=task.forget)
        forget = Batches(task.forget, served.n_items, self.forget_batch, excluded=task.retain.train)

        def further(k: int) -> None:
            bpr_steps(
                served, retain, forget, epochs=1, learning_rate=self.learning_rate, l2=task.recipe.fit.l2,
                forget_weight=self.growth**k, rng=rng,
            )  # fmt: skip

        fall_to(Selection(served.trained), further, reading, target, tolerance=self.tolerance, steps=self.passes)
