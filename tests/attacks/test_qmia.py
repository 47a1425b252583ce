from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from auditkit.attacks.qmia import MIN_POPULATION, Qmia
from auditkit.crossing import cross_score
from auditkit.data.dataset import Bools, Floats
from auditkit.deletion import Regime
from auditkit.errors import NotApplicableError
from auditkit.evidence import Evidence, Targets
from auditkit.testing import AttackTests
from auditkit.testing.examples import small_case, small_evidence


def metadata(evidence: Evidence) -> tuple[Floats, Bools]:
    """Log degrees of every point in the retained data, counted in the data itself, and which points are outside."""
    kept = small_case("interaction").retain.train
    points = evidence.readings[Qmia().probes[0]].points
    users, items = (pd.Series(ids).value_counts() for ids in (kept.users, kept.items))
    activity = points["user"].map(users).fillna(0)
    popularity = points["item"].map(items).fillna(0)
    outside = np.asarray(evidence.units["group"] == "outside")[points["unit"]]
    return np.log1p(np.column_stack([activity, popularity])), outside


def naive(values: Floats, degrees: Floats, outside: Bools) -> Floats:
    """Least squares, then the Gaussian likelihood of the residuals maximised over a log-linear variance."""
    held = np.clip(degrees, degrees[outside].min(0), degrees[outside].max(0))
    full = np.column_stack([np.ones(len(held)), held - held[outside].mean(0)])
    residuals = values - full @ np.linalg.lstsq(full[outside], values[outside], rcond=None)[0]

    def cost(b: Floats) -> float:
        log_variance = full[outside] @ b
        return float((log_variance + residuals[outside] ** 2 / np.exp(log_variance)).mean())

    found = minimize(cost, np.zeros(3), method="BFGS", options={"gtol": 1e-9}).x
    return np.asarray(residuals / np.exp(full @ found / 2))


class TestQmia(AttackTests):
    attack = Qmia()
    regimes: ClassVar[tuple[Regime, ...]] = ("interaction",)

    def test_against_maximum_likelihood(self) -> None:
        for _, evidence in self.examples():
            reading = evidence.readings[self.attack.probes[0]]
            degrees, outside = metadata(evidence)
            level = cross_score(self.attack, evidence).level
            for target in evidence.rows("original", "gold")[:3]:
                expected = naive(reading.values["softmax"][target], degrees, outside)
                assert_allclose(level[target, reading.unit], expected, rtol=1e-3, atol=1e-3)

    def test_popularity_and_activity_explain_nothing_of_the_population(self) -> None:
        for _, evidence in self.examples():
            degrees, outside = metadata(evidence)
            unit = evidence.readings[self.attack.probes[0]].unit[outside]
            level = cross_score(self.attack, evidence).level[0, unit]
            assert_allclose(level.std(), 1.0, atol=0.05)
            assert np.abs(np.corrcoef(np.column_stack([level, degrees[outside]]).T)[0, 1:]).max() < 0.1


class TestQmiaOnZ(AttackTests):
    attack = Qmia("z")
    regimes: ClassVar[tuple[Regime, ...]] = ("interaction",)


@pytest.mark.parametrize("regime", ["user", "item"])
def test_requests_without_a_population_are_refused(regime: Regime) -> None:
    evidence = small_evidence(Qmia().probes, regime)
    assert evidence is not None
    with pytest.raises(NotApplicableError, match="nobody was trained on"):
        cross_score(Qmia(), evidence)


def test_a_signal_that_follows_from_popularity_alone_is_no_memory() -> None:
    evidence = small_evidence(Qmia().probes, "interaction")
    assert evidence is not None
    degrees, outside = metadata(evidence)
    rng = np.random.default_rng(0)
    follows = 3 * degrees[:, 1] - degrees[:, 0] + 0.1 * rng.normal(size=len(degrees))
    level = _scored(evidence, follows)
    assert abs(level[:95].mean()) < 0.5
    assert _scored(evidence, follows + np.where(outside, 0.0, 0.2))[:95].mean() > 1.0


@pytest.mark.parametrize(("known", "told"), [(MIN_POPULATION, True), (MIN_POPULATION - 1, False), (0, False)])
def test_a_small_population_says_nothing(known: int, told: bool) -> None:
    evidence = small_evidence(Qmia().probes, "interaction")
    assert evidence is not None
    _, outside = metadata(evidence)
    values = evidence.readings[Qmia().probes[0]].values["softmax"][0].copy()
    values[np.flatnonzero(outside)[known:]] = np.nan
    assert np.isfinite(_scored(evidence, values)[:95]).all() == told
    assert np.isnan(_scored(evidence, values)[:95]).all() != told


def test_constant_infinite_and_exactly_explained_signals() -> None:
    evidence = small_evidence(Qmia().probes, "interaction")
    assert evidence is not None
    degrees, outside = metadata(evidence)
    assert np.isnan(_scored(evidence, np.full(len(degrees), 2.0))).all()
    values = evidence.readings[Qmia().probes[0]].values["softmax"][0].copy()
    values[:2] = np.inf, -np.inf
    level = _scored(evidence, values)
    assert np.isnan(level[:2]).all()
    assert np.isfinite(level[2:95]).all()
    # One exact hit among the population does not shrink the deviation elsewhere.
    values = np.where(outside, np.sign(np.arange(len(outside)) % 2 - 0.5), 0.0)
    values[np.flatnonzero(outside)[0]] = 0.0
    assert np.isfinite(_scored(evidence, values)).all()


def test_covariates_that_do_not_vary_explain_nothing() -> None:
    """All users as active, all items as popular: the score is the plain z within the population."""
    evidence = small_evidence(Qmia().probes, "interaction")
    assert evidence is not None
    _, outside = metadata(evidence)
    # The degrees less the forgotten pairs are the same for everybody.
    units = evidence.units.copy()
    forgotten = units[units["group"] == "forget"]
    for degree, who in (("activity", "user"), ("popularity", "item")):
        units[degree] = 20 + units[who].map(forgotten[who].value_counts()).fillna(0).astype(np.int64)
    alike = Evidence(evidence.systems, units, evidence.seen, evidence.held, evidence.readings)
    values = evidence.readings[Qmia().probes[0]].values["softmax"][0]
    expected = (values - values[outside].mean()) / values[outside].std()
    assert_allclose(_scored(alike, values), expected, rtol=1e-5)


def _scored(evidence: Evidence, values: Floats) -> Floats:
    """Scores of one target that reads these values."""
    probe = Qmia().probes[0]
    reading = evidence.readings[probe]
    mine = type(reading)(reading.points, {"softmax": values[None]}, reading.n_units)
    level: Floats = Qmia().score(Targets({probe: mine}), evidence.take(evidence.rows("reference"))).level[0]
    return level
