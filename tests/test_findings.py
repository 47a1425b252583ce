from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from auditkit.contracts import Access, Needs, Scores
from auditkit.data.dataset import Floats
from auditkit.deletion import Regime
from auditkit.errors import NotApplicableError
from auditkit.evidence import Evidence, Targets
from auditkit.findings import attempt, blank_finding, finding, read_system
from auditkit.plan import ALL_ACCESS
from auditkit.statistics.multiplicity import holm
from auditkit.yardstick import Yardstick, calibrate

from .gaussian import Broken, Linear, Raw, Signal, World, rules


@pytest.fixture(scope="module")
def world() -> World:
    return World(n_units=400, references=32, seed=5)


@pytest.fixture(scope="module")
def yardstick(world: World) -> Yardstick:
    return calibrate(Linear(), world.background(), rules())


def level_of(yardstick: Yardstick, world: World, values: Floats) -> float:
    return read_system(yardstick, world.audited(values)).level.value


# --- what the three statistics read -----------------------------------------------------------------------------


def test_gold_reads_0_the_original_1_and_half_a_half(world: World, yardstick: Yardstick) -> None:
    half = np.random.default_rng(1).permutation(400) < 200
    for values, dose in ((world.gold(), 0.0), (world.signal(half), 0.5), (world.original(), 1.0)):
        judged = read_system(yardstick, world.audited(values))
        assert judged.pattern is not None
        assert judged.spread is not None
        assert judged.level.value == pytest.approx(dose, abs=0.12)
        assert judged.pattern.value == pytest.approx(dose, abs=0.25)
        assert judged.spread.value == pytest.approx(dose, abs=0.25)
        assert judged.coverage == 1.0


def test_a_constant_moves_the_level_and_not_the_pattern(world: World, yardstick: Yardstick) -> None:
    original = world.original()
    flat = read_system(yardstick, world.audited(original)), read_system(yardstick, world.audited(original - 1.5))
    assert flat[0].level.value - flat[1].level.value > 0.5
    assert flat[0].pattern is not None
    assert flat[1].pattern is not None
    assert_allclose(flat[0].pattern.value, flat[1].pattern.value, atol=1e-9)


def test_runs_are_averaged(world: World, yardstick: Yardstick) -> None:
    values = [world.gold() for _ in range(3)]
    together = read_system(yardstick, world.audited(*values))
    apart = [read_system(yardstick, world.audited(v)).level.value for v in values]
    # The curve of the dose line bends the mean a little.
    assert together.level.value == pytest.approx(np.mean(apart), abs=2e-3)
    assert together.runs.shape == (3, 400)


def test_attainable_margin_is_known_before_any_system(yardstick: Yardstick) -> None:
    assert yardstick.attainable is not None
    assert 0 < yardstick.attainable < 1
    again = calibrate(Linear(), yardstick.background, rules())
    assert again.attainable == yardstick.attainable


# --- sections and p-values --------------------------------------------------------------------------------------


def test_sections(world: World) -> None:
    sure = calibrate(Linear(), world.background(), rules(margin=0.3))
    assert finding(sure, world.audited(world.original()))[0].section == "leak"
    assert finding(sure, world.audited(world.gold() - 3 * world.gain))[0].section == "over_forgotten"
    clean = [finding(sure, world.audited(world.gold()))[0].section for _ in range(5)]
    assert clean.count("clean") >= 4
    part = np.random.default_rng(2).random(400) < 0.3
    assert finding(sure, world.audited(world.signal(part)))[0].section == "inconclusive"


def test_a_finding_says_what_it_rests_on(world: World, yardstick: Yardstick) -> None:
    found, judged = finding(yardstick, world.audited(world.original()))
    assert (found.attack, found.primary, found.counts) == ("linear", True, True)
    assert (found.n_units, found.n_points, found.n_golds, found.n_references) == (400, 400, 8, 32)
    assert found.coverage == 1.0
    assert found.access == ["SCORES"]
    assert found.attainable_margin == yardstick.attainable
    assert found.p_value == float(np.min(holm(np.array(list(judged.p_values(0.1).values())))))
    assert found.residual_dose.value == judged.level.value
    assert (found.residual_dose.low, found.residual_dose.high) == judged.level.bounds(0.05)
    assert found.residual_dose.confidence == 0.9
    assert found.auc.value is not None
    assert found.auc.value > 0.6
    assert set(found.tpr_at_fpr) == {"0.01", "0.001"}


def test_auc_of_a_gold_is_near_one_half(world: World, yardstick: Yardstick) -> None:
    found = [finding(yardstick, world.audited(world.gold()))[0].auc for _ in range(4)]
    assert np.mean([a.value for a in found if a.value is not None]) == pytest.approx(0.5, abs=0.04)


def test_errors_for_fail_are_never_smaller(world: World, yardstick: Yardstick) -> None:
    judged = read_system(yardstick, world.audited(world.gold()))
    residual = yardstick.lines.level.residual_sd
    assert residual is not None
    assert judged.fail_level.error == max(judged.level.error, residual * np.sqrt(1 + 1 / world.golds))
    assert judged.fail_pattern is not None
    assert judged.pattern is not None
    assert judged.fail_pattern.error >= judged.pattern.error


# --- what is missing is said ------------------------------------------------------------------------------------


def test_units_that_were_not_answered_lower_the_coverage(world: World, yardstick: Yardstick) -> None:
    values = world.gold()
    values[:100] = np.nan
    found, judged = finding(yardstick, world.audited(values))
    assert judged.coverage == 0.75
    assert_array_equal(judged.units, np.arange(400) >= 100)
    assert found.section != "clean"
    assert "only 75.0% of the units were answered" in found.note


def test_a_system_that_answers_nothing_is_not_applicable(world: World, yardstick: Yardstick) -> None:
    mute = world.audited(np.full(400, np.nan))
    with pytest.raises(NotApplicableError, match="answered none of the questions"):
        read_system(yardstick, mute)
    found, judged = attempt(Linear(), yardstick, mute, rules())
    assert judged is None
    assert found.section == "not_applicable"
    assert "masked" in found.note
    assert found.residual_dose.value is None


def test_a_system_that_cannot_be_asked_is_not_applicable(world: World, yardstick: Yardstick) -> None:
    asked = world.audited(world.gold())
    deaf = Evidence(asked.systems, asked.units, asked.seen, asked.held, {})
    with pytest.raises(NotApplicableError, match="cannot be asked its probe signal"):
        read_system(yardstick, deaf)


def test_an_attack_that_raises_becomes_a_finding(world: World) -> None:
    background = world.background()
    with pytest.raises(ZeroDivisionError):
        calibrate(Broken(), background, rules())
    raw = calibrate(Raw(), background, rules())
    broken = Yardstick(Broken(), raw.rules, background, raw.judged, raw.scores, [])
    found, judged = attempt(Broken(), broken, world.audited(world.gold()), rules())
    assert judged is None
    assert found.section == "error"
    assert found.note == "ZeroDivisionError: nobody expected this"


def test_units_that_a_gold_does_not_answer_are_not_judged(world: World) -> None:
    background = world.background()
    reading = next(iter(background.readings.values()))
    reading.values["z"][background.rows("gold")[0], :7] = np.nan
    assert_array_equal(calibrate(Linear(), background, rules()).judged, np.arange(400) >= 7)
    reading.values["z"][background.rows("gold")[1], 7:] = np.nan
    with pytest.raises(NotApplicableError, match="answered by every Gold and original"):
        calibrate(Linear(), background, rules())


def test_units_of_the_tuning_split_are_not_judged(world: World) -> None:
    background = world.background()
    background.units.loc[:9, "split"] = "tune"
    assert calibrate(Linear(), background, rules()).judged.sum() == 390


def test_access_is_checked(world: World) -> None:
    with pytest.raises(NotApplicableError, match="needs access to SCORES"):
        calibrate(Linear(), world.background(), rules(allowed=Access.LISTS))


# --- what applies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_units", "per_unit", "has_pattern", "has_spread"),
    [(19, 1, False, False), (20, 1, True, True), (1, 19, False, False), (1, 20, True, False), (19, 2, True, False)],
)
def test_pattern_needs_20_points_and_spread_20_units(
    n_units: int, per_unit: int, has_pattern: bool, has_spread: bool
) -> None:
    world = World(n_units=n_units, per_unit=per_unit, strength=6.0)
    yardstick = calibrate(Linear(), world.background(), rules())
    assert (yardstick.has_pattern, yardstick.has_spread) == (has_pattern, has_spread)
    found, judged = finding(yardstick, world.audited(world.gold()))
    assert (judged.pattern is not None, judged.spread is not None) == (has_pattern, has_spread)
    assert found.pattern.note == ("" if has_pattern else "it needs 20 points and the request has 19")
    assert found.spread.note == ("" if has_spread else "needs 20 units")


def test_a_diagnostic_has_a_level_alone(world: World) -> None:
    found, judged = finding(calibrate(Raw(), world.background(), rules()), world.audited(world.original()))
    assert judged.pattern is None
    assert judged.spread is None
    assert (found.primary, found.counts, found.attainable_margin) == (False, True, None)
    assert found.spread.note == "not a linear score"
    assert found.section == "leak"


def test_without_signal_there_is_no_power(world: World) -> None:
    faint = World(n_units=40, strength=0.01, references=8)
    yardstick = calibrate(Linear(), faint.background(), rules())
    assert not yardstick.power
    assert yardstick.attainable is None
    found, _ = finding(yardstick, faint.audited(faint.gold()))
    assert found.section == "inconclusive"
    assert found.p_value is None
    assert "no power" in found.note


def test_an_attack_counts_where_it_says_so_or_judges() -> None:
    assert blank_finding(Raw(), rules(), section="error", note="").counts
    other = rules().__class__("item", 0.1, 0.05, "linear", Access.SCORES, 0)
    assert not blank_finding(Raw(), other, section="error", note="").counts
    assert blank_finding(Linear(), other, section="error", note="").counts


def test_spread_below_gold_is_a_note(world: World, yardstick: Yardstick) -> None:
    mean = np.mean([world.gold() for _ in range(40)], axis=0)
    found, judged = finding(yardstick, world.audited(mean))
    assert judged.spread is not None
    assert judged.spread.value < 0
    assert "no evidence either way" in found.note


@dataclass(frozen=True)
class Apart(Raw):
    """Distance to the mean Gold of the background."""

    name: ClassVar[str] = "apart"
    needs: ClassVar[Needs] = Needs(golds=2)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        reading = targets.readings[Signal()]
        mean = background.readings[Signal()].values["z"][background.rows("gold")].mean(0)
        return Scores(reading.sums(np.abs(reading.values["z"] - mean)), None, len(reading.points))


def test_a_distance_is_also_told_in_units_of_the_golds_own_scatter() -> None:
    world = World(golds=8, strength=3.0)
    yardstick = calibrate(Apart(), world.background(), rules(0.1))
    own, _ = finding(yardstick, world.audited(world.original()))
    clean, _ = finding(yardstick, world.audited(world.gold()))
    band, near = own.bands["forget"], clean.bands["forget"]
    assert set(own.bands) == {"forget"}
    assert band.low is not None
    assert band.low > 10
    assert near.low is not None
    assert near.high is not None
    assert near.low < 0 < near.high
    assert finding(calibrate(Raw(), world.background(), rules(0.1)), world.audited(world.original()))[0].bands == {}


class Accounts(Linear):
    """The linear attack, as if it asked fresh accounts."""

    name: ClassVar[str] = "accounts"

    def access_in(self, regime: Regime) -> Access:
        return Access.SCORES | Access.NEW_USERS


@pytest.mark.parametrize(("strength", "coarse"), [(6.0, False), (0.6, True)])
def test_accounts_without_decoys_fail_nothing_on_a_scale_beyond_one_dose(strength: float, coarse: bool) -> None:
    world = World(n_units=60, strength=strength, golds=4, references=16)
    background = world.background()
    plain, accounts = (calibrate(attack, background, rules(allowed=ALL_ACCESS)) for attack in (Linear(), Accounts()))
    assert not plain.coarse
    assert accounts.coarse == coarse
    assert coarse == (accounts.attainable is None or accounts.attainable > 1)
    far = world.audited(100 * world.original())
    assert finding(plain, far)[0].section == "leak"
    found, judged = finding(accounts, far)
    assert found.section == ("inconclusive" if coarse else "leak")
    assert ("cannot FAIL" in found.note) == coarse
    assert judged.excused(0.1, 0.05) == []
