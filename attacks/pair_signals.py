"""The signals of the `pairs` probe as attacks read them: of systems, of references, of pairs outside training."""

from __future__ import annotations

from typing import Literal

import numpy as np

from auditkit.data.dataset import Bools, Floats
from auditkit.errors import NotApplicableError
from auditkit.evidence import Evidence, Reading
from auditkit.linear import summed
from auditkit.probes import Pairs

Signal = Literal["z", "rank", "margin", "softmax"]


def answers(reading: Reading, signal: Signal) -> Floats:
    """A signal, float64 [n_systems, n_points]; an infinite one is no answer and reads NaN."""
    values = reading.values[signal]
    return np.where(np.isfinite(values), values, np.nan)


def references(background: Evidence, signal: Signal) -> tuple[Floats, Bools]:
    """Answers of the references, and whether each held the point's unit, [n_references, n_points] both."""
    rows, reading = background.rows("reference"), background.readings[Pairs()]
    return answers(reading.take(rows), signal), background.held[rows][:, reading.unit]


def points_of(background: Evidence, reading: Reading, group: Literal["retain", "outside"]) -> Bools:
    """Points of the units of one group, bool [n_points]."""
    return np.asarray(background.units["group"] == group)[reading.unit]


def outside_points(background: Evidence, reading: Reading) -> Bools:
    """Pairs that no system was trained on, bool [n_points].

    Raises:
        NotApplicableError: there are none: requests that name whole users or items, or data without a test part.
    """
    outside = points_of(background, reading, "outside")
    if not outside.any():
        raise NotApplicableError(
            "it needs a population of pairs that nobody was trained on: the test pairs of an interaction request"
        )
    return outside


def mean_over(reading: Reading, values: Floats, usable: Bools) -> Floats:
    """Mean over each unit's usable points, float64 [n_systems, n_units]; NaN for units without one or with a NaN."""
    count = np.bincount(reading.unit[usable], minlength=reading.n_units)
    return summed(reading, values, usable) / np.maximum(count, 1)
