"""An unlearner that someone else packaged: installed, found by name, put through the kit and audited."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from auditkit.plugins import unlearners
from auditkit.record import Record

PACKAGE = Path(__file__).parent / "third_party" / "auditkit-example-unlearner"


def run(*command: str | Path, site: Path | None = None, where: Path) -> subprocess.CompletedProcess[str]:
    """Run a Python module in a process of its own, which finds what is installed in `site`."""
    found = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
    given = {**found, "PYTHONPATH": str(site)} if site else found
    line = [sys.executable, "-m", *map(str, command)]
    return subprocess.run(line, cwd=where, env=given, capture_output=True, text=True, check=False)


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build from: building leaves folders beside the source."""
    return shutil.copytree(
        PACKAGE, tmp_path_factory.mktemp("source") / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__")
    )


@pytest.fixture(scope="module")
def site(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package is installed, without a network and without touching this environment."""
    before, target = files(PACKAGE), tmp_path_factory.mktemp("site")
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet")
    done = run("pip", "install", *offline, "--target", target, source, where=target)
    assert done.returncode == 0, done.stderr
    assert files(PACKAGE) == before
    return target


def test_it_is_listed_where_it_is_installed_and_nowhere_else(site: Path, tmp_path: Path) -> None:
    done = run("auditkit.cli", "list", "unlearners", site=site, where=tmp_path)
    assert done.returncode == 0, done.stderr
    listed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert "Move every user's and item's row towards the mean row" in listed["row-shrink"]
    assert set(listed) >= {*unlearners(), "row-shrink"}
    assert "row-shrink" not in unlearners()


def test_it_passes_the_kit(site: Path, source: Path) -> None:
    done = run("pytest", "-q", "-p", "no:cacheprovider", site=site, where=source)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "failed" not in done.stdout


def test_it_is_audited_by_configuration(site: Path, tiny_folder: Path, tiny_store: Path, tmp_path: Path) -> None:
    configured = (tiny_folder / "gold.toml").read_text("utf-8")
    method = '[[unlearner]]\nname = "row-shrink"\nparams = { epochs = 1, learning_rate = 0.01 }\n'
    (tiny_folder / "audit.toml").write_text(configured.replace('[[unlearner]]\nname = "gold"\n', method), "utf-8")
    audit = ("auditkit.cli", "audit", tiny_folder / "audit.toml", "--store", tiny_store, "--out", tmp_path / "out")
    done = run(*audit, site=site, where=tmp_path)
    record = Record.read(tmp_path / "out" / "report.json")
    assert done.returncode == record.exit_code, done.stderr
    (audited,) = [system for system in record.systems if system.role == "unlearned"]
    assert (audited.name, audited.method, audited.label) == ("row-shrink", "row-shrink", "baseline")
    assert audited.depth is not None
    assert audited.depth.value is not None
    assert "row-shrink" in (tmp_path / "out" / "report.html").read_text("utf-8")
