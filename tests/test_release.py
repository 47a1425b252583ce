"""What both models give away: the areas of the statistics module, and reasons where there are none."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from auditkit.errors import DataError
from auditkit.release import release_auc
from auditkit.statistics.roc import auc_clustered, tpr_at_fpr

N = 400
FORGET, RETAIN = np.arange(N) < 150, (np.arange(N) >= 150) & (np.arange(N) < 380)
USERS = np.arange(N) % 60


def test_every_target_is_read_alike() -> None:
    rng = np.random.default_rng(0)
    level = rng.standard_normal((3, N)) + np.array([0, 1, 3])[:, None] * FORGET
    found = release_auc(level, FORGET, RETAIN, USERS, fpr=0.02, confidence=0.9)
    assert len(found) == 3
    for row, one in zip(level, found, strict=True):
        assert one.auc == auc_clustered(row[FORGET], row[RETAIN], USERS[FORGET], USERS[RETAIN], 0.9)
        assert one.tpr == tpr_at_fpr(row[FORGET], row[RETAIN], 0.02, confidence=0.9)
        labels = np.r_[np.ones(150), np.zeros(230)]
        assert one.auc.value == pytest.approx(roc_auc_score(labels, np.r_[row[FORGET], row[RETAIN]]))
        assert (one.n_forget, one.n_retain, one.fpr) == (150, 230, 0.02)
    values = [one.auc.value for one in found]
    assert values == sorted(values, key=float)  # type: ignore[arg-type]


def test_a_model_that_did_not_change_says_nothing() -> None:
    (one,) = release_auc(np.zeros((1, N)), FORGET, RETAIN, USERS)
    assert one.auc.value == 0.5
    assert one.auc.low is not None
    assert one.auc.low < 0.5


def test_units_in_neither_group_do_not_count() -> None:
    level = np.random.default_rng(1).standard_normal((1, N))
    changed = level.copy()
    changed[:, ~FORGET & ~RETAIN] = 100
    assert release_auc(changed, FORGET, RETAIN, USERS) == release_auc(level, FORGET, RETAIN, USERS)


def test_too_few_units_are_said() -> None:
    level = np.random.default_rng(2).standard_normal((1, N))
    (few,) = release_auc(level, FORGET, RETAIN & (np.arange(N) < 250), USERS)
    assert few.auc.low is not None
    assert few.tpr.value is None
    assert "too few negatives" in few.tpr.note
    (person,) = release_auc(level, FORGET, RETAIN, np.where(FORGET, -1, USERS))
    assert person.auc.value is not None
    assert person.auc.low is None
    assert "2 clusters" in person.auc.note
    (nobody,) = release_auc(level, FORGET, ~FORGET & (np.arange(N) < 0), USERS)
    assert (nobody.auc.value, nobody.tpr.value) == (None, None)
    assert "no negative scores" in nobody.auc.note


def test_units_without_a_score_are_counted() -> None:
    level = np.random.default_rng(3).standard_normal((2, N))
    level[0, :10], level[1] = np.nan, np.nan
    part, nothing = release_auc(level, FORGET, RETAIN, USERS)
    assert part.n_forget == 140
    assert "10 NaN dropped" in part.auc.note
    assert (nothing.auc.value, nothing.n_forget, nothing.n_retain) == (None, 0, 0)


def test_other_units_are_refused() -> None:
    with pytest.raises(DataError, match="n_targets, n_units"):
        release_auc(np.zeros((1, N)), FORGET[1:], RETAIN, USERS)
    with pytest.raises(DataError, match="n_targets, n_units"):
        release_auc(np.zeros(N), FORGET, RETAIN, USERS)
    with pytest.raises(DataError, match="150 units are both"):
        release_auc(np.zeros((1, N)), FORGET, FORGET, USERS)
