"""From a matplotlib figure to an inline SVG: themed by CSS variables, labelled, reproducible."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from auditkit.reports import words

INK, MUTED, GRID, BAND, PAPER = "#1b1f24", "#5d6673", "#d5dbe1", "#dfe8f1", "#fefefe"
# Okabe and Ito's colours, told apart with every common colour blindness, less black and the pale yellow.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")

VARIABLES: Mapping[str, str] = {
    INK: "ink", MUTED: "muted", GRID: "grid", BAND: "band", PAPER: "paper",
    **{colour: f"series-{place}" for place, colour in enumerate(SERIES)},
}  # fmt: skip

STYLE: Mapping[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "auditkit",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.formatter.use_mathtext": False,
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "hatch.linewidth": 0.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 6,
}

_SVG, _XLINK = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"
_FONT = re.compile(r"(font(?:-family)?:[^;]*?)'DejaVu Sans'[^;]*")
_COORDINATE = re.compile(r"(\.\d{2})\d+")


def label(text: str, length: int = 24) -> str:
    """A name fit to be drawn: one line, no control characters, shortened with an ellipsis beyond `length`."""
    clean = " ".join(words.printable(text).split())
    return clean if len(clean) <= length else f"{clean[: length - 1]}…"


def draw(name: str, title: str, description: str, width: float, height: float, paint: Callable[[Figure], None]) -> str:
    """Paint a figure and return it as an `<svg>` element.

    Args:
        name: prefix of every id in it, so that several figures share a page; letters, digits and hyphens.
        title: what a screen reader calls it.
        description: what a screen reader says of it.
        width: inches.
        height: inches.
        paint: draws onto the figure it is given.

    Returns:
        The same bytes for the same picture: no date, no random ids.
    """
    with mpl.rc_context(dict(STYLE)), warnings.catch_warnings():
        # The reader's browser draws the text: a glyph that the measuring font lacks is no defect.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure)
        raw = io.BytesIO()
        figure.savefig(raw, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return _inline(raw.getvalue(), name, title, description)


def _inline(raw: bytes, name: str, title: str, description: str) -> str:
    root = ElementTree.fromstring(raw)  # noqa: S314 - matplotlib wrote it a line ago
    for child in [c for c in root if c.tag == f"{{{_SVG}}}metadata"]:
        root.remove(child)
    for defs in root.iter(f"{{{_SVG}}}defs"):
        for style in defs.findall(f"{{{_SVG}}}style"):
            defs.remove(style)
    for element in root.iter():
        element.attrib = {key: _attribute(key, value, name) for key, value in element.attrib.items()}
        if _XLINK in element.attrib:
            element.set("href", element.attrib.pop(_XLINK))
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
    return ElementTree.tostring(_labelled(root, name, title, description), encoding="unicode")


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == _XLINK:
        return value.replace("#", f"#{name}-")
    if key == "clip-path":
        return value.replace("url(#", f"url(#{name}-")
    if key == "style":
        return _themed(value).replace("url(#", f"url(#{name}-")
    return _COORDINATE.sub(r"\1", value) if key == "d" else value


def _themed(style: str) -> str:
    for colour, variable in VARIABLES.items():
        style = style.replace(colour, f"var(--{variable}, {colour})")
    return _FONT.sub(r"\1system-ui, sans-serif", style)


def _labelled(root: ElementTree.Element, name: str, title: str, description: str) -> ElementTree.Element:
    kept = {"viewBox": root.attrib["viewBox"], "width": root.attrib["width"], "height": root.attrib["height"]}
    root.attrib = {**kept, "role": "img", "class": "plot", "aria-labelledby": f"{name}-title {name}-desc"}
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        element.text = words.printable(text)
        root.insert(place, element)
    return root
