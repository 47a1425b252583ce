"""Importance-based pruning (Zhang et al., IFRU, arXiv 2307.02147): which users and items a request reaches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from auditkit.data.dataset import Bools, Dataset, Floats, Interactions


@dataclass(frozen=True, eq=False)
class Nodes:
    """Some users and some items.

    Attributes:
        users: bool [n_users].
        items: bool [n_items].
    """

    users: Bools
    items: Bools

    def touch(self, pairs: Interactions) -> Bools:
        """Which pairs have an end among them, bool [n_pairs]."""
        return np.asarray(self.users[pairs.users] | self.items[pairs.items], np.bool_)


def degrees(pairs: Interactions, n_users: int, n_items: int) -> tuple[Floats, Floats]:
    """Pairs of each user and of each item, float64 [n_users] and [n_items]."""
    return (
        np.bincount(pairs.users, minlength=n_users).astype(np.float64),
        np.bincount(pairs.items, minlength=n_items).astype(np.float64),
    )


def importance(data: Dataset, forget: Interactions, hops: int) -> tuple[Floats, Floats]:
    """I_hops of every user and item, in [0, 1]; 0 where the request does not reach. Published, the authors' code.

    I_0(v) = (forgotten pairs of v) / deg(v), deg(v) the training pairs of v and 1;
    I_k(w) = (I_{k-1}(w) + sum of I_{k-1} over w's neighbours) / deg(w).
    The authors' samples have labels and their degrees count the negative ones too; here pairs are all positive.

    Args:
        data: what the parent was trained on.
        forget: pairs of its training part that go.
        hops: k, 0 or more.
    """
    sizes = data.n_users, data.n_items
    weights = tuple(1 + count for count in degrees(data.train, *sizes))
    users, items = (gone / weight for gone, weight in zip(degrees(forget, *sizes), weights, strict=True))
    pairs = data.train
    for _ in range(hops):
        from_items = np.bincount(pairs.users, items[pairs.items], minlength=data.n_users)
        from_users = np.bincount(pairs.items, users[pairs.users], minlength=data.n_items)
        users, items = (users + from_items) / weights[0], (items + from_users) / weights[1]
    return users, items


def kept(users: Floats, items: Floats, keep: float) -> Nodes:
    """The most important nodes.

    Args:
        users, items: importance, float64 [n_users] and [n_items].
        keep: share of the nodes with importance above 0 that stay, in (0, 1]; ties at the bound go.
    """
    both = np.concatenate([users, items])
    reached = both[both > 0]
    bound = np.quantile(reached, 1 - keep) if keep < 1 and len(reached) else 0.0
    return Nodes(users > bound, items > bound)


def changed(before: Dataset, after: Dataset, ratio: float) -> Nodes:
    """Nodes that lost more than a share of their pairs, retained ones left: where the published code sees spillover.

    Args:
        before, after: what the parent was trained on, and what may stay.
        ratio: 1 - deg_after / deg_before above which a node has changed, in [0, 1).
    """
    sizes = before.n_users, before.n_items
    had, has = degrees(before.train, *sizes), degrees(after.train, *sizes)
    return Nodes(*(now < (1 - ratio) * then for then, now in zip(had, has, strict=True)))
