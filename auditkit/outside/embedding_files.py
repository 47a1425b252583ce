"""From files with embedding tables to tables in the data set's order: what can be wrong with them, all at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditkit.data.dataset import Ints
from auditkit.digests import digest_of
from auditkit.errors import AuditkitError, ConfigurationError, DataError
from auditkit.outside.source import Ids
from auditkit.outside.tensor_files import MAX_BYTES, Stored, named_arrays, npy_file

# How many names of arrays a message shows.
_SHOWN = 12


@dataclass(frozen=True)
class Options:
    """How the files are read.

    Attributes:
        users, items: names of the tables, float [n_users, d] and [n_items, d].
        user_bias, item_bias: names of what is added to the product, float [n_users] and [n_items]; both may be absent.
        user_ids, item_ids: names of the owner's own id of each row, whole numbers or text; absent: rows are in the
            order of the data set's ids. Beside a single file they may be `.npy` files of these names.
        ignore: own ids whose rows are dropped, such as a padding row.
        absent_users: users without a row are served nothing, as after the deletion of accounts; else they are an error.
        cosine: the score is the cosine of the vectors, not their product.
        max_bytes: of all files together, and of the arrays in them; more is refused before it is read.
    """

    users: str = "users"
    items: str = "items"
    user_bias: str = "user_bias"
    item_bias: str = "item_bias"
    user_ids: str = "user_ids"
    item_ids: str = "item_ids"
    ignore: list[Any] = field(default_factory=list)
    absent_users: bool = False
    cosine: bool = False
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise ConfigurationError(f"max_bytes must be 1 or more, got {self.max_bytes}")


def _raise(problems: Sequence[str]) -> None:
    if problems:
        raise DataError(problems[0] if len(problems) == 1 else f"{len(problems)} problems:\n- " + "\n- ".join(problems))


def find_parts(place: str, path: Path, chosen: Options, said: frozenset[str]) -> dict[str, Stored]:
    """What the files say of each array that there is; nothing but headers is read.

    Args:
        place: as the configuration says it, for messages.
        path: where it is.
        chosen: how it is read.
        said: names of the options that were given: an array that an option names must be there.

    Returns:
        Role (the name of an option, such as `users`) -> its array.

    Raises:
        ConfigurationError: nothing that can be read is at the place.
        DataError: arrays are missing, too large, broken, of the wrong kind or shape; all that is wrong at once.
    """
    arrays = named_arrays(place, path, chosen.max_bytes)
    found: dict[str, Stored] = {}
    problems: list[str] = []
    for role in ("users", "items", "user_bias", "item_bias", "user_ids", "item_ids"):
        name = getattr(chosen, role)
        try:
            stored = _look_up(name, arrays, path, chosen, ids=role.endswith("ids"))
            if stored is not None:
                found[role] = stored
            elif role in ("users", "items") or role in said:
                problems.append(_no_such(role, name, arrays, place))
        except AuditkitError as error:
            problems.append(str(error))
    _raise(problems or list(_shape_problems(found, chosen)))
    return found


def _look_up(
    name: str, arrays: Mapping[str, Callable[[], Stored]], path: Path, chosen: Options, *, ids: bool
) -> Stored | None:
    if name in arrays:
        return arrays[name]()
    # A name with a separator in it would lead elsewhere.
    if ids and not path.is_dir() and name and Path(name).name == name:
        beside = path.with_name(f"{name}.npy")
        return npy_file(beside.name, beside, chosen.max_bytes) if beside.exists() else None
    return None


def _no_such(role: str, name: str, arrays: Mapping[str, Callable[[], Stored]], place: str) -> str:
    there = [repr(known) for known in arrays]
    more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
    listed = ", ".join(there[:_SHOWN]) + more if there else "nothing of use"
    return f"{place} has no array {name!r} for the option {role}; it holds {listed}"


def _shape_problems(parts: Mapping[str, Stored], chosen: Options) -> Iterator[str]:
    size = max(sum(p.n_bytes for p in parts.values()), sum(f.stat().st_size for f in {p.path for p in parts.values()}))
    if size > chosen.max_bytes:
        yield (
            f"the tables take {size} bytes, more than max_bytes ({chosen.max_bytes}); where that is right, raise "
            "max_bytes in the options"
        )
    if chosen.ignore and not {"user_ids", "item_ids"} & set(parts):
        yield "the option ignore names rows by the owner's ids, and there are neither user_ids nor item_ids"
    for side in ("user", "item"):
        table = parts[f"{side}s"]
        yield from _table_problems(table)
        for role in (f"{side}_bias", f"{side}_ids"):
            if role in parts:
                yield from _column_problems(parts[role], table, is_id=role.endswith("ids"))
    widths = parts["users"].shape[1:], parts["items"].shape[1:]
    if widths[0] != widths[1] and len(widths[0]) == len(widths[1]) == 1:
        yield f"users have {widths[0][0]} factors and items {widths[1][0]}; both tables must be of one width"


def _table_problems(table: Stored) -> Iterator[str]:
    if not table.is_float:
        yield f"{table.what} must hold real numbers (float16, bfloat16, float32 or float64), got {table.dtype}"
    if len(table.shape) != 2 or 0 in table.shape:
        yield f"{table.what} must be a table of rows and factors, neither empty, got shape {list(table.shape)}"


def _column_problems(column: Stored, table: Stored, *, is_id: bool) -> Iterator[str]:
    if is_id and not column.is_id:
        yield f"{column.what} must hold whole numbers or text, got {column.dtype}"
    if not is_id and not column.is_float:
        yield f"{column.what} must hold real numbers (float16, bfloat16, float32 or float64), got {column.dtype}"
    if column.shape != table.shape[:1]:
        rows = table.shape[0] if table.shape else 0
        yield f"{column.what} must have one value per row of {table.what} ([{rows}]), got shape {list(column.shape)}"


def digest_of_parts(parts: Mapping[str, Stored], chosen: Options) -> str:
    """SHA-256 of the files' contents and of how they are read: one file read as cosines is another system."""
    known = {path: _file_digest(path) for path in {part.path for part in parts.values()}}
    return digest_of(
        "embeddings",
        {role: known[part.path] for role, part in parts.items()},
        replace(chosen, max_bytes=MAX_BYTES),
    )


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_tables(parts: Mapping[str, Stored], ids: Ids, chosen: Options) -> dict[str, Tensor]:
    """Tables and biases in the order of the data set's ids; NaN where it has an id that the owner has not.

    Returns:
        `users` float [n_users, d], `items` float [n_items, d] of the same type, and `user_bias` float [n_users] and
        `item_bias` float [n_items] where there are any.

    Raises:
        DataError: values are not finite, or rows cannot be matched with the ids of the data set; all at once.
    """
    problems: list[str] = []
    found: dict[str, Tensor] = {}
    for side in ("user", "item"):
        try:
            columns = {role: parts[role] for role in (f"{side}s", f"{side}_bias") if role in parts}
            place = _places(side, parts, ids, chosen)
            size = ids.n_users if side == "user" else ids.n_items
            found |= {role: _in_order(column, place, size) for role, column in columns.items()}
        except DataError as error:
            problems.append(str(error))
    _raise(problems)
    wide = torch.promote_types(found["users"].dtype, found["items"].dtype)
    return {role: values.to(wide) for role, values in found.items()}


def _places(side: str, parts: Mapping[str, Stored], ids: Ids, chosen: Options) -> Ints:
    """The data set's id of each row, int64 [n_rows]; -1 for rows that are dropped."""
    table, own = parts[f"{side}s"], parts.get(f"{side}_ids")
    size = ids.n_users if side == "user" else ids.n_items
    if own is None:
        return _rows_as_ids(table, side, size)
    texts = own.read().astype(str)
    kept = ~np.isin(texts, [str(one) for one in chosen.ignore])
    found = np.full(len(texts), -1, np.int64)
    found[kept] = (ids.users if side == "user" else ids.items)(texts[kept], own.what)
    named, counts = np.unique(texts[kept], return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{own.what}: {(counts > 1).sum()} ids stand twice, such as {str(named[counts > 1][0])!r}")
    _check_absent(side, np.setdiff1d(np.arange(size), found), size, ids, own, chosen)
    return found


def _rows_as_ids(table: Stored, side: str, size: int) -> Ints:
    if table.shape[0] != size:
        raise DataError(
            f"{table.what} has {table.shape[0]} rows, but the data set has {size} {side}s; write one row per id in "
            f"order, or name the rows in {side}_ids (and padding rows in the option ignore)"
        )
    return np.arange(size)


def _check_absent(side: str, absent: Ints, size: int, ids: Ids, own: Stored, chosen: Options) -> None:
    if len(absent) == size:
        raise DataError(f"{own.what} leaves no {side} of the data set; see the option ignore")
    if side == "user" and len(absent) and not chosen.absent_users:
        shown = ", ".join(repr(str(one)) for one in ids.own_users(absent[:3]))
        raise DataError(
            f"{own.what}: {len(absent)} of {size} users of the data have no row, such as {shown}; add them, or say "
            "absent_users = true in the options where such users are served nothing"
        )


def _in_order(column: Stored, place: Ints, size: int) -> Tensor:
    values: NDArray[Any] = column.read()
    bad = ~np.isfinite(values).reshape(len(values), -1).all(1)
    if bad.any():
        raise DataError(
            f"{column.what} must be finite, got NaN or infinity in {bad.sum()} rows, first in row {np.argmax(bad)}; "
            "leave out what is not served, and name the rest in user_ids or item_ids"
        )
    found = np.full((size, *values.shape[1:]), np.nan, values.dtype)
    found[place[place >= 0]] = values[place >= 0]
    return torch.from_numpy(found)
