"""Audits with their published copies, and the commands that make them, for tests of publication."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import typer
from typer.testing import CliRunner

import auditkit
from auditkit.commands import certificate, report
from auditkit.config import load, resolve
from auditkit.data.dataset import Dataset
from auditkit.flow import audit

from .reports.certified import Said

# Fixed, so that no other run meets another chance.
KEY = hashlib.sha256(b"the key of these tests").digest()
GONE = 0
CONFIGURATION = """\
[data]
path = "data"
[request]
regime = "user"
file = "anna.csv"
[recipe]
backbone = "bpr-mf"
config = { factors = 16 }
fit = { epochs = 60 }
[audit]
profile = "quick"
golds = 4
references = 4
seed = 8446744073709551557
[[unlearner]]
name = "gold"
[[unlearner]]
name = "no-op"
"""
APP = typer.Typer()
certificate.attach(APP)
report.attach(APP)


def run(*arguments: object) -> Said:
    done = CliRunner().invoke(APP, [str(argument) for argument in arguments], catch_exceptions=False)
    return Said(done.exit_code, done.stdout, done.stderr)


def own_id(user: int) -> str:
    return f"anna-{3 * user + 1000}"


@dataclass(frozen=True)
class Place:
    """An audit with its configuration, its key and its published copy; `said` is what publishing said."""

    config: Path
    store: Path
    root: Path
    said: Said | None = None

    @property
    def audit(self) -> Path:
        return self.root / "report"

    @property
    def published(self) -> Path:
        return self.root / "published"

    @property
    def key(self) -> Path:
        return self.root / "unit.key"

    def publish(self, out: Path | None = None) -> Said:
        out = out or self.published
        options = ("--key", self.key, "--config", self.config, "--out", out)
        return run("report", "publish", self.audit / "report.json", *options)

    def prove(self, out: Path, *named: str) -> Said:
        return run("report", "prove", "--key", self.key, "--config", self.config, "--out", out, *named)

    def check(self, proof: Path) -> Said:
        return run("report", "check-proof", proof, "--report", self.published / "report.json")


def published(place: Place) -> Place:
    place.key.write_text(KEY.hex())
    said = place.publish()
    assert said.code == 0
    return replace(place, said=said)


def of_anna(data: Dataset, root: Path) -> Place:
    """A request that names one user, by an id that the reader renumbers."""
    (root / "data").mkdir()
    for name in ("train", "valid", "test"):
        part = getattr(data, name)
        pairs = {"user": [own_id(user) for user in part.users], "item": [f"i{item}" for item in part.items]}
        pd.DataFrame(pairs).to_csv(root / "data" / f"{name}.csv", index=False)
    (root / "anna.csv").write_text(f"user\n{own_id(GONE)}\n")
    (root / "audit.toml").write_text(CONFIGURATION)
    auditkit.audit(root / "audit.toml", out=root / "report", store=root / "store")
    return published(Place(root / "audit.toml", root / "store", root))


def of_a_fifth(config: Path, store: Path, root: Path) -> Place:
    """A request for a fifth of the interactions, whose verdict is PASS, and a key pair to certify it with."""
    place = Place(config, store, root)
    # Without a page: only that of the copy is looked at.
    audit(resolve(load(config)), out=place.audit, store=store)
    assert run("keygen", "--out", root / "k.pem").code == 0
    return published(place)
