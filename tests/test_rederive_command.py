"""`auditkit verify --evidence` derives the verdict again, and `certify` signs no report that does not follow."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import auditkit
from auditkit.errors import ConfigurationError, DataError
from auditkit.evidence_files import read_evidence, write_evidence
from auditkit.record import Record
from auditkit.reports import certificate as c
from auditkit.signing import signer_of

from .reports.certified import Said, run, wrong


@dataclass(frozen=True)
class Place:
    """A folder with an audit's report, its evidence and keys; each test has a copy of its own."""

    root: Path

    @property
    def report(self) -> Path:
        return self.root / "report" / "report.json"

    @property
    def evidence(self) -> Path:
        return self.root / "report" / "evidence.npz"

    def certify(self, *more: object) -> Said:
        named = ("--key", self.root / "k.pem", "--out", self.root / "cert.json", "--evidence", self.report.parent)
        return run("certify", self.report, *named, *more)

    def verify(self) -> Said:
        given = ("--report", self.report, "--evidence", self.report.parent)
        return run("verify", self.root / "cert.json", "--key", self.root / "k.pub.pem", *given)

    def sign(self, change: Callable[[Record], Record]) -> None:
        """What a dishonest signer can do, who has the key: an altered report with a certificate that names it."""
        altered = change(Record.read(self.report))
        self.report.write_text(altered.to_json(), "utf-8")
        names = ("evidence.npz", "units.parquet")
        evidence = {name: hashlib.sha256((self.report.parent / name).read_bytes()).hexdigest() for name in names}
        said = c.statement(altered, hashlib.sha256(self.report.read_bytes()).hexdigest(), evidence=evidence)
        (self.root / "cert.json").write_bytes(c.sign(said, signer_of((self.root / "k.pem").read_bytes())))


@pytest.fixture(scope="module")
def passed(tiny_folder: Path, tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("passed")
    auditkit.audit(tiny_folder / "gold.toml", out=root / "report", store=tiny_store)
    assert run("keygen", "--out", root / "k.pem").code == 0
    return Place(root)


@pytest.fixture
def place(passed: Place, tmp_path: Path) -> Place:
    shutil.copytree(passed.root, tmp_path / "copy")
    return Place(tmp_path / "copy")


def test_the_verdict_follows_from_the_certified_evidence(place: Place) -> None:
    assert place.certify().code == 0
    said = place.verify()
    assert (said.code, wrong(said)) == (0, [])
    n_findings = sum(len(s.findings) for s in Record.read(place.report).systems)
    assert (
        f"re-derivation: 1 verdict and {n_findings} findings derived from evidence.npz: the report says the same"
        in said.out
    )
    assert "not checked" not in said.out.replace("not checked  model: not given", "")


def test_any_flipped_byte_of_the_evidence_is_named(place: Place) -> None:
    place.certify()
    content = place.evidence.read_bytes()
    for at in {0, 1, len(content) // 2, len(content) - 1}:
        place.evidence.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        said = place.verify()
        assert (said.code, wrong(said)) == (1, ["evidence/evidence.npz"])
        assert "not checked  re-derivation: evidence.npz is not the certified one" in said.out


def better(record: Record) -> Record:
    (system,) = (s for s in record.systems if s.role == "unlearned")
    depth = system.depth.model_copy(update={"value": 1.0})
    systems = [system.model_copy(update={"depth": depth}), *(s for s in record.systems if s is not system)]
    return record.model_copy(update={"systems": systems})


def test_a_report_that_does_not_follow_is_named_whoever_signed_it(place: Place) -> None:
    place.sign(better)
    said = place.verify()
    assert (said.code, wrong(said)) == (1, ["re-derivation"])
    assert "re-derivation: gold: depth.value: the report says 1.0, the evidence gives 0." in said.out
    assert said.out.splitlines()[-1] == "does not hold: re-derivation"


def test_swapped_evidence_is_named_whoever_signed_it(place: Place) -> None:
    kept = read_evidence(place.evidence)
    rng = np.random.default_rng(0)
    for reading in kept.methods[0].evidence.readings.values():
        for signal, values in reading.values.items():
            noisy = {signal: values + rng.normal(size=values.shape)}
            reading.values.update(noisy)  # type: ignore[attr-defined]
    write_evidence(kept, place.evidence)
    place.sign(lambda record: record)
    said = place.verify()
    assert (said.code, set(wrong(said))) == (1, {"re-derivation"})
    assert "further differences" in said.out
    assert said.out.count("re-derivation: ") <= 43


def test_a_report_that_does_not_follow_is_not_certified(place: Place) -> None:
    place.report.write_text(better(Record.read(place.report)).to_json(), "utf-8")
    with pytest.raises(DataError, match=r"does not follow from the evidence .*gold: depth\.value: the report says 1"):
        place.certify()
    assert not (place.root / "cert.json").exists()


@pytest.mark.parametrize("content", [b"no evidence", b""])
def test_broken_evidence_gives_a_message(place: Place, content: bytes) -> None:
    place.evidence.write_bytes(content)
    with pytest.raises(DataError, match="is no evidence of an audit"):
        place.certify()
    place.sign(lambda record: record)
    said = place.verify()
    assert (said.code, wrong(said)) == (1, ["re-derivation"])
    assert "evidence.npz is no evidence of an audit" in said.out


def test_without_evidence_the_certificate_says_that_nothing_was_derived(place: Place) -> None:
    place.evidence.unlink()
    said = place.certify()
    assert said.code == 0
    assert c.UNDERIVED in said.err
    held = place.verify()
    assert held.code == 0
    assert "not checked  re-derivation: the certificate names no evidence.npz" in held.out


def test_the_limits_say_what_the_evidence_rests_on(place: Place) -> None:
    said = place.certify()
    assert c.DERIVED in said.err
    assert c.UNDERIVED not in said.err


# --- several certificates, each beside its report: the pre-commit hook -------------------------------------------


def beside(place: Place, *named: Any) -> Said:
    return run("verify", "--beside", "--key", place.root / "k.pub.pem", *named)


def test_certificates_are_held_against_the_report_beside_them(place: Place) -> None:
    for name in ("cert.json", "second.cert.json"):
        place.certify("--out", place.report.parent / name)
    first, second = place.report.parent / "cert.json", place.report.parent / "second.cert.json"
    said = beside(place, first, second)
    assert said.code == 0
    assert said.out.count("holds: a certificate that says PASS") == 2
    assert [line for line in said.out.splitlines() if line in (str(first), str(second))] == [str(first), str(second)]
    # A report that changed is held against the certificates beside it, each once.
    assert beside(place, place.report, second).out == said.out
    place.report.write_text(better(Record.read(place.report)).to_json(), "utf-8")
    assert (beside(place, place.report).code, wrong(beside(place, first))) == (1, ["report"])


def test_a_report_without_a_certificate_is_no_fault(place: Place) -> None:
    said = beside(place, place.report)
    assert (said.code, said.out) == (0, "")
    assert "no certificate lies beside" in said.err
    place.certify()
    with pytest.raises(DataError, match=r"cannot read .*report\.json"):
        beside(place, place.root / "cert.json")
    with pytest.raises(ConfigurationError, match="--beside finds each certificate's report"):
        beside(place, place.root / "cert.json", "--report", place.report)
