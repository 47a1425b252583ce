"""A table of scores that answers questions: every row is checked, then looked up without holding them all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auditkit.data.dataset import Floats, Ints
from auditkit.outside.answer_tables import AnswerFile, Findings
from auditkit.outside.columns import parts

# Rows whose scores are sorted to look for ties: enough to see a habit, few enough to cost nothing.
_SORTED = 200
# A row of which more of the scores stand twice is cut, rounded or stepped.
_TIED = 0.5


def _score_rows(file: AnswerFile, found: Findings) -> Iterator[tuple[Ints, NDArray[Any], Floats]]:
    """Blocks of rows that answer something and are as wide as they must be."""
    for places, keys, array in file.rows("scores", "scores", found):
        there, lengths, entries = parts(array)
        whole = np.asarray(lengths == file.width)
        found.note("no scores (null)", "give each user a list", keys, ~there)
        found.note(f"not {file.width} scores", "give one of each, in the same order", keys, there & ~whole)
        # Null within a list is how pandas writes NaN.
        values = entries.to_numpy(zero_copy_only=False)[np.repeat(whole, lengths)].reshape(-1, file.width)
        useful = places[whole] >= 0
        yield places[whole][useful], keys[whole][useful], values[useful]


def check_scores(file: AnswerFile) -> list[str]:
    """Look at every row of a table of scores.

    Returns:
        What can be and is seldom meant, in words.

    Raises:
        DataError: all that is wrong with it.
    """
    found, level, tied, looked_at = Findings(file.path), 0, 0, 0
    for _, keys, values in _score_rows(file, found):
        offered = np.asarray((~np.isnan(values)).sum(1))
        found.note("infinite scores", "give NaN for what is not offered", keys, np.asarray(np.isinf(values).any(1)))
        if not file.unserved:
            found.note("no score at all (NaN)", file.silence, keys, offered == 0)
        level += int((np.fmin.reduce(values, axis=1) == np.fmax.reduce(values, axis=1)).sum())
        some = values[: max(0, _SORTED - looked_at)]
        tied += _tied(some, offered[: len(some)])
        looked_at += len(some)
    found.settle()
    name, cautions = file.path.name, []
    if level:
        cautions.append(f"{level} of {len(file.asked)} rows of {name} have one score for all, which ranks nothing")
    if tied > level:
        cautions.append(f"{tied} of the first {looked_at} rows of {name} repeat over half of their scores")
    return cautions


def _tied(values: Floats, offered: Ints) -> int:
    """Rows of which most scores stand there more than once."""
    ordered = np.sort(values, axis=1)
    same = (ordered[:, 1:] == ordered[:, :-1]).sum(1)
    return int((same > _TIED * offered).sum())


@dataclass(frozen=True, eq=False)
class ScoreRows:
    """Rows of scores in the order of the questions, float [n_asked, width]."""

    values: Floats

    def take(self, places: Ints) -> torch.Tensor:
        """Some of the rows, as a copy."""
        return torch.from_numpy(np.array(self.values[places]))


def load_scores(file: AnswerFile, columns: Ints) -> ScoreRows:
    """A checked table of scores, in a nameless scratch file that is mapped into memory: it may be larger than that.

    Args:
        file: checked.
        columns: int64 [width], the data set's id that each column of the file is of.

    Raises:
        DataError: it is not what was checked.
        OSError: there is no room for the scratch file.
    """
    order, table, found = np.argsort(columns), None, Findings(file.path)
    for places, _, values in _score_rows(file, found):
        if table is None:
            table = _scratch((len(file.asked), file.width), values.dtype)
        table[places] = values[:, order]
    found.settle()
    return ScoreRows(np.empty((0, file.width)) if table is None else table)


def _scratch(shape: tuple[int, int], dtype: np.dtype[Any]) -> Floats:
    with tempfile.TemporaryFile() as file:
        # A full disk is an error here, and a dead process where pages are first written to.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, shape[0] * shape[1] * dtype.itemsize)
        return np.memmap(file, dtype, "w+", shape=shape)
