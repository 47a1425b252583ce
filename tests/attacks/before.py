"""Conformance of attacks that also read the model before unlearning: the first original is every target's parent."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_array_equal

from auditkit.contracts import Access
from auditkit.data.dataset import Ints
from auditkit.evidence import Evidence
from auditkit.testing import AttackTests


class BeforeTests(AttackTests):
    def targets(self, evidence: Evidence) -> Ints:
        return evidence.rows("unlearned", "gold")

    def test_it_is_a_finding_on_releasing_both_models(self) -> None:
        assert self.attack.needs.before
        assert self.attack.release
        assert Access.SNAPSHOTS in self.attack.access
        assert not self.attack.fails_in
        assert not self.attack.battery()
        assert self.attack in self.attack.variants()

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
