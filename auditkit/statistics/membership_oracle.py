"""The "membership inference oracle" that other works on recommendation print before and after unlearning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from auditkit.data.dataset import Bools, Floats, Ints
from auditkit.errors import ConfigurationError, DataError
from auditkit.statistics.intervals import Interval, check_confidence, clopper_pearson, dropped_note
from auditkit.statistics.scores import cluster_codes


@dataclass(frozen=True, eq=False)
class MemberFeatures:
    """What one system answers about members and others.

    Attributes:
        members: float [m, k], k score features of each member; a row with a NaN is dropped and counted.
        others: float [n, k], alike.
        member_clusters, other_clusters: [m] and [n] labels, equal labels being one cluster; None: each its own.

    Raises:
        DataError: shapes do not fit, or a value is infinite.
    """

    members: ArrayLike
    others: ArrayLike
    member_clusters: ArrayLike | None = None
    other_clusters: ArrayLike | None = None

    def table(self) -> tuple[Floats, Bools, Ints, str]:
        """Features float64 [m + n, k], which rows are members, cluster codes, and what was dropped."""
        mine, theirs = np.asarray(self.members, np.float64), np.asarray(self.others, np.float64)
        if mine.ndim != 2 or theirs.ndim != 2 or mine.shape[1] != theirs.shape[1]:
            raise DataError(f"members and others must be [m, k] and [n, k], got {mine.shape} and {theirs.shape}")
        values, member = np.concatenate([mine, theirs]), np.arange(len(mine) + len(theirs)) < len(mine)
        if np.isinf(values).any():
            raise DataError("features must be finite or NaN, got an infinite value; a linear classifier cannot use it")
        codes = np.concatenate(cluster_codes(self._labels(len(mine), True), self._labels(len(theirs), False))[:2])
        known = ~np.isnan(values).any(1)
        return values[known], member[known], codes[known], dropped_note(int((~known).sum()), "units")

    def _labels(self, n: int, members: bool) -> NDArray[np.generic]:
        given = self.member_clusters if members else self.other_clusters
        if (self.member_clusters is None) != (self.other_clusters is None):
            raise DataError("member_clusters and other_clusters go together: give both or neither")
        if given is None:
            # Members count up from 0 and others down from -1: no two units share a label.
            return np.arange(n) if members else -1 - np.arange(n)
        labels = np.asarray(given)
        if labels.shape != (n,):
            raise DataError(f"a class of {n} units needs {n} cluster labels, got shape {labels.shape}")
        return labels


@dataclass(frozen=True)
class OracleAccuracy:
    """Accuracy of the oracle on the system before and after unlearning.

    Attributes:
        before, after: share of units guessed right, with a Clopper-Pearson interval that takes guesses as independent.
        chance_before, chance_after: what naming the larger class always would score; None without units.
    """

    before: Interval
    after: Interval
    chance_before: float | None
    chance_after: float | None


def membership_inference_oracle(
    before: MemberFeatures, after: MemberFeatures, *, folds: int = 5, seed: int = 0, confidence: float = 0.95
) -> OracleAccuracy:
    """MIO of SCIF (Li et al., arXiv 2304.10199): can a classifier tell the forgotten from what was never seen?

    Reconstructed and kept simple: a logistic regression on standardised score features of one system, cross-validated
    with whole clusters left out.

    No verdict: a Gold need not read chance, since forgotten and unseen units differ in popularity and activity; a
    fall towards chance says that scores moved, not that they went where Gold's are; and the interval is too narrow
    where a cluster holds several units.

    Args:
        before: of the original.
        after: of the unlearned system, on the same units.
        folds: 2 or more; fewer are made where a class has fewer clusters.
        seed: of the folds.
        confidence: in (0, 1).

    Returns:
        Accuracies without value, and why, where a class has fewer than 2 clusters.

    Raises:
        ConfigurationError: folds or confidence outside its domain.
        DataError: shapes do not fit, or a value is infinite.
    """
    check_confidence(confidence)
    if folds < 2:
        raise ConfigurationError(f"folds must be 2 or more, got {folds}; 5 is usual")
    (first, chance_before), (second, chance_after) = (
        _accuracy(features, folds, seed, confidence) for features in (before, after)
    )
    return OracleAccuracy(first, second, chance_before, chance_after)


def _accuracy(features: MemberFeatures, folds: int, seed: int, confidence: float) -> tuple[Interval, float | None]:
    values, member, codes, note = features.table()
    fewest = min(len(np.unique(codes[member])), len(np.unique(codes[~member])))
    chance = float(max(member.mean(), 1 - member.mean())) if len(member) else None
    if fewest < 2:
        reason = f"cross-validation needs 2 clusters of each class, got {fewest}"
        return Interval.without_ends(None, confidence, "membership inference oracle", reason, note), chance
    guessed = _cross_validated(values, member, codes, min(folds, fewest), seed)
    made = clopper_pearson(int((guessed == member).sum()), len(member), confidence)
    method = f"logistic regression, {min(folds, fewest)} folds of whole clusters, Clopper-Pearson"
    return Interval(made.value, made.low, made.high, confidence, method, note), chance


def _cross_validated(values: Floats, member: Bools, codes: Ints, folds: int, seed: int) -> Bools:
    """Each unit's class as guessed from the other folds."""
    guessed = np.zeros(len(member), bool)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for train, test in splitter.split(values, member, codes):
        if len(np.unique(member[train])) < 2:
            # Clusters that hold both classes can leave a fold nothing to learn from: it names the class it saw.
            guessed[test] = member[train][0]
            continue
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        guessed[test] = classifier.fit(values[train], member[train]).predict(values[test])
    return guessed
