"""Sample numbers of units, groups and retained data, for the sample records."""

from __future__ import annotations

from typing import Literal

import numpy as np

from auditkit.record import Decile, Estimate, Retained, RetainedGroup, Settle, UnitTests

EDGES = [1, 4, 7, 12, 19, 30, 45, 70, 110, 190, 584]
SETTLE = Settle(
    golds=16, golds_now=8, runs=3, units=9_000, units_now=4_000, references=None, references_now=32,
    attainable=0.137, floor=0.081,
)  # fmt: skip


def reading(value: float, half: float) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, confidence=0.9, method="on the group's own scale")


def unit_tests(level: float) -> UnitTests:
    rejected = round(4_000 * min(max(level - 0.05, 0), 1))
    return UnitTests(
        n_tested=4_000, n_rejected=rejected, n_rejected_dependent=rejected // 3, n_above=rejected, floor=1 / 32_001,
        method="t with variances shrunken over units, 8 Golds, Benjamini-Hochberg over units",
    )  # fmt: skip


def deciles(level: float) -> list[Decile]:
    """Ten groups by popularity, the last of which holds more than the others, and ten by activity."""
    rng = np.random.default_rng(11)
    kinds: tuple[Literal["popularity", "activity"], ...] = ("popularity", "activity")
    doses = {by: level + rng.normal(0, 0.05, 10) for by in kinds}
    doses["popularity"][9] += 0.4
    groups = [
        Decile(
            by=by, low=low, high=high - 1, n_units=400, residual_dose=reading(float(dose), 0.12 - 0.008 * place),
            p_value=0.0004 if dose > 0.3 else 1.0, worst=by == "popularity" and place == 9,
        )
        for by in kinds
        for place, (low, high, dose) in enumerate(zip(EDGES, EDGES[1:], doses[by], strict=False))
    ]  # fmt: skip
    silent = Estimate(note="the original does not stand out from the Golds in this group")
    return [groups[0].model_copy(update={"residual_dose": silent, "p_value": None}), *groups[1:]]


def retained(name: str) -> Retained:
    if name == "row-reinit":
        return Retained(note="the system answers nothing there")
    far = 1.6 if name == "finetune" else 1.02
    group = RetainedGroup(by="popularity", low=1, high=3, n_units=410, beyond=reading(0.07 * far, 0.03))
    return Retained(**reading(far, 0.1).model_dump(), beyond=reading(0.05 * far, 0.02), worst=group)
