from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import zscore

from auditkit.attacks.snapshots import Snapshots
from auditkit.data.dataset import Floats, Ints
from auditkit.evidence import Evidence
from auditkit.testing.examples import small_case, small_evidence
from tests.attacks.before import BeforeTests


def shown(attack: Snapshots) -> tuple[Evidence, Ints]:
    """Interactions, and which points are retained ones."""
    evidence = small_evidence(attack.probes, "interaction")
    assert evidence is not None
    reading = evidence.readings[attack.probes[0]]
    return evidence, np.flatnonzero((evidence.units["group"] == "retain").to_numpy()[reading.unit])


class TestDifference(BeforeTests):
    attack = Snapshots()

    def test_against_a_loop(self) -> None:
        for case, evidence in self.examples():
            reading, target = evidence.readings[self.attack.probes[0]], int(evidence.rows("unlearned")[0])
            kept = (case.units["group"] == "retain").to_numpy()[reading.unit]
            level, parts = self.score(evidence, np.array([target])).level[0], []
            for signal in ("z", "rank", "margin", "softmax"):
                drop = reading.values[signal][0] - reading.values[signal][target]
                parts.append((drop - drop[kept].mean()) / drop[kept].std(ddof=1))
                assert_allclose(parts[-1][kept], zscore(drop[kept], ddof=1))
            for unit in (0, 3):
                assert_allclose(level[unit], np.mean(np.mean(parts, axis=0)[reading.unit == unit]), rtol=1e-9)

    def test_a_common_change_cancels(self) -> None:
        evidence, _ = shown(Snapshots())
        rows = self.targets(evidence)
        moved = {n: 2 * v[rows] + 5 for n, v in evidence.readings[self.attack.probes[0]].values.items()}
        before = evidence.readings[self.attack.probes[0]].values
        shifted = {n: v[rows] + 5 for n, v in before.items()}
        assert_allclose(self.score(evidence, rows, **shifted).level, self.score(evidence, rows).level, atol=1e-8)
        assert np.nanmax(np.abs(self.score(evidence, rows, **moved).level - self.score(evidence, rows).level)) > 0.1

    def test_retained_pairs_that_do_not_move_leave_drops_in_their_own_unit(self) -> None:
        evidence, kept = shown(Snapshots())
        reading, parent = evidence.readings[self.attack.probes[0]], evidence.rows("original")[:1]
        changed = {}
        for name, values in reading.values.items():
            changed[name] = values[parent] - 0.25
            changed[name][:, kept] = values[parent][:, kept]
        level = self.score(evidence, parent, **changed).level
        assert_allclose(level[:, small_case("interaction").forget], 0.25, rtol=1e-9)
        assert_allclose(level[:, evidence.units["group"] == "retain"], 0.0, atol=1e-12)

    @pytest.mark.parametrize("answered", [0, 1])
    def test_too_few_retained_pairs_to_compare_with(self, answered: int) -> None:
        evidence, kept = shown(Snapshots())
        rows = self.targets(evidence)
        changed = {n: v[rows].copy() for n, v in evidence.readings[self.attack.probes[0]].values.items()}
        for values in changed.values():
            values[0, kept[answered:]] = np.nan
        level = self.score(evidence, rows, **changed).level
        assert np.isnan(level[0]).all()
        assert_array_equal(level[1:], self.score(evidence, rows).level[1:])


class _PosteriorTests(BeforeTests):
    shape_only: ClassVar[bool]

    def posteriors(self, evidence: Evidence, target: int) -> tuple[list[Floats], list[Floats]]:
        """Softmax over the pair and its known negatives, before and after, point by point."""
        margins = evidence.readings[self.attack.probes[0]].values["margins"]
        found: tuple[list[Floats], list[Floats]] = ([], [])
        for side, system in zip(found, (int(evidence.rows("original")[0]), target), strict=True):
            for own in margins[system]:
                weights = np.append(1.0, np.exp(-own[~np.isnan(own)]))
                side.append(weights / weights.sum())
        return found

    def test_against_a_loop(self) -> None:
        for _, evidence in self.examples():
            reading, target = evidence.readings[self.attack.probes[0]], int(evidence.rows("unlearned")[0])
            level = self.score(evidence, np.array([target])).level[0]
            before, after = self.posteriors(evidence, target)
            for unit in (0, 3):
                mine = np.flatnonzero(reading.unit == unit)
                order = np.sort if self.shape_only else np.asarray
                moved = [np.linalg.norm(order(before[k]) - order(after[k])) for k in mine]
                assert_allclose(level[unit], np.mean(moved), rtol=1e-9)


class TestEuclidean(_PosteriorTests):
    attack = Snapshots("euclidean")

    shape_only = False


class TestSorted(_PosteriorTests):
    attack = Snapshots("sorted")

    shape_only = True

    def test_an_exchange_of_two_answers_keeps_the_shape(self) -> None:
        evidence, _ = shown(Snapshots("sorted"))
        parent = evidence.rows("original")[:1]
        turned = evidence.readings[self.attack.probes[0]].values["margins"][parent][:, :, ::-1]
        known = np.flatnonzero(np.isfinite(turned[0]).all(axis=1))
        level = self.score(evidence, parent, margins=turned).level
        pairs = evidence.readings[self.attack.probes[0]].unit[known]
        assert_allclose(level[:, pairs], 0.0, atol=1e-12)


def test_variants_are_the_features() -> None:
    assert Snapshots.variants() == (Snapshots("difference"), Snapshots("euclidean"), Snapshots("sorted"))
