"""Log odds of membership from a logistic regression, for attacks that learn a classifier on references."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from auditkit.data.dataset import Bools, Floats

MOST_SAMPLES = 20_000


def learned_log_odds(known: Floats, labels: Bools, asked: Floats) -> Floats:
    """Log odds that samples are members, learned on others.

    Logistic regression with scikit-learn's default ridge (C = 1) on features scaled to unit variance. More than 20,000
    samples are thinned to 20,000 with a fixed seed, so the same input gives the same output.

    Args:
        known: float64 [n_known, n_features]; samples with a feature that is not finite are left out.
        labels: bool [n_known], members.
        asked: float64 [..., n_features].

    Returns:
        float64 [...]; NaN where a feature is not finite, and everywhere where no sample or only one label is left. A
        constant feature counts nothing.
    """
    whole = np.flatnonzero(np.isfinite(known).all(-1))
    chosen = np.sort(np.random.default_rng(0).permutation(whole)[:MOST_SAMPLES])
    if np.unique(labels[chosen]).size < 2:
        return np.full(asked.shape[:-1], np.nan)
    scaler = StandardScaler().fit(known[chosen])
    # Newton's steps need no tuning and converge in a handful for few features.
    fitted = LogisticRegression(solver="newton-cholesky", tol=1e-8).fit(scaler.transform(known[chosen]), labels[chosen])
    filled = np.where(np.isfinite(asked), asked, 0.0)
    # Summed sample by sample: a matrix product may round a sample differently in other company.
    odds = ((filled - scaler.mean_) / scaler.scale_ * fitted.coef_[0]).sum(-1) + fitted.intercept_[0]
    return np.where(np.isfinite(asked).all(-1), odds, np.nan)
