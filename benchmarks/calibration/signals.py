"""Two signals for item requests, read from the same systems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
from joblib import Parallel, delayed

from auditkit.evidence import Reading
from benchmarks.calibration.audits import replicate
from benchmarks.calibration.candidates import default
from benchmarks.calibration.derived import with_derived
from benchmarks.calibration.page import Study
from benchmarks.calibration.pools import Pool
from benchmarks.calibration.studies import HONEST

_SHOWN = ("gold", *HONEST, "reverse-bpr 2", "original")


def _reading(pool: Pool, signal: str) -> Pool:
    """The pool with fold-in's `z` replaced by the signal."""
    readings = {
        probe: Reading(r.points, {"z": r.values[signal]}, r.n_units) if probe.name == "fold-in" else r
        for probe, r in pool.evidence.readings.items()
    }
    return replace(pool, evidence=replace(pool.evidence, readings=readings))


def _item_signals(pool: Pool, audits: int, jobs: int) -> pd.DataFrame:
    """Readings and verdicts by either signal, standard profile, for Golds, honest variants and two bad methods."""
    rows = []
    for signal, label in (("z", "column"), ("row", "row")):
        chosen = with_derived(_reading(pool, signal))
        parts = Parallel(n_jobs=jobs)(
            delayed(replicate)(chosen, "standard", seed, default("item")) for seed in range(audits)
        )
        table = pd.concat(parts, ignore_index=True)
        for group, part in table[table["group"].isin(_SHOWN)].groupby("group", sort=False):
            rows.append({
                "world": pool.world.name, "signal": label, "group": group, "level": part["level"].mean(),
                "pattern": part["pattern"].mean() if "pattern" in part else float("nan"),
                "PASS": (part["verdict"] == "PASS").mean(), "FAIL": (part["verdict"] == "FAIL").mean(),
                "attainable margin": part["attainable"].median(),
            })  # fmt: skip
    return pd.DataFrame(rows)


def study_of_signals(pools: Sequence[Pool], audits: int, jobs: int) -> Study:
    """Both signals on every world of item requests whose Golds differ."""
    items = [pool for pool in pools if pool.world.regime == "item" and pool.world.backbone != "ease"]
    parts = [_item_signals(pool, audits, jobs) for pool in items]
    return Study(
        "The signal of item requests",
        "A fresh item's score within its own column of users, which is used, and within the asked users' "
        "rows, which is not: honest variants read far from Gold on the rows. Standard profile.",
        pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"world": []}),
    )
