"""Tables as text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def number(value: float, digits: int = 3) -> str:
    """A number, `-` where it is undefined."""
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"


def spanned(values: ArrayLike) -> str:
    """The mean, with the lowest and highest where there are several."""
    array = np.asarray(values, np.float64)
    middle = number(float(array.mean()))
    return middle if len(array) == 1 else f"{middle} ({number(float(array.min()))} .. {number(float(array.max()))})"


def share(alarms: ArrayLike) -> str:
    """How many of all, as a rate."""
    array = np.asarray(alarms, bool)
    return f"{array.mean():.2f}"


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose columns are as wide as they must be."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    print(f"\n{title}\n")
    for k, line in enumerate(lines):
        first, *rest = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        print("  ".join([first, *rest]).rstrip())
        if k == 0:
            print("  ".join("-" * width for width in widths))
