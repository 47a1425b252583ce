"""U-LiRA: systems that were trained on a unit and unlearned it, against systems that never saw it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from auditkit.contracts import Needs, Probe, Scores
from auditkit.data.dataset import Bools
from auditkit.evidence import Evidence, Targets
from auditkit.linear import LinearAttack, summed
from auditkit.probes import Pairs
from auditkit.statistics.likelihood import InOut, fit_in_out


@dataclass(frozen=True)
class ULira(LinearAttack):
    """The likelihood ratio of "trained on and unlearned" against "never trained on", by the method under test itself.

    Score, `linear`: w_x (s_x - middle_x), w_x = (mean unlearned - mean never seen) / variance within both groups, over
    unlearned references: each is trained on two thirds of the requested units, then the method makes it forget half of
    these, so every unit was unlearned by a third of them and never seen by another third; those that still hold it are
    not read. `ratio`: log N(s; unlearned) - log N(s; never seen), one pooled variance for each.

    Source: Hayes et al., arXiv 2403.01218 (U-LiRA), equation of the per-example likelihood ratio: `ratio` is published
    but for the variance, pooled over points since 8 systems a side estimate single ones badly. `linear` is
    reconstructed: the equal-variance case. RULI (arXiv 2506.13009) has densities of kernels in its place.

    `lira-linear` looks where training leaves memory; this looks where the *method* leaves traces of what it unlearned.

    Cannot see: anything where the method leaves no trace in the references. Then the weights are noise, the original
    need not stand out from Golds by them, and the finding says "no power"; that is no evidence against the method. Nor
    over-forgetting: where the method pushes pairs below never-trained ones the contrast is negative, and the original,
    which holds them, lies on the other side of Gold: no power again. By noise weights the original stands out by chance
    in some audits, and then an honest deletion by another number of epochs than the Golds' can read far from them: so
    it is a note in every regime. It costs a training and an unlearning a reference, and says nothing of a method that
    is not at hand.

    Edge cases: units that no unlearned reference unlearned, or none lacks, read NaN (retained and outside units do).

    Attributes:
        form: `linear`, with a pattern, or `ratio`, a diagnostic.
        signal: which signal of the `pairs` probe is read.
    """

    form: Literal["linear", "ratio"] = "linear"
    signal: Literal["z", "rank", "margin", "softmax"] = "z"
    name: ClassVar[str] = "u-lira"
    needs: ClassVar[Needs] = Needs(unlearned_references=24)
    reads: ClassVar[str] = "traces that the method itself leaves, compared with systems that it made forget other parts"

    @classmethod
    def battery(cls) -> tuple[ULira, ...]:
        """None: it runs when it is named."""
        return ()

    @classmethod
    def variants(cls) -> tuple[ULira, ...]:
        """Both forms."""
        return (cls("linear"), cls("ratio"))

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Score signals at the pairs."""
        return (Pairs(),)

    @property
    def read_signal(self) -> str:
        """As chosen."""
        return self.signal

    def fit(self, background: Evidence) -> tuple[InOut, Bools]:
        """Gaussians at each point of systems that unlearned it (`in`) and that never saw it (`out`)."""
        rows, reading = background.rows("unlearned reference"), background.readings[Pairs()]
        seen, held = (mask[rows][:, reading.unit] for mask in (background.seen, background.held))
        fitted = fit_in_out(np.where(held, np.nan, reading.values[self.signal][rows]), seen)
        return fitted, fitted.usable

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Sums over a unit's points; a pattern where the form is linear."""
        if self.form == "linear":
            return super().score(targets, background)
        reading, (fitted, usable) = targets.readings[Pairs()], self.fit(background)
        return Scores(summed(reading, fitted.log_ratio(reading.values[self.signal]), usable), None, int(usable.sum()))
