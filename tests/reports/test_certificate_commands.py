"""The commands keygen, certify and verify: keys are safe, and whatever file differs is named."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from auditkit.commitment import Commitment, new_key
from auditkit.errors import ConfigurationError, DataError
from auditkit.record import Record, UnitsFile
from auditkit.reports import certificate as c
from auditkit.reports import words
from auditkit.signing import public_key_of, signer_of
from auditkit.store import Store

from .certified import FAILED, PASSED, UNDECIDED, UNITS, Place, prepared, run, sample, sha256, with_certificate, wrong
from .sample import METHODS, invalid, record


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return prepared(tmp_path)


@pytest.fixture
def certified(place: Place) -> Place:
    return with_certificate(place)


def test_keygen_writes_a_private_file_and_a_public_one_beside_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        said = run("keygen", "--out", tmp_path / "new" / "k.pem")
    finally:
        os.umask(before)
    private, public = tmp_path / "new" / "k.pem", tmp_path / "new" / "k.pub.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert private.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert public.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----")
    key = public_key_of(public.read_bytes())
    assert key == signer_of(private.read_bytes()).public_key
    assert (key.keytype, key.scheme) == ("ed25519", "ed25519")
    assert key.keyid in said.out
    assert "certify in your name" in said.err


@pytest.mark.parametrize("taken", ["k.pem", "k.pub.pem"])
def test_keygen_overwrites_nothing(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("mine")
    with pytest.raises(ConfigurationError, match=rf"{taken} exists already and a key is never overwritten"):
        run("keygen", "--out", tmp_path / "k.pem")
    assert [path.name for path in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "mine"


def test_keygen_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "k.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="exists already"):
        run("keygen", "--out", tmp_path / "k.pem")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("module", ["securesystemslib.signer", "cryptography.hazmat.primitives.serialization"])
def test_without_the_extra_the_error_names_it(certified: Place, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    commands: tuple[Callable[[], object], ...] = (
        lambda: run("keygen", "--out", certified.root / "n.pem"),
        lambda: certified.certify("--out", certified.root / "n.json"),
        certified.verify,
    )
    for command in commands:
        with pytest.raises(ConfigurationError, match=r"pip install 'auditkit\[sign\]'"):
            command()
    assert not list(certified.root.glob("n*"))


def test_all_files_of_a_certificate_hold(certified: Place) -> None:
    said = certified.verify_all()
    assert said.code == 0, said.out
    assert said.out.endswith("holds: a certificate that says PASS\n")
    checked = [line.split(": ")[0].split(maxsplit=1)[1] for line in said.out.splitlines()[:-1] if line[:2] == "ok"]
    assert checked == [
        "signature", "report", "report's schema", "verdict", "report's verdict", "statement", "model",
        "evidence/report.json", "evidence/units.parquet", "per-unit table",
    ]  # fmt: skip
    # The table of these tests is no table, and beside it lies no evidence that could be judged again.
    assert [line for line in said.out.splitlines() if line.startswith("not checked")] == [
        "not checked  re-derivation: the certificate names no evidence.npz, so the verdict rests on the report alone"
    ]


def test_what_is_not_given_is_said_to_be_unchecked(certified: Place) -> None:
    said = certified.verify()
    assert said.code == 0
    unchecked = [line for line in said.out.splitlines() if line.startswith("not checked")]
    assert unchecked == [f"not checked  {what}: not given" for what in ("report", "model", "evidence")]


def test_another_key_does_not_hold(certified: Place) -> None:
    run("keygen", "--out", certified.root / "other.pem")
    said = certified.verify(key="other.pub.pem")
    assert said.code == 1
    assert wrong(said) == ["signature"]
    ours = public_key_of((certified.root / "k.pub.pem").read_bytes()).keyid
    assert f"signed by {ours}, not by the given key" in said.out
    assert said.out.splitlines()[-1] == "does not hold: signature; nothing else was looked at"


def test_without_evidence_the_reports_own_table_is_named(place: Place) -> None:
    assert place.certify().code == 0
    assert place.verify("--evidence", place.root / "report").code == 0
    place.files["evidence/units.parquet"].write_bytes(UNITS + b"!")
    assert wrong(place.verify("--evidence", place.root / "report")) == ["evidence/units.parquet"]


def test_a_commitment_stands_instead_of_the_plain_digest(place: Place) -> None:
    root = Commitment.of(new_key(), ["a", "b"]).root
    assert place.certify("--commitment", root.upper()).code == 0
    told = place.statement()
    assert {"auditkit_commitment": root} in [subject["digest"] for subject in told["subject"]]
    assert sample().request.digest not in json.dumps(told)
    assert c.UNTIED_COMMITMENT in told["predicate"]["limits"]


@pytest.mark.parametrize("text", ["", "xyz", "00" * 31, "00" * 33])
def test_what_is_no_root_is_refused(place: Place, text: str) -> None:
    with pytest.raises(ConfigurationError, match="--commitment must be 64 hexadecimal digits"):
        place.certify("--commitment", text)


def test_a_fail_is_certified_only_when_asked_for(place: Place) -> None:
    place.write(sample(FAILED))
    said = place.certify()
    assert said.code == 1
    assert "not certified: the verdict is FAIL; pass --allow-fail" in said.err
    assert not place.files["certificate"].exists()
    assert place.certify("--allow-fail").code == 0
    held = place.verify("--report", place.files["report"])
    assert held.code == 0
    assert held.out.endswith("holds: a certificate that says FAIL\n")


@pytest.mark.parametrize("whole", [invalid(), record(UNDECIDED)], ids=["INVALID", "INCONCLUSIVE"])
def test_without_a_verdict_there_is_no_certificate(place: Place, whole: Record) -> None:
    place.write(whole)
    said = place.certify("--allow-fail")
    assert said.code == 4
    assert f"the verdict is {whole.verdict}" in said.err
    assert not place.files["certificate"].exists()


def stored(place: Place, address: str) -> Path:
    store = Store(place.root / "store")
    store.write(address, {"weights.x": np.arange(3.0), "served.users": np.arange(4)}, {"cost": {}})
    return store.folder(address) / "arrays.safetensors"


def test_a_model_that_the_store_holds_is_tied_to_its_build(place: Place) -> None:
    address = words.audited(sample())[0].digests[0]
    file = stored(place, address)
    assert place.certify("--model", file).code == 0
    told = place.statement()
    assert told["subject"][0]["annotations"] == {
        "build": address, "system": METHODS[0][0], "holds": "weights and the interactions it is served over",
    }  # fmt: skip
    assert c.TIED_MODEL in told["predicate"]["limits"]
    assert place.verify("--model", file).code == 0


def test_an_altered_build_is_not_certified(place: Place) -> None:
    file = stored(place, words.audited(sample())[0].digests[0])
    file.write_bytes(file.read_bytes()[:-1] + b"\x07")
    with pytest.raises(DataError, match=r"--model is not what the store made: .* does not match its digest"):
        place.certify("--model", file)


def test_a_model_from_elsewhere_is_the_signers_word(place: Place) -> None:
    assert place.certify("--model", stored(place, "0" * 64)).code == 0
    told = place.statement()
    assert told["subject"][0]["annotations"] == {}
    assert c.UNTIED_MODEL in told["predicate"]["limits"]


def test_a_file_that_the_certificate_does_not_name_does_not_hold(place: Place) -> None:
    place.write(record(PASSED, units=None))
    assert place.certify().code == 0
    assert wrong(place.verify("--model", place.files["model"])) == ["model"]
    assert wrong(place.verify("--evidence", place.root / "report")) == ["evidence"]


def test_missing_and_further_evidence_are_told_apart(certified: Place) -> None:
    (certified.root / "report" / "later.txt").write_text("x")
    said = certified.verify("--evidence", certified.root / "report")
    assert said.code == 0
    assert "not checked  evidence/later.txt: the certificate does not name it" in said.out
    certified.files["evidence/units.parquet"].unlink()
    assert wrong(certified.verify("--evidence", certified.root / "report")) == ["evidence/units.parquet"]
    (certified.root / "elsewhere").write_bytes(UNITS)
    certified.files["evidence/units.parquet"].symlink_to(certified.root / "elsewhere")
    assert wrong(certified.verify("--evidence", certified.root / "report")) == ["evidence/units.parquet"]


def test_evidence_in_folders_is_named_by_its_path(place: Place) -> None:
    (place.root / "report" / "deep" / "er").mkdir(parents=True)
    (place.root / "report" / "deep" / "er" / "a.bin").write_bytes(b"a")
    place.certify("--evidence", place.root / "report")
    (place.root / "report" / "deep" / "er" / "a.bin").write_bytes(b"b")
    assert wrong(place.verify("--evidence", place.root / "report")) == ["evidence/deep/er/a.bin"]


def test_evidence_that_is_not_the_reports_is_not_certified(place: Place) -> None:
    place.files["evidence/units.parquet"].write_bytes(b"another table")
    with pytest.raises(DataError, match=r"'units\.parquet' in .* is not the report's per-unit table"):
        place.certify("--evidence", place.root / "report")
    (place.root / "empty").mkdir()
    with pytest.raises(DataError, match="--evidence holds no file"):
        place.certify("--evidence", place.root / "empty")
    with pytest.raises(DataError, match="--evidence must be a folder"):
        place.certify("--evidence", place.files["report"])
    (place.root / "report" / "link").symlink_to(place.files["model"])
    with pytest.raises(DataError, match="evidence must hold files, got a link: 'link'"):
        place.certify("--evidence", place.root / "report")


def test_nothing_is_overwritten_by_a_certificate(place: Place) -> None:
    private = (place.root / "k.pem").read_bytes()
    with pytest.raises(ConfigurationError, match=r"k\.pem exists already; choose another --out"):
        run("certify", place.files["report"], "--key", place.root / "k.pem", "--out", place.root / "k.pem")
    assert (place.root / "k.pem").read_bytes() == private


def test_files_that_cannot_be_read_are_usage_errors(certified: Place) -> None:
    nowhere = certified.root / "nowhere"
    for option in ("--report", "--model"):
        with pytest.raises(DataError, match=r"cannot read .*nowhere: No such file"):
            certified.verify(option, nowhere)
    with pytest.raises(DataError, match="cannot read"):
        certified.verify(key="nowhere")
    with pytest.raises(DataError, match="is not an auditkit report of schema"):
        run("certify", certified.files["model"], "--key", certified.root / "k.pem", "--out", nowhere)


@pytest.mark.parametrize("what", ["report", "model", "evidence/units.parquet", "certificate"])
def test_a_changed_byte_anywhere_is_named(certified: Place, what: str) -> None:
    file = certified.files[what]
    content = file.read_bytes()
    for at in {0, 1, len(content) // 3, len(content) // 2, len(content) - 2, len(content) - 1}:
        file.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        said = certified.verify_all()
        assert said.code == 1
        found = set(wrong(said))
        assert found <= {"certificate", "signature"} if what == "certificate" else what in found, (at, said.out)
        if what != "certificate":
            assert "signature" not in found
            assert said.out.splitlines()[-1].startswith("does not hold: ")
    file.write_bytes(content)
    assert certified.verify_all().code == 0


def test_a_report_that_is_not_the_certified_one_is_not_read(certified: Place) -> None:
    certified.write(sample(FAILED))
    said = certified.verify("--report", certified.files["report"])
    assert wrong(said) == ["report"]
    assert "schema" not in said.out
    assert "FAIL" not in said.out


@pytest.mark.parametrize("what", ["report", "model", "evidence/units.parquet", "certificate"])
def test_a_file_cut_short_or_grown_is_named(certified: Place, what: str) -> None:
    content = certified.files[what].read_bytes()
    for changed in (b"", content[:-1], content + b"\n", b" " + content):
        certified.files[what].write_bytes(changed)
        said = certified.verify_all()
        assert said.code == 1
        assert {what, "signature"} & set(wrong(said))


def test_a_path_in_a_certificate_opens_no_file(place: Place, tmp_path: Path) -> None:
    """Names of subjects are compared with what the folder holds; none is opened."""
    place.write(record(PASSED, units=UnitsFile(path="../k.pem", digest=sha256((tmp_path / "k.pem").read_bytes()))))
    place.certify()
    assert wrong(place.verify("--evidence", place.root / "report")) == ["evidence/../k.pem"]


def test_names_that_are_no_unicode_are_refused(place: Place) -> None:
    try:
        (place.root / "report" / os.fsdecode(b"\xff.bin")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system refuses such names")
    with pytest.raises(DataError, match="must have a name in Unicode"):
        place.certify("--evidence", place.root / "report")
