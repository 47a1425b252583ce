from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.stats import invgamma, norm, t

from auditkit.data.dataset import Bools, Floats
from auditkit.statistics.likelihood import Side, fit_sides
from auditkit.statistics.predictive import Prior, fit_priors, log_predictive
from auditkit.statistics.units import moderated_variances

PRIOR = Prior(mean=0.4, weight=0.7, variance=1.3, degrees=5.0)


def side_of(sample: Floats) -> Side:
    """One point's references, all on one side."""
    return fit_sides(sample[:, None], np.ones((len(sample), 1), np.bool_))[0]


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("x", [-1.5, 0.6, 4.0])
def test_against_the_posterior_predictive_integrated_numerically(n: int, x: float) -> None:
    """Integral of N(x) over likelihood times prior of mean and variance, over the same without x."""
    sample = np.random.default_rng(n).normal(1.0, 1.2, n)
    mean = np.linspace(-30, 30, 2_001)[:, None]
    log_deviation = np.linspace(np.log(0.1), np.log(40), 501)
    deviation = np.exp(log_deviation)
    variances = invgamma(PRIOR.degrees / 2, scale=PRIOR.degrees * PRIOR.variance / 2)
    # Over the logarithm of the deviation, d sigma^2 = 2 sigma^2 d log sigma.
    joint = norm.pdf(mean, 0.4, deviation / 0.7**0.5) * variances.pdf(deviation**2) * 2 * deviation**2
    for value in sample:
        joint = joint * norm.pdf(value, mean, deviation)
    both, without = (
        np.trapezoid(np.trapezoid(part, mean[:, 0], axis=0), log_deviation)
        for part in (joint * norm.pdf(x, mean, deviation), joint)
    )
    assert_allclose(log_predictive(np.array([x]), side_of(sample), PRIOR), np.log(both / without), atol=1e-4)


def test_it_is_a_density() -> None:
    side = side_of(np.array([0.3, 2.0]))
    assert quad(lambda x: float(np.exp(log_predictive(np.array([x]), side, PRIOR))[0]), -np.inf, np.inf)[
        0
    ] == pytest.approx(1)


def test_a_point_without_references_has_the_priors_predictive() -> None:
    side = Side(np.array([0]), np.array([np.nan]), np.array([0.0]))
    expected = t.logpdf([0.0, 2.0], 5.0, 0.4, np.sqrt(1.3 * (1 + 1 / 0.7)))
    assert_allclose(log_predictive(np.array([[0.0], [2.0]]), side, PRIOR)[:, 0], expected)


def test_many_references_outweigh_the_prior() -> None:
    sample = np.random.default_rng(0).normal(3.0, 2.0, 4_000)
    expected = norm.logpdf(4.0, sample.mean(), sample.std())
    assert_allclose(log_predictive(np.array([4.0]), side_of(sample), PRIOR), expected, atol=2e-3)


def test_heavy_priors_give_a_normal() -> None:
    prior = Prior(0.0, 1e6, 2.0, 1e6)
    expected = norm.logpdf([0.0, 3.0, -5.0], 0.0, 2.0**0.5)
    found = [log_predictive(np.array([x]), side_of(np.array([0.1])), prior)[0] for x in (0.0, 3.0, -5.0)]
    assert_allclose(found, expected, atol=1e-4)


def drawn(per_side: int, points: int = 20_000, seed: int = 0) -> tuple[Side, Side, Bools]:
    """References of a world that the model describes: degrees 10, variance .5; means scatter with weight .25."""
    rng = np.random.default_rng(seed)
    variances = 0.5 * 10 / rng.chisquare(10, points)
    means = 1.0 + rng.normal(size=points) * np.sqrt(variances / 0.25)
    held = np.repeat([True, False], per_side)[:, None] & np.ones(points, np.bool_)
    values = means + 1.5 * held + rng.normal(size=held.shape) * np.sqrt(variances)
    return *fit_sides(values, held), np.ones(points, np.bool_)


@pytest.mark.parametrize("per_side", [2, 4, 16])
def test_the_prior_is_found_again(per_side: int) -> None:
    inside, outside = fit_priors(*drawn(per_side))
    assert inside.mean == pytest.approx(2.5, abs=0.05)
    assert outside.mean == pytest.approx(1.0, abs=0.05)
    for prior in (inside, outside):
        assert prior.variance == pytest.approx(0.5, rel=0.1)
        # Two values tell little of how variances differ: 20,000 points still leave the degrees uncertain.
        assert prior.degrees == pytest.approx(10, rel=0.5 if per_side == 2 else 0.2)
        # The weight is against the prior variance, which lies below the mean one by (degrees - 2) / degrees.
        assert prior.weight == pytest.approx(0.25 * 0.8, rel=0.15)


def test_one_reference_a_side_takes_the_scatter_of_the_differences() -> None:
    inside, outside, usable = drawn(1)
    for prior in fit_priors(inside, outside, usable):
        assert prior.variance == pytest.approx((inside.mean - outside.mean).var() / 2)
        # The mean variance, 10/8 of the prior's: every contrast is the same here.
        assert prior.variance == pytest.approx(0.625, rel=0.05)
        assert prior.degrees == 4.0


def test_variances_are_smyths() -> None:
    inside, outside, usable = drawn(4, points=300)
    expected = moderated_variances(inside.squares / 3, 3)
    found = fit_priors(inside, outside, usable)[0]
    assert (found.variance, found.degrees) == (expected.prior_variance, expected.prior_degrees)


def test_too_few_points_for_a_prior_pool_their_variances() -> None:
    inside, outside, usable = drawn(5, points=10)
    prior = fit_priors(inside, outside, usable)[0]
    assert prior.variance == pytest.approx(inside.squares.sum() / 40)
    assert prior.degrees == 4.0


def test_one_point_and_one_reference_a_side_is_judged_on_the_scale_of_the_signal() -> None:
    inside, outside, usable = drawn(1, points=1)
    prior_in, prior_out = fit_priors(inside, outside, usable)
    assert (prior_in.variance, prior_out.variance) == (1.0, 1.0)
    assert (prior_in.mean, prior_out.mean) == (inside.mean[0], outside.mean[0])


def test_equal_means_are_one_mean() -> None:
    """No scatter between points beyond noise: a new point is expected where all are."""
    held = np.repeat([True, False], 4)[:, None] & np.ones(500, np.bool_)
    values = np.random.default_rng(5).normal(size=held.shape)
    values -= values.mean(0)
    prior = fit_priors(*fit_sides(values, held), np.ones(500, np.bool_))[0]
    assert prior.weight == 1e6
