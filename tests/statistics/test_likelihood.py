from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm

from auditkit.data.dataset import Bools, Floats
from auditkit.statistics.likelihood import fit_in_out, fit_sides, shrunken

seeds = st.integers(0, 2**32 - 1)


def references(seed: int, missing: float = 0.15, n: int = 10, points: int = 12) -> tuple[Floats, Bools]:
    rng = np.random.default_rng(seed)
    held = rng.random((n, points)) < 0.5
    values = rng.standard_normal((n, points)) * rng.gamma(3, 0.4, points) + 1.5 * held
    values[rng.random((n, points)) < missing] = np.nan
    return values, held


@given(seeds, st.sampled_from([0.0, 0.2, 0.6]))
def test_fit_against_a_loop_with_nan(seed: int, missing: float) -> None:
    values, held = references(seed, missing)
    fitted = fit_in_out(values, held)
    variances, squares, freedom = np.full(12, np.nan), np.zeros(2), np.zeros(2)
    typical = []
    for x in range(12):
        sides = [values[h & np.isfinite(values[:, x]), x] for h in (held[:, x], ~held[:, x])]
        for mean, side in zip((fitted.mean_in[x], fitted.mean_out[x]), sides, strict=True):
            assert_allclose(mean, side.mean() if len(side) else np.nan)
        assert fitted.usable[x] == all(len(side) for side in sides)
        if fitted.usable[x]:
            own = [((side - side.mean()) ** 2).sum() for side in sides]
            degrees = max(len(sides[0]) + len(sides[1]) - 2, 1)
            typical.append(degrees)
            variances[x] = sum(own) / degrees
            squares += own
            freedom += [len(side) - 1 for side in sides]
    if typical:
        expected = shrunken(variances, int(np.median(typical)))
        expected = np.where(np.isfinite(expected) & (expected > 0), expected, 1.0)
        assert_allclose(fitted.within, expected)
        pooled = squares / np.maximum(freedom, 1)
        assert_allclose([fitted.pooled_in, fitted.pooled_out], np.where(pooled > 0, pooled, 1.0))
        weights = np.where(fitted.usable, (fitted.mean_in - fitted.mean_out) / expected, 0.0)
        assert_allclose(fitted.weights(), weights)


def test_points_that_nobody_answers_change_nothing_for_the_others() -> None:
    """Half of the points of a fold-in probe are told and read NaN."""
    values, held = references(3, missing=0.0)
    told = np.full((10, 12), np.nan)
    alone = fit_in_out(values, held)
    beside = fit_in_out(np.hstack([values, told]), np.hstack([held, held]))
    assert_array_equal(beside.usable, np.r_[alone.usable, np.zeros(12, bool)])
    assert_allclose(beside.within[:12], alone.within, rtol=1e-12)
    assert_allclose(beside.weights(), np.r_[alone.weights(), np.zeros(12)], rtol=1e-12)
    assert_allclose([beside.pooled_in, beside.pooled_out], [alone.pooled_in, alone.pooled_out])


def test_a_point_that_all_hold_has_no_weight() -> None:
    values, held = references(4, missing=0.0)
    held[:, 0], held[:, 1] = True, False
    fitted = fit_in_out(values, held)
    assert not fitted.usable[:2].any()
    assert not fitted.weights()[:2].any()
    assert not fitted.middle()[:2].any()
    assert not fitted.log_ratio(values[0])[:2].any()


def test_nothing_answered_is_nothing_usable() -> None:
    fitted = fit_in_out(np.full((6, 3), np.nan), np.ones((6, 3), bool))
    assert not fitted.usable.any()
    assert not fitted.weights().any()


@given(seeds)
def test_log_ratio_against_scipy(seed: int) -> None:
    values, held = references(seed, missing=0.0)
    fitted = fit_in_out(values, held)
    expected = norm.logpdf(values, fitted.mean_in, fitted.pooled_in**0.5) - norm.logpdf(
        values, fitted.mean_out, fitted.pooled_out**0.5
    )
    assert_allclose(fitted.log_ratio(values), np.where(fitted.usable, expected, 0.0), rtol=1e-9, atol=1e-9)


def test_log_ratio_with_equal_variances_is_the_linear_score() -> None:
    rng = np.random.default_rng(0)
    half = rng.standard_normal((2_000, 5))
    values, held = np.vstack([half + 1, half - 1]), np.repeat([True, False], 2_000)[:, None] & np.ones(5, bool)
    fitted = fit_in_out(values, held)
    assert fitted.pooled_in == pytest.approx(fitted.pooled_out)
    linear = fitted.weights() * (values[:3] - fitted.middle())
    assert_allclose(fitted.log_ratio(values[:3]), linear * fitted.within / fitted.pooled_in, rtol=1e-6)


def test_constant_references_give_plain_differences() -> None:
    """A deterministic procedure whose references agree within each side has no scatter to divide by."""
    held = np.repeat([True, False], 4)[:, None] & np.ones(3, bool)
    values = np.where(held, [3.0, 1.0, 2.0], [1.0, 1.0, 4.0])
    fitted = fit_in_out(values, held)
    assert_array_equal(fitted.within, np.ones(3))
    assert_array_equal(fitted.weights(), [2.0, 0.0, -2.0])
    assert (fitted.pooled_in, fitted.pooled_out) == (1.0, 1.0)


# --- shrinkage ---------------------------------------------------------------------------------------------------


def test_one_common_variance_becomes_the_mean() -> None:
    rng = np.random.default_rng(1)
    raw = 2.5 * rng.chisquare(14, 4_000) / 14
    drawn = shrunken(raw, 14)
    assert drawn.std() < 0.15 * raw.std()
    assert drawn.mean() == pytest.approx(2.5, rel=0.02)


def test_variances_that_differ_much_stay_near_their_own() -> None:
    rng = np.random.default_rng(2)
    true = rng.lognormal(sigma=1.5, size=4_000)
    raw = true * rng.chisquare(30, 4_000) / 30
    drawn = shrunken(raw, 30)
    assert np.corrcoef(np.log(drawn), np.log(true))[0, 1] > 0.9
    assert_allclose(drawn, raw, rtol=0.05, atol=0.05 * raw.mean())


@pytest.mark.parametrize("degrees", [6, 14, 30])
def test_shrinking_is_closer_to_the_truth_than_either_end(degrees: int) -> None:
    rng = np.random.default_rng(degrees)
    true = rng.gamma(8, 1 / 8, 4_000)
    raw = true * rng.chisquare(degrees, 4_000) / degrees
    errors = [
        float(((guess - true) ** 2).mean()) for guess in (shrunken(raw, degrees), raw, np.full(4_000, raw.mean()))
    ]
    assert errors[0] < min(errors[1:])


@given(seeds, st.integers(1, 40), st.floats(0.01, 100))
def test_shrinking_keeps_mean_order_scale_and_nan(seed: int, degrees: int, factor: float) -> None:
    raw = np.random.default_rng(seed).gamma(1.0, 1.0, 20)
    raw[3] = np.nan
    drawn = shrunken(raw, degrees)
    known = np.isfinite(raw)
    assert_array_equal(np.isfinite(drawn), known)
    assert_allclose(drawn[known].mean(), raw[known].mean())
    assert (np.diff(drawn[known][np.argsort(raw[known])]) >= -1e-12).all()
    assert np.ptp(drawn[known]) <= np.ptp(raw[known]) + 1e-12
    assert_allclose(shrunken(factor * raw, degrees), factor * drawn, rtol=1e-6)
    assert (drawn[known] > 0).all()


def test_nothing_known_stays_unknown() -> None:
    assert np.isnan(shrunken(np.full(3, np.nan), 5)).all()


@given(seed=st.integers(0, 10_000))
def test_pattern_weights_are_blind_to_a_shift_and_point_along_the_contrast(seed: int) -> None:
    rng = np.random.default_rng(seed)
    held = rng.permuted(np.arange(8)[:, None] % 2 == np.zeros(30, int), axis=0)
    gain = rng.gamma(2.0, size=30)
    # Variances that grow with the contrast: w - mean(w) would point against it.
    values = gain * held + gain**2 * rng.normal(size=(8, 30))
    values[:, 4] = np.nan
    fitted = fit_in_out(values, held)
    weights = fitted.pattern_weights()
    contrast = np.where(fitted.usable, fitted.mean_in - fitted.mean_out, 0.0)
    assert abs(weights.sum()) < 1e-9 * np.abs(weights).sum()
    assert weights[4] == 0
    assert weights @ contrast >= 0
    centre = np.average(contrast[fitted.usable], weights=1 / fitted.within[fitted.usable])
    assert_allclose(weights[fitted.usable], ((contrast - centre) / fitted.within)[fitted.usable], rtol=1e-9, atol=1e-9)


def test_without_a_usable_point_there_is_no_pattern() -> None:
    fitted = fit_in_out(np.zeros((3, 2)), np.ones((3, 2), np.bool_))
    assert (fitted.pattern_weights() == 0).all()


# --- sides -------------------------------------------------------------------------------------------------------


@given(seeds, st.sampled_from([0.0, 0.3, 0.7]))
def test_sides_against_numpy(seed: int, missing: float) -> None:
    values, held = references(seed, missing)
    for side, member in zip(fit_sides(values, held), (True, False), strict=True):
        samples = [values[(held[:, x] == member) & np.isfinite(values[:, x]), x] for x in range(12)]
        assert_array_equal(side.n, [len(s) for s in samples])
        assert_allclose(side.mean, [s.mean() if len(s) else np.nan for s in samples])
        assert_allclose(side.own, [s.var(ddof=1) if len(s) > 1 else np.nan for s in samples])
        freedom = sum(max(len(s) - 1, 0) for s in samples)
        total = sum(((s - s.mean()) ** 2).sum() for s in samples if len(s))
        assert side.pooled == pytest.approx(total / freedom if total else 1.0)


@given(seeds)
def test_log_ratio_per_point_against_scipy(seed: int) -> None:
    """A point with fewer than two references of a side takes that side's pooled variance."""
    values, held = references(seed, missing=0.0, n=6)
    fitted = fit_in_out(values, held)
    expected = []
    for member, pooled in ((True, fitted.pooled_in), (False, fitted.pooled_out)):
        samples = [values[held[:, x] == member, x] for x in range(12)]
        spread = np.sqrt([s.var(ddof=1) if len(s) > 1 else pooled for s in samples])
        expected.append(norm.logpdf(values, [s.mean() if len(s) else np.nan for s in samples], spread))
    found = np.where(fitted.usable, expected[0] - expected[1], 0.0)
    assert_allclose(fitted.log_ratio(values, per_point=True), found, rtol=1e-9, atol=1e-9)


@given(seeds, st.booleans())
def test_log_tail_against_scipy(seed: int, per_point: bool) -> None:
    values, held = references(seed, missing=0.0)
    outside = fit_sides(values, held)[1]
    variance = np.where(outside.n > 1, outside.own, outside.pooled) if per_point else outside.pooled
    expected = norm.logcdf(values, outside.mean, np.sqrt(variance))
    assert_allclose(outside.log_tail(values, per_point=per_point), expected, rtol=1e-9)


def test_log_tail_orders_what_lies_far_below() -> None:
    outside = fit_sides(np.array([[0.0], [1.0]]), np.zeros((2, 1), np.bool_))[1]
    tails = outside.log_tail(np.array([[-1e3], [-1e2], [0.5], [1e3]]))[:, 0]
    assert np.isfinite(tails).all()
    assert (np.diff(tails) > 0).all()
    assert tails[2] == pytest.approx(np.log(0.5))


def test_a_point_whose_references_agree_takes_the_pooled_variance() -> None:
    values = np.array([[1.0, 0.0], [1.0, 2.0], [1.0, 4.0]])
    side = fit_sides(values, np.ones((3, 2), np.bool_))[0]
    assert side.pooled == pytest.approx(2.0)
    assert_allclose(side.variance(side.pooled, per_point=True), [2.0, 4.0])
    assert side.variance(side.pooled, per_point=False) == side.pooled
