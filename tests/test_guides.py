"""What the guides show runs, and the example passes the kit it recommends."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from auditkit.config import parse
from auditkit.record import Record

_ROOT = Path(__file__).resolve().parent.parent
_GUIDE = (_ROOT / "docs" / "adding-a-backbone.md").read_text(encoding="utf-8")
_UNLEARNERS = (_ROOT / "docs" / "adding-an-unlearner.md").read_text(encoding="utf-8")
_ATTACKS = (_ROOT / "docs" / "adding-an-attack.md").read_text(encoding="utf-8")
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


@pytest.fixture(scope="module")
def attack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the guide shows, each named by its first line."""
    made = tmp_path_factory.mktemp("attacks")
    for name, text in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", _ATTACKS, re.DOTALL):
        (made / name).write_text(text, encoding="utf-8")
    assert _ATTACKS.count("```python") == len(list(made.glob("*.py"))) == 3
    return made


def test_the_attack_of_the_guide_is_part_of_an_audit(attack_folder: Path) -> None:
    run = [sys.executable, "audit_gap.py"]
    done = subprocess.run(run, cwd=attack_folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert float(found["no-op"][1]) == pytest.approx(1.0, abs=0.15)
    assert float(found["gold"][1]) == pytest.approx(0.0, abs=0.15)
    record = Record.read(attack_folder / "report" / "report.json")
    mine = [finding for system in record.systems for finding in system.findings if finding.attack == "best-kept-gap"]
    assert len(mine) == 2
    assert not any(finding.counts or finding.primary for finding in mine)
    assert all(finding.pattern.value is not None and finding.access == ["SCORES"] for finding in mine)


def test_the_attack_of_the_guide_passes_the_kits(attack_folder: Path) -> None:
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_best_kept.py"]
    done = subprocess.run(run, cwd=attack_folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d{2} passed", done.stdout)


def test_the_tables_of_the_guide_to_attacks_are_read(attack_folder: Path) -> None:
    entry, table = (tomllib.loads(text) for text in re.findall(r"```toml\n(.*?)```", _ATTACKS, re.DOTALL))
    ((name, target),) = entry["project"]["entry-points"]["auditkit.attacks"].items()
    source = (attack_folder / "best_kept.py").read_text(encoding="utf-8")
    assert f'name: ClassVar[str] = "{name}"' in source
    assert f"class {target.partition(':')[2]}(" in source
    needed = {"data": {"format": "synthetic"}, "recipe": {"backbone": "bpr-mf"}}
    assert parse({**needed, **table}).audit.attacks == ("default", name)


def test_relative_links_lead_somewhere() -> None:
    for guide in (_ROOT / "docs").glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", guide.read_text(encoding="utf-8")):
            assert (guide.parent / target).is_file(), f"{guide.name}: {target}"
