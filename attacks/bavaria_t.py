"""BaVarIA-t: LiRA with Student-t predictives, which stay sound with one or two references a side. A diagnostic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from auditkit.attacks.pair_signals import Signal, answers, references
from auditkit.contracts import Attack, Needs, Probe, Scores
from auditkit.deletion import Regime
from auditkit.evidence import Evidence, Targets
from auditkit.linear import summed
from auditkit.probes import Pairs
from auditkit.statistics.likelihood import fit_sides
from auditkit.statistics.predictive import fit_priors, log_predictive


@dataclass(frozen=True)
class BavariaT(Attack):
    """log t(signal; IN) - log t(signal; OUT) summed over a unit's pairs.

    Each t is the posterior predictive of a normal with a normal-inverse-gamma prior. The prior is estimated from all
    points that have both sides (empirical Bayes, once for IN and once for OUT): its variance and degrees from the
    points' own variances (Smyth 2004), its mean from the points' means, its weight from how much those differ beyond
    noise; see `auditkit.statistics.predictive.fit_priors`. With many references a point is judged by its own mean and
    variance, with one or two by what the points share, with no switch in between. One reference a side suffices.

    Reference: Brännvall, arXiv 2603.11799, BaVarIA-t. Reconstructed: model and predictive are the paper's; the way the
    prior is estimated is ours, as are the signals.

    Cannot see: what all pairs share, beyond what the references show of it. Outliers weigh less than in `lira`, and so
    does what a system remembers far beyond every reference.

    Attributes:
        signal: which signal of the `pairs` probe is read.
    """

    signal: Signal = "z"
    name: ClassVar[str] = "bavaria-t"
    # A pair of complementary references leaves one on either side of every point.
    needs: ClassVar[Needs] = Needs(references=2)
    fails_in: ClassVar[frozenset[Regime]] = frozenset({"interaction"})
    reads: ClassVar[str] = (
        "the likelihood ratio of having held the pair or not, allowing for how few references there are"
    )

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
        """Summed log-likelihood ratio per unit; no pattern. NaN everywhere if no point has both sides."""
        reading = targets.readings[Pairs()]
        values = answers(reading, self.signal)
        inside, outside = fit_sides(*references(background, self.signal))
        usable = (inside.n > 0) & (outside.n > 0)
        if usable.any():
            prior_in, prior_out = fit_priors(inside, outside, usable)
            values = log_predictive(values, inside, prior_in) - log_predictive(values, outside, prior_out)
        return Scores(summed(reading, values, usable), None, int(usable.sum()))
