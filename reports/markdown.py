"""A Record as a pull-request comment: GitHub-flavoured Markdown that fits whatever the record holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from auditkit.record import Estimate, Record, SystemEntry, Verdict
from auditkit.reports import exposed, numbers, words

LIMIT = 60_000  # GitHub refuses comments beyond 65,536 characters
MARK = "<!-- auditkit report -->"  # by which a bot finds its comment again
NAME, SENTENCE = 80, 400  # longest name and longest sentence, in characters before escaping

_SPECIAL = re.compile(r"[&<>|`*_~\[\]\\!$]")
_LEADING = re.compile(r"^(\d*)([-+=.)])")
# What GitHub acts upon after rendering, where entities no longer help: mentions, issues, emoji, links.
_TRIGGER = re.compile(r"@|#|:(?=[+-]1:|[a-z][\w+-]*:|//)|www(?=\.)|GH(?=-\d)", re.IGNORECASE)
_BREAK = "\u200b"  # a space of no width


@dataclass(frozen=True)
class _Block:
    """Lines of which the last may be left out; `head` and `foot` always stand."""

    head: tuple[str, ...]
    rows: tuple[str, ...] = ()
    foot: tuple[str, ...] = ()
    noun: str = "line"


def text(raw: str, length: int = SENTENCE) -> str:
    """Any text as one line that shows itself and does nothing: no markup, mention, reference or link.

    Args:
        raw: may hold anything; control characters become `?`.
        length: longest result before escaping; an ellipsis stands for the rest.
    """
    line = " ".join(words.printable(raw).split())
    short = line if len(line) <= length else f"{line[: length - 1]}…"
    inert = _TRIGGER.sub(lambda found: found[0] + _BREAK, short)
    safe = _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", inert)
    return _LEADING.sub(lambda found: f"{found[1]}&#{ord(found[2])};", safe)


def render(record: Record) -> str:
    """The comment: verdict and reasons in plain words, score card, controls; limits folded.

    Always shorter than `LIMIT` characters: rows that do not fit are counted instead.
    """
    return _fitted(
        [_verdict(record), _scores(record), *_exposed(record), _controls(record), *_folded(record), _made(record)],
        LIMIT,
    )


def _fitted(blocks: Sequence[_Block], limit: int) -> str:
    left = limit - sum(len("\n".join(_lines(block, 0))) + 2 for block in blocks)
    parts = []
    for block in blocks:
        kept = 0
        while kept < len(block.rows) and len(block.rows[kept]) < left:
            left -= len(block.rows[kept]) + 1
            kept += 1
        parts.append("\n".join(_lines(block, kept)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _lines(block: _Block, kept: int) -> list[str]:
    missing = len(block.rows) - kept
    more = ["", f"…and {numbers.counted(missing, f'further {block.noun}')}; report.json holds all."] if missing else []
    return [*block.head, *block.rows[:kept], *more, *block.foot]


def _bullets(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"- {text(line)}" for line in lines)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str, noun: str) -> _Block:
    head = (f"### {title}", "", _row(columns), _row(["---"] * len(columns)))
    return _Block(head, tuple(_row(row) for row in rows), noun=noun)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _word(verdict: Verdict | None) -> str:
    return "not judged" if verdict is None else f"{words.VERDICTS[verdict].symbol} {verdict}"


def _verdict(record: Record) -> _Block:
    chosen = words.VERDICTS[record.verdict]
    head = (
        MARK, f"## {_word(record.verdict)}: {chosen.headline}", "", chosen.meaning, "",
        f"**Asked:** {text(words.asked(record))}", "",
        f"**Found:** {text(words.tally(record))} {words.verdict_of(record)}".rstrip(), "",
        f"**Yardstick:** {text(words.margin(record) + ' ' + words.power(record))}", "",
        *((f"**To settle:** {text(words.settled_by(record))}", "") if record.settle else ()),
        f"**Not meant:** {chosen.limit}", *(("", "**Reasons:**", "") if record.reasons else ()),
    )  # fmt: skip
    return _Block(head, _bullets(record.reasons[: words.FEW]), noun="reason")


COLUMNS = ("System", "Verdict", "Depth", "Dose L", "Pattern P", "Spread ρ", "Recall@20", "NDCG@20", "Speedup")


def _scores(record: Record) -> _Block:
    rows = (_score(system) for system in words.ordered(record.systems))
    block = _table(COLUMNS, rows, "Score card", "system")
    said = "1 is Gold's depth, 0 its dose; brackets hold intervals; Δ is the difference to the mean Gold."
    return _Block(block.head, block.rows, ("", f"<sub>{said}</sub>"), block.noun)


def _score(system: SystemEntry) -> list[str]:
    dose, depth = words.ANCHORS.get(system.role, ("", ""))
    return [
        f"**{text(system.name, NAME)}**<br>{words.ROLES[system.role]}",
        _word(system.verdict),
        _reading(system.depth, depth),
        *(_reading(it, dose) for it in (system.residual_dose, system.pattern, system.spread)),
        *(_metric(system, name) for name in ("recall@20", "ndcg@20")),
        _speedup(system),
    ]


def _reading(estimate: Estimate, anchor: str) -> str:
    if estimate.value is None and anchor and not estimate.note:
        return f"{anchor} by definition"
    return _measured(numbers.interval(estimate), estimate)


def _measured(written: str, estimate: Estimate) -> str:
    why = f": {text(estimate.note)}" if estimate.value is None and estimate.note else ""
    return written.replace(" [", "<br>[") + why


def _metric(system: SystemEntry, name: str) -> str:
    if name not in system.utility:
        return numbers.NOT_MEASURED
    estimate = system.utility[name]
    delta = estimate.delta_vs_gold
    change = f"<br>Δ {numbers.signed(delta.value, 4)} {numbers.bounds(delta, 4)}".rstrip()
    return _measured(numbers.number(estimate.value, 4), estimate) + ("" if delta.value is None else change)


def _speedup(system: SystemEntry) -> str:
    estimate = system.speedup_vs_gold
    if estimate.value is None and not estimate.note and system.role != "unlearned":
        return "does not apply"
    value, bracket, ends = numbers.ratio(estimate).partition(" [")
    return _measured(f"{value}{'×' if estimate.value is not None else ''}{bracket}{ends}", estimate)


def _exposed(record: Record) -> list[_Block]:
    """All there is to show where no Gold gives a dose."""
    if record.yardstick != "none":
        return []
    rows = [[text(cell, NAME) for cell in row] for row in exposed.rows(record)]
    return [_table(exposed.COLUMNS, rows, "How it ranks as served", "group")]


def _controls(record: Record) -> _Block:
    rows = (
        (text(c.name, NAME), text(c.expected), text(c.observed), _state(c.ok), text(c.consequence))
        for c in record.controls
    )
    title = "Controls of the audit itself"
    if not record.controls:
        return _Block((f"### {title}", "", "No control was run."))
    return _table(("Control", "Expected", "Observed", "As expected", "If not"), rows, title, "control")


def _state(ok: bool) -> str:
    return "yes" if ok else "**NO**"


def _folded(record: Record) -> list[_Block]:
    rest = record.reasons[words.FEW :]
    folds = (
        (numbers.counted(len(rest), "further reason"), rest, "reason"),
        ("Protocol", [f"{label}: {told}" for label, told in words.protocol(record)], "choice"),
        ("What was not shown", record.limits, "limit"),
    )
    return [
        _Block(("<details>", f"<summary>{title}</summary>", ""), _bullets(lines), ("", "</details>"), noun)
        for title, lines, noun in folds
        if lines
    ]


def _made(record: Record) -> _Block:
    parts = (
        f"{record.backbone.name}, {record.policy.profile} profile",
        f"configuration {numbers.short(record.config_digest)}",
        f"request {numbers.short(record.request.digest)}",
        f"{record.generator}, {record.created}",
    )
    return _Block((f"<sub>{' · '.join(text(part, NAME) for part in parts)}</sub>",))
