"""When to stop forgetting, told without Gold and without test pairs: at the rank of what was never trained.

Reconstructed: the papers do not say when they stop. A system that never saw a pair ranks it like other pairs of the
user that it never saw, so forgotten pairs should outrank those as often as they then would:

- interaction and modality requests, where there are validation pairs: half the time against the same users' validation
  pairs, which are unseen and liked as well. Where there are none: as often, against unheld items with about as many
  retained pairs, as by the item neighbourhoods of the retained data, which know the user and cannot know the pair;
- user and item requests: half the time against such items, since nothing else of the user or the item is left (an
  erased item is compared with items that have no training pairs, or the fewest). Validation pairs would be wrong
  here: a known user's liked items stand above what is left to a forgotten one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from auditkit.contracts import Task
from auditkit.data.dataset import Floats, Interactions, Ints
from auditkit.unlearners.steps import Batches, drawn_until

# 1,024 pairs with 8 comparisons each give a share with a standard error of about .01.
_WATCHED, _COMPARED = 1024, 8
_FEWEST = 100


@dataclass(frozen=True, eq=False)
class Watch:
    """Forgotten pairs beside never-trained pairs of the same users.

    Attributes:
        users, items: int64 [n], forgotten pairs.
        others: int64 [n, k], items that the pair's user was never trained on.
        target: the share of comparisons that a forgotten pair wins where it is not remembered, in [0, 1].
    """

    users: Ints
    items: Ints
    others: Ints
    target: float

    @classmethod
    def of(cls, task: Task, pairs: Interactions, rng: np.random.Generator) -> Watch:
        """Choose up to 1,024 of `pairs` (what is turned round) and what each is compared with."""
        chosen = pairs.take(np.sort(rng.permutation(len(pairs))[:_WATCHED]))
        if not len(chosen):
            return cls(chosen.users, chosen.items, np.empty((0, _COMPARED), np.int64), 0.5)
        if task.request.regime in ("interaction", "modality"):
            found = _validation(task, chosen, rng)
            if found is not None:
                return found
        others = _as_popular(task, chosen, rng)
        target = 0.5 if task.request.regime in ("user", "item") else _by_neighbours(task, chosen, others)
        return cls(chosen.users, chosen.items, others, target)

    def remembered(self, scores: Callable[[Tensor, Tensor], Tensor], device: torch.device) -> bool:
        """Whether the forgotten pairs still win more comparisons than the target; False where there are none.

        Args:
            scores: users and items (int64 [n] each) to scores, float [n].
            device: of the scores.
        """
        return len(self.users) > 0 and self.share(scores, device) > self.target

    def share(self, scores: Callable[[Tensor, Tensor], Tensor], device: torch.device) -> float:
        """The share of comparisons that the forgotten pairs win, in [0, 1]; arguments as of `remembered`."""
        items = np.concatenate([self.items[:, None], self.others], axis=1)
        users = np.repeat(self.users, items.shape[1])
        with torch.no_grad():
            found = scores(torch.from_numpy(users).to(device), torch.from_numpy(items.ravel()).to(device))
        rows = found.double().cpu().numpy().reshape(items.shape)
        return wins(rows[:, 0], rows[:, 1:])


def wins(scores: Floats, others: Floats) -> float:
    """Share of comparisons in which a score (float64 [n]) is above its others ([n, k]); a tie is half a win."""
    gap = scores[:, None] - others
    return float((gap > 0).mean() + 0.5 * (gap == 0).mean())


def _validation(task: Task, pairs: Interactions, rng: np.random.Generator) -> Watch | None:
    """Comparisons with validation pairs of the same users; None where fewer than 100 pairs (or all) have some."""
    valid = task.retain.valid
    order = np.argsort(valid.users, kind="stable")
    holders, items = valid.users[order], valid.items[order]
    first, last = (np.searchsorted(holders, pairs.users, side) for side in ("left", "right"))
    known = np.flatnonzero(last > first)
    if len(known) < max(1, min(_FEWEST, len(pairs))):
        return None
    places = rng.integers(first[known, None], last[known, None], size=(len(known), _COMPARED))
    return Watch(pairs.users[known], pairs.items[known], items[places], 0.5)


def _as_popular(task: Task, pairs: Interactions, rng: np.random.Generator) -> Ints:
    """Unheld items with about as many retained pairs as the pair's own item has, int64 [n, k].

    They are drawn from the items of exactly that many, or where those are fewer than 8 from the 8 next below and above.
    Items that the request leaves without a pair are none of them: they were trained on.
    """
    n_items = task.data.n_items
    degree = np.bincount(task.retain.train.items, minlength=n_items)
    trained_before = np.bincount(task.data.train.items, minlength=n_items) > 0
    pool = np.flatnonzero((degree > 0) | ~trained_before)
    if not len(pool):
        pool = np.arange(n_items)
    pool = pool[np.argsort(degree[pool], kind="stable")]
    first, last = _neighbourhood(degree[pool], degree[pairs.items])
    held = Batches(task.data.train, n_items, 1, excluded=task.data.valid)
    users, first, last = (np.repeat(column, _COMPARED) for column in (pairs.users, first, last))
    drawn = drawn_until(
        lambda places, items: ~held.holds(users[places], items),
        lambda places: pool[rng.integers(first[places], last[places])],
        len(users),
    )
    return drawn.reshape(-1, _COMPARED)


def _neighbourhood(ordered: Ints, wanted: Ints) -> tuple[Ints, Ints]:
    """First place and the one after the last of the values like each wanted one; both int64 [n].

    Args:
        ordered: int64 [m], ascending, not empty.
        wanted: int64 [n].
    """
    first, last = np.searchsorted(ordered, wanted, "left"), np.searchsorted(ordered, wanted, "right")
    more = np.where(last - first < _COMPARED, _COMPARED, 0)
    last = (last + more).clip(1, len(ordered))
    return np.minimum((first - more).clip(0), last - 1), last


def _by_neighbours(task: Task, pairs: Interactions, others: Ints) -> float:
    """The target that item neighbourhoods of the retained data set: the share of comparisons won by their score.

    The score of (u, i) is the sum over u's other retained items j of the cosine of i's and j's retained users, u left
    out: so a pair that is retained (in a modality request) says nothing of itself.
    """
    train, n_items = task.retain.train, task.data.n_items
    matrix, kept = train.matrix(task.data.n_users, n_items).astype(np.float64), Batches(train, n_items, 1)
    degree = np.bincount(train.items, minlength=n_items).clip(1)
    weight = 1 / np.sqrt(degree)
    users, place = np.unique(pairs.users, return_inverse=True)
    by_user, by_item = matrix[users], matrix.T.tocsr()
    # Over the users who share items with the pair's own: far fewer than pairs of items.
    near, own = (by_user.multiply(weight).tocsr() @ matrix.T).tocsr(), by_user @ weight

    def score(items: Ints) -> Floats:
        found = np.asarray(near[place].multiply(by_item[items]).sum(axis=1), np.float64).ravel() * weight[items]
        itself = own[place] * weight[items] + 1 - 1 / degree[items]
        return np.asarray(np.where(kept.holds(pairs.users, items), found - itself, found), np.float64)

    return wins(score(pairs.items), np.stack([score(column) for column in others.T], axis=1))
