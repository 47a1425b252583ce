"""`auditkit history`: the ledger of audits. Exit codes: 0 it holds, 1 it was tampered with, 2 usage."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from auditkit.ledger import Chain, Entry

DEFAULT = Path(".auditkit") / "history.sqlite"
TAMPERED = 1

LedgerOption = Annotated[Path, typer.Option("--ledger", help="file of the ledger; the first `add` creates it")]


def attach(app: typer.Typer) -> None:
    """Register `history add`, `history show` and `history check`."""
    history = typer.Typer(
        no_args_is_help=True,
        help="Keep a ledger of audits in which later changes show. Exit codes: 0 it holds, 1 tampered with, 2 usage.",
    )
    history.command("add")(add)
    history.command("show")(show)
    history.command("check")(check)
    app.add_typer(history, name="history")


def add(
    report: Annotated[Path, typer.Argument(help="a report.json")],
    ledger: LedgerOption = DEFAULT,
) -> None:
    """Add an audit; prints its number and the head hash, which is worth keeping elsewhere."""
    from auditkit.ledger import Ledger, TamperedError

    try:
        entry, added = Ledger(ledger).append(report)
    except TamperedError as error:
        typer.echo(f"auditkit: {error}; nothing was added", err=True)
        raise typer.Exit(TAMPERED) from None
    if not added:
        typer.echo(f"auditkit: this report is entry {entry.number} already; nothing was added", err=True)
    typer.echo(f"entry {entry.number}\nhash  {entry.hash}")


def show(
    ledger: LedgerOption = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")] = False,
) -> None:
    """List the audits that hold, oldest first; a break in the ledger is told on stderr and exits with 1."""
    from auditkit.ledger import Ledger

    chain = Ledger(ledger).check()
    typer.echo(_document(chain) if as_json else _listing(chain))
    _leave(chain, ledger)


def check(
    ledger: LedgerOption = DEFAULT,
    head: Annotated[str | None, typer.Option(help="a head hash kept elsewhere; shows an end that was cut off")] = None,
) -> None:
    """Verify the ledger from its first row to its last and print the head hash."""
    from auditkit.ledger import Ledger

    chain = Ledger(ledger).check(head)
    if chain.broken is None:
        kept = "" if head is None else f", {_since(chain, head)} since the kept head"
        typer.echo(f"holds: {_counted(len(chain.entries))}{kept}\nhead   {chain.head}")
        if head is None:
            typer.echo("keep the head hash elsewhere: only with --head does an end that was cut off show", err=True)
    _leave(chain, ledger)


def _leave(chain: Chain, ledger: Path) -> None:
    if chain.broken is not None:
        typer.echo(f"auditkit: the ledger {ledger} does not hold; {chain.broken}", err=True)
        raise typer.Exit(TAMPERED)


def _since(chain: Chain, head: str) -> int:
    return len(chain.hashes) - 1 - chain.hashes.index(head.strip().lower())


def _counted(n: int) -> str:
    return f"{n} audit{'' if n == 1 else 's'}"


def _document(chain: Chain) -> str:
    broken = None if chain.broken is None else asdict(chain.broken)
    entries = [asdict(entry) for entry in chain.entries]
    return json.dumps({"holds": chain.broken is None, "broken": broken, "head": chain.head, "entries": entries})


def _listing(chain: Chain) -> str:
    lines = [line for entry in chain.entries for line in _lines(entry)]
    return "\n".join([*lines, f"head {chain.head}"])


def _lines(entry: Entry) -> list[str]:
    report = f"report {entry.report_digest[:12]}"
    head = f"{entry.number:4}  {entry.audited:25}  {entry.verdict:12}  {entry.regime} request on {entry.dataset}"
    lines = [f"{head}, {report}"]
    for system in entry.systems:
        depth = "not measured" if system.depth is None else f"{system.depth:.3f}"
        lines.append(f"      {system.verdict or 'not judged':12}  depth {depth:>12}  {system.name}")
    return [_printable(line) for line in lines]


def _printable(text: str) -> str:
    from auditkit.reports import words

    # A name may hold line breaks, too, which would look like an entry of their own.
    return words.printable(text).replace("\n", "?").replace("\t", "?")
