from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from auditkit.contracts import Attack
from auditkit.data.dataset import Floats
from auditkit.findings import attempt, blank_finding, read_system
from auditkit.judge import Ruling, rule
from auditkit.record import Estimate, Finding, Verdict, worst
from auditkit.resolution import power_at_half, remedies, settle
from auditkit.yardstick import Rules, Yardstick, calibrate

from .gaussian import Broken, Linear, Raw, World, rules


@cache
def yardstick_of(world: World, margin: float, attack: Attack) -> Yardstick:
    return calibrate(attack, world.background(), rules(margin))


def judge(
    world: World,
    *values: Floats,
    margin: float = 0.35,
    broken: Mapping[str, str] | None = None,
    others: Sequence[Finding] = (),
    direct: Sequence[str] = (),
) -> Ruling:
    """The verdict on runs that answer `values`, with the linear attack as primary."""
    yardstick = yardstick_of(world, margin, Linear())
    found, judged = attempt(Linear(), yardstick, world.audited(*values), yardstick.rules)
    return rule([found, *others], judged, yardstick, yardstick.rules, len(values), broken or {}, direct)


@pytest.fixture(scope="module")
def world() -> World:
    return World(n_units=400, references=32, seed=5)


# --- systems of known truth -------------------------------------------------------------------------------------


def test_the_original_fails_on_every_statistic(world: World) -> None:
    ruling = judge(world, world.original())
    assert ruling.verdict == "FAIL"
    assert len(ruling.reasons) == 3
    for reason, name in zip(ruling.reasons, ("level", "pattern", "spread"), strict=True):
        assert reason.startswith(f"{name} of linear reads ")
        assert "beyond the margin 0.35" in reason
        assert reason.endswith("still remembered")
    assert ruling.depth.value == pytest.approx(0, abs=0.25)


def test_fresh_golds_pass_and_say_what_was_shown(world: World) -> None:
    rulings = [judge(world, world.gold()) for _ in range(8)]
    assert sum(r.verdict == "PASS" for r in rulings) >= 7
    passed = next(r for r in rulings if r.verdict == "PASS")
    assert passed.reasons == ["level, pattern and spread of linear lie within 0.35 of Gold at one-sided 95%"]
    assert passed.depth.value is not None
    assert passed.depth.value > 0.65


def test_a_system_that_keeps_half_fails_with_a_depth_of_a_half(world: World) -> None:
    ruling = judge(world, world.signal(np.random.default_rng(0).permutation(400) < 200), margin=0.1)
    assert ruling.verdict == "FAIL"
    assert ruling.depth.value == pytest.approx(0.5, abs=0.15)
    assert ruling.depth.low is not None
    assert ruling.depth.high is not None
    assert ruling.depth.low < 0.5 < ruling.depth.high


def test_tuned_to_the_level_of_gold_fails_by_its_pattern(world: World) -> None:
    """The original minus a constant: level 0, memory untouched."""
    yardstick = yardstick_of(world, 0.35, Linear())
    low, high = 0.0, 5.0
    original = world.original()
    for _ in range(40):
        shift = (low + high) / 2
        above = read_system(yardstick, world.audited(original - shift)).level.value > 0
        low, high = (shift, high) if above else (low, shift)
    tuned = read_system(yardstick, world.audited(original - low))
    assert abs(tuned.level.value) < 1e-6
    ruling = judge(world, original - low)
    assert ruling.verdict == "FAIL"
    assert any(reason.startswith("pattern of linear") for reason in ruling.reasons)
    assert not any(reason.startswith("level of linear") for reason in ruling.reasons)
    assert ruling.depth.statistic in ("pattern", "spread")


def test_over_forgetting_is_a_leak_too(world: World) -> None:
    ruling = judge(world, world.gold() - world.gain)
    assert ruling.verdict == "FAIL"
    assert ruling.reasons[0].endswith("over-forgotten")


def test_keeping_some_units_and_over_forgetting_others_shows_in_the_spread(world: World) -> None:
    signs = np.where(np.arange(400) % 2, 1.0, -1.0)
    ruling = judge(world, world.gold() + signs * world.gain)
    assert ruling.verdict == "FAIL"
    assert any(reason.startswith("spread of linear") for reason in ruling.reasons)


def test_a_residue_near_the_margin_is_inconclusive_and_says_what_would_settle_it(world: World) -> None:
    kept = np.random.default_rng(3).permutation(400) < 130
    ruling = judge(world, world.signal(kept))
    assert ruling.verdict == "INCONCLUSIVE"
    assert len(ruling.reasons) == 1
    assert "without certainly doing so" in ruling.reasons[0]
    assert "more Golds (a higher profile) or more runs of the unlearner narrow the interval" in ruling.reasons[0]


def test_a_margin_below_the_attainable_one_is_named(world: World) -> None:
    ruling = judge(world, world.gold(), margin=0.05)
    attainable = yardstick_of(world, 0.05, Linear()).attainable
    assert attainable is not None
    assert ruling.verdict == "INCONCLUSIVE"
    assert f"even a true Gold passes reliably only at a margin of {attainable:.3f}" in ruling.reasons[0]


def test_what_would_settle_it_is_said_in_numbers(world: World) -> None:
    yardstick = yardstick_of(world, 0.05, Linear())
    settled_by = settle(yardstick)
    assert settled_by is not None
    found, judged = attempt(Linear(), yardstick, world.audited(world.gold()), yardstick.rules)
    ruling = rule([found], judged, yardstick, yardstick.rules, 1, {}, settled_by=settled_by)
    assert ruling.verdict == "INCONCLUSIVE"
    assert ruling.reasons[0].endswith(remedies(settled_by))
    assert f"{settled_by.units:,} units in the request (now 400)" in ruling.reasons[0]


# --- power ------------------------------------------------------------------------------------------------------


def test_below_the_least_power_nothing_passes_and_what_fails_still_fails(world: World) -> None:
    """The same readings under a policy that asks for more power than there is."""
    gold = passing(world)
    yardstick = yardstick_of(world, 0.35, Linear())
    power = power_at_half(yardstick)
    for least, verdict in ((0.0, "PASS"), (power - 1e-6, "PASS"), (power + 1e-6, "INCONCLUSIVE")):
        strict = replace(yardstick.rules, min_power=least)
        for values, expected in ((gold, verdict), (world.original(), "FAIL")):
            found, judged = attempt(Linear(), yardstick, world.audited(values), strict)
            ruling = rule([found], judged, yardstick, strict, 1, {})
            assert ruling.verdict == expected
            if expected == "INCONCLUSIVE":
                assert ruling.reasons[0].startswith("the audit is too weak: a system that holds half of the units is")


# --- what is missing --------------------------------------------------------------------------------------------


def test_a_masked_part_is_inconclusive(world: World) -> None:
    values = world.gold()
    values[:40] = np.nan
    ruling = judge(world, values)
    assert ruling.verdict == "INCONCLUSIVE"
    assert "the system answered 90.0% of the units; a masked answer shows nothing about the weights" in ruling.reasons


def test_an_entirely_masked_system_is_inconclusive(world: World) -> None:
    ruling = judge(world, np.full(400, np.nan))
    assert ruling.verdict == "INCONCLUSIVE"
    assert ruling.reasons[0].startswith("the primary attack linear is not applicable: the system answered none")
    assert ruling.depth.value is None


def test_no_yardstick_is_inconclusive() -> None:
    refused = blank_finding(Linear(), rules(), section="not_applicable", note="it needs 4 references")
    ruling = rule([refused], None, None, rules(), 1, {})
    assert ruling.verdict == "INCONCLUSIVE"
    assert ruling.reasons == ["the primary attack linear is not applicable: it needs 4 references"]
    assert rule([], None, None, rules(), 1, {}).reasons == [
        "the primary attack linear is not applicable: it did not run"
    ]


def test_an_attack_that_erred_bars_a_pass_and_no_fail(world: World) -> None:
    erred = blank_finding(Broken(), rules(), section="error", note="ZeroDivisionError: x")
    verdicts = [judge(world, world.gold(), others=[erred]) for _ in range(3)]
    assert {r.verdict for r in verdicts} == {"INCONCLUSIVE"}
    assert all(r.reasons[0] == "attack broken ended in an error: ZeroDivisionError: x" for r in verdicts)
    assert judge(world, world.original(), others=[erred]).verdict == "FAIL"


def test_without_power_nothing_passes_or_fails() -> None:
    faint = World(n_units=60, strength=0.01, references=8)
    broken = {"original": "INCONCLUSIVE: the original is not found"}
    for values in (faint.gold(), faint.gold() + 30):
        ruling = judge(faint, values, broken=broken)
        assert ruling.verdict == "INCONCLUSIVE"
        assert ruling.reasons[0] == "the original is not found"
    assert any("ask a larger request" in reason for reason in judge(faint, faint.gold()).reasons)


def test_too_few_units_need_three_runs() -> None:
    few = World(n_units=15, per_unit=4, strength=10.0, golds=12, references=32)
    one, three = judge(few, few.gold(), margin=0.6), judge(few, *(few.gold() for _ in range(3)), margin=0.6)
    assert one.verdict == "INCONCLUSIVE"
    assert any("3 runs of the unlearner are needed, not 1" in reason for reason in one.reasons)
    assert three.verdict == "PASS"
    assert three.reasons[0].startswith("level and pattern (spread not shown) of linear")


def test_an_original_no_wider_than_golds_shows_no_spread() -> None:
    """Many units with a faint trace each: the level is found, but no single unit stands out."""
    faint = World(n_units=2_000, strength=0.12, references=64, seed=1)
    yardstick = yardstick_of(faint, 0.95, Linear())
    assert yardstick.power
    assert not yardstick.has_spread
    assert yardstick.attainable is not None
    ruling = judge(faint, faint.gold(), margin=0.95)
    assert ruling.verdict == "INCONCLUSIVE"
    expected = "the spread is not shown (the original spreads no wider than the Golds), so 3 runs"
    assert any(reason.startswith(expected) for reason in ruling.reasons)


def test_too_few_points_cannot_pass() -> None:
    few = World(n_units=15, strength=20.0, references=32)
    ruling = judge(few, *(few.gold() for _ in range(3)), margin=0.9)
    assert ruling.verdict == "INCONCLUSIVE"
    wanted = "the pattern is not shown: it needs 20 points and the request has 15"
    assert any(wanted in reason for reason in ruling.reasons)


def test_a_pattern_that_the_original_does_not_show_cannot_pass_or_fail_anybody() -> None:
    """Every pair gains alike, so the pattern's scale has no length and its readings mean nothing."""
    flat = World(n_units=400, strength=3.0)
    object.__setattr__(flat, "gain", np.full(400, 3.0))
    gold = judge(flat, flat.gold())
    assert gold.verdict == "INCONCLUSIVE"
    assert any("the original's pattern does not stand out" in reason for reason in gold.reasons)
    original = judge(flat, flat.original())
    assert original.verdict == "FAIL"
    assert not any("pattern of" in reason for reason in original.reasons)


# --- other attacks, controls, direct checks ---------------------------------------------------------------------


def diagnostic(p: float | None, *, counts: bool = True, value: float = 0.8) -> Finding:
    base = blank_finding(Raw(), rules(), section="leak", note="")
    return base.model_copy(update={"p_value": p, "counts": counts, "residual_dose": Estimate(value=value)})


def passing(world: World) -> Floats:
    """A Gold that passes by itself."""
    return next(v for v in (world.gold() for _ in range(20)) if judge(world, v).verdict == "PASS")


def test_diagnostics_fail_by_holm(world: World) -> None:
    gold = passing(world)
    assert judge(world, gold, others=[diagnostic(0.02)]).verdict == "FAIL"
    # Two looks halve what each may claim: alpha / 2 = .025 over both.
    assert judge(world, gold, others=[diagnostic(0.02), diagnostic(0.5)]).verdict == "PASS"
    assert judge(world, gold, others=[diagnostic(0.012), diagnostic(0.5)]).verdict == "FAIL"
    reasons = judge(world, gold, others=[diagnostic(0.012), diagnostic(0.5)]).reasons
    assert reasons == ["diagnostic raw reads 0.800, beyond the margin (p = 0.012)"]


def test_notes_and_powerless_diagnostics_never_fail(world: World) -> None:
    gold = passing(world)
    assert judge(world, gold, others=[diagnostic(1e-9, counts=False), diagnostic(None)]).verdict == "PASS"
    # Nor do they cost a diagnostic that counts its share of alpha.
    others = [diagnostic(0.02), diagnostic(1e-9, counts=False), diagnostic(None)]
    assert judge(world, gold, others=others).verdict == "FAIL"


def test_a_diagnostic_can_never_pass(world: World) -> None:
    clean = diagnostic(0.9, value=0.0).model_copy(update={"section": "clean"})
    assert judge(world, np.full(400, np.nan), others=[clean]).verdict == "INCONCLUSIVE"


def test_controls_outrank_findings(world: World) -> None:
    invalid = {"extra Gold": "INVALID: an independent Gold FAILs", "half-erased": "INCONCLUSIVE: not found"}
    for values in (world.gold(), world.original()):
        ruling = judge(world, values, broken=invalid)
        assert (ruling.verdict, ruling.reasons) == ("INVALID", ["an independent Gold FAILs"])
    unpowered = {"half-erased": "INCONCLUSIVE: not found"}
    assert judge(world, world.original(), broken=unpowered).verdict == "INCONCLUSIVE"
    assert judge(world, passing(world), broken=unpowered).reasons == ["not found"]


def test_what_is_seen_directly_fails_without_statistics(world: World) -> None:
    ruling = judge(world, passing(world), direct=["served-data: 3 of 9 forgotten pairs"])
    assert (ruling.verdict, ruling.reasons) == ("FAIL", ["served-data: 3 of 9 forgotten pairs"])
    unpowered = {"original": "INCONCLUSIVE: no power"}
    assert judge(world, passing(world), broken=unpowered, direct=["served-data: 3 of 9"]).verdict == "FAIL"


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["PASS", "INCONCLUSIVE"], "INCONCLUSIVE"),
        (["INCONCLUSIVE", "INVALID", "PASS"], "INVALID"),
        (["INVALID", "FAIL"], "FAIL"),
        (["PASS", "PASS"], "PASS"),
        ([], "INCONCLUSIVE"),
    ],
)
def test_the_worst_verdict_counts(verdicts: list[Verdict], expected: Verdict) -> None:
    assert worst(verdicts) == expected


# --- depth ------------------------------------------------------------------------------------------------------


def test_depth_is_set_by_the_deepest_trace(world: World) -> None:
    yardstick = yardstick_of(world, 0.35, Linear())
    for values in (world.gold(), world.original(), world.gold() - world.gain, world.original() - 1.5):
        judged = read_system(yardstick, world.audited(values))
        assert judged.pattern is not None
        assert judged.spread is not None
        traces = {
            "level": abs(judged.level.value),
            "pattern": abs(judged.pattern.value),
            "spread": max(judged.spread.value, 0.0),
        }
        depth = judge(world, values).depth
        assert depth.value == 1 - max(traces.values())
        assert traces[depth.statistic] == max(traces.values())
        assert depth.attack == "linear"


# --- many audits ------------------------------------------------------------------------------------------------


def test_true_golds_pass_nine_times_in_ten_at_the_attainable_margin_and_never_fail() -> None:
    verdicts = []
    for seed in range(300):
        small = World(n_units=100, strength=1.5, golds=8, references=16, seed=seed)
        yardstick = calibrate(Linear(), small.background(), rules())
        assert yardstick.attainable is not None
        at: Rules = replace(yardstick.rules, margin=yardstick.attainable)
        judged = read_system(yardstick, small.audited(small.gold()))
        blank = blank_finding(Linear(), at, section="clean", note="")
        verdicts.append(rule([blank], judged, yardstick, at, 1, {}).verdict)
    assert verdicts.count("FAIL") <= 3
    assert verdicts.count("PASS") / 300 >= 0.85


def test_a_true_residue_at_the_margin_passes_and_fails_rarely() -> None:
    """At the boundary both errors stay near their nominal size: effective dose = margin."""
    verdicts = []
    for seed in range(150):
        small = World(n_units=100, strength=2.0, golds=8, references=16, seed=1_000 + seed)
        yardstick = calibrate(Linear(), small.background(), rules())
        held = np.random.default_rng(seed).permutation(100) < 40
        dose = float(small.gain[held].sum() / small.gain.sum())
        judged = read_system(yardstick, small.audited(small.signal(held)))
        at = replace(yardstick.rules, margin=dose)
        blank = blank_finding(Linear(), at, section="clean", note="")
        verdicts.append(rule([blank], judged, yardstick, at, 1, {}).verdict)
    assert verdicts.count("PASS") / 150 <= 0.1
    assert verdicts.count("FAIL") / 150 <= 0.2
