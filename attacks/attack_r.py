"""Attack R: where a forgotten pair stands among references that never held it. A diagnostic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import special

from auditkit.attacks.pair_signals import Signal, answers, mean_over, references
from auditkit.contracts import Attack, Needs, Probe, Scores
from auditkit.data.dataset import Floats, Ints
from auditkit.evidence import Evidence, Targets
from auditkit.probes import Pairs


@dataclass(frozen=True)
class AttackR(Attack):
    """logit((b + 1/2) / (n + 1)): b of the n OUT references read below the target at the point, ties counting half.

    With one OUT reference a point reads logit 1/4, 1/2 (a tie) or 3/4. Nothing is fitted, so nothing can be fitted
    wrongly; a target beyond every reference reads the same however far beyond it lies. Points that every reference held
    are left out: the retained units.

    Reference: Ye, Maddi, Murakonda, Bindschaedler, Shokri, CCS 2022 (arXiv 2111.09679), attack R, published for losses
    of classifiers; reconstructed for rankers: the signals, and the position instead of one threshold.

    Cannot see: a reading between those of OUT references, however little their scatter; false positive rates below
    1/(n + 1) at one point.

    Attributes:
        signal: which signal of the `pairs` probe is read.
    """

    signal: Signal = "z"
    name: ClassVar[str] = "attack-r"
    # A pair of complementary references leaves one OUT at every point.
    needs: ClassVar[Needs] = Needs(references=2)
    reads: ClassVar[str] = "how many systems that never held the pair score it lower"

    @classmethod
    def battery(cls) -> tuple[Attack, ...]:
        """Runs when it is named."""
        return ()

    @classmethod
    def variants(cls) -> tuple[Attack, ...]:
        """On z and on the softmax logit."""
        return (cls(), cls("softmax"))

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Score signals at the pairs."""
        return (Pairs(),)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Mean logit per unit; no pattern."""
        reading = targets.readings[Pairs()]
        known, held = references(background, self.signal)
        outside = np.where(held, np.nan, known)
        n = np.isfinite(outside).sum(0)
        placed = np.stack([_place(values, outside, n) for values in answers(reading, self.signal)])
        return Scores(mean_over(reading, placed, n > 0), None, int((n > 0).sum()))


def _place(values: Floats, outside: Floats, n: Ints) -> Floats:
    """Logit of the position, float64 [n_points]; `outside` has NaN where a reference is not OUT, n are not NaN."""
    below = (outside < values).sum(0) + (outside == values).sum(0) / 2
    return np.where(np.isfinite(values), special.logit((below + 0.5) / (n + 1)), np.nan)
