"""Gradient steps on BPR losses over retain and forget pairs: what several unlearners are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from auditkit.contracts import Backbone
from auditkit.data.dataset import Bools, Interactions, Ints

Triples = tuple[Ints, Ints, Ints]
Gradients = dict[str, Tensor]
Form = Literal["swapped", "negated"]

_TRIES = 100


def drawn_until(fine: Callable[[Ints, Ints], Bools], draw: Callable[[Ints], Ints], n: int) -> Ints:
    """Items drawn again until they are fine; after 100 tries whatever was drawn last. int64 [n].

    Args:
        fine: places (int64 [m]) and the items drawn there to bool [m].
        draw: places to items, int64 [m] each.
        n: how many.
    """
    places = np.arange(n)
    items = draw(places)
    for _ in range(_TRIES):
        places = places[~fine(places, items[places])]
        if not len(places):
            break
        items[places] = draw(places)
    return items


@dataclass(frozen=True, eq=False)
class Batches:
    """Shuffled batches of pairs with one uniform negative each.

    Attributes:
        pairs: positives.
        n_items: negatives are drawn below this.
        size: pairs per batch.
        excluded: further pairs that are never drawn as negatives (the positives never are).
        pool: int64, the items that negatives are drawn from; None or empty for all.
    """

    pairs: Interactions
    n_items: int
    size: int
    excluded: Interactions | None = None
    pool: Ints | None = field(default=None, kw_only=True)

    @cached_property
    def _held(self) -> Ints:
        more = [self.excluded.codes(self.n_items)] if self.excluded is not None else []
        # Sorted is enough to search in; finding the distinct ones takes twenty times as long.
        return np.sort(np.concatenate([self.pairs.codes(self.n_items), *more]))

    def holds(self, users: Ints, items: Ints) -> Bools:
        """Which pairs are positives or excluded, bool [n]."""
        if not len(self._held):
            return np.zeros(len(users), np.bool_)
        codes = users * self.n_items + items
        place = np.minimum(np.searchsorted(self._held, codes), len(self._held) - 1)
        return np.asarray(self._held[place] == codes)

    def negatives(self, users: Ints, rng: np.random.Generator) -> Ints:
        """One item per user that the user does not hold; after 100 tries whatever was drawn last."""

        def draw(places: Ints) -> Ints:
            if self.pool is None or not len(self.pool):
                return rng.integers(self.n_items, size=len(places))
            return self.pool[rng.integers(len(self.pool), size=len(places))]

        return drawn_until(lambda places, items: ~self.holds(users[places], items), draw, len(users))

    def epoch(self, rng: np.random.Generator) -> list[Triples]:
        """(users, positives, negatives) of every batch of one pass."""
        order = rng.permutation(len(self.pairs))
        users, items = self.pairs.users[order], self.pairs.items[order]
        negatives = self.negatives(users, rng) if len(users) else users
        cuts = range(0, len(users), self.size)
        return [(users[c : c + self.size], items[c : c + self.size], negatives[c : c + self.size]) for c in cuts]


def tensors(batch: Triples, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """A batch on the device, int64 [n] each."""
    users, positives, negatives = (torch.as_tensor(ids, device=device) for ids in batch)
    return users, positives, negatives


def reversed_bpr(positive: Tensor, negative: Tensor, form: Form) -> Tensor:
    """BPR turned round, []: its descent lowers the positive's score below the negative's.

    `swapped` is -log sigmoid(s_uj - s_ui), whose gradient is at most 1 and fades as the pair is forgotten; `negated` is
    +log sigmoid(s_ui - s_uj), gradient ascent on BPR, which has no lower bound and grows as the pair is forgotten.

    Args:
        positive, negative: scores of the forgotten pairs and of others of the same users, float [n].
        form: which of the two.
    """
    if form == "swapped":
        return softplus(positive - negative).mean()
    return -softplus(negative - positive).mean()


def gradients(loss: Tensor, parameters: Mapping[str, nn.Parameter]) -> Gradients:
    """Name -> gradient of the loss, of the parameter's shape; zeros where the loss does not depend on it."""
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(parameters, found, strict=True))


@contextmanager
def training(model: Backbone) -> Iterator[None]:
    """The model in training mode; afterwards it serves, and what was random is forgotten."""
    model.train()
    try:
        yield
    finally:
        model.start_epoch(())
        model.eval()


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
    """Adam on retain_weight * loss(retain) + forget_weight * loss(forget), in place; the losses are the model's own.

    Every retain batch goes with one forget batch (cycled). The forget pairs are swapped, positive against negative:
    -log sigmoid(s_uj - s_ui), whose gradient is bounded; `swap=False` leaves them as they are, which reinforces them.
    What is random in the model's training (dropout, sampled edges) is so here.

    Args:
        model: parameters are changed.
        retain, forget: batches; `forget` None or empty takes forward steps alone.
        epochs: passes over the retain pairs.
        learning_rate, l2: of Adam; of the model's own L2 term.
        rng: of order, negatives and what is random in training.
        retain_weight, forget_weight: of the two terms.
        swap: turn the forget pairs round.
    """  # fmt: skip
    optimiser = torch.optim.Adam(model.trained.values(), lr=learning_rate)
    cycle: list[Triples] = []
    with training(model):
        for _ in range(epochs):
            model.start_epoch((rng,))
            for batch in retain.epoch(rng):
                optimiser.zero_grad(set_to_none=True)
                loss = retain_weight * model.loss(*tensors(batch, model.device), l2=l2)
                if forget is not None and len(forget.pairs):
                    cycle = cycle or forget.epoch(rng)
                    users, positives, negatives = tensors(cycle.pop(), model.device)
                    pair = (negatives, positives) if swap else (positives, negatives)
                    loss = loss + forget_weight * model.loss(users, *pair, l2=0.0)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
