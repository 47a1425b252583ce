"""MovieLens as published: `u.data` (tabs, no header), `ratings.dat` (`::`, no header) and `ratings.csv`.

User and movie ids are tokens (they start at 1 and have gaps). Titles and genres are not read.
"""

from __future__ import annotations

from pathlib import Path

from auditkit.data.formats import Source
from auditkit.data.rows import Rows, tokens
from auditkit.data.tables import Table, first_line, read_text, text_of

_NAMES = ["userId", "movieId", "rating", "timestamp"]


def read_movielens(source: Source) -> Rows:
    """Read ratings in any of the three published layouts.

    Raises:
        DataError: an id is not an integer or negative, or what `auditkit.data.rows.tokens` refuses.
    """
    parts = {part: _table(path) for part, path in source.parts.items()}
    for table in parts.values():
        for name in {"userId", "movieId"} & set(table.columns):
            table.ids(name)
    return tokens(parts)


def _table(path: Path) -> Table:
    line, _, _ = first_line(text_of(path, latin1=True))
    if "::" in line:
        return read_text(path, names=_NAMES, delimiter="::", latin1=True)
    if "userId" in line:
        return read_text(path, delimiter=",", latin1=True)
    return read_text(path, names=_NAMES, delimiter="\t", latin1=True)
