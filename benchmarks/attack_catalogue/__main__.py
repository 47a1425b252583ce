"""Train, probe, measure, and write the page: see the package."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before torch is loaded

from joblib import Parallel, delayed

from auditkit.battery import choose_battery
from auditkit.contracts import Attack
from auditkit.digests import digest_of
from auditkit.plugins import attacks
from auditkit.sources import source_digest
from auditkit.talk import Talk
from auditkit.writing import replace_file
from benchmarks.attack_catalogue import __doc__ as about
from benchmarks.attack_catalogue.measure import REPEATS, measure
from benchmarks.attack_catalogue.page import page
from benchmarks.attack_catalogue.pools import Pool, gather, pool_of
from benchmarks.attack_catalogue.worlds import WORLDS, World
from benchmarks.memory import keep_freed_memory


def _options() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--store", required=True, help="folder of systems, answers and lines; runs are resumable")
    made.add_argument("--worlds", nargs="*", help="only worlds whose name begins so")
    made.add_argument("--attacks", nargs="*", default=["all"], help="names of attacks, default or all")
    made.add_argument("--stored-only", action="store_true", help="show what was measured, measure nothing")
    made.add_argument("--train-only", action="store_true", help="train the pools and stop")
    made.add_argument("--device", default="cpu", help="where pools are trained")
    made.add_argument("--jobs", type=int, default=2, help="processes that measure")
    made.add_argument("--out", help="write the page there; else it is printed")
    return made.parse_args()


def _chosen(named: Sequence[str]) -> list[Attack]:
    """The attacks that are compared with Gold; what is judged apart (release) has a table of its own."""
    wanted = set(choose_battery(tuple(named), "lira-linear")) if named != ["all"] else set()
    everything = [attack for one in attacks().values() for attack in one.variants()]
    return [
        attack for attack in everything
        if (attack in wanted or not wanted) and not attack.release and not attack.needs.unlearned_references
    ]  # fmt: skip


def _stored(attack: Attack, pool: Pool) -> Path:
    key = digest_of(attack, source_digest(type(attack)), dict(REPEATS), len(pool.world.systems()))
    return pool.folder / "lines" / f"{key[:20]}.json"


def _line(attack: Attack, pool: Pool) -> dict[str, Any]:
    path = _stored(attack, pool)
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    path.parent.mkdir(exist_ok=True)
    line = measure(attack, pool)
    replace_file(path, lambda scratch: scratch.write_text(json.dumps(line), encoding="utf-8"))
    return line


def _measured(world: World, options: argparse.Namespace, chosen: Sequence[Attack]) -> list[dict[str, Any]]:
    if options.stored_only:
        pool = pool_of(world, Path(options.store), options.device)
        return [_line(attack, pool) for attack in chosen if _stored(attack, pool).exists()]
    pool = gather(world, Path(options.store), options.device)
    if options.train_only:
        return []
    probes = list(dict.fromkeys(probe for attack in chosen for probe in attack.probes))
    for probe in probes:
        pool.ask(probe)  # by one process, so that no two ask the same
    with Talk() as talk:
        talk(f"{world.name}: measuring {len(chosen)} attacks", 0, 1)
        return list(Parallel(n_jobs=options.jobs)(delayed(_line)(attack, pool) for attack in chosen))


def main() -> None:
    """Measure every world and write the page."""
    keep_freed_memory()
    options = _options()
    chosen = _chosen(options.attacks)
    wanted = [world for world in WORLDS if not options.worlds or world.name.startswith(tuple(options.worlds))]
    found = [(world, _measured(world, options, chosen)) for world in wanted]
    if options.train_only:
        return
    text = page(found)
    if options.out:
        replace_file(Path(options.out), lambda path: path.write_text(text, encoding="utf-8"))
    else:
        print(text)


if __name__ == "__main__":
    main()
