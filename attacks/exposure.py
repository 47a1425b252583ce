"""Exposure: how often erased items are still recommended. A diagnostic of item requests; only above Gold it counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from auditkit.contracts import Access, Attack, Needs, Probe, Recommender, Scores
from auditkit.data.dataset import Floats
from auditkit.deletion import Regime
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case, Evidence, Targets
from auditkit.probes import blocks, offered
from auditkit.utility import top_k


@dataclass(frozen=True)
class HitRate(Probe):
    """Share of users to whom an item is recommended: hit@K of the item over users, in item requests.

    Signal `hits`: float64 [n_points], in [0, 1]; 0 where the item is not offered, for then nobody is shown it. The mask
    is the retained training pairs, the same for every system.

    Attributes:
        k: length of the lists.
        most: users asked; of more than these the same sample for every system.
    """

    k: int = 20
    most: int = 2000
    name: ClassVar[str] = "hit-rate"
    access: ClassVar[Access] = Access.LISTS

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """One row per unit; users are -1.

        Raises:
            NotApplicableError: the request does not name items.
        """
        if case.request.regime != "item":
            raise NotApplicableError(f"the exposure of items is asked in item requests, not in {case.request.regime}")
        items = case.units["item"].to_numpy()
        return pd.DataFrame({"unit": np.arange(len(items)), "user": -1, "item": items})

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """The hit rates."""
        asked = np.sort(rng.permutation(case.data.n_users)[: self.most])
        kept = case.retain.train.matrix(case.data.n_users, case.data.n_items)
        shown = np.zeros(case.data.n_items, np.int64)
        for block in blocks(asked, case.data.n_items):
            scores = offered(model.score(block))
            rows, items = (torch.as_tensor(ids, device=scores.device) for ids in kept[block].nonzero())
            scores[rows, items] = torch.nan
            listed = np.asarray(top_k(scores, min(self.k, case.data.n_items)).cpu()).ravel()
            shown += np.bincount(listed[listed >= 0], minlength=len(shown))
        return {"hits": shown[points["item"].to_numpy()] / max(len(asked), 1)}


@dataclass(frozen=True)
class Exposure(Attack):
    """Hit rate of each erased item; needs no references.

    Below Gold is no finding: an item that left the catalogue is shown to nobody, and honestly so. Above Gold something
    of the item is still served, whatever a fresh item of the same name would get.
    """

    name: ClassVar[str] = "exposure"
    needs: ClassVar[Needs] = Needs()
    fails_in: ClassVar[frozenset[Regime]] = frozenset({"item"})
    one_sided: ClassVar[bool] = True
    reads: ClassVar[str] = "how often erased items are still recommended, as rows learned for them would have it"

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Hit rates over users."""
        return (HitRate(),)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Hit rate per unit; no pattern."""
        reading = targets.readings[HitRate()]
        return Scores(reading.per_unit(reading.values["hits"]), None, len(reading.points))
