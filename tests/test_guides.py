"""What the guides show runs, and the example passes the kit it recommends."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from auditkit.record import Record

_ROOT = Path(__file__).resolve().parent.parent
_GUIDE = (_ROOT / "docs" / "adding-a-backbone.md").read_text(encoding="utf-8")
_UNLEARNERS = (_ROOT / "docs" / "adding-an-unlearner.md").read_text(encoding="utf-8")
_PACKAGE = _ROOT / "tests" / "third_party" / "auditkit-example-unlearner" / "src" / "auditkit_example_unlearner"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("guide")
    example, kit = re.findall(r"```python\n(.*?)```", _GUIDE, re.DOTALL)
    (made / "example.py").write_text(example, encoding="utf-8")
    architecture = example.split("auditkit.register(")[0]
    (made / "test_content_mf.py").write_text(architecture + kit, encoding="utf-8")
    return made


def test_the_example_is_audited(folder: Path) -> None:
    done = subprocess.run([sys.executable, "example.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = Record.read(folder / "report" / "report.json")
    verdicts = {system.name: system.verdict for system in record.systems}
    assert verdicts["no-op"] == "FAIL"
    assert verdicts["gold"] != "FAIL"
    assert record.backbone.name == "content-mf"


def test_the_example_passes_the_kit(folder: Path) -> None:
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_content_mf.py"]
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d{2} passed", done.stdout)


@pytest.fixture(scope="module")
def unlearner_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the guide shows, each named by its first line."""
    made = tmp_path_factory.mktemp("unlearners")
    for name, text in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", _UNLEARNERS, re.DOTALL):
        (made / name).write_text(text, encoding="utf-8")
    return made


def test_the_guide_to_unlearners_shows_the_package_that_is_shipped(unlearner_folder: Path) -> None:
    assert _UNLEARNERS.count("```python") == len(list(unlearner_folder.glob("*.py"))) == 4
    assert (unlearner_folder / "row_shrink.py").read_text("utf-8") == (_PACKAGE / "row_shrink.py").read_text("utf-8")


def test_the_unlearners_of_the_guide_are_audited(unlearner_folder: Path) -> None:
    run = [sys.executable, "audit_both.py"]
    done = subprocess.run(run, cwd=unlearner_folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    depths = {name: (verdict, float(depth)) for name, verdict, depth in map(str.split, done.stdout.splitlines())}
    assert depths["row-shrink"][0] == "FAIL"
    assert depths["user-shards"][0] != "FAIL"
    assert depths["row-shrink"][1] < 0.5 < depths["user-shards"][1]


def test_the_unlearners_of_the_guide_pass_the_kit(unlearner_folder: Path) -> None:
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_both.py"]
    done = subprocess.run(run, cwd=unlearner_folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d{2} passed", done.stdout)


def test_relative_links_lead_somewhere() -> None:
    for guide in (_ROOT / "docs").glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", guide.read_text(encoding="utf-8")):
            assert (guide.parent / target).is_file(), f"{guide.name}: {target}"
