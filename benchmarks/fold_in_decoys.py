"""What decoys change in user and item requests: FAIL of honest and of bad deletions by `fold-in`, without and with them.

    python -m benchmarks.fold_in_decoys --store FOLDER [--worlds "ml-100k lightgcn user" ...] [--repeats 2]

Prints one Markdown table a world. The store is that of `benchmarks.attack_catalogue`; what it lacks is trained: the world's
systems, parts of the request that were never erased, and the bad unlearners (but for those that are tuned, a quarter of an hour
each). Each drawn audit reads every system that it does not itself consist of. `without` counts a FAIL of the primary attack by
the reading alone, `with` by the rule of `auditkit.decoys`; PASS is the same for both.
"""  # noqa: E501

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from auditkit.attacks.fold_in import FoldInAttack
from auditkit.builds import System, Train, Unlearn
from auditkit.contracts import Unlearner
from auditkit.deletion import EVERYBODY, NOBODY, Share
from auditkit.evidence import Evidence
from auditkit.findings import Judged, read_system
from auditkit.plan import SIZES, seed_of
from auditkit.statistics.multiplicity import holm
from auditkit.unlearners.controls import NoOp
from auditkit.unlearners.controls_partial import RandomPart
from auditkit.unlearners.reverse_bpr import ReverseBPR
from auditkit.yardstick import Yardstick, calibrate
from benchmarks.attack_catalogue.measure import REPEATS, attainable, rules_of
from benchmarks.attack_catalogue.pools import Pool, drawn, gather
from benchmarks.attack_catalogue.worlds import WORLDS, World
from benchmarks.bad_unlearners import BAD
from benchmarks.memory import keep_freed_memory

_PARENTS = 3
_DOSES = (0.1, 0.25, 0.5)
# The reading itself (no-op) and the dose .1 (random-90) are there; what is tuned searches for its setting.
_LEFT_OUT = (NoOp, RandomPart)
_GOLDS = 8
_ORDER = ("gold", "epochs", "dose")


@dataclass(frozen=True)
class Extended(World):
    """A world with bad deletions beside the honest ones."""

    def systems(self) -> list[System]:
        """Those of the world, then systems that kept a part, then bad unlearners."""
        return [*super().systems(), *self._parts(), *self._bad()]

    def _parts(self) -> Iterator[System]:
        for dose in _DOSES:
            for k in range(_PARENTS):
                seed = seed_of(1, f"dose {dose:g}", k)
                build = Train(self.recipe, Share(0.0, 1 - dose, seed), seed)
                yield System(f"dose {dose:g} {k}", "control", build, f"dose {dose:g}")

    def _bad(self) -> Iterator[System]:
        for bad in self._unlearners():
            for k in range(_PARENTS):
                parent = Train(self.recipe, NOBODY, seed_of(0, "original", k))
                build = Unlearn(parent, bad, EVERYBODY, seed_of(0, bad.name, k))
                yield System(f"{bad.name} {k}", "unlearned", build, bad.name)

    def _unlearners(self) -> Iterator[Unlearner]:
        request = self.request(self.data())
        yield ReverseBPR(5, learning_rate=2e-3, forget_batch=512)
        for bad in BAD:
            usable = self.regime in bad.regimes and bad.refuses(self.recipe, request) is None
            if usable and not isinstance(bad, _LEFT_OUT) and not bad.name.startswith("tuned"):
                yield bad


def extended(world: World) -> Extended:
    """The same world with bad deletions."""
    return Extended(**{f.name: getattr(world, f.name) for f in fields(World)})


def _fails(judged: Judged, margin: float, alpha: float) -> bool:
    return bool(holm(np.array(list(judged.p_values(margin).values()))).min() < alpha / 2)


def _read(yardstick: Yardstick, evidence: Evidence, row: int) -> dict[str, Any]:
    rules, judged = yardstick.rules, read_system(yardstick, evidence.take([row]))
    alone = replace(judged, unshared=None)
    return {
        "system": evidence.systems[row].method, "without": _fails(alone, rules.margin, rules.alpha),
        "with": _fails(judged, rules.margin, rules.alpha), "PASS": judged.inside(rules.margin, rules.alpha),
        "level": judged.level.value, "without shift": judged.unshared.level.value if judged.unshared else np.nan,
    }  # fmt: skip


def _audit(pool: Pool, evidence: Evidence, profile: str, seed: int) -> tuple[list[dict[str, Any]], float]:
    """Readings of all systems that the audit does not consist of, and its attainable margin."""
    attack = FoldInAttack()
    background, golds, originals = drawn(
        evidence, *SIZES[profile], np.random.default_rng([seed, list(SIZES).index(profile)])
    )
    yardstick = calibrate(attack, background, rules_of(attack, pool, profile))
    others = evidence.rows("control", "unlearned")
    if not yardstick.power:
        return [], float("nan")
    rows = np.concatenate([golds[:_GOLDS], originals, others])
    return [{**_read(yardstick, evidence, int(row)), "profile": profile} for row in rows], attainable(yardstick)


def measure(world: World, store: Path, repeats: int) -> tuple[pd.DataFrame, dict[str, float]]:
    """One row a reading, and the median attainable margin of each profile."""
    pool = gather(extended(world), store)
    evidence, _ = pool.evidence(FoldInAttack().probes)
    found, margins = [], {}
    for profile in world.profiles:
        audits = [_audit(pool, evidence, profile, seed) for seed in range(repeats * REPEATS[profile])]
        found += [row for rows, _ in audits for row in rows]
        margins[profile] = float(np.nanmedian([margin for _, margin in audits]))
    return pd.DataFrame(found), margins


def _place(system: str) -> int:
    return next((k for k, head in enumerate(_ORDER) if system.startswith(head)), len(_ORDER))


def markdown(world: World, table: pd.DataFrame, margins: dict[str, float]) -> str:
    """The table of one world."""
    shown = ", ".join(f"{profile} {margin:.2f}" for profile, margin in margins.items())
    lines = [
        f"### {world.name}", "", f"attainable margin: {shown}", "",
        "| system | readings | FAIL without decoys | FAIL with | PASS | level | level without shift |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    groups = sorted(table.groupby("system", sort=False), key=lambda pair: _place(str(pair[0])))
    groups.append(("all other epochs", table[table["system"].str.startswith("epochs")]))
    for name, part in groups:
        mean = part.drop(columns=["system", "profile"]).mean()
        cells = " | ".join(f"{mean[column]:.3f}" for column in mean.index)
        lines.append(f"| {name} | {len(part)} | {cells} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Print a table a world."""
    keep_freed_memory()
    worlds = {w.name: w for w in WORLDS if w.regime != "interaction" and w.dataset == "ml-100k"}
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--store", required=True, type=Path, help="of benchmarks.attack_catalogue")
    made.add_argument("--worlds", nargs="*", default=list(worlds), choices=list(worlds), metavar="NAME")
    made.add_argument("--repeats", type=int, default=2, help="times the catalogue's audits of each profile")
    options = made.parse_args()
    for name in options.worlds:
        print(markdown(worlds[name], *measure(worlds[name], options.store, options.repeats)), flush=True)


if __name__ == "__main__":
    main()
