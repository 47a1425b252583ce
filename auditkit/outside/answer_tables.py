"""A file of answers: its header, whose rows they are, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from auditkit.data.dataset import Bools, Ints
from auditkit.errors import DataError
from auditkit.outside.columns import Kind, Limits, batches, open_columns, texts


@dataclass
class Findings:
    """What is wrong with the rows of a file.

    Attributes:
        path: the file.
        problems: what is wrong, and its remedy -> in how many rows, and the first of them.
        missing: questions without an answer, in words; empty where there are none.
    """

    path: Path
    problems: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    missing: str = ""

    def note(self, what: str, remedy: str, keys: NDArray[Any], wrong: Bools) -> None:
        """Count rows with a fault, bool [n]; `keys` name them."""
        if wrong.any():
            count, first = self.problems.get((what, remedy), (0, str(keys[np.argmax(wrong)])))
            self.problems[what, remedy] = (count + int(wrong.sum()), first)

    def settle(self) -> None:
        """Go on where nothing is wrong.

        Raises:
            DataError: all that is wrong, a line each.
        """
        lines = [
            f"{self.path}: {what} in {count} of its rows, such as that of {first!r}; {remedy}"
            for (what, remedy), (count, first) in self.problems.items()
        ]
        lines += [f"{self.path}: {self.missing}"] if self.missing else []
        if lines:
            raise DataError("\n- ".join(lines))


@dataclass(frozen=True, eq=False)
class AnswerFile:
    """A file of answers, one row a question.

    Attributes:
        path: where it is.
        key: its column of ids, `user` or `history`.
        asked: the ids that were asked for, each once, in the order that rows are put into.
        digest: of the questions.
        width: most entries of a row.
        unserved: rows without any score or item are users whom the system does not serve.
        max_bytes: the most that it may hold.
    """

    path: Path
    key: str
    asked: pd.Index
    digest: str
    width: int
    unserved: bool
    max_bytes: int

    @property
    def silence(self) -> str:
        """What to do about a row without any score or item."""
        if self.key == "history":
            return f"answer for every history, or leave {self.path.name} out"
        return "answer for every user, or set options.unserved where the system serves some of them nothing"

    def open(self, column: str, kind: Kind) -> pq.ParquetFile:
        """The file with its header checked.

        Raises:
            DataError: the header is not as it must be, or says that these are answers to other questions.
        """
        limits = Limits(len(self.asked), len(self.asked) * self.width, self.width, self.max_bytes)
        file = open_columns(self.path, {self.key: "ids", column: kind}, limits)
        stated = _stated(file.schema_arrow.metadata or {})
        if stated is not None and stated != self.digest:
            raise DataError(
                f"{self.path} answers other questions: it states their digest {stated[:16]}, these have "
                f"{self.digest[:16]}; answer these"
            )
        return file

    def rows(self, column: str, kind: Kind, found: Findings) -> Iterator[tuple[Ints, NDArray[Any], pa.Array]]:
        """Blocks of rows: the place of each among what was asked, -1 where it answers nothing; its id; its answer."""
        seen = np.zeros(len(self.asked), np.bool_)
        file = self.open(column, kind)
        for batch in batches(file, self.path, [self.key, column], self.width):
            keys = texts(batch.column(self.key))
            places = np.asarray(self.asked.get_indexer(pd.Index(keys, dtype=object)), np.int64)
            void, known = np.array([one is None for one in keys], np.bool_), np.asarray(places >= 0)
            again = known & (seen[places] | pd.Series(places).duplicated().to_numpy())
            other = ~(void | known)
            found.note("no id (null)", f"every row needs its {self.key}", keys, void)
            found.note(f"a {self.key} that was not asked for", "answer these questions and no others", keys, other)
            found.note(f"a {self.key} that has a row already", "give each one row", keys, again)
            seen[places[known]] = True
            yield np.where(again, -1, places), keys, batch.column(column)
        if not seen.all():
            found.missing = (
                f"{(~seen).sum()} of {len(seen)} that were asked for have no row, such as "
                f"{self.asked[int(np.argmin(seen))]!r}; answer all, or have the questions written again"
            )


def _stated(metadata: dict[bytes, bytes]) -> str | None:
    """The digest of questions in the attributes that pandas stores, if there is one."""
    try:
        attributes = json.loads(metadata.get(b"PANDAS_ATTRS", b"{}"))
    except (ValueError, RecursionError):
        return None
    stated = attributes.get("questions") if isinstance(attributes, dict) else None
    return None if stated is None else str(stated)
