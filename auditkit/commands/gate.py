"""`auditkit gate`: a report against a policy. `auditkit check`: configurations and policies, without training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from auditkit.gate import Check, GateResult
    from auditkit.record import Record


def attach(app: typer.Typer) -> None:
    """Add `gate` and `check` to the command line."""
    app.command()(gate)
    app.command()(check)


def gate(
    report: Annotated[Path | None, typer.Argument(help="a report.json")] = None,
    policy: Annotated[Path | None, typer.Option(help="TOML; default: every system PASSes, controls, power")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="an earlier report.json that must not be regressed from")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="JUnit XML to write")] = None,
    sarif: Annotated[Path | None, typer.Option(help="SARIF 2.1.0 to write, for code scanning")] = None,
    location: Annotated[
        Path | None, typer.Option(help="file that alerts point at; default: the policy, else the report")
    ] = None,
    github: Annotated[
        bool, typer.Option("--github", help="GitHub annotations on stderr, and the step summary where there is one")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the checks as one JSON document on stdout")] = False,
    example: Annotated[bool, typer.Option("--example", help="print a commented policy and stop")] = False,
) -> None:
    """Hold a report against a policy: exit 0 passed, 1 not passed, 4 the audit can carry no answer."""
    from auditkit.errors import ConfigurationError
    from auditkit.gate import decide
    from auditkit.gate_policy import EXAMPLE, GatePolicy, load_policy
    from auditkit.record import Record

    if example:
        typer.echo(EXAMPLE, nl=False)
        return
    if report is None:
        raise ConfigurationError("gate needs a report.json; `auditkit audit` writes one, `--example` prints a policy")
    asked = load_policy(policy) if policy else GatePolicy()
    record = Record.read(report)
    result = decide(record, asked, Record.read(baseline) if baseline else None)
    shown_at = _within(location or policy or report)
    _write(result, record, junit, sarif, shown_at)
    if github:
        _to_github(result, record, shown_at)
    typer.echo(result.to_json() if as_json else _shown(result), nl=not as_json)
    raise typer.Exit(result.exit_code)


def check(files: Annotated[list[Path], typer.Argument(help="audit configurations or gate policies, in TOML")]) -> None:
    """Check configurations and policies without training or reading data: exit 0, or 2 with all that is wrong.

    A file with a [recipe] or [data] table is an audit configuration, any other is a policy of the gate.
    """
    from auditkit.errors import ConfigurationError

    problems: list[str] = []
    for path in files:
        try:
            typer.echo(f"{path}: {_checked(path)}")
        except ConfigurationError as error:
            problems += [text if str(path) in text else f"{path}: {text}" for text in error.problems]
    if problems:
        raise ConfigurationError(problems)


def _checked(path: Path) -> str:
    from auditkit.config import parse
    from auditkit.gate_policy import parse_policy
    from auditkit.toml_files import read_toml

    tables = read_toml(path)
    if {"recipe", "data"} & tables.keys():
        parse(tables, path.parent)
        return "audit configuration, well formed"
    parse_policy(tables, str(path))
    return "gate policy, well formed"


def _within(path: Path) -> str:
    # Alerts name a file of the repository. One outside is named without its folders, which are the machine's.
    root = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd()).resolve()
    whole = path.resolve()
    return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else whole.name


def _write(result: GateResult, record: Record, junit: Path | None, sarif: Path | None, location: str) -> None:
    from auditkit.reports import junit as junit_xml
    from auditkit.reports import sarif as sarif_log

    if junit is not None:
        _put(junit, junit_xml.render(result, record))
    if sarif is not None:
        _put(sarif, sarif_log.render(result, record, location))


def _put(path: Path, text: str) -> None:
    from auditkit.writing import replace_file

    replace_file(path, lambda scratch: scratch.write_text(text, encoding="utf-8"))


def _to_github(result: GateResult, record: Record, location: str) -> None:
    from auditkit.errors import StoreError
    from auditkit.reports import github

    # The runner reads both streams; stdout stays data.
    typer.echo(github.workflow_commands(result, location), nl=False, err=True)
    target = os.environ.get("GITHUB_STEP_SUMMARY")
    if not target:
        return
    try:
        # Appended, not replaced: the steps of a job share the file.
        with Path(target).open("a", encoding="utf-8") as file:
            file.write(github.summary(result, record))
    except OSError as error:
        raise StoreError(
            f"cannot write the step summary {target}: {error.strerror}; unset GITHUB_STEP_SUMMARY"
        ) from error


def _shown(result: GateResult) -> str:
    ordered = sorted(result.checks, key=lambda check: check.passed)
    passed = len(result.checks) - len(result.broken)
    return "\n".join([f"{result.verdict}: {passed} of {len(result.checks)} checks passed", *map(_line, ordered)])


def _line(check: Check) -> str:
    from auditkit.reports.github import one_line

    state = {"error": "not passed", "warning": "remark", "note": "passed"}[check.level]
    subject = " ".join(part for part in (check.system, check.measure) if part) or "the audit"
    return f"  {state:10} {check.rule} {one_line(f'{subject}: {check.message}')}"
