"""The figure of residual doses by popularity and by activity: one panel a system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from auditkit.record import Decile, Record, SystemEntry
from auditkit.reports import numbers, words
from auditkit.reports.marks import span_of, upright
from auditkit.reports.plates import Plate, Style, Table, legend
from auditkit.reports.svg import BAND, MUTED, SERIES, draw, label

# Side by side, so that a group of one kind never covers the other's.
APART = 0.16
STYLES: Mapping[str, Style] = {"popularity": Style(SERIES[0], "o"), "activity": Style(SERIES[1], "s", filled=False)}


def deciles(record: Record) -> Plate | None:
    """Dose of every group of every audited system; None where no system has groups."""
    grouped = [system for system in words.audited(record) if system.deciles]
    if not grouped:
        return None
    known = {group.by for system in grouped for group in system.deciles}
    return Plate(
        name="deciles",
        title=f"Dose by {' and '.join(by for by in STYLES if by in known)}",
        caption=words.CAPTIONS["deciles"],
        panels=tuple(_panel(place, system, record.policy.margin) for place, system in enumerate(grouped)),
        legend=legend("deciles", [(f"by {by}", style) for by, style in STYLES.items() if by in known], {}),
        table=_table(grouped),
        small=True,
    )


def _panel(place: int, system: SystemEntry, margin: float) -> str:
    about = "Residual dose of groups of forgotten units with intervals. The values are in the table below."

    def paint(figure: Figure) -> None:
        _paint(figure, system, margin)

    return draw(f"deciles-{place}", f"Dose by group of {system.name}", about, 2.8, 2.2, paint)


def _paint(figure: Figure, system: SystemEntry, margin: float) -> None:
    axes = figure.subplots()
    span = span_of([group.residual_dose.value for group in system.deciles])
    axes.axhspan(-margin, margin, color=BAND, zorder=0)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    kinds = {by: [group for group in system.deciles if group.by == by] for by in STYLES}
    shown = [by for by in STYLES if kinds[by]]
    for place, by in enumerate(shown):
        shift = APART * (2 * place - len(shown) + 1)
        for step, group in enumerate(kinds[by], 1):
            upright(axes, step + shift, group.residual_dose, STYLES[by], span)
    longest = max(map(len, kinds.values()))
    axes.set_title(label(system.name, 30), loc="left")
    axes.set(xlim=(0.4, longest + 0.6), ylim=span, xlabel="group, least to most", ylabel="dose")
    axes.set(xticks=[1, longest], yticks=[0, 0.5, 1])


def _table(grouped: Sequence[SystemEntry]) -> Table:
    columns = ("System", "Group", "Units", "Residual dose", "p (Holm)", "Remark")
    return Table(columns, tuple(_row(system, group) for system in grouped for group in system.deciles))


def _row(system: SystemEntry, group: Decile) -> tuple[str, ...]:
    remark = group.residual_dose.note or ("farthest from Gold" if group.worst else "")
    cells = (numbers.count(group.n_units), numbers.interval(group.residual_dose), numbers.p_value(group.p_value))
    return (system.name, words.group(group), *cells, remark)
