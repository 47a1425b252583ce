"""`auditkit report` and `auditkit compare`: what is read off finished reports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditkit.commands import publish

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

Report = Annotated[Path, typer.Argument(help="a report.json")]
Out = Annotated[Path | None, typer.Option(help="file to write; default: stdout")]

INVALID = 2
LONGEST = 240

report_app = typer.Typer(no_args_is_help=True, help="Check a report, write it in other forms, and publish it.")
publish.attach(report_app)


def attach(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.add_typer(report_app, name="report")
    app.command()(compare)


@report_app.command()
def validate(report: Report) -> None:
    """Check a report against the JSON Schema; exit 0 where it follows it, 2 with every problem where not."""
    from auditkit.record import SCHEMA_ID

    problems = list(_problems(_parsed(report)))
    for problem in problems:
        typer.echo(problem)
    if problems:
        typer.echo(f"{report} does not follow {SCHEMA_ID}: {len(problems)} problem(s)", err=True)
        raise typer.Exit(INVALID)
    typer.echo(f"{report} follows {SCHEMA_ID}")


@report_app.command()
def markdown(report: Report, out: Out = None) -> None:
    """Write a report as a pull-request comment in GitHub's Markdown."""
    from auditkit.record import Record
    from auditkit.reports.markdown import render

    _put(render(Record.read(report)), out)


@report_app.command()
def latex(report: Report, out: Out = None) -> None:
    """Write the score card as a LaTeX table (booktabs)."""
    from auditkit.record import Record
    from auditkit.reports.latex import score_card

    _put(score_card(Record.read(report)), out)


@report_app.command()
def csv(
    report: Report,
    out: Out = None,
    units: Annotated[bool, typer.Option("--units", help="one row a unit, from the table beside the report")] = False,
) -> None:
    """Write the numbers of a report as CSV, one row a system."""
    from auditkit.record import Record
    from auditkit.reports import tables

    _put(tables.units(report) if units else tables.systems(Record.read(report)), out)


def compare(
    reports: Annotated[list[Path], typer.Argument(help="report.json files")],
    out: Annotated[Path, typer.Option(help="page to write")] = Path("leaderboard.html"),
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document instead of a table")] = False,
    latex_out: Annotated[Path | None, typer.Option("--latex", help="LaTeX file to write beside it")] = None,
) -> None:
    """Put several audits side by side: a leaderboard with ranks only where intervals separate."""
    from auditkit.comparison import compare as compared
    from auditkit.record import Record
    from auditkit.reports import latex as tex
    from auditkit.reports import leaderboard

    found = compared([Record.read(path) for path in reports], [_name(path) for path in reports])
    leaderboard.write(found, out)
    if latex_out is not None:
        _put(tex.leaderboard(found), latex_out)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2, allow_nan=False))
    else:
        typer.echo(leaderboard.summary(found), nl=False)
    typer.echo(f"leaderboard: {out}", err=True)


def _name(path: Path) -> str:
    """Folder and file: most reports are called report.json, and whole paths are nobody else's business."""
    return "/".join(path.parts[-2:]) if not path.is_absolute() or len(path.parts) > 2 else path.name


def _put(text: str, out: Path | None) -> None:
    from auditkit.writing import replace_file

    if out is None:
        typer.echo(text, nl=False)
    else:
        replace_file(out, lambda draft: draft.write_bytes(text.encode("utf-8")))


def _parsed(path: Path) -> Any:
    from auditkit.errors import DataError

    def refused(constant: str) -> None:
        raise DataError(f"{path} is not JSON: it holds {constant}; what is undefined is null with a note")

    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=refused)
    except OSError as error:
        raise DataError(f"cannot read report {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from error


def _problems(content: Any) -> Iterator[str]:
    """Every departure from the schema as `path: reason`, and a version that this auditkit does not know."""
    from jsonschema import Draft202012Validator

    from auditkit.record import SCHEMA_VERSION, schema

    stated = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(stated, str) and not _readable(stated, SCHEMA_VERSION):
        yield _line("$.schema_version", f"{stated} is not a version that {SCHEMA_VERSION} can read")
    errors = Draft202012Validator(schema()).iter_errors(content)
    for error in sorted(errors, key=lambda found: found.json_path):
        for reason in _leaves(error):
            yield _line(reason.json_path, reason.message)


def _leaves(error: ValidationError) -> Iterator[ValidationError]:
    """The reasons beneath an error: where one of several forms is wanted, those of the form that was met furthest."""
    if not error.context:
        yield error
        return
    closest = max(error.context, key=lambda inner: len(inner.path)).schema_path[0]
    for inner in error.context:
        if inner.schema_path[0] == closest:
            yield from _leaves(inner)


def _readable(stated: str, known: str) -> bool:
    major, _, minor = stated.partition(".")
    known_major, _, known_minor = known.partition(".")
    return major == known_major and minor.isdecimal() and int(minor) <= int(known_minor)


def _line(path: str, reason: str) -> str:
    from auditkit.reports.words import printable

    line = " ".join(printable(f"{path}: {reason}").split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
