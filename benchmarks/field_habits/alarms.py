"""Habit 2: intervals that take dependent pairs for independent, on Golds, where every alarm is false.

The functions return, for each of some Golds, whether its 95% interval (or 5% test) excludes the null. Golds stand in
a ring: each is compared with the one after it or with the eight after it, so that no comparison is special.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import stats

from auditkit.data.dataset import Bools, Floats, Ints
from auditkit.statistics.intervals import Interval, prediction_interval
from auditkit.statistics.roc import auc_clustered, auc_delong
from benchmarks.field_habits.pairs import halves_of_users

LEVEL = 0.05
RING = 8


def others(values: Floats, count: int) -> Floats:
    """The `count` systems after each system in the ring, float64 [n_systems, count, n_pairs] for [n_systems, n_pairs].

    `count` is below n_systems, so that none is compared with itself.
    """
    n = len(values)
    around: Floats = values[(np.arange(n)[:, None] + np.arange(1, count + 1)) % n]
    return around


def mean_iid(differences: Floats) -> Bools:
    """Student's test of mean 0 over pairs as if independent, bool [n_systems]; of float64 [n_systems, n_pairs]."""
    return np.asarray(stats.ttest_1samp(differences, 0.0, axis=1).pvalue < LEVEL)


def clustered_p(differences: Floats, clusters: Ints) -> Floats:
    """p-values of mean 0 with a variance over clusters, float64 [n_systems].

    Formula (Liang and Zeger 1986, with the usual small-sample factor): var = C / (C - 1) * sum over C clusters of the
    squared sums of residuals / n^2, on C - 1 degrees of freedom.

    Args:
        differences: float64 [n_systems, n_pairs].
        clusters: int64 [n_pairs], of at least two values.
    """
    _, codes = np.unique(clusters, return_inverse=True)
    count, n = int(codes.max()) + 1, differences.shape[1]
    mean = differences.mean(1)
    sums = np.stack([np.bincount(codes, row, count) for row in differences - mean[:, None]])
    error = np.sqrt(count / (count - 1) * (sums**2).sum(1)) / n
    return np.asarray(2 * stats.t.sf(np.abs(mean) / error, count - 1))


def mean_alarms(differences: Floats, clusters: Ints) -> tuple[Bools, Bools]:
    """Alarms of the mean difference, iid and clustered, bool [n_systems] each."""
    return mean_iid(differences), clustered_p(differences, clusters) < LEVEL


def same_distribution(first: Floats, second: Floats) -> Bools:
    """Kolmogorov-Smirnov test of two samples as if independent, bool [n_systems]; rows are compared."""
    return np.array([stats.ks_2samp(a, b, method="asymp").pvalue < LEVEL for a, b in zip(first, second, strict=True)])


def misses(interval: Interval, null: float) -> bool:
    """The interval exists and excludes the null."""
    return interval.low is not None and interval.high is not None and not interval.low <= null <= interval.high


def area_alarms(first: Floats, second: Floats, first_users: Ints, second_users: Ints) -> tuple[Bools, Bools]:
    """The AUC's 95% interval excludes .5, by DeLong (iid) and by Obuchowski (users kept together), rows compared."""
    rows = list(zip(first, second, strict=True))
    iid = np.array([misses(auc_delong(a, b), 0.5) for a, b in rows])
    return iid, np.array([misses(auc_clustered(a, b, first_users, second_users), 0.5) for a, b in rows])


def halves_alarms(values: Floats, users: Ints, *, seed: int) -> tuple[Bools, Bools]:
    """Half of the erased users against the other half within one Gold: iid and clustered alarms, bool [n_systems].

    The halves are drawn anew for each system, and no system saw either: the null holds by design. It is the usual study
    of whole users as members and non-members, with users who differ as real ones do.

    Args:
        values: float64 [n_systems, n_pairs].
        users: int64 [n_pairs].
        seed: of the halves.
    """
    found = []
    for row, mine in zip(values, halves_of_users(users, len(values), seed=seed), strict=True):
        iid, clustered = area_alarms(row[None, mine], row[None, ~mine], users[mine], users[~mine])
        found.append((bool(iid[0]), bool(clustered[0])))
    each = np.array(found)
    return each[:, 0], each[:, 1]


def over_seeds(values: Floats) -> Bools:
    """Prediction interval of a system's mean against those of the eight after it excludes 0, bool [n_systems].

    Args:
        values: float64 [n_systems, n_units].
    """
    means = values.mean(1)
    around = others(means[:, None], RING)[:, :, 0]
    found = (
        prediction_interval(x, float(g.mean()), float(g.std(ddof=1)), RING)
        for x, g in zip(means, around, strict=True)
    )  # fmt: skip
    return np.array([misses(interval, 0.0) for interval in found])


def false_alarms(
    forget: Floats, test: Floats, forget_users: Ints, test_users: Ints, *, seed: int
) -> Mapping[str, tuple[Bools, ...]]:
    """Every variant on one signal of fresh Golds: name -> alarms of the iid and, where there is one, clustered form.

    Args:
        forget: float64 [n_systems, n_forgotten pairs].
        test: float64 [n_systems, n_test pairs].
        forget_users, test_users: int64, the pairs' users.
        seed: of the random halves.
    """
    one = others(forget, 1)[:, 0]
    return {
        "mean difference to one Gold": mean_alarms(forget - one, forget_users),
        f"mean difference to the mean of {RING} Golds": mean_alarms(
            forget - others(forget, RING).mean(1), forget_users
        ),
        "AUC against one Gold": area_alarms(forget, one, forget_users, forget_users),
        "KS test against one Gold": (same_distribution(forget, one),),
        "AUC against test pairs (one draw of pairs)": area_alarms(forget, test, forget_users, test_users),
        "AUC of half the erased users against the rest": halves_alarms(forget, forget_users, seed=seed),
    }
