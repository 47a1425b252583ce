"""Conformance of attacks: pure, row by row, honest about what they need."""

# The name of a test says what it checks.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.testing import assert_array_equal

from auditkit.contracts import Access, Attack, Needs, Probe, Scores
from auditkit.crossing import cross_score, score_targets
from auditkit.data.dataset import Floats, Ints
from auditkit.deletion import Regime
from auditkit.digests import digest_of
from auditkit.evidence import Case, Evidence, Reading, Targets
from auditkit.testing.examples import REGIMES, small_case, small_evidence


class AttackTests:
    """What every attack must do, on the evidence of really trained small systems in every regime it applies to.

    Attributes:
        attack: under test.
        regimes: whose small systems it is shown; where its probes do not apply it is passed over.
        separates: the original's mean score over the forgotten units lies above every Gold's in at least one regime;
            False for an attack that does not claim so on 60 users.
    """

    attack: ClassVar[Attack]
    regimes: ClassVar[tuple[Regime, ...]] = REGIMES
    separates: ClassVar[bool] = True

    def examples(self) -> Iterator[tuple[Case, Evidence]]:
        """Case and evidence of every regime to which all probes of the attack apply."""
        for regime in self.regimes:
            evidence = small_evidence(self.attack.probes, regime)
            if evidence is not None:
                yield small_case(regime), evidence

    def background(self, evidence: Evidence) -> Evidence:
        """The harness's background: references, and Golds where they are needed."""
        return evidence.take(
            evidence.rows("reference", "gold") if self.attack.needs.golds else evidence.rows("reference")
        )

    def targets(self, evidence: Evidence) -> Ints:
        """Positions of the originals and the system under test."""
        return evidence.rows("original", "unlearned")

    def score(self, evidence: Evidence, rows: Ints, **changed: Floats) -> Scores:
        """Score some systems; `changed` replaces signals of their readings."""
        readings = {p: _with(evidence.readings[p].take(rows), changed) for p in self.attack.probes}
        return self.attack.score(self.given(evidence, readings), self.background(evidence))

    def given(self, evidence: Evidence, readings: Mapping[Probe, Reading]) -> Targets:
        """What the harness hands over; with the first original's answers for every target where they are needed."""
        if not self.attack.needs.before:
            return Targets(readings)
        n_targets = len(next(iter(next(iter(readings.values())).values.values())))
        parent = np.repeat(evidence.rows("original")[:1], n_targets)
        return Targets(readings, {probe: evidence.readings[probe].take(parent) for probe in self.attack.probes})

    def test_applies_to_a_regime(self) -> None:
        assert any(True for _ in self.examples()), f"its probes apply to no request among: {', '.join(self.regimes)}"

    def test_says_what_it_is(self) -> None:
        attack = self.attack
        assert attack.name
        assert isinstance(attack.needs, Needs)
        assert attack.probes
        assert all(isinstance(probe, Probe) for probe in attack.probes)
        assert attack.access
        assert all(probe.access in attack.access for probe in attack.probes)
        assert isinstance(attack.access, Access)
        assert attack.primary_for <= attack.fails_in
        assert attack.reads, "one sentence on what it sees goes into every report"

    def test_is_a_value(self) -> None:
        twin = replace(self.attack)
        assert twin == self.attack
        assert hash(twin) == hash(self.attack)
        assert digest_of(twin) == digest_of(self.attack)
        assert all(type(one) is type(self.attack) for one in self.attack.battery())

    def test_shapes(self) -> None:
        for _, evidence in self.examples():
            rows = self.targets(evidence)
            scores = self.score(evidence, rows)
            for part in (scores.level, scores.pattern):
                if part is not None:
                    assert part.shape == (len(rows), len(evidence.units))
                    assert part.dtype == np.float64
            assert isinstance(scores.n_points, int)
            assert scores.n_points > 0

    def test_same_input_same_output(self) -> None:
        for _, evidence in self.examples():
            _assert_equal(*(self.score(evidence, self.targets(evidence)) for _ in range(2)))

    def test_inputs_are_not_modified(self) -> None:
        for _, evidence in self.examples():
            before = [(v, v.copy()) for r in evidence.readings.values() for v in r.values.values()]
            tables = [(r.points, r.points.copy()) for r in evidence.readings.values()]
            held = evidence.held.copy()
            targets = {p: evidence.readings[p].take(self.targets(evidence)) for p in self.attack.probes}
            before += [(v, v.copy()) for r in targets.values() for v in r.values.values()]
            self.attack.score(self.given(evidence, targets), self.background(evidence))
            for array, copy in before:
                assert_array_equal(array, copy)
            for table, was in tables:
                pd.testing.assert_frame_equal(table, was)
            assert_array_equal(evidence.held, held)

    def test_order_of_targets_is_order_of_rows(self) -> None:
        for _, evidence in self.examples():
            rows = self.targets(evidence)
            forward, backward = self.score(evidence, rows), self.score(evidence, rows[::-1])
            _assert_equal(forward, _rows(backward, np.arange(len(rows))[::-1]))

    def test_a_further_target_changes_no_score(self) -> None:
        for _, evidence in self.examples():
            rows = self.targets(evidence)
            _assert_equal(_rows(self.score(evidence, rows), np.array([0])), self.score(evidence, rows[:1]))

    def test_a_target_that_does_not_answer_reads_nan(self) -> None:
        for case, evidence in self.examples():
            rows = self.targets(evidence)
            signals = {n: v[rows].copy() for p in self.attack.probes for n, v in evidence.readings[p].values.items()}
            for values in signals.values():
                values[0] = np.nan
            whole, partly = self.score(evidence, rows), self.score(evidence, rows, **signals)
            assert np.isnan(partly.level[0, case.forget]).all()
            _assert_equal(_rows(whole, np.arange(1, len(rows))), _rows(partly, np.arange(1, len(rows))))

    def test_an_unanswered_point_hides_its_unit_alone(self) -> None:
        for case, evidence in self.examples():
            rows = self.targets(evidence)
            whole = self.score(evidence, rows)
            unit = int(np.flatnonzero(case.forget & np.isfinite(whole.level).all(0))[0])
            signals = {}
            for probe in self.attack.probes:
                reading = evidence.readings[probe].take(rows)
                for name, values in reading.values.items():
                    signals[name] = values.copy()
                    signals[name][:, reading.unit == unit] = np.nan
            partly = self.score(evidence, rows, **signals)
            others = np.arange(len(case.units)) != unit
            assert np.isnan(partly.level[:, unit]).all()
            assert_array_equal(partly.level[:, others], whole.level[:, others])

    def test_a_unit_without_points_is_nan(self) -> None:
        for _, evidence in self.examples():
            wider = _with_a_mute_unit(evidence)
            scores = self.score(wider, self.targets(wider))
            assert np.isnan(scores.level[:, -1]).all()
            _assert_equal(
                self.score(evidence, self.targets(evidence)),
                Scores(
                    scores.level[:, :-1], None if scores.pattern is None else scores.pattern[:, :-1], scores.n_points
                ),
            )

    def test_needs_are_enough(self) -> None:
        """The declared minimum suffices: scores are numbers wherever they are with the whole background."""
        for _, evidence in self.examples():
            needs = self.attack.needs
            few = np.concatenate([evidence.rows("gold")[: needs.golds], evidence.rows("reference")[: needs.references]])
            readings = {p: evidence.readings[p].take(self.targets(evidence)) for p in self.attack.probes}
            scores = self.attack.score(self.given(evidence, readings), evidence.take(few))
            whole = self.score(evidence, self.targets(evidence))
            assert_array_equal(np.isfinite(scores.level), np.isfinite(whole.level))

    def test_runs_in_the_harness(self) -> None:
        for case, evidence in self.examples():
            scores = cross_score(self.attack, evidence)
            known = evidence.rows("original", "gold", "unlearned")
            assert np.isfinite(scores.level[np.ix_(known, case.forget)]).all(0).any()
            alone = score_targets(self.attack, evidence.take(evidence.rows("unlearned")), evidence)
            assert_array_equal(alone.level, scores.level[evidence.rows("unlearned")])

    def test_higher_means_more_remembered(self) -> None:
        if self.separates:
            assert any(self._separates(case, evidence) for case, evidence in self.examples())

    def _separates(self, case: Case, evidence: Evidence) -> bool:
        level = cross_score(self.attack, evidence).level[:, case.forget]
        known = evidence.rows("original", "gold")
        level = level[:, np.isfinite(level[known]).all(0)]
        return bool(level[evidence.rows("original")].mean() > level[evidence.rows("gold")].mean(1).max())


def _with(reading: Reading, changed: Mapping[str, Floats]) -> Reading:
    kept = {name: changed.get(name, values) for name, values in reading.values.items()}
    return Reading(reading.points, kept, reading.n_units)


def _rows(scores: Scores, rows: Ints) -> Scores:
    return Scores(scores.level[rows], None if scores.pattern is None else scores.pattern[rows], scores.n_points)


def _assert_equal(one: Scores, other: Scores) -> None:
    assert_array_equal(one.level, other.level)
    assert (one.pattern is None) == (other.pattern is None)
    if one.pattern is not None and other.pattern is not None:
        assert_array_equal(one.pattern, other.pattern)
    assert one.n_points == other.n_points


def _with_a_mute_unit(evidence: Evidence) -> Evidence:
    """The same evidence with one more forget unit that no probe asks about."""
    n = len(evidence.systems)
    units = pd.concat([evidence.units, evidence.units.iloc[:1]], ignore_index=True)
    seen, held = (np.column_stack([mask, np.zeros(n, np.bool_)]) for mask in (evidence.seen, evidence.held))
    readings = {p: Reading(r.points, r.values, r.n_units + 1) for p, r in evidence.readings.items()}
    return Evidence(evidence.systems, units, seen, held, readings)
