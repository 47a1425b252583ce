"""Per-point Gaussians of a signal with and without a unit in training, and the scores that follow from them.

LiRA: Carlini et al., "Membership Inference Attacks From First Principles", IEEE S&P 2022 (arXiv 2112.03570), online and
offline, variances pooled or a point's own. Its linear score is the equal-variance case (Fisher's discriminant), a
variance a point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from auditkit.data.dataset import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class Side:
    """References on one side at each point: those that held the point's unit, or those that did not.

    Attributes:
        n: int64 [n_points], how many answered.
        mean: float64 [n_points]; NaN where none did.
        squares: float64 [n_points], sum of squared deviations from the mean; 0 where none answered.
    """

    n: Ints
    mean: Floats
    squares: Floats

    @property
    def pooled(self) -> float:
        """One variance for all points, centred per point; 1 where nothing scatters."""
        return _pooled(self.squares, self.n)

    @property
    def own(self) -> Floats:
        """Variance of each point, float64 [n_points]; NaN where fewer than two references answered."""
        return np.where(self.n > 1, self.squares / np.maximum(self.n - 1, 1), np.nan)

    def variance(self, pooled: float, *, per_point: bool) -> Floats | float:
        """`pooled`, or each point's own; `pooled` again where the own one is unknown (fewer than two) or 0."""
        own = self.own
        return np.where(own > 0, own, pooled) if per_point else pooled

    def log_tail(self, values: Floats, *, per_point: bool = False) -> Floats:
        """Log Pr[Z <= value], Z normal with this side's mean and variance, like `values`; NaN where none answered.

        Args:
            values: float64 [..., n_points].
            per_point: the variances are the points' own, not the pooled one.
        """
        spread = np.sqrt(self.variance(self.pooled, per_point=per_point))
        return np.asarray(special.log_ndtr((values - self.mean) / spread))


@dataclass(frozen=True, eq=False)
class InOut:
    """Means and within-group variances of references, per point.

    Attributes:
        inside, outside: the references that held a point's unit and those that did not.
        within: float64 [n_points], variance within the groups, both together, shrunk to its mean over the points.
        pooled_in, pooled_out: one variance for each side, centred per point, over the usable points.
    """

    inside: Side
    outside: Side
    within: Floats
    pooled_in: float
    pooled_out: float

    @property
    def mean_in(self) -> Floats:
        """Float64 [n_points]; NaN where no reference held it."""
        return self.inside.mean

    @property
    def mean_out(self) -> Floats:
        """Float64 [n_points]; NaN where every reference held it."""
        return self.outside.mean

    @property
    def usable(self) -> Bools:
        """Points with both sides observed, bool [n_points]."""
        return np.isfinite(self.mean_in) & np.isfinite(self.mean_out)

    def weights(self) -> Floats:
        """W = (mean_in - mean_out) / within, float64 [n_points]; 0 where unusable."""
        return np.where(self.usable, (self.mean_in - self.mean_out) / self.within, 0.0)

    def pattern_weights(self) -> Floats:
        """(contrast - its mean) / within, float64 [n_points], the mean weighted by 1/within; 0 where unusable.

        They sum to 0, so a common shift of all points changes nothing; and against the contrast itself they sum to
        sum((contrast - mean)^2 / within), which cannot be negative: what varies with the contrast is always found.
        """
        if not self.usable.any():
            return self.weights()
        precision = np.where(self.usable, 1 / self.within, 0.0)
        weights = self.weights()
        return np.asarray(weights - precision * (weights.sum() / precision.sum()))

    def middle(self) -> Floats:
        """Half way between the means, where the linear score is 0; 0 where unusable."""
        return np.where(self.usable, (self.mean_in + self.mean_out) / 2, 0.0)

    def log_ratio(self, values: Floats, *, per_point: bool = False) -> Floats:
        """Log N(value; in) - log N(value; out), float64 like `values`; 0 where unusable.

        Args:
            values: float64 [..., n_points].
            per_point: the variances are the points' own (pooled where fewer than two references tell), not pooled.
        """
        variance_in = self.inside.variance(self.pooled_in, per_point=per_point)
        variance_out = self.outside.variance(self.pooled_out, per_point=per_point)
        ratio = (
            0.5 * np.log(variance_out / variance_in)
            + (values - self.mean_out) ** 2 / (2 * variance_out)
            - (values - self.mean_in) ** 2 / (2 * variance_in)
        )
        return np.where(self.usable, ratio, 0.0)


def shrunken(variances: Floats, degrees: int) -> Floats:
    """Variances drawn towards their mean by as much as sampling noise explains their scatter.

    With s2 the sample variance on `degrees` degrees of freedom, noise alone scatters it by 2 mean^2 / degrees
    (normal theory); the rest of the scatter is taken as real. One common variance gives the mean everywhere.

    Args:
        variances: float64 [n], NaN kept.
        degrees: at least 1.
    """
    known = np.isfinite(variances)
    if not known.any():
        return variances
    mean = float(variances[known].mean())
    noise = 2 * mean**2 / degrees
    scatter = float(variances[known].var())
    share = min(1.0, noise / scatter) if scatter > 0 else 1.0
    return share * mean + (1 - share) * variances


def fit_sides(values: Floats, held: Bools) -> tuple[Side, Side]:
    """The references that held each point's unit, and those that did not.

    Args:
        values: float64 [n_references, n_points]; NaN where a reference did not answer (it is left out there).
        held: bool [n_references, n_points], the reference was trained on the point's unit.
    """
    known = np.isfinite(values)
    filled = values if known.all() else np.where(known, values, 0.0)
    return _side(filled, known & held), _side(filled, known & ~held)


def _side(values: Floats, counted: Bools) -> Side:
    # As factors 0 and 1, so that every sum over references is one pass without a copy.
    factors = counted.astype(np.float64)
    n = factors.sum(0).astype(np.int64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.einsum("kn,kn->n", values, factors) / n
    return Side(n, mean, _squares(values - np.where(n > 0, mean, 0.0), factors))


def fit_in_out(values: Floats, held: Bools) -> InOut:
    """Fit the references; arguments as in `fit_sides`.

    Returns:
        The fit. A variance of 0 everywhere (a deterministic system whose references agree) is replaced by 1, which
        makes the weights plain differences of means.
    """
    inside, outside = fit_sides(values, held)
    usable = (inside.n > 0) & (outside.n > 0)
    square_in, square_out = (np.where(usable, side.squares, 0.0) for side in (inside, outside))
    degrees = np.maximum(inside.n + outside.n - 2, 1)
    # Points that nobody answered (told ones, in fold-in) say nothing of the degrees of the others.
    typical = int(np.median(degrees[usable])) if usable.any() else 1
    within = shrunken(np.where(usable, (square_in + square_out) / degrees, np.nan), typical)
    return InOut(
        inside, outside, _positive(within),
        _pooled(square_in, inside.n[usable]), _pooled(square_out, outside.n[usable]),
    )  # fmt: skip


def _squares(deviations: Floats, counted: Floats) -> Floats:
    """Sum over references of the squared deviations that count, [n_points]."""
    deviations *= counted
    return np.asarray(np.einsum("kn,kn->n", deviations, deviations))


def _pooled(squares: Floats, n: Ints) -> float:
    return float(_positive(np.array(squares.sum() / max((n - 1).clip(0).sum(), 1))))


def _positive(variance: Floats) -> Floats:
    return np.where(np.isfinite(variance) & (variance > 0), variance, 1.0)
