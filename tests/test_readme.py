"""What the README shows runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from auditkit.config import load
from auditkit.record import Record

_ROOT = Path(__file__).resolve().parent.parent
_README = (_ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_audits_a_recommender_and_an_unlearner_of_ones_own(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", _README, re.DOTALL)
    (tmp_path / "example.py").write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = Record.read(tmp_path / "report" / "report.json")
    assert record.verdict == "FAIL", "noise on a user's vector does not forget a pair"
    assert done.stdout.startswith("FAIL")
    assert (tmp_path / "report" / "report.html").is_file()


def test_the_commands_it_names_exist() -> None:
    from auditkit.cli import app

    commands = {c.name or getattr(c.callback, "__name__", "") for c in app.registered_commands}
    known = commands | {str(group.name) for group in app.registered_groups}
    named = set(re.findall(r"^auditkit (\w+)", _README, re.MULTILINE))
    assert named
    assert named <= known


def test_relative_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", _README):
        assert (_ROOT / target).is_file(), target


def test_the_example_configuration_is_accepted(tmp_path: Path) -> None:
    from auditkit.config_example import EXAMPLE

    path = tmp_path / "audit.toml"
    path.write_text(EXAMPLE, encoding="utf-8")
    table = load(path).recipe
    assert table is not None
    assert table.backbone == "bpr-mf"
