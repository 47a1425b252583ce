"""What a figure of a report consists of, and how systems are told apart in all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from auditkit.record import Record, Role
from auditkit.reports import words
from auditkit.reports.svg import INK, MUTED, PAPER, SERIES, draw

MARKERS = "os^DvPX<>*ph"
Array = npt.NDArray[np.float64]
Dashes = str | tuple[int, tuple[int, ...]]


@dataclass(frozen=True)
class Style:
    """How one system is drawn in every figure: colour, marker and dashes, so that no colour is needed."""

    colour: str
    marker: str
    dashes: Dashes = "-"
    filled: bool = True


@dataclass(frozen=True)
class Legend:
    """One entry of a figure's legend: an SVG swatch, a name and a remark."""

    swatch: str
    name: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """What a figure draws, as text cells."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Plate:
    """A figure ready for a page.

    Attributes:
        name: an id; letters, digits and hyphens.
        title, caption: plain words.
        panels: `<svg>` elements; they may stand side by side or below one another.
        legend: shared by the panels.
        table: the drawn values.
        small: panels are small multiples.
    """

    name: str
    title: str
    caption: str
    panels: tuple[str, ...]
    legend: tuple[Legend, ...]
    table: Table
    small: bool = False


ORIGINAL = Style(INK, "D", (0, (5, 2)))
GOLD = Style(MUTED, "o", (0, (1, 1)))
FIXED: Mapping[str, Style] = {
    "original": ORIGINAL,
    "gold": GOLD,
    "reference": Style(MUTED, "^", "-.", filled=False),
    "control": Style(MUTED, "s", "--", filled=False),
    "step": Style(INK, "P", ":", filled=False),
}

YARDSTICKS: Mapping[str, str] = {
    "original": "original", "gold": "Golds", "reference": "references", "control": "controls",
    "step": "earlier requests of a chain",
}  # fmt: skip


def role_of(record: Record, name: str) -> Role:
    """The role of the system that a curve names; curves may also name the Golds or originals together."""
    # Audited systems last: one that is called like a yardstick is still the one that is judged.
    known = {system.name: system.role for system in reversed(words.ordered(record.systems))}
    together: Role = "gold" if name.lower().startswith("gold") else "original"
    return known.get(name, together)


def styles(record: Record, names: Sequence[str]) -> dict[str, Style]:
    """One style per name; audited systems keep theirs in every figure."""
    order = {system.name: place for place, system in enumerate(words.audited(record))}
    return {name: _series(order[name]) if name in order else FIXED.get(role_of(record, name), GOLD) for name in names}


def _series(place: int) -> Style:
    dashes = ("-", (0, (4, 1)), (0, (6, 1, 1, 1)))
    return Style(SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)], dashes[place // len(SERIES) % len(dashes)])


def swatch(name: str, style: Style) -> str:
    """A short line with its marker, as `<svg>` whose ids start with `name`."""
    return _swatch(style).replace("swatch-", f"{name}-")


@cache
def _swatch(style: Style) -> str:

    def paint(figure: Figure) -> None:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.plot([0, 1, 2], [0, 0, 0], markevery=[1], **line(style))
        axes.set(xlim=(-0.1, 2.1), ylim=(-1, 1))

    return draw("swatch", "Swatch", "line and marker of this entry", 0.42, 0.2, paint).replace(
        'role="img"', 'role="presentation" aria-hidden="true"'
    )


def line(style: Style) -> dict[str, Any]:
    """What matplotlib's `plot` needs to draw a line in this style."""
    return {"color": style.colour, "linestyle": style.dashes, **marker(style)}


def marker(style: Style) -> dict[str, Any]:
    """What matplotlib's `plot` needs to draw a single mark in this style."""
    face = style.colour if style.filled else PAPER
    return {"marker": style.marker, "color": style.colour, "markerfacecolor": face}


def series(axes: Axes, x: Array, y: Array, place: int, style: Style) -> None:
    """One of several lines; its marks are shifted by its place so that lines that coincide stay countable."""
    step = max(len(x) // 4, 1)
    axes.plot(x, y, markevery=(place * step // 6 % step, step), markersize=5, **line(style))


def legend(figure: str, chosen: Iterable[tuple[str, Style]], note: Mapping[str, str]) -> tuple[Legend, ...]:
    """Legend entries in the order of `chosen`; `figure` makes their ids unique on a page."""
    return tuple(
        Legend(swatch(f"{figure}-swatch-{place}", style), name, note.get(name, ""))
        for place, (name, style) in enumerate(chosen)
    )
