"""The HTML report: one file, no network, whole without scripts, readable by people first."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from auditkit.errors import DataError
from auditkit.record import Record
from auditkit.reports import exposed, figures, numbers, units_file, words
from auditkit.reports.unit_rows import UnitRows, unit_rows
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
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return made


def leaves(options: Mapping[str, Any], head: str = "") -> Iterator[tuple[str, str]]:
    """Flatten nested options to (dotted name, text) pairs."""
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{head}{name}.")
        else:
            yield f"{head}{name}", "none" if value is None else str(value)


def render(record: Record, folder: Path | None = None) -> str:
    """The whole page; the same record and units give the same bytes.

    Args:
        record: what the audit concluded. Every text in it is escaped.
        folder: where the per-unit table lies that the record names. Without it, or where the table is absent or
            another one, the page says so and goes without.
    """
    plates = {plate.name: plate for plate in figures.plates(record)}
    units, absent = _units(record, folder)
    script = _asset("units.js") if units else ""
    page = environment().get_template("report.html.j2")
    return page.render(
        record=record,
        words=words,
        verdict=words.VERDICTS[record.verdict],
        systems=words.ordered(record.systems),
        exposed=exposed,
        plates=plates,
        units=units,
        absent=absent,
        # Not texts of the record: figures that were escaped when drawn, and files beside the template.
        inline=Markup,
        style=Markup(_asset("style.css")),  # noqa: S704
        script=Markup(script),  # noqa: S704
        allowed=_digest(script),
        metrics=list(dict.fromkeys(name for system in record.systems for name in system.utility)),
    )


def _units(record: Record, folder: Path | None) -> tuple[UnitRows | None, str]:
    """The lines of the page, or why there are none."""
    if record.units is None:
        return None, "This audit wrote no per-unit table."
    if folder is None:
        return None, f"This page was made without {record.units.path}, which lies beside the report."
    try:
        return unit_rows(record, units_file.read(folder, record.units)), ""
    except DataError as error:
        return None, f"Units are not listed: {error}."


def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    """What the page's content security policy must say for this inline script, and no other, to run; "" for none."""
    if not script:
        return ""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def write(record: Record, path: Path) -> None:
    """Write the page, with the units of the table that lies in the same folder.

    Whoever reads `path` meanwhile sees the old file or the new one, never a part.

    Raises:
        StoreError: the folder or the file cannot be written.
    """
    page = render(record, path.parent)
    replace_file(path, lambda draft: draft.write_text(page, encoding="utf-8"))
