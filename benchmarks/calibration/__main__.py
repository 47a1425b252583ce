"""Train what is missing, repeat every study, write the page.

python -m benchmarks.calibration --store FOLDER [--worlds ml-100k bpr-mf] [--audits 200]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before torch is loaded

import pandas as pd
from joblib import Parallel, delayed

from auditkit.plan import SIZES
from auditkit.writing import replace_file
from benchmarks.calibration import pooled
from benchmarks.calibration.derived import with_derived
from benchmarks.calibration.page import page
from benchmarks.calibration.pools import Pool, gather
from benchmarks.calibration.replicates import replicates
from benchmarks.calibration.sections import sections
from benchmarks.calibration.signals import item_signals
from benchmarks.calibration.worlds import WORLDS, World
from benchmarks.memory import keep_freed_memory

INTRO = """\
Audits are drawn from pools of really trained systems and judged by the code that judges every audit: originals, Golds,
references and a control Gold are drawn at random, the rule is calibrated on them, and other systems of the pool are
handed in as "unlearned". Replicates of a world share its pool, so rates carry a Monte-Carlo error of about .01 to .02,
more where a pool is small. `runs` is how many runs of a method an audit reads: 3 where no spread is shown (one unit, or
an original that spreads no wider than Golds), else 1. The certify profile is repeated half as often as the others."""
# No spread is shown there (one unit, or an original that spreads no wider than Golds): nothing passes with fewer runs.
_TRIPLE = ("one user", "active user", "tiktok bpr-mf user")


def _options() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--store", required=True, help="folder of pools and finished audits; runs are resumable")
    made.add_argument("--worlds", nargs="*", help="only worlds whose name begins so")
    made.add_argument("--audits", type=int, default=200, help="at most so many audits of each world and profile")
    made.add_argument("--data", help="folder of the data sets (default: AUDITKIT_DATA)")
    made.add_argument("--device", default="cpu", help="where pools are trained")
    made.add_argument("--jobs", type=int, default=2, help="processes")
    made.add_argument("--out", default="docs/calibration.md", help="the page")
    return made.parse_args()


def _count(world: World, profile: str, most: int) -> int:
    """Audits of a profile: half as many of the largest, which take most of the time."""
    count = min(world.audits, most)
    return count // 2 if profile == "certify" else count


def _audits(full: Pool, options: argparse.Namespace) -> pd.DataFrame:
    runs = 3 if full.world.name.endswith(_TRIPLE) else 1
    added, store, parts = with_derived(full), Path(options.store), []
    for profile in SIZES:
        count = _count(full.world, profile, options.audits)
        table = replicates(added, profile, count, store, runs=runs, jobs=options.jobs)
        parts.append(table.assign(world=full.world.name))
    return pd.concat(parts, ignore_index=True)


def _pooled(full: Pool, audits: int) -> dict[str, list[dict[str, object]]]:
    signed = full.world.backbone != "ease"
    found: dict[str, list[dict[str, object]]] = {
        "slopes": [pooled.reference_slopes(full, p, max(audits // 10, 3)) for p in SIZES],
        "units": [pooled.unit_tests(full, p, max(audits // 5, 5)) for p in SIZES] if signed else [],
        "dependence": [pooled.dependence(full)] if signed else [],
        "sizes": [],
    }
    if signed and full.evidence.units.shape[0] >= 20:
        found["sizes"] = [pooled.spread_sizes(full, golds, 2 * audits) for golds in (4, 8, 16)]
    return found


def main() -> None:
    """Run everything and write the page."""
    keep_freed_memory()  # before the processes are started that audit
    options = _options()
    chosen = [w for w in WORLDS if not options.worlds or w.name.startswith(tuple(options.worlds))]
    tables, rows, signals = [], [], []
    for world in chosen:
        full = gather(world, Path(options.store), options.data, options.device)
        tables.append(_audits(full, options))
        rows.append((full, min(world.audits, options.audits)))
        if world.regime == "item" and world.backbone != "ease":
            signals.append(item_signals(full, max(options.audits // 10, 3), options.jobs))
    pooled_rows = Parallel(n_jobs=options.jobs)(delayed(_pooled)(full, audits) for full, audits in rows)
    extra = {key: pd.DataFrame([row for part in pooled_rows for row in part[key]]) for key in pooled_rows[0]}
    extra["signals"] = pd.concat(signals, ignore_index=True) if signals else pd.DataFrame({"world": []})
    command = f"python -m benchmarks.calibration --store FOLDER --audits {options.audits}"
    made = sections(chosen, pd.concat(tables, ignore_index=True), extra)
    text = page(made, command, INTRO)
    replace_file(Path(options.out), lambda path: path.write_text(text, encoding="utf-8"))
    for study in made:
        print(f"{study.title}: {len(study.missed)} values miss the target" if study.targets else study.title)


if __name__ == "__main__":
    main()
