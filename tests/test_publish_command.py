"""`auditkit report unit-key`, `publish`, `prove` and `check-proof`, on real audits; an attack on what they write."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from auditkit.builds import Workshop
from auditkit.commitment import Commitment, Proof, merkle_levels, pseudonym, unit_text
from auditkit.config import load, resolve
from auditkit.data.dataset import Dataset
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError, DataError
from auditkit.plan import Plan, audited_systems, background_systems
from auditkit.record import Record
from auditkit.reports import tables, words
from auditkit.store import Store

from .published import GONE, KEY, Place, of_a_fifth, of_anna, own_id, run


@pytest.fixture(scope="module")
def anna(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return of_anna(tiny, tmp_path_factory.mktemp("anna"))


@pytest.fixture(scope="module")
def passed(tiny_folder: Path, tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return of_a_fifth(tiny_folder / "gold.toml", tiny_store, tmp_path_factory.mktemp("passed"))


# What a reader without the key can do who knows all ids, the data, the code and the configuration but for the request.


def guesses(plan: Plan, ids: Iterable[str], number: int) -> set[str]:
    """All digests of a candidate: those that reports have, and those that a careless one might."""
    request = DeletionRequest("user", np.array([number]), np.array([-1]))
    theirs = replace(plan, request=request)
    shop = Workshop(plan.data, request, Store(Path()))
    systems = [*background_systems(theirs), *itertools.chain(*audited_systems(theirs).values())]
    found = {request.digest, theirs.digest, *(shop.address(system.build) for system in systems)}
    texts = [str(number), *ids, unit_text("user", user=number), *(unit_text("user", user=one) for one in ids)]
    plain = [*(text.encode() for text in texts), number.to_bytes(8, "little"), request.users.tobytes()]
    found |= {hashlib.new(name, it).hexdigest() for it in plain for name in ("md5", "sha1", "sha256", "blake2b")}
    found |= {merkle_levels([it])[-1][0].hex() for it in plain}
    for key in (bytes(32), bytes.fromhex(plan.data.digest)):
        found |= {Commitment.of(key, [text]).root for text in texts} | {pseudonym(key, "user", text) for text in texts}
    return found


@pytest.fixture(scope="module")
def candidates(anna: Place) -> list[set[str]]:
    """Digests of each user; those that all users have say nothing."""
    plan = resolve(load(anna.config))
    tried = [guesses(plan, [own_id(user)], user) for user in range(plan.data.n_users)]
    common = set.intersection(*tried)
    return [digests - common for digests in tried]


def found_by_brute_force(candidates: list[set[str]], texts: Iterable[str]) -> list[int]:
    """The candidates of whom a digest, or its head of eight digits or more, is in the texts."""
    runs = {run.lower() for text in texts for run in re.findall(r"[0-9a-fA-F]{8,}", text)}
    heads = {run[:8] for run in runs}
    return [
        user
        for user, digests in enumerate(candidates)
        if any(one.startswith(run) for one in digests if one[:8] in heads for run in runs)
    ]


@pytest.mark.parametrize("file", ["report.json", "report.html", "units.parquet"])
def test_who_lists_all_users_finds_the_one_in_a_report_and_nobody_in_its_copy(
    anna: Place, candidates: list[set[str]], file: str
) -> None:
    """A report's table names users plainly and holds no digest; in the two others a digest is enough."""
    assert len(candidates) == 120
    assert min(map(len, candidates)) > 30
    own, told = ([(folder / file).read_bytes().decode("latin-1")] for folder in (anna.audit, anna.published))
    if file == "units.parquet":
        own.append(pd.read_parquet(anna.audit / file).to_csv())
        told.append(pd.read_parquet(anna.published / file).to_csv())
    assert found_by_brute_force(candidates, own) == ([] if file == "units.parquet" else [GONE])
    assert found_by_brute_force(candidates, told) == []
    assert "anna" not in "".join(told)


def test_the_copy_has_three_files_and_its_table_no_id(anna: Place) -> None:
    assert sorted(path.name for path in anna.published.iterdir()) == ["report.html", "report.json", "units.parquet"]
    own, told = (pd.read_parquet(folder / "units.parquet") for folder in (anna.audit, anna.published))
    assert own["user"][own["group"] == "forget"].tolist() == [GONE]
    names = {own_id(user) for user in range(120)} | {str(user) for user in range(120)}
    assert not names & {str(cell) for name in ("user", "item", "cluster") for cell in told[name]}
    assert pseudonym(KEY, "user", own_id(GONE)) in told["user"].tolist()


def test_evidence_is_in_no_copy_and_no_copy_is_put_beside_it(anna: Place, tmp_path: Path) -> None:
    assert (anna.audit / "evidence.npz").is_file()
    (tmp_path / "evidence.npz").write_bytes((anna.audit / "evidence.npz").read_bytes())
    with pytest.raises(ConfigurationError, match=r"evidence\.npz is what an audit read of every unit, by plain ids"):
        anna.publish(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["evidence.npz"]


def test_the_number_of_the_users_interactions_is_in_no_text_of_the_copy(anna: Place) -> None:
    own, told = (Record.read(folder / "report.json") for folder in (anna.audit, anna.published))
    degree = own.request.n_interactions
    assert degree & (degree - 1), "a power of two would show nothing"

    def texts(whole: Record) -> list[str]:
        notes = [finding.note for system in whole.systems for finding in system.findings]
        return [*whole.reasons, *notes, words.asked(whole)]

    number = re.compile(rf"(?<![\d.]){degree}(?![\d.]\d)")
    assert any(number.search(text) for text in texts(own))
    assert not [text for text in texts(told) if number.search(text)]
    assert not [f for s in told.systems for f in s.findings if degree in (f.n_points, f.n_units)]
    groups = [group for system in told.systems for group in system.deciles]
    assert groups
    assert all(group.low < degree <= group.high or group.low <= degree < group.high for group in groups)


def test_a_published_copy_is_a_report_like_any(anna: Place, passed: Place) -> None:
    for place in (anna, passed):
        path = place.published / "report.json"
        told, own = Record.read(path), Record.read(place.audit / "report.json")
        assert run("report", "validate", path).code == 0
        rows = run("report", "csv", path, "--units").out.splitlines()
        assert len(rows) == len(pd.read_parquet(place.published / "units.parquet")) + 1
        assert told.units is not None
        assert told.units.digest == hashlib.sha256((place.published / "units.parquet").read_bytes()).hexdigest()
        page = (place.published / "report.html").read_text("utf-8")
        assert told.request.commitment is not None
        assert told.request.commitment.root in page
        assert own.request.digest not in page
        assert own.request.commitment is None
    assert (told.verdict, told.reasons) == (own.verdict, own.reasons)
    assert tables.systems(told) == tables.systems(own)


def test_publishing_says_what_is_not_hidden(anna: Place, passed: Place) -> None:
    for place, seed in ((passed, "The audit's seed can be guessed"), (anna, "which must stay secret")):
        assert place.said is not None
        assert place.said.out == f"{place.published / 'report.json'}\n"
        assert "Not hidden: how many units were to be forgotten" in place.said.err
        assert seed in place.said.err


def test_what_cannot_be_published_is_refused(anna: Place, passed: Place, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--out must not be the audit's own folder"):
        anna.publish(anna.audit)
    with pytest.raises(ConfigurationError, match="another request than the configuration"):
        Place(anna.config, anna.store, passed.root).publish(tmp_path / "x")
    options = ("--key", anna.key, "--config", anna.config, "--out", tmp_path / "x")
    with pytest.raises(ConfigurationError, match="the report is published already"):
        run("report", "publish", anna.published / "report.json", *options)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.json").write_bytes((anna.audit / "report.json").read_bytes())
    (tmp_path / "unit.key").write_text(KEY.hex())
    alone = Place(anna.config, anna.store, tmp_path)
    with pytest.raises(DataError, match=r"no file units\.parquet lies beside the report"):
        alone.publish()
    (tmp_path / "report" / "units.parquet").write_bytes(b"another")
    with pytest.raises(DataError, match=r"units\.parquet is not the file that the report was written with"):
        alone.publish()
    bare = Record.read(anna.audit / "report.json").model_copy(update={"units": None})
    (tmp_path / "report" / "report.json").write_text(bare.to_json())
    with pytest.raises(DataError, match="its audit wrote none; audit again with --out"):
        alone.publish()
    assert not (tmp_path / "x").exists()
    assert not alone.published.exists()


def test_the_key_is_random_private_and_never_overwritten(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert run("report", "unit-key", "--out", tmp_path / "deep" / "a.key").code == 0
    finally:
        os.umask(before)
    path = tmp_path / "deep" / "a.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert re.fullmatch(r"[0-9a-f]{64}\n", path.read_text())
    content = path.read_text()
    with pytest.raises(ConfigurationError, match="exists already"):
        run("report", "unit-key", "--out", path)
    assert path.read_text() == content
    assert "Keep it secret" in run("report", "unit-key", "--out", tmp_path / "b.key").err
    assert (tmp_path / "b.key").read_text() != content
    (tmp_path / "link.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="exists already"):
        run("report", "unit-key", "--out", tmp_path / "link.key")


def test_a_subject_is_shown_to_be_in_the_request(anna: Place, tmp_path: Path) -> None:
    said = anna.prove(tmp_path / "proof.json", "--user", own_id(GONE))
    assert said.code == 0
    assert stat.S_IMODE((tmp_path / "proof.json").stat().st_mode) == 0o600
    unit = unit_text("user", user=own_id(GONE))
    assert Proof.from_json((tmp_path / "proof.json").read_text()).unit == unit
    held = anna.check(tmp_path / "proof.json")
    assert (held.code, held.out) == (0, f"holds: {unit} is one of 1 unit of the request\n")
    assert KEY.hex() not in (tmp_path / "proof.json").read_text()
    with pytest.raises(ConfigurationError, match="exists already"):
        anna.prove(tmp_path / "proof.json", "--user", own_id(GONE))


def test_interactions_are_shown_by_both_ids(passed: Place, tmp_path: Path) -> None:
    units = pd.read_parquet(passed.audit / "units.parquet")
    forgotten = units[units["group"] == "forget"].iloc[5]
    named = ("--user", str(forgotten["user"]), "--item", str(forgotten["item"]))
    assert passed.prove(tmp_path / "proof.json", *named).code == 0
    held = passed.check(tmp_path / "proof.json")
    assert held.code == 0
    assert held.out.endswith(f"is one of {(units['group'] == 'forget').sum()} units of the request\n")
    kept = units[units["group"] == "retain"].iloc[0]
    with pytest.raises(ConfigurationError, match="is not among the"):
        passed.prove(tmp_path / "no.json", "--user", str(kept["user"]), "--item", str(kept["item"]))
    assert not (tmp_path / "no.json").exists()


def test_what_is_not_in_the_request_cannot_be_shown(anna: Place, passed: Place, tmp_path: Path) -> None:
    for stranger in (own_id(GONE + 1), str(GONE), "nobody"):
        with pytest.raises(ConfigurationError, match="is not among the 1 committed units"):
            anna.prove(tmp_path / "no.json", "--user", stranger)
    problems = {
        ("--item", "i1"): ("--user must name the unit", "--item must be left out"),
        (): ("--user must name",),
    }
    for named, expected in problems.items():
        with pytest.raises(ConfigurationError) as caught:
            anna.prove(tmp_path / "no.json", *named)
        assert len(caught.value.problems) == len(expected)
        assert all(text in problem for text, problem in zip(expected, caught.value.problems, strict=True))
    with pytest.raises(ConfigurationError, match="--item must name"):
        passed.prove(tmp_path / "no.json", "--user", "1")
    (tmp_path / "bad.key").write_text("no key")
    with pytest.raises(ConfigurationError, match="a unit key must be"):
        run("report", "prove", "--key", tmp_path / "bad.key", "--config", anna.config, "--out", tmp_path / "no.json",
            "--user", own_id(GONE))  # fmt: skip


def test_a_proof_that_does_not_hold_says_why(anna: Place, passed: Place, tmp_path: Path) -> None:
    proof = tmp_path / "proof.json"
    anna.prove(proof, "--user", own_id(GONE))
    said = passed.check(proof)
    assert said.code == 1
    assert said.out.startswith("does not hold: the proof is of 1 unit, the report commits to ")
    whole = json.loads(proof.read_text())
    proof.write_text(json.dumps({**whole, "unit": unit_text("user", user=own_id(GONE + 1))}))
    said = anna.check(proof)
    assert said.code == 1
    assert "it does not lead to the report's root" in said.out
    assert own_id(GONE + 1) in said.out
    proof.write_text(json.dumps({**whole, "unit": "\x1b[31m\n::error::x"}))
    assert "\x1b" not in anna.check(proof).out
    assert len(anna.check(proof).out.splitlines()) == 1
    with pytest.raises(DataError, match="commits to no units; name a report that auditkit report publish wrote"):
        run("report", "check-proof", proof, "--report", anna.audit / "report.json")
    proof.write_text("{}")
    with pytest.raises(DataError, match="this is no inclusion proof"):
        anna.check(proof)
