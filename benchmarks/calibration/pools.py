"""Training and probing a world's systems once; what stays is their answers, in files that a run goes on from."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.util import hash_pandas_object

from auditkit.attacks.exposure import HitRate
from auditkit.attacks.fold_in import FoldIn
from auditkit.attacks.fold_in_lists import FoldInLists
from auditkit.attacks.listed import ListedPairs
from auditkit.attacks.matched_items import MatchedPairs
from auditkit.builds import System, Workshop, build
from auditkit.contracts import Probe
from auditkit.data.dataset import Floats, Ints
from auditkit.deletion import Regime
from auditkit.digests import canonical, digest_of
from auditkit.evidence import Case, Evidence, Reading, entitlement, fix_points, make_case, observe
from auditkit.probes import Pairs
from auditkit.store import Store
from auditkit.talk import Talk
from auditkit.writing import replace_file
from benchmarks.calibration.worlds import World, pool

_CHUNK = 16
# Signals that attacks read which may decide there, alone or as diagnostics; others would only fill memory.
KEPT: Mapping[Regime, Mapping[Probe, tuple[str, ...]]] = {
    "interaction": {
        Pairs(): ("z", "rank", "margin", "softmax"), MatchedPairs(): ("z",), ListedPairs(100): ("hit",),
    },
    "user": {Pairs(): ("z", "rank"), FoldIn(): ("z",), FoldInLists(): ("hit",)},
    "item": {FoldIn(): ("z", "row"), HitRate(): ("hits",)},
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Pool:
    """All systems of a world with their answers.

    Attributes:
        world: what they are systems of.
        case: its data and request; units are the request's and, on interactions, decoys, else one that is retained.
        evidence: of all systems.
    """

    world: World
    case: Case
    evidence: Evidence

    def group(self, *names: str) -> Ints:
        """Positions of the systems in these groups, int64 [n]."""
        return np.array([k for k, s in enumerate(self.evidence.systems) if s.method in names], np.int64)

    @property
    def groups(self) -> list[str]:
        """Names of the groups, in order."""
        return list(dict.fromkeys(s.method for s in self.evidence.systems))


def _case(world: World, root: str | None) -> Case:
    data = world.data(root)
    full = make_case(data, world.request(data), seed=0)
    # Of the units to compare with, only decoys enter a verdict; those of fold-in hang on one retained unit.
    kept = np.array(full.units["group"] != "retain")
    if world.regime != "interaction":
        kept[np.flatnonzero(~kept)[:1]] = True
    return Case(data, full.request, full.units[kept].reset_index(drop=True))


def _address(builds: list[str], questions: Mapping[Probe, pd.DataFrame], world: World) -> str:
    """Name of the file with the answers of these builds: by what was asked, and what is kept of the answers."""
    asked = {p.name: (canonical(p), int(hash_pandas_object(q).sum()), *q.columns) for p, q in questions.items()}
    kept = {probe.name: signals for probe, signals in KEPT[world.regime].items()}
    return digest_of(builds, asked, kept)[:24]


def _key(probe: Probe, signal: str) -> str:
    return f"{probe.name} {signal}"


def _observe(
    systems: Sequence[System], case: Case, shop: Workshop, questions: Mapping[Probe, pd.DataFrame], talk: Talk
) -> dict[str, Floats]:
    kept = KEPT[case.request.regime]
    stream = ((system, model) for system, model, _ in build(systems, shop, talk))
    readings = observe(stream, dict(questions), case, seed=0).readings
    return {_key(p, s): r.values[s] for p, r in readings.items() for s in kept[p]}


def gather(world: World, folder: Path, root: str | None = None, device: str = "cpu") -> Pool:
    """Train and probe what the folder lacks, then read everything back.

    Args:
        world: what is wanted.
        folder: evidence of the world's systems, 16 to a file.
        root: of the data sets.
        device: where to train.
    """
    case, systems = _case(world, root), pool(world)
    questions = fix_points(list(KEPT[world.regime]), case, seed=0)
    own = folder / world.slug
    shop = Workshop(case.data, case.request, Store(own / "systems"), device)
    with Talk() as talk:
        parts = []
        for start in range(0, len(systems), _CHUNK):
            chunk = systems[start : start + _CHUNK]
            path = own / f"{_address([shop.address(s.build) for s in chunk], questions, world)}.npz"
            if not path.exists():
                talk(f"{world.name}: {chunk[0].name}", start, len(systems))
                answers = _observe(chunk, case, shop, questions, talk)
                replace_file(path, partial(_write, answers))
            with np.load(path) as stored:
                parts.append({name: stored[name] for name in stored.files})
    shutil.rmtree(own / "systems", ignore_errors=True)
    return Pool(world, case, _evidence(case, systems, questions, parts))


def _write(arrays: dict[str, Floats], path: Path) -> None:
    with path.open("wb") as out:
        np.savez(out, **arrays)  # type: ignore[arg-type]


def _evidence(
    case: Case,
    systems: Sequence[System],
    questions: Mapping[Probe, pd.DataFrame],
    parts: list[dict[str, Floats]],
) -> Evidence:
    readings, kept = {}, KEPT[case.request.regime]
    for probe, points in questions.items():
        values = {s: np.concatenate([part[_key(probe, s)] for part in parts]) for s in kept[probe]}
        readings[probe] = Reading(points, values, len(case.units))
    return Evidence(tuple(systems), case.units, *entitlement(systems, case), readings)
