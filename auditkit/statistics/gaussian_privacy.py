"""Gaussian differential privacy: its curve, and a lower bound on its parameter from guesses of membership.

mu-Gaussian privacy: telling the two data sets apart is no easier than telling N(0, 1) from N(mu, 1) (Dong, Roth and Su
2022). One mu stands for all pairs (epsilon, delta) at once, so its bound uses error rates that are both moderate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import optimize, special

from auditkit.errors import ConfigurationError
from auditkit.statistics.epsilon import check_counts
from auditkit.statistics.intervals import check_confidence, upper_rate


@dataclass(frozen=True)
class GaussianBound:
    """A mu that the guesses show to be exceeded; None where undefined, and then `note` says why.

    Attributes:
        value: mu is at least this, 0 or above; 0 shows nothing.
        resolution: the largest value that as many guesses could ever show, all of them right.
        confidence: one-sided, of "mu >= value".
        method: how the rates were bounded.
        note: what could not be computed.
    """

    value: float | None
    resolution: float | None
    confidence: float
    method: str
    note: str = ""

    def epsilon(self, delta: float) -> float | None:
        """The epsilon at `delta`, in (0, 1), that follows for a mechanism whose privacy is Gaussian."""
        return None if self.value is None else epsilon_of(self.value, delta)


def gaussian_dp_lower(
    true_positives: int, n_positive: int, false_positives: int, n_negative: int, *, confidence: float = 0.95
) -> GaussianBound:
    """The mu that guesses at a threshold fixed beforehand show (Nasr et al. 2023).

    Formula: Phi^-1(1 - FPR_hi) - Phi^-1(FNR_hi), at least 0, with one-sided Clopper-Pearson upper bounds at
    (1 - confidence) / 2 each. Units of a class must be independent.

    Args:
        true_positives: members that were guessed to be members, in 0..n_positive.
        n_positive: members.
        false_positives: others that were guessed to be members, in 0..n_negative.
        n_negative: others.
        confidence: in (0, 1), one-sided.

    Returns:
        `value` is None without members or without others.

    Raises:
        ConfigurationError: a number lies outside its domain.
    """
    check_confidence(confidence)
    check_counts(true_positives, n_positive, false_positives, n_negative)
    method = "Gaussian privacy, Clopper-Pearson, threshold fixed"
    if min(n_positive, n_negative) == 0:
        return GaussianBound(None, None, confidence, method, "no guesses in a class")
    value = _mu(n_positive - true_positives, n_positive, false_positives, n_negative, confidence)
    return GaussianBound(value, _mu(0, n_positive, 0, n_negative, confidence), confidence, method)


def _mu(false_negatives: int, n_positive: int, false_positives: int, n_negative: int, confidence: float) -> float:
    tail = (1 - confidence) / 2
    fnr, fpr = upper_rate(false_negatives, n_positive, tail), upper_rate(false_positives, n_negative, tail)
    # By symmetry -Phi^-1(FPR_hi) is Phi^-1(1 - FPR_hi), without the rounding of 1 - FPR_hi.
    return max(float(-special.ndtri(fpr) - special.ndtri(fnr)), 0.0)


def delta_of(mu: float, epsilon: float) -> float:
    """The smallest delta at `epsilon` of mu-Gaussian privacy (Balle and Wang 2018; Dong, Roth and Su 2022).

    Formula: Phi(-epsilon / mu + mu / 2) - e^epsilon Phi(-epsilon / mu - mu / 2), in logarithms, so that small deltas
    keep their digits; 0 at mu = 0.

    Args:
        mu: 0 or above.
        epsilon: 0 or above.

    Returns:
        In [0, 1].

    Raises:
        ConfigurationError: mu or epsilon is negative, NaN or infinite.
    """
    _check_finite("mu", mu)
    _check_finite("epsilon", epsilon)
    if mu == 0:
        return 0.0
    first = float(special.log_ndtr(-epsilon / mu + mu / 2))
    second = epsilon + float(special.log_ndtr(-epsilon / mu - mu / 2))
    return math.exp(first) * -math.expm1(min(second - first, 0.0))


def epsilon_of(mu: float, delta: float) -> float:
    """The smallest epsilon at `delta` of mu-Gaussian privacy: where `delta_of` falls to it.

    Args:
        mu: 0 or above.
        delta: in (0, 1); at 0 no epsilon suffices.

    Returns:
        0 or above; 0 where `delta_of(mu, 0)` is no larger than delta.

    Raises:
        ConfigurationError: a number lies outside its domain.
    """
    _check_finite("mu", mu)
    if not 0 < delta < 1:
        raise ConfigurationError(f"delta must be in (0, 1), got {delta}; Gaussian privacy has no finite epsilon at 0")
    if delta_of(mu, 0.0) <= delta:
        return 0.0
    # The first term alone falls to delta here, and what is subtracted is not negative.
    highest = mu * (mu / 2 - float(special.ndtri(delta)))
    return float(optimize.brentq(lambda epsilon: delta_of(mu, epsilon) - delta, 0.0, highest, xtol=1e-13, rtol=1e-14))


def _check_finite(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ConfigurationError(f"{name} must be 0 or above and finite, got {value}")
