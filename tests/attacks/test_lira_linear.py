from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from auditkit.attacks.lira_linear import LiraLinear
from auditkit.crossing import cross_score
from auditkit.statistics.likelihood import shrunken
from auditkit.testing import AttackTests


class TestLiraLinear(AttackTests):
    attack = LiraLinear()

    def test_against_a_loop(self) -> None:
        for case, evidence in self.examples():
            reading = evidence.readings[self.attack.probes[0]]
            z, refs = reading.values["z"], evidence.rows("reference")
            points = np.flatnonzero(case.forget[reading.unit])
            difference, middle, variance = (np.empty(len(points)) for _ in range(3))
            for k, point in enumerate(points):
                held = evidence.held[refs, reading.unit[point]]
                inside, outside = z[refs[held], point], z[refs[~held], point]
                assert len(inside) == len(refs) / 2
                difference[k], middle[k] = inside.mean() - outside.mean(), (inside.mean() + outside.mean()) / 2
                squares = ((inside - inside.mean()) ** 2).sum() + ((outside - outside.mean()) ** 2).sum()
                variance[k] = squares / (len(refs) - 2)
            within = shrunken(variance, len(refs) - 2)
            weights = difference / within
            of_pattern = (difference - np.average(difference, weights=1 / within)) / within
            scores = cross_score(self.attack, evidence)
            assert scores.pattern is not None
            assert scores.n_points == len(points)
            for part, w in ((scores.level, weights), (scores.pattern, of_pattern)):
                terms = w * (z[0, points] - middle)
                naive = [terms[reading.unit[points] == unit].sum() for unit in range(int(case.forget.sum()))]
                assert_allclose(part[0, case.forget], naive, rtol=1e-9, atol=1e-9)

    def test_a_constant_shift_of_the_forgotten_scores_moves_no_pattern(self) -> None:
        for case, evidence in self.examples():
            rows = self.targets(evidence)
            reading = evidence.readings[self.attack.probes[0]].take(rows)
            was, moved = self.score(evidence, rows), self.score(evidence, rows, z=reading.values["z"] - 0.7)
            assert was.pattern is not None
            assert moved.pattern is not None
            was_sum, moved_sum = was.pattern[:, case.forget].sum(1), moved.pattern[:, case.forget].sum(1)
            assert_allclose(moved_sum, was_sum, atol=1e-9 * np.abs(was.pattern[:, case.forget]).sum())
            assert (np.abs(moved.level - was.level)[:, case.forget].sum(1) > 0.1).all()

    def test_retained_and_outside_units_carry_no_weight(self) -> None:
        for case, evidence in self.examples():
            level = cross_score(self.attack, evidence).level
            assert np.isnan(level[:, ~case.forget]).all()


@pytest.mark.parametrize("signal", ["rank", "margin", "softmax"])
def test_every_signal_separates_original_from_golds(signal: str) -> None:
    class Case(AttackTests):
        attack = LiraLinear(signal)  # type: ignore[arg-type]

    Case().test_higher_means_more_remembered()
