"""Answers that are wrong in every way that was thought of, and what is said of them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditkit.errors import DataError
from tests.outside.small_answers import (
    ASKED,
    FRESH,
    HISTORIES,
    ITEMS,
    LISTS,
    SCORES,
    arrow,
    changed,
    lay_lists,
    lay_scores,
    opened,
    write,
    write_lists,
    write_scores,
)  # fmt: skip

Change = Callable[[Path], None]


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    return lay_scores(tmp_path)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    return lay_lists(tmp_path)


def broken(folder: Path, name: str, content: bytes) -> None:
    (folder / name).unlink()
    (folder / name).write_bytes(content)


def cut(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    broken(folder, name, whole[: len(whole) // 2])


def garbled(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[8:60] = bytes(52)
    broken(folder, name, bytes(content))


def replaced(folder: Path, name: str, make: Callable[[Path], object]) -> None:
    (folder / name).unlink()
    make(folder / name)


def no_utf8(folder: Path, name: str, column: str, values: pa.Array) -> None:
    texts = pa.array([b"u0", b"u1", b"\xff\xfe", b"u3", b"u4"], pa.binary()).view(pa.string())
    arrow(folder, name, **{"user": texts, column: values})


def bomb(folder: Path, name: str, column: str, one: Any) -> None:
    table = pa.table({"user": ASKED, column: [[one] * 400_000] * 5})
    pq.write_table(table, folder / name, compression="zstd")
    assert (folder / name).stat().st_size < 100_000


def as_numpy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, SCORES)


def column_twice(folder: Path) -> None:
    rows = pa.array(SCORES.tolist())
    pq.write_table(pa.table([pa.array(ASKED), rows, rows], ["user", "scores", "scores"]), folder / "scores.parquet")


def lists_instead(folder: Path) -> None:
    write_lists(folder)
    (folder / "scores.parquet").unlink()


SCORE_CASES: dict[str, tuple[Change, str]] = {
    "missing": (
        lambda p: (p / "scores.parquet").unlink(), r"scores.parquet is missing, or is no file; write a Parquet"),
    "a folder": (lambda p: replaced(p, "scores.parquet", Path.mkdir), r"scores.parquet is missing, or is no file"),
    "a pipe": (lambda p: replaced(p, "scores.parquet", os.mkfifo), r"scores.parquet is missing, or is no file"),
    "text": (lambda p: broken(p, "scores.parquet", b"user,scores\n" * 9), r"not a Parquet file that can be read"),
    "pickle": (lambda p: broken(p, "scores.parquet", pickle.dumps(SCORES)), r"not a Parquet file that can be read"),
    "numpy": (lambda p: replaced(p, "scores.parquet", as_numpy), r"not a Parquet file that can be read"),
    "empty file": (lambda p: broken(p, "scores.parquet", b""), r"not a Parquet file that can be read"),
    "half of a file": (lambda p: cut(p, "scores.parquet"), r"not a Parquet file that can be read"),
    "garbled rows": (lambda p: garbled(p, "scores.parquet"), r"scores.parquet is broken: .*; write it again"),
    "lists, not scores": (lists_instead, r"holds lists, and the questions want scores; write questions with access"),
    "no column of users": (
        lambda p: write(p / "scores.parquet", users=ASKED, scores=list(SCORES)),
        r"needs one column 'user', got 0 among the columns: users, scores"),
    "a column twice": (column_twice, r"needs one column 'scores', got 2 among the columns: user, scores, scores"),
    "pickled rows": (
        lambda p: write(p / "scores.parquet", user=ASKED, scores=[pickle.dumps(row) for row in SCORES]),
        r"column 'scores' must hold lists of float32 or float64, got binary"),
    "one number each": (
        lambda p: write(p / "scores.parquet", user=ASKED, scores=SCORES[:, 0]),
        r"must hold lists of float32 or float64, got double"),
    "whole numbers": (
        lambda p: write_scores(p, scores=np.arange(30).reshape(5, 6)), r"float64, got list<element: int64>"),
    "half precision": (
        lambda p: write_scores(p, scores=SCORES.astype(np.float16)), r"float64, got list<element: halffloat>"),
    "lists of text": (
        lambda p: write_scores(p, scores=SCORES.astype(str).tolist()), r"float64, got list<element: .*string>"),
    "users as floats": (
        lambda p: write_scores(p, users=np.arange(5.0)),
        r"column 'user' must hold ids, as text or whole numbers, got double"),
    "too many rows": (
        lambda p: write_scores(p, [*ASKED, "u5"], [*SCORES, SCORES[0]]),
        r"holds 6 rows, 5 were asked for; keep one row for each"),
    "a user twice": (
        lambda p: write_scores(p, ["u0", "u0", *ASKED[2:]]),
        r"a user that has a row already in 1 of its rows, such as that of 'u0'"),
    "a user missing": (
        lambda p: write_scores(p, ASKED[1:], SCORES[1:]),
        r"1 of 5 that were asked for have no row, such as 'u0'; answer all"),
    "a user not asked": (
        lambda p: write_scores(p, [*ASKED[:4], "u7"]),
        r"a user that was not asked for in 1 of its rows, such as that of 'u7'"),
    "an unknown user": (
        lambda p: write_scores(p, [*ASKED[:4], "nobody"]),
        r"a user that was not asked for in 1 .* 'nobody'; answer these questions"),
    "no rows": (lambda p: write_scores(p, ASKED[:0], SCORES[:0]), r"column 'user' must hold ids|got null|got double"),
    "a null user": (lambda p: write_scores(p, [*ASKED[:4], None]), r"no id \(null\) in 1 of its rows"),
    "a null row": (
        lambda p: write_scores(p, scores=[*SCORES[:4], None]),
        r"no scores \(null\) in 1 of its rows, such as that of 'u4'"),
    "a short row": (
        lambda p: write_scores(p, scores=[*SCORES[:4], SCORES[4, :5]]),
        r"not 6 scores in 1 of its rows, such as that of 'u4'"),
    "a long row": (
        lambda p: write_scores(p, scores=[SCORES[0, :3], *SCORES[1:4], np.zeros(8)]),
        r"not 6 scores in 2 of its rows, such as that of 'u0'"),
    "all rows long": (
        lambda p: write_scores(p, scores=np.zeros((5, 7))),
        r"its lists hold 35 entries, 7.0 each; at most 6 each were asked for"),
    "infinite": (
        lambda p: write_scores(p, scores=changed(SCORES, (3, 2), -np.inf)),
        r"infinite scores in 1 of its rows, such as that of 'u3'; give NaN"),
    "no score at all": (
        lambda p: write_scores(p, scores=changed(SCORES, 3, np.nan)),
        r"no score at all \(NaN\) in 1 .* 'u3'; .* set options.unserved"),
    "unpacks to too much": (
        lambda p: bomb(p, "scores.parquet", "scores", 0.5),
        r"its lists hold 2,000,000 entries, 400000.0 each; at most 6"),
    "no UTF-8": (
        lambda p: no_utf8(p, "scores.parquet", "scores", pa.array(SCORES.tolist())),
        r"scores.parquet is broken: .*UTF8"),
    "other questions": (
        lambda p: write_scores(p, questions="f" * 64), r"answers other questions: it states their digest f{16}, these"),
    "an unknown item": (
        lambda p: write(p / "items.parquet", item=[*ITEMS[:5], "i9"]),
        r"must name each of the 6 items .* 2 items are unknown or missing, such as 'i5'"),
    "an item twice": (
        lambda p: write(p / "items.parquet", item=[*ITEMS, "i5"]),
        r"each of the 6 items of the questions once.* it has 7 rows$"),
    "a null item": (
        lambda p: write(p / "items.parquet", item=[*ITEMS[:5], None]), r"column 'item' has empty places \(null\)"),
    "an endless item": (
        lambda p: write(p / "items.parquet", item=[*ITEMS[:5], "i" * 9999]), r"or ids of more than 1000 characters"),
    "a history missing": (
        lambda p: write(p / "folded.parquet", history=[*HISTORIES][:1], scores=list(FRESH[:1])),
        r"folded.parquet: 1 of 2 that were asked for have no row"),
    "another history": (
        lambda p: write(p / "folded.parquet", history=[next(iter(HISTORIES)), "0" * 32], scores=list(FRESH)),
        r"a history that was not asked for in 1 .* '0{32}'"),
    "a history without scores": (
        lambda p: write(p / "folded.parquet", history=[*HISTORIES], scores=list(FRESH * np.nan)),
        r"no score at all \(NaN\) in 2 of its rows.* or leave folded.parquet out"),
    "a history of users": (
        lambda p: write(p / "folded.parquet", history=[*HISTORIES], scores=list(np.zeros((2, 8)))),
        r"8.0 each; at most 6 each were asked for"),
}  # fmt: skip


@pytest.mark.parametrize("case", SCORE_CASES)
def test_malformed_scores(case: str, scored: Path) -> None:
    change, message = SCORE_CASES[case]
    opened(scored)
    change(scored / "ours")
    with pytest.raises(DataError, match=message):
        opened(scored)


def with_list(place: int, items: Any) -> Change:
    return lambda p: write_lists(p, [items if k == place else row for k, row in enumerate(LISTS)])


def folded_lists(*lists: Any) -> Change:
    return lambda p: write(p / "folded.parquet", history=[*HISTORIES], items=list(lists))


LIST_CASES: dict[str, tuple[Change, str]] = {
    "missing": (
        lambda p: (p / "lists.parquet").unlink(),
        r"lists.parquet is missing, or is no file; write a Parquet file with 'user'"),
    "text": (lambda p: broken(p, "lists.parquet", b"user,items\n" * 9), r"not a Parquet file that can be read"),
    "pickle": (lambda p: broken(p, "lists.parquet", pickle.dumps(LISTS)), r"not a Parquet file that can be read"),
    "half of a file": (lambda p: cut(p, "lists.parquet"), r"not a Parquet file that can be read"),
    "garbled rows": (lambda p: garbled(p, "lists.parquet"), r"lists.parquet is broken"),
    "no column of items": (
        lambda p: write(p / "lists.parquet", user=ASKED, item=LISTS), r"needs one column 'items', got 0"),
    "long form": (
        lambda p: write(p / "lists.parquet", user=ASKED, items=ITEMS[:5]),
        r"'items' must hold lists of ids, as text or whole numbers, got"),
    "lists of floats": (
        lambda p: write_lists(p, SCORES[:, :3].tolist()),
        r"must hold lists of ids, as text or whole numbers, got list<element: double>"),
    "pickled rows": (
        lambda p: write_lists(p, [pickle.dumps(row) for row in LISTS]),
        r"'items' must hold lists of ids, .* got binary"),
    "users as dates": (
        lambda p: write_lists(p, users=pd.date_range("2024", periods=5)), r"column 'user' must hold ids"),
    "too many rows": (lambda p: write_lists(p, [*LISTS, LISTS[0]], [*ASKED, "u5"]), r"holds 6 rows, 5 were asked for"),
    "a user twice": (
        lambda p: write_lists(p, users=["u1", "u1", *ASKED[2:]]),
        r"a user that has a row already in 1 of its rows, such as that of 'u1'"),
    "a user missing": (
        lambda p: write_lists(p, LISTS[1:], ASKED[1:]), r"1 of 5 that were asked for have no row, such as 'u0'"),
    "a user not asked": (
        lambda p: write_lists(p, users=[*ASKED[:4], "u7"]),
        r"a user that was not asked for in 1 of its rows, such as that of 'u7'"),
    "a null user": (lambda p: write_lists(p, users=[*ASKED[:4], None]), r"no id \(null\) in 1 of its rows"),
    "a null list": (with_list(3, None), r"no list \(null\) in 1 of its rows, such as that of 'u3'"),
    "an empty list": (
        with_list(3, []), r"an empty list in 1 of its rows, such as that of 'u3'; .* set options.unserved"),
    "cut short": (
        with_list(3, ["i5", "i4"]), r"a list that ends early in 1 of its rows, such as that of 'u3'; give the 3 best"),
    "all cut short": (
        lambda p: write_lists(p, [row[:2] for row in LISTS]),
        r"a list that ends early in 5 of its rows, such as that of 'u0'"),
    "too long": (
        lambda p: write_lists(p, [["i2"], *LISTS[1:4], ["i1", "i2", "i3", "i4"]]),
        r"more than 3 items in 1 of its rows, such as that of 'u4'"),
    "all too long": (
        lambda p: write_lists(p, [[*row, "i5"] for row in LISTS]),
        r"its lists hold 20 entries, 4.0 each; at most 3 each were asked for"),
    "an item twice": (with_list(2, ["i0", "i1", "i0"]), r"an item twice in 1 of its rows, such as that of 'u2'"),
    "an unknown item": (
        with_list(2, ["i0", "i1", "i6"]),
        r"items that are not in items.parquet in 1 of its rows, such as that of 'u2'"),
    "a null item": (
        with_list(2, ["i0", "i1", None]),
        r"items that are not in items.parquet in 1 of its rows, such as that of 'u2'"),
    "a left-out item": (
        with_list(1, ["i0", "i2", "i3"]),
        r"items that must be left out in 1 of its rows, such as that of 'u1'; take them out before"),
    "unpacks to too much": (lambda p: bomb(p, "lists.parquet", "items", "i0"), r"its lists hold 2,000,000 entries"),
    "no UTF-8": (lambda p: no_utf8(p, "lists.parquet", "items", pa.array(LISTS)), r"lists.parquet is broken: .*UTF8"),
    "other questions": (lambda p: write_lists(p, questions="0" * 64), r"answers other questions"),
    "a told item": (
        folded_lists(["i5", "i3", "i0"], ["i0", "i5", "i4"]),
        r"folded.parquet: items that must be left out in 1 of its rows"),
    "an empty history": (
        folded_lists(["i5", "i3", "i2"], []),
        r"folded.parquet: an empty list in 1 .*; answer for every history, or leave folded.parquet"),
}  # fmt: skip


@pytest.mark.parametrize("case", LIST_CASES)
def test_malformed_lists(case: str, listed: Path) -> None:
    change, message = LIST_CASES[case]
    opened(listed)
    change(listed / "ours")
    with pytest.raises(DataError, match=message):
        opened(listed)


def test_all_problems_are_told_at_once(scored: Path) -> None:
    write_scores(scored / "ours", ["u0", "u0", *ASKED[2:]], changed(SCORES, (3, 2), np.inf))
    write(scored / "ours" / "items.parquet", item=ITEMS[:5])
    write(scored / "ours" / "folded.parquet", history=list(HISTORIES), scores=[FRESH[0], None])
    with pytest.raises(DataError) as caught:
        opened(scored)
    lines = str(caught.value).split("\n- ")
    assert lines[0] == "several problems:"
    told = ("each of the 6 items", "has a row already", "infinite scores", "'u1'", "no scores (null)")
    for line, part in zip(lines[1:], told, strict=True):
        assert part in line


def test_size_is_looked_at_before_anything_is_read(scored: Path) -> None:
    # Long runs of one letter pack into next to nothing, whatever they unpack to.
    table = pa.table({"user": ["u" * 10**6] * 5, "scores": SCORES.tolist()})
    pq.write_table(table, scored / "ours" / "scores.parquet", compression="zstd")
    size = (scored / "ours" / "scores.parquet").stat().st_size
    assert size < 20_000
    with pytest.raises(DataError, match=r"scores.parquet: unpacks to 1,\d{3},\d{3} bytes; at most 100,000 \(options"):
        opened(scored, max_bytes=100_000)
    with (scored / "ours" / "scores.parquet").open("ab") as file:
        file.write(bytes(30_000))
    with pytest.raises(DataError, match=r"scores.parquet has 3\d,\d{3} bytes; at most 30,000 \(options.max_bytes\)"):
        opened(scored, max_bytes=30_000)
