"""Training a world's systems once and asking them every probe once; answers are kept, one file a probe."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from auditkit.builds import Workshop, build, make
from auditkit.contracts import Probe
from auditkit.data.dataset import Floats, Ints
from auditkit.digests import digest_of
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case, Evidence, Reading, entitlement, fix_points, make_case, observe
from auditkit.sources import source_digest
from auditkit.store import Store
from auditkit.talk import Talk
from auditkit.writing import replace_file
from benchmarks.attack_catalogue.worlds import World


@dataclass(frozen=True, eq=False)
class Pool:
    """A world's trained systems.

    Attributes:
        world: what they are systems of.
        case: data, request and units.
        shop: where they are stored.
        folder: of the answers.
    """

    world: World
    case: Case
    shop: Workshop
    folder: Path

    def evidence(self, probes: Sequence[Probe]) -> tuple[Evidence, float]:
        """Answers of all systems, and the seconds that they took a system.

        Raises:
            NotApplicableError: the request does not call for a probe, or a system cannot be asked it.
        """
        systems = self.world.systems()
        questions = fix_points(probes, self.case, seed=0)
        readings, seconds = {}, 0.0
        for probe in probes:
            if probe not in questions:
                raise NotApplicableError("the request does not call for its probe")
            values, spent = self._answers(probe)
            readings[probe] = Reading(questions[probe], values, len(self.case.units))
            seconds += spent
        seen, held = entitlement(systems, self.case)
        return Evidence(tuple(systems), self.case.units, seen, held, readings), seconds

    def _answers(self, probe: Probe) -> tuple[dict[str, Floats], float]:
        self.ask(probe)
        with np.load(self._path(probe)) as stored:
            kept = {name: stored[name] for name in stored.files}
        spent = float(kept.pop("seconds"))
        if not kept:
            raise NotApplicableError(f"a system of {self.world.recipe.backbone} cannot be asked its probe")
        return kept, spent

    def _path(self, probe: Probe) -> Path:
        builds = [self.shop.address(s.build) for s in self.world.systems()]
        return self.folder / f"{probe.name}-{digest_of(probe, source_digest(type(probe)), builds)[:16]}.npz"

    def ask(self, probe: Probe) -> None:
        """Ask every system, where that was not done."""
        questions = fix_points([probe], self.case, seed=0)
        if not questions or self._path(probe).exists():
            return
        systems, start = self.world.systems(), time.perf_counter()
        with Talk() as talk:
            talk(f"{self.world.name}: {probe.name}", 0, 1)
            stream = ((system, model) for system, model, _ in build(systems, self.shop, talk))
            found = observe(stream, questions, self.case, seed=0).readings
        answers = found[probe].values if probe in found else {}
        spent = np.array((time.perf_counter() - start) / len(systems))
        replace_file(self._path(probe), partial(_write, {**answers, "seconds": spent}))


def _write(arrays: dict[str, Floats], path: Path) -> None:
    with path.open("wb") as out:
        np.savez(out, **arrays)  # type: ignore[arg-type]


def pool_of(world: World, folder: Path, device: str = "cpu") -> Pool:
    """The pool as it lies in the folder."""
    data = world.data()
    case = make_case(data, world.request(data), seed=0)
    own = folder / world.slug
    own.mkdir(parents=True, exist_ok=True)
    return Pool(world, case, Workshop(case.data, case.request, Store(own / "systems"), device), own)


def gather(world: World, folder: Path, device: str = "cpu") -> Pool:
    """Train what the folder lacks."""
    pool = pool_of(world, folder, device)
    with Talk() as talk:
        make(world.systems(), pool.shop, talk)
    return pool


def drawn(evidence: Evidence, golds: int, references: int, rng: np.random.Generator) -> tuple[Evidence, Ints, Ints]:
    """A background of a profile's size, with the Golds and originals that were not drawn.

    References come as one complementary pair from each of `references / 2` strata of the grid of doses.
    """
    gold_rows, originals = rng.permutation(evidence.rows("gold")), rng.permutation(evidence.rows("original"))
    pairs = evidence.rows("reference").reshape(-1, 2)
    strata = np.arange(len(pairs)).reshape(references // 2, -1)
    cells = strata[np.arange(len(strata)), rng.integers(strata.shape[1], size=len(strata))]
    rows = np.concatenate([originals[:2], gold_rows[:golds], pairs[cells].ravel()])
    return evidence.take(rows), gold_rows[golds:], originals[2:]
