"""Fisher's discriminant of several signals, with one set of coefficients for all points."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh

from auditkit.data.dataset import Bools, Floats

# On a diagonal of ones: small enough to leave independent signals alone, large enough to divide by.
RIDGE = 1e-3
# Relative to its mean: a signal that varies less is constant but for rounding.
_CONSTANT = 1e-12


def discriminant(signals: Floats, held: Bools) -> Floats:
    """Coefficients a of the combination that tells best which references held a point.

    They maximise sum_x (a'd_x)^2 / a'Ca, with d_x = mean IN - mean OUT of the signals at point x and C their covariance
    within the groups, pooled over points: the leading eigenvector of sum_x d_x d_x' with respect to C (Fisher's linear
    discriminant for many pairs of groups that share one covariance). Signals are first divided by the root of their
    within-group variance plus squared contrast; then 1e-3 is added to the diagonal of C. So no unit of measurement
    matters, and signals that are multiples of one another share their weight.

    Args:
        signals: float64 [n_signals, n_references, n_points]; points where any of them is not finite are left out.
        held: bool [n_references, n_points], the reference was trained on the point; points that all or no references
            held are left out.

    Returns:
        float64 [n_signals], for the signals as given, a'mean(d) not below 0; 0 for a constant signal, and for all
        signals where no point is left.
    """
    usable = np.isfinite(signals).all((0, 1)) & held.any(0) & ~held.all(0)
    if not usable.any():
        return np.zeros(len(signals))
    known, inside = signals[:, :, usable], held[:, usable]
    contrast, within = _moments(known, inside)
    between = contrast @ contrast.T / contrast.shape[1]
    scale = np.sqrt(np.diag(within + between))
    varies = scale > _CONSTANT * np.abs(known).mean((1, 2))
    scale = np.where(varies, scale, 1.0)
    units = np.outer(scale, scale)
    leading = eigh(between / units, within / units + RIDGE * np.eye(len(signals)))[1][:, -1] * varies
    turned = leading if leading @ (contrast.mean(1) / scale) >= 0 else -leading
    return np.asarray(turned / scale)


def _moments(known: Floats, inside: Bools) -> tuple[Floats, Floats]:
    """Contrasts [n_signals, n_points] and the covariance within the groups, pooled over points."""
    share = inside.mean(0)
    # Free of a common level, a constant signal has moments of exactly 0.
    known = known - known[:, :1]
    mean_in = (known * inside).mean(1) / share
    mean_out = (known * ~inside).mean(1) / (1 - share)
    apart = (known - np.where(inside, mean_in[:, None], mean_out[:, None])).reshape(len(known), -1)
    return mean_in - mean_out, apart @ apart.T / apart.shape[1]
