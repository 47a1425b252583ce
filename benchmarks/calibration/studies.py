"""What the resampled audits say: one table a study, one row a world and profile."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from benchmarks.calibration.worlds import PASSES

STATISTICS = ("level", "pattern", "spread")
# Systems that forgot: the procedure with another number of epochs, or an exact deletion by another way.
HONEST = (
    "epochs x0.67", "epochs x0.83", "epochs x1.17", "epochs x1.50", "epochs jittered", "catalogue-deletion", "downdate"
)  # fmt: skip
DISHONEST = (
    "original", "original - constant", "tuned", "tuned - constant", "tuned ensemble", "finetune 10",
    "finetune 10 - constant", "sign-flipped", "row-reinit", f"reverse-bpr {PASSES[0]}", f"reverse-bpr {PASSES[-1]}",
)  # fmt: skip
FAR = 1.5


def _each(tables: pd.DataFrame) -> Iterable[tuple[dict[str, object], pd.DataFrame]]:
    for (world, profile, runs), part in tables.groupby(["world", "profile", "runs"], sort=False):
        yield {"world": world, "profile": profile, "runs": runs}, part


def _share(flags: pd.Series) -> float:
    known = flags.dropna()
    return float(known.astype(bool).mean()) if len(known) else float("nan")


def _outside(part: pd.DataFrame, name: str, truth: pd.Series | float) -> pd.Series:
    """Whether the two-sided 95% interval misses the truth; NaN where there is no reading."""
    if name not in part:
        return pd.Series(np.nan, part.index)
    missed = (part[f"{name}_low95"] > truth) | (part[f"{name}_high95"] < truth)
    return missed.where(part[name].notna())


def null(tables: pd.DataFrame) -> pd.DataFrame:
    """Fresh Golds as the systems under test: how often 0 is rejected at a two-sided 5%, PASS and FAIL."""
    rows = []
    for key, part in _each(tables):
        golds = part[part["group"] == "gold"]
        # The rule for several runs is conservative by design: its rates have an upper bound alone.
        several = "" if key["runs"] == 1 else ", several runs"
        rejected = {f"{s} rejected{several}": _share(_outside(golds, s, 0.0)) for s in STATISTICS}
        above = _share((golds["spread_low"] > 0).where(golds["spread"].notna())) if "spread" in golds else float("nan")
        rows.append({
            **key, "audits": golds["audit"].nunique(), "Golds": len(golds), **rejected, "spread above": above,
            "margin": golds["margin"].iloc[0], "attainable": golds["attainable"].median(),
            "PASS": (golds["verdict"] == "PASS").mean(), "FAIL": (golds["verdict"] == "FAIL").mean(),
            "INVALID": (part.groupby("audit")["verdict"].first() == "INVALID").mean(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def coverage(tables: pd.DataFrame) -> pd.DataFrame:
    """Share of 95% intervals that hold the effective dose, at 0, on rungs up to .1 and on all rungs."""
    rows = []
    for key, part in _each(tables):
        rungs = part[part["group"].str.startswith("dose ")]
        row = dict(key)
        for name in STATISTICS:
            for label, chosen in (("0", part[part["group"] == "gold"]), ("<= .1", _low(rungs)), ("all", rungs)):
                row[f"{name} {label}"] = 1 - _share(_outside(chosen, name, chosen[f"dose_{name}"]))
        rows.append(row)
    return pd.DataFrame(rows)


def _low(rungs: pd.DataFrame) -> pd.DataFrame:
    return rungs[rungs["group"].isin(["dose 0.02", "dose 0.05", "dose 0.1"])]


def boundary(tables: pd.DataFrame) -> pd.DataFrame:
    """Systems judged by a margin that is just what they hold: either certain verdict is wrong half of the time."""
    rows = []
    for key, part in _each(tables):
        rungs = part[part["group"].str.startswith("dose ")]
        if "passes_at_dose" in rungs:
            rows.append({**key, "PASS": _share(rungs["passes_at_dose"]), "FAIL": _share(rungs["fails_at_dose"])})
    return pd.DataFrame(rows)


def sensitivity(tables: pd.DataFrame) -> pd.DataFrame:
    """Systems that hold a random 5%, 10% or 20% of the units, and all that truly hold 1.5 times the margin or more."""
    rows = []
    for key, part in _each(tables):
        row = dict(key)
        for dose in ("0.05", "0.1", "0.2", "0.4"):
            mine = part[part["group"] == f"dose {dose}"]
            row[f"held {dose}"] = mine["dose_level"].mean()
            row[f"FAIL {dose}"] = (mine["verdict"] == "FAIL").mean()
            row[f"PASS {dose}"] = (mine["verdict"] == "PASS").mean()
        far = part[part["group"].str.startswith("dose ") & (part["dose_level"] >= FAR * part["margin"])]
        row["systems beyond"] = len(far)
        row["PASS beyond"] = (far["verdict"] == "PASS").mean() if len(far) else float("nan")
        rows.append(row)
    return pd.DataFrame(rows)


def groups(tables: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """Mean readings and verdicts of named groups, over all profiles."""
    chosen = tables[tables["group"].isin(list(names))]
    rows = []
    for (world, group), part in chosen.groupby(["world", "group"], sort=False):
        readings = {name: part[name].mean() if name in part else float("nan") for name in STATISTICS}
        verdicts = {v: (part["verdict"] == v).mean() for v in ("PASS", "FAIL", "INCONCLUSIVE")}
        rows.append({"world": world, "group": group, "systems": len(part), **readings, **verdicts})
    return pd.DataFrame(rows)
