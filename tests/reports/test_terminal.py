from __future__ import annotations

import io

import pytest
from rich.console import Console

from auditkit.record import Record
from auditkit.reports import terminal

from .beneath import SETTLE
from .sample import METHODS, crowded, hostile, invalid, minimal, record


def shown(whole: Record, width: int = 140) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)
    terminal.render(whole, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def flat(text: str) -> str:
    return " ".join(text.translate(str.maketrans("│┃", "  ")).split())


@pytest.mark.parametrize("width", [60, 140])
def test_verdict_card_controls_and_limits_in_that_order(width: int) -> None:
    text = flat(shown(record(), width))
    order = [
        "✘ FAIL",
        "Asked:",
        "Found:",
        "Reasons:",
        "Not meant:",
        "Score card",
        "Beneath the average",
        "Controls of",
        "Protocol",
        "Selected on: none; never test",
        "What was not shown",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    for name, *_ in METHODS:
        assert name in text[places[5] :]


@pytest.mark.parametrize("width", [40, 60, 115, 116, 140])
def test_nothing_is_wider_than_the_console(width: int) -> None:
    assert max(map(len, shown(crowded(), width).splitlines())) <= width


def test_estimates_and_missing_ones() -> None:
    text = flat(shown(record(), 80))
    assert "0.642 [0.592, 0.692]" in text
    assert "0.2267 [-0.0046 to Gold]" in text
    assert "not measured: it shared the machine with another job" in text


def test_units_groups_power_and_remedies() -> None:
    weak = record().policy.model_copy(update={"power": 0.41})
    text = flat(shown(record(policy=weak, settle=SETTLE), 160))
    assert "with probability 0.41 (the policy asks for 0.80); that is too little for anything to pass." in text
    assert "To settle: 16 Golds (now 8), or 3 runs of the method (now 1), or 9,000 units in the request" in text
    assert "Beneath the average" in text
    assert "2,368 of 4,000 (2,368 above Gold)" in text
    assert "popularity 190 to 583, 400 units" in text
    assert "To settle" not in flat(shown(record()))
    assert "Beneath the average" not in flat(shown(minimal()))


def test_every_control_says_what_its_failing_means() -> None:
    text = flat(shown(record(), 160))
    assert all(control.ok and control.consequence in text for control in record().controls)


def test_many_reasons_are_counted_not_listed() -> None:
    text = flat(shown(minimal().model_copy(update={"reasons": [f"reason number {k}" for k in range(40)]})))
    assert "reason number 5 • and 34 further reasons" in text


def test_failed_control_stands_out() -> None:
    text = flat(shown(invalid()))
    assert "⊘ INVALID This audit cannot be relied on" in text
    assert "FAIL: level 0.31 NO the audit is INVALID" in text


def test_names_are_neither_markup_nor_terminal_commands() -> None:
    text = shown(hostile())
    assert "[bold red]hm[/]" in text
    assert "\x1b" not in text
    assert "\x00" not in text


def test_minimal_record_is_shown() -> None:
    text = flat(shown(minimal()))
    assert "given: the residual dose was not measured." in text
    assert "What was not shown" not in text


def test_plain_console_gets_ascii() -> None:
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii"), width=100, color_system=None)
    terminal.render(hostile(), console)
    console.file.flush()
    assert "x FAIL" in raw.getvalue().decode("ascii")


def test_colour_is_used_where_the_console_has_it() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="standard")
    terminal.render(record(), console)
    assert isinstance(console.file, io.StringIO)
    assert "\x1b[1;31m✘ FAIL" in console.file.getvalue()
