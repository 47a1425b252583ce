"""The HTML report: one file, no network, no scripts, readable by people first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from auditkit.record import Record
from auditkit.reports import figures, numbers, words
from auditkit.writing import replace_file

TEMPLATES = Path(__file__).parent / "templates"
FILTERS = (
    *(
        numbers.number,
        numbers.signed,
        numbers.bounds,
        numbers.interval,
        numbers.p_value,
        numbers.least_p,
        numbers.percent,
        numbers.ratio,
    ),
    *(numbers.count, numbers.counted, numbers.seconds, numbers.parts, numbers.size, numbers.short),
    *(words.found, words.notes, words.standing),
)


def _finalize(value: object) -> object:
    return words.printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def environment() -> Environment:
    """The templates, escaping everything, with the wording of numbers as filters."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    made.filters.update({chosen.__name__: chosen for chosen in FILTERS})
    made.filters["leaves"] = leaves
    return made


def leaves(options: Mapping[str, Any], head: str = "") -> Iterator[tuple[str, str]]:
    """Flatten nested options to (dotted name, text) pairs."""
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{head}{name}.")
        else:
            yield f"{head}{name}", "none" if value is None else str(value)


def render(record: Record) -> str:
    """The whole page; the same record gives the same bytes.

    Args:
        record: what the audit concluded. Every text in it is escaped.
    """
    plates = {plate.name: plate for plate in figures.plates(record)}
    page = environment().get_template("report.html.j2")
    return page.render(
        record=record,
        words=words,
        verdict=words.VERDICTS[record.verdict],
        systems=words.ordered(record.systems),
        plates=plates,
        # Not texts of the record: figures that were escaped when drawn, and a file beside the template.
        inline=Markup,
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),  # noqa: S704
        metrics=list(dict.fromkeys(name for system in record.systems for name in system.utility)),
    )


def write(record: Record, path: Path) -> None:
    """Write the page; whoever reads `path` meanwhile sees the old file or the new one, never a part.

    Raises:
        StoreError: the folder or the file cannot be written.
    """
    page = render(record)
    replace_file(path, lambda draft: draft.write_text(page, encoding="utf-8"))
