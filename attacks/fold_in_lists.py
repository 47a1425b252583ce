"""Fold-in by lists: fresh users are told half of an erased history, their top-K lists are read for the other half."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch

from auditkit.attacks.halves import halved_histories
from auditkit.attacks.top_lists import RareLinearAttack, list_signals
from auditkit.contracts import Access, Attack, Backbone, Needs, Probe, Recommender
from auditkit.data.dataset import Floats
from auditkit.deletion import Regime
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case
from auditkit.probes import offered


@dataclass(frozen=True)
class FoldInLists(Probe):
    """Places in the lists of fresh users. Points with `told` are the history and read NaN; the others are asked.

    Two fresh users are told either half of an erased user's items (a random split, fixed per request) and get a list
    without these, in which the other half is looked for. Signals `log`, `reciprocal` and `hit` of `list_signals` there.

    Attributes:
        k: length of the lists, 1 or more.
    """

    k: int = 100
    name: ClassVar[str] = "fold-in-lists"
    access: ClassVar[Access] = Access.LISTS | Access.NEW_USERS

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """Pairs of the erased users that have at least 4, told to one fresh user and asked of another."""
        if case.request.regime != "user":
            raise NotApplicableError("lists are made for users; a fresh user is told the history of an erased one")
        return halved_histories(case, rng)

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """The three signals, float64 [n_points] each, NaN at told points."""
        if not isinstance(model, Backbone) and not hasattr(model, "fold_in"):
            raise NotApplicableError(f"a {type(model).__name__} takes no new users (it has no fold_in)")
        told, items = points["told"].to_numpy(), points["item"].to_numpy()
        # In the order of the questions, as fold-in asks them: a backbone's fixed draws may go by the place.
        fresh, accounts = pd.factorize(points["account"])
        histories = [items[told & (fresh == k)] for k in range(len(accounts))]
        scores = offered(model.fold_in(histories, side="user"))
        known = (torch.as_tensor(ids, device=scores.device) for ids in (fresh[told], items[told]))
        scores[tuple(known)] = torch.nan
        asked = np.flatnonzero(~told)
        found = {}
        for name, values in list_signals(scores, fresh[asked], items[asked], self.k).items():
            found[name] = np.full(len(points), np.nan)
            found[name][asked] = values
        return found


@dataclass(frozen=True)
class FoldInListsAttack(RareLinearAttack):
    """The linear score of references on the lists of fresh users: what `fold-in` reads from scores, from lists alone.

    The score is that of `listed`: sums of w (signal - middle), w = (mean IN - mean OUT) / variance. *Reconstructed*:
    membership inference by a fresh profile (as in arXiv 2512.09442) with references in place of a popularity list.

    Cannot see: what stands below place K, so lists are long by default (of 47 users of MovieLens-100K lists of 20 show
    too little to judge by); a row of the erased user that is still served (`listed` reads that); items.

    Attributes:
        k: length of the lists.
        signal: as in `listed`.
    """

    k: int = 100
    signal: Literal["log", "reciprocal", "hit"] = "hit"
    name: ClassVar[str] = "fold-in-lists"
    needs: ClassVar[Needs] = Needs(references=4)
    primary_for: ClassVar[frozenset[Regime]] = frozenset({"user"})
    fails_in: ClassVar[frozenset[Regime]] = frozenset({"user"})
    reads: ClassVar[str] = "which of the erased items the list of a fresh account shows that was told the other half"

    @classmethod
    def battery(cls) -> tuple[Attack, ...]:
        """Runs when it is named."""
        return ()

    @classmethod
    def variants(cls) -> tuple[Attack, ...]:
        """Two signals, and short lists."""
        return (cls(), cls(signal="log"), cls(k=20))

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Lists of fresh users."""
        return (FoldInLists(self.k),)

    @property
    def read_signal(self) -> str:
        """As chosen."""
        return self.signal
