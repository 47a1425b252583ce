from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import jensenshannon
from scipy.special import expit
from scipy.stats import kendalltau

from auditkit.attacks.divergence import Divergence
from auditkit.crossing import cross_score
from auditkit.data.dataset import Floats, Ints
from auditkit.evidence import Evidence, Reading, Targets
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


def _first(attack: AttackTests) -> tuple[Evidence, Reading, Ints, int]:
    """Evidence of the first regime, the reading of its one probe, the Golds and an original."""
    _, evidence = next(attack.examples())
    reading = evidence.readings[attack.attack.probes[0]]
    return evidence, reading, evidence.rows("gold"), int(evidence.rows("original")[0])


class TestSoftmaxDivergence(AttackTests):
    attack = Divergence("js-softmax")

    def test_against_scipy(self) -> None:
        evidence, reading, golds, target = _first(self)
        scores, level = reading.values["scores"], cross_score(self.attack, evidence).level
        shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        for point in (0, 5):
            apart = [jensenshannon(shares[target, point], shares[g, point], base=2) ** 2 for g in golds]
            assert (reading.unit == reading.unit[point]).sum() == 1
            assert_allclose(level[target, reading.unit[point]], np.mean(apart), rtol=1e-9)

    def test_an_item_that_is_not_offered_has_no_share(self) -> None:
        evidence, reading, _, target = _first(self)
        scores = reading.values["scores"][[target]].copy()
        scores[:, :, 0] = np.nan
        hidden = self.score(evidence, np.array([target]), scores=scores)
        scores[:, :, 0] = -800.0
        assert_allclose(hidden.level, self.score(evidence, np.array([target]), scores=scores).level, rtol=1e-9)

    def test_a_constant_added_to_a_row_changes_nothing(self) -> None:
        evidence, reading, _, target = _first(self)
        rows = np.array([target])
        moved = self.score(evidence, rows, scores=reading.values["scores"][rows] + 3.0)
        assert_allclose(moved.level, self.score(evidence, rows).level, rtol=1e-9)


class TestBernoulliDivergence(AttackTests):
    attack = Divergence("js-bernoulli")

    def test_against_scipy(self) -> None:
        for _, evidence in self.examples():
            reading, golds = evidence.readings[self.attack.probes[0]], evidence.rows("gold")
            target, level = int(evidence.rows("original")[0]), cross_score(self.attack, evidence).level
            wins = expit(reading.values["margins"])
            for unit in (0, 3):
                apart = [
                    _coins(wins[target, point], wins[golds, point]) for point in np.flatnonzero(reading.unit == unit)
                ]
                assert_allclose(level[target, unit], np.mean(apart), rtol=1e-9)

    def test_a_negative_that_one_side_lacks_counts_for_neither(self) -> None:
        evidence, reading, golds, target = _first(self)
        rows = np.array([target])
        margins = reading.values["margins"].copy()
        margins[rows, :, 0] = np.nan
        without = self.score(evidence, rows, margins=margins[rows])
        margins[golds, :, 0] += 100
        changed = Evidence(
            evidence.systems, evidence.units, evidence.seen, evidence.held,
            {self.attack.probes[0]: Reading(reading.points, {"margins": margins}, reading.n_units)},
        )  # fmt: skip
        assert_array_equal(self.score(changed, rows).level, without.level)
        assert (without.level != self.score(evidence, rows).level).any()


def _coins(wins: Floats, golds: Floats) -> float:
    """Mean over Golds and known negatives of the divergence of two coins."""
    known = ~np.isnan(wins)
    each = [
        jensenshannon([p, 1 - p], [q, 1 - q], base=2) ** 2
        for g in golds
        for p, q in zip(wins[known], g[known], strict=True)
    ]
    return float(np.mean(each))


class TestKendallDivergence(AttackTests):
    attack = Divergence("kendall")
    separates = False

    def test_against_scipy(self) -> None:
        evidence, reading, golds, target = _first(self)
        scores, level = reading.values["scores"], cross_score(self.attack, evidence).level
        for point in (0, 5):
            taus = [kendalltau(scores[target, point], scores[g, point]).statistic for g in golds]
            assert_allclose(level[target, reading.unit[point]], 1 - np.mean(taus), rtol=1e-9)

    def test_items_that_are_not_offered_stand_at_the_end(self) -> None:
        evidence, reading, _, target = _first(self)
        scores = reading.values["scores"][[target]].copy()
        scores[:, :, :3] = np.nan
        hidden = self.score(evidence, np.array([target]), scores=scores)
        scores[:, :, :3] = -1e9
        assert_array_equal(hidden.level, self.score(evidence, np.array([target]), scores=scores).level)


@pytest.mark.parametrize("measure", ["jaccard", "js-softmax", "js-bernoulli", "kendall"])
def test_a_gold_as_target_and_only_gold_is_at_no_distance(measure: str) -> None:
    class Case(AttackTests):
        attack = Divergence(measure)  # type: ignore[arg-type]

    evidence, reading, golds, _ = _first(Case())
    alone = Targets({Case.attack.probes[0]: reading.take(golds[:1])})
    assert np.nanmax(Case.attack.score(alone, evidence.take(golds[:1])).level) == pytest.approx(0.0, abs=1e-12)


def test_variants_are_all_measures_and_few_of_them_run_by_default() -> None:
    measures = [attack.measure for attack in Divergence.variants()]  # type: ignore[attr-defined]
    assert measures == [
        "score", "jaccard", "rbo", "js-softmax", "js-bernoulli", "kendall", "cka", "procrustes", "parameters",
    ]  # fmt: skip
    assert [m for m in measures if Divergence(m).to_mean_gold] == ["score"]


def test_battery_has_every_measure() -> None:
    assert [attack.measure for attack in Divergence.battery()] == ["score", "jaccard", "rbo"]  # type: ignore[attr-defined]


def test_divergence_is_a_note_everywhere() -> None:
    assert Divergence.fails_in == frozenset()
    assert Divergence.primary_for == frozenset()
