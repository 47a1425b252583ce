from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from auditkit.contracts import Access, Needs, Probe, Scores
from auditkit.crossing import check_needs, cross_score, lines, read_ladder, score_targets
from auditkit.data.dataset import Floats
from auditkit.errors import NotApplicableError
from auditkit.evidence import Evidence, Reading, Targets
from auditkit.statistics.likelihood import InOut, fit_in_out

from .gaussian import ALL, Linear, Raw, Signal, World


@dataclass(frozen=True)
class Spy(Raw):
    """Notes for every call which signals it was to score, and who was in the background."""

    calls: list[tuple[Targets, tuple[str, ...]]] = field(default_factory=list, hash=False, compare=False)
    needs: ClassVar[Needs] = Needs(references=4)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        self.calls.append((targets, tuple(s.name for s in background.systems)))
        return Raw.score(self, targets, background)


class GoldSpy(Spy):
    needs: ClassVar[Needs] = Needs(golds=2)


def scored(call: tuple[Targets, tuple[str, ...]], evidence: Evidence) -> set[str]:
    """Names of the systems that a call scored, found by their answers."""
    values = evidence.readings[Signal()].values["z"]
    rows = [np.flatnonzero((values == v).all(1)) for v in call[0].readings[Signal()].values["z"]]
    assert all(len(r) == 1 for r in rows)
    return {evidence.systems[int(r[0])].name for r in rows}


def names(evidence: Evidence, *roles: str) -> set[str]:
    return {s.name for s in evidence.systems if s.role in roles}


@pytest.fixture
def evidence() -> Evidence:
    return World(n_units=30, references=8, golds=4).background()


def test_no_target_is_in_its_own_background(evidence: Evidence) -> None:
    for spy in (Spy(), GoldSpy()):
        cross_score(spy, evidence)
        read_ladder(spy, evidence, np.ones(30, bool))
        assert spy.calls
        for call in spy.calls:
            assert scored(call, evidence).isdisjoint(call[1])


def test_golds_are_scored_at_once_against_references_alone(evidence: Evidence) -> None:
    spy = Spy()
    cross_score(spy, evidence)
    assert len(spy.calls) == 1
    assert scored(spy.calls[0], evidence) == names(evidence, "original", "gold", "control")
    assert set(spy.calls[0][1]) == names(evidence, "reference")


def test_where_golds_are_needed_each_is_scored_against_the_others(evidence: Evidence) -> None:
    spy = GoldSpy()
    cross_score(spy, evidence)
    golds, seen = names(evidence, "gold"), set()
    for call in spy.calls:
        mine = scored(call, evidence)
        seen |= mine
        assert set(call[1]) & golds == golds - mine
        assert names(evidence, "reference") <= set(call[1])
        assert not set(call[1]) & names(evidence, "original", "control")
    assert seen == names(evidence, "original", "gold", "control")


def test_a_reference_is_read_by_all_others_beside_originals_and_golds(evidence: Evidence) -> None:
    spy = Spy()
    read_ladder(spy, evidence, np.ones(30, bool))
    references = names(evidence, "reference")
    read = []
    for call in spy.calls:
        (mine,) = scored(call, evidence) & references
        assert scored(call, evidence) - {mine} == names(evidence, "original", "gold")
        assert set(call[1]) == references - {mine}
        read.append(mine)
    assert sorted(read) == sorted(references)


def test_targets_come_without_roles(evidence: Evidence) -> None:
    spy = Spy()
    cross_score(spy, evidence)
    targets = spy.calls[0][0]
    assert set(vars(targets)) == {"readings", "before"}
    assert targets.before is None
    assert set(vars(targets.readings[Signal()])) <= {"points", "values", "n_units", "unit"}


def test_rows_of_references_stay_nan_and_the_others_are_scored(evidence: Evidence) -> None:
    scores = cross_score(Linear(), evidence)
    assert scores.pattern is not None
    for part in (scores.level, scores.pattern):
        assert np.isnan(part[evidence.rows("reference")]).all()
        assert np.isfinite(part[evidence.rows("original", "gold", "control")]).all()
    assert scores.n_points == 30


def test_targets_of_elsewhere_are_scored_as_if_they_were_there(evidence: Evidence) -> None:
    rows = evidence.rows("control")
    assert_array_equal(
        score_targets(Linear(), evidence.take(rows), evidence).level, cross_score(Linear(), evidence).level[rows]
    )


def _centred(fitted: InOut) -> Floats:
    contrast = fitted.mean_in - fitted.mean_out
    return np.asarray((contrast - np.average(contrast, weights=1 / fitted.within)) / fitted.within)


def test_ladder_readings_against_a_naive_refit(evidence: Evidence) -> None:
    z, judged = evidence.readings[Signal()].values["z"], np.arange(30) < 25
    references, ladder = evidence.rows("reference"), read_ladder(Linear(), evidence, judged)
    for r, rung in zip(references, ladder, strict=True):
        others = np.setdiff1d(references, [r])
        fitted = fit_in_out(z[others], evidence.held[others])
        for name, w in (("level", fitted.weights()), ("pattern", _centred(fitted))):
            gold = z[evidence.rows("gold")].mean(0)
            gain = (w * (z[evidence.rows("original")].mean(0) - gold))[judged]
            assert_allclose(getattr(rung, name), (w * (z[r] - gold))[judged].sum() / gain.sum())
            assert_allclose(getattr(rung, f"{name}_dose"), gain[evidence.held[r][judged]].sum() / gain.sum())
        assert rung.units == evidence.held[r][judged].mean()
        w, golds, originals = fitted.weights(), z[evidence.rows("gold")], z[evidence.rows("original")]
        n = len(golds)
        squares = [(((w * (s - golds.mean(0)))[:, judged]) ** 2).mean() for s in (z[[r]], originals)]
        left_out = [((w * (g - np.delete(golds, k, 0).mean(0)))[judged] ** 2).mean() for k, g in enumerate(golds)]
        own, whole = np.array(squares) * n / (n + 1)
        gold = np.exp(np.mean(np.log(np.array(left_out) * (n - 1) / n)))
        assert_allclose(rung.spread, (own - gold) / (whole - gold))
        gains = ((w * (originals.mean(0) - golds.mean(0)))[judged]) ** 2
        assert_allclose(rung.spread_dose, gains[evidence.held[r][judged]].sum() / gains.sum())


def test_left_out_references_read_their_effective_dose() -> None:
    """Slope near 1 with weights fitted without the reference; in sample it is inflated."""
    out, inside = [], []
    for seed in range(6):
        evidence = World(n_units=400, strength=1.0, seed=seed).background()
        ladder = read_ladder(Linear(), evidence, np.ones(400, bool))
        doses, readings = (np.array([getattr(r, n) for r in ladder]) for n in ("level_dose", "level"))
        out.append(np.polyfit(doses, readings, 1)[0])
        rows = np.r_[evidence.rows("original"), evidence.rows("gold"), evidence.rows("reference")]
        own = linear_in_sample(evidence, rows)
        low, high = own[2:10].mean(), own[:2].mean()
        inside.append(np.polyfit(doses, (own[10:] - low) / (high - low), 1)[0])
    assert np.mean(out) == pytest.approx(1, abs=0.05)
    assert np.mean(inside) > 1.1


def linear_in_sample(evidence: Evidence, rows: np.ndarray) -> np.ndarray:
    readings: dict[Probe, Reading] = {Signal(): evidence.readings[Signal()].take(rows)}
    background = evidence.take(evidence.rows("reference"))
    return np.asarray(Linear().score(Targets(readings), background).level.sum(1))


def test_lines_of_a_straight_world_are_nearly_straight() -> None:
    evidence = World(n_units=800, references=32).background()
    found = lines(read_ladder(Linear(), evidence, np.ones(800, bool)), 8)
    level, pattern = found.level, found.pattern
    assert abs(level.curvature) < 0.15
    assert level.n_references == pattern.n_references == 32
    assert level.residual_sd is not None
    assert 0 < level.residual_sd < 0.06


def test_no_ladder_without_references_or_with_golds_in_the_background(evidence: Evidence) -> None:
    assert read_ladder(Raw(), evidence, np.ones(30, bool)) == []
    assert read_ladder(GoldSpy(), evidence, np.ones(30, bool)) == []
    assert lines([], 8).level.residual_sd is None


# --- needs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("world", "attack", "said"),
    [
        (World(references=2), Linear(), "it needs 4 references .* this audit has 2"),
        (World(golds=2), GoldSpy(), "it needs 2 golds .* this audit has 1"),
    ],
)
def test_unmet_needs_are_said(world: World, attack: Linear, said: str) -> None:
    with pytest.raises(NotApplicableError, match=said):
        check_needs(attack, world.background(), ALL, "interaction")


def test_met_needs_are_not_refused(evidence: Evidence) -> None:
    for attack in (Linear(), Raw(), GoldSpy()):
        check_needs(attack, evidence, ALL, "interaction")


def test_access_that_was_not_given_is_named(evidence: Evidence) -> None:
    with pytest.raises(NotApplicableError, match="access to SCORES"):
        check_needs(Linear(), evidence, Access.LISTS, "interaction")


def test_a_probe_that_nobody_answered_is_named(evidence: Evidence) -> None:
    mute = Evidence(evidence.systems, evidence.units, evidence.seen, evidence.held, {})
    with pytest.raises(NotApplicableError, match="did not answer it: signal"):
        check_needs(Linear(), mute, ALL, "interaction")


class Before(Spy):
    needs: ClassVar[Needs] = Needs(before=True)


class Own(Spy):
    needs: ClassVar[Needs] = Needs(unlearned_references=3)


def with_unlearned_references(evidence: Evidence, count: int) -> Evidence:
    """The evidence with `count` of its references once more, as if a method had unlearned them."""
    rows = evidence.rows("reference")[:count]
    copies = evidence.take(rows)
    values = copies.readings[Signal()].values["z"] + 0.5
    systems = tuple(replace(s, name=f"again {s.name}", role="unlearned reference") for s in copies.systems)
    reading = Reading(copies.readings[Signal()].points, {"z": values}, copies.readings[Signal()].n_units)
    return evidence.joined(Evidence(systems, copies.units, copies.seen, copies.held, {Signal(): reading}))


def test_what_was_before_is_the_first_original_for_every_target(evidence: Evidence) -> None:
    spy = Before()
    cross_score(spy, evidence)
    score_targets(spy, evidence.take(evidence.rows("control")), evidence)
    first = evidence.readings[Signal()].values["z"][evidence.rows("original")[0]]
    for targets, _ in spy.calls:
        assert targets.before is not None
        mine, before = (part[Signal()].values["z"] for part in (targets.readings, targets.before))
        assert before.shape == mine.shape
        assert_array_equal(before, np.tile(first, (len(mine), 1)))
    usual = Spy()
    cross_score(usual, evidence)
    assert all(targets.before is None for targets, _ in usual.calls)


def test_without_an_original_there_is_nothing_before(evidence: Evidence) -> None:
    golds = evidence.take(evidence.rows("gold", "reference"))
    with pytest.raises(NotApplicableError, match="no original"):
        check_needs(Before(), golds, ALL, "interaction")
    check_needs(Before(), evidence, ALL, "interaction")


def test_unlearned_references_are_background_and_never_targets(evidence: Evidence) -> None:
    with pytest.raises(NotApplicableError, match=r"needs 3 unlearned references .* this audit has 0"):
        check_needs(Own(), evidence, ALL, "interaction")
    wider = with_unlearned_references(evidence, 3)
    check_needs(Own(), wider, ALL, "interaction")
    spy = Own()
    scores = cross_score(spy, wider)
    (call,) = spy.calls
    assert set(call[1]) == names(wider, "reference", "unlearned reference")
    assert scored(call, wider) == names(wider, "original", "gold", "control")
    assert np.isnan(scores.level[wider.rows("unlearned reference")]).all()


def test_joined_evidence_keeps_the_probes_that_all_answered(evidence: Evidence) -> None:
    half = evidence.take(evidence.rows("gold"))
    whole = half.joined(evidence.take(evidence.rows("original")))
    assert [s.role for s in whole.systems] == ["gold"] * 4 + ["original"] * 2
    both = [evidence.readings[Signal()].values["z"][evidence.rows(role)] for role in ("gold", "original")]
    assert_array_equal(whole.readings[Signal()].values["z"], np.concatenate(both))
    assert whole.held.shape == whole.seen.shape == (6, 30)
    mute = Evidence(half.systems, half.units, half.seen, half.held, {})
    assert not half.joined(mute).readings
