from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from auditkit.data.dataset import Bools, Floats
from auditkit.statistics.discriminant import discriminant


def _drawn(n_signals: int, n_references: int, n_points: int, seed: int = 0) -> tuple[Floats, Bools]:
    """Signals with correlated noise and contrasts that differ between points."""
    rng = np.random.default_rng(seed)
    held = rng.permuted(np.tile(np.arange(n_references)[:, None] % 2 == 0, n_points), axis=0)
    mixing = rng.normal(size=(n_signals, n_signals))
    noise = np.einsum("ab,bkn->akn", mixing, rng.normal(size=(n_signals, n_references, n_points)))
    return noise + held * rng.normal(1, 0.5, size=(n_signals, 1, n_points)), held


def _criterion(coefficients: Floats, signals: Floats, held: Bools) -> float:
    """Squared contrasts of the combination over its variance within the groups, in loops."""
    combined = np.einsum("a,akn->kn", coefficients, signals)
    squares, within = 0.0, 0.0
    for value, mine in zip(combined.T, held.T, strict=True):
        squares += (value[mine].mean() - value[~mine].mean()) ** 2
        within += value[mine].var() * mine.sum() + value[~mine].var() * (~mine).sum()
    return squares / within


def test_one_point_is_scikit_learns_discriminant() -> None:
    signals, held = _drawn(4, 400, 1)
    known = LinearDiscriminantAnalysis(solver="lsqr").fit(signals[:, :, 0].T, held[:, 0]).coef_[0]
    found = discriminant(signals, held)
    assert_allclose(found / np.linalg.norm(found), known / np.linalg.norm(known), atol=0.01)


def test_no_direction_is_better() -> None:
    signals, held = _drawn(3, 12, 60)
    best = discriminant(signals, held)
    reached = _criterion(best, signals, held)
    rng = np.random.default_rng(1)
    tried = [_criterion(rng.normal(size=3), signals, held) for _ in range(100)]
    tried += [_criterion(best * (1 + 0.3 * rng.normal(size=3)), signals, held) for _ in range(100)]
    tried += [_criterion(one, signals, held) for one in np.eye(3)]
    # The ridge costs a thousandth.
    assert max(tried) < reached * 1.005
    assert np.median(tried) < reached * 0.9


def test_units_of_measurement_do_not_matter() -> None:
    signals, held = _drawn(3, 8, 50)
    factors = np.array([1e6, -1e-6, 1.0])
    was, now = discriminant(signals, held), discriminant(signals * factors[:, None, None], held)
    assert_allclose(now * factors, was, rtol=1e-8)


def test_a_level_of_its_own_does_not_matter() -> None:
    signals, held = _drawn(3, 8, 50)
    shifted = signals + np.random.default_rng(2).normal(size=(3, 1, 50)) * 10
    assert_allclose(discriminant(shifted, held), discriminant(signals, held), rtol=1e-9)


def test_the_combination_is_higher_in_than_out() -> None:
    signals, held = _drawn(3, 8, 50)
    for given in (signals, -signals):
        combined = np.einsum("a,akn->kn", discriminant(given, held), given)
        assert combined[held].mean() > combined[~held].mean()


def test_a_constant_signal_counts_nothing() -> None:
    signals, held = _drawn(3, 8, 50)
    signals[1] = 0.1
    found = discriminant(signals, held)
    assert found[1] == 0.0
    assert_allclose(found[[0, 2]], discriminant(signals[[0, 2]], held), rtol=1e-9)


def test_multiples_of_one_another_share_their_weight() -> None:
    signals, held = _drawn(2, 8, 50)
    found = discriminant(np.stack([*signals, -3 * signals[0]]), held)
    assert_allclose(found[0], -3 * found[2], rtol=1e-6)
    assert_allclose(found[0] - 3 * found[2], discriminant(signals, held)[0], rtol=0.01)


def test_points_that_say_nothing_are_left_out() -> None:
    signals, held = _drawn(3, 8, 50)
    more = np.concatenate([signals, np.full((3, 8, 4), 7.0)], axis=2)
    more[0, 3, 50], more[2, 5, 51] = np.nan, np.inf
    masks = np.zeros((8, 4), np.bool_)
    masks[:4, :2], masks[:, 2] = True, True
    assert_array_equal(discriminant(more, np.hstack([held, masks])), discriminant(signals, held))


@pytest.mark.parametrize("held", [np.ones((4, 6), np.bool_), np.zeros((4, 6), np.bool_)])
def test_without_a_contrast_nothing_counts(held: Bools) -> None:
    assert_array_equal(discriminant(np.random.default_rng(0).normal(size=(2, 4, 6)), held), np.zeros(2))


def test_one_reference_on_a_side() -> None:
    signals, _ = _drawn(3, 3, 40)
    held = np.zeros((3, 40), np.bool_)
    held[0] = True
    assert np.isfinite(discriminant(signals, held)).all()


def test_references_that_agree_within_the_groups() -> None:
    held = np.tile([[True], [True], [False], [False]], 10)
    signals = np.stack([held * 2.0, np.random.default_rng(0).normal(size=held.shape)])
    found = discriminant(signals, held)
    assert np.isfinite(found).all()
    assert found[0] > 0
