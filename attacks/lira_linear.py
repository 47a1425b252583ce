"""The linear likelihood-ratio score at the pairs a request names: the primary attack on interaction requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from auditkit.contracts import Attack, Needs, Probe
from auditkit.deletion import Regime
from auditkit.linear import LinearAttack
from auditkit.probes import Pairs


@dataclass(frozen=True)
class LiraLinear(LinearAttack):
    """LiRA with one variance for IN and OUT at each point, which makes the log-likelihood ratio linear in the signal.

    Reference: Carlini et al., arXiv 2112.03570 (online LiRA); the linear case is Fisher's discriminant.

    Attributes:
        signal: which signal of the `pairs` probe is read.
    """

    signal: Literal["z", "rank", "margin", "softmax"] = "z"
    name: ClassVar[str] = "lira-linear"
    needs: ClassVar[Needs] = Needs(references=4)
    primary_for: ClassVar[frozenset[Regime]] = frozenset({"interaction", "modality"})
    # In item requests an honest Gold that drops the items from its catalogue reads far from other Golds on its rows.
    fails_in: ClassVar[frozenset[Regime]] = frozenset({"interaction", "user", "modality"})
    reads: ClassVar[str] = (
        "how strongly the system scores the forgotten pairs, compared with systems known to hold or not hold them"
    )

    def counts_in(self, regime: Regime) -> bool:
        """Not on the margin: it moves with the scale of all scores, and so with how long a system was trained."""
        return super().counts_in(regime) and self.signal != "margin"

    @classmethod
    def variants(cls) -> tuple[Attack, ...]:
        """z, which is primary, and two more signals; not the margin, see `counts_in`."""
        return (cls(), cls("rank"), cls("softmax"))

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Score signals at the pairs."""
        return (Pairs(),)

    @property
    def read_signal(self) -> str:
        """As chosen."""
        return self.signal
