from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.stats import norm

from auditkit.attacks.iam import Iam, completeness
from auditkit.linear import fit_references
from auditkit.probes import Pairs
from auditkit.testing import AttackTests


class TestIam(AttackTests):
    attack = Iam()

    def test_against_numerical_integration(self) -> None:
        for case, evidence in self.examples():
            background, rows = self.background(evidence), self.targets(evidence)
            known, reading = background.readings[Pairs()], evidence.readings[Pairs()]
            fitted, _ = fit_references(known, known.values["z"], background)
            level = self.score(evidence, rows).level
            for unit in np.flatnonzero(case.forget)[:2]:
                z = reading.values["z"][rows[0]]
                expected = [
                    _integrated(z[p], fitted.mean_in[p], fitted.mean_out[p], fitted.within[p])
                    for p in np.flatnonzero(reading.unit == unit)
                ]
                assert_allclose(level[0, unit], np.mean(expected), atol=1e-3)

    def test_between_its_bounds_and_no_pattern(self) -> None:
        for case, evidence in self.examples():
            scores = self.score(evidence, self.targets(evidence))
            assert scores.pattern is None
            known = scores.level[:, case.forget]
            assert np.nanmin(known) > -1
            assert np.nanmax(known) < 2
            assert np.isnan(scores.level[:, ~case.forget]).all()


@pytest.mark.parametrize("signal", ["rank", "margin", "softmax"])
def test_every_signal_separates_original_from_golds(signal: str) -> None:
    class Case(AttackTests):
        attack = Iam(signal)  # type: ignore[arg-type]

    Case().test_higher_means_more_remembered()


def _integrated(value: float, mean_in: float, mean_out: float, variance: float) -> float:
    """Posterior mean by adaptive quadrature, the likelihood relative to its largest on [-1, 2]."""
    best = float(np.clip((value - mean_out) / (mean_in - mean_out), -1, 2))

    def log_density(lam: float) -> float:
        return float(norm.logpdf(value, (1 - lam) * mean_out + lam * mean_in, np.sqrt(variance)))

    def moment(power: int) -> float:
        def integrand(lam: float) -> float:
            return float(lam**power * np.exp(log_density(lam) - log_density(best)))

        return float(quad(integrand, -1, 2, points=[best], limit=500)[0])

    return moment(1) / moment(0)


@pytest.mark.parametrize("value", [-40.0, -3.0, 0.2, 1.0, 2.5, 60.0])
@pytest.mark.parametrize(("contrast", "variance"), [(1.0, 0.04), (-2.0, 1.0), (0.3, 9.0)])
def test_posterior_mean_of_one_point(value: float, contrast: float, variance: float) -> None:
    found = completeness(np.array([[value]]), np.array([0.5 + contrast]), np.array([0.5]), np.array([variance]))[0, 0]
    # A likelihood that falls by more than e within a step of the grid is read as the grid's end.
    here = (value - 0.5) / contrast
    slope = contrast**2 / variance * max(here - 2, -1 - here, 0)
    assert_allclose(found, _integrated(value, 0.5 + contrast, 0.5, variance), atol=0.02 if slope > 10 else 1e-3)


def test_a_point_without_a_contrast_reads_half() -> None:
    assert_allclose(completeness(np.array([[5.0], [-5.0]]), *np.ones((3, 1))), 0.5)


def test_deterministic_references_read_the_place_itself() -> None:
    given = np.ones(4), np.zeros(4), np.full(4, 1e-20)
    values = np.array([[0.0, 1.0, 0.35, -0.5]])
    assert_allclose(completeness(values, *given), values, atol=1e-6)
    assert_allclose(completeness(np.array([[9.0, -9.0, 1e9, -1e9]]), *given), [[2, -1, 2, -1]], atol=0.02)


def test_what_is_not_answered_reads_nan() -> None:
    missing = np.array([1.0, 1.0, 1.0, np.nan])
    found = completeness(np.array([[np.nan, np.inf, 0.5, 0.5]]), missing, np.zeros(4), np.ones(4))
    assert np.isnan(found[0, [0, 1, 3]]).all()
    assert_allclose(found[0, 2], 0.5)


def test_it_is_a_note_that_runs_when_named() -> None:
    assert Iam.battery() == ()
    assert [attack.signal for attack in Iam.variants()] == ["z", "rank", "margin", "softmax"]
    assert not Iam.fails_in
