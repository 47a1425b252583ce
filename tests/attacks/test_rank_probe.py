from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from auditkit.attacks.rank_probe import RankProbe
from auditkit.crossing import cross_score, read_ladder
from auditkit.testing import AttackTests


class TestRankProbe(AttackTests):
    attack = RankProbe()

    def test_mean_rank_logit_of_the_unit(self) -> None:
        for _, evidence in self.examples():
            reading = evidence.readings[self.attack.probes[0]]
            level = cross_score(self.attack, evidence).level
            for unit in (0, 2):
                rank = reading.values["rank"][0, reading.unit == unit]
                assert_allclose(level[0, unit], rank.mean())

    def test_no_reference_is_read(self) -> None:
        for case, evidence in self.examples():
            without = evidence.take(np.setdiff1d(np.arange(len(evidence.systems)), evidence.rows("reference")))
            all_scores = cross_score(self.attack, evidence).level
            kept = [k for k, s in enumerate(evidence.systems) if s.role != "reference"]
            assert_array_equal(cross_score(self.attack, without).level, all_scores[kept])
            assert read_ladder(self.attack, evidence, case.forget) == []

    def test_it_is_no_primary(self) -> None:
        assert not self.attack.primary_for
