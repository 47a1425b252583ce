"""Findings to a verdict: PASS needs every bound of the primary inside the margin, FAIL a bound beyond it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from auditkit.findings import Judged
from auditkit.record import Depth, Finding, Settle, Verdict
from auditkit.resolution import power_at_half, remedies
from auditkit.statistics.multiplicity import holm
from auditkit.yardstick import Rules, Yardstick

MIN_RUNS_WITHOUT_SPREAD = 3
UNCALIBRATED = (
    "modality requests have not been calibrated: what the attacks read is shown, and no verdict is given by rule; "
    "the regimes interaction, user and item are judged"
)


@dataclass(frozen=True)
class Ruling:
    """A system's verdict with its reasons."""

    verdict: Verdict
    reasons: list[str]
    depth: Depth


def rule(
    findings: Sequence[Finding],
    primary: Judged | None,
    yardstick: Yardstick | None,
    rules: Rules,
    runs: int,
    broken: Mapping[str, str],
    direct: Sequence[str] = (),
    settled_by: Settle | None = None,
) -> Ruling:
    """The verdict on one system.

    Args:
        findings: of all attacks on it.
        primary: readings of the primary attack, None where it could not be applied.
        yardstick: of the primary attack.
        rules: fixed beforehand.
        runs: how many runs of the unlearner were read.
        broken: control -> what it means; `INVALID: ...` or `INCONCLUSIVE: ...`.
        direct: what was found without statistics and settles a FAIL (forgotten pairs in the serving data).
        settled_by: what would make the margin attainable, from `resolution.settle`; for the words of a doubt.
    """  # fmt: skip
    depth = _depth(primary, rules)
    invalid = _meaning(broken, "INVALID")
    if invalid:
        return Ruling("INVALID", invalid, depth)
    failing = _failing(findings, primary, rules)
    unpowered = _meaning(broken, "INCONCLUSIVE")
    if rules.regime == "modality":
        unpowered.append(UNCALIBRATED)
    if direct or (failing and not unpowered):
        return Ruling("FAIL", [*direct, *failing], depth)
    doubts = unpowered + _doubts(findings, primary, yardstick, rules, runs, settled_by)
    if doubts:
        return Ruling("INCONCLUSIVE", doubts, depth)
    shown = "level, pattern and spread" if primary and primary.spread else "level and pattern (spread not shown)"
    return Ruling(
        "PASS",
        [f"{shown} of {rules.primary} lie within {rules.margin:g} of Gold at one-sided {1 - rules.alpha:.0%}"],
        depth,
    )


def _meaning(broken: Mapping[str, str], verdict: Verdict) -> list[str]:
    """What broken controls say that lead to a verdict, without the verdict's own name before it."""
    head = f"{verdict}: "
    return [reason.removeprefix(head) for reason in broken.values() if reason.startswith(head)]


def _failing(findings: Sequence[Finding], primary: Judged | None, rules: Rules) -> list[str]:
    reasons = []
    if primary is not None:
        p_values = primary.p_values(rules.margin)
        for (name, p), corrected in zip(p_values.items(), holm(np.array(list(p_values.values()))), strict=True):
            if corrected < rules.alpha / 2:
                reading = {"level": primary.level, "pattern": primary.pattern, "spread": primary.spread}[name]
                assert reading is not None
                side = "over-forgotten" if reading.value < 0 else "still remembered"
                reasons.append(
                    f"{name} of {rules.primary} reads {reading.value:.3f}, beyond the margin {rules.margin:g} "
                    f"(p = {p:.2g}): {side}"
                )
    measured = [f for f in findings if f.counts and not f.primary and f.p_value is not None]
    corrected_all = holm(np.array([f.p_value for f in measured], np.float64)) if measured else np.empty(0)
    for f, corrected in zip(measured, corrected_all, strict=True):
        if corrected < rules.alpha / 2 and f.residual_dose.value is not None:
            reasons.append(
                f"diagnostic {f.attack} reads {f.residual_dose.value:.3f}, beyond the margin (p = {f.p_value:.2g})"
            )
    return reasons


def _doubts(
    findings: Sequence[Finding], primary: Judged | None, yardstick: Yardstick | None, rules: Rules, runs: int,
    settled_by: Settle | None,
) -> list[str]:  # fmt: skip
    """Why a system that does not FAIL cannot PASS either, each with what would settle it."""
    doubts = [f"attack {f.attack} ended in an error: {f.note}" for f in findings if f.section == "error"]
    if primary is None or yardstick is None:
        why = next((f.note for f in findings if f.primary), "it did not run")
        return [*doubts, f"the primary attack {rules.primary} is not applicable: {why}"]
    if not yardstick.power:
        return [
            *doubts,
            "the original does not stand out from the Golds, so nothing can be shown; ask a larger request",
        ]
    power = power_at_half(yardstick)
    if power < rules.min_power:
        doubts.append(
            f"the audit is too weak: a system that holds half of the units is found with probability {power:.2f}, and "
            f"the policy asks for {rules.min_power:g}; more Golds (a higher profile) or a larger request raise it"
        )
    if primary.coverage < 1:
        doubts.append(
            f"the system answered {primary.coverage:.1%} of the units; a masked answer shows nothing about the weights"
        )
    if primary.pattern is None:
        doubts.append(f"the pattern is not shown: {yardstick.without_pattern}; a larger request may settle it")
    if primary.spread is None and runs < MIN_RUNS_WITHOUT_SPREAD:
        why = yardstick.without_spread or "not by the units that it answered"
        doubts.append(
            f"the spread is not shown ({why}), so {MIN_RUNS_WITHOUT_SPREAD} runs of the unlearner "
            f"are needed, not {runs}"
        )
    excused = primary.excused(rules.margin, rules.alpha)
    if excused:
        lie = "lies" if len(excused) == 1 else "lie"
        doubts.append(
            f"{' and '.join(excused)} of {rules.primary} {lie} beyond the margin {rules.margin:g}, but pairs that "
            "nobody was trained on moved alike: the method trains otherwise than the Golds did; train Golds as it "
            "trains"
        )
    elif not primary.inside(rules.margin, rules.alpha):
        doubts.append(_outside(primary, yardstick, rules, settled_by))
    return doubts


def _outside(primary: Judged, yardstick: Yardstick, rules: Rules, settled_by: Settle | None) -> str:
    worst_name, worst_bound = max(
        ((name, max(abs(b) if name != "spread" else b for b in reading.bounds(rules.alpha)))
         for name, reading in (("level", primary.level), ("pattern", primary.pattern), ("spread", primary.spread))
         if reading is not None),
        key=lambda pair: pair[1],
    )  # fmt: skip
    attainable = yardstick.attainable
    remedy = "more Golds (a higher profile) or more runs of the unlearner narrow the interval"
    if settled_by is not None:
        remedy = remedies(settled_by)
    if attainable is not None and attainable > rules.margin:
        remedy = f"even a true Gold passes reliably only at a margin of {attainable:.3f}; {remedy}"
    reach = f"{worst_name} of {rules.primary} may reach {worst_bound:.3f}, beyond the margin {rules.margin:g}"
    return f"{reach}, without certainly doing so; {remedy}"


def _depth(primary: Judged | None, rules: Rules) -> Depth:
    if primary is None:
        return Depth(attack=rules.primary, note="the primary attack was not applicable")
    values = {"level": abs(primary.level.value)}
    highest, lowest = [], []
    for name, reading in (("level", primary.level), ("pattern", primary.pattern)):
        if reading is not None:
            low, high = reading.bounds(rules.alpha)
            values[name] = abs(reading.value)
            highest.append(max(abs(low), abs(high)))
            lowest.append(0.0 if low <= 0 <= high else min(abs(low), abs(high)))
    if primary.spread is not None:
        low, high = primary.spread.bounds(rules.alpha)
        values["spread"] = max(primary.spread.value, 0.0)
        highest.append(max(high, 0.0))
        lowest.append(max(low, 0.0))
    deepest = max(values, key=lambda name: values[name])
    return Depth(
        value=1 - values[deepest], low=1 - max(highest), high=1 - max(lowest), confidence=1 - 2 * rules.alpha,
        method="1 - max(|L|, |P|, max(rho, 0)); interval from the bounds of each", attack=rules.primary,
        statistic=deepest,
    )  # fmt: skip
