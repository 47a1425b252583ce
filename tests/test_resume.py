"""Audits that are killed, and audits that run at once: the report is the one of an undisturbed audit."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from auditkit.api import audit
from auditkit.record import CostEntry, Record, Speedup

CONFIGURATION = """\
[data]
path = "{data}"
[request]
share = 0.2
[recipe]
backbone = "bpr-mf"
config = {{ factors = 8 }}
fit = {{ epochs = 500 }}
[[unlearner]]
name = "reverse-bpr"
[[unlearner]]
name = "no-op"
[audit]
profile = "quick"
golds = 3
references = 4
"""
# Two originals, three Golds, four references, two controls and two unlearned systems.
N_BUILDS = 13


@pytest.fixture(scope="module")
def configuration(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resume") / "audit.toml"
    path.write_text(CONFIGURATION.format(data=tiny_folder / "data"), "utf-8")
    return path


@pytest.fixture(scope="module")
def undisturbed(configuration: Path) -> Path:
    """Folder of the report of an audit that nobody disturbed, in a store of its own."""
    out = configuration.parent / "undisturbed"
    audit(configuration, out=out, store=configuration.parent / "undisturbed-store")
    return out


def start(configuration: Path, store: Path, out: Path) -> subprocess.Popen[bytes]:
    command = ["audit", str(configuration), "--store", str(store), "--out", str(out)]
    code = "from auditkit.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def n_builds(store: Path) -> int:
    return len(list(store.glob("builds/[!.]*/build.json")))


def kill_when(audited: subprocess.Popen[bytes], store: Path, reached: int) -> None:
    """Kill -9 as soon as the store holds so many builds, or (at 0) has begun to make the first."""
    end = time.monotonic() + 60
    while not (any(store.glob("locks/*")) and n_builds(store) >= reached):
        assert audited.poll() is None, "the audit ended before it could be killed"
        assert time.monotonic() < end, "the audit made no progress"
        time.sleep(0.001)
    audited.send_signal(signal.SIGKILL)
    assert audited.wait(10) == -signal.SIGKILL


def settled(out: Path) -> dict[str, Any]:
    """A report without what depends on the clock: when it was made, what building took, and times divided.

    The state of the source tree is left out too: somebody may be working on it.
    """
    record = Record.read(out / "report.json")
    systems = [s.model_copy(update={"cost": CostEntry(), "speedup_vs_gold": Speedup()}) for s in record.systems]
    environment = record.environment.model_copy(update={"git": None})
    same = {"created": "", "systems": systems, "environment": environment}
    return record.model_copy(update=same).model_dump()


def differences(first: Any, second: Any, place: str = "report") -> list[str]:
    """Where two reports differ, with both values."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return [d for key in first for d in differences(first[key], second[key], f"{place}.{key}")]
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return [d for k, pair in enumerate(zip(first, second, strict=True)) for d in differences(*pair, f"{place}.{k}")]
    return [] if first == second else [f"{place}: {first!r} and {second!r}"]


def test_a_killed_audit_goes_on_where_it_stopped(configuration: Path, undisturbed: Path, tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    made = []
    for reached in (0, 9):
        audited = start(configuration, store, out)
        kill_when(audited, store, reached)
        made.append(n_builds(store))
    assert made[0] < made[1] < N_BUILDS, "both kills must fall into the building"
    assert not (out / "report.json").exists()
    before = {p: p.stat().st_mtime_ns for p in store.glob("builds/[!.]*/arrays.safetensors")}
    audit(configuration, out=out, store=store)
    assert differences(settled(out), settled(undisturbed)) == []
    pd.testing.assert_frame_equal(
        pd.read_parquet(out / "units.parquet"), pd.read_parquet(undisturbed / "units.parquet")
    )
    assert n_builds(store) == N_BUILDS
    assert {p: p.stat().st_mtime_ns for p in before} == before, "what was built before the kill was built again"


def test_two_audits_at_once_share_one_store(configuration: Path, undisturbed: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    outs = [tmp_path / "first", tmp_path / "second"]
    both = [start(configuration, store, out) for out in outs]
    codes = [audited.wait(120) for audited in both]
    records = [Record.read(out / "report.json") for out in outs]
    assert codes == [records[0].exit_code] * 2 == [Record.read(undisturbed / "report.json").exit_code] * 2
    for out in outs:
        assert differences(settled(out), settled(undisturbed)) == []
    # One maker per build: both read the same costs from the store.
    assert [s.cost for s in records[0].systems] == [s.cost for s in records[1].systems]
    builds = sorted(p.name for p in (store / "builds").iterdir())
    assert len(builds) == N_BUILDS
    assert not any(name.startswith(".writing-") for name in builds)
