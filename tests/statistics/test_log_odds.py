from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize

from auditkit.data.dataset import Bools, Floats
from auditkit.statistics.log_odds import MOST_SAMPLES, learned_log_odds


def _drawn(n: int, seed: int = 0) -> tuple[Floats, Bools]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 3)) * [1, 50, 0.01] + [0, 3, 1]
    return features, rng.random(n) < 1 / (1 + np.exp(-features[:, 0] - 0.02 * features[:, 1]))


def test_against_a_general_minimiser() -> None:
    known, labels = _drawn(200)
    asked, _ = _drawn(30, seed=1)
    scaled = (known - known.mean(0)) / known.std(0)

    def loss(b: Floats) -> float:
        signed = np.where(labels, 1, -1) * (scaled @ b[:3] + b[3])
        return float(np.logaddexp(0, -signed).sum() + 0.5 * (b[:3] ** 2).sum())

    best = minimize(loss, np.zeros(4), tol=1e-12).x
    expected = (asked - known.mean(0)) / known.std(0) @ best[:3] + best[3]
    assert_allclose(learned_log_odds(known, labels, asked), expected, atol=1e-3)


def test_many_samples_are_thinned_alike_every_time() -> None:
    known, labels = _drawn(MOST_SAMPLES + 5_000)
    asked, _ = _drawn(10, seed=1)
    found = learned_log_odds(known, labels, asked)
    assert_array_equal(learned_log_odds(known, labels, asked), found)
    part = learned_log_odds(known[:MOST_SAMPLES], labels[:MOST_SAMPLES], asked)
    assert (found != part).any()
    assert_allclose(found, part, atol=0.2)


def test_a_sample_reads_the_same_in_any_company() -> None:
    known, labels = _drawn(200)
    asked, _ = _drawn(30, seed=1)
    whole = learned_log_odds(known, labels, asked.reshape(5, 6, 3))
    assert whole.shape == (5, 6)
    assert_array_equal(learned_log_odds(known, labels, asked[:7]), whole.ravel()[:7])


def test_samples_that_are_not_finite_are_left_out() -> None:
    known, labels = _drawn(200)
    asked, _ = _drawn(4, seed=1)
    broken = np.concatenate([known, [[np.nan, 0, 0], [0, np.inf, 0]]])
    found = learned_log_odds(broken, np.append(labels, [True, True]), asked)
    assert_allclose(found, learned_log_odds(known, labels, asked), rtol=1e-9)
    asked[1, 2], asked[2, 0] = np.nan, -np.inf
    assert_array_equal(np.isnan(learned_log_odds(known, labels, asked)), [False, True, True, False])


def test_one_label_says_nothing() -> None:
    known, labels = _drawn(20)
    for one in (np.ones_like(labels), np.zeros_like(labels)):
        assert np.isnan(learned_log_odds(known, one, known)).all()
    assert np.isnan(learned_log_odds(known[:0], labels[:0], known)).all()


def test_a_constant_feature_counts_nothing() -> None:
    known, labels = _drawn(200)
    wider = np.column_stack([known, np.full(200, 0.1)])
    assert_allclose(learned_log_odds(wider, labels, wider), learned_log_odds(known, labels, known), rtol=1e-6)
