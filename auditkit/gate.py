"""The gate: a report, a policy and perhaps a baseline become checks, a verdict and an exit code.

Thresholds are compared with the bounds of intervals as the report states them, so that a measurement too vague to
show what is demanded does not show it. A measurement that is missing does not pass, and the check says why.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal, TypeGuard

from auditkit.gate_policy import GatePolicy
from auditkit.record import EXIT_CODES, Control, Estimate, Record, SystemEntry, Verdict, worst

Level = Literal["error", "warning", "note"]

_FEW = 3  # reasons that a message repeats before it points to the report


@dataclass(frozen=True)
class Rule:
    """One kind of check. The id never changes its meaning: alerts and dashboards are matched by it.

    Attributes:
        id: `AUD` and three digits.
        name: the same in words, for machines.
        title: what must hold, one line.
        text: why it is asked, and what to do where it does not hold.
    """

    id: str
    name: str
    title: str
    text: str


RULES: tuple[Rule, ...] = (
    Rule(
        "AUD001", "verdict", "The audit's verdict is an accepted one",
        "FAIL: a trace beyond the margin was found. INCONCLUSIVE and INVALID show nothing; the reasons in the report "
        "name what would settle it.",
    ),
    Rule(
        "AUD002", "audited-system", "The gated system was audited",
        "A release cannot pass on a system that no report speaks of. Audit it, or mend the names in the policy.",
    ),
    Rule(
        "AUD003", "control", "The audit's own control is as expected",
        "A broken control means that the audit cannot be relied on, whatever it found. Mend it and audit again.",
    ),
    Rule(
        "AUD004", "margin", "The audit judged by a margin that the policy accepts",
        "A PASS within a wide margin says little. Audit with the policy's margin.",
    ),
    Rule(
        "AUD005", "attainable-margin", "The audit could have attained the margin",
        "The smallest margin at which nine in ten true Golds pass. More Golds, runs or units make it smaller.",
    ),
    Rule(
        "AUD006", "power", "The audit had enough power",
        "The probability that a system which still holds half of the units is found. More Golds raise it.",
    ),
    Rule(
        "AUD007", "forgetting-depth", "The lower bound of the forgetting depth is high enough",
        "1 is as deep as a system retrained without the data, 0 is no forgetting.",
    ),
    Rule(
        "AUD008", "utility", "Recommendations are not much worse than Gold's",
        "The lower bound of a metric's difference to the mean of the plain Golds.",
    ),
    Rule(
        "AUD009", "speedup", "Unlearning is fast enough",
        "The lower bound of Gold's training time over the method's time for one request.",
    ),
    Rule(
        "AUD010", "baseline", "The baseline can be compared with",
        "Reports are compared only where data set, request, backbone and primary attack are the same. Else make the "
        "baseline anew.",
    ),
    Rule(
        "AUD011", "regression", "Nothing is worse than in the baseline",
        "Worse: the whole interval lies below the baseline's. Of equal systems with normal, equally long 95% intervals "
        "3 in 1,000 are called worse.",
    ),
)  # fmt: skip

_TITLES = {rule.id: rule.title for rule in RULES}


@dataclass(frozen=True)
class Check:
    """One demand and what became of it.

    Attributes:
        rule: id of its `Rule`.
        title: the rule's title.
        system: name of the system it is about; "" for the audit as a whole.
        measure: what of the system, where the rule has several, such as `recall@20`; else "".
        outcome: PASS; FAIL where a demand is not met; INCONCLUSIVE or INVALID where the audit can carry no answer.
        level: `error` unless it passed; `warning` passed with a remark; `note` passed.
        message: the number, the bound and the reason, one sentence.
    """

    rule: str
    title: str
    system: str
    measure: str
    outcome: Verdict
    level: Level
    message: str

    @property
    def passed(self) -> bool:
        """Whether the demand is met."""
        return self.outcome == "PASS"


@dataclass(frozen=True)
class GateResult:
    """All checks of one report, in the order of the rules.

    Attributes:
        checks: at least one.
    """

    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst outcome: FAIL > INVALID > INCONCLUSIVE > PASS."""
        return worst([check.outcome for check in self.checks])

    @property
    def exit_code(self) -> int:
        """0 PASS, 1 FAIL, 4 INCONCLUSIVE or INVALID."""
        return EXIT_CODES[self.verdict]

    @property
    def broken(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)

    def to_json(self) -> str:
        """Verdict, exit code and checks as indented JSON with a final newline."""
        checks = [{**asdict(check), "passed": check.passed} for check in self.checks]
        whole = {"verdict": self.verdict, "exit_code": self.exit_code, "checks": checks}
        return json.dumps(whole, indent=2, allow_nan=False) + "\n"


def decide(record: Record, policy: GatePolicy, baseline: Record | None = None) -> GateResult:
    """Check a report.

    Args:
        record: the report.
        policy: the demands.
        baseline: an earlier report that must not be regressed from.

    Returns:
        Its checks. A named system that was not audited, or a report without audited systems, is a broken check.
    """
    chosen = _chosen(record, policy)
    systems = [entry for _, entry in chosen if entry is not None]
    checks = [*(_absent(name) for name, entry in chosen if entry is None), *_of_the_audit(record, policy)]
    for system in systems:
        checks += _of_a_system(system, policy)
    if baseline is not None:
        checks += _against(baseline, record, systems, policy)
    return GateResult(tuple(sorted(checks, key=lambda check: check.rule)))


def _check(
    rule: str, outcome: Verdict, message: str, system: str = "", measure: str = "", *, remark: bool = False
) -> Check:
    level: Level = "error" if outcome != "PASS" else "warning" if remark else "note"
    return Check(rule, _TITLES[rule], system, measure, outcome, level, message)


def _chosen(record: Record, policy: GatePolicy) -> list[tuple[str, SystemEntry | None]]:
    audited = {system.name: system for system in record.systems if system.role == "unlearned"}
    names = list(dict.fromkeys(policy.systems or audited))
    return [(name, audited.get(name)) for name in names] or [("", None)]


def _absent(name: str) -> Check:
    return _check("AUD002", "FAIL", "the report does not audit it" if name else "the report audits no system", name)


def _of_the_audit(record: Record, policy: GatePolicy) -> Iterator[Check]:
    yield from (_control(control, policy) for control in record.controls)
    if not record.controls:
        yield _check("AUD003", "INCONCLUSIVE", "the report has no controls, so nothing shows that it can be relied on")
    if policy.max_margin is not None:
        yield _limited("AUD004", "the margin", record.policy.margin, policy.max_margin)
    if policy.max_attainable_margin is not None:
        yield _limited("AUD005", "the attainable margin", record.attainable_margin, policy.max_attainable_margin)
    yield _powered(record, policy)


def _control(control: Control, policy: GatePolicy) -> Check:
    told = f"{control.observed}; expected: {control.expected}"
    if control.ok:
        return _check("AUD003", "PASS", told, measure=control.name)
    told = f"{told}; {control.consequence}" if control.consequence else told
    return _check("AUD003", _broken_control(control, policy), told, measure=control.name, remark=True)


def _broken_control(control: Control, policy: GatePolicy) -> Verdict:
    if "INCONCLUSIVE" in control.consequence:
        return "INCONCLUSIVE"
    if "INVALID" in control.consequence or not control.consequence or policy.controls == "all":
        return "INVALID"
    # The consequence is stated and names no verdict: the verdicts stand.
    return "PASS"


def _limited(rule: str, what: str, value: float | None, most: float) -> Check:
    if not _known(value):
        return _check(rule, "INCONCLUSIVE", f"{what} was not measured; the policy asks for at most {most:g}")
    met = value <= most
    told = f"{what} {value:.6g} is {'at most' if met else 'above'} {most:g}"
    return _check(rule, "PASS" if met else "INCONCLUSIVE", told)


def _powered(record: Record, policy: GatePolicy) -> Check:
    power, least = record.policy.power, policy.min_power
    if not _known(power):
        return _check("AUD006", "INCONCLUSIVE", f"the power was not measured; the policy asks for at least {least:g}")
    met = power >= least
    told = f"a half-forgotten system is found with probability {power:.6g}, {'at least' if met else 'below'} {least:g}"
    return _check("AUD006", "PASS" if met else "INCONCLUSIVE", told)


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _of_a_system(system: SystemEntry, policy: GatePolicy) -> Iterator[Check]:
    yield _verdict(system, policy)
    if policy.min_depth is not None:
        yield _at_least("AUD007", system, "depth", policy.min_depth)
    for metric, floor in policy.min_delta_vs_gold.items():
        yield _at_least("AUD008", system, metric, floor)
    if policy.min_speedup is not None:
        yield _at_least("AUD009", system, "speedup", policy.min_speedup)


def _verdict(system: SystemEntry, policy: GatePolicy) -> Check:
    found: Verdict = system.verdict or "INCONCLUSIVE"
    told = f"{found}{_reasons(system)}" if system.verdict else "INCONCLUSIVE: it was not judged"
    if found in policy.verdicts:
        return _check("AUD001", "PASS", told, system.name, remark=found != "PASS")
    if found == "PASS":
        return _check("AUD001", "FAIL", f"PASS, where the policy accepts {' or '.join(policy.verdicts)}", system.name)
    return _check("AUD001", found, told, system.name)


def _reasons(system: SystemEntry) -> str:
    more = len(system.reasons) - _FEW
    rest = [f"and {more} more in the report"] if more > 0 else []
    return f": {'; '.join([*system.reasons[:_FEW], *rest])}" if system.reasons else ""


def measured(system: SystemEntry, measure: str) -> Estimate:
    """The estimate that a threshold on `measure` is about; one without bounds, with a reason, where there is none.

    Args:
        system: an entry of a report.
        measure: `depth`, `speedup`, or a utility metric, for its difference to Gold.
    """
    if measure == "depth":
        return system.depth
    if measure == "speedup":
        return system.speedup_vs_gold
    if measure in system.utility:
        return system.utility[measure].delta_vs_gold
    return Estimate(note=f"the report has {', '.join(['depth', 'speedup', *sorted(system.utility)])}")


_WORDS: dict[str, str] = {"depth": "forgetting depth", "speedup": "speedup"}


def _what(measure: str) -> str:
    return _WORDS.get(measure, f"{measure} minus Gold's")


def _why(estimate: Estimate) -> str:
    return f": {estimate.note}" if estimate.note else ""


def _at_least(rule: str, system: SystemEntry, measure: str, floor: float) -> Check:
    estimate = measured(system, measure)
    if not _known(estimate.low):
        told = f"the lower bound of {_what(measure)} was not measured{_why(estimate)}; at least {floor:g} is asked for"
        return _check(rule, "FAIL", told, system.name, measure)
    met = estimate.low >= floor
    told = f"the lower bound of {_what(measure)}, {estimate.low:.6g}, is {'at least' if met else 'below'} {floor:g}"
    return _check(rule, "PASS" if met else "FAIL", told, system.name, measure)


_SAME: dict[str, Callable[[Record], str]] = {
    "data set": lambda record: record.dataset.digest,
    "request": lambda record: record.request.digest,
    "backbone": lambda record: record.backbone.name,
    "primary attack": lambda record: record.policy.primary,
}


def _against(old: Record, new: Record, systems: list[SystemEntry], policy: GatePolicy) -> Iterator[Check]:
    differing = [what for what, read in _SAME.items() if read(old) != read(new)]
    if differing:
        yield _check("AUD010", "INCONCLUSIVE", f"the baseline has another {' and another '.join(differing)}")
        return
    yield _check("AUD010", "PASS", "data set, request, backbone and primary attack are the same")
    before = {system.name: system for system in old.systems if system.role == "unlearned"}
    if not policy.systems:
        gone = sorted(before.keys() - {system.name for system in systems})
        yield from (_check("AUD002", "FAIL", "the baseline audits it, this report does not", name) for name in gone)
    for system in systems:
        yield from _regressions(before.get(system.name), system, policy)


def _regressions(old: SystemEntry | None, new: SystemEntry, policy: GatePolicy) -> Iterator[Check]:
    if old is None:
        told = "the baseline does not audit it, so there is nothing to regress from"
        yield _check("AUD011", "PASS", told, new.name, remark=True)
        return
    yield from (_regression(old, new, measure) for measure in policy.regression)


def _regression(old: SystemEntry, new: SystemEntry, measure: str) -> Check:
    was, now = measured(old, measure), measured(new, measure)
    if not _known(now.high) or not _known(now.low):
        told = f"the interval of {_what(measure)} was not measured{_why(now)}"
        return _check("AUD011", "FAIL", told, new.name, measure)
    if not _known(was.low):
        told = f"the baseline has no interval of {_what(measure)}{_why(was)}; nothing to regress from"
        return _check("AUD011", "PASS", told, new.name, measure, remark=True)
    worse = now.high < was.low
    bounds = f"[{now.low:.6g}, {now.high:.6g}]"
    lies = "lies wholly" if worse else "does not lie wholly"
    told = f"{_what(measure)} {bounds} {lies} below the baseline's, which starts at {was.low:.6g}"
    return _check("AUD011", "FAIL" if worse else "PASS", told, new.name, measure)
