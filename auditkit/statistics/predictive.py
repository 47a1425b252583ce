"""What a further system of one side would read at each point, when few references say so: Student-t predictives.

Normal data with a normal-inverse-gamma prior on mean and variance, the prior estimated from all points (empirical
Bayes). Textbook conjugacy; the use for membership is Brännvall's BaVarIA (arXiv 2603.11799).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from auditkit.data.dataset import Bools, Floats
from auditkit.statistics.likelihood import Side
from auditkit.statistics.units import moderated_variances

# One common variance, or one common mean, would be an infinite weight; at this one a t is a normal to 6 digits.
_MOST = 1e6
# Of a variance that only the scatter between points tells: it says nothing of how points differ.
_FEW_DEGREES = 4.0


@dataclass(frozen=True)
class Prior:
    """sigma^2 ~ inverse gamma(degrees/2, degrees variance/2), mu given sigma^2 ~ N(mean, sigma^2/weight).

    Attributes:
        mean: where a point's mean is expected.
        weight: how many references that expectation is worth, above 0.
        variance: what a point's variance is drawn to, above 0.
        degrees: how many degrees of freedom that is worth, above 0.
    """

    mean: float
    weight: float
    variance: float
    degrees: float


def fit_priors(inside: Side, outside: Side, usable: Bools) -> tuple[Prior, Prior]:
    """One prior for each side, from all usable points.

    - Variance and its degrees: Smyth (2004) on the points' own variances (`moderated_variances`). Where fewer than 20
      of them are above 0: the pooled variance, worth as many degrees as a typical point has.
    - Where no point has two references on the side: half the variance over points of mean IN - mean OUT, which leaves
      out how hard the points are and counts how their contrasts differ as noise, so it is too large rather than too
      small; worth 4 degrees.
    - Mean: that of the points' means. Weight: variance / (scatter of the means beyond what the variance explains).

    Args:
        inside, outside: the references.
        usable: bool [n_points], where both sides answered; at least one.
    """
    between = float(np.var((inside.mean - outside.mean)[usable])) / 2
    return _prior(inside, usable, between), _prior(outside, usable, between)


def _prior(side: Side, usable: Bools, between: float) -> Prior:
    variance, degrees = _variance(side, usable, between)
    means, n = side.mean[usable], side.n[usable]
    scatter = float(means.var()) - variance * float((1 / n).mean())
    weight = variance / scatter if scatter > variance / _MOST else _MOST
    return Prior(float(means.mean()), weight, variance, degrees)


def _variance(side: Side, usable: Bools, between: float) -> tuple[float, float]:
    """Prior variance and its degrees."""
    several = usable & (side.n > 1)
    if not several.any():
        return between if between > 0 else 1.0, _FEW_DEGREES
    typical = int(np.median(side.n[several])) - 1
    found = moderated_variances(side.own[several], typical)
    if not found.prior_degrees:
        return Side(side.n[several], side.mean[several], side.squares[several]).pooled, float(typical)
    return found.prior_variance, min(found.prior_degrees, _MOST)


def log_predictive(values: Floats, side: Side, prior: Prior) -> Floats:
    """Log density of the next reading at each point, float64 like `values`; a point without references has the prior's.

    Student-t on degrees + n, about the mean of prior and references; its squared scale is the variance after the
    references times 1 + 1/(weight + n).

    Args:
        values: float64 [..., n_points].
        side: the references, n of them at a point.
        prior: of this side.
    """  # fmt: skip
    known = np.where(side.n > 0, side.mean, prior.mean)
    weight, degrees = prior.weight + side.n, prior.degrees + side.n
    centre = (prior.weight * prior.mean + side.n * known) / weight
    drawn = prior.weight * side.n / weight * (known - prior.mean) ** 2
    variance = (prior.degrees * prior.variance + side.squares + drawn) / degrees
    scale = degrees * variance * (1 + 1 / weight)
    constant = special.gammaln((degrees + 1) / 2) - special.gammaln(degrees / 2) - 0.5 * np.log(np.pi * scale)
    return np.asarray(constant - (degrees + 1) / 2 * np.log1p((values - centre) ** 2 / scale))
