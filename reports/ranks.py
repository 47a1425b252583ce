"""Where the forgotten pairs stand in users' lists: quantiles of every system, and their way from original to Gold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from auditkit.record import RankShift, Record
from auditkit.reports import numbers, words
from auditkit.reports.plates import Plate, Style, Table, legend, line, role_of, series, styles
from auditkit.reports.svg import BAND, INK, SERIES, draw, label

# Drawn from the least to the most favoured pairs; the middle half is shaded.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
HALF = (0.25, 0.75)
STYLES: dict[float, Style] = {
    0.05: Style(SERIES[0], "v", (0, (1, 1))),
    0.25: Style(SERIES[0], "o", (0, (4, 1)), filled=False),
    0.5: Style(INK, "D"),
    0.75: Style(SERIES[1], "o", (0, (4, 1)), filled=False),
    0.95: Style(SERIES[1], "^", (0, (1, 1))),
}


def rank_shift(record: Record) -> Plate | None:
    """Quantiles of the percentile ranks of forgotten pairs, a curve a system; None where no ranks were read."""
    shifts = record.curves.rank_shift
    if not shifts:
        return None
    chosen = styles(record, [shift.system for shift in shifts])

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for place, shift in enumerate(shifts):
            series(axes, np.array(shift.quantiles), np.array(shift.rank), place, chosen[shift.system])
        axes.set(xlabel="share of the forgotten pairs", ylabel="percentile rank, 1 = top of the list")
        axes.set(xlim=(-0.02, 1.02))

    about = "Quantiles of the percentile rank of forgotten pairs. The values are in the table below."
    return Plate(
        name="ranks",
        title="Where the forgotten pairs rank",
        caption=words.CAPTIONS["ranks"],
        panels=(draw("ranks-all", "Rank shift", about, 6.6, 3.9, paint),),
        legend=legend("ranks", chosen.items(), {}),
        table=_quantiles(shifts),
    )


def _quantiles(shifts: Sequence[RankShift]) -> Table:
    wanted = sorted({quantile for shift in shifts for quantile in shift.quantiles})
    known = [dict(zip(shift.quantiles, shift.rank, strict=True)) for shift in shifts]
    cells = [(f"{at:.3g}", *(numbers.number(ranks.get(at)) for ranks in known)) for at in wanted]
    return Table(("Quantile", *(shift.system for shift in shifts)), tuple(cells))


def trajectories(record: Record) -> Plate | None:
    """Slopes from original over each audited system to Gold; None where one of the three has no ranks."""
    known = [(role_of(record, shift.system), shift) for shift in record.curves.rank_shift if shift.quantiles]
    audited = [shift for role, shift in known if role == "unlearned"]
    original, gold = dict(known).get("original"), dict(known).get("gold")
    if original is None or gold is None or not audited:
        return None
    return Plate(
        name="trajectories",
        title="The way of the forgotten pairs",
        caption=words.CAPTIONS["trajectories"],
        panels=tuple(_panel(place, (original, shift, gold)) for place, shift in enumerate(audited)),
        legend=legend("trajectories", [(_named(at), STYLES[at]) for at in reversed(QUANTILES)], {}),
        table=_ways(original, audited, gold),
        small=True,
    )


def _named(at: float) -> str:
    return "median" if at == 0.5 else f"{at:.0%} quantile"


def _at(shift: RankShift, quantiles: Sequence[float]) -> list[float]:
    return [float(rank) for rank in np.interp(quantiles, shift.quantiles, shift.rank)]


def _panel(place: int, way: tuple[RankShift, RankShift, RankShift]) -> str:
    about = "Quantiles of the percentile rank of forgotten pairs. The values are in the table below."
    name = way[1].system
    return draw(f"trajectories-{place}", f"Ranks on the way of {name}", about, 2.8, 2.3, lambda it: _paint(it, way))


def _paint(figure: Figure, way: tuple[RankShift, RankShift, RankShift]) -> None:
    axes: Axes = figure.subplots()
    steps = np.arange(len(way))
    low, high = np.array([_at(shift, HALF) for shift in way]).T
    axes.fill_between(steps, low, high, color=BAND, linewidth=0, zorder=0)
    for at in QUANTILES:
        ranks = [_at(shift, (at,))[0] for shift in way]
        axes.plot(steps, ranks, **{**line(STYLES[at]), "markersize": 4.5, "clip_on": False})
    axes.set_title(label(way[1].system, 30), loc="left")
    axes.set_xticks(steps, ["original", "audited", "Gold"])
    axes.set(xlim=(-0.15, 2.15), ylim=(0, 1), ylabel="percentile rank", yticks=[0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter("{x:g}")


def _ways(original: RankShift, audited: Sequence[RankShift], gold: RankShift) -> Table:
    rows = [
        (shift.system, _named(at), *(numbers.number(_at(it, (at,))[0]) for it in (original, shift, gold)))
        for shift in audited
        for at in reversed(QUANTILES)
    ]
    return Table(("System", "Of the forgotten pairs", "Original", "Audited", "Gold"), tuple(rows))
