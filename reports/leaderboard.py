"""Several audits on one page: ranks, and what forgetting costs in recommendations and saves in time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import CARETDOWN, CARETLEFT, CARETRIGHT, CARETUP
from matplotlib.ticker import NullFormatter

from auditkit.comparison import DEPTH, QUANTITIES, RECALL, SPEEDUP, Comparison, Group, Rank, Row, Yardstick
from auditkit.record import Estimate
from auditkit.reports import html, numbers, words
from auditkit.reports.marks import ends, look, span_of
from auditkit.reports.plates import GOLD, MARKERS, ORIGINAL, Dashes, Plate, Style, Table, legend
from auditkit.reports.svg import BAND, MUTED, SERIES, draw, label
from auditkit.writing import replace_file

Span = tuple[float, float]

WIDTH, HEIGHT = 5.2, 4.0
DASHES: tuple[Dashes, ...] = ("-", (0, (4, 1)), (0, (1, 1)))
FASTEST = (1e-4, 1e9)
CAPTIONS = {
    "tradeoff": (
        "What forgetting costs: depth of forgetting against the change of Recall@20 to the mean Gold, with intervals. "
        "Golds stand at the crossing of the bands: the one across is the margin below a depth of 1, the upright one "
        "holds 95% of further Golds. The original has depth 0. A mark at the edge that is an arrow lies beyond it."
    ),
    "speedup": (
        "What forgetting saves: Gold's training time over the method's time for one request, with intervals, on a "
        "logarithmic axis. Left of the line it costs more than training again."
    ),
}


def render(comparison: Comparison) -> str:
    """The whole page, self-contained; the same comparison gives the same bytes, and every text is escaped."""
    chosen = styles(comparison)
    page = html.environment().get_template("leaderboard.html.j2")
    return page.render(
        comparison=comparison,
        groups=[(group, figures(place, group, chosen)) for place, group in enumerate(comparison.groups, 1)],
        n_systems=sum(len(group.rows) for group in comparison.groups),
        quantities=QUANTITIES,
        places=places,
        words=words,
        inline=Markup,
        style=Markup((html.TEMPLATES / "style.css").read_text(encoding="utf-8")),  # noqa: S704
    )


def write(comparison: Comparison, path: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        StoreError: the folder or the file cannot be written.
    """
    page = render(comparison)
    replace_file(path, lambda draft: draft.write_text(page, encoding="utf-8"))


def places(rank: Rank | None) -> str:
    """A rank in words, such as `1` or `2 to 4`."""
    if rank is None:
        return "not ranked"
    return f"{rank.best}" if rank.best == rank.worst else f"{rank.best} to {rank.worst}"


def summary(comparison: Comparison) -> str:
    """The leaderboard as plain text for a terminal, one table a group."""
    parts = [*comparison.notes, *(_plain(group) for group in comparison.groups)]
    return words.printable("\n\n".join(parts)) + "\n"


def _plain(group: Group) -> str:
    setting = group.setting
    asked = f"{setting.regime} request {numbers.short(setting.request_digest)}"
    title = f"{setting.dataset}, {asked}, read by {setting.primary}"
    header = ("rank", "system", "backbone", "verdict", "depth", "recall@20 delta", "speedup", "audit")
    rows = [header, *(_plain_row(row) for row in group.rows)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([label(title, 400), *lines, *(f"note: {note}" for note in group.notes)])


def _plain_row(row: Row) -> tuple[str, ...]:
    return (
        places(row.ranks[DEPTH]), label(row.name, 40), label(row.backbone, 24), row.verdict or "not judged",
        numbers.interval(row.values[DEPTH]), numbers.interval(row.values[RECALL], 4),
        numbers.ratio(row.values[SPEEDUP]), str(row.source),
    )  # fmt: skip


def styles(comparison: Comparison) -> dict[str, Style]:
    """One style per method, the same in every figure of the page."""
    names = sorted({row.name for group in comparison.groups for row in group.rows})
    return {name: _style(place) for place, name in enumerate(names)}


def _style(place: int) -> Style:
    # Colours, markers, dashes and filling repeat after 6, 12, 18 and 24 methods: 72 look different.
    dashes = DASHES[place // len(SERIES) % len(DASHES)]
    filled = place // len(MARKERS) % 2 == 0
    return Style(SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)], dashes, filled)


def figures(place: int, group: Group, chosen: Mapping[str, Style]) -> list[Plate]:
    """The trade-off and the speedup of one group, where anything was measured; `place` keeps ids apart."""
    made = (_tradeoff(place, group, chosen), _speedups(place, group, chosen))
    return [plate for plate in made if plate is not None]


# Trade-off


def _tradeoff(place: int, group: Group, chosen: Mapping[str, Style]) -> Plate | None:
    drawn = [row for row in group.rows if _known(row, DEPTH) and _known(row, RECALL)]
    if not drawn:
        return None
    name = f"tradeoff-{place}"
    span = _recall_span([row.values[RECALL] for row in drawn], group.yardsticks)
    backbones = sorted({row.backbone for row in drawn})
    panels = [_tradeoff_panel(f"{name}-{k}", b, drawn, group, chosen, span) for k, b in enumerate(backbones)]
    systems = [(n, chosen[n]) for n in dict.fromkeys(row.name for row in drawn)]
    return Plate(
        name=name,
        title="Forgetting against recommending",
        caption=CAPTIONS["tradeoff"],
        panels=tuple(panels),
        legend=legend(name, [*systems, ("original", ORIGINAL), ("Gold", GOLD)], {}),
        table=_table(group.rows, {"Recall@20 delta": RECALL, "Forgetting depth": DEPTH}),
    )


def _known(row: Row, quantity: str) -> bool:
    return row.values[quantity].value is not None


def _recall_span(deltas: Sequence[Estimate], yardsticks: Sequence[Yardstick]) -> Span:
    """Of all panels; one reading far from the others becomes an arrow instead of pressing them together."""
    golds = [y.gold_recall for y in yardsticks]
    every = [*deltas, *golds, *(y.original_recall for y in yardsticks)]
    known = [end for it in every for end in (it.value, it.low, it.high) if end is not None]
    usual = float(np.median([abs(it.value or 0.0) for it in deltas]))
    reach = min(max(8 * usual, *(6 * (it.high or 0.0) for it in golds), 0.005), 1.0)
    low, high = np.clip([min([0.0, *known]), max([0.0, *known])], -reach, reach)
    room = max(0.06 * (high - low), 0.002)
    return float(low - room), float(high + room)


def _tradeoff_panel(
    name: str, backbone: str, drawn: Sequence[Row], group: Group, chosen: Mapping[str, Style], span: Span
) -> str:
    rows = [row for row in drawn if row.backbone == backbone]
    yardsticks = [it for it in group.yardsticks if it.backbone == backbone]
    shown = [row.values[DEPTH] for row in drawn]
    depths = (span_of([end for it in shown for end in (it.value, it.low)])[0], 1.08)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        _bands(axes, yardsticks)
        _yardsticks(axes, yardsticks, span, depths)
        for row in rows:
            _cross(axes, row.values[RECALL], row.values[DEPTH], chosen[row.name], span, depths)
        axes.set_title(label(backbone, 40), loc="left")
        axes.set(xlim=span, ylim=depths, xlabel="Recall@20, difference to the mean Gold", ylabel="forgetting depth")

    deepest = rows[0].name
    about = (
        f"{numbers.counted(len(rows), 'system')} on {backbone}; Gold is at depth 1 and difference 0, the original at "
        f"depth 0. Deepest: {deepest}. The values are in the table below."
    )
    return draw(name, f"Forgetting depth against recall, {backbone}", about, WIDTH, HEIGHT, paint)


def _bands(axes: Axes, yardsticks: Sequence[Yardstick]) -> None:
    """The narrowest margin, and the widest of the Golds' bands."""
    axes.axhspan(1 - min(it.margin for it in yardsticks), 1, color=BAND, zorder=0)
    known = [it.gold_recall for it in yardsticks if it.gold_recall.low is not None]
    if known:
        low, high = min(it.low or 0.0 for it in known), max(it.high or 0.0 for it in known)
        axes.axvspan(low, high, facecolor="none", edgecolor=MUTED, hatch="////", linewidth=0, alpha=0.6, zorder=0)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.axhline(1, color=MUTED, linewidth=0.8)


def _yardsticks(axes: Axes, yardsticks: Sequence[Yardstick], span: Span, depths: Span) -> None:
    _cross(axes, Estimate(value=0.0), Estimate(value=1.0), GOLD, span, depths)
    for it in yardsticks:
        _cross(axes, it.original_recall, Estimate(value=0.0), ORIGINAL, span, depths)


def _cross(axes: Axes, across: Estimate, upright: Estimate, style: Style, xspan: Span, yspan: Span) -> None:
    """A mark with both intervals, held within the axes; nothing where a value is missing."""
    if across.value is None or upright.value is None:
        return
    x, left, right = ends(across, xspan)
    y, low, high = ends(upright, yspan)
    lines: dict[str, Any] = {"color": style.colour, "linestyle": style.dashes, "linewidth": 1.1}
    axes.plot([left, right], [y, y], **lines)
    axes.plot([x, x], [low, high], **lines)
    beyond = not xspan[0] <= across.value <= xspan[1]
    mark = look(across, style, xspan, (CARETLEFT, CARETRIGHT)) if beyond else None
    axes.plot([x], [y], **(mark or look(upright, style, yspan, (CARETDOWN, CARETUP))))


# Speedup


def _speedups(place: int, group: Group, chosen: Mapping[str, Style]) -> Plate | None:
    drawn = [row for row in group.rows if _known(row, SPEEDUP)]
    if not drawn:
        return None
    name = f"speedup-{place}"
    tall = 0.9 + 0.28 * max(len(drawn), 3)
    about = (
        f"{numbers.counted(len(drawn), 'system')} on a logarithmic axis; 1 is as dear as training again. "
        "The values are in the table below."
    )
    panel = draw(name, "Speedup over Gold", about, WIDTH, tall, lambda figure: _speedup_axes(figure, drawn, chosen))
    return Plate(
        name=name,
        title="Speedup",
        caption=CAPTIONS["speedup"],
        panels=(panel,),
        legend=(),
        table=_table(group.rows, {"Speedup over Gold": SPEEDUP}),
    )


def _speedup_axes(figure: Figure, drawn: Sequence[Row], chosen: Mapping[str, Style]) -> None:
    axes = figure.subplots()
    axes.axvline(1, color=MUTED, linewidth=0.9, linestyle="--")
    for line, row in enumerate(drawn):
        style, estimate = chosen[row.name], row.values[SPEEDUP]
        value, low, high = ends(estimate, FASTEST)
        axes.plot([low, high], [line, line], color=style.colour, linestyle=style.dashes)
        axes.plot([value], [line], **look(estimate, style, FASTEST, (CARETLEFT, CARETRIGHT)))
    several = len({row.backbone for row in drawn}) > 1
    named = [f"{label(row.name, 22)}, {label(row.backbone, 12)}" if several else label(row.name, 28) for row in drawn]
    axes.set_yticks(range(len(drawn)), named)
    axes.set(xscale="log", ylim=(len(drawn) - 0.4, -0.6), xlabel="Gold's training time over the time per request")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", left=False)
    axes.spines["left"].set_visible(False)
    _room(axes)


def _room(axes: Axes) -> None:
    """At least one decade, so that a logarithmic axis has ticks to be read by."""
    low, high = axes.get_xlim()
    missing = max(1.2 - math.log10(high / low), 0) / 2
    axes.set_xlim(low / 10**missing, high * 10**missing)


def _table(rows: Sequence[Row], quantities: Mapping[str, str]) -> Table:
    return Table(
        ("System", "Backbone", "Audit", *quantities),
        tuple(
            (row.name, row.backbone, str(row.source), *(_cell(row.values[q], q) for q in quantities.values()))
            for row in rows
        ),
    )


def _cell(estimate: Estimate, quantity: str) -> str:
    if estimate.value is None:
        return f"{numbers.NOT_MEASURED}{': ' + estimate.note if estimate.note else ''}"
    return numbers.ratio(estimate) if quantity == SPEEDUP else numbers.interval(estimate, 4)
