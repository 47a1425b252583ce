"""Train what is missing, repeat every study, write the page.

python -m benchmarks.calibration --store FOLDER [--worlds ml-100k bpr-mf] [--audits 200]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before torch is loaded

from auditkit.writing import replace_file
from benchmarks.calibration.candidates import default
from benchmarks.calibration.page import page
from benchmarks.calibration.pools import gather
from benchmarks.calibration.signals import study_of_signals
from benchmarks.calibration.studied import studied
from benchmarks.calibration.worlds import WORLDS, World
from benchmarks.memory import keep_freed_memory

INTRO = """\
Audits are drawn from pools of really trained systems and judged by the code that judges every audit: originals, Golds,
references and a control Gold are drawn at random, the rule is calibrated on them, and other systems of the pool are
handed in as "unlearned". Replicates of a world share its pool, so rates carry a Monte-Carlo error of about .01 to .02,
more where a pool is small. `runs` is how many runs of a method an audit reads: 3 where no spread is shown (one unit, or
an original that spreads no wider than Golds), else 1. The certify profile is repeated half as often as the others."""


def options_of(description: str | None, out: str) -> argparse.Namespace:
    """What either page's command takes."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--store", required=True, type=Path, help="folder of pools and finished audits; runs are resumable"
    )
    made.add_argument("--worlds", nargs="*", help="only worlds whose name begins so")
    made.add_argument("--audits", type=int, default=200, help="at most so many audits of each world and profile")
    made.add_argument("--data", help="folder of the data sets (default: AUDITKIT_DATA)")
    made.add_argument("--device", default="cpu", help="where pools are trained")
    made.add_argument("--jobs", type=int, default=2, help="processes")
    made.add_argument("--out", type=Path, default=Path(out), help="the page")
    return made.parse_args()


def chosen_worlds(options: argparse.Namespace) -> list[World]:
    """Worlds that were named, all without names."""
    return [w for w in WORLDS if not options.worlds or w.name.startswith(tuple(options.worlds))]


def main() -> None:
    """Run everything and write the page."""
    keep_freed_memory()  # before the processes are started that audit
    options = options_of(__doc__, "docs/calibration.md")
    chosen = chosen_worlds(options)
    pools = [gather(world, options.store, options.data, options.device) for world in chosen]
    primaries = [default(world.regime) for world in chosen]
    made = studied(pools, primaries, options.store, options.audits, options.jobs)
    made.append(study_of_signals(pools, max(options.audits // 10, 3), options.jobs))
    text = page(made, f"python -m benchmarks.calibration --store FOLDER --audits {options.audits}", INTRO)
    replace_file(options.out, lambda path: path.write_text(text, encoding="utf-8"))
    for study in made:
        print(f"{study.title}: {len(study.missed)} values miss the target" if study.targets else study.title)


if __name__ == "__main__":
    main()
