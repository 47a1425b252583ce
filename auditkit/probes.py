"""Probes that several attacks share: score signals at pairs, and top-K lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from auditkit.contracts import Access, Probe, Recommender
from auditkit.data.dataset import Floats, Ints
from auditkit.evidence import Case
from auditkit.utility import top_k

# Bytes of one block of scores in double precision.
_BLOCK_BYTES = 64 * 2**20


def blocks(users: Ints, n_items: int) -> Iterator[Ints]:
    """Parts of `users` whose score rows fit one block."""
    size = max(1, _BLOCK_BYTES // (8 * n_items))
    for start in range(0, len(users), size):
        yield users[start : start + size]


def offered(scores: Tensor) -> Tensor:
    """Double-precision scores with NaN for every item that is not offered (NaN or infinite)."""
    scores = scores.double()
    return torch.where(torch.isfinite(scores), scores, torch.nan)


def row_moments(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over each row's offered items, [n_rows] each; NaN where fewer than two differ."""
    count = torch.isfinite(scores).sum(1)
    mean = scores.nanmean(1)
    spread = (scores - mean[:, None]).square().nansum(1).div(count).sqrt()
    # A constant row ranks nothing: its z is undefined, not infinite.
    return mean, torch.where(spread > 1e-12 * (1 + mean.abs()), spread, torch.nan)


@dataclass(frozen=True)
class Pairs(Probe):
    """Score signals at the pairs that the units stand for.

    Signals, each NaN where the pair is not offered: `z` of the score within the user's row; `rank`, the logit of
    (r - .5)/N turned so that higher is better ranked (ties get the middle rank); `margin`, the mean difference to
    fixed random negatives of the user; `softmax`, s - log sum exp over the other items.

    Attributes:
        negatives: fixed negatives per user, drawn once from the items that the user does not hold in the original data.
    """

    negatives: int = 50
    name: ClassVar[str] = "pairs"
    access: ClassVar[Access] = Access.SCORES

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """Every pair of every unit."""
        return case.pairs()

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """The four signals, float64 [n_points] each."""
        users, place = np.unique(points["user"].to_numpy(), return_inverse=True)
        items = points["item"].to_numpy()
        order = np.argsort(place, kind="stable")
        draws = rng.integers(case.data.n_items, size=(len(users), self.negatives))
        held = case.data.train.codes(case.data.n_items)
        usable = ~np.isin(users[:, None] * case.data.n_items + draws, held)
        found = {name: np.full(len(points), np.nan) for name in ("z", "rank", "margin", "softmax")}
        start = 0
        for block in blocks(users, case.data.n_items):
            mine = order[np.searchsorted(place[order], start) : np.searchsorted(place[order], start + len(block))]
            rows = place[mine] - start
            part = slice(start, start + len(block))
            signals = _signals(offered(model.score(block)), rows, items[mine], draws[part], usable[part])
            for name, values in signals.items():
                found[name][mine] = values.cpu().numpy()
            start += len(block)
        return found


def _signals(scores: Tensor, rows: Ints, items: Ints, draws: Ints, usable: np.ndarray) -> dict[str, Tensor]:
    at, which = (torch.as_tensor(x, device=scores.device) for x in (rows, items))
    value = scores[at, which]
    mean, spread = row_moments(scores)
    masked = torch.where(
        torch.as_tensor(usable, device=scores.device),
        scores.gather(1, torch.as_tensor(draws).to(at.device)),
        torch.nan,
    )
    return {
        "z": (value - mean[at]) / spread[at],
        "rank": _rank_logit(scores, at, value),
        "margin": value - masked.nanmean(1)[at],
        "softmax": _softmax_logit(scores, at, value),
    }


def _rank_logit(scores: Tensor, at: Tensor, value: Tensor) -> Tensor:
    # In double precision: torch divides a number by whole numbers in single precision.
    count = torch.isfinite(scores).sum(1).double()
    ordered = torch.where(torch.isfinite(scores), scores, torch.inf).sort(1).values
    # searchsorted wants one row of values per row of scores; pad the pairs of a row to the longest.
    slots = _slots(at, len(scores))
    table = torch.full(
        (len(scores), int(slots.max()) + 1 if len(slots) else 1),
        torch.nan,
        dtype=scores.dtype,
        device=scores.device,
    )
    table[at, slots] = value
    below = torch.searchsorted(ordered, table)[at, slots]
    not_above = torch.searchsorted(ordered, table, right=True)[at, slots]
    rank_from_below = (below + not_above).double() / 2 / count[at]
    edge = 0.5 / count[at]
    return torch.where(torch.isfinite(value), torch.logit(rank_from_below.clamp(edge, 1 - edge)), torch.nan)


def _slots(at: Tensor, n_rows: int) -> Tensor:
    """A number 0, 1, ... for each pair within its row; `at` is sorted."""
    counts = torch.bincount(at, minlength=n_rows)
    return torch.arange(len(at), device=at.device) - (counts.cumsum(0) - counts)[at]


def _softmax_logit(scores: Tensor, at: Tensor, value: Tensor) -> Tensor:
    total = torch.where(torch.isfinite(scores), scores, -torch.inf).logsumexp(1)[at]
    # log(sum over the others) = total + log(1 - exp(value - total)); the clamp keeps a certain item finite.
    return value - total - torch.log1p(-torch.exp(value - total).clamp(max=1 - 1e-12))


@dataclass(frozen=True)
class Lists(Probe):
    """Top-K lists of the users behind the units, without what the user keeps.

    Signal `items`: float64 [n_points, k], item ids best first, -1 where fewer than k items are offered. The mask is
    the retained training pairs, the same for every system; forgotten items may appear.

    Attributes:
        k: length of the lists.
        most: users asked; more than these are sampled once.
    """

    k: int = 20
    most: int = 2000
    name: ClassVar[str] = "lists"
    access: ClassVar[Access] = Access.LISTS

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """One row per unit and user behind it; items are -1."""
        found = case.pairs()[["unit", "user"]].drop_duplicates(ignore_index=True)
        users = found["user"].unique()
        asked = np.sort(rng.permutation(users)[: self.most])
        found = found[found["user"].isin(asked)].reset_index(drop=True)
        return found.assign(item=-1)

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """The lists, float64 [n_points, k]."""
        users, place = np.unique(points["user"].to_numpy(), return_inverse=True)
        kept = case.retain.train.matrix(case.data.n_users, case.data.n_items)
        lists = np.full((len(users), self.k), -1.0)
        start = 0
        for block in blocks(users, case.data.n_items):
            scores = offered(model.score(block))
            rows, items = kept[block].nonzero()
            scores[torch.as_tensor(rows, device=scores.device), torch.as_tensor(items, device=scores.device)] = (
                torch.nan
            )
            best = np.asarray(top_k(scores, min(self.k, case.data.n_items)))
            lists[start : start + len(block), : best.shape[1]] = best
            start += len(block)
        return {"items": lists[place]}
