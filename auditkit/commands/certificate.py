"""Commands about certificates: make a key pair, certify a report, verify a certificate and the files it names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditkit.commands.files import check_new, content_of, create, line

if TYPE_CHECKING:
    from auditkit.record import Record
    from auditkit.reports.certificate import ModelFile, Statement

_STORED = "arrays.safetensors"


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


def attach(app: typer.Typer) -> None:
    """Add `keygen`, `certify` and `verify` to a command line."""
    app.command()(keygen)
    app.command()(certify)
    app.command()(verify)


def keygen(
    out: Annotated[Path, typer.Option(help="file of the private key; the public one lies beside it as NAME.pub.pem")],
) -> None:
    """Make an ed25519 key pair for certificates; nothing is overwritten."""
    from auditkit.errors import ConfigurationError
    from auditkit.signing import new_key_pair, public_key_of

    beside = out.with_name(f"{out.stem}.pub.pem")
    for path in (out, beside):
        if path.exists() or path.is_symlink():
            raise ConfigurationError(f"{path} exists already and a key is never overwritten; choose another --out")
    private, public = new_key_pair()
    keyid = public_key_of(public).keyid
    create(out, private, 0o600)
    create(beside, public, 0o644)
    typer.echo(f"private {line(out)}\npublic  {line(beside)}\nkeyid   {keyid}")
    typer.echo("Keep the private key to yourself: whoever has it can certify in your name.", err=True)


def certify(
    report: Annotated[Path, typer.Argument(help="a report.json")],
    key: Annotated[Path, typer.Option(help="private key, as keygen writes it")],
    model: Annotated[Path | None, typer.Option(help="file of the unlearned model, best as the store holds it")] = None,
    evidence: Annotated[
        Path | None, typer.Option(help="folder of evidence, such as units.parquet; every file in it is named")
    ] = None,
    commitment: Annotated[
        str | None,
        typer.Option(
            help="root of the commitment to the request, named instead of the request's digest; "
            "a published report has its own"
        ),
    ] = None,
    unit_key: Annotated[
        Path | None, typer.Option(help="key of a published report, which ties --model to the report's keyed address")
    ] = None,
    out: Annotated[Path, typer.Option(help="certificate to write; never overwritten")] = Path("cert.json"),
    allow_fail: Annotated[bool, typer.Option("--allow-fail", help="write a certificate that says FAIL, too")] = False,
) -> None:
    """Sign what a report concluded; the exit code is the verdict's where it cannot be certified."""
    from auditkit.reports.certificate import sign, statement
    from auditkit.signing import signer_of
    from auditkit.writing import replace_file

    check_new(out)
    content = content_of(report)
    record = _certifiable(content, report)
    if record.verdict not in (("PASS", "FAIL") if allow_fail else ("PASS",)):
        typer.echo(_refusal(record), err=True)
        raise typer.Exit(record.exit_code)
    signer = signer_of(content_of(key))
    said = statement(
        record, hashlib.sha256(content).hexdigest(), model=_model_file(model, record, unit_key),
        evidence=_evidence(evidence, record) if evidence else None, commitment=_root(commitment),
    )  # fmt: skip
    signed = sign(said, signer)
    replace_file(out, lambda scratch: scratch.write_bytes(signed))
    typer.echo(str(out))
    typer.echo(
        f"{record.verdict}, signed with key {signer.public_key.keyid}. What this certificate does not show:", err=True
    )
    _say_limits(said)


def verify(
    certificate: Annotated[Path, typer.Argument(help="a certificate, as certify writes it")],
    key: Annotated[Path, typer.Option(help="public key of who is trusted to certify")],
    model: Annotated[Path | None, typer.Option(help="file of the unlearned model")] = None,
    report: Annotated[Path | None, typer.Option(help="the report.json")] = None,
    evidence: Annotated[Path | None, typer.Option(help="folder of the evidence")] = None,
) -> None:
    """Check a certificate and the given files against it; exit 0 if all holds, 1 if something does not."""
    from auditkit.reports.certificate import opened
    from auditkit.signing import CertificateError, public_key_of

    trusted = public_key_of(content_of(key))
    content = content_of(certificate)
    given = (None if report is None else content_of(report), model, None if evidence is None else _digests(evidence))
    try:
        said = opened(content, trusted)
    except CertificateError as error:
        _say([Check(error.part, False, error.why)])
        typer.echo(f"does not hold: {error.part}; nothing else was looked at")
        raise typer.Exit(1) from error
    checks = [Check("signature", True, f"by key {trusted.keyid}"), *_checks(said, *given)]
    _say(checks)
    wrong = [check.what for check in checks if check.ok is False]
    verdict = said.predicate.verdict
    typer.echo(f"does not hold: {line(', '.join(wrong))}" if wrong else f"holds: a certificate that says {verdict}")
    typer.echo("What it does not show:", err=True)
    _say_limits(said)
    raise typer.Exit(1 if wrong else 0)


def _say(checks: list[Check]) -> None:
    states = {True: "ok", False: "WRONG", None: "not checked"}
    for check in checks:
        typer.echo(f"{states[check.ok]:12} {line(check.what)}: {line(check.text)}")


def _say_limits(said: Statement) -> None:
    for limit in said.predicate.limits:
        typer.echo(f"- {line(limit)}", err=True)


def _refusal(record: Record) -> str:
    remedy = "pass --allow-fail for a certificate that says so" if record.verdict == "FAIL" else "only a verdict can be"
    reasons = "".join(f"\n- {line(reason)}" for reason in record.reasons)
    return f"not certified: the verdict is {record.verdict}; {remedy}{reasons}"


def _digest(path: Path) -> str:
    from auditkit.errors import DataError

    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; name a file that can be read") from error


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of all files under `folder` by their paths in it; links lead elsewhere and are left out."""
    from auditkit.errors import DataError

    if not folder.is_dir():
        raise DataError(f"--evidence must be a folder, got {folder}; name the one with units.parquet")
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): _digest(path) for path in files}


def _evidence(folder: Path, record: Record) -> dict[str, str]:
    from auditkit.errors import DataError

    found = _digests(folder)
    links = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink())
    if links:
        raise DataError(f"evidence must hold files, got a link: {links[0]!r}; put the file in its place")
    for name in found:
        _check_name(name)
    if not found:
        raise DataError(f"--evidence holds no file: {folder}; name the folder with units.parquet")
    if record.units is not None and found.get(record.units.path) != record.units.digest:
        raise DataError(
            f"{record.units.path!r} in {folder} is not the report's per-unit table; name the report's folder"
        )
    return found


def _check_name(name: str) -> None:
    from auditkit.errors import DataError

    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"a certified file must have a name in Unicode, got {name!r}; rename it") from error


def _model_file(path: Path | None, record: Record, unit_key: Path | None) -> ModelFile | None:
    from auditkit.errors import DataError
    from auditkit.reports.certificate import ModelFile

    secret = _address_key(path, record, unit_key) if unit_key else None
    if path is None:
        return None
    _check_name(path.name)
    build = _build_of(path.absolute(), record, secret)
    if secret is not None and build is None:
        raise DataError(
            f"--unit-key ties {path} to no audited build of the report: it is another key or another build, or the "
            "file does not lie in a store; leave the key out to certify the file on your word"
        )
    if build is None and record.request.commitment is not None:
        typer.echo("the report's addresses are keyed: pass --unit-key to tie --model to its build", err=True)
    return ModelFile(path.name, _digest(path), build)


def _address_key(model: Path | None, record: Record, unit_key: Path) -> bytes:
    from auditkit.commitment import read_key
    from auditkit.errors import ConfigurationError

    problems = [] if model else ["--unit-key ties --model to its build; name the model, too"]
    if record.request.commitment is None:
        problems.append("--unit-key is for published reports, whose addresses are keyed; leave it out for this one")
    if problems:
        raise ConfigurationError(problems)
    return read_key(content_of(unit_key))


def _build_of(path: Path, record: Record, secret: bytes | None) -> str | None:
    """The address, as the report has it, of the audited build as which a store holds this file, intact; or None."""
    from auditkit.commitment import keyed_digest
    from auditkit.errors import DataError, StoreError
    from auditkit.reports.words import audited
    from auditkit.store import Store

    address = path.parent.name
    named = address if secret is None else keyed_digest(secret, address)
    known = {digest for system in audited(record) for digest in system.digests}
    if path.name != _STORED or named not in known or path.parent.parent.name != "builds":
        return None
    try:
        Store(path.parents[2]).read(address)
    except StoreError as error:
        raise DataError(f"--model is not what the store made: {error}") from error
    return named


def _root(commitment: str | None) -> str | None:
    from auditkit.errors import ConfigurationError

    if commitment is None:
        return None
    try:
        fits = len(bytes.fromhex(commitment)) == 32
    except ValueError:
        fits = False
    if not fits:
        raise ConfigurationError(
            f"--commitment must be 64 hexadecimal digits, got {commitment!r}; see auditkit.commitment"
        )
    return commitment.lower()


def _certifiable(content: bytes, path: Path) -> Record:
    from auditkit.errors import DataError
    from auditkit.record import SCHEMA_VERSION, Record
    from auditkit.reports.certificate import contradiction

    try:
        record = Record.model_validate_json(content)
    except ValueError as error:
        raise DataError(f"{path} is not an auditkit report of schema {SCHEMA_VERSION}: {error}") from error
    if found := contradiction(record):
        raise DataError(f"{path} cannot be certified: {found}; audit again")
    return record


def _checks(
    said: Statement, report: bytes | None, model: Path | None, evidence: Mapping[str, str] | None
) -> list[Check]:
    """All checks of given files against a statement whose signature holds, in the order in which they are shown."""
    reported, record = ([Check("report", None, "not given")], None) if report is None else _report_checks(said, report)
    kept = _same("model", said.files("model"), _digest(model)) if model else Check("model", None, "not given")
    if evidence is None:
        return [*reported, kept, Check("evidence", None, "not given")]
    table = [_units_check(record, evidence)] if record is not None and record.units is not None else []
    return [*reported, kept, *_evidence_checks(said.files("evidence"), evidence), *table]


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
