"""A folder with keys, a report, its evidence, a model and a certificate of them, for tests of certificates."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from auditkit.commands.certificate import attach
from auditkit.record import Record, UnitsFile

from .sample import METHODS, record

PASSED = (METHODS[0],)
FAILED = (METHODS[1],)
UNDECIDED = (METHODS[3],)
UNITS = b"a table of units"
MODEL = b"weights and what they are served over"


@dataclass(frozen=True)
class Said:
    """What one command left behind."""

    code: int
    out: str
    err: str


def run(*arguments: object) -> Said:
    app = typer.Typer()
    attach(app)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return Said(done.exit_code, done.stdout, done.stderr)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Place:
    """A folder with a key pair, a report with its evidence, a model and a certificate of them."""

    root: Path

    @property
    def files(self) -> dict[str, Path]:
        return {
            "certificate": self.root / "cert.json", "report": self.root / "report" / "report.json",
            "model": self.root / "model.safetensors", "evidence/units.parquet": self.root / "report" / "units.parquet",
        }  # fmt: skip

    def write(self, whole: Record) -> None:
        (self.root / "report").mkdir(exist_ok=True)
        self.files["report"].write_text(whole.to_json(), "utf-8")

    def certify(self, *more: object, key: str = "k.pem") -> Said:
        return run("certify", self.files["report"], "--key", self.root / key, "--out", self.files["certificate"], *more)

    def verify(self, *more: object, key: str = "k.pub.pem") -> Said:
        return run("verify", self.files["certificate"], "--key", self.root / key, *more)

    def verify_all(self) -> Said:
        files = self.files
        return self.verify("--report", files["report"], "--model", files["model"], "--evidence", self.root / "report")

    def statement(self) -> dict[str, Any]:
        envelope = json.loads(self.files["certificate"].read_bytes())
        return dict(json.loads(base64.b64decode(envelope["payload"])))


def sample(methods: Any = PASSED, **changes: Any) -> Record:
    return record(methods, units=UnitsFile(path="units.parquet", digest=sha256(UNITS)), **changes)


def prepared(root: Path) -> Place:
    """Keys, report, evidence and model; not certified yet."""
    made = Place(root)
    run("keygen", "--out", root / "k.pem")
    made.write(sample())
    made.files["evidence/units.parquet"].write_bytes(UNITS)
    made.files["model"].write_bytes(MODEL)
    return made


def with_certificate(place: Place) -> Place:
    """The same with a certificate of all of it."""
    assert place.certify("--model", place.files["model"], "--evidence", place.root / "report").code == 0
    return place


def wrong(said: Said) -> list[str]:
    return [line.removeprefix("WRONG").split(": ")[0].strip() for line in said.out.splitlines() if line[:5] == "WRONG"]
