"""`auditkit history`: stdout for data, stderr for talk, exit codes that tell tampering from mistakes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from auditkit.commands import history
from auditkit.errors import ConfigurationError, DataError
from auditkit.ledger import Ledger
from tests.reports.sample import hostile
from tests.test_ledger import N, audit, changed, rewrite, rows_of


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("reports")
    paths = [folder / f"report-{k}.json" for k in range(N)]
    for k, path in enumerate(paths):
        path.write_text(audit(k).to_json(), encoding="utf-8")
    return paths


@pytest.fixture
def ledger(reports: list[Path], tmp_path: Path) -> Path:
    path = tmp_path / "history.sqlite"
    for report in reports:
        Ledger(path).append(report)
    return path


def run(*arguments: object) -> Result:
    app = typer.Typer()
    history.attach(app)
    return CliRunner().invoke(app, ["history", *map(str, arguments)])


def test_commands_add_show_and_check(reports: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = run("add", reports[0])
    assert (first.exit_code, first.stderr) == (0, "")
    head = Ledger(tmp_path / ".auditkit" / "history.sqlite").check().head
    assert first.stdout == f"entry 1\nhash  {head}\n"
    again = run("add", reports[0])
    assert (again.exit_code, again.stdout) == (0, first.stdout)
    assert "entry 1 already; nothing was added" in again.stderr
    assert run("add", reports[1]).exit_code == 0
    shown = run("show")
    assert shown.exit_code == 0
    assert "FAIL          interaction request on ml-100k" in shown.stdout
    assert "PASS          depth        0.966  sisa" in shown.stdout
    document = json.loads(run("show", "--json").stdout)
    assert document["holds"] is True
    assert [e["number"] for e in document["entries"]] == [1, 2]
    assert run("check", "--head", head).stdout.startswith("holds: 2 audits, 1 since the kept head\nhead   ")
    told = run("check")
    assert told.stdout == f"holds: 2 audits\nhead   {document['head']}\n"
    assert "keep the head hash elsewhere" in told.stderr


def test_a_tampered_ledger_exits_with_1_and_still_shows_what_holds(ledger: Path, tmp_path: Path) -> None:
    rows = rows_of(ledger)
    rewrite(ledger, [*rows[:3], changed(rows[3]), *rows[4:]])
    checked = run("check", "--ledger", ledger)
    assert (checked.exit_code, checked.stdout) == (1, "")
    assert f"the ledger {ledger} does not hold; entry 3: it was changed" in checked.stderr
    shown = run("show", "--ledger", ledger, "--json")
    assert shown.exit_code == 1
    document = json.loads(shown.stdout)
    assert document["broken"]["number"] == 3
    assert document["holds"] is False
    assert document["entries"] == json.loads(json.dumps([asdict(e) for e in Ledger(ledger).check().entries]))
    fresh = tmp_path / "fresh.json"
    fresh.write_text(audit(9).to_json(), encoding="utf-8")
    added = run("add", fresh, "--ledger", ledger)
    assert (added.exit_code, added.stdout) == (1, "")
    assert "nothing was added" in added.stderr


def test_usage_errors_reach_the_command_line(tmp_path: Path, ledger: Path) -> None:
    assert isinstance(run("check", "--ledger", tmp_path / "none").exception, DataError)
    assert isinstance(run("check", "--ledger", ledger, "--head", "12").exception, ConfigurationError)
    assert run("add").exit_code == 2


def test_hostile_names_are_kept_whole_and_shown_harmlessly(tmp_path: Path) -> None:
    whole = hostile()
    broken_line = whole.systems[-1].model_copy(update={"name": "a\n   9  forged  PASS\x1b[2J"})
    report = tmp_path / "report.json"
    report.write_text(whole.model_copy(update={"systems": [*whole.systems, broken_line]}).to_json(), encoding="utf-8")
    path = tmp_path / "l.sqlite"
    entry, _ = Ledger(path).append(report)
    assert [line.name for line in entry.systems][-1] == "a\n   9  forged  PASS\x1b[2J"
    assert Ledger(path).entries() == (entry,)
    shown = run("show", "--ledger", path).stdout
    assert "\x1b" not in shown
    assert "\x00" not in shown
    assert len(shown.splitlines()) == 1 + len(entry.systems) + 1
