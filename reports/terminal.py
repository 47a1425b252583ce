"""The report in a terminal: verdict first, then the score card, the controls and the limits."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from auditkit.record import Record, SystemEntry, Verdict
from auditkit.reports import exposed, numbers, words

COLOURS: dict[Verdict, str] = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow", "INVALID": "magenta"}
WIDE = 116


def render(record: Record, console: Console) -> None:
    """Print a record in the console's own colours, width and encoding; no text is read as markup."""
    plain = console.options.ascii_only
    if plain:
        record = Record.model_validate_json(record.model_dump_json().encode("ascii", "replace"))
    console.print(_verdict(record, plain))
    console.print(_score_card(record, plain) if console.width >= WIDE else _cards(record, plain))
    if any(system.unit_tests or system.deciles for system in record.systems) or record.retained:
        console.print(_beneath(record))
    if record.yardstick == "none":
        console.print(_exposed(record))
    if record.controls:
        console.print(_controls(record))
    console.print(Text("Protocol", "bold"))
    console.print(_bullets([f"{label}: {told}" for label, told in words.protocol(record)], plain))
    if record.limits:
        console.print(Text("What was not shown", "bold"))
        console.print(_bullets(record.limits, plain))


def _text(text: str, style: str = "") -> Text:
    return Text(words.printable(text), style)


def _bullets(lines: Sequence[str], plain: bool) -> Group:
    mark = "- " if plain else "• "
    return Group(*(Padding(_text(mark + line), (0, 0, 0, 2)) for line in lines))


def _few(reasons: Sequence[str]) -> list[str]:
    more = len(reasons) - words.FEW
    rest = [f"and {numbers.counted(more, 'further reason')} in the JSON and HTML reports"] if more > 0 else []
    return [*reasons[: words.FEW], *rest]


def _word(verdict: Verdict | None, plain: bool) -> Text:
    if verdict is None:
        return Text("not judged", "dim")
    chosen = words.VERDICTS[verdict]
    return Text(f"{chosen.plain if plain else chosen.symbol} {verdict}", f"bold {COLOURS[verdict]}")


def _verdict(record: Record, plain: bool) -> Panel:
    chosen = words.VERDICTS[record.verdict]
    headline = Text.assemble(_word(record.verdict, plain), "  ", (chosen.headline, "bold"))
    audited = words.audited(record)
    reasons: list[RenderableType] = [Text("Reasons:"), _bullets(_few(record.reasons), plain)] if record.reasons else []
    parts: list[RenderableType] = [
        headline,
        Text(chosen.meaning),
        Text(),
        _text(f"Asked: {words.asked(record)}"),
        _text(f"Found: {words.tally(record)} {words.verdict_of(record)}".rstrip()),
        _bullets([f"{system.name}: {words.found(system)}." for system in audited], plain),
        *reasons,
        _text(f"Yardstick: {words.margin(record)} {words.power(record)}".rstrip()),
        *([_text(f"To settle: {words.settled_by(record)}")] if record.settle else []),
        Text(f"Not meant: {chosen.limit}"),
    ]
    return Panel(Group(*parts), border_style=COLOURS[record.verdict], padding=(1, 2))


COLUMNS = ("Verdict", "Depth", "Dose L", "Pattern P", "Spread rho", "Recall@20", "NDCG@20", "Speedup")


def _cells(system: SystemEntry, plain: bool) -> list[Text]:
    estimates = (system.depth, system.residual_dose, system.pattern, system.spread)
    return [
        _word(system.verdict, plain),
        *(_text(numbers.interval(estimate)) for estimate in estimates),
        *(_metric(system, name) for name in ("recall@20", "ndcg@20")),
        _speedup(system),
    ]


def _metric(system: SystemEntry, name: str) -> Text:
    if name not in system.utility:
        return Text(numbers.NOT_MEASURED)
    estimate = system.utility[name]
    delta = numbers.signed(estimate.delta_vs_gold.value, 4)
    return Text(f"{numbers.number(estimate.value, 4)} [{delta} to Gold]")


def _speedup(system: SystemEntry) -> Text:
    estimate = system.speedup_vs_gold
    if estimate.value is None:
        return _text(f"{numbers.NOT_MEASURED}{': ' + estimate.note if estimate.note else ''}")
    value, bracket, ends = numbers.ratio(estimate).partition(" [")
    return Text(f"{value}x{bracket}{ends}")


def _score_card(record: Record, plain: bool) -> Table:
    table = Table(title="Score card", title_style="bold", title_justify="left", show_lines=True)
    for column in ("System", *COLUMNS):
        table.add_column(column, no_wrap=column == "Verdict", overflow="fold")
    for system in words.ordered(record.systems):
        stacked = [Text("\n[").join(cell.split(" [")) for cell in _cells(system, plain)]
        table.add_row(_text(system.name, "bold"), *stacked)
    return table


def _cards(record: Record, plain: bool) -> Group:
    return Group(Text("Score card", "bold"), *(_card(system, plain) for system in words.ordered(record.systems)))


def _card(system: SystemEntry, plain: bool) -> Group:
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for column, cell in zip(COLUMNS, _cells(system, plain), strict=True):
        table.add_row(column, cell)
    return Group(_text(system.name, "bold"), table)


def _beneath(record: Record) -> Table:
    """Units one by one, units in groups, and what was to stay; audited systems only."""
    table = Table(title="Beneath the average", title_style="bold", title_justify="left")
    columns = ("System", "Units told from Gold", "Group farthest from Gold", "Retained units beyond Gold's band (.05)")
    for column in columns:
        table.add_column(column, overflow="fold")
    for system in words.audited(record):
        kept = record.retained.get(system.name)
        beyond = numbers.NOT_MEASURED if kept is None else numbers.interval(kept.beyond)
        table.add_row(*map(_text, (system.name, words.told(system.unit_tests), words.farthest(system), beyond)))
    return table


def _exposed(record: Record) -> Table:
    """All there is to show where no Gold gives a dose."""
    table = Table(title="How it ranks as served", title_style="bold", title_justify="left")
    for column in exposed.COLUMNS:
        table.add_column(column, overflow="fold")
    for row in exposed.rows(record):
        table.add_row(*map(_text, row))
    return table


def _controls(record: Record) -> Table:
    table = Table(title="Controls of the audit itself", title_style="bold", title_justify="left")
    for column in ("Control", "Expected", "Observed", "As expected", "If not"):
        table.add_column(column, overflow="fold")
    for control in record.controls:
        state = Text("yes", "green") if control.ok else Text("NO", "bold red")
        cells = (control.name, control.expected, control.observed)
        table.add_row(*map(_text, cells), state, _text(control.consequence))
    return table
