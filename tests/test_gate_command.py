"""`auditkit gate` and `auditkit check`, and the Action and the hook that run them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from auditkit.commands.gate import attach
from auditkit.config_example import EXAMPLE as CONFIGURATION
from auditkit.errors import ConfigurationError, DataError
from auditkit.gate_policy import EXAMPLE

from .reports.sample import hostile, record
from .test_gate import BAD, GOOD, VAGUE, changed

app = typer.Typer()
attach(app)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    for name, whole in (("good", record(GOOD)), ("bad", record(BAD)), ("vague", record(VAGUE)), ("hostile", hostile())):
        (tmp_path / f"{name}.json").write_text(whole.to_json(), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(("name", "code"), [("good", 0), ("bad", 1), ("vague", 4)])
def test_the_exit_code_is_the_gates_verdict(folder: Path, name: str, code: int) -> None:
    said = run("gate", f"{name}.json")
    assert said.exit_code == code
    assert said.stderr == ""
    first, *rest = said.stdout.splitlines()
    assert first.startswith(("PASS: ", "FAIL: ", "INCONCLUSIVE: ")[(0, 1, 4).index(code)])
    broken = [line.startswith("  not passed") for line in rest]
    assert broken == sorted(broken, reverse=True)
    assert any(broken) == (code != 0)


def test_json_is_one_document(folder: Path) -> None:
    said = run("gate", "bad.json", "--json", "--github")
    whole = json.loads(said.stdout)
    assert (whole["verdict"], whole["exit_code"], said.exit_code) == ("FAIL", 1, 1)
    assert whole["checks"][0] == {
        "rule": "AUD001", "title": "The audit's verdict is an accepted one", "system": "finetune", "measure": "",
        "outcome": "FAIL", "level": "error", "passed": False,
        "message": "FAIL: pattern lies beyond the margin (Holm-adjusted p < 0.001); lira-linear: leak",
    }  # fmt: skip


def test_policy_baseline_and_files(folder: Path) -> None:
    (folder / "gate.toml").write_text("min_depth = 0.99\n", encoding="utf-8")
    said = run(
        "gate", "good.json", "--policy", "gate.toml", "--baseline", "good.json", "--junit", "out/junit.xml",
        "--sarif", "out/gate.sarif",
    )  # fmt: skip
    assert said.exit_code == 1
    assert "not passed AUD007 sisa depth" in said.stdout
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["gate.sarif", "junit.xml"]
    assert "AUD011" in (folder / "out" / "junit.xml").read_text("utf-8")
    (result,) = json.loads((folder / "out" / "gate.sarif").read_text("utf-8"))["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert (result["ruleId"], place["uri"]) == ("AUD007", "gate.toml")


def test_alerts_name_files_of_the_repository_and_no_folder_of_the_machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "repository" / "ci").mkdir(parents=True)
    inside = folder / "repository" / "ci" / "audit.toml"
    inside.touch()
    monkeypatch.setenv("GITHUB_WORKSPACE", str(folder / "repository"))
    assert "file=ci/audit.toml," in run("gate", "bad.json", "--github", "--location", inside).stderr
    assert "file=bad.json," in run("gate", folder / "bad.json", "--github").stderr


def test_the_step_summary_is_appended_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = folder / "summary.md"
    target.write_text("before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(target))
    assert run("gate", "good.json").exit_code == 0
    assert target.read_text("utf-8") == "before\n"
    assert run("gate", "good.json", "--github").exit_code == 0
    assert target.read_text("utf-8").startswith("before\n## auditkit gate: ✔ PASS\n")


def test_hostile_names_start_no_command_in_a_log(folder: Path) -> None:
    whole = changed(record(BAD), name="x\n::error::fake\r\n##[error]fake \x1b[31m")
    (folder / "evil.json").write_text(whole.to_json(), encoding="utf-8")
    said = run("gate", "evil.json", "--github")
    assert said.exit_code == 1
    assert [line for line in said.stdout.splitlines() if line.lstrip().startswith("::")] == []
    commands = said.stderr.splitlines()
    assert all(line.startswith(("::error file=evil.json,", "::notice file=evil.json,")) for line in commands)
    assert len(commands) == 2
    for stream in (said.stdout, said.stderr):
        assert "##[" not in stream
        assert "\x1b" not in stream


def test_usage_errors_are_configuration_and_data_errors(folder: Path) -> None:
    assert isinstance(run("gate").exception, ConfigurationError)
    assert isinstance(run("gate", "absent.json").exception, DataError)
    assert run("gate", "--example").stdout == EXAMPLE


def test_check_tells_configurations_from_policies_and_says_all_that_is_wrong(folder: Path) -> None:
    (folder / "audit.toml").write_text(CONFIGURATION, encoding="utf-8")
    (folder / "gate.toml").write_text(EXAMPLE, encoding="utf-8")
    said = run("check", "audit.toml", "gate.toml")
    assert said.exit_code == 0
    assert said.stdout == "audit.toml: audit configuration, well formed\ngate.toml: gate policy, well formed\n"
    (folder / "audit.toml").write_text(CONFIGURATION.replace("share =", "shrae ="), encoding="utf-8")
    (folder / "gate.toml").write_text("min_dept = 1\nmin_depth = 2\n", encoding="utf-8")
    error = run("check", "audit.toml", "gate.toml", "absent.toml").exception
    assert isinstance(error, ConfigurationError)
    assert [problem.split(":")[0] for problem in error.problems] == [
        "audit.toml", "gate.toml", "gate.toml", "cannot read absent.toml"
    ]  # fmt: skip


def test_check_loads_neither_torch_nor_pandas(folder: Path) -> None:
    (folder / "audit.toml").write_text(CONFIGURATION, encoding="utf-8")
    code = (
        "import sys\nimport typer\nfrom auditkit.commands.gate import _checked\nfrom pathlib import Path\n"
        "_checked(Path('audit.toml'))\nprint(sorted({'torch', 'pandas', 'numba', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


ROOT = Path(__file__).parents[1]


@pytest.fixture
def action() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    return read


def test_no_input_of_the_action_is_pasted_into_a_script(action: dict[str, Any]) -> None:
    steps = action["runs"]["steps"]
    scripts = [step["run"] for step in steps if "run" in step]
    assert len(scripts) == 3
    assert not [script for script in scripts if "${{" in script]
    used = (ROOT / "action.yml").read_text("utf-8")
    assert [name for name in action["inputs"] if f"inputs.{name}" not in used] == []


def script_of(action: dict[str, Any], name: str) -> str:
    (script,) = [step["run"] for step in action["runs"]["steps"] if step["name"] == name]
    return str(script)


def bash(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a step as GitHub does, with an `auditkit` on the path that is this one's gate."""
    tool = folder / "bin" / "auditkit"
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(
        f"#!{sys.executable}\nimport typer\nfrom auditkit.commands.gate import attach\n"
        "app = typer.Typer()\nattach(app)\napp()\n",
        encoding="utf-8",
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    path = f"{tool.parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        env={**os.environ, "PATH": path, "GITHUB_OUTPUT": str(folder / "output"), **environment},
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "code", "reason"), [("good", 0, "PASS: "), ("bad", 1, "pattern lies beyond the margin")]
)
def test_the_actions_gate_is_green_and_red_with_the_reason_in_the_log(
    folder: Path, action: dict[str, Any], name: str, code: int, reason: str
) -> None:
    (folder / "out dir").mkdir()
    (folder / f"{name}.json").rename(folder / "out dir" / "report.json")
    (folder / "gate $(x).toml").write_text("min_power = 0.9\n", encoding="utf-8")
    said = bash(
        script_of(action, "Gate"), folder, OUT="out dir", CONFIG="audit.toml", POLICY="gate $(x).toml", BASELINE="",
        GITHUB_STEP_SUMMARY=str(folder / "summary.md"),
    )  # fmt: skip
    assert said.returncode == code, said.stderr
    assert reason in said.stdout
    assert (folder / "output").read_text("utf-8") == f"exit-code={code}\n"
    assert sorted(path.name for path in (folder / "out dir").iterdir()) == ["gate.sarif", "junit.xml", "report.json"]
    assert "file=gate $(x).toml,line=1" in said.stderr
    assert (folder / "summary.md").exists()


@pytest.mark.parametrize(("code", "left"), [(0, 0), (1, 0), (4, 0), (2, 2), (3, 3), (137, 137)])
def test_the_actions_audit_hands_verdicts_to_the_gate_and_stops_at_errors(
    folder: Path, action: dict[str, Any], code: int, left: int
) -> None:
    script = f'auditkit() {{ echo "$*"; return {code}; }}\n{script_of(action, "Audit")}'
    said = bash(script, folder, CONFIG="my audit.toml", PROFILE="quick", OUT="out")
    assert (said.returncode, said.stdout) == (left, "audit my audit.toml --out out --quiet --profile quick\n")
