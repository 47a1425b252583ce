"""The units of a page one by one: a line for each unit and method, those farthest from Gold first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from auditkit.errors import DataError
from auditkit.record import Record
from auditkit.reports import numbers, words
from auditkit.reports.svg import label

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Kind = Literal["id", "count", "text", "score", "p"]

# Lines that a page holds. With all its figures such a page stays under 5 MB, whatever the number of methods.
LINES = 30_000
# Lines that are there without scripts, and the step by which a script shows more.
FIRST = 100
# Decimals that show three digits of a typical deviation lie within these.
DECIMALS = (0, 8)
LONGEST = 60
# A script's numbers are exact up to here; larger ones are written as text.
EXACT = 2**53 - 1
SIDES = ("", "above", "below")


@dataclass(frozen=True)
class Column:
    """One column: its key in the data, its heading and how its values are written."""

    key: str
    title: str
    kind: Kind


UNIT = (
    Column("unit", "Unit", "id"),
    Column("user", "User", "id"),
    Column("item", "Item", "id"),
    Column("group", "Group", "text"),
    Column("activity", "Activity", "count"),
    Column("popularity", "Popularity", "count"),
    Column("original_score", "Original", "score"),
    Column("gold_score", "Gold", "score"),
)
METHOD = (
    Column("method", "Method", "text"),
    Column("deviation", "Deviation", "score"),
    Column("p", "p", "p"),
    Column("q", "q", "p"),
    Column("side", "Side", "text"),
)


@dataclass(frozen=True)
class UnitRows:
    """What a page says of units one by one.

    Attributes:
        columns: of the table, in order.
        first: the foremost lines as text cells, at most `FIRST`.
        data: what a script needs to sort and filter all lines; JSON without NaN.
        groups: kinds of units, where there is more than one.
        n_units, n_lines: units in the page and lines they make.
        n_left: units with a reading that only the file holds.
        n_unread: units of the file without a reading, such as retained ones.
        rate: false discovery rate at which a unit is told from Gold.
    """

    columns: tuple[Column, ...]
    first: tuple[tuple[str, ...], ...]
    data: Mapping[str, Any]
    groups: tuple[str, ...]
    n_units: int
    n_lines: int
    n_left: int
    n_unread: int
    rate: float

    @property
    def methods(self) -> list[str]:
        """Names of the methods that have lines."""
        return [method["name"] for method in self.data["methods"]]

    def held(self, path: str) -> str:
        """One or two sentences: how many units the page holds, and what only the file `path` does."""
        here = f"This page holds {'' if self.n_left else 'all '}{numbers.counted(self.n_units, 'unit')} with a reading"
        more = f"; {numbers.count(self.n_left)} more lie in {path} beside this report" if self.n_left else ""
        silent = f" Of {path}, {numbers.counted(self.n_unread, 'unit')} have none." if self.n_unread else ""
        return f"{here}{more}.{silent}"


def unit_rows(record: Record, table: pd.DataFrame) -> UnitRows:
    """Choose and write the lines of a page: each method's most deviating units, in turn.

    Args:
        record: names the audited methods; columns of others are left out.
        table: one row a unit, as `auditkit.unit_table.unit_table` makes it. Facts of units may be missing.

    Raises:
        DataError: no audited method has a reading in the table, or a column occurs twice.
    """
    if not table.columns.is_unique:
        raise DataError("the per-unit table names a column twice")
    names = list(dict.fromkeys(s.name for s in words.audited(record) if f"deviation:{s.name}" in table))
    deviations = np.array([_reals(table[f"deviation:{name}"]) for name in names]).reshape(len(names), len(table))
    read = np.isfinite(deviations).any(axis=0)
    if not read.any():
        raise DataError("the per-unit table holds no reading of an audited method")
    decimals = decimals_for(deviations)
    chosen = _foremost(deviations, max(1, LINES // len(names)))
    data = _data(table.iloc[chosen], names, decimals)
    kept = np.round(deviations[:, chosen], decimals)
    columns = tuple(column for column in UNIT if column.key in data["columns"]) + METHOD
    return UnitRows(
        columns=columns,
        first=tuple(_line(data, columns, method, unit) for method, unit in in_turn(kept)[:FIRST]),
        data=data, groups=tuple(dict.fromkeys(data["columns"].get("group", ()))), n_units=len(chosen),
        n_lines=int(np.isfinite(kept).sum()), n_left=int(read.sum()) - len(chosen), n_unread=int((~read).sum()),
        rate=next((s.unit_tests.rate for s in words.audited(record) if s.unit_tests), 0.05),
    )  # fmt: skip


def decimals_for(deviations: Array) -> int:
    """Decimals that show three digits of a typical deviation: half of those that are not 0 are larger."""
    sizes = np.abs(deviations[np.isfinite(deviations) & (deviations != 0)])
    typical = float(np.median(sizes)) if len(sizes) else 1.0
    return int(np.clip(2 - math.floor(math.log10(typical)), *DECIMALS))


def in_turn(deviations: Array) -> list[tuple[int, int]]:
    """(method, unit) of every finite deviation: each method's largest first, the methods in turn.

    Args:
        deviations: [methods, units]; NaN where a method has no reading. Ties keep the order of units.
    """
    places = _places(deviations)
    methods, units = np.nonzero(np.isfinite(deviations))
    order = np.lexsort((methods, places[methods, units]))
    return list(zip(methods[order].tolist(), units[order].tolist(), strict=True))


def _places(deviations: Array) -> Places:
    """Place of every unit within its method, 0 for the largest |deviation|; units without a reading come last."""
    order = np.argsort(-np.abs(deviations), axis=1, kind="stable")
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(deviations.shape[1])[None, :], axis=1)
    return places


def _foremost(deviations: Array, most: int) -> Places:
    """The `most` units that come first when methods take turns, in that order; none without a reading."""
    best = np.where(np.isfinite(deviations), _places(deviations), deviations.shape[1]).min(axis=0)
    return np.argsort(best, kind="stable")[: min(most, int((best < deviations.shape[1]).sum()))]


def _data(table: pd.DataFrame, names: Sequence[str], decimals: int) -> dict[str, Any]:
    columns: dict[str, list[Any]] = {}
    for column in UNIT:
        if column.key in table:
            cells = table[column.key]
            columns[column.key] = _scores(cells, decimals) if column.kind == "score" else _facts(cells)
    if len(set(columns.get("group", ()))) < 2:
        columns.pop("group", None)
    return {
        "decimals": decimals, "first": FIRST, "sides": SIDES, "columns": columns,
        "methods": [_method(table, name, decimals) for name in names],
    }  # fmt: skip


def _method(table: pd.DataFrame, name: str, decimals: int) -> dict[str, Any]:
    sides = _column(table, f"side:{name}")
    return {
        "name": _text(name), "deviation": _scores(table[f"deviation:{name}"], decimals),
        **{key: _probabilities(_column(table, f"{key}:{name}")) for key in ("p", "q")},
        "side": [SIDES.index(side) if side in SIDES else 0 for side in sides],
    }  # fmt: skip


def _column(table: pd.DataFrame, name: str) -> pd.Series[Any]:
    return table[name] if name in table else pd.Series(np.nan, index=table.index)


def _reals(column: pd.Series[Any]) -> Array:
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _scores(column: pd.Series[Any], decimals: int) -> list[float | None]:
    # Adding 0 takes the sign off a zero, which would be written as a direction.
    return [value if math.isfinite(value) else None for value in (np.round(_reals(column), decimals) + 0.0).tolist()]


def _probabilities(column: pd.Series[Any]) -> list[float | None]:
    return [float(f"{value:.3g}") if math.isfinite(value) else None for value in _reals(column).tolist()]


def _facts(column: pd.Series[Any]) -> list[int] | list[str]:
    if pd.api.types.is_integer_dtype(column) and not column.hasnans and column.abs().max() <= EXACT:
        return [int(value) for value in column]
    return ["" if pd.api.types.is_scalar(value) and pd.isna(value) else _text(str(value)) for value in column]


def _text(raw: str) -> str:
    return label(raw, LONGEST)


def _line(data: Mapping[str, Any], columns: Sequence[Column], method: int, unit: int) -> tuple[str, ...]:
    told = data["methods"][method]
    of_method = {
        "method": told["name"], "side": SIDES[told["side"][unit]],
        **{key: told[key][unit] for key in ("deviation", "p", "q")},
    }  # fmt: skip
    values = {**{key: cells[unit] for key, cells in data["columns"].items()}, **of_method}
    return tuple(_cell(column.kind, values[column.key], data["decimals"]) for column in columns)


def _cell(kind: Kind, value: Any, decimals: int) -> str:
    """A value as text; `templates/units.js` writes the same."""
    if isinstance(value, str):
        return value
    if kind == "id":
        return "any" if value < 0 else str(value)
    if kind == "p":
        return numbers.p_value(value)
    return numbers.count(value) if kind == "count" else numbers.number(value, decimals)
