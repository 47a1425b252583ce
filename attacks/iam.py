"""Interpolated approximate measurement: how far a signal lies on the way from never held to held. A diagnostic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from auditkit.contracts import Attack, Needs, Probe, Scores
from auditkit.data.dataset import Floats
from auditkit.evidence import Evidence, Reading, Targets
from auditkit.linear import fit_references
from auditkit.probes import Pairs

# From over-forgotten (below 0) to more than held (above 1); its middle is what a point without a contrast reads.
GRID = np.linspace(-1.0, 2.0, 121)


@dataclass(frozen=True)
class Iam(Attack):
    """Posterior mean of lam, the place of the target's signal on the line from OUT to IN; mean over a unit's pairs.

    At each point phi_lam = (1 - lam) mean OUT + lam mean IN; the signal is N(phi_lam, v), v the variance within the
    groups; the prior of lam is flat on [-1, 2]. 0 reads as never held, 1 as held, below 0 as over-forgotten. A point
    that says nothing reads .5, so unit scores are drawn towards .5; the dose scale takes that out again.

    Source: arXiv 2506.06112, ICML 2025 (interpolated approximate measurement); reconstructed. There one
    shadow model gives the OUT end and the model before unlearning the IN end, noise around phi_lam is simulated with a
    fixed bandwidth, on a grid of lam in [0, 1]; here both ends are means of references, the noise is their measured
    variance, and lam may leave [0, 1] so that over-forgetting shows.

    Cannot see: what does not move the signal along the line from OUT to IN. It is not linear in the signal, so it has
    no pattern and a method tuned to the right mean may read clean. A note everywhere: on `margin`, which grows with the
    scale of all scores, honest deletions trained longer than the Golds read as if they remembered.

    Deterministic references (variance near 0): the posterior is never taken narrower than one step of the grid, .025.
    A pair that is not answered, or answered infinite, reads NaN.

    Attributes:
        signal: which signal of the `pairs` probe is read.
    """

    signal: Literal["z", "rank", "margin", "softmax"] = "z"
    name: ClassVar[str] = "iam"
    needs: ClassVar[Needs] = Needs(references=4)
    reads: ClassVar[str] = "where the forgotten pairs' scores lie on the way from never held to held"

    @classmethod
    def battery(cls) -> tuple[Iam, ...]:
        """None: it runs when it is named."""
        return ()

    @classmethod
    def variants(cls) -> tuple[Iam, ...]:
        """One instance per signal."""
        return (cls("z"), cls("rank"), cls("margin"), cls("softmax"))

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Score signals at the pairs."""
        return (Pairs(),)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Mean completeness per unit; no pattern."""
        known, reading = background.readings[Pairs()], targets.readings[Pairs()]
        fitted, usable = fit_references(known, known.values[self.signal], background)
        lam = completeness(reading.values[self.signal], fitted.mean_in, fitted.mean_out, fitted.within)[:, usable]
        part = Reading(reading.points[usable], {}, reading.n_units)
        return Scores(part.per_unit(lam), None, int(usable.sum()))


def completeness(values: Floats, mean_in: Floats, mean_out: Floats, variance: Floats) -> Floats:
    """Posterior mean of lam under a flat prior on [-1, 2], by the trapezoidal rule on steps of .025.

    Args:
        values: float64 [n_systems, n_points].
        mean_in, mean_out, variance: float64 [n_points], of the references; NaN where a side has none.

    Returns:
        float64 [n_systems, n_points] in [-1, 2]; NaN where a value is not finite or a mean is missing.
    """
    contrast = mean_in - mean_out
    # As a function of lam the likelihood is a Gaussian about `here`, of precision contrast^2 / variance.
    with np.errstate(divide="ignore", invalid="ignore"):
        here = np.where(contrast == 0, GRID.mean(), (values - mean_out) / contrast)
    here = np.where(np.isfinite(values) & np.isfinite(contrast), here, np.nan)
    half = np.minimum(contrast**2 / variance, (GRID[1] - GRID[0]) ** -2) / 2
    # Relative to the likeliest lam on the grid, so that the sum cannot vanish far outside it.
    most = half * (np.clip(here, GRID[0], GRID[-1]) - here) ** 2
    mass, moment = np.zeros(values.shape), np.zeros(values.shape)
    for lam in GRID:
        density = np.exp(most - half * (lam - here) ** 2) * (0.5 if lam in GRID[[0, -1]] else 1.0)
        mass += density
        moment += lam * density
    return moment / mass
