"""`auditkit report` and `auditkit compare`, on a fresh application."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from auditkit.commands import report as commands
from auditkit.errors import DataError
from auditkit.record import SCHEMA_ID, Record
from auditkit.reports import latex, markdown, tables

from .reports.sample import METHODS, hostile, minimal, record

APP = typer.Typer()
commands.attach(APP)


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(APP, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return put(tmp_path / "good", json.loads(record().to_json()))


def put(folder: Path, content: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "report.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_a_report_that_follows_the_schema_is_valid(good: Path) -> None:
    said = run("report", "validate", good)
    assert said.exit_code == 0
    assert said.stdout == f"{good} follows {SCHEMA_ID}\n"
    assert said.stderr == ""


def test_every_problem_is_said_with_path_and_reason(tmp_path: Path) -> None:
    content = json.loads(record().to_json())
    content["systems"][0]["depth"]["value"] = "deep\x1b"
    content["verdict"] = "GOOD"
    content["evil\n::error::x"] = 1
    del content["dataset"]["digest"]
    content["retained"]["sisa"]["worst"] = {"by": "name", "low": 1, "high": "x", "n_units": 3, "beyond": {}}
    content["controls"][1]["ok"] = None
    said = run("report", "validate", put(tmp_path, content))
    assert said.exit_code == 2
    lines = said.stdout.splitlines()
    assert len(lines) == 7
    assert lines[1:] == [
        "$.controls[1].ok: None is not of type 'boolean'",
        "$.dataset: 'digest' is a required property",
        "$.retained.sisa.worst.by: 'name' is not one of ['popularity', 'activity']",
        "$.retained.sisa.worst.high: 'x' is not of type 'integer'",
        "$.systems[0].depth.value: 'deep\\x1b' is not of type 'number'",
        "$.verdict: 'GOOD' is not one of ['PASS', 'FAIL', 'INCONCLUSIVE', 'INVALID']",
    ]
    assert lines[0].startswith("$: Additional properties are not allowed ('evil\\n::error::x' was unexpected)")
    assert "7 problem(s)" in said.stderr


@pytest.mark.parametrize(("version", "code"), [("1.0", 0), ("1.3", 0), ("1.5", 0), ("1.6", 2), ("2.0", 2), ("new", 2)])
def test_versions_that_are_not_known_are_a_problem(tmp_path: Path, version: str, code: int) -> None:
    said = run("report", "validate", put(tmp_path, json.loads(record(schema_version=version).to_json())))
    assert said.exit_code == code
    assert (f"$.schema_version: {version} is not a version that" in said.stdout) == bool(code)


@pytest.mark.parametrize("content", [[], "x", None, 3])
def test_what_is_no_report_at_all_is_invalid(tmp_path: Path, content: Any) -> None:
    said = run("report", "validate", put(tmp_path, content))
    assert said.exit_code == 2
    assert said.stdout.startswith("$: ")


def test_what_is_not_json_is_refused(tmp_path: Path, good: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"a": NaN}', encoding="utf-8")
    with pytest.raises(DataError, match="holds NaN"):
        run("report", "validate", bad)
    bad.write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="is not JSON"):
        run("report", "validate", bad)
    bad.write_text("[" * 200_000, encoding="utf-8")
    with pytest.raises(DataError, match="is not JSON"):
        run("report", "validate", bad)
    bad.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="is not JSON"):
        run("report", "validate", bad)
    with pytest.raises(DataError, match="cannot read report"):
        run("report", "validate", tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("command", "render"),
    [("markdown", markdown.render), ("latex", latex.score_card), ("csv", tables.systems)],
)
def test_renderings_go_to_stdout_or_to_a_file(tmp_path: Path, good: Path, command: str, render: Any) -> None:
    expected = render(Record.read(good))
    said = run("report", command, good)
    assert (said.exit_code, said.stderr) == (0, "")
    assert said.stdout.replace("\r\n", "\n") == expected.replace("\r\n", "\n")
    quiet = run("report", command, good, "--out", tmp_path / "new" / "file")
    assert quiet.stdout == ""
    assert (tmp_path / "new" / "file").read_bytes() == expected.encode()


def test_units_need_their_table(good: Path) -> None:
    with pytest.raises(DataError, match="keep both together"):
        run("report", "csv", good, "--units")


def test_compare_writes_the_page_and_prints_a_table(tmp_path: Path, good: Path) -> None:
    other = put(tmp_path / "other", json.loads(record(METHODS[:1], created="later").to_json()))
    page, tex = tmp_path / "board.html", tmp_path / "board.tex"
    said = run("compare", good, other, "--out", page, "--latex", tex)
    assert said.exit_code == 0
    assert said.stderr == f"leaderboard: {page}\n"
    assert said.stdout.splitlines()[2].startswith("1 to 3  sisa")
    assert "good/report.json" in page.read_text(encoding="utf-8")
    assert str(tmp_path) not in page.read_text(encoding="utf-8")
    assert r"\begin{tabular}" in tex.read_text(encoding="utf-8")


def test_compare_prints_one_json_document(tmp_path: Path, good: Path) -> None:
    bare = put(tmp_path / "bare", json.loads(minimal().to_json()))
    evil = put(tmp_path / "evil", json.loads(hostile().to_json()))
    said = run("compare", good, bare, evil, "--out", tmp_path / "board.html", "--json")
    found = json.loads(said.stdout)
    assert [source["name"] for source in found["sources"]] == [
        "good/report.json",
        "bare/report.json",
        "evil/report.json",
    ]
    assert len(found["groups"]) == 2


def test_compare_needs_a_report(tmp_path: Path) -> None:
    assert run("compare").exit_code == 2
    with pytest.raises(DataError, match="cannot read report"):
        run("compare", tmp_path / "absent.json")
