"""Habit 1: membership AUC of forgotten pairs against random pairs, which real pairs win in any recommender."""

from __future__ import annotations

import numpy as np

from auditkit.data.dataset import Dataset, Floats, Interactions
from auditkit.statistics.roc import auc
from benchmarks.field_habits.pairs import NON_MEMBERS, Pairs


def areas(values: Floats, pairs: Pairs) -> dict[str, Floats]:
    """AUC of forgotten pairs against each kind of non-members, float64 [n_systems] each.

    Args:
        values: float64 [n_systems, n_pairs], one signal.
        pairs: what it was read at.
    """
    forget = values[:, pairs.rows("forget")]
    found = {}
    for kind in NON_MEMBERS:
        others = values[:, pairs.rows(kind)]
        each = (auc(mine, theirs) for mine, theirs in zip(forget, others, strict=True))
        found[kind] = np.array([np.nan if area is None else area for area in each])
    return found


def blind_scores(retain: Interactions, data: Dataset, pairs: Pairs) -> dict[str, Floats]:
    """Scores of attackers who see no model but the retained pairs, float64 [1, n_pairs] each.

    `popularity` is the item's retained degree, `popularity x activity` its product with the user's.
    """
    popularity = np.bincount(retain.items, minlength=data.n_items)[pairs.items].astype(np.float64)
    activity = np.bincount(retain.users, minlength=data.n_users)[pairs.users]
    return {"popularity": popularity[None], "popularity x activity": (popularity * activity)[None]}
