"""Which units of a request choices are tuned on and which are judged: whole clusters, by a hash that moves nobody."""

from __future__ import annotations

import numpy as np
import pandas as pd

from auditkit.data.dataset import Ints
from auditkit.deletion import DeletionRequest
from auditkit.digests import digest_of
from auditkit.errors import ConfigurationError
from auditkit.statistics.dose import MIN_UNITS_SPREAD

MOST_TUNED = 0.5


def clusters_of(users: Ints, items: Ints) -> Ints:
    """The cluster of each unit: its user where one is named (not -1), else its item; int64 [n]."""
    return np.where(users >= 0, users, items)


def tune_clusters(request: DeletionRequest, share: float, seed: int) -> Ints:
    """Clusters of the request whose units choices are tuned on, int64, ascending.

    The round(share * n_clusters) clusters with the smallest SHA-256 of seed and cluster: a cluster's own hash depends
    on no other cluster.

    Args:
        request: what must be forgotten.
        share: of its clusters, in [0, .5]; 0 tunes on nothing.
        seed: of the audit.

    Raises:
        ConfigurationError: `share` is outside [0, .5], or one of the two parts would hold fewer than 20 units, which
            is what the spread needs on one side and a threshold on the other.
    """
    if not 0 <= share <= MOST_TUNED:
        raise ConfigurationError(f"tune must be in [0, {MOST_TUNED:g}], a share of the request's clusters, got {share}")
    if share == 0:
        return np.empty(0, np.int64)
    own = clusters_of(request.users, request.items)
    clusters = np.unique(own)
    order = sorted(clusters.tolist(), key=lambda cluster: digest_of("tune", seed, cluster))
    chosen = np.sort(np.array(order[: round(share * len(order))], np.int64))
    tuned = int(np.isin(own, chosen).sum())
    if min(tuned, len(own) - tuned) < MIN_UNITS_SPREAD:
        raise ConfigurationError(
            f"tune = {share:g} leaves {tuned} units to tune on and {len(own) - tuned} to judge (whole clusters move, "
            f"{len(clusters)} of them); each part needs {MIN_UNITS_SPREAD}: ask a larger request or set tune = 0"
        )
    return chosen


def split_of(clusters: Ints, tuned: Ints) -> pd.Series:
    """`tune` for units of the tuned clusters, also where they are not to be forgotten, and `judge` for the others."""
    return pd.Series(np.where(np.isin(clusters, tuned), "tune", "judge"), dtype=object)
