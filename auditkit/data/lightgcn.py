"""The LightGCN format: `train.txt`, `test.txt`, perhaps `valid.txt`; lines `user item item ...`, 0-based ids.

A user without items and spaces at the end of a line are usual in published files; such users are counted.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from auditkit.data.dataset import Ints
from auditkit.data.formats import Source
from auditkit.data.rows import Rows, labels_of, size_of
from auditkit.data.tables import Table, text_of
from auditkit.errors import DataError


def read_lightgcn(source: Source) -> Rows:
    """Read adjacency lists.

    Raises:
        DataError: a cell is no 0-based id, an id is absurdly large, or no file holds an item.
    """
    lists = {part: _lists(path) for part, path in source.parts.items()}
    users = np.concatenate([np.repeat(owners, counts) for owners, counts, _ in lists.values()])
    items = np.concatenate([table.ids("item") for _, _, table in lists.values()])
    if not len(items):
        raise DataError(f"{', '.join(path.name for path in source.parts.values())} hold users but no item")
    owners = np.concatenate([owners for owners, _, _ in lists.values()])
    empty = sum(int((counts == 0).sum()) for _, counts, _ in lists.values())
    rows = Rows(users, items, None, None, None, size_of(owners, "user"), size_of(items, "item"))
    return replace(
        rows,
        labels=labels_of({part: table for part, (_, _, table) in lists.items()}),
        files=tuple(path.name for path in source.parts.values()),
        notes=(f"lines of a user without items: {empty}",) if empty else (),
    )


def _lists(path: Path) -> tuple[Ints, Ints, Table]:
    """Users [lines], their item counts [lines], and a table with one row per item."""
    lines = text_of(path).splitlines()
    filled = [(number, cells) for number, line in enumerate(lines, 1) if (cells := line.split())]
    numbers = np.array([number for number, _ in filled], np.int64)
    counts = np.array([len(cells) - 1 for _, cells in filled], np.int64)
    owners = _cells(path, "user", [cells[0] for _, cells in filled], numbers).ids("user")
    items = [item for _, cells in filled for item in cells[1:]]
    return owners, counts, _cells(path, "item", items, np.repeat(numbers, counts))


def _cells(path: Path, name: str, cells: list[bytes], lines: Ints) -> Table:
    column = pa.chunked_array([pa.array(cells, pa.binary())]).cast(pa.string())
    return Table(path, {name: column}, lines=lines)
