"""Listed: which forgotten pairs the user's top-K list still shows. All that an auditor with lists alone can ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch

from auditkit.attacks.top_lists import RareLinearAttack, list_signals
from auditkit.contracts import Access, Attack, Needs, Probe, Recommender
from auditkit.data.dataset import Floats
from auditkit.deletion import Regime
from auditkit.evidence import Case
from auditkit.probes import blocks, offered


@dataclass(frozen=True)
class ListedPairs(Probe):
    """Places of the units' pairs in their users' top-K lists.

    Signals `log`, `reciprocal` and `hit` of `list_signals`: 0 where the list does not show the item (a masked item
    too), NaN where a user gets no list at all. The mask is the retained training pairs, the same for every system, so
    retained pairs are never listed.

    Attributes:
        k: length of the lists, 1 or more.
    """

    k: int = 20
    name: ClassVar[str] = "listed-pairs"
    access: ClassVar[Access] = Access.LISTS

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """Every pair of every unit."""
        return case.pairs()

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """The three signals, float64 [n_points] each."""
        users, place = np.unique(points["user"].to_numpy(), return_inverse=True)
        items, order = points["item"].to_numpy(), np.argsort(place, kind="stable")
        kept = case.retain.train.matrix(case.data.n_users, case.data.n_items)
        found = {name: np.full(len(points), np.nan) for name in ("log", "reciprocal", "hit")}
        start = 0
        for block in blocks(users, case.data.n_items):
            first, last = np.searchsorted(place[order], [start, start + len(block)])
            mine = order[first:last]
            scores = offered(model.score(block))
            at = np.stack(kept[block].nonzero()).astype(np.int64)
            scores[torch.as_tensor(at[0], device=scores.device), torch.as_tensor(at[1], device=scores.device)] = (
                torch.nan
            )
            for name, values in list_signals(scores, place[mine] - start, items[mine], self.k).items():
                found[name][mine] = values
            start += len(block)
        return found


@dataclass(frozen=True)
class Listed(RareLinearAttack):
    """The linear score of references (as in `lira-linear`) on the place of forgotten pairs in top-K lists.

    Sources: exposure of what was forgotten in the lists, as rank probing asks for it; Fisher's discriminant of
    references with and without the pair (Carlini et al., arXiv 2112.03570, equal variances). *Reconstructed*: published
    audits of lists train a classifier on vectors of history and list (Zhang et al., CCS 2021, arXiv 2109.08045).

    Cannot see: pairs below place K, in whatever order; what a filter takes off the list, which reads like a list that
    does not show it; and, in user requests, what the other side's factors keep once the user's own row is drawn again.
    A list that shows most of a small catalogue says nothing of what it shows. In user requests it is a note: a Gold
    that lists the popular items to erased users reads .4 on MovieLens-100K.

    Attributes:
        k: length of the lists.
        signal: `log`, log((k + 1) / place); `reciprocal`, 1 / place; `hit`, 1; each 0 where the pair is not listed.
    """

    k: int = 20
    signal: Literal["log", "reciprocal", "hit"] = "hit"
    name: ClassVar[str] = "listed"
    needs: ClassVar[Needs] = Needs(references=4)
    primary_for: ClassVar[frozenset[Regime]] = frozenset({"interaction"})
    fails_in: ClassVar[frozenset[Regime]] = frozenset({"interaction"})
    reads: ClassVar[str] = "which forgotten pairs the top lists still show, compared with systems known to hold them"

    @classmethod
    def battery(cls) -> tuple[Attack, ...]:
        """Runs when it is named."""
        return ()

    @classmethod
    def variants(cls) -> tuple[Attack, ...]:
        """Lists of 100, which come nearest to scores and so may be primary, and the three signals on lists of 20."""
        return (cls(k=100), cls(), cls(signal="reciprocal"), cls(signal="log"))

    def counts_in(self, regime: Regime) -> bool:
        """Hits alone: on LightGCN honest deletions of other length move places in the list beyond the margin."""
        return super().counts_in(regime) and self.signal == "hit"

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Places in lists."""
        return (ListedPairs(self.k),)

    @property
    def read_signal(self) -> str:
        """As chosen."""
        return self.signal
