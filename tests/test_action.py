"""action.yml: it is what GitHub reads, and its own steps are green for a good unlearner and red for a bad one."""

from __future__ import annotations

import json
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from .composite import Runner, UnknownExpressionError

ROOT = Path(__file__).parents[1]
SAMPLE = Path(__file__).parent / "sample_gate"
# As SchemaStore publishes it; schemas/README.md says whence and under which licence.
SCHEMA = json.loads((Path(__file__).parent / "reports" / "schemas" / "github-action.json").read_text("utf-8"))
INSTALLED = {"Install auditkit": "auditkit is the one under test"}


def described() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "action.yml").read_text("utf-8")))


def test_the_action_follows_the_published_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(described(), SCHEMA, cls=jsonschema.Draft7Validator)
    for spoilt in (
        {**described(), "run": {}},
        {**described(), "runs": {"using": "composite", "steps": [{"run": "x"}]}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(spoilt, SCHEMA, cls=jsonschema.Draft7Validator)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sample, with a policy for its good unlearner and one for its bad one, and auditkit on the path."""
    made = tmp_path_factory.mktemp("job") / "repository"
    shutil.copytree(SAMPLE, made, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for method in ("gold", "no-op"):
        (made / f"gate {method}.toml").write_text(f'systems = ["{method}"]\n', "utf-8")
    tool = made.parent / "bin" / "auditkit"
    tool.parent.mkdir()
    tool.write_text(f"#!{sys.executable}\nfrom auditkit.cli import main\nmain()\n", "utf-8")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    return made


def job(repository: Path, files: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    monkeypatch.setenv("PATH", str(repository.parent / "bin"), prepend=":")
    files.mkdir()
    return Runner(ROOT, repository, files, INSTALLED)


@pytest.mark.parametrize(
    ("method", "code", "said", "sarif", "upload"),
    [
        ("gold", 0, "PASS: ", "false", "its condition does not hold"),
        ("no-op", 1, "not passed AUD001 no-op: FAIL: level of lira-linear reads", "true",
         "uses github/codeql-action/upload-sarif@v3"),
    ],
)  # fmt: skip
def test_the_steps_are_green_for_retraining_and_red_for_doing_nothing(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, code: int, said: str, sarif: str,
    upload: str,
) -> None:  # fmt: skip
    runner = job(repository, tmp_path / "files", monkeypatch)
    install, audit, gate, last = runner.run(policy=f"gate {method}.toml", out="out dir", sarif=sarif)
    assert (install.name, install.skipped) == ("Install auditkit", INSTALLED["Install auditkit"])
    # The audit's own verdict is FAIL in both, since one of its methods does nothing; the gate decides on one of them.
    assert (audit.name, audit.code) == ("Audit", 0), audit.log
    assert "FAIL" in audit.log
    assert (gate.name, gate.code) == ("Gate", code), gate.log
    assert said in gate.log
    # The reason, in words, where it is red and only there.
    assert ("beyond the margin 0.1" in gate.log) == ("::error file=" in gate.log) == bool(code)
    assert (last.name, last.skipped) == ("Upload to code scanning", upload)
    assert (repository / last.given["sarif_file"]).is_file()
    assert runner.told == {"report": "out dir", "exit-code": str(code)}
    assert method in runner.summary
    files = {path.name for path in (repository / "out dir").iterdir()}
    assert files == {"report.json", "report.html", "units.parquet", "evidence.npz", "junit.xml", "gate.sarif"}


def test_an_audit_that_cannot_run_stops_the_job(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = job(repository, tmp_path / "files", monkeypatch)
    _, audit, gate, upload = runner.run(config="nowhere.toml", sarif="true")
    assert audit.code == 2
    assert "cannot read nowhere.toml" in audit.log
    assert gate.skipped == upload.skipped == "its condition does not hold"
    assert runner.told["exit-code"] == ""


@pytest.mark.parametrize("expression", ["github.token", "inputs.out || 'x'", "steps.gate.outcome"])
def test_an_expression_that_the_runner_of_these_tests_does_not_know_is_an_error(
    tmp_path: Path, expression: str
) -> None:
    runner = Runner(ROOT, tmp_path, tmp_path)
    runner.inputs = {"out": "x"}
    with pytest.raises(UnknownExpressionError):
        runner.text(f"a ${{{{ {expression} }}}} b")
    with pytest.raises(UnknownExpressionError):
        runner.holds(f"${{{{ !cancelled() && {expression} }}}}")
