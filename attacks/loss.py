"""The loss of the forgotten pairs: the oldest membership attack, with no reference and no population. A diagnostic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from scipy import special

from auditkit.attacks.pair_signals import Signal, answers
from auditkit.contracts import Attack, Needs, Probe, Scores
from auditkit.evidence import Evidence, Targets
from auditkit.probes import Pairs


@dataclass(frozen=True)
class Loss(Attack):
    """Mean negative loss of a unit's pairs.

    `softmax`: log p, the cross-entropy of the item under the softmax over the user's items. `margin`: log
    sigmoid(margin), the BPR loss at the mean margin to fixed negatives. `z` and `rank` have no loss of their own and
    count as they are.

    Reference: Yeom, Giacomelli, Fredrikson, Jha, CSF 2018 (arXiv 1709.01604), the threshold on the loss; reconstructed
    for rankers: the losses are a ranker's, the BPR loss at the mean margin and not the mean of the losses, and the
    threshold is left to the harness.

    Cannot see: which pairs are hard for every system (a popular item scores high unlearned), nor a system that rescaled
    its scores (`softmax`, `margin`).

    Attributes:
        signal: which signal of the `pairs` probe is read. Golds scatter least in the cross-entropy on MovieLens-100K.
    """

    signal: Signal = "softmax"
    name: ClassVar[str] = "loss"
    needs: ClassVar[Needs] = Needs()
    reads: ClassVar[str] = "how small the loss of the forgotten pairs is, with nothing to compare it with"

    @classmethod
    def battery(cls) -> tuple[Attack, ...]:
        """Runs when it is named."""
        return ()

    @classmethod
    def variants(cls) -> tuple[Attack, ...]:
        """Cross-entropy and BPR loss."""
        return (cls(), cls("margin"))

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Score signals at the pairs."""
        return (Pairs(),)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Mean negative loss per unit; no pattern. An infinite signal is no answer."""
        reading = targets.readings[Pairs()]
        values = answers(reading, self.signal)
        if self.signal in ("softmax", "margin"):
            # A logit's log sigmoid: log p under the softmax, minus the BPR loss of a margin.
            values = special.log_expit(values)
        return Scores(reading.per_unit(values), None, len(reading.points))
