"""Checks of the audit itself: an extra Gold, the original, a half-erased system, and attackers who see no model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from auditkit.blind import blind_controls
from auditkit.contracts import Attack
from auditkit.data.dataset import Ints
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case, Evidence
from auditkit.findings import attempt, read_system
from auditkit.judge import rule
from auditkit.record import Control
from auditkit.yardstick import Rules, Yardstick

# Of a request that names one person nobody can hold a half, and of a few units a random half may be nearly nothing.
_LEAST_HALF = 0.25


def check_controls(
    case: Case | None, background: Evidence, yardsticks: Mapping[Attack, Yardstick], rules: Rules
) -> tuple[list[Control], dict[str, str]]:
    """Run the controls.

    Args:
        case: None where the data are not at hand: the blind attacks, which read nothing else, are then left out.
        background: originals, Golds, references and controls.
        yardsticks: attack -> calibrated.
        rules: fixed beforehand.

    Returns:
        The controls, and what each broken one means for verdicts (`INVALID: ...`, `INCONCLUSIVE: ...`).
    """
    controls = blind_controls(case) if case is not None else []
    primary = next((y for a, y in yardsticks.items() if a.name == rules.primary), None)
    if primary is not None:
        controls = [
            _control_gold(primary, background, yardsticks, rules), _original(primary),
            _half(primary, background), *controls
        ]  # fmt: skip
    broken = {
        c.name: c.consequence for c in controls if not c.ok and c.consequence.startswith(("INVALID", "INCONCLUSIVE"))
    }
    return controls, broken


def _named(background: Evidence, name: str) -> Evidence:
    rows: Ints = np.array([k for k, s in enumerate(background.systems) if s.name == name], np.int64)
    return background.take(rows)


def _control_gold(
    primary: Yardstick, background: Evidence, yardsticks: Mapping[Attack, Yardstick], rules: Rules
) -> Control:
    extra = _named(background, "control gold")
    read = {attack: attempt(attack, yardstick, extra, rules) for attack, yardstick in yardsticks.items()}
    judged = next((judged for attack, (_, judged) in read.items() if attack.name == rules.primary), None)
    ruling = rule([found for found, _ in read.values()], judged, primary, rules, len(extra.systems), {})
    level = f", level {judged.level.value:.3f}" if judged else ""
    return Control(
        name="extra Gold", expected="a Gold that is in no pool does not FAIL",
        observed=f"{ruling.verdict}{level}", ok=ruling.verdict != "FAIL",
        consequence="INVALID: an independent Gold FAILs, so the yardstick is off (confounded data, too few Golds)",
    )  # fmt: skip


def _original(primary: Yardstick) -> Control:
    low = primary.scale(primary.scores.level, primary.judged).power.bounds(primary.rules.alpha)[0]
    return Control(
        name="original", expected="the system that forgot nothing is found: lower bound of its level above 0",
        observed=f"lower bound {low:.3f}" if np.isfinite(low) else "no gap between Golds and original",
        ok=primary.power,
        consequence="INCONCLUSIVE: the original is not found, so the audit has no power on this request",
    )  # fmt: skip


def _half(primary: Yardstick, background: Evidence) -> Control:
    consequence = (
        "INCONCLUSIVE: a system that holds half of the units is not found, so the audit has no power on this request"
    )
    expected = "a system that still holds a random half is found: lower bound of its level above 0"
    half = _named(background, "half-erased")
    scale = primary.scale(primary.scores.level, primary.judged)
    dose = scale.effective(half.held[0, primary.judged].astype(np.float64))
    if primary.power and dose < _LEAST_HALF:
        n = int(primary.judged.sum())
        observed = f"not applicable: the half of {n} unit{'s' if n > 1 else ''} holds {dose:.2f} of the dose"
        return Control(name="half-erased", expected=expected, observed=observed, ok=True, consequence=consequence)
    try:
        reading = read_system(primary, half).level
    except NotApplicableError as reason:
        return Control(name="half-erased", expected=expected, observed=str(reason), ok=False, consequence=consequence)
    low = reading.bounds(primary.rules.alpha)[0]
    return Control(
        name="half-erased", expected=expected, observed=f"level {reading.value:.3f}, lower bound {low:.3f}",
        ok=low > 0 and primary.power, consequence=consequence,
    )  # fmt: skip
