"""Certificates of published reports: they commit to what the report commits to, and tell no plain address."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from auditkit.errors import ConfigurationError, DataError
from auditkit.record import Record
from auditkit.reports import certificate as c
from auditkit.reports import words
from auditkit.signing import public_key_of, signer_of
from auditkit.store import Store

from .published import Place, of_a_fifth, run
from .reports.certified import Said, wrong


@pytest.fixture(scope="module")
def passed(tiny_folder: Path, tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return of_a_fifth(tiny_folder / "gold.toml", tiny_store, tmp_path_factory.mktemp("passed"))


def certify(place: Place, out: Path, *more: object) -> Said:
    named = (place.published / "report.json", "--key", place.root / "k.pem", "--out", out)
    return run("certify", *named, *more)


def model_of(place: Place) -> Path:
    address = words.audited(Record.read(place.audit / "report.json"))[0].digests[0]
    return Store(place.store).folder(address) / "arrays.safetensors"


def test_a_certificate_takes_the_commitment_from_the_report(passed: Place, tmp_path: Path) -> None:
    out = tmp_path / "cert.json"
    told = Record.read(passed.published / "report.json")
    own = Record.read(passed.audit / "report.json")
    assert told.request.commitment is not None
    root = told.request.commitment.root
    model = ("--unit-key", passed.key, "--model", model_of(passed))
    assert certify(passed, out, "--evidence", passed.published, *model).code == 0
    files = ("--report", passed.published / "report.json", "--evidence", passed.published, "--model", model_of(passed))
    held = run("verify", out, "--key", passed.root / "k.pub.pem", *files)
    assert held.code == 0, held.out
    said = statement(passed, out)
    assert {s.digest["auditkit_commitment"] for s in said.subject if s.name == "request"} == {root}
    # The build is named as the report names it, and the plain address is nowhere.
    keyed = words.audited(told)[0].digests[0]
    assert said.subject[0].annotations["build"] == keyed
    assert c.TIED_MODEL in said.predicate.limits
    assert said.predicate.limits.count(c.UNTIED_COMMITMENT) == 1
    text = said.model_dump_json()
    plain = {own.request.digest, own.config_digest, *(digest for system in own.systems for digest in system.digests)}
    assert not [digest for digest in plain if digest[:8] in text]


def statement(place: Place, path: Path) -> c.Statement:
    return c.opened(path.read_bytes(), public_key_of((place.root / "k.pub.pem").read_bytes()))


def test_another_commitment_is_an_error_and_the_same_is_none(passed: Place, tmp_path: Path) -> None:
    stated = Record.read(passed.published / "report.json").request.commitment
    assert stated is not None
    with pytest.raises(
        ConfigurationError, match=f"--commitment must be the report's own, {stated.root}, got {'0' * 64}"
    ):
        certify(passed, tmp_path / "cert.json", "--commitment", "0" * 64)
    assert not (tmp_path / "cert.json").exists()
    assert certify(passed, tmp_path / "cert.json", "--commitment", stated.root.upper()).code == 0


def test_a_model_is_tied_by_the_unit_key_alone(passed: Place, tmp_path: Path) -> None:
    model = model_of(passed)
    said = certify(passed, tmp_path / "a.json", "--model", model)
    assert said.code == 0
    assert "the report's addresses are keyed: pass --unit-key to tie --model to its build" in said.err
    assert c.UNTIED_MODEL in statement(passed, tmp_path / "a.json").predicate.limits
    (tmp_path / "other.key").write_text("0" * 64)
    with pytest.raises(DataError, match=r"--unit-key ties .* to no audited build of the report"):
        certify(passed, tmp_path / "b.json", "--model", model, "--unit-key", tmp_path / "other.key")
    with pytest.raises(ConfigurationError, match="name the model, too"):
        certify(passed, tmp_path / "b.json", "--unit-key", passed.key)
    with pytest.raises(ConfigurationError, match="--unit-key is for published reports"):
        run("certify", passed.audit / "report.json", "--key", passed.root / "k.pem", "--out", tmp_path / "b.json",
            "--model", model, "--unit-key", passed.key)  # fmt: skip
    assert not (tmp_path / "b.json").exists()


def test_a_certificate_of_another_commitment_does_not_hold(passed: Place, tmp_path: Path) -> None:
    """Whoever signs by hand, with another root in the subject than in the report."""
    content = (passed.published / "report.json").read_bytes()
    said = c.statement(Record.model_validate_json(content), hashlib.sha256(content).hexdigest())
    odd = [
        s.model_copy(update={"digest": {"auditkit_commitment": "0" * 64}}) if s.name == "request" else s
        for s in said.subject
    ]
    signed = c.sign(said.model_copy(update={"subject": odd}), signer_of((passed.root / "k.pem").read_bytes()))
    (tmp_path / "cert.json").write_bytes(signed)
    files = ("--key", passed.root / "k.pub.pem", "--report", passed.published / "report.json")
    held = run("verify", tmp_path / "cert.json", *files)
    assert held.code == 1
    assert wrong(held) == ["statement"]
    assert "unlike the report: commitment" in held.out
