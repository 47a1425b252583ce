"""Per-point Gaussians of a signal with and without a unit in training, and the scores that follow from them.

LiRA: Carlini et al., "Membership Inference Attacks From First Principles", IEEE S&P 2022 (arXiv 2112.03570), online
form with pooled variances. Its linear score is the equal-variance case (Fisher's discriminant), a variance a point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from auditkit.data.dataset import Bools, Floats


@dataclass(frozen=True, eq=False)
class InOut:
    """Means and within-group variances of references, per point.

    Attributes:
        mean_in, mean_out: float64 [n_points]; NaN where a side has no reference.
        within: float64 [n_points], variance within the groups, both together, shrunk to its mean over the points.
        pooled_in, pooled_out: one variance for each side, centred per point.
    """

    mean_in: Floats
    mean_out: Floats
    within: Floats
    pooled_in: float
    pooled_out: float

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

    def log_ratio(self, values: Floats) -> Floats:
        """Log N(value; in) - log N(value; out) with the pooled variances, float64 like `values`; 0 where unusable."""
        ratio = (
            0.5 * np.log(self.pooled_out / self.pooled_in)
            + (values - self.mean_out) ** 2 / (2 * self.pooled_out)
            - (values - self.mean_in) ** 2 / (2 * self.pooled_in)
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


def fit_in_out(values: Floats, held: Bools) -> InOut:
    """Fit the references.

    Args:
        values: float64 [n_references, n_points]; NaN where a reference did not answer (it is left out there).
        held: bool [n_references, n_points], the reference was trained on the point's unit.

    Returns:
        The fit. A variance of 0 everywhere (a deterministic system whose references agree) is replaced by 1, which
        makes the weights plain differences of means.
    """
    known = np.isfinite(values)
    filled = values if known.all() else np.where(known, values, 0.0)
    # As factors 0 and 1, so that every sum over references is one pass without a copy.
    inside, outside = (known & held).astype(np.float64), (known & ~held).astype(np.float64)
    n_in, n_out = inside.sum(0).astype(np.int64), outside.sum(0).astype(np.int64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_in = np.einsum("kn,kn->n", filled, inside) / n_in
        mean_out = np.einsum("kn,kn->n", filled, outside) / n_out
    usable = (n_in > 0) & (n_out > 0)
    square_in = _squares(filled - np.where(usable, mean_in, 0.0), inside * usable)
    square_out = _squares(filled - np.where(usable, mean_out, 0.0), outside * usable)
    degrees = np.maximum(n_in + n_out - 2, 1)
    # Points that nobody answered (told ones, in fold-in) say nothing of the degrees of the others.
    typical = int(np.median(degrees[usable])) if usable.any() else 1
    within = shrunken(np.where(usable, (square_in + square_out) / degrees, np.nan), typical)
    free_in, free_out = (n_in[usable] - 1).clip(0).sum(), (n_out[usable] - 1).clip(0).sum()
    return InOut(
        mean_in, mean_out, _positive(within),
        float(_positive(np.array(square_in.sum() / max(free_in, 1)))),
        float(_positive(np.array(square_out.sum() / max(free_out, 1)))),
    )  # fmt: skip


def _squares(deviations: Floats, counted: Floats) -> Floats:
    """Sum over references of the squared deviations that count, [n_points]."""
    deviations *= counted
    return np.asarray(np.einsum("kn,kn->n", deviations, deviations))


def _positive(variance: Floats) -> Floats:
    return np.where(np.isfinite(variance) & (variance > 0), variance, 1.0)
