"""LiRA: the likelihood of having held a pair or not, from references with and without it. A diagnostic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from auditkit.attacks.pair_signals import Signal, answers, references
from auditkit.contracts import Attack, Needs, Probe, Scores
from auditkit.data.dataset import Bools, Floats
from auditkit.deletion import Regime
from auditkit.evidence import Evidence, Targets
from auditkit.linear import summed
from auditkit.probes import Pairs
from auditkit.statistics.likelihood import fit_in_out, fit_sides


@dataclass(frozen=True)
class Lira(Attack):
    """A log-likelihood of the signal, summed over a unit's pairs.

    - online: log N(signal; IN) - log N(signal; OUT), at points with references on both sides.
    - offline: log Pr[Z <= signal] with Z ~ N(OUT): one-sided, from OUT references alone. Public code of the same name
      also scores by log N(signal; OUT), of either sign, which takes far below OUT for far above it.

    Reference: Carlini et al., arXiv 2112.03570, section VI, published for the confidence logit of classifiers;
    reconstructed for rankers: the signals.

    Cannot see: what all pairs share, beyond what the references show of it; offline, how far above OUT a pair stands
    (the tail ends at 1). The sum over a unit's pairs takes them as independent, which they are not: it is a score, not
    a probability.

    Attributes:
        signal: which signal of the `pairs` probe is read.
        form: online or offline.
        variance: `pooled`, one for each side, centred per point (offline over all pairs that some reference lacks,
            those outside training among them): advised below 32 references a side, which estimate variances badly one
            by one. `point`, the point's own; where fewer than two references of a side answered, or all agreed, the
            pooled one.
    """

    signal: Signal = "z"
    form: Literal["online", "offline"] = "online"
    variance: Literal["pooled", "point"] = "pooled"
    name: ClassVar[str] = "lira"
    needs: ClassVar[Needs] = Needs(references=4)
    fails_in: ClassVar[frozenset[Regime]] = frozenset({"interaction", "user"})
    reads: ClassVar[str] = "the likelihood ratio of having held the pair or not, from the same references"

    @classmethod
    def battery(cls) -> tuple[Attack, ...]:
        """Online on z, pooled variances."""
        return (cls(),)

    @classmethod
    def variants(cls) -> tuple[Attack, ...]:
        """The default, another signal, a variance per point, and offline."""
        return (cls(), cls("softmax"), cls(variance="point"), cls(form="offline"))

    def counts_in(self, regime: Regime) -> bool:
        """Online alone, and not on the margin, which moves with the scale of all scores.

        On LightGCN honest deletions with 2/3 or 3/2 of the epochs read up to 2.0 offline, beyond any margin.
        """
        return super().counts_in(regime) and self.form == "online" and self.signal != "margin"

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Score signals at the pairs."""
        return (Pairs(),)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Summed log-likelihood (ratio) per unit; no pattern."""
        reading = targets.readings[Pairs()]
        found, usable = self._likelihood(answers(reading, self.signal), *references(background, self.signal))
        return Scores(summed(reading, found, usable), None, int(usable.sum()))

    def _likelihood(self, values: Floats, known: Floats, held: Bools) -> tuple[Floats, Bools]:
        """Of the targets' values, float64 [n_targets, n_points], and the points it is known at, bool [n_points]."""
        per_point = self.variance == "point"
        if self.form == "online":
            fitted = fit_in_out(known, held)
            return fitted.log_ratio(values, per_point=per_point), fitted.usable
        outside = fit_sides(known, held)[1]
        return outside.log_tail(values, per_point=per_point), np.asarray(outside.n > 0)
