from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from auditkit.statistics.imitation import forecast, next_original, overlaps, square_distances

SHARES = np.array([1.0, 1.0, 0.0, 0.0, 0.25, 0.75, 0.5])


def test_equal_shares_give_the_prediction_interval_of_a_mean() -> None:
    values = np.array([1.0, 2.0, 4.0, 5.0])
    found = forecast(values, np.ones(4))
    assert found.value == 3.0
    assert found.degrees == 3
    assert found.error == pytest.approx(values.std(ddof=1) * np.sqrt(1 + 1 / 4))
    assert found.half(0.05) == pytest.approx(stats.t.ppf(0.975, 3) * found.error)


def test_a_line_over_the_share_is_read_where_everything_is_held() -> None:
    found = forecast(2 + 3 * SHARES, SHARES)
    assert found.value == pytest.approx(5)
    assert found.error == pytest.approx(0, abs=1e-12)
    assert found.half(0.05) == pytest.approx(0, abs=1e-12)


def test_the_line_has_the_error_of_an_ordinary_prediction() -> None:
    values = SHARES + np.random.default_rng(0).standard_normal(7)
    fit = stats.linregress(SHARES, values)
    found = forecast(values, SHARES)
    rest = values - fit.intercept - fit.slope * SHARES
    leverage = 1 / 7 + (1 - SHARES.mean()) ** 2 / ((SHARES - SHARES.mean()) ** 2).sum()
    assert found.value == pytest.approx(fit.intercept + fit.slope)
    assert found.error == pytest.approx(np.sqrt((rest**2).sum() / 5 * (1 + leverage)))
    assert found.degrees == 5


def test_the_interval_misses_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(4000):
        values = rng.standard_normal(8)
        found = forecast(values[:7] + 0.5 * SHARES, SHARES)
        missed += abs(values[7] + 0.5 - found.value) > found.half(0.1)
    assert missed / 4000 == pytest.approx(0.1, abs=0.015)


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0]])
def test_too_few_systems_say_nothing_or_little(values: list[float]) -> None:
    found = forecast(values, np.linspace(0, 1, len(values)))
    assert found.value == pytest.approx(np.mean(values))
    assert found.degrees == len(values) - 1
    assert np.isinf(found.half(0.05)) == (len(values) == 1)


def test_originals_and_golds_scatter_alike() -> None:
    found = next_original([0.9, 1.1], [-0.3, 0.0, 0.3])
    assert found.value == pytest.approx(1)
    assert found.degrees == 3
    assert found.error == pytest.approx(np.sqrt((0.02 + 0.18) / 3 * 1.5))
    assert next_original([1.0], [-1.0, 1.0]).error == pytest.approx(np.sqrt(2 * 2))


def test_square_distances_estimate_the_variance_of_one_system() -> None:
    rng = np.random.default_rng(2)
    base, slope = rng.standard_normal((2, 4000))
    ours = base + SHARES[:, None] * slope + 0.5 * rng.standard_normal((7, 4000))
    away, own = square_distances(base + slope + 0.5 * rng.standard_normal(4000), ours, SHARES)
    assert own.shape == (7,)
    assert_allclose([away, *own], 0.25, rtol=0.15)
    farther, _ = square_distances(base + slope + 2 * rng.standard_normal(4000), ours, SHARES)
    assert farther > 8 * own.max()


def test_a_system_that_the_line_must_pass_through_is_left_out() -> None:
    rng = np.random.default_rng(3)
    ours = rng.standard_normal((3, 2000))
    away, own = square_distances(rng.standard_normal(2000), ours, [1.0, 0.0, 0.0])
    assert own.shape == (2,)
    assert_allclose([away, *own], 1.0, rtol=0.15)


def test_systems_without_noise_are_at_no_distance() -> None:
    ours = np.tile(np.arange(5.0), (4, 1))
    away, own = square_distances(ours[0], ours, np.ones(4))
    assert_allclose([away, *own], 0, atol=1e-24)


def test_overlaps_are_mean_jaccard_indices() -> None:
    ours = np.array([[[0, 1], [2, 3]], [[0, 1], [3, 4]], [[1, 5], [3, 4]]])
    mine, own = overlaps(ours[0], ours[1:])
    assert mine == pytest.approx(((1 + 1 / 3) / 2 + (1 / 3 + 1 / 3) / 2) / 2)
    assert_allclose(own, (1 / 3 + 1) / 2)


def test_empty_lists_do_not_count() -> None:
    ours = np.array([[[0, 1], [-1, -1]], [[0, 1], [-1, -1]]])
    mine, own = overlaps(ours[0], ours)
    assert mine == 1
    assert_allclose(own, 1)
    nothing = np.full((2, 2, 2), -1)
    mine, own = overlaps(nothing[0], nothing)
    assert np.isnan([mine, *own]).all()
