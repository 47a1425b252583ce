"""How a reading with its interval is drawn on a dose axis: held within the axis, an arrow where it lies beyond."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.markers import CARETDOWN, CARETUP

from auditkit.record import Estimate
from auditkit.reports.plates import Style, marker

Array = npt.NDArray[np.float64]

FARTHEST = (-0.6, 1.6)


def span_of(values: Sequence[float | None]) -> tuple[float, float]:
    """The ends of a dose axis that shows 0, 1 and the values, within reason."""
    known = [value for value in values if value is not None]
    return max(min([-0.15, *known]) - 0.05, FARTHEST[0]), min(max([1.15, *known]) + 0.05, FARTHEST[1])


def ends(estimate: Estimate, span: tuple[float, float]) -> Array:
    """Value, low and high, held within the axis; a missing end is the value itself."""
    whole = (estimate.value, estimate.low, estimate.high)
    return np.clip([estimate.value if end is None else end for end in whole], *span).astype(np.float64)


def look(estimate: Estimate, style: Style, span: tuple[float, float], arrows: tuple[int, int]) -> dict[str, Any]:
    """The mark of a reading; one of `arrows` (below, above) where it lies beyond the axis."""
    plain = {**marker(style), "linestyle": "", "clip_on": False}
    value = estimate.value or 0.0
    if span[0] <= value <= span[1]:
        return plain
    return {**plain, "marker": arrows[0] if value < span[0] else arrows[1]}


def upright(axes: Axes, x: float, estimate: Estimate, style: Style, span: tuple[float, float]) -> None:
    """A mark with a vertical interval; nothing where there is no value."""
    if estimate.value is None:
        return
    value, low, high = ends(estimate, span)
    axes.plot([x, x], [low, high], color=style.colour, linewidth=1.1)
    axes.plot([x], [value], **look(estimate, style, span, (CARETDOWN, CARETUP)))
