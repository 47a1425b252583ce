"""`auditkit report unit-key`, `publish`, `prove`, `check-proof`: reports without ids, and proofs for subjects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditkit.commands.files import check_new, content_of, create, line

if TYPE_CHECKING:
    import pandas as pd

    from auditkit.commitment import Proof
    from auditkit.config import AuditConfig
    from auditkit.publishing import Audited
    from auditkit.record import CommittedUnits, Record

Key = Annotated[Path, typer.Option(help="secret key of the request, as unit-key writes it")]
Config = Annotated[Path, typer.Option(help="configuration of the audit")]


def attach(app: typer.Typer) -> None:
    """Add the commands of this file to `auditkit report`."""
    app.command("unit-key")(unit_key)
    app.command()(publish)
    app.command()(prove)
    app.command("check-proof")(check_proof)


def unit_key(out: Annotated[Path, typer.Option(help="file to write; never overwritten")]) -> None:
    """Make the secret key that units are named under in published reports; make one for each request."""
    from auditkit.commitment import new_key

    check_new(out)
    create(out, f"{new_key().hex()}\n".encode(), 0o600)
    typer.echo(str(out))
    typer.echo("Keep it secret, and keep it: whoever has it can find every unit, and proofs need it.", err=True)


def publish(
    report: Annotated[Path, typer.Argument(help="report.json of an audit, beside its units.parquet")],
    key: Key,
    config: Config,
    out: Annotated[Path, typer.Option(help="folder for the published report.json, report.html and units.parquet")],
) -> None:
    """Write a copy of an audit to publish: ids and digests of the request keyed, a commitment to its units."""
    from auditkit import publishing
    from auditkit.errors import ConfigurationError
    from auditkit.record import Record
    from auditkit.reports import html
    from auditkit.writing import EVIDENCE, write_outputs

    if out.resolve() == report.resolve().parent:
        raise ConfigurationError(f"--out must not be the audit's own folder {out}, whose files are the evidence")
    if (out / EVIDENCE).exists():
        raise ConfigurationError(
            f"{out / EVIDENCE} is what an audit read of every unit, by plain ids, and must not be published; name a "
            "folder without it"
        )
    secret, tables, record = _key(key), _tables(config), Record.read(report)
    audited = _audited(tables)
    told, units = publishing.publish(record, _units(report, record), audited, secret)
    final = write_outputs(told, units, out)
    html.write(final, out / "report.html")
    typer.echo(str(out / report.name))
    for limit in publishing.limits(audited.commitment(secret), audited.seed):
        typer.echo(f"- {limit}", err=True)


def prove(
    key: Key,
    config: Config,
    out: Annotated[Path, typer.Option(help="proof to write; never overwritten")],
    user: Annotated[str | None, typer.Option(help="the unit's user, as the data files call it")] = None,
    item: Annotated[str | None, typer.Option(help="the unit's item, as the data files call it")] = None,
) -> None:
    """Write the proof that one unit is in the request, for its subject; it tells the unit and no other."""
    from auditkit.commitment import unit_text

    check_new(out)
    secret, tables = _key(key), _tables(config)
    _check_named(tables.request.regime, user, item)
    audited = _audited(tables)
    commitment = audited.commitment(secret)
    modalities = audited.request.modalities
    proof = commitment.prove(unit_text(audited.request.regime, user=user, item=item, modalities=modalities))
    create(out, proof.to_json().encode(), 0o600)
    typer.echo(str(out))
    typer.echo(f"of {_counted(commitment.n_units)} under the root {commitment.root}", err=True)


def check_proof(
    proof: Annotated[Path, typer.Argument(help="a proof, as prove writes it")],
    report: Annotated[Path, typer.Option(help="the published report.json")],
) -> None:
    """Check that a unit is in the request of a published report; exit 0 if the proof holds, 1 if not."""
    from auditkit.commitment import Proof
    from auditkit.errors import DataError
    from auditkit.record import Record

    shown, stated = Proof.from_json(content_of(proof)), Record.read(report).request.commitment
    if stated is None:
        raise DataError(f"{report} commits to no units; name a report that auditkit report publish wrote")
    why = _why_not(shown, stated)
    unit = line(shown.unit)
    typer.echo(f"does not hold: {why}" if why else f"holds: {unit} is one of {_counted(stated.n_units)} of the request")
    raise typer.Exit(1 if why else 0)


def _why_not(proof: Proof, stated: CommittedUnits) -> str:
    if proof.holds(stated.root, stated.n_units):
        return ""
    if proof.n_units != stated.n_units:
        return f"the proof is of {_counted(proof.n_units)}, the report commits to {stated.n_units}: another request"
    return (
        f"it does not lead to the report's root {stated.root}: {line(proof.unit)} is not in the report's request, the "
        "proof was made with another key, or one of the two was altered"
    )


def _counted(units: int) -> str:
    return f"{units} unit{'' if units == 1 else 's'}"


def _key(path: Path) -> bytes:
    from auditkit.commitment import read_key

    return read_key(content_of(path))


def _tables(config: Path) -> AuditConfig:
    from auditkit.config import load

    return load(config)


def _audited(tables: AuditConfig) -> Audited:
    from auditkit.config import make_request, read_data
    from auditkit.publishing import Audited

    data, _, names = read_data(tables)
    return Audited(data, make_request(tables, data, names), names, tables.audit.seed)


def _check_named(regime: str, user: str | None, item: str | None) -> None:
    from auditkit.errors import ConfigurationError

    wanted = {"interaction": (True, True), "user": (True, False)}.get(regime, (False, True))
    names = zip(("--user", "--item"), wanted, (user, item), strict=True)
    problems = [
        f"{name} must {'name' if needed else 'be left out for'} the unit of a request of regime {regime!r}"
        for name, needed, given in names
        if needed != (given is not None)
    ]
    if problems:
        raise ConfigurationError(problems)


def _units(report: Path, record: Record) -> pd.DataFrame:
    from auditkit.errors import DataError
    from auditkit.reports import units_file

    if record.units is None:
        raise DataError(f"{report} names no per-unit table: its audit wrote none; audit again with --out")
    return units_file.read(report.parent, record.units)
