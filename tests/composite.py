"""Runs the steps of a composite GitHub Action as the runner does: a shell for each, files for what they hand on.

Expressions are few and each form is known; any other is an error, so that none is silently taken for text.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_TERM = re.compile(r"inputs\.(?P<input>[\w-]+)|steps\.(?P<step>[\w-]+)\.outputs\.(?P<output>[\w-]+)")
_CONDITION = re.compile(r"!cancelled\(\)|(?P<left>[\w.-]+) == '(?P<right>[^']*)'|contains\(fromJSON\('(?P<list>[^']*)'\), (?P<item>[\w.-]+)\)")  # fmt: skip # noqa: E501


class UnknownExpressionError(Exception):
    """An expression that this runner does not know."""


@dataclass
class Ran:
    """What a step left behind; `skipped` says why it did not run."""

    name: str
    code: int | None = None
    log: str = ""
    skipped: str = ""
    given: dict[str, str] = field(default_factory=dict)


@dataclass
class Runner:
    """One job in a folder.

    Attributes:
        action: folder of action.yml.
        workspace: where steps run.
        files: empty folder for what steps hand on.
        skip: step -> why it is not run.
        environment: beside the machine's own.
    """

    action: Path
    workspace: Path
    files: Path
    skip: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    summary: str = ""

    def run(self, **given: str) -> list[Ran]:
        """All steps, with these inputs (underscores for hyphens) and the defaults of the others."""
        described = yaml.safe_load((self.action / "action.yml").read_text("utf-8"))
        named = {name.replace("_", "-"): text for name, text in given.items()}
        unknown = named.keys() - described["inputs"].keys()
        assert not unknown, f"no such input: {unknown}"
        self.inputs = {name: str(it.get("default", "")) for name, it in described["inputs"].items()} | named
        done: list[Ran] = []
        for step in described["runs"]["steps"]:
            done.append(self._step(step, failed=any(ran.code for ran in done)))
        self.told = {name: self.text(it["value"]) for name, it in described["outputs"].items()}
        return done

    def text(self, raw: str) -> str:
        """A text with its expressions filled in."""
        return EXPRESSION.sub(lambda found: self._term(found[1].strip()), raw)

    def _term(self, expression: str) -> str:
        found = _TERM.fullmatch(expression)
        if found is None:
            raise UnknownExpressionError(expression)
        if found["input"]:
            return self.inputs[found["input"]]
        return self.outputs.get(found["step"], {}).get(found["output"], "")

    def holds(self, condition: str) -> bool:
        """Whether all parts of a condition hold; a part that is not known is an error."""
        whole = EXPRESSION.fullmatch(condition.strip())
        # All parts are read, though one that does not hold would be enough: an unknown one behind it must show.
        parts = [self._part(part.strip()) for part in (whole[1] if whole else condition).split("&&")]
        return all(parts)

    def _part(self, part: str) -> bool:
        found = _CONDITION.fullmatch(part)
        if found is None:
            raise UnknownExpressionError(part)
        if found["list"]:
            return self._term(found["item"]) in json.loads(found["list"])
        return not found["left"] or self._term(found["left"]) == found["right"]

    def _step(self, step: Mapping[str, Any], *, failed: bool) -> Ran:
        name = step["name"]
        given = {key: self.text(str(value)) for key, value in {**step.get("env", {}), **step.get("with", {})}.items()}
        wanted = self.holds(step["if"]) if "if" in step else not failed
        if not wanted:
            return Ran(name, skipped="its condition does not hold", given=given)
        if "uses" in step:
            return Ran(name, skipped=f"uses {step['uses']}", given=given)
        if name in self.skip:
            return Ran(name, skipped=self.skip[name], given=given)
        assert step["shell"] == "bash"
        handed = {
            key: self.files / f"{key}-{len(list(self.files.iterdir()))}" for key in ("OUTPUT", "ENV", "STEP_SUMMARY")
        }
        for file in handed.values():
            file.touch()
        own = {f"GITHUB_{key}": str(file) for key, file in handed.items()}
        whole = {**os.environ, "GITHUB_ACTION_PATH": str(self.action), "GITHUB_WORKSPACE": str(self.workspace)}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", self.text(step["run"])], cwd=self.workspace,
            env={**whole, **self.environment, **given, **own}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert not handed["ENV"].read_text("utf-8"), "no step of ours changes the environment of later ones"
        if "id" in step:
            lines = handed["OUTPUT"].read_text("utf-8").splitlines()
            self.outputs[step["id"]] = dict(line.split("=", 1) for line in lines)
        self.summary += handed["STEP_SUMMARY"].read_text("utf-8")
        return Ran(name, done.returncode, done.stdout + done.stderr, given=given)
