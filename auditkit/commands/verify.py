"""`auditkit verify`: a certificate, the files it names, and whether the verdict follows from the evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditkit.commands.files import content_of, digest, digests, line

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

    from auditkit.record import Record
    from auditkit.reports.certificate import Statement

# More differences than these are counted.
SHOWN = 40
_DERIVED = "re-derivation"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        what: the part, such as `signature`, `report`, `model` or `evidence/units.parquet`.
        ok: whether it holds; None where it was not checked.
        text: what was found.
    """

    what: str
    ok: bool | None
    text: str


@dataclass(frozen=True)
class Given:
    """What is held against a certificate, read before anything is checked.

    Attributes:
        report: its bytes.
        model: file of the model.
        folder: of the evidence, and `files`, the SHA-256 of those in it.
    """

    report: bytes | None
    model: Path | None
    folder: Path | None
    files: Mapping[str, str]

    @classmethod
    def of(cls, report: Path | None, model: Path | None, evidence: Path | None) -> Given:
        """Read what is there.

        Raises:
            DataError: a file cannot be read.
        """
        content = None if report is None else content_of(report)
        return cls(content, model, evidence, {} if evidence is None else digests(evidence))


def verify(
    certificate: Annotated[list[Path], typer.Argument(help="certificates, as certify writes them")],
    key: Annotated[Path, typer.Option(help="public key of who is trusted to certify")],
    model: Annotated[Path | None, typer.Option(help="file of the unlearned model")] = None,
    report: Annotated[Path | None, typer.Option(help="the report.json")] = None,
    evidence: Annotated[
        Path | None, typer.Option(help="folder of the evidence; with --report the verdict is derived from it again")
    ] = None,
    beside: Annotated[
        bool,
        typer.Option(
            "--beside",
            help="hold each certificate against the report.json of its own folder; a report.json that is named stands "
            "for the certificates beside it (*cert.json)",
        ),
    ] = False,
) -> None:
    """Check certificates and the given files against them; exit 0 if all holds, 1 if something does not."""
    from auditkit.errors import ConfigurationError
    from auditkit.signing import public_key_of
    from auditkit.writing import REPORT

    if beside and report is not None:
        raise ConfigurationError("--beside finds each certificate's report; leave --report out, or --beside")
    trusted = public_key_of(content_of(key))
    asked = list(_beside(certificate)) if beside else certificate
    holds = []
    for path in asked:
        given = Given.of(path.parent / REPORT if beside else report, model, evidence)
        if len(asked) > 1:
            typer.echo(f"{'' if path == asked[0] else chr(10)}{line(path)}")
        holds.append(_holds(content_of(path), trusted, given))
    raise typer.Exit(0 if all(holds) else 1)


def _beside(named: Sequence[Path]) -> Iterable[Path]:
    """Certificates, each once, in the given order."""
    from auditkit.writing import REPORT

    found = [sorted(path.parent.glob("*cert.json")) if path.name == REPORT else [path] for path in named]
    for path, certificates in zip(named, found, strict=True):
        if not certificates:
            typer.echo(f"no certificate lies beside {line(path)}", err=True)
    return dict.fromkeys(path for certificates in found for path in certificates)


def _holds(content: bytes, trusted: SSlibKey, given: Given) -> bool:
    """Check one certificate and say what was found."""
    from auditkit.reports.certificate import opened
    from auditkit.signing import CertificateError

    try:
        said = opened(content, trusted)
    except CertificateError as error:
        _say([Check(error.part, False, error.why)])
        typer.echo(f"does not hold: {error.part}; nothing else was looked at")
        return False
    checks = [Check("signature", True, f"by key {trusted.keyid}"), *_checks(said, given)]
    _say(checks)
    wrong = list(dict.fromkeys(check.what for check in checks if check.ok is False))
    verdict = said.predicate.verdict
    typer.echo(f"does not hold: {line(', '.join(wrong))}" if wrong else f"holds: a certificate that says {verdict}")
    typer.echo("What it does not show:", err=True)
    say_limits(said)
    return not wrong


def _say(checks: list[Check]) -> None:
    states = {True: "ok", False: "WRONG", None: "not checked"}
    for check in checks:
        typer.echo(f"{states[check.ok]:12} {line(check.what)}: {line(check.text)}")


def say_limits(said: Statement) -> None:
    """What a certificate does not show, on stderr."""
    for limit in said.predicate.limits:
        typer.echo(f"- {line(limit)}", err=True)


def _checks(said: Statement, given: Given) -> list[Check]:
    """All checks of given files against a statement whose signature holds, in the order in which they are shown."""
    reported, record = ([Check("report", None, "not given")], None)
    if given.report is not None:
        reported, record = _report_checks(said, given.report)
    kept = Check("model", None, "not given")
    if given.model is not None:
        kept = _same("model", said.files("model"), digest(given.model))
    if given.folder is None:
        return [*reported, kept, Check("evidence", None, "not given")]
    table = [_units_check(record, given.files)] if record is not None and record.units is not None else []
    again = _derived(said.files("evidence"), record, given)
    return [*reported, kept, *_evidence_checks(said.files("evidence"), given.files), *table, *again]


def _same(what: str, told: Mapping[str, str], found: str) -> Check:
    if not told:
        return Check(what, False, "the certificate names no such file")
    if found in told.values():
        return Check(what, True, f"sha256 {found}")
    return Check(what, False, f"its sha256 is {found}, the certificate names {', '.join(told.values())}")


def _report_checks(said: Statement, content: bytes) -> tuple[list[Check], Record | None]:
    """Digest first; a report that is not the certified one is not read."""
    from auditkit.record import SCHEMA_VERSION, Record
    from auditkit.reports.certificate import contradiction, differing

    same = _same("report", said.files("report"), hashlib.sha256(content).hexdigest())
    if not same.ok:
        return [same], None
    try:
        record = Record.model_validate_json(content)
    except ValueError as error:
        return [same, Check("report's schema", False, f"it does not follow schema {SCHEMA_VERSION}: {error}")], None
    told, parts, broken = said.predicate.verdict, differing(said, record), contradiction(record)
    verdict = f"the certificate says {told}, the report {record.verdict}"
    content_text = f"unlike the report: {', '.join(parts)}" if parts else "what it repeats is what the report says"
    return [
        same, Check("report's schema", True, SCHEMA_VERSION), Check("verdict", told == record.verdict, verdict),
        Check("report's verdict", not broken, broken or "it follows from the systems' verdicts"),
        Check("statement", not parts, content_text),
    ], record  # fmt: skip


def _evidence_checks(told: Mapping[str, str], found: Mapping[str, str]) -> list[Check]:
    if not told:
        return [Check("evidence", False, "the certificate names no evidence")]
    checks = [
        _same(f"evidence/{name}", {name: told[name]}, found[name])
        if name in found
        else Check(f"evidence/{name}", False, "the folder has no such file")
        for name in sorted(told)
    ]
    extra = sorted(found.keys() - told.keys())
    return [*checks, *(Check(f"evidence/{name}", None, "the certificate does not name it") for name in extra)]


def _units_check(record: Record, found: Mapping[str, str]) -> Check:
    units = record.units
    same = units is not None and found.get(units.path) == units.digest
    return Check("per-unit table", same, f"{'' if same else 'not '}the one that the report names")


def _derived(told: Mapping[str, str], record: Record | None, given: Given) -> list[Check]:
    """Only evidence that is the certified one is read, beside the certified report."""
    from auditkit.writing import EVIDENCE

    if EVIDENCE not in told:
        return [Check(_DERIVED, None, f"the certificate names no {EVIDENCE}, so the verdict rests on the report alone")]
    if record is None:
        return [Check(_DERIVED, None, "it needs --report")]
    if given.folder is None or given.files.get(EVIDENCE) != told[EVIDENCE]:
        return [Check(_DERIVED, None, f"{EVIDENCE} is not the certified one")]
    return derive(record, given.folder)


def derive(record: Record, folder: Path) -> list[Check]:
    """Judge again from the evidence in a folder and compare: one check, or one for each difference."""
    from auditkit.errors import AuditkitError
    from auditkit.evidence_files import read_evidence
    from auditkit.rederive import differences, rederive
    from auditkit.reports import units_file
    from auditkit.reports.numbers import counted
    from auditkit.writing import EVIDENCE

    try:
        found = rederive(read_evidence(folder / EVIDENCE))
        units = None if record.units is None else units_file.read(folder, record.units)
        listed = differences(record, found, units)
    except AuditkitError as error:
        return [Check(_DERIVED, False, str(error))]
    if not listed:
        counts = f"{counted(len(found.audited), 'verdict')} and {counted(found.n_findings, 'finding')}"
        return [Check(_DERIVED, True, f"{counts} derived from {EVIDENCE}: the report says the same")]
    shown = [Check(_DERIVED, False, str(difference)) for difference in listed[:SHOWN]]
    further = len(listed) - len(shown)
    return [*shown, Check(_DERIVED, False, f"{further} further differences")] if further else shown
