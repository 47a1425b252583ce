"""A gate's checks for GitHub Actions: annotations as workflow commands, and Markdown for the step summary."""

from __future__ import annotations

from collections.abc import Sequence

from auditkit.gate import Check, GateResult, Level
from auditkit.record import Record
from auditkit.reports import markdown
from auditkit.reports.words import VERDICTS, printable

# GitHub shows ten annotations of a kind for each step, and drops a summary beyond 1 MiB.
MOST_ANNOTATIONS = 10
MOST_BYTES = 900_000
_LONGEST = 2000  # characters of a message in the summary

_COMMANDS: dict[Level, str] = {"error": "error", "warning": "warning", "note": "notice"}


def one_line(text: str) -> str:
    """Text that cannot start a workflow command wherever it is printed: one line, no control characters, no `##[`.

    A runner reads `::` at the start of a line and the older `##[` anywhere.
    """
    flat = " ".join(printable(text).split())
    return flat.replace("##[", "# #[")


def workflow_commands(result: GateResult, location: str) -> str:
    """One workflow command a line: an error for each broken check, a warning for each remark, one notice for the whole.

    Beyond ten of a kind the last says how many more there are.

    Args:
        result: the checks.
        location: the file that annotations are shown at, relative to the root of the repository.
    """
    levels: tuple[Level, ...] = ("error", "warning")
    lines = [line for level in levels for line in _of_level(result, level, location)]
    passed = len(result.checks) - len(result.broken)
    whole = f"{result.verdict}: {passed} of {len(result.checks)} checks passed"
    return "\n".join([*lines, _command("notice", "auditkit gate", whole, location)]) + "\n"


def _of_level(result: GateResult, level: Level, location: str) -> list[str]:
    checks = [check for check in result.checks if check.level == level]
    most = len(checks) if len(checks) <= MOST_ANNOTATIONS else MOST_ANNOTATIONS - 1
    lines = [_command(_COMMANDS[level], _titled(check), check.message, location) for check in checks[:most]]
    if checks[most:]:
        lines.append(_command(_COMMANDS[level], "auditkit gate", f"and {len(checks) - most} more", location))
    return lines


def _titled(check: Check) -> str:
    return " ".join(part for part in (check.rule, check.system, check.measure) if part)


def _command(kind: str, title: str, message: str, location: str) -> str:
    return f"::{kind} file={_property(location)},line=1,title={_property(one_line(title))}::{_data(one_line(message))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def summary(result: GateResult, record: Record) -> str:
    """Markdown for `$GITHUB_STEP_SUMMARY`: the verdict in words, then a table, broken checks first.

    Rows beyond `MOST_BYTES` are counted instead.
    """
    words = VERDICTS[result.verdict]
    about = f"{record.dataset.name}, {record.backbone.name}, {record.request.regime} request"
    lines = [
        f"## auditkit gate: {words.symbol} {result.verdict}",
        "",
        f"{_headline(result)} Report: {markdown.text(about)}, created {markdown.text(record.created)}.",
        "",
        "| | rule | system | what | result |",
        "|---|---|---|---|---|",
        *_rows(sorted(result.checks, key=lambda check: ("error", "warning", "note").index(check.level))),
    ]
    return "\n".join(lines) + "\n\n"


def _headline(result: GateResult) -> str:
    total, broken = len(result.checks), len(result.broken)
    return f"All {total} checks passed." if not broken else f"{broken} of {total} checks did not pass."


def _rows(checks: Sequence[Check]) -> list[str]:
    rows, left = [_row(check) for check in checks], MOST_BYTES
    for place, row in enumerate(rows):
        left -= len(row.encode()) + 1
        if left < 0:
            return [*rows[:place], f"| | | | | and {len(rows) - place} more |"]
    return rows


def _row(check: Check) -> str:
    sign = VERDICTS[check.outcome].symbol if check.level != "warning" else "⚠"
    subject = " ".join(part for part in (check.system, check.measure) if part) or "the audit"
    cells = (sign, check.rule, markdown.text(subject), check.title, markdown.text(check.message, _LONGEST))
    return f"| {' | '.join(cells)} |"
