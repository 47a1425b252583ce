"""The linear score of references with and without a unit, for every attack that reads one signal at points."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from auditkit.contracts import Attack, Scores
from auditkit.data.dataset import Bools, Floats
from auditkit.evidence import Evidence, Reading, Targets
from auditkit.statistics.likelihood import InOut, fit_in_out


class LinearAttack(Attack):
    """An attack that is the linear score of references on one signal of its one probe.

    An attack that makes its signal of several overrides `values`; one that contrasts other systems than references
    with and without a unit overrides `fit`.
    """

    @property
    @abstractmethod
    def read_signal(self) -> str:
        """Which signal of the probe is read."""

    def values(self, reading: Reading, background: Evidence) -> Floats:
        """What is scored, float64 [n_systems, n_points]; what makes it of signals is learned from `background`."""
        return reading.values[self.read_signal]

    def fit(self, background: Evidence) -> tuple[InOut, Bools]:
        """Gaussians of the background's references at each point, and which points carry a contrast."""
        reading = background.readings[self.probes[0]]
        return fit_references(reading, self.values(reading, background), background)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Sums over a unit's points of w (signal - middle) and v (signal - middle), v the pattern's weights."""
        reading = targets.readings[self.probes[0]]
        return linear_scores(reading, self.values(reading, background), *self.fit(background))

    def weight_noise(self, background: Evidence) -> float | None:
        """How much the weights' own sampling noise adds to a Gold's scatter, at one reference on either side.

        With contrast d = mean IN - mean OUT and within-group variance v, K references on either side give each d a
        sampling variance of 2v/K. The weights d/v then scatter a Gold by sqrt(1 + c/K) relative to the gap, with
        c = 2 / mean(d^2/v), the mean taken free of the noise that is in it.

        Returns:
            c, above 0; None where the references show no contrast beyond their noise.
        """
        fitted, usable = self.fit(background)
        per_side = len(background.rows("reference")) / 2
        if not usable.any():
            return None
        contrast = (fitted.mean_in - fitted.mean_out)[usable]
        strength = float(np.mean(contrast**2 / fitted.within[usable])) - 2 / per_side
        return 2 / strength if strength > 0 else None


def fit_references(reading: Reading, values: Floats, background: Evidence) -> tuple[InOut, Bools]:
    """Gaussians of the references at each point, and which points carry a contrast, bool [n_points].

    Args:
        reading: of the background.
        values: a signal of it, float64 [n_systems, n_points].
        background: says which systems are references, and what each holds.
    """
    references = background.rows("reference")
    fitted = fit_in_out(values[references], background.held[references][:, reading.unit])
    return fitted, fitted.usable


def summed(reading: Reading, values: Floats, usable: Bools) -> Floats:
    """Sums over each unit's usable points, float64 [n_systems, n_units]; NaN for units without one."""
    part = Reading(reading.points[usable], {}, reading.n_units)
    return part.sums(values[:, usable])


def linear_scores(reading: Reading, values: Floats, fitted: InOut, usable: Bools) -> Scores:
    """Level and pattern of the linear score of a signal, float64 [n_systems, n_points]."""
    centred = values - fitted.middle()
    return Scores(
        summed(reading, fitted.weights() * centred, usable),
        summed(reading, fitted.pattern_weights() * centred, usable),
        int(usable.sum()),
    )
