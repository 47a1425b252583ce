"""Divergence from retrained models: how far scores or lists lie from the Golds'. Unsigned, so always a note."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from auditkit.contracts import Attack, Needs, Probe, Scores
from auditkit.data.dataset import Floats, Ints
from auditkit.evidence import Evidence, Targets
from auditkit.probes import Lists, Pairs
from auditkit.statistics.lists import jaccard_at_k, rbo


@dataclass(frozen=True)
class Divergence(Attack):
    """Distance to the Golds, per unit.

    Attributes:
        measure: `score`, the root mean square distance of z to the mean Gold over a unit's pairs; `jaccard` and `rbo`,
            one minus the mean overlap of the top-K list with each Gold's (rank-biased overlap: Webber, Moffat, Zobel,
            ACM TOIS 28(4), 2010).
    """

    measure: Literal["score", "jaccard", "rbo"] = "score"
    name: ClassVar[str] = "divergence"
    needs: ClassVar[Needs] = Needs(golds=2)
    reads: ClassVar[str] = "how far scores and lists lie from those of retrained models, in either direction"

    @classmethod
    def battery(cls) -> tuple[Attack, ...]:
        """One instance per measure."""
        return (cls("score"), cls("jaccard"), cls("rbo"))

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Score signals for `score`, top-K lists otherwise."""
        return (Pairs(),) if self.measure == "score" else (Lists(),)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Distance per unit, 0 where the system answers as the Golds do; no pattern."""
        probe = self.probes[0]
        reading = targets.readings[probe]
        golds = background.rows("gold")
        if self.measure == "score":
            mean = background.readings[probe].values["z"][golds].mean(0)
            distance = np.sqrt(reading.per_unit((reading.values["z"] - mean) ** 2))
        else:
            lists, theirs = reading.values["items"], _ids(background.readings[probe].values["items"][golds])
            apart = np.stack([self._list_distance(mine, theirs) for mine in _ids(lists)])
            distance = reading.per_unit(np.where(np.isnan(lists).any(-1), np.nan, apart))
        return Scores(distance, None, len(reading.points))

    def _list_distance(self, lists: Ints, golds: Ints) -> Floats:
        overlap = jaccard_at_k if self.measure == "jaccard" else rbo
        return np.asarray(1 - np.mean([overlap(lists, gold) for gold in golds], axis=0))


def _ids(lists: Floats) -> Ints:
    """Item ids; a list that was not given is empty."""
    return np.where(np.isnan(lists), -1, lists).astype(np.int64)
