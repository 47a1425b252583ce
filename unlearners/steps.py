"""Gradient steps on BPR losses over retain and forget pairs: what several unlearners are made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from auditkit.contracts import Backbone
from auditkit.data.dataset import Bools, Interactions, Ints


@dataclass(frozen=True, eq=False)
class Batches:
    """Shuffled batches of pairs with one uniform negative each.

    Attributes:
        pairs: positives.
        n_items: negatives are drawn below this.
        size: pairs per batch.
        excluded: further pairs that are never drawn as negatives (the positives never are).
    """

    pairs: Interactions
    n_items: int
    size: int
    excluded: Interactions | None = None

    @cached_property
    def _held(self) -> Ints:
        more = [self.excluded.codes(self.n_items)] if self.excluded is not None else []
        return np.unique(np.concatenate([self.pairs.codes(self.n_items), *more]))

    def _holds(self, users: Ints, items: Ints) -> Bools:
        codes = users * self.n_items + items
        place = np.minimum(np.searchsorted(self._held, codes), len(self._held) - 1)
        return np.asarray(self._held[place] == codes)

    def negatives(self, users: Ints, rng: np.random.Generator) -> Ints:
        """One item per user that the user does not hold; after 100 tries whatever was drawn last."""
        items = rng.integers(self.n_items, size=len(users))
        for _ in range(100):
            bad = np.flatnonzero(self._holds(users, items))
            if not len(bad):
                break
            items[bad] = rng.integers(self.n_items, size=len(bad))
        return items

    def epoch(self, rng: np.random.Generator) -> list[tuple[Ints, Ints, Ints]]:
        """(users, positives, negatives) of every batch of one pass."""
        order = rng.permutation(len(self.pairs))
        users, items = self.pairs.users[order], self.pairs.items[order]
        negatives = self.negatives(users, rng) if len(users) else users
        cuts = range(0, len(users), self.size)
        return [(users[c : c + self.size], items[c : c + self.size], negatives[c : c + self.size]) for c in cuts]


def _tensors(batch: tuple[Ints, Ints, Ints], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    users, positives, negatives = (torch.as_tensor(ids, device=device) for ids in batch)
    return users, positives, negatives


def bpr_steps(
    model: Backbone,
    retain: Batches,
    forget: Batches | None,
    *,
    epochs: int,
    learning_rate: float,
    l2: float,
    rng: np.random.Generator,
    retain_weight: float = 1.0,
    forget_weight: float = 1.0,
    swap: bool = True,
) -> None:
    """Adam on retain_weight * BPR(retain) + forget_weight * BPR(forget), in place.

    Every retain batch goes with one forget batch (cycled). The forget pairs are swapped, positive against negative:
    -log sigmoid(s_uj - s_ui), whose gradient is bounded; `swap=False` leaves them as they are, which reinforces them.

    Args:
        model: parameters are changed.
        retain, forget: batches; `forget` None or empty takes forward steps alone.
        epochs: passes over the retain pairs.
        learning_rate, l2: of Adam; of the model's own L2 term.
        rng: of order and negatives.
        retain_weight, forget_weight: of the two terms.
        swap: turn the forget pairs round.
    """  # fmt: skip
    optimiser = torch.optim.Adam(model.trained.values(), lr=learning_rate)
    cycle: list[tuple[Ints, Ints, Ints]] = []
    for _ in range(epochs):
        for batch in retain.epoch(rng):
            optimiser.zero_grad(set_to_none=True)
            loss = retain_weight * model.loss(*_tensors(batch, model.device), l2=l2)
            if forget is not None and len(forget.pairs):
                cycle = cycle or forget.epoch(rng)
                users, positives, negatives = _tensors(cycle.pop(), model.device)
                pair = (negatives, positives) if swap else (positives, negatives)
                loss = loss + forget_weight * model.loss(users, *pair, l2=0.0)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
