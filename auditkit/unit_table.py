"""The per-unit side of an audit: a test for each unit of each system, and the table beside the report."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from auditkit.data.dataset import Bools, Floats
from auditkit.findings import Judged
from auditkit.record import UnitTests as UnitTestsEntry
from auditkit.statistics.dose import FLOOR
from auditkit.statistics.units import UnitTests, unit_p_values
from auditkit.yardstick import Yardstick

# False discovery rate of the summary; the table holds every p and q, so another rate can be read off it.
RATE = 0.05


def unit_tests(yardstick: Yardstick, judged: Judged) -> UnitTests:
    """A test for each unit that a system answered: does it score the unit as Golds do?

    Args:
        yardstick: of the attack.
        judged: its readings of one system.

    Returns:
        Arrays over the answered units, in the order of `judged.units`. Deviations below 1e-6 of the mean gap between
        original and Gold count as none, as in the readings.
    """
    scale = yardstick.scale(yardstick.scores.level, judged.units)
    resolution = FLOOR * abs(scale.gap) / judged.runs.shape[1]
    return unit_p_values(judged.runs, scale.golds, resolution=resolution)


def summarise_units(tests: UnitTests, n_golds: int) -> UnitTestsEntry:
    """How many units are told from Golds at a false discovery rate of 5%."""
    rejected = tests.q <= RATE
    return UnitTestsEntry(
        n_tested=int(np.isfinite(tests.p).sum()), n_rejected=int(rejected.sum()),
        n_rejected_dependent=int((tests.q_dependent <= RATE).sum()),
        n_above=int((rejected & (tests.deviation > 0)).sum()), rate=RATE, floor=tests.floor, note=tests.note,
        method=f"t with variances shrunken over units, {n_golds} Golds, Benjamini-Hochberg over units",
    )  # fmt: skip


def unit_table(
    units: pd.DataFrame, primary: Yardstick | None, audited: Mapping[str, tuple[Judged, UnitTests]]
) -> pd.DataFrame:
    """One row a unit of the case; what an audit did not measure is NaN (or empty, for sides).

    Columns: unit (number), user, item (-1 = any), group, cluster, activity, popularity, split as in the case;
    original_score and gold_score, the primary attack's mean over originals and over Golds; and for each method M
    `score:M` (mean over its runs), `deviation:M` from the mean Gold, `p:M`, `q:M` (Benjamini-Hochberg) and `side:M`,
    `above` or `below` Gold.

    Args:
        units: of the case.
        primary: yardstick of the primary attack, None where it does not apply.
        audited: method -> its readings and tests; methods without a reading are left out.
    """
    table = units.copy()
    table.insert(0, "unit", np.arange(len(table)))
    if primary is not None:
        for role in ("original", "gold"):
            # No colon: a method may be called `gold`.
            table[f"{role}_score"] = primary.scores.level[primary.background.rows(role)].mean(0)
    for method, (judged, tests) in audited.items():
        columns = {"score": judged.runs.mean(0), "deviation": tests.deviation, "p": tests.p, "q": tests.q}
        for name, values in columns.items():
            table[f"{name}:{method}"] = _whole(values, judged.units)
        sides = np.full(len(table), "", object)
        sides[judged.units] = np.select([tests.deviation > 0, tests.deviation < 0], ["above", "below"], "")
        table[f"side:{method}"] = sides
    return table


def _whole(values: Floats, units: Bools) -> Floats:
    column = np.full(len(units), np.nan)
    column[units] = values
    return column
