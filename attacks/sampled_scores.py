"""Scores at fixed random items: a user's answers in small, and a pair's score less those of fixed negatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from auditkit.contracts import Access, Probe, Recommender
from auditkit.data.dataset import Floats, Ints
from auditkit.evidence import Case
from auditkit.probes import blocks, offered


def scores_at(model: Recommender, users: Ints, items: Ints) -> Floats:
    """Scores of pairs in any order, float64 [n]; NaN where the item is not offered. Each user's row is asked for once.

    Args:
        model: who is asked.
        users, items: int64 [n].
    """
    asked, place = np.unique(users, return_inverse=True)
    found, start = np.empty(len(items)), 0
    for block in blocks(asked, model.n_items):
        mine = np.flatnonzero((place >= start) & (place < start + len(block)))
        scores = offered(model.score(block))
        rows, columns = (torch.as_tensor(ids, device=scores.device) for ids in (place[mine] - start, items[mine]))
        found[mine] = scores[rows, columns].cpu().numpy()
        start += len(block)
    return found


@dataclass(frozen=True)
class SampledScores(Probe):
    """Scores of the users behind the units at fixed random items, a set for each user.

    Signal `scores`: float64 [n_points, sampled], NaN where an item is not offered. A whole row is as wide as the
    catalogue; the sample has the whole row's softmax distribution, renormalised over it, and its order.

    Attributes:
        sampled: items per user, drawn once without repeats from all items, the same for every system; all where the
            catalogue has fewer.
        most: users asked; of more than these the same sample for every system.
    """

    sampled: int = 100
    most: int = 200
    name: ClassVar[str] = "sampled-scores"
    access: ClassVar[Access] = Access.SCORES

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """One row per unit and user behind it; items are -1."""
        found = case.pairs()[["unit", "user"]].drop_duplicates(ignore_index=True)
        asked = rng.permutation(found["user"].unique())[: self.most]
        return found[found["user"].isin(asked)].reset_index(drop=True).assign(item=-1)

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """The scores, float64 [n_points, sampled]."""
        users, place = np.unique(points["user"].to_numpy(), return_inverse=True)
        size = min(self.sampled, case.data.n_items)
        items = np.stack([rng.choice(case.data.n_items, size, replace=False) for _ in users])
        scores = scores_at(model, np.repeat(users, size), items.ravel())
        return {"scores": scores.reshape(items.shape)[place]}


@dataclass(frozen=True)
class PairMargins(Probe):
    """Each pair's score less the scores of fixed random negatives of the user, one by one.

    Signal `margins`: float64 [n_points, negatives], NaN where a negative is held by the user in the original data or
    not offered, and everywhere where the pair is not offered. The `margin` of the `pairs` probe is a mean of such.

    Attributes:
        negatives: drawn once per user from all items, the same for every system.
        most: pairs asked; of more than these the same sample for every system.
    """

    negatives: int = 20
    most: int = 5000
    name: ClassVar[str] = "pair-margins"
    access: ClassVar[Access] = Access.SCORES

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """Pairs of the units."""
        pairs = case.pairs()
        return pairs.iloc[np.sort(rng.permutation(len(pairs))[: self.most])].reset_index(drop=True)

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """The margins, float64 [n_points, negatives]."""
        n_items = case.data.n_items
        asked, place = np.unique(points["user"].to_numpy(), return_inverse=True)
        draws = rng.integers(n_items, size=(len(asked), self.negatives))
        held = np.isin(asked[:, None] * n_items + draws, case.data.train.codes(n_items))
        users = np.concatenate([np.repeat(asked, self.negatives), points["user"]])
        scores = scores_at(model, users, np.concatenate([draws.ravel(), points["item"]]))
        negatives = np.where(held, np.nan, scores[: draws.size].reshape(draws.shape))
        return {"margins": scores[draws.size :, None] - negatives[place]}
