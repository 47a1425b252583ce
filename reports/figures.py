"""The figures of a report: SVG panels, a legend and a table each. Nothing statistical is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import CARETLEFT, CARETRIGHT
from matplotlib.ticker import NullFormatter

from auditkit.record import Estimate, Histogram, Record, RocCurve, Rung, SystemEntry
from auditkit.reports import numbers, words
from auditkit.reports.groups import deciles
from auditkit.reports.marks import ends, look, span_of, upright
from auditkit.reports.plates import (
    FIXED,
    GOLD,
    YARDSTICKS,
    Plate,
    Style,
    Table,
    legend,
    role_of,
    series,
    styles,
)
from auditkit.reports.ranks import rank_shift, trajectories
from auditkit.reports.svg import BAND, INK, MUTED, draw, label

Array = npt.NDArray[np.float64]

WIDTH, HEIGHT = 4.7, 3.9
RATES = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5)
POINTS = 161
PLAIN = "{x:g}"


def plates(record: Record) -> list[Plate]:
    """Every figure that the record has the data for, in reading order."""
    made = [make(record) for make in (dose_ladder, deciles, roc, histograms, rank_shift, trajectories)]
    return [plate for plate in made if plate is not None]


# Dose ladder


def dose_ladder(record: Record) -> Plate | None:
    """True against read dose of systems with a known dose, and where the audited systems read."""
    audited = words.audited(record)
    known = [rung for rung in record.ladder if rung.dose_true is not None and rung.dose_read is not None]
    panels = {"ladder": _ladder_panel(record, known)} if known else {}
    if any(_measured(system) for system in audited):
        panels["readings"] = _readings_panel(record)
    if not panels:
        return None
    yardsticks = [(YARDSTICKS[role], FIXED[role]) for role in FIXED if any(rung.role == role for rung in known)]
    chosen = [*yardsticks, *((system.name, style) for system, style in _styled(record))]
    return Plate(
        name="dose",
        title="Dose ladder and readings",
        caption=" ".join(words.CAPTIONS[panel] for panel in panels),
        panels=tuple(panels.values()),
        legend=legend("dose", chosen, {}),
        table=_rungs(record),
    )


def _measured(system: SystemEntry) -> bool:
    return any(it.value is not None for it in (system.residual_dose, system.pattern, system.spread))


def _ladder_panel(record: Record, known: Sequence[Rung]) -> str:
    about = f"True dose against the dose that {record.policy.primary} reads. The values are in the table below."
    return draw("ladder", "Dose ladder", about, WIDTH, HEIGHT, lambda figure: _ladder(figure, record, known))


def _readings_panel(record: Record) -> str:
    about = "Level, pattern and spread of every audited system with intervals. The values are in the score card."
    tall = max(HEIGHT, 1.1 + 0.3 * len(words.audited(record)))
    return draw("readings", "Readings", about, WIDTH, tall, lambda figure: _readings(figure, record))


def _rungs(record: Record) -> Table:
    columns = ("System", "Role", "True dose (effective)", "Share of units held", "Dose read")
    return Table(columns, tuple(_rung(rung) for rung in record.ladder))


def _rung(rung: Rung) -> tuple[str, ...]:
    true = numbers.number(rung.dose_true) if rung.dose_true is not None else "unknown"
    held = numbers.number(rung.dose_units) if rung.dose_units is not None else "unknown"
    return (rung.name or rung.role, rung.role, true, held, numbers.interval(_reading(rung)))


def _reading(rung: Rung) -> Estimate:
    return Estimate(value=rung.dose_read, low=rung.low, high=rung.high)


def _ladder(figure: Figure, record: Record, known: Sequence[Rung]) -> None:
    audited = words.audited(record)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3.4, 1))
    span = span_of([rung.dose_read for rung in known] + [system.residual_dose.value for system in audited])
    left.plot(span, span, color=MUTED, linewidth=0.9, linestyle="--")
    for rung in known:
        if rung.dose_true is not None:
            upright(left, rung.dose_true, _reading(rung), FIXED.get(rung.role, GOLD), span)
    for place, (system, style) in enumerate(_styled(record)):
        upright(right, place, system.residual_dose, style, span)
    for axes in (left, right):
        axes.axhspan(-record.policy.margin, record.policy.margin, color=BAND, zorder=0)
    left.set(xlim=span_of([rung.dose_true for rung in known]), ylim=span)
    left.set(xlabel="true dose", ylabel="dose read by the primary attack")
    right.set(xlim=(-0.7, max(len(audited) - 0.3, 0.7)), xticks=[], xlabel="audited")
    right.tick_params(left=False)


def _styled(record: Record) -> list[tuple[SystemEntry, Style]]:
    audited = words.audited(record)
    chosen = styles(record, [system.name for system in audited])
    return [(system, chosen[system.name]) for system in audited]


def _readings(figure: Figure, record: Record) -> None:
    kinds = (("residual_dose", "level L"), ("pattern", "pattern P"), ("spread", "spread ρ"))
    audited = words.audited(record)
    for axes, (field, title) in zip(figure.subplots(1, 3, sharey=True), kinds, strict=True):
        rows = [(getattr(system, field), style) for system, style in _styled(record)]
        _reading_column(axes, rows, record.policy.margin)
        axes.set_title(title)
        axes.set_yticks(range(len(audited)), [label(system.name, 20) for system in audited])
    figure.supxlabel("0 = like Gold, 1 = like the original", fontsize=8.5, color=INK)


def _reading_column(axes: Axes, rows: Sequence[tuple[Estimate, Style]], margin: float) -> None:
    span = span_of([estimate.value for estimate, _ in rows])
    axes.axvspan(-margin, margin, color=BAND, zorder=0)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    for row, (estimate, style) in enumerate(rows):
        _level(axes, row, estimate, style, span)
    axes.set(xlim=span, ylim=(len(rows) - 0.4, -0.6), xticks=[0, 0.5, 1])
    axes.xaxis.set_major_formatter(PLAIN)
    axes.tick_params(axis="y", left=False)
    axes.spines["left"].set_visible(False)


def _level(axes: Axes, row: int, estimate: Estimate, style: Style, span: tuple[float, float]) -> None:
    if estimate.value is None:
        axes.text(sum(span) / 2, row, "not measured", ha="center", va="center", fontsize=7, color=MUTED)
        return
    value, low, high = ends(estimate, span)
    axes.plot([low, high], [row, row], color=style.colour)
    axes.plot([value], [row], **look(estimate, style, span, (CARETLEFT, CARETRIGHT)))


# ROC


def roc(record: Record) -> Plate | None:
    """ROC of unit scores against the Golds', on logarithmic and on linear axes."""
    curves = record.curves.roc
    if not curves:
        return None
    chosen = styles(record, [curve.system for curve in curves])
    areas = {curve.system: _auc(record, curve.system) for curve in curves}
    return Plate(
        name="roc",
        title="Unit scores against Gold",
        caption=words.CAPTIONS["roc"],
        panels=(
            _roc_panel("logarithmic", lambda axes: _roc_logarithmic(axes, curves, chosen)),
            _roc_panel("linear", lambda axes: _roc_linear(axes, curves, chosen)),
        ),
        legend=legend("roc", chosen.items(), {name: f"AUC {area}" for name, area in areas.items() if area}),
        table=_rates(curves, areas),
    )


def _roc_panel(kind: str, paint: Callable[[Axes], None]) -> str:
    def painted(figure: Figure) -> None:
        axes = figure.subplots()
        paint(axes)
        axes.set_title(f"{kind} axes", loc="left")
        axes.set(xlabel="false-positive rate", ylabel="true-positive rate")

    about = "True-positive against false-positive rate. The values are in the table below."
    return draw(f"roc-{kind}", f"ROC, {kind} axes", about, WIDTH, HEIGHT, painted)


def _auc(record: Record, name: str) -> str:
    """The AUC with its interval that the primary finding of this system states; "" where there is none."""
    stated = (f.auc for s in record.systems if s.name == name for f in s.findings if f.primary)
    auc = next(stated, Estimate())
    return "" if auc.value is None else numbers.interval(auc)


def height(curve: RocCurve, at: Array) -> Array:
    """True-positive rates of a curve at given false-positive rates: the top of every vertical step."""
    fpr, tpr = np.asarray(curve.fpr), np.asarray(curve.tpr)
    last = np.append(fpr[1:] != fpr[:-1], True)
    return np.asarray(np.interp(at, fpr[last], tpr[last]), np.float64)


def _roc_logarithmic(axes: Axes, curves: Sequence[RocCurve], chosen: Mapping[str, Style]) -> None:
    floor = 1 / max(1, min(curve.n_negative for curve in curves))
    lowest = floor / 3
    grid = np.geomspace(lowest, 1, POINTS)
    axes.axvspan(lowest, floor, facecolor="none", edgecolor=MUTED, hatch="////", linewidth=0, alpha=0.55)
    axes.plot(grid, grid, color=MUTED, linewidth=0.9, linestyle="--")
    for place, curve in enumerate(curves):
        series(axes, grid, np.maximum(height(curve, grid), lowest), place, chosen[curve.system])
    axes.set(xscale="log", yscale="log", xlim=(lowest, 1.05), ylim=(lowest, 1.15))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PLAIN)
        axis.set_minor_formatter(NullFormatter())


def _roc_linear(axes: Axes, curves: Sequence[RocCurve], chosen: Mapping[str, Style]) -> None:
    grid = np.linspace(0, 1, POINTS)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle="--")
    for place, curve in enumerate(curves):
        series(axes, grid, height(curve, grid), place, chosen[curve.system])
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))


def _rates(curves: Sequence[RocCurve], areas: Mapping[str, str]) -> Table:
    columns = ("System", "AUC", *(f"TPR at FPR {rate:g}" for rate in RATES), "forgotten units", "Gold units")
    return Table(columns, tuple(_rate_row(curve, areas[curve.system]) for curve in curves))


def _rate_row(curve: RocCurve, auc: str) -> tuple[str, ...]:
    tprs = zip(RATES, height(curve, np.array(RATES)), strict=True)
    cells = [numbers.number(tpr) if rate * curve.n_negative >= 1 else "not measurable" for rate, tpr in tprs]
    sizes = (numbers.count(curve.n_positive), numbers.count(curve.n_negative))
    return (curve.system, auc or numbers.NOT_MEASURED, *cells, *sizes)


# Histograms of unit scores


def histograms(record: Record) -> Plate | None:
    """Unit scores on the forget set: every audited system between the Golds and the original."""
    drawn = record.curves.histograms
    if not drawn:
        return None
    chosen = styles(record, [h.system for h in drawn])
    backdrop = [h for h in drawn if role_of(record, h.system) != "unlearned"]
    subjects: list[Histogram | None] = [h for h in drawn if role_of(record, h.system) == "unlearned"]
    panels = [
        _score_panel(place, backdrop, subject, chosen, max(max(h.density, default=0.0) for h in drawn))
        for place, subject in enumerate(subjects or [None])
    ]
    return Plate(
        name="scores",
        title="Scores of the forgotten units",
        caption=words.CAPTIONS["scores"],
        panels=tuple(panels),
        legend=legend("scores", chosen.items(), {}),
        table=_bins(drawn),
        small=True,
    )


def _score_panel(
    place: int,
    backdrop: Sequence[Histogram],
    subject: Histogram | None,
    chosen: Mapping[str, Style],
    top: float,
) -> str:
    name = subject.system if subject else "systems to compare with"

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for other in backdrop:
            _stairs(axes, other, chosen[other.system])
        if subject is not None:
            _stairs(axes, subject, chosen[subject.system])
        axes.set_title(label(name, 30), loc="left")
        axes.set(xlabel="unit score", ylabel="density", ylim=(0, 1.05 * top or 1))

    about = "Density of the primary attack's unit scores. The values are in the table below."
    return draw(f"scores-{place}", f"Unit scores of {name}", about, 2.8, 2.2, paint)


def _stairs(axes: Axes, histogram: Histogram, style: Style) -> None:
    if style is GOLD:
        axes.stairs(histogram.density, histogram.edges, fill=True, color=style.colour, alpha=0.3)
    axes.stairs(histogram.density, histogram.edges, color=style.colour, linestyle=style.dashes, linewidth=1.4)


def _bins(drawn: Sequence[Histogram]) -> Table:
    cells = [
        (f"{low:.3g} to {high:.3g}", *(numbers.number(h.density[place]) for h in drawn))
        for place, (low, high) in enumerate(pairwise(drawn[0].edges))
    ]
    return Table(("Unit score", *(h.system for h in drawn)), tuple(cells))
