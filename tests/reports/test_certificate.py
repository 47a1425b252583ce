"""Certificates: a statement says what its report says, and only a statement that is known is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from auditkit.errors import DataError
from auditkit.record import Depth
from auditkit.reports import certificate as c
from auditkit.reports import words
from auditkit.signing import CertificateError, canonical_bytes, new_key_pair, public_key_of, signed_envelope, signer_of

from .certified import FAILED, MODEL, UNITS, Place, prepared, sample, sha256, with_certificate, wrong
from .sample import hostile, invalid, minimal


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return prepared(tmp_path)


@pytest.fixture
def certified(place: Place) -> Place:
    return with_certificate(place)


@pytest.fixture(scope="module")
def pair() -> tuple[bytes, bytes]:
    return new_key_pair()


def test_the_certificate_is_an_in_toto_statement_in_a_dsse_envelope(certified: Place) -> None:
    envelope = json.loads(certified.files["certificate"].read_bytes())
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    told, whole = certified.statement(), sample()
    assert told["_type"] == "https://in-toto.io/Statement/v1"
    assert told["predicateType"] == "urn:auditkit:unlearning-audit:v1"
    digests = {subject["name"]: subject["digest"] for subject in told["subject"]}
    assert digests == {
        "model/model.safetensors": {"sha256": sha256(MODEL)},
        "report/report.json": {"sha256": sha256(certified.files["report"].read_bytes())},
        "evidence/report.json": {"sha256": sha256(certified.files["report"].read_bytes())},
        "evidence/units.parquet": {"sha256": sha256(UNITS)},
        "dataset": {"auditkit_data": whole.dataset.digest},
        "request": {"auditkit_request": whole.request.digest},
        "build/0/0": {"auditkit_build": words.audited(whole)[0].digests[0]},
    }
    predicate = told["predicate"]
    assert predicate["verdict"] == "PASS"
    assert predicate["policy"] == whole.policy.model_dump(mode="json")
    assert predicate["environment"]["packages"] == whole.environment.packages
    audited = next(system for system in predicate["systems"] if system["role"] == "unlearned")
    assert audited["residual_dose"]["low"] == words.audited(whole)[0].residual_dose.low
    assert len(predicate["controls"]) == 3


def test_the_same_report_files_and_key_give_the_same_bytes(certified: Place) -> None:
    first = certified.files["certificate"].read_bytes()
    certified.files["certificate"].unlink()
    certified.certify("--model", certified.files["model"], "--evidence", certified.root / "report")
    assert certified.files["certificate"].read_bytes() == first


def test_limits_are_signed_and_printed_by_both_commands(place: Place) -> None:
    printed = place.certify().err, place.verify().err
    limits = place.statement()["predicate"]["limits"]
    assert limits == [*sample().limits, words.VERDICTS["PASS"].limit, c.NO_TIME, c.NO_MODEL, c.UNDERIVED]
    for text in printed:
        assert all(f"- {limit}\n" in text for limit in limits)


def test_a_verdict_that_does_not_follow_from_the_systems_is_not_certified(place: Place) -> None:
    place.write(sample(FAILED, verdict="PASS", exit_code=0))
    with pytest.raises(DataError, match="the report says PASS, its systems' verdicts make it FAIL"):
        place.certify()
    place.write(sample(exit_code=1))
    with pytest.raises(DataError, match="the report says PASS with exit code 1, not 0"):
        place.certify()
    assert c.contradiction(minimal()) == c.contradiction(sample()) == c.contradiction(invalid()) == ""


def test_numbers_that_are_not_finite_cannot_be_certified(pair: tuple[bytes, bytes]) -> None:
    system = words.audited(sample())[0].model_copy(update={"depth": Depth(value=float("nan"))})
    said = c.statement(sample().model_copy(update={"systems": [system]}), "0" * 64)
    with pytest.raises(DataError, match="a certificate holds finite numbers only"):
        c.sign(said, signer_of(pair[0]))


def small() -> c.Statement:
    return c.Statement(
        subject=[c.Subject(name="model/m", digest={"sha256": "0" * 64})],
        predicate_type="urn:auditkit:unlearning-audit:v1",
        predicate=c.Predicate(verdict="PASS", reasons=[], limits=["é\x7f"]),
    )


def signed(payload: bytes, private: bytes, kind: str = c.PAYLOAD_TYPE) -> bytes:
    return signed_envelope(payload, kind, signer_of(private))


def whole(**changes: Any) -> bytes:
    return canonical_bytes({**small().model_dump(mode="json", by_alias=True), **changes})


def part(content: bytes, public: bytes) -> str:
    with pytest.raises(CertificateError) as refused:
        c.opened(content, public_key_of(public))
    return refused.value.part


def test_every_byte_of_a_small_certificate_counts(pair: tuple[bytes, bytes]) -> None:
    content, key = c.sign(small(), signer_of(pair[0])), public_key_of(pair[1])
    assert c.opened(content, key) == small()
    for at in range(len(content)):
        for other in (content[at] ^ 1, content[at] ^ 32, 255 - content[at]):
            with pytest.raises(CertificateError, match=r"\A(certificate|signature): "):
                c.opened(content[:at] + bytes([other]) + content[at + 1 :], key)


def test_nothing_is_parsed_before_its_signature_holds(pair: tuple[bytes, bytes]) -> None:
    """A stranger's payload is broken in a way that its signer's own key would tell."""
    private, public = new_key_pair()
    content = signed(b"{not json", private)
    assert part(content, pair[1]) == "signature"
    assert part(content, public) == "statement"


def test_an_unknown_major_version_is_refused_before_its_predicate_is_read(pair: tuple[bytes, bytes]) -> None:
    content = signed(whole(predicateType="urn:auditkit:unlearning-audit:v2", predicate={"unlike": 1}), pair[0])
    with pytest.raises(CertificateError, match="its major version is 2, this auditkit reads 1"):
        c.opened(content, public_key_of(pair[1]))


def test_fields_that_a_later_minor_version_adds_are_ignored(pair: tuple[bytes, bytes]) -> None:
    predicate = {"verdict": "PASS", "reasons": [], "limits": [], "later": {"x": [1]}}
    said = c.opened(signed(whole(predicate=predicate, more=1), pair[0]), public_key_of(pair[1]))
    assert said.predicate.verdict == "PASS"


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"{not json", b"[]", b"{}", b"[" * 100_000, whole(_type="https://in-toto.io/Statement/v0.1"),
        whole(predicateType="urn:other:v1"), whole(predicateType="urn:auditkit:unlearning-audit:v1.5"),
        whole(predicateType=None), whole(subject=[]), whole(subject=[{"name": "x", "digest": {}}]),
        whole(predicate={}), whole(predicate={"verdict": "GREAT", "reasons": [], "limits": []}),
        whole(subject=[{"name": "x", "digest": {"sha256": "0"}}] * 2),
    ],
)  # fmt: skip
def test_a_signed_payload_that_is_no_statement_of_an_audit_is_named(payload: bytes, pair: tuple[bytes, bytes]) -> None:
    assert part(signed(payload, pair[0]), pair[1]) == "statement"


def test_a_payload_of_another_type_is_named(pair: tuple[bytes, bytes]) -> None:
    assert part(signed(whole(), pair[0], "text/plain"), pair[1]) == "statement"


def test_a_signer_who_says_more_than_the_report_is_found(place: Place) -> None:
    """The digest is right and the signature too, but what is signed is not what the report says."""
    failed = sample(FAILED)
    place.write(failed)
    report = sha256(place.files["report"].read_bytes())
    lies = {
        "verdict, reasons": sample(FAILED, verdict="PASS", exit_code=0, reasons=[]),
        "policy": failed.model_copy(update={"policy": failed.policy.model_copy(update={"margin": 0.5})}),
        "limits": failed.model_copy(update={"limits": failed.limits[:1]}),
        "systems": failed.model_copy(update={"systems": failed.systems[1:]}),
    }
    signer = signer_of((place.root / "k.pem").read_bytes())
    for parts, lie in lies.items():
        place.files["certificate"].write_bytes(c.sign(c.statement(lie, report), signer))
        shown = place.verify("--report", place.files["report"])
        assert shown.code == 1
        assert wrong(shown) == (["verdict", "statement"] if "verdict" in parts else ["statement"])
        assert f"unlike the report: {parts}\n" in shown.out


def test_a_certified_report_that_breaks_the_schema_or_itself_is_found(place: Place) -> None:
    signer = signer_of((place.root / "k.pem").read_bytes())
    for content, found in (
        (b"{}", ["report's schema"]),
        (sample(FAILED, verdict="PASS", exit_code=0).to_json().encode(), ["report's verdict"]),
    ):
        place.files["report"].write_bytes(content)
        said = c.statement(sample(FAILED, verdict="PASS", exit_code=0), sha256(content))
        place.files["certificate"].write_bytes(c.sign(said, signer))
        assert wrong(place.verify("--report", place.files["report"])) == found


def test_hostile_names_stay_on_their_line(place: Place) -> None:
    odd = "\n::error::x\r\n\x1b[31m\u202e|<b>`\"'模型"
    named = sample(reasons=[odd], limits=[odd], dataset=odd)
    systems = [system.model_copy(update={"name": odd}) for system in named.systems]
    place.write(named.model_copy(update={"systems": systems}))
    (place.root / "report" / "\n::error::y\x1b").write_bytes(b"x")
    model = place.root / "m\n::error::z"
    model.write_bytes(MODEL)
    outputs = [place.certify("--evidence", place.root / "report", "--model", model)]
    outputs.append(
        place.verify("--report", place.files["report"], "--evidence", place.root / "report", "--model", model)
    )
    (place.root / "report" / "\n::error::y\x1b").write_bytes(b"changed")
    outputs.append(place.verify("--evidence", place.root / "report"))
    assert [said.code for said in outputs] == [0, 0, 1]
    for said in outputs:
        text = said.out + said.err
        assert not any(line.lstrip().startswith("::") for line in text.splitlines())
        assert all(character.isprintable() or character == "\n" for character in text)
        assert "模型" in said.err


def test_hostile_reasons_of_a_refusal_stay_on_their_line(place: Place) -> None:
    place.write(hostile().model_copy(update={"reasons": ["\r\n::error::x\x1b"]}))
    said = place.certify()
    assert said.code == 1
    assert "\n::" not in said.err
    assert "\x1b" not in said.err
