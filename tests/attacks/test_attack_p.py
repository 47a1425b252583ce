from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import rankdata

from auditkit.attacks.attack_p import AttackP
from auditkit.crossing import cross_score
from auditkit.data.dataset import Bools, Floats
from auditkit.deletion import Regime
from auditkit.errors import NotApplicableError
from auditkit.evidence import Evidence, Reading
from auditkit.testing import AttackTests
from auditkit.testing.examples import small_evidence


class TestAttackP(AttackTests):
    attack = AttackP()
    regimes: ClassVar[tuple[Regime, ...]] = ("interaction",)

    def test_against_a_loop(self) -> None:
        for _, evidence in self.examples():
            reading, outside = _read(evidence)
            level = cross_score(self.attack, evidence).level
            for target in evidence.rows("original", "gold"):
                values = reading.values["margin"][target]
                for point in (0, 20, 50, 94, int(np.flatnonzero(outside)[4])):
                    below = sum(1.0 if v < values[point] else 0.5 if v == values[point] else 0 for v in values[outside])
                    share = np.clip(below / outside.sum(), 0.5 / outside.sum(), 1 - 0.5 / outside.sum())
                    assert_allclose(level[target, reading.unit[point]], np.log(share / (1 - share)))

    def test_population_pairs_have_their_own_ranks(self) -> None:
        """scipy's average ranks (ties shared), less a half: so that each false positive rate has its threshold."""
        _, evidence = next(self.examples())
        reading, outside = _read(evidence)
        values = np.asarray(np.round(reading.values["margin"][:1]))
        level = self.score(evidence, np.array([0]), margin=values).level[0]
        share = (rankdata(values[0, outside]) - 0.5) / outside.sum()
        assert len(np.unique(share)) < outside.sum() / 4
        assert_allclose(level[reading.unit[outside]], np.log(share / (1 - share)))


class TestAttackPOnZ(AttackTests):
    attack = AttackP("z")
    regimes: ClassVar[tuple[Regime, ...]] = ("interaction",)


@pytest.mark.parametrize("regime", ["user", "item"])
def test_requests_without_a_population_are_refused(regime: Regime) -> None:
    evidence = small_evidence(AttackP().probes, regime)
    assert evidence is not None
    with pytest.raises(NotApplicableError, match="nobody was trained on"):
        cross_score(AttackP(), evidence)


def test_beyond_the_population_all_read_the_same_and_infinite_is_no_answer() -> None:
    level, outside = _scored([5.0, 50.0, -5.0, np.inf, -np.inf, np.nan])
    n = outside.sum()
    assert_allclose(level[:3], [np.log(2 * n - 1), np.log(2 * n - 1), -np.log(2 * n - 1)])
    assert np.isnan(level[3:6]).all()


def test_a_constant_signal_reads_the_middle() -> None:
    level, _ = _scored([], fill=3.0)
    assert_allclose(level, 0.0)


def test_only_answered_population_pairs_count() -> None:
    level, outside = _scored([0.5], hide=2)
    n = outside.sum() - 2
    assert_allclose(level[0], np.log((n - 0.5) / 0.5))
    silent, _ = _scored([0.5], hide=n + 2)
    assert np.isnan(silent).all()


def _read(evidence: Evidence) -> tuple[Reading, Bools]:
    reading = evidence.readings[AttackP().probes[0]]
    return reading, np.asarray(evidence.units["group"] == "outside")[reading.unit]


def _scored(first: list[float], fill: float = 0.0, hide: int = 0) -> tuple[Floats, Bools]:
    """One target that reads `fill` everywhere but at the first points; some population pairs are not answered."""
    kit = TestAttackP()
    _, evidence = next(kit.examples())
    _, outside = _read(evidence)
    values = np.full((1, len(outside)), fill)
    values[0, : len(first)] = first
    values[0, np.flatnonzero(outside)[:hide]] = np.nan
    return kit.score(evidence, np.array([0]), margin=values).level[0], outside
