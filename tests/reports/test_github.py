from __future__ import annotations

import re

import pytest

from auditkit.gate import GateResult, decide
from auditkit.gate_policy import GatePolicy
from auditkit.record import Record
from auditkit.reports import github

from .sample import crowded, hostile, minimal, record

POLICY = GatePolicy(min_depth=0.85, min_speedup=2.0)
COMMAND = re.compile(r"::(error|warning|notice) file=([^,:]*),line=1,title=([^,:]*)::(.*)")


def gated(whole: Record, policy: GatePolicy = POLICY) -> GateResult:
    return decide(whole, policy)


def commands(text: str) -> list[tuple[str, str, str, str]]:
    """What a runner would read: kind, file, title and message, with its escapes undone."""

    def undone(part: str) -> str:
        for code in ("%0D", "%0A", "%3A", "%2C"):
            part = part.replace(code, chr(int(code[1:], 16)))
        return part.replace("%25", "%")

    found = [COMMAND.fullmatch(line) for line in text.splitlines()]
    return [(it[1], undone(it[2]), undone(it[3]), undone(it[4])) for it in found if it is not None]


def test_one_error_for_each_broken_check_and_one_notice() -> None:
    result = gated(record(), GatePolicy(min_depth=0.85))
    text = github.workflow_commands(result, "gate.toml")
    made = commands(text)
    assert len(made) == len(text.splitlines())
    assert [kind for kind, *_ in made] == ["error"] * len(result.broken) + ["notice"]
    assert {file for _, file, _, _ in made} == {"gate.toml"}
    assert made[0][2] == "AUD001 finetune"
    assert made[0][3].startswith("FAIL: pattern lies beyond the margin")
    passed = len(result.checks) - len(result.broken)
    assert made[-1][3] == f"FAIL: {passed} of {len(result.checks)} checks passed"


def test_remarks_are_warnings() -> None:
    result = gated(record(), GatePolicy(systems=("row-reinit",), verdicts=("INCONCLUSIVE",)))
    assert [kind for kind, *_ in commands(github.workflow_commands(result, "gate.toml"))] == ["warning", "notice"]


def test_no_more_annotations_than_github_shows() -> None:
    result = gated(crowded(40))
    errors = [it for it in commands(github.workflow_commands(result, "gate.toml")) if it[0] == "error"]
    assert len(errors) == github.MOST_ANNOTATIONS
    assert errors[-1][3] == f"and {len(result.broken) - github.MOST_ANNOTATIONS + 1} more"


@pytest.mark.parametrize(
    "name", ["a::b", "a,line=9", "a\n::error::fake", "a\r\n::stop-commands::x", "100%0Afake", "a %3A b", "##[error]x"]
)
def test_names_cannot_leave_their_place(name: str) -> None:
    whole = record(((name, "FAIL", 0.6, 0.5, 0.4),))
    text = github.workflow_commands(gated(whole), f"{name}.toml" if re.fullmatch(r"[^\r\n#]*", name) else "gate.toml")
    made = commands(text)
    assert len(made) == len(text.splitlines()) == len(gated(whole).broken) + 1
    shown = github.one_line(name)
    assert made[0][2] == f"AUD001 {shown}"
    assert "\n" not in shown
    assert "##[" not in text


def test_every_line_of_hostile_reports_is_a_command_of_ours() -> None:
    text = github.workflow_commands(gated(hostile()), "gate.toml")
    assert len(commands(text)) == len(text.splitlines())
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)


def test_summary_says_the_verdict_and_puts_broken_checks_first() -> None:
    result = gated(record())
    lines = github.summary(result, record()).splitlines()
    assert lines[0] == "## auditkit gate: ✘ FAIL"
    assert lines[2].startswith(f"{len(result.broken)} of {len(result.checks)} checks did not pass.")
    rows = [line for line in lines if line.startswith("| ") and "AUD" in line]
    assert len(rows) == len(result.checks)
    signs = [row.split(" | ")[0] for row in rows]
    assert "| ✔" not in signs[: len(result.broken)]
    assert set(signs[len(result.broken) :]) == {"| ✔"}
    assert "not measured: it shared the machine with another job" in "\n".join(rows[: len(result.broken)])


def test_summary_of_a_green_gate() -> None:
    whole = record((("sisa", "PASS", 0.021, 0.034, 0.012),))
    text = github.summary(gated(whole, GatePolicy()), whole)
    assert text.startswith("## auditkit gate: ✔ PASS\n\nAll 5 checks passed.")


@pytest.mark.parametrize("whole", [hostile(), minimal()], ids=["hostile", "bare"])
def test_no_name_breaks_a_table_or_becomes_markup(whole: Record) -> None:
    whole = whole.model_copy(
        update={"systems": [s.model_copy(update={"name": f"{s.name}|`\n| # @you"}) for s in whole.systems]}
    )
    text = github.summary(gated(whole), whole)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {6}
    assert "<script" not in text
    assert "<img" not in text
    assert "@you" not in text


def test_long_summaries_are_cut_and_say_so() -> None:
    whole = crowded(4)
    many = [system.model_copy(update={"reasons": ["<|>`" * 2000]}) for system in whole.systems for _ in range(40)]
    named = [system.model_copy(update={"name": f"{k}"}) for k, system in enumerate(many)]
    whole = whole.model_copy(update={"systems": named})
    result = gated(whole, GatePolicy())
    text = github.summary(result, whole)
    shown = sum("AUD" in line for line in text.splitlines())
    assert 0 < shown < len(result.checks)
    assert f"and {len(result.checks) - shown} more |" in text
    assert 2**19 < len(text.encode()) < 2**20
