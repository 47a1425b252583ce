"""The certificate: an in-toto Statement about a report, signed in a DSSE envelope, and what checks it.

Statement v1 and its fields: https://github.com/in-toto/attestation/tree/main/spec/v1. How it is signed and opened:
`auditkit.signing`.

The same report, files and key give the same bytes. Digests of bytes are `sha256`. Other identities have names of their
own, since in-toto matches subjects by digest: `auditkit_build`, `auditkit_data`, `auditkit_request` (the digests in the
report) and `auditkit_commitment` (root of `auditkit.commitment`), all 64 lowercase hexadecimal digits. Of a published
report these are as it names them: keyed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from auditkit.commitment import UNTIED_COMMITMENT as UNTIED_COMMITMENT
from auditkit.errors import ConfigurationError
from auditkit.record import EXIT_CODES, Record, SystemEntry, Verdict, worst
from auditkit.reports import words
from auditkit.signing import CertificateError, canonical_bytes, open_envelope, signed_envelope
from auditkit.writing import EVIDENCE

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
# Fields are only added under one major version; a reader ignores those it does not know.
PREDICATE = "urn:auditkit:unlearning-audit"
MAJOR = 1

NO_TIME = (
    "A signature shows who says this and that it was not changed since. It shows neither that it is true nor when it "
    "was signed."
)
NO_MODEL = (
    "No model file is named. A build is named by the digest of its configuration, data, seed and code, which does not "
    "fix the bytes of its weights."
)
UNTIED_MODEL = (
    "That the named model file holds an audited system is the word of who signs: nothing in the report ties the two."
)
TIED_MODEL = (
    "That the named model file holds the audited build rests on the store of who signs, which keeps it under the "
    "build's address."
)

UNDERIVED = (
    "No evidence is named from which the verdict could be derived again: the report's numbers are the word of who "
    "signs."
)
DERIVED = (
    "The verdict can be derived again from the named evidence. That the evidence holds what the audited systems "
    "answered is the word of who signs."
)


class Subject(BaseModel):
    """What a certificate is about: a name, a digest by algorithm, and remarks."""

    model_config = ConfigDict(frozen=True)

    name: str
    digest: dict[str, str] = Field(min_length=1)
    annotations: dict[str, Any] = {}


class Predicate(BaseModel):
    """What is said of the subjects; a reader needs these fields, the others repeat the report's."""

    model_config = ConfigDict(extra="allow", frozen=True)

    verdict: Verdict
    reasons: list[str]
    limits: list[str]


class Statement(BaseModel):
    """An in-toto Statement v1."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    type_: Literal["https://in-toto.io/Statement/v1"] = Field("https://in-toto.io/Statement/v1", alias="_type")
    subject: list[Subject] = Field(min_length=1)
    predicate_type: str = Field(alias="predicateType")
    predicate: Predicate

    def files(self, kind: str) -> dict[str, str]:
        """Names and SHA-256 of the subjects that are files: `report`, `model` or `evidence`."""
        named = {s.name: s.digest.get("sha256", "") for s in self.subject}
        return {name.removeprefix(f"{kind}/"): told for name, told in named.items() if name.startswith(f"{kind}/")}


@dataclass(frozen=True)
class ModelFile:
    """The file of an unlearned model.

    Attributes:
        name: of the file, without its folder.
        sha256: of its bytes.
        build: address of the audited build as which the signer's store holds it, intact; None where it does not.
    """

    name: str
    sha256: str
    build: str | None = None


def contradiction(record: Record) -> str:
    """Where a report's verdict does not follow from its systems' verdicts; "" where it does."""
    follows = worst([system.verdict or "INCONCLUSIVE" for system in words.audited(record)])
    if record.verdict != follows:
        return f"the report says {record.verdict}, its systems' verdicts make it {follows}"
    if record.exit_code != EXIT_CODES[record.verdict]:
        return f"the report says {record.verdict} with exit code {record.exit_code}, not {EXIT_CODES[record.verdict]}"
    return ""


def statement(
    record: Record,
    report: str,
    *,
    model: ModelFile | None = None,
    evidence: Mapping[str, str] | None = None,
    commitment: str | None = None,
) -> Statement:
    """What a certificate says of a report.

    Args:
        record: the report.
        report: SHA-256 of the report's file.
        model: file of the unlearned model, where there is one.
        evidence: path within the folder of evidence -> SHA-256; None: the per-unit table alone, as the report has it.
        commitment: root over the request's units (`auditkit.commitment`); it stands instead of the request's plain
            digest, which tells a small request to whoever can list all users. A published report has its own.

    Raises:
        ConfigurationError: the report has a commitment, and `commitment` is another.
    """
    commitment = _commitment(record, commitment)
    own = [limit for limit in _limits(record, model, evidence, commitment) if limit not in record.limits]
    return Statement(
        subject=_subjects(record, report, model, evidence, commitment),
        predicate_type=f"{PREDICATE}:v{MAJOR}",
        predicate=Predicate.model_validate(
            {**told_by(record), "meaning": words.VERDICTS[record.verdict].meaning,
             "limits": [*record.limits, *own]}
        ),
    )  # fmt: skip


def _commitment(record: Record, given: str | None) -> str | None:
    stated = record.request.commitment
    if stated is None:
        return given
    if given not in (None, stated.root):
        raise ConfigurationError(
            f"--commitment must be the report's own, {stated.root}, got {given}; leave it out for a published report"
        )
    return stated.root


def _subjects(
    record: Record, report: str, model: ModelFile | None, evidence: Mapping[str, str] | None, commitment: str | None
) -> list[Subject]:
    if evidence is None:
        evidence = {record.units.path: record.units.digest} if record.units else {}
    request = {"auditkit_commitment": commitment} if commitment else {"auditkit_request": record.request.digest}
    return [
        *([_model(record, model)] if model else []),
        Subject(name="report/report.json", digest={"sha256": report}),
        *(Subject(name=f"evidence/{path}", digest={"sha256": evidence[path]}) for path in sorted(evidence)),
        Subject(
            name="dataset", digest={"auditkit_data": record.dataset.digest}, annotations={"name": record.dataset.name}
        ),
        Subject(name="request", digest=request, annotations={"n_units": record.request.n_units}),
        *_builds(words.audited(record)),
    ]


def _model(record: Record, model: ModelFile) -> Subject:
    names = [system.name for system in words.audited(record) if model.build in system.digests]
    tied = (
        {"build": model.build, "system": names[0], "holds": "weights and the interactions it is served over"}
        if names
        else {}
    )
    return Subject(name=f"model/{model.name}", digest={"sha256": model.sha256}, annotations=tied)


def _builds(systems: Sequence[SystemEntry]) -> Iterator[Subject]:
    # Numbered, because names of systems need not be unique or fit for a name of a subject.
    for place, system in enumerate(systems):
        for run, digest in enumerate(system.digests):
            remarks = {"system": system.name, "run": run}
            yield Subject(name=f"build/{place}/{run}", digest={"auditkit_build": digest}, annotations=remarks)


def told_by(record: Record) -> dict[str, Any]:
    """The part of the predicate that repeats the report, as JSON; `request` and `dataset` without their digests."""
    whole = record.model_dump(mode="json")
    kept = (
        "generator", "created", "schema_version", "config_digest", "verdict", "reasons", "policy", "backbone",
        "protocol", "attainable_margin", "controls", "environment",
    )  # fmt: skip
    without = {name: {k: v for k, v in whole[name].items() if k != "digest"} for name in ("request", "dataset")}
    return {**{name: whole[name] for name in kept}, **without, "systems": [*map(_told_of, whole["systems"])]}


def _told_of(system: Mapping[str, Any]) -> dict[str, Any]:
    kept = (
        "name", "role", "method", "label", "parameters", "seeds", "digests", "verdict", "reasons", "depth",
        "residual_dose", "pattern", "spread", "utility", "speedup_vs_gold",
    )  # fmt: skip
    attack = ("attack", "parameters", "access", "primary", "counts", "section", "residual_dose", "pattern", "spread")
    findings = [{name: finding[name] for name in attack} for finding in system["findings"]]
    return {**{name: system[name] for name in kept}, "findings": findings}


def differing(said: Statement, record: Record) -> list[str]:
    """Parts of the predicate that are not what the report says; what a later report says more does not count."""
    told = said.predicate.model_dump()
    parts = [name for name, value in told_by(record).items() if name not in told or not _within(told[name], value)]
    stated = record.request.commitment
    if stated is not None and stated.root not in {s.digest.get("auditkit_commitment") for s in said.subject}:
        parts.append("commitment")
    return parts if set(record.limits) <= set(said.predicate.limits) else [*parts, "limits"]


def _within(told: Any, found: Any) -> bool:
    if isinstance(told, dict) and isinstance(found, dict):
        return all(name in found and _within(value, found[name]) for name, value in told.items())
    if isinstance(told, list) and isinstance(found, list):
        return len(told) == len(found) and all(map(_within, told, found))
    return bool(told == found)


def _limits(
    record: Record, model: ModelFile | None, evidence: Mapping[str, str] | None, commitment: str | None
) -> list[str]:
    of_model = NO_MODEL if model is None else TIED_MODEL if model.build else UNTIED_MODEL
    of_evidence = DERIVED if evidence and EVIDENCE in evidence else UNDERIVED
    untied = [UNTIED_COMMITMENT] if commitment else []
    return [words.VERDICTS[record.verdict].limit, NO_TIME, of_model, of_evidence, *untied]


def sign(said: Statement, signer: CryptoSigner) -> bytes:
    """The certificate's file: one line of canonical JSON.

    Raises:
        DataError: a number of the report is NaN or infinite.
    """
    return signed_envelope(canonical_bytes(said.model_dump(by_alias=True)), PAYLOAD_TYPE, signer)


def opened(content: bytes, key: SSlibKey) -> Statement:
    """What a certificate states, once its signature holds; nothing that is signed is parsed before.

    Args:
        content: bytes of the certificate's file.
        key: public key of who is trusted.

    Raises:
        CertificateError: the bytes are not as `sign` makes them, the signature is not of this key over this payload, or
            the statement is of a kind or major version that this auditkit does not know.
    """
    payload, payload_type = open_envelope(content, key)
    if payload_type != PAYLOAD_TYPE:
        raise CertificateError("statement", f"its payloadType must be {PAYLOAD_TYPE}, got {payload_type!r}")
    try:
        told = json.loads(payload)
        _check_version(str(told["predicateType"]))
        said = Statement.model_validate(told)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CertificateError("statement", f"it is no in-toto Statement of an audit: {error}") from error
    if len({subject.name for subject in said.subject}) != len(said.subject):
        raise CertificateError("statement", "two of its subjects have one name")
    return said


def _check_version(predicate_type: str) -> None:
    kind = re.fullmatch(rf"{PREDICATE}:v([0-9]{{1,9}})", predicate_type)
    if kind is None:
        raise CertificateError("statement", f"its predicateType must be {PREDICATE}:v{MAJOR}, got {predicate_type!r}")
    if int(kind[1]) != MAJOR:
        why = f"its major version is {kind[1]}, this auditkit reads {MAJOR}; use another auditkit"
        raise CertificateError("statement", why)
