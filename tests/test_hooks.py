"""The pre-commit hooks: their file is what pre-commit reads, and their entries do what they say."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from auditkit.config_example import EXAMPLE as CONFIGURATION
from auditkit.gate_policy import EXAMPLE as POLICY
from auditkit.record import Record

from .reports.certified import Place, prepared, with_certificate

HOOKS: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parents[1] / ".pre-commit-hooks.yaml").read_text("utf-8"))
# The fields of a hook as pre-commit documents them (https://pre-commit.com/#new-hooks), with the type of each.
REQUIRED = {"id": str, "name": str, "entry": str, "language": str}
OPTIONAL = {
    "files": str, "exclude": str, "types": list, "types_or": list, "exclude_types": list, "always_run": bool,
    "fail_fast": bool, "verbose": bool, "pass_filenames": bool, "require_serial": bool, "description": str,
    "language_version": str, "minimum_pre_commit_version": str, "args": list, "stages": list,
    "additional_dependencies": list, "log_file": str,
}  # fmt: skip


def hook(name: str) -> dict[str, Any]:
    (found,) = (hook for hook in HOOKS if hook["id"] == name)
    return found


def test_the_file_has_the_fields_that_pre_commit_documents() -> None:
    assert [hook["id"] for hook in HOOKS] == ["auditkit-check", "auditkit-verify"]
    for described in HOOKS:
        assert described.keys() >= REQUIRED.keys()
        assert described.keys() <= REQUIRED.keys() | OPTIONAL.keys()
        assert all(isinstance(value, {**REQUIRED, **OPTIONAL}[name]) for name, value in described.items())
        assert described["language"] == "system"
        re.compile(described["files"])


@pytest.mark.parametrize(
    ("name", "files", "others"),
    [
        ("auditkit-check", ["audit.toml", "ci/gate.toml", "audit-users.toml"], ["pyproject.toml", "gate.json"]),
        ("auditkit-verify", ["cert.json", "a/v2.cert.json", "report/report.json"], ["package.json", "report.json.bak"]),
    ],
)
def test_a_hook_looks_at_its_files_and_no_others(name: str, files: list[str], others: list[str]) -> None:
    wanted = re.compile(hook(name)["files"])
    assert [file for file in files if not wanted.search(file)] == []
    assert [file for file in others if wanted.search(file)] == []


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """A folder with an `auditkit` that is the one under test, as a hook finds it on the path."""
    made = tmp_path / "bin" / "auditkit"
    made.parent.mkdir()
    made.write_text(f"#!{sys.executable}\nfrom auditkit.cli import main\nmain()\n", "utf-8")
    made.chmod(made.stat().st_mode | stat.S_IXUSR)
    return made.parent


def committed(tool: Path, root: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What pre-commit does: the entry, the user's arguments, and the changed files that the hook looks at."""
    wanted = re.compile(hook(name)["files"])
    changed = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]
    chosen = [file for file in changed if wanted.search(file)]
    assert chosen
    return subprocess.run(
        [*shlex.split(hook(name)["entry"]), *arguments, *chosen], cwd=root, capture_output=True, text=True,
        env={**os.environ, "PATH": f"{tool}{os.pathsep}{os.environ['PATH']}"}, check=False,
    )  # fmt: skip


def test_configurations_and_policies_are_checked_before_a_commit(tool: Path, tmp_path: Path) -> None:
    root = tmp_path / "repository"
    root.mkdir()
    (root / "audit.toml").write_text(CONFIGURATION, "utf-8")
    (root / "gate.toml").write_text(POLICY, "utf-8")
    good = committed(tool, root, "auditkit-check")
    assert good.returncode == 0, good.stderr
    assert "audit.toml: audit configuration, well formed" in good.stdout
    (root / "gate.toml").write_text("min_dept = 1\n", "utf-8")
    bad = committed(tool, root, "auditkit-check")
    assert bad.returncode == 2
    assert "min_dept" in bad.stderr


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A repository with a report and a certificate beside it, and the public key of who is trusted."""
    (tmp_path / "repository").mkdir()
    made = with_certificate(prepared(tmp_path / "repository"))
    made.files["certificate"].rename(made.root / "report" / "release.cert.json")
    return made


def test_certificates_are_held_against_the_committed_report(tool: Path, place: Place) -> None:
    good = committed(tool, place.root, "auditkit-verify", "--key", "k.pub.pem")
    assert good.returncode == 0, good.stderr
    assert good.stdout.count("holds: a certificate that says PASS") == 1
    assert "ok           report: sha256 " in good.stdout


def spoil_report(place: Place) -> None:
    told = Record.read(place.files["report"])
    place.files["report"].write_text(told.model_copy(update={"created": "later"}).to_json(), "utf-8")


def spoil_certificate(place: Place) -> None:
    path = place.root / "report" / "release.cert.json"
    path.write_text(path.read_text("utf-8").replace('"sig":"', '"sig":"AAAA', 1), "utf-8")


def empty_certificate(place: Place) -> None:
    (place.root / "report" / "release.cert.json").write_text("{}", "utf-8")


@pytest.mark.parametrize(
    ("spoil", "named"),
    [(spoil_report, "report"), (spoil_certificate, "signature"), (empty_certificate, "certificate")],
)
def test_what_does_not_hold_stops_the_commit(tool: Path, place: Place, spoil: Any, named: str) -> None:
    spoil(place)
    bad = committed(tool, place.root, "auditkit-verify", "--key", "k.pub.pem")
    assert bad.returncode == 1, bad.stdout + bad.stderr
    assert f"does not hold: {named}" in bad.stdout


def test_a_key_that_is_not_trusted_or_not_named_stops_the_commit(tool: Path, place: Place, tmp_path: Path) -> None:
    other = prepared(tmp_path)
    bad = committed(tool, place.root, "auditkit-verify", "--key", str(other.root / "k.pub.pem"))
    assert bad.returncode == 1
    assert "not by the given key" in bad.stdout
    unnamed = committed(tool, place.root, "auditkit-verify")
    assert unnamed.returncode == 2
    assert "--key" in unnamed.stderr
