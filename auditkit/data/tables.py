"""Columns of text and Parquet files, read fast, with every bad cell named by file and line.

What is refused rather than mended: a cell that is not the number it must be (NaN included), a row with more
or fewer fields than the header, text that is not UTF-8. Blank lines are skipped, and spaces around a cell
ignored.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from auditkit.data.dataset import Floats, Ints
from auditkit.errors import DataError

Tokens = NDArray[Any]
# An integer written in its one usual way: 007 and 7 are two tokens, so a column with 007 is text.
_INTEGER = r"^(0|-?[1-9][0-9]{0,17})$"
_DECIMAL = r"^-?[0-9]+\.[0-9]*$"


@dataclass(frozen=True, eq=False)
class Table:
    """Named columns of one file.

    Attributes:
        path: the file.
        columns: name -> Arrow column; text files hold trimmed strings.
        text: the body that was parsed, one row a line, to name lines with.
        header: lines before the body.
        lines: the line of every row, where rows are not lines. Without text and lines (Parquet), rows are
            named.
    """

    path: Path
    columns: Mapping[str, Any]
    text: bytes | None = None
    header: int = 0
    lines: Ints | None = None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def where(self, row: int) -> str:
        """Where row `row` (0-based) stands, for a message: `line 7 of x.csv`."""
        if self.lines is not None:
            return f"line {self.lines[row]} of {self.path.name}"
        if self.text is None:
            return f"row {row + 1} of {self.path.name}"
        filled = (k for k, line in enumerate(io.BytesIO(self.text)) if line.strip(b"\r\n"))
        return f"line {next(islice(filled, row, None)) + 1 + self.header} of {self.path.name}"

    def integers(self, name: str) -> Ints:
        """A column of integers, int64 [n].

        Raises:
            DataError: a cell is empty or not an integer.
        """
        return cast(Ints, self._parsed(name, pa.int64(), "an integer"))

    def ids(self, name: str) -> Ints:
        """A column of 0-based ids, int64 [n].

        Raises:
            DataError: a cell is not an integer, or negative.
        """
        values = self.integers(name)
        if len(values) and values.min() < 0:
            row = int(np.argmax(values < 0))
            raise DataError(
                f"{self.where(row)}: {name} must be 0 or above, got {values[row]}; drop the row or number from 0"
            )
        return values

    def numbers(self, name: str) -> Floats:
        """A column of finite numbers, float64 [n].

        Raises:
            DataError: a cell is empty, not a number, NaN or infinite.
        """
        values = cast(Floats, self._parsed(name, pa.float64(), "a number"))
        if not np.isfinite(values).all():
            row = int(np.argmax(~np.isfinite(values)))
            raise DataError(f"{self.where(row)}: {name} must be a finite number, got {values[row]}; drop the row")
        return values

    def clock(self, name: str) -> Ints:
        """A column of times, int64 [n]: dates become seconds since 1970, fractions of a second are cut off.

        Raises:
            DataError: a cell is empty or not a number.
        """
        column = self.columns[name]
        if pa.types.is_temporal(column.type):
            column = pc.cast(column, pa.timestamp("s"), safe=False)
            return replace(self, columns={name: pc.cast(column, pa.int64())}).integers(name)
        try:
            return self.integers(name)
        except DataError:
            values = np.floor(self.numbers(name))
        if np.abs(values).max(initial=0) >= 2**63:
            raise DataError(f"{self.path.name}: {name} holds times beyond 64 bits; write seconds since 1970")
        return values.astype(np.int64)

    def tokens(self, name: str) -> Tokens:
        """A column of original ids [n]: int64 where every cell is an integer, else str objects.

        Raises:
            DataError: a cell is empty, or the ids are decimal fractions.
        """
        column = self.columns[name]
        if not _is_text(column):
            return self.integers(name)
        self._refuse(name, pc.equal(column, ""), "an id, got an empty cell; drop the row")
        if pc.all(pc.match_substring_regex(column, _INTEGER)).as_py():
            return self.integers(name)
        if pc.all(pc.match_substring_regex(column, _DECIMAL)).as_py():
            raise DataError(
                f"{self.where(0)}: {name} must be an integer or text, got {column[0].as_py()}; "
                "a table saved with missing ids turns them into fractions: write them as integers"
            )
        return np.asarray(column.to_numpy(), dtype=object)

    def words(self, name: str) -> tuple[Ints, list[str]]:
        """A column of few distinct words: int64 [n] places in the list of words, lower case."""
        encoded = pc.cast(self.columns[name], pa.string()).combine_chunks().dictionary_encode()
        return encoded.indices.to_numpy().astype(np.int64), [str(w).lower() for w in encoded.dictionary.to_pylist()]

    def _parsed(self, name: str, kind: Any, wanted: str) -> Tokens:
        column = self.columns[name]
        self._refuse(name, pc.is_null(column), f"{wanted}, got an empty cell; drop the row")
        try:
            return cast(Tokens, pc.cast(column, kind).to_numpy())
        except pa.ArrowException as error:
            row = _first_bad(column, kind)
            shown = repr(column[row].as_py()) if column[row].as_py() != "" else "an empty cell"
            raise DataError(f"{self.where(row)}: {name} must be {wanted}, got {shown}; mend or drop the row") from error

    def _refuse(self, name: str, bad: Any, wanted: str) -> None:
        mask = np.asarray(bad.to_numpy(), dtype=np.bool_)
        if mask.any():
            raise DataError(f"{self.where(int(np.argmax(mask)))}: {name} must be {wanted}")


def _is_text(column: Any) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def _first_bad(column: Any, kind: Any) -> int:
    """The first row of a column that cannot be cast to `kind`, found by halving."""
    good, bad = 0, len(column)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            pc.cast(column.slice(good, middle - good), kind)
            good = middle
        except pa.ArrowException:
            bad = middle
    return good


def text_of(path: Path, *, latin1: bool = False) -> bytes:
    """The UTF-8 text of a file without byte-order mark.

    Args:
        path: a text file.
        latin1: text that is not UTF-8 is taken as Latin-1, as the older MovieLens files are written.

    Raises:
        DataError: the file is empty or not UTF-8.
    """
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise DataError(f"{path.name} is empty; expected interactions")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        if latin1:
            return data.decode("latin-1").encode()
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"line {line} of {path.name} is not UTF-8 (byte {data[error.start]:#04x}); convert the file, "
            "for example with `iconv -f latin1 -t utf-8`"
        ) from error
    return data


def first_line(data: bytes) -> tuple[str, int, int]:
    """The first line that is not blank, its number (from 1) and where the next one starts."""
    start = 0
    for number, line in enumerate(io.BytesIO(data), 1):
        start += len(line)
        if line.strip():
            return line.decode("utf-8", "replace").rstrip("\r\n"), number, start
    return "", 0, start


def delimiter_of(header: str) -> str:
    """The delimiter of a header: tab, comma, semicolon or bar, whichever occurs most; tab where none does."""
    return max("\t,;|", key=header.count)


def read_text(
    path: Path, *, names: list[str] | None = None, delimiter: str | None = None, latin1: bool = False
) -> Table:
    """Read a delimited text file.

    Args:
        path: the file.
        names: of the columns where the file has no header; else the first line names them.
        delimiter: between fields, more than one character allowed; None: found in the header.
        latin1: see `text_of`.

    Raises:
        DataError: the file is empty, holds a header only, names a column twice, or has ragged rows.
    """
    data = text_of(path, latin1=latin1)
    line, number, start = first_line(data)
    delimiter = delimiter or delimiter_of(line)
    if names is None:
        names = _header(path, line, delimiter)
        body = data[start:]
    else:
        number, body = 0, data
    if not body.strip():
        raise DataError(f"{path.name} holds a header ({', '.join(names)}) but no rows")
    if len(delimiter) > 1:
        body, delimiter = body.replace(delimiter.encode(), b"\t"), "\t"
    return Table(path, _columns(path, body, names, delimiter, number), body, number)


def _header(path: Path, line: str, delimiter: str) -> list[str]:
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path.name} names a column twice: {', '.join(map(repr, twice))}; rename one")
    return names


def _columns(path: Path, body: bytes, names: list[str], delimiter: str, header: int) -> dict[str, Any]:
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(body),
            read_options=pyarrow.csv.ReadOptions(column_names=names),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, quote_char=_quote(delimiter) or False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise _ragged(path, body, delimiter, len(names), header) from error
    return {name: pc.utf8_trim_whitespace(table[name]) for name in names}


def _quote(delimiter: str) -> str | None:
    """Only comma-separated files quote: titles in tab-separated ones may hold a lone quotation mark."""
    return '"' if delimiter in ",;" else None


def _ragged(path: Path, body: bytes, delimiter: str, width: int, header: int) -> DataError:
    for number, line in enumerate(io.StringIO(body.decode()), header + 1):
        fields = next(csv.reader([line], delimiter=delimiter, quotechar=_quote(delimiter)), [])
        if line.strip("\r\n") and len(fields) != width:
            return DataError(
                f"line {number} of {path.name} has {len(fields)} fields, expected {width}; mend or drop the line"
            )
    return DataError(f"{path.name} cannot be parsed as {width} columns; a quotation mark may never be closed")


def read_parquet(path: Path) -> Table:
    """Read a Parquet file.

    Raises:
        DataError: the file cannot be read, or holds no rows.
    """
    try:
        table = pyarrow.parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path.name} cannot be read as Parquet ({error}); write it again") from error
    if not len(table):
        raise DataError(f"{path.name} holds columns ({', '.join(table.column_names)}) but no rows")
    return Table(path, {name: _plain(table[name]) for name in table.column_names})


def _plain(column: Any) -> Any:
    """Text columns as plain strings: categories decoded, trimmed, missing ones empty."""
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    return pc.utf8_trim_whitespace(pc.fill_null(column, "")) if _is_text(column) else column
