from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import t

from auditkit.attacks.bavaria_t import BavariaT
from auditkit.crossing import cross_score
from auditkit.data.dataset import Floats
from auditkit.evidence import Evidence, Reading, Targets
from auditkit.statistics.likelihood import fit_sides
from auditkit.statistics.predictive import Prior, fit_priors
from auditkit.testing import AttackTests


def predictive(x: float, sample: Floats, prior: Prior) -> float:
    """Log density of x after the sample, from the textbook's update of (mean, weight, alpha, beta)."""
    n, weight, alpha, beta = len(sample), prior.weight, prior.degrees / 2, prior.degrees * prior.variance / 2
    after = weight + n
    mean = (weight * prior.mean + sample.sum()) / after
    alpha += n / 2
    beta += ((sample - sample.mean()) ** 2).sum() / 2 + weight * n * (sample.mean() - prior.mean) ** 2 / (2 * after)
    return float(t.logpdf(x, 2 * alpha, mean, np.sqrt(beta * (after + 1) / (alpha * after))))


class TestBavariaT(AttackTests):
    attack = BavariaT()

    def test_against_scipy_point_by_point(self) -> None:
        for case, evidence in self.examples():
            reading = evidence.readings[self.attack.probes[0]]
            z, refs = reading.values["z"], evidence.rows("reference")
            inside, outside = fit_sides(z[refs], evidence.held[refs][:, reading.unit])
            priors = fit_priors(inside, outside, case.forget[reading.unit])
            level = cross_score(self.attack, evidence).level[0]
            for unit in np.flatnonzero(case.forget)[:10]:
                held, total = evidence.held[refs, unit], 0.0
                for x in np.flatnonzero(reading.unit == unit):
                    one, other = z[refs[held], x], z[refs[~held], x]
                    total += predictive(z[0, x], one, priors[0]) - predictive(z[0, x], other, priors[1])
                # A prior of 10^6 degrees costs the gamma functions their last digits.
                assert_allclose(level[unit], total, rtol=1e-7, atol=1e-7)

    def test_retained_units_read_nan(self) -> None:
        for case, evidence in self.examples():
            level = cross_score(self.attack, evidence).level[0]
            assert np.isnan(level[~case.forget]).all()


class TestBavariaTOnSoftmax(AttackTests):
    attack = BavariaT("softmax")


@pytest.mark.parametrize("count", [2, 4])
def test_one_or_two_references_a_side_separate_original_from_golds(count: int) -> None:
    case, evidence = next(TestBavariaT().examples())
    level = _scored(evidence, count)[:, case.forget]
    assert np.isfinite(level).all()
    mean = level.mean(1)
    assert mean[evidence.rows("original")].min() > mean[evidence.rows("gold")].max()


def test_without_a_contrast_on_any_point_all_reads_nan() -> None:
    _, evidence = next(TestBavariaT().examples())
    assert np.isnan(_scored(evidence, 0)).all()


def test_references_that_agree_everywhere_separate_by_their_means() -> None:
    """Deterministic systems: no scatter, so the variance is 1 and the nearer side is the likelier."""
    case, evidence = next(TestBavariaT().examples())
    probe = BavariaT().probes[0]
    reading = evidence.readings[probe]
    z = np.where(evidence.held[:, reading.unit], 1.0, 0.0)
    parts = {probe: Reading(reading.points, {**reading.values, "z": z}, reading.n_units)}
    fixed = Evidence(evidence.systems, evidence.units, evidence.seen, evidence.held, parts)
    level = cross_score(BavariaT(), fixed).level[:, case.forget]
    assert (level[evidence.rows("original")] > 0).all()
    assert (level[evidence.rows("gold")] < 0).all()


def test_infinite_signals_are_no_answers() -> None:
    kit = TestBavariaT()
    case, evidence = next(kit.examples())
    z = evidence.readings[kit.attack.probes[0]].values["z"][:1].copy()
    z[0, :2] = np.inf, -np.inf
    level = kit.score(evidence, np.array([0]), z=z).level[0]
    assert np.isnan(level[:2]).all()
    assert np.isfinite(level[case.forget][2:]).all()


def _scored(evidence: Evidence, count: int) -> Floats:
    """Everybody's scores by the first references alone."""
    probe = BavariaT().probes[0]
    few = evidence.take(evidence.rows("reference")[:count])
    return BavariaT().score(Targets({probe: evidence.readings[probe]}), few).level
