from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import eig

from auditkit.attacks.lira_combined import SIGNALS, LiraCombined
from auditkit.attacks.lira_linear import LiraLinear
from auditkit.crossing import cross_score
from auditkit.data.dataset import Floats
from auditkit.evidence import Evidence, Reading
from auditkit.probes import Pairs
from auditkit.testing import AttackTests
from auditkit.testing.examples import small_evidence


class TestLiraCombined(AttackTests):
    attack = LiraCombined()

    def test_the_coefficients_against_a_loop(self) -> None:
        for case, evidence in self.examples():
            reading, refs = evidence.readings[Pairs()], evidence.rows("reference")
            within, between, count = np.zeros((4, 4)), np.zeros((4, 4)), 0
            for point in np.flatnonzero(case.forget[reading.unit]):
                held = evidence.held[refs, reading.unit[point]]
                answers = np.array([[reading.values[s][r, point] for s in SIGNALS] for r in refs])
                contrast = answers[held].mean(0) - answers[~held].mean(0)
                between += np.outer(contrast, contrast)
                for side in (held, ~held):
                    away = answers[side] - answers[side].mean(0)
                    within += away.T @ away / len(refs)
                count += 1
            scale = np.sqrt(np.diag(within + between) / count)
            lhs, rhs = between / count, within / count + 1e-3 * np.diag(scale**2)
            values, vectors = eig(lhs, rhs)
            expected = vectors[:, np.argmax(values.real)].real
            found = self.attack.coefficients(self.background(evidence))
            assert_allclose(found / found[0], expected / expected[0], rtol=1e-6)

    def test_it_is_the_linear_score_of_the_combination(self) -> None:
        for _, evidence in self.examples():
            coefficients = self.attack.coefficients(self.background(evidence))
            combined = sum(c * evidence.readings[Pairs()].values[s] for c, s in zip(coefficients, SIGNALS, strict=True))
            found, plain = cross_score(self.attack, evidence), cross_score(LiraLinear("z"), _with(evidence, z=combined))
            assert found.pattern is not None
            assert plain.pattern is not None
            assert_allclose(found.level, plain.level, rtol=1e-9)
            assert_allclose(found.pattern, plain.pattern, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("signal", SIGNALS)
    def test_the_unit_of_a_signal_does_not_matter(self, signal: str) -> None:
        for _, evidence in self.examples():
            scaled = _with(evidence, **{signal: -1e4 * evidence.readings[Pairs()].values[signal]})
            one, other = cross_score(self.attack, evidence), cross_score(self.attack, scaled)
            assert_allclose(other.level, one.level, rtol=1e-6, atol=1e-6)

    def test_a_constant_signal_and_multiples(self) -> None:
        for case, evidence in self.examples():
            reading = evidence.readings[Pairs()]
            changed = _with(evidence, rank=np.full_like(reading.values["rank"], 0.3), margin=2 * reading.values["z"])
            coefficients = self.attack.coefficients(self.background(changed))
            assert coefficients[1] == 0.0
            assert_allclose(coefficients[0], 2 * coefficients[2], rtol=1e-6)
            level = cross_score(self.attack, changed).level[evidence.rows("original")]
            assert np.isfinite(level[:, case.forget]).all()

    def test_constant_scores_everywhere_read_0(self) -> None:
        for case, evidence in self.examples():
            flat = np.full_like(evidence.readings[Pairs()].values["z"], 0.3)
            level = cross_score(self.attack, _with(evidence, **dict.fromkeys(SIGNALS, flat))).level
            assert_array_equal(level[np.ix_(evidence.rows("original"), case.forget)], 0.0)

    def test_an_infinite_signal_reads_nan(self) -> None:
        for case, evidence in self.examples():
            rows = self.targets(evidence)
            margin = evidence.readings[Pairs()].values["margin"][rows].copy()
            margin[0] = np.inf
            level = self.score(evidence, rows, margin=margin).level
            assert np.isnan(level[0]).all()
            assert np.isfinite(level[1:, case.forget]).any()

    def test_without_a_contrast_nothing_can_be_told(self) -> None:
        evidence = small_evidence(self.attack.probes, "interaction")
        assert evidence is not None
        none = replace(evidence, held=np.zeros_like(evidence.held))
        assert np.isnan(self.score(none, self.targets(none)).level).all()

    def test_it_runs_when_named_and_may_be_primary_on_interactions(self) -> None:
        assert self.attack.battery() == ()
        assert self.attack.variants() == (self.attack,)
        assert self.attack.primary_for == {"interaction"}


def _with(evidence: Evidence, **changed: Floats) -> Evidence:
    reading = evidence.readings[Pairs()]
    return replace(
        evidence, readings={Pairs(): Reading(reading.points, {**reading.values, **changed}, reading.n_units)}
    )
