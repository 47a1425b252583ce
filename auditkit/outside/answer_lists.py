"""A table of lists that answers questions: every row is checked, and read as the scores of what it lists."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from auditkit.data.dataset import Bools, Ints
from auditkit.outside.answer_tables import AnswerFile, Findings
from auditkit.outside.columns import parts, places_in


@dataclass(frozen=True, eq=False)
class ListRows:
    """Lists in the order of the questions.

    Attributes:
        items: int32 [n_asked, length], ids of the data set, best first, -1 after the end of a list.
        n_items: how many items there are.
    """

    items: NDArray[np.int32]
    n_items: int

    def take(self, places: Ints) -> torch.Tensor:
        """Scores of some of the rows, float64 [n, n_items]: K for the best, then K - 1, ...; else NaN."""
        length = self.items.shape[1]
        scores = np.full((len(places), self.n_items), np.nan)
        rows, ranks = np.nonzero(self.items[places] >= 0)
        scores[rows, self.items[places][rows, ranks]] = length - ranks
        return torch.from_numpy(scores)


def load_lists(file: AnswerFile, items: pd.Index, barred: Ints) -> ListRows:
    """Read a table of lists, which is small enough to be held, and look at every row.

    Args:
        file: where it is; `width` is the length of the lists.
        items: names of the data set's items, in the order of its ids.
        barred: int64, sorted: place of a row x n_items + item, for each pair that must not be listed.

    Raises:
        DataError: all that is wrong with it.
    """
    found, n_items = Findings(file.path), len(items)
    table = np.full((len(file.asked), file.width), -1, np.int32)
    for places, keys, array in file.rows("items", "lists", found):
        there, lengths, entries = parts(array)
        found.note("no list (null)", "give each user a list", keys, ~there)
        found.note(f"more than {file.width} items", "give the best alone", keys, lengths > file.width)
        ids = places_in(entries, items)
        row = np.repeat(np.arange(len(keys)), lengths)
        known, codes = ids >= 0, places[row] * n_items + ids

        def rows_with(entry: Bools, row: Ints = row, n: int = len(keys)) -> Bools:
            return np.bincount(row, entry, minlength=n) > 0

        twice = known & pd.Series(row * n_items + ids).duplicated().to_numpy()
        kept = known & (places[row] >= 0) & np.isin(codes, barred)
        found.note("items that are not in items.parquet", "name them as it does", keys, rows_with(~known))
        found.note("an item twice", "list each once", keys, rows_with(twice))
        found.note("items that must be left out", "take them out before the list is cut", keys, rows_with(kept))
        rank = np.arange(len(row)) - np.repeat(lengths.cumsum() - lengths, lengths)
        fine = known & (places[row] >= 0) & (rank < file.width)
        table[places[row][fine], rank[fine]] = ids[fine]
    found.settle()
    _check_lengths(file, table, n_items, barred)
    return ListRows(table, n_items)


def _check_lengths(file: AnswerFile, table: NDArray[np.int32], n_items: int, barred: Ints) -> None:
    """A list may end early only where every item that any list shows is in it, or must be left out of it."""
    length, keys, found = (table >= 0).sum(1), file.asked.to_numpy(), Findings(file.path)
    shown = np.zeros(n_items, np.bool_)
    shown[table[table >= 0]] = True
    away = np.bincount(barred // n_items, shown[barred % n_items], minlength=len(table))
    if not file.unserved:
        found.note("an empty list", file.silence, keys, length == 0)
    cut = (length > 0) & (length < file.width) & (length + away < shown.sum())
    remedy = f"give the {file.width} best; other lists show items that are neither in these nor left out"
    found.note("a list that ends early", remedy, keys, cut)
    found.settle()
