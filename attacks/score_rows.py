"""Reading z of a pair's score within the user's row, for attacks that ask about pairs of their own choice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from auditkit.data.dataset import Floats, Ints
from auditkit.probes import blocks, offered, row_moments


def z_in_rows(score: Callable[[Ints], Tensor], users: Ints, items: Ints, n_items: int) -> Floats:
    """The z of each pair's score within its user's row, float64 [n]; every user's row is asked for once.

    Args:
        score: user ids to rows of scores, float [n_given_users, n_items].
        users: int64 [n], in any order, repeats allowed; -1 names nobody.
        items: int64 [n]; -1 names nothing.
        n_items: width of a row.

    Returns:
        NaN where user or item is -1, where the item is not offered, and in rows whose offered scores are all equal.
    """
    found = np.full(len(users), np.nan)
    order = np.argsort(users, kind="stable")
    order = order[(users[order] >= 0) & (items[order] >= 0)]
    asked, starts = np.unique(users[order], return_index=True)
    ends = np.append(starts[1:], len(order))
    first = 0
    for block in blocks(asked, n_items):
        mine = order[starts[first] : ends[first + len(block) - 1]]
        scores = offered(score(block))
        mean, spread = row_moments(scores)
        rows = torch.as_tensor(np.searchsorted(block, users[mine]), device=scores.device)
        values = scores[rows, torch.as_tensor(items[mine], device=scores.device)]
        found[mine] = ((values - mean[rows]) / spread[rows]).cpu().numpy()
        first += len(block)
    return found
