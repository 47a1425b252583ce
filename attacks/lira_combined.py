"""The linear likelihood-ratio score on one combination of all score signals at the pairs a request names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from auditkit.contracts import Needs, Probe
from auditkit.data.dataset import Floats
from auditkit.deletion import Regime
from auditkit.evidence import Evidence, Reading
from auditkit.linear import LinearAttack
from auditkit.probes import Pairs
from auditkit.statistics.discriminant import discriminant

SIGNALS = ("z", "rank", "margin", "softmax")


@dataclass(frozen=True)
class LiraCombined(LinearAttack):
    """`lira-linear` on a'(z, rank, margin, softmax), a learned on the background's references alone.

    Score: s = a'phi, then w_x (s_x - middle_x) with w_x = contrast / variance within the groups, as in `lira-linear`.
    The coefficients a are Fisher's: they maximise sum_x (a'd_x)^2 / a'Ca, d_x the contrast of the four signals at point
    x between references that held it and those that did not, C their covariance within the groups, pooled over points
    (`auditkit.statistics.discriminant`). One a for all points: four numbers from thousands of points fit no noise.

    Why: the four signals carry the same memory and different noise of the training seed, much of which cancels.

    Source: reconstructed. Online LiRA (Carlini et al., arXiv 2112.03570) takes several queries of a model as one
    multivariate Gaussian a point; here the covariance is shared by all points, since few references estimate 4 x 4
    covariances badly one by one, and the classes share it too, which makes the score linear (Fisher 1936).

    Cannot see: what changes none of the four signals at the named pairs (memory in other rows, in lists of other
    users, beneath a mask). Margin and softmax move with the scale of all scores, so a deletion trained for other
    epochs than the Golds is read a little farther from Gold than by z alone.

    Edge cases: a pair without one of the signals reads NaN; a constant signal gets coefficient 0;
    signals that are multiples of one another share their weight; without a usable point all scores are NaN.
    """

    name: ClassVar[str] = "lira-combined"
    needs: ClassVar[Needs] = Needs(references=4)
    primary_for: ClassVar[frozenset[Regime]] = frozenset({"interaction"})
    fails_in: ClassVar[frozenset[Regime]] = frozenset({"interaction"})
    reads: ClassVar[str] = (
        "how strongly the system scores the forgotten pairs by the best fixed combination of four score signals, "
        "compared with systems known to hold or not hold them"
    )

    @classmethod
    def battery(cls) -> tuple[LiraCombined, ...]:
        """None: it runs when it is named."""
        return ()

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Score signals at the pairs."""
        return (Pairs(),)

    @property
    def read_signal(self) -> str:
        """The first of the four; `values` reads all."""
        return SIGNALS[0]

    def values(self, reading: Reading, background: Evidence) -> Floats:
        """The combined signal, float64 [n_systems, n_points]; NaN where one of the four is not finite."""
        terms = [c * reading.values[s] for c, s in zip(self.coefficients(background), SIGNALS, strict=True)]
        return np.asarray(sum(np.where(np.isfinite(term), term, np.nan) for term in terms))

    def coefficients(self, background: Evidence) -> Floats:
        """What each signal counts, float64 [4], in the order z, rank, margin, softmax."""
        references, reading = background.rows("reference"), background.readings[Pairs()]
        signals = np.stack([reading.values[s][references] for s in SIGNALS])
        return discriminant(signals, background.held[references][:, reading.unit])
