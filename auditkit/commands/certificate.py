"""Commands about certificates: make a key pair, certify a report; `verify` has a file of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditkit.commands.files import check_new, content_of, create, digest, digests, line
from auditkit.commands.verify import derive, say_limits, verify

if TYPE_CHECKING:
    from auditkit.record import Record
    from auditkit.reports.certificate import ModelFile

_STORED = "arrays.safetensors"


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
    say_limits(said)


def _refusal(record: Record) -> str:
    remedy = "pass --allow-fail for a certificate that says so" if record.verdict == "FAIL" else "only a verdict can be"
    reasons = "".join(f"\n- {line(reason)}" for reason in record.reasons)
    return f"not certified: the verdict is {record.verdict}; {remedy}{reasons}"


def _evidence(folder: Path, record: Record) -> dict[str, str]:
    from auditkit.errors import DataError
    from auditkit.writing import EVIDENCE

    found = digests(folder)
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
    if EVIDENCE in found:
        _check_follows(record, folder)
    return found


def _check_follows(record: Record, folder: Path) -> None:
    from auditkit.errors import DataError

    wrong = [line(check.text) for check in derive(record, folder) if not check.ok]
    if wrong:
        raise DataError(f"the report does not follow from the evidence in {folder}; audit again: {'; '.join(wrong)}")


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
    return ModelFile(path.name, digest(path), build)


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
