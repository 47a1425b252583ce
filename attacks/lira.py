"""LiRA with its likelihood ratio: online, one pooled variance for IN and one for OUT. A diagnostic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from auditkit.contracts import Attack, Needs, Probe, Scores
from auditkit.deletion import Regime
from auditkit.evidence import Evidence, Targets
from auditkit.linear import fit_references, summed
from auditkit.probes import Pairs


@dataclass(frozen=True)
class Lira(Attack):
    """log N(signal; IN) - log N(signal; OUT) summed over a unit's pairs.

    Reference: Carlini et al., arXiv 2112.03570, section VI: online attack; variances pooled over points, centred per
    point, since few references estimate them badly one by one.

    Attributes:
        signal: which signal of the `pairs` probe is read.
    """

    signal: Literal["z", "rank", "margin", "softmax"] = "z"
    name: ClassVar[str] = "lira"
    needs: ClassVar[Needs] = Needs(references=4)
    fails_in: ClassVar[frozenset[Regime]] = frozenset({"interaction", "user"})
    reads: ClassVar[str] = "the likelihood ratio of having held the pair or not, from the same references"

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Score signals at the pairs."""
        return (Pairs(),)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Summed log-likelihood ratio per unit; no pattern."""
        known = background.readings[Pairs()]
        fitted, usable = fit_references(known, known.values[self.signal], background)
        reading = targets.readings[Pairs()]
        return Scores(summed(reading, fitted.log_ratio(reading.values[self.signal]), usable), None, int(usable.sum()))
