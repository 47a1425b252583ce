"""A Record's numbers as CSV (RFC 4180): one row a system, or one row a unit."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from auditkit.errors import DataError
from auditkit.record import Estimate, Record, SystemEntry
from auditkit.reports import units_file, words

# What a spreadsheet would take for a formula.
_FORMULA = re.compile(r"^[=+\-@]")
FACTS = ("name", "role", "method", "label", "backbone", "dataset", "regime", "verdict", "runs", "reasons")
READINGS = ("depth", "residual_dose", "pattern", "spread")
COSTS = (
    "train_s", "unlearn_s", "cpu_s", "peak_bytes", "machine", "solo", "requests", "total_s", "n_pieces",
    "slowest_piece_s", "mean_piece_s",
)  # fmt: skip


def text(raw: str) -> str:
    """Any text as one line; control characters become `?`, and what a spreadsheet would compute starts with `'`."""
    line = " ".join(words.printable(raw).split())
    return f"'{line}" if _FORMULA.match(line) else line


def systems(record: Record) -> str:
    """The score card as CSV, audited systems first.

    Columns: name, role, method, label, backbone, dataset, regime, verdict, runs and reasons; then `X`, `X_low`,
    `X_high` and `X_note` for depth, residual_dose, pattern, spread, every utility metric M, its `M_delta` to the mean
    Gold, and speedup; then costs (seconds, bytes). An empty cell was not measured; the note says why.
    """
    metrics = list(dict.fromkeys(name for system in record.systems for name in system.utility))
    rows = [_system(record, system, metrics) for system in words.ordered(record.systems)]
    return _csv((_header(metrics), *rows))


def units(report: Path) -> str:
    """units.parquet beside a report as CSV: the columns of the file, one row a unit, empty where not measured.

    Args:
        report: report.json. The file that it names must lie beside it and have the digest that it states.

    Raises:
        DataError: the report names no such file, or the file is absent, another one, or not Parquet.
    """
    stated = Record.read(report).units
    if stated is None:
        raise DataError(f"{report} names no per-unit table: its audit wrote none; audit again with --out")
    table = units_file.read(report.parent, stated)
    table.columns = pd.Index([text(str(column)) for column in table.columns])
    for column in table.select_dtypes(include=["object", "string"]).columns:
        table[column] = [text(cell) if isinstance(cell, str) else cell for cell in table[column]]
    written: str = table.to_csv(index=False, lineterminator="\r\n")
    return written


def _header(metrics: Sequence[str]) -> list[str]:
    measured = [*READINGS, *(text(f"{m}{part}") for m in metrics for part in ("", "_delta")), "speedup"]
    ends = [f"{name}{end}" for name in measured for end in ("", "_low", "_high", "_note")]
    return [*FACTS, *ends, "break_even_requests", *COSTS]


def _system(record: Record, system: SystemEntry, metrics: Sequence[str]) -> list[object]:
    facts = (
        system.name, system.role, system.method, system.label, record.backbone.name, record.dataset.name,
        record.request.regime, system.verdict or "",
    )  # fmt: skip
    speedup = system.speedup_vs_gold
    return [
        *map(text, facts), len(system.seeds), text("; ".join(system.reasons)),
        *(cell for estimate in _estimates(system, metrics) for cell in _cells(estimate)),
        _number(speedup.break_even_requests), *(_number(getattr(system.cost, name)) for name in COSTS),
    ]  # fmt: skip


def _estimates(system: SystemEntry, metrics: Sequence[str]) -> Iterator[Estimate]:
    for name in READINGS:
        yield getattr(system, name)
    for metric in metrics:
        found = system.utility.get(metric)
        yield found or Estimate(note="not measured")
        yield found.delta_vs_gold if found else Estimate(note="not measured")
    yield system.speedup_vs_gold


def _cells(estimate: Estimate) -> list[object]:
    return [*map(_number, (estimate.value, estimate.low, estimate.high)), text(estimate.note)]


def _number(value: object) -> object:
    """Shortest digits that read back as the same number; "" for None."""
    return text(value) if isinstance(value, str) else "" if value is None else value


def _csv(rows: Iterable[Sequence[object]]) -> str:
    sheet = io.StringIO(newline="")
    csv.writer(sheet).writerows(rows)
    return sheet.getvalue()
