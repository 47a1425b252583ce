"""The membership inference oracle against scikit-learn's own cross-validation and known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from auditkit.errors import ConfigurationError, DataError
from auditkit.statistics.membership_oracle import MemberFeatures, membership_inference_oracle

Floats = NDArray[np.float64]


def features(seed: int, shift: float, m: int = 80, n: int = 120) -> MemberFeatures:
    rng = np.random.default_rng(seed)
    return MemberFeatures(rng.normal(shift, 1, (m, 2)), rng.normal(size=(n, 2)))


def test_accuracy_is_that_of_scikit_learns_cross_validation() -> None:
    rng = np.random.default_rng(0)
    users, members = rng.integers(0, 30, 200), np.arange(200) < 80
    values = rng.normal(size=(200, 2)) + 0.8 * members[:, None]
    given = MemberFeatures(values[:80], values[80:], users[:80], users[80:])
    found = membership_inference_oracle(given, given, folds=4, seed=3)
    splitter = StratifiedGroupKFold(4, shuffle=True, random_state=3)
    # Folds depend on how clusters are numbered: in order of first appearance here.
    _, first = np.unique(users, return_index=True)
    groups = np.array(
        [int(np.searchsorted(np.sort(first), first[k])) for k in np.unique(users, return_inverse=True)[1]]
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    guessed = cross_val_predict(model, values, members, groups=groups, cv=splitter)
    hits = int((guessed == members).sum())
    assert found.before.value == hits / 200
    low, high = stats.binomtest(hits, 200).proportion_ci(0.95, method="exact")
    assert (found.before.low, found.before.high) == pytest.approx((low, high), abs=1e-10)
    assert found.before == found.after
    assert found.chance_before == 0.6


def test_it_falls_to_chance_where_scores_were_equalised_and_finds_the_bayes_accuracy() -> None:
    found = membership_inference_oracle(features(1, 1.5, 600, 600), features(2, 0.0, 600, 600))
    best = float(stats.norm.cdf(1.5 * math.sqrt(2) / 2))
    assert found.before.value == pytest.approx(best, abs=0.05)
    assert found.after.value == pytest.approx(0.5, abs=0.05)
    assert found == membership_inference_oracle(features(1, 1.5, 600, 600), features(2, 0.0, 600, 600))


def test_whole_clusters_are_left_out() -> None:
    """A user's own mark, the same on all his pairs, must not help: without clusters it does."""
    rng = np.random.default_rng(4)
    users = np.arange(40).repeat(10)
    member = users % 2 == 0
    marks = np.eye(40)[users] + 0.01 * rng.normal(size=(400, 40))
    known = MemberFeatures(marks[member], marks[~member], users[member], users[~member])
    alone = MemberFeatures(marks[member], marks[~member])
    found = membership_inference_oracle(alone, known)
    assert found.before.value is not None
    assert found.before.value > 0.95
    assert found.after.value is not None
    assert found.after.value < 0.6


def test_missing_infinite_and_too_few() -> None:
    gaps = MemberFeatures([[math.nan], [1.0], [2.0], [1.5]], [[0.0], [0.5], [0.2]])
    found = membership_inference_oracle(gaps, gaps, folds=5)
    assert "3 folds" in found.before.method
    assert found.before.note == "1 NaN dropped from units"
    assert found.chance_before == 0.5
    one = MemberFeatures([[1.0], [2.0]], [[0.0], [0.5]], [7, 7], [1, 2])
    refused = membership_inference_oracle(one, gaps)
    assert (refused.before.value, refused.before.low) == (None, None)
    assert "2 clusters of each class, got 1" in refused.before.note
    nothing = MemberFeatures(np.zeros((0, 1)), np.zeros((0, 1)))
    assert membership_inference_oracle(nothing, nothing).chance_after is None
    # Two users hold both classes between them: what is left out may be all there is of one.
    both = MemberFeatures([[1.0], [2.0]], [[0.0], [0.5]], [1, 2], [1, 2])
    assert membership_inference_oracle(both, both).before.value is not None
    constant = MemberFeatures(np.ones((10, 1)), np.ones((10, 1)))
    assert membership_inference_oracle(constant, constant).before.value == pytest.approx(0.5, abs=0.2)
    for bad, message in (
        (MemberFeatures([[math.inf]], [[0.0]]), "finite"),
        (MemberFeatures([[1.0]], [[0.0, 1.0]]), "m, k"),
        (MemberFeatures([[1.0]], [[0.0]], [1, 2], [1]), "cluster labels"),
        (MemberFeatures([[1.0]], [[0.0]], [1]), "both or neither"),
    ):
        with pytest.raises(DataError, match=message):
            membership_inference_oracle(bad, bad)
    with pytest.raises(ConfigurationError, match="folds"):
        membership_inference_oracle(gaps, gaps, folds=1)


def test_a_fold_with_one_class_to_learn_from_names_it() -> None:
    """Users 1 and 2 hold the members, 2 and 0 the others: without 1 and 2 no member is left to learn from."""
    shared = MemberFeatures([[1.0], [2.0]], [[0.0], [0.5]], [1, 2], [2, 0])
    found = membership_inference_oracle(shared, shared)
    codes = np.array([0, 1, 1, 2])
    guessed = np.empty(4, bool)
    members, values = np.array([True, True, False, False]), np.array([[1.0], [2.0], [0.0], [0.5]])
    one_class = 0
    for train, test in StratifiedGroupKFold(2, shuffle=True, random_state=0).split(values, members, codes):
        if members[train].all() or not members[train].any():
            guessed[test], one_class = members[train][0], one_class + 1
        else:
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            guessed[test] = model.fit(values[train], members[train]).predict(values[test])
    assert one_class == 1
    assert found.before.value == (guessed == members).mean()
