"""Conformance of attacks that also read the model before unlearning: the first original is every target's parent."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_array_equal

from auditkit.contracts import Access, Attack, Scores
from auditkit.data.dataset import Floats, Ints
from auditkit.evidence import Evidence, Reading, Targets
from auditkit.testing import AttackTests


def with_parent(attack: Attack, evidence: Evidence, rows: Ints, **changed: Floats) -> Targets:
    """Some systems beside the first original; `changed` replaces signals of the systems alone."""
    parent = np.repeat(evidence.rows("original")[:1], len(rows))
    readings = {}
    for probe in attack.probes:
        mine = evidence.readings[probe].take(rows)
        values = {name: changed.get(name, v) for name, v in mine.values.items()}
        readings[probe] = Reading(mine.points, values, mine.n_units)
    return Targets(readings, {probe: evidence.readings[probe].take(parent) for probe in attack.probes})


class BeforeTests(AttackTests):
    def score(self, evidence: Evidence, rows: Ints, **changed: Floats) -> Scores:
        return self.attack.score(with_parent(self.attack, evidence, rows, **changed), self.background(evidence))

    def targets(self, evidence: Evidence) -> Ints:
        return evidence.rows("unlearned", "gold")

    def test_it_is_a_finding_on_releasing_both_models(self) -> None:
        assert self.attack.needs.before
        assert self.attack.release
        assert Access.SNAPSHOTS in self.attack.access
        assert not self.attack.fails_in
        assert not self.attack.battery()
        assert self.attack in self.attack.variants()

    def test_inputs_are_not_modified(self) -> None:
        for _, evidence in self.examples():
            targets = with_parent(self.attack, evidence, self.targets(evidence))
            assert targets.before is not None
            readings = (*targets.readings.values(), *targets.before.values())
            was = [(v, v.copy()) for reading in readings for v in reading.values.values()]
            points = [(reading.points, reading.points.copy()) for reading in readings]
            self.attack.score(targets, self.background(evidence))
            for array, copy in was:
                assert_array_equal(array, copy)
            assert all(one.equals(copy) for one, copy in points)

    def test_needs_are_enough(self) -> None:
        for _, evidence in self.examples():
            targets = with_parent(self.attack, evidence, self.targets(evidence))
            nothing = evidence.take(np.empty(0, np.int64))
            whole = self.score(evidence, self.targets(evidence))
            assert_array_equal(self.attack.score(targets, nothing).level, whole.level)

    def test_higher_means_more_remembered(self) -> None:
        """Here higher means more like deleted: what retraining took away stands above what it kept."""
        for case, evidence in self.examples():
            level = self.score(evidence, self.targets(evidence)).level
            kept = (case.units["group"] == "retain").to_numpy()
            assert (np.nanmean(level[:, case.forget], axis=1) > np.nanmean(level[:, kept], axis=1)).all()

    def test_a_model_that_did_not_change_reads_0(self) -> None:
        for _, evidence in self.examples():
            level = self.score(evidence, evidence.rows("original")[:1]).level
            assert np.isfinite(level).any()
            assert_array_equal(level[np.isfinite(level)], 0.0)
