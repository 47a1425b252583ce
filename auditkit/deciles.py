"""Residual dose by popularity and by activity: what an average over the request may hide in a tenth of its units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from auditkit.data.dataset import Bools, Floats, Ints
from auditkit.findings import Judged
from auditkit.record import Decile, Estimate
from auditkit.statistics.dose import Reading
from auditkit.statistics.multiplicity import holm
from auditkit.yardstick import Yardstick

MOST_GROUPS = 10
MIN_UNITS_GROUP = 5
Degree = Literal["popularity", "activity"]


def degrees_of(units: pd.DataFrame) -> tuple[Degree, ...]:
    """What units can be grouped by: popularity where they name items, activity where they name users."""
    named: dict[Degree, str] = {"popularity": "item", "activity": "user"}
    return tuple(degree for degree, column in named.items() if len(units) and (units[column] >= 0).all())


def quantile_groups(values: Ints, least: int = MIN_UNITS_GROUP) -> Ints:
    """The group of each value, int64 [n], from 0 for the smallest, in at most ten groups of about equal size.

    Equal values share a group: a run of ties goes where its middle lies. There is one group for every `least` values
    at most, so that fewer than twice as many make one group; a constant makes one as well. Numbers are without gaps.

    Args:
        values: [n], finite; an empty one gives no group.
        least: units a group has about at least, 1 or above.
    """
    distinct, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    if not len(distinct):
        return np.empty(0, np.int64)
    wanted = min(MOST_GROUPS, max(1, len(values) // least))
    middle = (np.cumsum(counts) - counts / 2) / len(values)
    groups = np.unique(np.floor(middle * wanted).astype(np.int64), return_inverse=True)[1]
    return np.asarray(groups[place], np.int64)


def outside_p(reading: Reading, margin: float) -> float:
    """p-value of |true dose| <= margin against a dose on either side of it.

    The null is an interval and the rejection two-sided, so the p-value is the largest over the null, at its ends:
    P(T > (|x| - margin) / se) + P(T > (|x| + margin) / se).
    """
    ends = (np.array([-margin, margin]) + abs(reading.value)) / reading.error
    return min(1.0, float(stats.t.sf(ends, reading.degrees).sum()))


def deciles(yardstick: Yardstick, judged: Judged) -> list[Decile]:
    """Every group of the judged units with its dose; the farthest from 0 is marked.

    A group has a scale of its own: its original against its Golds. Where the group's original does not stand out it has
    no reading and its note says so. p-values are Holm's over all groups that have one, by popularity and by activity.

    Args:
        yardstick: of the primary attack.
        judged: its readings of one system.
    """
    found = [
        (by, values[chosen], _read(yardstick, judged, chosen))
        for by, values, chosen in _groups(yardstick.background.units, judged.units)
    ]
    doses = np.array([0.0 if reading is None else abs(reading.value) for _, _, reading in found])
    margin = yardstick.rules.margin
    # A group without a reading is no test: holm leaves NaN out of the count.
    adjusted = holm(np.array([np.nan if r is None else outside_p(r, margin) for _, _, r in found], np.float64))
    return [
        Decile(
            by=by, low=int(values.min()), high=int(values.max()), n_units=len(values),
            residual_dose=_estimate(reading, yardstick, len(judged.runs)),
            p_value=None if reading is None else float(adjusted[place]),
            worst=reading is not None and place == int(doses.argmax()),
        )
        for place, (by, values, reading) in enumerate(found)
    ]  # fmt: skip


def _groups(units: pd.DataFrame, judged: Bools) -> Iterator[tuple[Degree, Ints, Bools]]:
    """Degree, its values over all units, and which units are in the group, bool [n_units]."""
    for by in degrees_of(units[judged]):
        values = units[by].to_numpy()
        groups = np.full(len(units), -1, np.int64)
        groups[judged] = quantile_groups(values[judged])
        for group in range(groups.max() + 1):
            yield by, values, groups == group


def _read(yardstick: Yardstick, judged: Judged, chosen: Bools) -> Reading | None:
    """The level of some units on their own scale and the curve of the whole; None where the original is not found."""
    scale = yardstick.scale(yardstick.scores.level, chosen)
    if not scale.power.bounds(yardstick.rules.alpha)[0] > 0:
        return None
    runs: Floats = judged.runs[:, chosen[judged.units]]
    return yardstick.lines.level.map(scale.read(runs))


def _estimate(reading: Reading | None, yardstick: Yardstick, runs: int) -> Estimate:
    if reading is None:
        return Estimate(note="the original does not stand out from the Golds in this group")
    low, high = reading.bounds(yardstick.rules.alpha)
    return Estimate(
        value=reading.value, low=low, high=high, confidence=1 - 2 * yardstick.rules.alpha, n_systems=runs,
        method=f"t interval over {len(yardstick.background.rows('gold'))} Golds, on the group's own scale",
    )  # fmt: skip
