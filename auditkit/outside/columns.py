"""Columns of Parquet files that others wrote: what a file says it holds is checked before any of it is read.

Parquet is plain data: nothing in it is ever executed. Columns of Python objects are binary there, and refused by type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from auditkit.data.dataset import Bools, Ints
from auditkit.errors import DataError

# Scores of 100,000 users for 10,000 items in double precision; what is larger is asked for by name.
MAX_BYTES = 8 * 10**9
# Bytes of one batch of rows in double precision.
_BATCH_BYTES = 2**26
# An array of text is as wide as its longest entry.
_LONGEST_ID = 1000

Kind = Literal["ids", "scores", "lists"]
_TOLD: Mapping[Kind, str] = {
    "ids": "ids, as text or whole numbers",
    "scores": "lists of float32 or float64",
    "lists": "lists of ids, as text or whole numbers",
}


@dataclass(frozen=True)
class Limits:
    """The most that a file may hold.

    Attributes:
        rows: how many rows; None is any number.
        values: how many entries in all lists of a column together; None is any number.
        width: entries of one row, for the batches and for messages.
        bytes: on disk, and unpacked as the file itself says.
    """

    rows: int | None = None
    values: int | None = None
    width: int = 1
    bytes: int = MAX_BYTES


def open_columns(path: Path, wanted: Mapping[str, Kind], limits: Limits) -> pq.ParquetFile:
    """A Parquet file whose header is as it must be; none of its rows has been read.

    Args:
        path: the file.
        wanted: column -> what it holds; other columns are never read.
        limits: of its size.

    Raises:
        DataError: all problems of the header at once.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing, or is no file; {_wanted(wanted)}")
    if path.stat().st_size > limits.bytes:
        raise DataError(f"{path} has {path.stat().st_size:,} bytes; at most {limits.bytes:,} (options.max_bytes)")
    try:
        file = pq.ParquetFile(path)
        problems = [*_type_problems(file.schema_arrow, wanted)] or [*_size_problems(file.metadata, wanted, limits)]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{path} is not a Parquet file that can be read: {_one_line(error)}; {_wanted(wanted)}"
        ) from None
    if problems:
        raise DataError("; ".join(f"{path}: {problem}" for problem in problems))
    return file


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _wanted(wanted: Mapping[str, Kind]) -> str:
    return "write a Parquet file with " + " and ".join(f"{name!r} ({_TOLD[kind]})" for name, kind in wanted.items())


def _type_problems(schema: pa.Schema, wanted: Mapping[str, Kind]) -> Iterator[str]:
    for name, kind in wanted.items():
        places = schema.get_all_field_indices(name)
        if len(places) != 1:
            held = ", ".join(schema.names[:8]) or "none"
            yield f"needs one column {name!r}, got {len(places)} among the columns: {held}"
        elif not _fits(kind, schema.field(places[0]).type):
            yield f"column {name!r} must hold {_TOLD[kind]}, got {schema.field(places[0]).type}"


def _fits(kind: Kind, held: pa.DataType) -> bool:
    of = pa.types
    if kind == "ids":
        plain = held.value_type if of.is_dictionary(held) else held
        return bool(of.is_integer(plain) or of.is_string(plain) or of.is_large_string(plain))
    if not (of.is_list(held) or of.is_large_list(held) or of.is_fixed_size_list(held)):
        return False
    inner = held.value_type
    return bool(of.is_float32(inner) or of.is_float64(inner)) if kind == "scores" else _fits("ids", inner)


def _size_problems(about: pq.FileMetaData, wanted: Mapping[str, Kind], limits: Limits) -> Iterator[str]:
    if limits.rows is not None and about.num_rows > limits.rows:
        yield f"holds {about.num_rows:,} rows, {limits.rows:,} were asked for; keep one row for each that was asked for"
    values, unpacked = dict.fromkeys(wanted, 0), 0
    for group in range(about.num_row_groups):
        for place in range(about.num_columns):
            chunk = about.row_group(group).column(place)
            name = chunk.path_in_schema.split(".")[0]
            if name in values:
                values[name] += chunk.num_values
                unpacked += chunk.total_uncompressed_size
    if unpacked > limits.bytes:
        yield f"unpacks to {unpacked:,} bytes; at most {limits.bytes:,} (options.max_bytes)"
    listed = max(n for name, n in values.items() if wanted[name] != "ids") if {*wanted.values()} != {"ids"} else 0
    if limits.values is not None and listed > limits.values:
        each = listed / max(about.num_rows, 1)
        yield f"its lists hold {listed:,} entries, {each:.1f} each; at most {limits.width:,} each were asked for"


def batches(file: pq.ParquetFile, path: Path, columns: list[str], width: int = 1) -> Iterator[pa.RecordBatch]:
    """Rows of some columns, as many at once as fit a block of memory.

    Raises:
        DataError: the file is broken.
    """
    size = max(1, _BATCH_BYTES // (8 * max(width, 1)))
    try:
        # Each group by itself: one reader of all groups keeps what it has read to the end.
        for group in range(file.metadata.num_row_groups):
            for batch in file.iter_batches(size, row_groups=[group], columns=columns):
                # Offsets, UTF-8 and the places of dictionaries, which reading alone does not look at.
                batch.validate(full=True)
                yield batch
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is broken: {_one_line(error)}; write it again") from None


def texts(array: pa.Array) -> NDArray[Any]:
    """Ids as text, object [n]; None for null."""
    plain = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
    found = np.empty(len(plain), object)
    found[:] = plain.cast(pa.large_string()).to_pylist()
    return found


def places_in(array: pa.Array, index: pd.Index) -> Ints:
    """Where each id stands in an index of ids as text, int64 [n]; -1 where it does not, and for null."""
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    known = index.get_indexer(pd.Index(texts(encoded.dictionary), dtype=object))
    # Null has the code -1, which reads the appended -1.
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return np.asarray(np.append(known, -1)[codes], np.int64)


def parts(array: pa.Array) -> tuple[Bools, Ints, pa.Array]:
    """A column of lists: which rows have one, bool [n]; how long they are, int64 [n]; their entries one after another.

    A row without a list has the length 0.
    """
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return ~np.asarray(array.is_null()), lengths, array.flatten()


def read_ids(path: Path, columns: tuple[str, ...], max_bytes: int = MAX_BYTES) -> dict[str, NDArray[Any]]:
    """Columns of ids as text, object [n] each.

    Raises:
        DataError: the file is not as it must be, or an id is missing.
    """
    file = open_columns(path, dict.fromkeys(columns, "ids"), Limits(bytes=max_bytes))
    found: dict[str, list[NDArray[Any]]] = {name: [np.empty(0, object)] for name in columns}
    for batch in batches(file, path, list(columns)):
        for name in columns:
            found[name].append(texts(batch.column(name)))
    made = {name: np.concatenate(blocks) for name, blocks in found.items()}
    for name, ids in made.items():
        if any(one is None or len(one) > _LONGEST_ID for one in ids):
            raise DataError(
                f"{path}: column {name!r} has empty places (null), or ids of more than {_LONGEST_ID} characters; every "
                "row needs an id"
            )
    return made
