from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose

from auditkit.attacks.divergence import Divergence
from auditkit.crossing import cross_score
from auditkit.evidence import Targets
from auditkit.testing import AttackTests


class TestScoreDivergence(AttackTests):
    attack = Divergence("score")

    def test_against_a_loop(self) -> None:
        for _, evidence in self.examples():
            scores = cross_score(self.attack, evidence)
            reading = evidence.readings[self.attack.probes[0]]
            z, golds = reading.values["z"], evidence.rows("gold")
            for target in (*evidence.rows("original"), golds[0], golds[2]):
                others = [g for g in golds if g != target]
                away = z[target] - np.mean([z[g] for g in others], axis=0)
                for unit in (0, 1, 5):
                    mine = away[reading.unit == unit]
                    assert_allclose(scores.level[target, unit], np.sqrt((mine**2).mean()))

    def test_a_gold_among_its_own_background_would_read_0(self) -> None:
        _, evidence = next(self.examples())
        probe, gold = self.attack.probes[0], evidence.rows("gold")[:1]
        alone = self.attack.score(Targets({probe: evidence.readings[probe].take(gold)}), evidence.take(gold))
        assert np.nanmax(alone.level) == 0.0
        assert np.nanmin(cross_score(self.attack, evidence).level[gold]) > 0.0


class _ListTests(AttackTests):
    # Lists of 60 barely trained users differ by chance as much as by memory.
    separates = False

    def test_lists_within_0_and_1(self) -> None:
        for _, evidence in self.examples():
            level = cross_score(self.attack, evidence).level
            known = level[np.isfinite(level)]
            assert known.min() >= 0
            assert known.max() <= 1


class TestJaccardDivergence(_ListTests):
    attack = Divergence("jaccard")

    def test_against_sets(self) -> None:
        _, evidence = next(self.examples())
        reading = evidence.readings[self.attack.probes[0]]
        lists, golds, target = reading.values["items"], evidence.rows("gold"), int(evidence.rows("original")[0])
        level = cross_score(self.attack, evidence).level
        for point in (0, 3, 7):
            mine = set(lists[target, point])
            overlaps = [len(mine & set(lists[g, point])) / len(mine | set(lists[g, point])) for g in golds]
            assert (reading.unit == reading.unit[point]).sum() == 1
            assert_allclose(level[target, reading.unit[point]], 1 - np.mean(overlaps))


class TestRboDivergence(_ListTests):
    attack = Divergence("rbo")


def test_battery_has_every_measure() -> None:
    assert [attack.measure for attack in Divergence.battery()] == ["score", "jaccard", "rbo"]  # type: ignore[attr-defined]


def test_divergence_is_a_note_everywhere() -> None:
    assert Divergence.fails_in == frozenset()
    assert Divergence.primary_for == frozenset()
