from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm

from auditkit.attacks.user_aggregate import UserAggregate
from auditkit.crossing import cross_score
from auditkit.errors import NotApplicableError
from auditkit.evidence import Evidence, Reading
from auditkit.probes import Pairs
from auditkit.statistics.likelihood import shrunken
from auditkit.testing import AttackTests
from auditkit.testing.examples import small_evidence


class _AggregateTests(AttackTests):
    attack: ClassVar[UserAggregate]
    regimes = ("user",)

    def aggregate(self, evidence: Evidence, row: int, unit: int) -> float:
        """One system's aggregate over one user's pairs, by hand."""
        reading = evidence.readings[Pairs()]
        values = reading.values["z"][row, reading.unit == unit]
        return {"mean": float(values.mean()), "min": float(values.min()), "max": float(values.max())}[
            self.attack.aggregate
        ]

    def test_against_a_loop(self) -> None:
        for case, evidence in self.examples():
            refs, units = evidence.rows("reference"), np.flatnonzero(case.forget)
            difference, middle, variance = (np.empty(len(units)) for _ in range(3))
            for k, unit in enumerate(units.tolist()):
                seen = np.array([self.aggregate(evidence, r, unit) for r in refs.tolist()])
                inside, outside = seen[evidence.held[refs, unit]], seen[~evidence.held[refs, unit]]
                difference[k], middle[k] = inside.mean() - outside.mean(), (inside.mean() + outside.mean()) / 2
                squares = ((inside - inside.mean()) ** 2).sum() + ((outside - outside.mean()) ** 2).sum()
                variance[k] = squares / (len(refs) - 2)
            within = shrunken(variance, len(refs) - 2)
            of_pattern = (difference - np.average(difference, weights=1 / within)) / within
            scores, target = cross_score(self.attack, evidence), int(evidence.rows("unlearned")[0])
            away = np.array([self.aggregate(evidence, target, unit) for unit in units.tolist()]) - middle
            assert scores.pattern is not None
            assert scores.n_points == len(units)
            assert_allclose(scores.level[target, units], difference / within * away, rtol=1e-7)
            assert_allclose(scores.pattern[target, units], of_pattern * away, rtol=1e-7, atol=1e-9)

    def test_retained_users_read_nan(self) -> None:
        for case, evidence in self.examples():
            assert np.isnan(self.score(evidence, self.targets(evidence)).level[:, ~case.forget]).all()


class TestMean(_AggregateTests):
    attack = UserAggregate("mean")


class TestMin(_AggregateTests):
    attack = UserAggregate("min")


class TestMax(_AggregateTests):
    attack = UserAggregate("max")


class TestLogRatio(_AggregateTests):
    attack = UserAggregate("llr")

    def aggregate(self, evidence: Evidence, row: int, unit: int) -> float:
        reading, refs = evidence.readings[Pairs()], np.setdiff1d(evidence.rows("reference"), [row])
        points = np.flatnonzero(evidence.held[refs].any(0)[reading.unit] & ~evidence.held[refs].all(0)[reading.unit])
        held, values = evidence.held[np.ix_(refs, reading.unit[points])], reading.values["z"][np.ix_(refs, points)]
        means, deviations = [], []
        for side in (held, ~held):
            mean = np.array([values[s, k].mean() for k, s in enumerate(side.T)])
            variance = ((values - mean)[side] ** 2).sum() / (side.sum(0) - 1).sum()
            means.append(mean)
            deviations.append(variance**0.5)
        asked = reading.values["z"][row, points]
        ratio = norm.logpdf(asked, means[0], deviations[0]) - norm.logpdf(asked, means[1], deviations[1])
        return float(np.asarray(ratio)[reading.unit[points] == unit].sum())


@pytest.mark.parametrize("aggregate", ["mean", "min", "max", "llr"])
@pytest.mark.parametrize("regime", ["interaction", "item"])
def test_other_requests_name_no_users(aggregate: str, regime: str) -> None:
    evidence = small_evidence((Pairs(),), regime)
    assert evidence is not None
    with pytest.raises(NotApplicableError, match="does not name users"):
        cross_score(UserAggregate(aggregate), evidence)  # type: ignore[arg-type]


@pytest.mark.parametrize("signal", ["rank", "margin", "softmax"])
def test_every_signal_separates_original_from_golds(signal: str) -> None:
    class Case(AttackTests):
        attack = UserAggregate("mean", signal)  # type: ignore[arg-type]
        regimes = ("user",)

    Case().test_higher_means_more_remembered()


def test_constant_scores_read_0() -> None:
    evidence = small_evidence((Pairs(),), "user")
    assert evidence is not None
    reading = evidence.readings[Pairs()]
    flat = {name: np.full_like(values, 0.3) for name, values in reading.values.items()}
    changed = replace(evidence, readings={Pairs(): Reading(reading.points, flat, reading.n_units)})
    for attack in (UserAggregate("mean"), UserAggregate("max"), UserAggregate("llr")):
        level = cross_score(attack, changed).level
        named = np.asarray(evidence.units["group"] == "forget")
        assert_allclose(level[np.ix_(evidence.rows("original", "gold"), named)], 0.0, atol=1e-12)


def test_it_runs_when_named() -> None:
    assert UserAggregate.battery() == ()
    assert [attack.aggregate for attack in UserAggregate.variants()] == ["mean", "min", "max", "llr"]
