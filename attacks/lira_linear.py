"""The linear likelihood-ratio score at the pairs a request names: the primary attack on interaction requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from auditkit.contracts import Attack, Needs, Probe, Scores
from auditkit.deletion import Regime
from auditkit.evidence import Evidence, Targets
from auditkit.linear import linear_scores
from auditkit.probes import Pairs


@dataclass(frozen=True)
class LiraLinear(Attack):
    """LiRA with one variance for IN and OUT at each point, which makes the log-likelihood ratio linear in the signal.

    Reference: Carlini et al., arXiv 2112.03570 (online LiRA); the linear case is Fisher's discriminant.

    Attributes:
        signal: which signal of the `pairs` probe is read.
    """

    signal: Literal["z", "rank", "margin", "softmax"] = "z"
    name: ClassVar[str] = "lira-linear"
    needs: ClassVar[Needs] = Needs(references=4)
    primary_for: ClassVar[frozenset[Regime]] = frozenset({"interaction"})
    # In item requests an honest Gold that drops the items from its catalogue reads far from other Golds on its rows.
    fails_in: ClassVar[frozenset[Regime]] = frozenset({"interaction", "user"})
    reads: ClassVar[str] = (
        "how strongly the system scores the forgotten pairs, compared with systems known to hold or not hold them"
    )

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Score signals at the pairs."""
        return (Pairs(),)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Sums over a unit's pairs of w (signal - middle) and (w - mean w)(signal - middle)."""
        return linear_scores(Pairs(), self.signal, targets, background)
