"""From the columns of a file to rows of ids: which column plays which role, and what becomes of the ids.

Two kinds of ids. *0-based* formats (MMRec, LightGCN) keep theirs: id k is row k of every feature file, n is
the largest id plus one. *Token* formats (RecBole, MovieLens, plain tables) are numbered in sorted order, by
value where all are integers, and the original ids are kept. This happens before anything is filtered;
nothing is renumbered later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from auditkit.data.dataset import Floats, Ints
from auditkit.data.tables import Table, Tokens
from auditkit.errors import DataError

Role = Literal["user", "item", "rating", "time", "part"]
PARTS = ("train", "valid", "test")
_ALIASES: Mapping[Role, frozenset[str]] = {
    "user": frozenset({"user", "userid", "uid", "usernum", "reviewer", "reviewerid", "visitorid"}),
    "item": frozenset({"item", "itemid", "iid", "movie", "movieid", "product", "productid", "asin", "businessid"}),
    "rating": frozenset({"rating", "ratings", "score", "stars", "overall"}),
    "time": frozenset({"timestamp", "timestamps", "time", "ts", "unixreviewtime", "datetime"}),
    "part": frozenset({"xlabel", "split", "part", "fold"}),
}
_PART_NAMES: Mapping[str, int] = {
    **{"0": 0, "1": 1, "2": 2},
    **{"train": 0, "training": 0, "valid": 1, "val": 1, "validation": 1, "dev": 1, "test": 2, "testing": 2},
}
_LARGEST_ID = 100_000_000
_IDS_PER_ROW = 50
_ALWAYS_FINE = 1_000


@dataclass(frozen=True)
class Column:
    """A column of a side file (users or items), for people.

    Attributes:
        name: without its type.
        kind: token, token_seq, float or float_seq.
        filled: rows that hold something.
    """

    name: str
    kind: str
    filled: int


@dataclass(frozen=True, eq=False)
class Rows:
    """Interactions as they stand in the files, duplicates included.

    Attributes:
        users, items: int64 [n], 0-based.
        ratings: float64 [n] or None.
        times: int64 [n] or None.
        labels: int64 [n], 0 train, 1 valid, 2 test, or None where the files do not say.
        n_users, n_items: sizes of the id spaces.
        user_ids, item_ids: original id of every 0-based id, or None where the files' ids are 0-based.
        files: names of the files read.
        sides: side file -> its columns.
        notes: what else a person should know.
    """

    users: Ints
    items: Ints
    ratings: Floats | None
    times: Ints | None
    labels: Ints | None
    n_users: int
    n_items: int
    user_ids: Tokens | None = None
    item_ids: Tokens | None = None
    files: tuple[str, ...] = ()
    sides: Mapping[str, tuple[Column, ...]] | None = None
    notes: tuple[str, ...] = ()


def roles_of(names: Sequence[str]) -> dict[Role, str]:
    """Role -> column name, by the usual spellings; case, `_`, `-` and spaces do not count.

    Raises:
        DataError: two columns could play one role.
    """
    found: dict[Role, str] = {}
    for name in names:
        for role, spellings in _ALIASES.items():
            if re.sub(r"[\W_]", "", name.lower()) not in spellings:
                continue
            if role in found:
                raise DataError(f"columns {found[role]!r} and {name!r} both look like the {role}; rename or drop one")
            found[role] = name
    return found


def require_roles(table: Table, roles: Mapping[Role, str]) -> None:
    """Raise a DataError unless there is a user and an item column."""
    for role in ("user", "item"):
        if role not in roles:
            spellings = ", ".join(sorted(_ALIASES[role]))
            raise DataError(
                f"{table.path.name} has no {role} column; columns found: {', '.join(table.columns)}; "
                f"name one of them {role}_id (also understood: {spellings})"
            )


def zero_based(parts: Mapping[str, Table]) -> Rows:
    """Rows of tables whose ids are 0-based.

    Args:
        parts: part name ("all", or "train", "valid", "test") -> table.

    Raises:
        DataError: a column is missing or holds what it must not, an id is negative or absurdly large.
    """
    roles = _common_roles(parts)
    users, items = (_joined([t.ids(roles[role]) for t in parts.values()]) for role in ("user", "item"))
    sizes = {role: size_of(ids, role) for role, ids in (("user", users), ("item", items))}
    return _rows(parts, roles, users, items, sizes["user"], sizes["item"])


def tokens(parts: Mapping[str, Table]) -> Rows:
    """Rows of tables whose ids are tokens; they are numbered in sorted order.

    Args:
        parts: as in `zero_based`.

    Raises:
        DataError: a column is missing or holds what it must not.
    """
    roles = _common_roles(parts)
    users, user_ids = _numbered([t.tokens(roles["user"]) for t in parts.values()])
    items, item_ids = _numbered([t.tokens(roles["item"]) for t in parts.values()])
    return _rows(parts, roles, users, items, len(user_ids), len(item_ids), user_ids, item_ids)


def size_of(ids: Ints, role: str) -> int:
    """Size of a 0-based id space: the largest id plus one.

    Raises:
        DataError: the largest id is beyond 100 million, or above 1,000 and more than 50 times the number of
            rows: such ids are no row numbers.
    """
    largest = int(ids.max(initial=-1))
    if largest > _LARGEST_ID or largest > max(_ALWAYS_FINE, _IDS_PER_ROW * len(ids)):
        raise DataError(
            f"the largest {role} id is {largest:,} in {len(ids):,} rows, so ids are no 0-based row numbers; "
            "read the file as a token format, which numbers them: format='table', or a name:token header"
        )
    return largest + 1


def _common_roles(parts: Mapping[str, Table]) -> dict[Role, str]:
    found = []
    for table in parts.values():
        roles = roles_of(list(table.columns))
        require_roles(table, roles)
        found.append((table, roles))
    first, roles = found[0]
    for table, others in found[1:]:
        if others != roles:
            raise DataError(
                f"{table.path.name} has columns {', '.join(others.values())}, but {first.path.name} has "
                f"{', '.join(roles.values())}; part files need the same columns"
            )
    return roles


def _rows(
    parts: Mapping[str, Table],
    roles: Mapping[Role, str],
    users: Ints,
    items: Ints,
    n_users: int,
    n_items: int,
    user_ids: Tokens | None = None,
    item_ids: Tokens | None = None,
) -> Rows:
    tables = list(parts.values())
    return Rows(
        users=users,
        items=items,
        ratings=_joined([t.numbers(roles["rating"]) for t in tables]) if "rating" in roles else None,
        times=_joined([t.clock(roles["time"]) for t in tables]) if "time" in roles else None,
        labels=labels_of(parts, roles.get("part")),
        n_users=n_users,
        n_items=n_items,
        user_ids=user_ids,
        item_ids=item_ids,
        files=tuple(t.path.name for t in tables),
        notes=_ignored(tables[0], roles),
    )


def labels_of(parts: Mapping[str, Table], column: str | None = None) -> Ints | None:
    """0 train, 1 valid, 2 test for every row: from the part files, else from a label column, else None.

    Raises:
        DataError: a label is none of 0, 1, 2, train, valid, test, or no row is a train row.
    """
    if "all" not in parts:
        return np.concatenate([np.full(len(t), PARTS.index(part), np.int64) for part, t in parts.items()])
    if column is None:
        return None
    table = parts["all"]
    codes, names = table.words(column)
    known = np.array([_PART_NAMES.get(name, -1) for name in names], np.int64)
    labels: Ints = known[codes]
    if (labels < 0).any():
        row = int(np.argmax(labels < 0))
        raise DataError(
            f"{table.where(row)}: {column} must be 0, 1, 2 or train, valid, test, got {names[codes[row]]!r}"
        )
    if not (labels == 0).any():
        raise DataError(
            f"{column} of {table.path.name} labels no row as train (0); at least one part must be trained on"
        )
    return labels


def _ignored(table: Table, roles: Mapping[Role, str]) -> tuple[str, ...]:
    rest = [name for name in table.columns if name not in roles.values()]
    return (f"columns ignored: {', '.join(rest)}",) if rest else ()


def _joined(arrays: Sequence[Any]) -> Any:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _numbered(columns: Sequence[Tokens]) -> tuple[Ints, Tokens]:
    """0-based ids in sorted order, and the original of each; text as soon as one part holds text."""
    if any(column.dtype == object for column in columns):
        columns = [np.array([str(token) for token in column], dtype=object) for column in columns]
    joined = _joined(columns)
    codes, ids = pd.factorize(joined, sort=True)
    originals = np.asarray(ids) if joined.dtype != object else np.array(ids, dtype=np.str_)
    originals.setflags(write=False)
    return codes.astype(np.int64), originals
