"""RecBole atomic files: tab-separated with `name:type` headers, types token, token_seq, float and float_seq.

`.inter` (one file, or `.train.inter`, `.valid.inter`, `.test.inter`) is read as tokens. The columns of
`.user` and `.item` are listed, not kept; older conversions hold Latin-1 titles, so these two may be in
either encoding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc

from auditkit.data.formats import TYPED, Source
from auditkit.data.rows import Column, Rows, require_roles, roles_of, tokens
from auditkit.data.tables import Table, read_text
from auditkit.errors import DataError


def read_recbole(source: Source) -> Rows:
    """Read atomic files.

    Raises:
        DataError: a header without types, ids that are not tokens, ratings or times that are not floats, or
            what `auditkit.data.rows.tokens` refuses.
    """
    rows = tokens({part: _untyped(read_text(path, delimiter="\t")) for part, path in source.parts.items()})
    stem = next(iter(source.parts.values())).name.split(".")[0]
    return replace(rows, sides=_sides(source.folder, stem))


def _types(table: Table) -> dict[str, tuple[str, str]]:
    """Column of the header -> name and type."""
    matches = {column: TYPED.fullmatch(column) for column in table.columns}
    untyped = [column for column, match in matches.items() if match is None]
    if untyped:
        raise DataError(
            f"{table.path.name} needs a name:type header, got {', '.join(map(repr, untyped))}; "
            "types are token, token_seq, float and float_seq"
        )
    return {column: (match[1], match[2]) for column, match in matches.items() if match is not None}


def _untyped(table: Table) -> Table:
    types = dict(_types(table).values())
    roles = roles_of(list(types))
    plain = replace(table, columns=dict(zip(types, table.columns.values(), strict=True)))
    require_roles(plain, roles)
    for role, wanted in (("user", "token"), ("item", "token"), ("rating", "float"), ("time", "float")):
        name = roles.get(role)  # type: ignore[call-overload]
        if name is not None and types[name] != wanted:
            raise DataError(f"{table.path.name}: {name} must be of type {wanted}, got {types[name]}; mend the header")
    return plain


def _sides(folder: Path, stem: str) -> Mapping[str, tuple[Column, ...]]:
    paths = [folder / f"{stem}{suffix}" for suffix in (".user", ".item")]
    return {path.name: _side(path) for path in paths if path.exists()}


def _side(path: Path) -> tuple[Column, ...]:
    table = read_text(path, delimiter="\t", latin1=True)
    return tuple(
        Column(name, kind, int(pc.sum(pc.not_equal(table.columns[column], "")).as_py()))
        for column, (name, kind) in _types(table).items()
    )
