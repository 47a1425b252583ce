"""Rank probing: where the forgotten pairs stand in the user's ranking, to be compared with Gold's. A diagnostic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from auditkit.contracts import Attack, Needs, Probe, Scores
from auditkit.deletion import Regime
from auditkit.evidence import Evidence, Targets
from auditkit.probes import Pairs


@dataclass(frozen=True)
class RankProbe(Attack):
    """Mean percentile-rank logit of a unit's pairs; needs no references. Below Gold counts as much as above."""

    name: ClassVar[str] = "rank-probe"
    needs: ClassVar[Needs] = Needs()
    fails_in: ClassVar[frozenset[Regime]] = frozenset({"interaction", "user"})
    reads: ClassVar[str] = "how highly the forgotten pairs rank, with no knowledge of references"

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Score signals at the pairs."""
        return (Pairs(),)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Mean rank logit per unit; no pattern."""
        reading = targets.readings[Pairs()]
        return Scores(reading.per_unit(reading.values["rank"]), None, len(reading.points))
