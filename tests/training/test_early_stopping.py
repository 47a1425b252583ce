from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.contracts import Fit
from auditkit.data.dataset import Dataset, Interactions
from auditkit.errors import ConfigurationError
from auditkit.training.early_stopping import EarlyStopping, holdout_by_pair_hash, is_due, with_validation


def data_of(n_users: int = 60, n_items: int = 50, seed: int = 0) -> Dataset:
    mask = np.random.default_rng(seed).random((n_users, n_items)) < 0.5
    return Dataset("random", n_users, n_items, Interactions.unique(*np.nonzero(mask))[0])


def test_best_state_is_kept_and_equal_is_not_better() -> None:
    stopping = EarlyStopping[str](1, patience=2)
    for value, state in ((0.1, "a"), (0.3, "b"), (0.3, "c"), (0.2, "d")):
        stopping.update(0, value, lambda state=state: state)  # type: ignore[misc]
    assert stopping.best == ["b"]
    assert stopping.values.tolist() == [0.3]
    assert stopping.done


def test_a_better_value_starts_the_count_anew() -> None:
    stopping = EarlyStopping[int](1, patience=2)
    for epoch, value in enumerate([0.1, 0.0, 0.2, 0.1]):
        stopping.update(0, value, lambda epoch=epoch: epoch)  # type: ignore[misc]
    assert not stopping.done
    assert stopping.best == [2]


def test_a_stopped_member_ignores_what_comes_later() -> None:
    stopping = EarlyStopping[str](2, patience=1)
    for member in (0, 1):
        stopping.update(member, 0.5, lambda: "first")
    stopping.update(0, 0.4, lambda: "worse")
    assert stopping.stopped.tolist() == [True, False]
    stopping.update(0, 0.9, lambda: pytest.fail("a stopped member was asked for its state"))
    stopping.update(1, 0.9, lambda: "second")
    assert stopping.best == ["first", "second"]
    assert not stopping.done


def test_patience_must_be_positive() -> None:
    with pytest.raises(ConfigurationError, match="patience must be 1 or more"):
        EarlyStopping[int](1, patience=0)


def test_evaluations_fall_on_every_and_on_the_last_epoch() -> None:
    fit = Fit(epochs=7, patience=2, every=3)
    assert [e for e in range(1, 8) if is_due(fit, e)] == [3, 6, 7]
    assert not any(is_due(replace(fit, patience=None), e) for e in range(1, 8))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1))
def test_erasing_moves_no_other_pair(seed: int, share: float) -> None:
    data = data_of(seed=seed)
    keep = np.random.default_rng(seed).random(len(data.train)) < 0.7
    fewer = replace(data, train=data.train.take(keep))
    whole, part = holdout_by_pair_hash(data, share), holdout_by_pair_hash(fewer, share)
    left = set(fewer.train.codes(50).tolist())
    assert set(part.valid.codes(50).tolist()) == set(whole.valid.codes(50).tolist()) & left
    assert set(part.train.codes(50).tolist()) == set(whole.train.codes(50).tolist()) & left
    assert len(whole.train) + len(whole.valid) == len(data.train)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.1, 0.5, 1.0])
def test_share_is_met_and_spreads_over_users(share: float) -> None:
    data = data_of(400, 300)
    held = holdout_by_pair_hash(data, share)
    n = len(data.train)
    assert abs(len(held.valid) - share * n) <= 4 * np.sqrt(n * share * (1 - share))
    per_user = np.bincount(held.valid.users, minlength=400) / np.bincount(data.train.users, minlength=400)
    assert per_user.std() <= 1.2 * np.sqrt(share * (1 - share) / 150) + 1e-12


def test_larger_shares_hold_out_more_of_the_same() -> None:
    data = data_of()
    small, large = (set(holdout_by_pair_hash(data, s).valid.codes(50).tolist()) for s in (0.1, 0.3))
    assert small < large


def test_holdout_refuses_what_it_cannot_do() -> None:
    data = data_of()
    with pytest.raises(ConfigurationError, match=r"in \[0, 1\]"):
        holdout_by_pair_hash(data, 1.5)
    with pytest.raises(ConfigurationError, match="already"):
        holdout_by_pair_hash(holdout_by_pair_hash(data, 0.1), 0.1)


def test_where_validation_comes_from() -> None:
    data = data_of()
    assert with_validation(data, Fit()) is data
    own = holdout_by_pair_hash(data, 0.2)
    assert with_validation(own, Fit(patience=1, valid=0.5)) is own
    assert with_validation(data, Fit(patience=1, valid=0.2)).valid.codes(50).tolist() == own.valid.codes(50).tolist()
    with pytest.raises(ConfigurationError, match=r"set fit\.valid to a share"):
        with_validation(data, Fit(patience=1))
    with pytest.raises(ConfigurationError, match="holds out none"):
        with_validation(data, Fit(patience=1, valid=1e-9))
