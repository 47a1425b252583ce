"""Which attack should decide: every candidate through every study, on the same systems and the same audits.

python -m benchmarks.calibration.primaries --store FOLDER [--worlds ml-100k] [--audits 40]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before torch is loaded

import pandas as pd

from auditkit.plan import SIZES
from auditkit.writing import replace_file
from benchmarks.calibration.__main__ import chosen_worlds, options_of
from benchmarks.calibration.candidates import CANDIDATES, Candidate
from benchmarks.calibration.page import Study, markdown
from benchmarks.calibration.pools import Pool, gather
from benchmarks.calibration.studied import studied
from benchmarks.memory import keep_freed_memory

INTRO = """\
Each row is one world judged by one attack as the primary one, through all studies of [the calibration](calibration.md),
on the same pools and the same draws.

- `margin`: median attainable margin of the profile's audits; empty where the original does not stand out.
- `Gold PASS`, `Gold FAIL`: verdicts on fresh Golds at the default margins. Three figures: quick, standard, certify.
- `worst bad PASS`, `worst honest FAIL`: of the groups of methods that must not pass, of honest variants, the one that
  comes off worst, over all profiles.
- `far PASS`: of systems that hold 1.5 times the margin or more, the worst profile.
- The last columns count the values of each study that miss its target, as on that page."""
_NAMES = {
    "Fresh Golds": "null", "Coverage of the effective dose": "coverage", "At the boundary": "boundary",
    "Sensitivity": "sensitivity", "Methods that must not pass": "bad", "Honest variants": "honest",
    "References read without themselves": "slopes", "What varies together": "dependence",
    "Sizes of the spread": "sizes", "Per-unit p-values": "units",
}  # fmt: skip


def _by_profile(table: pd.DataFrame, column: str) -> str:
    values = table.set_index("profile")[column]
    return " / ".join(f"{values[p]:.3f}" if pd.notna(values[p]) else "-" for p in SIZES)


def row(pool: Pool, primary: Candidate, studies: list[Study]) -> dict[str, object]:
    """What the studies of one world say of one candidate."""
    tables = {study.title: study.table for study in studies}
    golds = tables["Fresh Golds"]
    bad, honest = tables["Methods that must not pass"], tables["Honest variants"]
    missed = {short: str(len(s.missed)) for s in studies for title, short in _NAMES.items() if s.title == title}
    return {
        "world": pool.world.name, "attack": primary.label, "margin": _by_profile(golds, "attainable"),
        "Gold PASS": _by_profile(golds, "PASS"), "Gold FAIL": _by_profile(golds, "FAIL"),
        "worst bad PASS": bad["PASS"].max() if len(bad) else float("nan"),
        "worst honest FAIL": honest["FAIL"].max() if len(honest) else float("nan"),
        "far PASS": tables["Sensitivity"]["PASS beyond"].max(), **missed,
    }  # fmt: skip


def main() -> None:
    """Run every candidate and write the page."""
    keep_freed_memory()
    options = options_of(__doc__, "docs/calibration-primaries.md")
    rows = []
    for world in chosen_worlds(options):
        if len(CANDIDATES[world.regime]) == 1 or world.backbone == "ease":
            continue
        pool = gather(world, options.store, options.data, options.device)
        for primary in CANDIDATES[world.regime]:
            made = studied([pool], [primary], options.store, options.audits, options.jobs)
            rows.append(row(pool, primary, made))
    named = "".join(f' "{name}"' for name in options.worlds or ())
    chosen = f" --worlds{named}" if named else ""
    command = f"python -m benchmarks.calibration.primaries --store FOLDER --audits {options.audits}{chosen}"
    text = (
        f"# Which attack decides\n\n{INTRO}\n\nThis page is written by `{command}`.\n\n{markdown(pd.DataFrame(rows))}\n"
    )
    replace_file(options.out, lambda path: path.write_text(text, encoding="utf-8"))
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
