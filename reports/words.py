"""Plain words: what a verdict means and does not mean, what was asked and found, what each statistic says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from auditkit.record import (
    Depth,
    Estimate,
    Finding,
    Record,
    Role,
    Section,
    SystemEntry,
    UnitGroup,
    UnitTests,
    Verdict,
    worst,
)
from auditkit.reports import numbers


@dataclass(frozen=True)
class VerdictWords:
    """How one verdict is put before a reader.

    Attributes:
        symbol, plain: one sign for terminals, and its ASCII stand-in.
        headline: the verdict in words.
        meaning: what was concluded.
        limit: what must not be concluded.
    """

    symbol: str
    plain: str
    headline: str
    meaning: str
    limit: str


VERDICTS: Mapping[Verdict, VerdictWords] = {
    "PASS": VerdictWords(
        "✔", "+", "Forgotten, as far as this audit can see",
        "On every primary measure the audited behaviour lies within the margin of systems that never saw "
        "the data.",
        "A PASS is no proof that the data is gone everywhere: it says that these probes, with this access "
        "and within this margin, find what a system retrained without the data would show.",
    ),
    "FAIL": VerdictWords(
        "✘", "x", "Not forgotten the way a retrained system would have",
        "At least one measure lies beyond the margin, in one direction or the other: a trace of the data is "
        "left, or the removal itself left one.",
        "A FAIL does not say who is at fault, nor that a stranger could read single interactions out of the "
        "system.",
    ),
    "INCONCLUSIVE": VerdictWords(
        "?", "?", "Neither forgetting nor a leak was shown",
        "The measurements are too uncertain for either claim.",
        "INCONCLUSIVE is neither a clean bill nor an accusation: treat the deletion as not demonstrated.",
    ),
    "INVALID": VerdictWords(
        "⊘", "!", "This audit cannot be relied on",
        "A check of the audit itself came out wrong, so none of its readings can carry a verdict.",
        "INVALID says nothing about the audited systems, good or bad: mend what the controls name and audit "
        "again.",
    ),
}  # fmt: skip

ROLES: Mapping[Role, str] = {
    "unlearned": "audited",
    "original": "original, before deletion",
    "gold": "Gold, retrained without the data",
    "plain gold": "plain Gold, of utility and speedup: one model retrained without the data",
    "reference": "reference, retrained with part of the data",
    "control": "control",
}

# What the scale puts at its two ends, where a record states no reading: (dose, forgetting depth).
ANCHORS: Mapping[Role, tuple[str, str]] = {"gold": ("0", "1"), "original": ("1", "0")}

SECTIONS: Mapping[Section, str] = {
    "leak": "leak",
    "over_forgotten": "over-forgotten",
    "clean": "clean",
    "inconclusive": "inconclusive",
    "release": "judged apart",
    "not_applicable": "not applicable",
    "error": "error",
}

STATISTICS: tuple[tuple[str, str], ...] = (
    (
        "Gold",
        "The same training procedure, run from scratch on the data without what had to be forgotten. It is "
        "the yardstick: a system has forgotten when it cannot be told from Golds.",
    ),
    (
        "Residual dose L",
        "The share of the forget set that the system behaves as if it still held: 0 like Gold, 1 like the "
        "original, below 0 over-forgotten.",
    ),
    (
        "Pattern P",
        "The same scale, blind to a shift that all forgotten scores have in common. It finds systems that "
        "were merely tuned to the right average.",
    ),
    (
        "Spread ρ",
        "The same scale for how far single units stray from where Golds put them. It finds damage that "
        "cancels out on average; below 0 it is a remark, not a merit.",
    ),
    (
        "Forgetting depth",
        "1 minus the largest of |L|, |P| and ρ of the primary attack: 1 is as deep as a retrained system, 0 "
        "is no forgetting. It is never an average over attacks.",
    ),
    (
        "AUC, TPR at a FPR",
        "How well the attack's scores tell this system from Golds, unit by unit: AUC 0.5 is chance. The "
        "true-positive rate at a small false-positive rate shows whether a few units are recognised with "
        "confidence.",
    ),
    (
        "p",
        "How likely readings this far out would be for a system no further from Gold than the margin allows.",
    ),
    (
        "Coverage",
        "The share of the questions that the system answered; a system may decline to offer an item.",
    ),
    (
        "Attainable margin",
        "The smallest margin at which 90% of true Golds would pass, given how much Golds differ among "
        "themselves. It is fixed before an audited system is read.",
    ),
    (
        "Power",
        "The probability that one system which still holds half of the units is found, given how much Golds differ. "
        "Below the policy's least power nothing can pass.",
    ),
    (
        "Units told from Gold",
        "Units that, tested one by one, no Gold would score so, with at most 5% false ones among them "
        "(Benjamini and Hochberg). That none is told proves little: few Golds can show no small p-value.",
    ),
    (
        "Recall@20, NDCG@20",
        "How good the recommendations are on held-out interactions, with the difference to the mean of the "
        "plain Golds.",
    ),
    (
        "Speedup",
        "Gold's training time over the method's time for one request. The break-even number of requests "
        "counts where the method's own training is dearer.",
    ),
)

FEW = 6  # reasons that stand beside the verdict before the rest is folded away

ORDER: tuple[Role, ...] = ("unlearned", "original", "control", "gold", "plain gold", "reference")


# Control characters, and those that turn the direction of writing, which could make a name read as another.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Text with `?` for characters that steer a terminal, break a page or turn the direction of writing."""
    return _CONTROL.sub("?", text)


def protocol(record: Record) -> list[tuple[str, str]]:
    """How systems were trained, selected and evaluated: label and text of each choice."""
    told = record.protocol
    return [
        ("Split", told.split), ("Masked", told.masked), ("Model selection", told.selection_metric),
        ("Selected on", told.selection_split), ("Negatives", told.negatives), ("Epoch", told.epoch),
        ("L2 term", told.l2), ("Training", told.procedure),
    ]  # fmt: skip


def ordered(systems: Sequence[SystemEntry]) -> list[SystemEntry]:
    """Systems with the audited ones first, then what they are compared with."""
    return sorted(systems, key=lambda system: ORDER.index(system.role))


def audited(record: Record) -> list[SystemEntry]:
    """The systems that the verdict is about."""
    return [system for system in record.systems if system.role == "unlearned"]


def asked(record: Record) -> str:
    """One sentence: what had to be forgotten, and from what."""
    request, data = record.request, record.dataset
    units = numbers.counted(request.n_units, {"modality": "item"}.get(request.regime, request.regime))
    pairs = (
        f" with {numbers.counted(request.n_interactions, 'training pair')}" if request.regime != "interaction" else ""
    )
    return f"Forget {units}{pairs} of {data.name}{_share(record)}. Chosen: {request.selection}."


def _share(record: Record) -> str:
    total, gone = record.dataset.n_interactions, record.request.n_interactions
    if not total or not gone:
        return ""
    digits = 0 if gone >= 0.01 * total else 2
    return f", {numbers.percent(gone / total, digits)} of its {numbers.counted(total, 'interaction')}"


def tally(record: Record) -> str:
    """One sentence: how many systems got which verdict."""
    verdicts = Counter(system.verdict or "INCONCLUSIVE" for system in audited(record))
    if not verdicts:
        return "No unlearned system was audited."
    parts = [f"{verdicts[v]} {v}" for v in VERDICTS if v in verdicts]
    n_systems = sum(verdicts.values())
    return f"{numbers.counted(n_systems, 'system')} audited: {', '.join(parts)}."


def dose(estimate: Estimate) -> str:
    """A residual dose in words, such as "behaves as if it still held 62% [55%, 69%] of the forget set"."""
    if estimate.value is None:
        return f"the residual dose was not measured{': ' + estimate.note if estimate.note else ''}"
    read = numbers.percent(estimate.value, 1) + _percent_bounds(estimate)
    if estimate.value >= 0:
        return f"behaves as if it still held {read} of the forget set"
    if estimate.high is not None and estimate.high < 0:
        return f"reads below Gold, on the side of over-forgetting: {read}"
    return f"behaves as if it held no more of the forget set than Gold: {read}"


def _percent_bounds(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f" [{numbers.percent(estimate.low, 1)}, {numbers.percent(estimate.high, 1)}]"


def deep(depth: Depth) -> str:
    """The forgetting depth as a clause, with the statistic that limits it; "" where it was not measured."""
    if depth.value is None:
        return ""
    limited = f", limited by its {depth.statistic}" if depth.statistic else ""
    return f"; forgetting depth {numbers.number(depth.value)}{limited}"


def found(system: SystemEntry) -> str:
    """One clause: how the audited system reads."""
    return dose(system.residual_dose) + deep(system.depth)


def margin(record: Record) -> str:
    """One sentence: the margin, and whether this audit could have met it."""
    policy, attainable = record.policy, record.attainable_margin
    fixed = f"The margin is {numbers.number(policy.margin, 2)} on the dose scale at level {policy.alpha:g}"
    if attainable is None:
        return f"{fixed}; the attainable margin was not measured."
    enough = attainable <= policy.margin
    often = "at least nine in ten" if enough else "fewer than nine in ten"
    least = numbers.number(attainable)
    return f"{fixed}. {often.capitalize()} true Golds would pass it in one run; nine in ten pass from {least} on."


def power(record: Record) -> str:
    """One sentence: how surely this audit finds a system that still holds half of the units; "" where not measured."""
    policy = record.policy
    if policy.power is None:
        return ""
    enough = "" if policy.power >= policy.min_power else "; that is too little for anything to pass"
    return (
        "A system that still holds half of the units would be found with probability "
        f"{numbers.number(policy.power, 2)} (the policy asks for {numbers.number(policy.min_power, 2)}){enough}."
    )


def settling(record: Record) -> list[tuple[str, str, str]]:
    """What would make the margin attainable: (what, how many now, how many would do alone); empty where it is."""
    it = record.settle
    if it is None:
        return []
    rows = (
        ("Golds", it.golds_now, it.golds), ("runs of the method", it.runs_now, it.runs),
        ("units in the request", it.units_now, it.units), ("references", it.references_now, it.references),
    )  # fmt: skip
    return [(what, numbers.count(now), "not alone" if do is None else numbers.count(do)) for what, now, do in rows]


def settled_by(record: Record) -> str:
    """The same as one sentence, of what helps; "" where the margin is attainable."""
    helping = [f"{need} {what} (now {now})" for what, now, need in settling(record) if need != "not alone"]
    if record.settle is None:
        return ""
    return f"{', or '.join(helping)}." if helping else "No one change alone would do."


def group(it: UnitGroup) -> str:
    """A group of units, such as `popularity 5 to 12`."""
    reach = numbers.count(it.low) if it.low == it.high else f"{numbers.count(it.low)} to {numbers.count(it.high)}"
    return f"{it.by} {reach}"


def told(it: UnitTests | None) -> str:
    """How many units are told from Golds one by one, such as `12 of 4,000 (11 above Gold)`."""
    if it is None or not it.n_tested:
        return numbers.NOT_MEASURED
    above = f" ({numbers.count(it.n_above)} above Gold)" if it.n_rejected else ""
    return f"{numbers.count(it.n_rejected)} of {numbers.count(it.n_tested)}{above}"


def farthest(system: SystemEntry) -> str:
    """The group of units farthest from Gold with its dose and p-value."""
    worst_group = next((decile for decile in system.deciles if decile.worst), None)
    if worst_group is None:
        return numbers.NOT_MEASURED
    read = numbers.interval(worst_group.residual_dose)
    units = numbers.counted(worst_group.n_units, "unit")
    return f"{group(worst_group)}, {units}: {read}, p {numbers.p_value(worst_group.p_value)}"


def verdict_of(record: Record) -> str:
    """One sentence: why the report has this one verdict."""
    systems = audited(record)
    verdicts: list[Verdict] = [system.verdict or "INCONCLUSIVE" for system in systems]
    if len(systems) > 1 and worst(verdicts) == record.verdict:
        return "The verdict of the report is the worst among its audited systems."
    return ""


def control_state(ok: bool) -> str:
    """A control's outcome in words."""
    return "as expected" if ok else "not as expected"


def notes(finding: Finding) -> list[str]:
    """All that a finding has to say, each remark once: its own note and why numbers are missing."""
    estimates = (finding.residual_dose, finding.pattern, finding.spread, finding.auc, finding.epsilon_low)
    return [note for note in dict.fromkeys([finding.note, *(e.note for e in estimates)]) if note]


def standing(finding: Finding) -> str:
    """What weight a finding has in the verdict."""
    if finding.primary:
        return "primary"
    return "can fail" if finding.counts else "note"


CAPTIONS: Mapping[str, str] = {
    "ladder": (
        "Ladder: systems whose dose is known, because they were trained with a known part of the forget set, "
        "against the dose that the attack reads; on the diagonal it reads true. The audited systems stand to "
        "its right."
    ),
    "readings": (
        "Readings: the audited systems, 0 as if retrained without the data, 1 as if nothing had been "
        "forgotten. The shaded band is the margin; a value beyond the axis is an arrow at its edge."
    ),
    "deciles": (
        "The residual dose of tenths of the forgotten units, from the least to the most popular items and active "
        "users, each on its own scale; the shaded band is the margin. Groups whose original does not stand out from "
        "Golds are left out. An average can hide a tenth that was not forgotten: these readings show it, and decide "
        "nothing."
    ),
    "roc": (
        "How well single units of a system are told from Golds; on the diagonal they are not. First panel, "
        "logarithmic: whether a few units stand out. Hatched: false-positive rates that this many Gold units "
        "cannot measure. Second panel: the same curves on linear axes."
    ),
    "scores": (
        "How strongly the primary attack recognises each forgotten unit. A system that forgot lies where the "
        "Golds lie, one that did not lies with the original. All panels share their axes."
    ),
    "ranks": (
        "How high the forgotten pairs rank. Where a curve lies on the Golds', the forgotten items are "
        "offered as a retrained system would offer them; nearer to the original they are still favoured, "
        "below Gold they are suppressed."
    ),
    "trajectories": (
        "The way from the original over the audited system to Gold: quantiles of the percentile ranks of all forgotten "
        "pairs, the middle half shaded. Lines join quantiles, not single pairs. A system that forgot stands level with "
        "Gold. Where lines change only behind it, it still ranks the pairs as the original does; where they jump back, "
        "it went past Gold."
    ),
}
