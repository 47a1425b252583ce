"""Folders of answers as recommenders: rows are looked up in any order, and what cannot be known is said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from auditkit.contracts import Access
from auditkit.errors import DataError, NotApplicableError
from auditkit.outside import tables
from auditkit.outside.question_files import Questions, history_id, put
from auditkit.outside.source import Ids
from tests.outside.small_answers import (
    ASKED,
    FRESH,
    HISTORIES,
    ITEMS,
    SCORES,
    TOLD,
    USERS,
    arrow,
    changed,
    lay_lists,
    lay_scores,
    opened,
    write,
    write_lists,
    write_scores,
)  # fmt: skip


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    return lay_scores(tmp_path)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    return lay_lists(tmp_path)


def test_scores_are_looked_up_in_any_order(scored: Path) -> None:
    order = [3, 1, 4, 0, 2]
    write_scores(scored / "ours", [ASKED[k] for k in order], changed(SCORES, (2, 4), np.nan)[order][:, ::-1])
    write(scored / "ours" / "items.parquet", item=ITEMS[::-1])
    write(scored / "ours" / "folded.parquet", history=list(HISTORIES)[::-1], scores=list(FRESH[::-1, ::-1]))
    source = opened(scored)
    assert source.text == "table of scores ours"
    assert source.access == Access.LISTS | Access.SCORES | Access.NEW_USERS
    assert source.list_length is None
    table = source.open()
    np.testing.assert_array_equal(table.score(np.array([2, 0, 2])), changed(SCORES, (2, 4), np.nan)[[2, 0, 2]])
    assert isinstance(table, tables.Tabled)
    told = [np.array([int(item[1:]) for item in told]) for told in TOLD]
    np.testing.assert_array_equal(table.fold_in(told[::-1]), FRESH[::-1])
    # What a probe masks in its own copy stays in the table.
    table.score(np.array([1]))[:] = np.nan
    np.testing.assert_array_equal(table.score(np.array([1])), SCORES[[1]])
    with pytest.raises(DataError, match="user 'u6' was not asked for: the questions were changed since; write them"):
        table.score(np.array([1, 6]))
    with pytest.raises(DataError, match=r"history '[0-9a-f]{32}' was not asked for"):
        table.fold_in([np.array([5])])
    with pytest.raises(NotApplicableError, match="no branch 'id'"):
        table.score(np.array([1]), branch="id")


def test_single_precision_stays_single(scored: Path) -> None:
    write_scores(scored / "ours", scores=SCORES.astype(np.float32))
    found = opened(scored).open().score(np.array([4]))
    assert str(found.dtype) == "torch.float32"
    np.testing.assert_array_equal(found, SCORES[[4]].astype(np.float32))


def test_lists_are_scores_of_what_they_show(listed: Path) -> None:
    source = opened(listed)
    assert source.text == "table of lists ours"
    assert source.access == Access.LISTS | Access.NEW_USERS
    assert source.list_length == 3
    table = source.open()
    assert isinstance(table, tables.ListTabled)
    assert table.list_length == 3
    nan = np.nan
    np.testing.assert_array_equal(
        table.score(np.array([3, 0])), [[nan, nan, nan, 1, 2, 3], [nan, nan, 3, 2, 1, nan]]
    )  # fmt: skip
    np.testing.assert_array_equal(table.fold_in([np.array([3])]), [[3, nan, nan, nan, 1, 2]])


def test_lists_may_end_where_nothing_is_left(listed: Path) -> None:
    # Nobody is shown i4 or i5; u0 must not be shown i0 and i1.
    write_lists(
        listed / "ours", [["i2", "i3"], ["i0", "i1", "i3"], ["i0", "i1", "i2"], ["i3", "i0"], ["i1", "i2", "i3"]]
    )
    with pytest.raises(
        DataError, match="a list that ends early in 1 of its rows, such as that of 'u3'; give the 3 best"
    ):
        opened(listed)
    write_lists(listed / "ours", [["i2", "i3"], ["i0", "i1", "i3"], ["i0", "i1", "i2"], ["i3", "i0", "i1"], []])
    with pytest.raises(DataError, match=r"an empty list in 1 of its rows, such as that of 'u4'; .* options.unserved"):
        opened(listed)
    assert opened(listed, unserved=True).open().score(np.array([4])).isnan().all()


def test_without_folded_answers_there_is_no_access_to_new_users(listed: Path) -> None:
    (listed / "ours" / "folded.parquet").unlink()
    source = opened(listed)
    assert source.access == Access.LISTS
    table: Any = source.open()
    with pytest.raises(NotApplicableError, match=r"no answers for new users \(folded.parquet\)"):
        table.fold_in([np.array([3])])


def test_fresh_items_are_scored_for_all_users(tmp_path: Path) -> None:
    (tmp_path / "points").mkdir()
    (tmp_path / "ours").mkdir()
    name, fresh = history_id("item", ("u1", "u6")), np.arange(8.0)[None]
    asked = Questions(
        "scores", tuple(ASKED), tuple(ITEMS), side="item", histories={name: ("u1", "u6")}, everyone=tuple(USERS)
    )
    put(asked, tmp_path / "points")
    write_scores(tmp_path / "ours")
    write(tmp_path / "ours" / "folded.parquet", history=[name], scores=list(fresh))
    assert "no items.parquet beside the answers" in opened(tmp_path).text
    assert "no all_users.parquet beside the answers" in opened(tmp_path).text
    write(tmp_path / "ours" / "all_users.parquet", user=USERS[::-1])
    table: Any = opened(tmp_path).open()
    np.testing.assert_array_equal(table.fold_in([np.array([1, 6])], side="item"), fresh[:, ::-1])
    write(tmp_path / "ours" / "all_users.parquet", user=USERS[:-1])
    with pytest.raises(
        DataError, match=r"must name each of the 8 users of the questions once.* it has 7 rows, and 1 users"
    ):
        opened(tmp_path)


def test_what_is_seldom_meant_is_said(scored: Path) -> None:
    (scored / "ours" / "items.parquet").unlink()
    write_scores(scored / "ours", scores=changed(np.tile([1.0, 2.0], (5, 3)), 1, 0.5))
    text = opened(scored).text
    assert "caution: no items.parquet beside the answers" in text
    assert "1 of 5 rows of scores.parquet have one score for all" in text
    assert "of the first 5 rows of scores.parquet repeat over half of their scores" in text


def test_users_who_are_not_served(scored: Path) -> None:
    write_scores(scored / "ours", scores=changed(SCORES, 2, np.nan))
    assert opened(scored, unserved=True).open().score(np.array([2])).isnan().all()


def test_a_change_after_the_check_is_noticed(scored: Path) -> None:
    source = opened(scored)
    digest = source.digest
    write_scores(scored / "ours", scores=SCORES + 1)
    with pytest.raises(DataError, match="has changed since the audit looked at it"):
        source.open()
    assert opened(scored).digest != digest
    write_scores(scored / "ours")
    assert opened(scored).digest == digest
    source.open()


def test_dictionaries_and_whole_numbers_are_ids_too(scored: Path) -> None:
    users = pa.array(ASKED).dictionary_encode()
    arrow(scored / "ours", user=users, scores=pa.array(SCORES.tolist()))
    np.testing.assert_array_equal(opened(scored).open().score(np.array([4])), SCORES[[4]])
    numbers = Ids(5, 6)
    for name in os.listdir(scored / "points"):
        (scored / "points" / name).unlink()
    put(Questions("scores", tuple("01234"), tuple("012345")), scored / "points")
    write_scores(scored / "ours", users=np.arange(5))
    write(scored / "ours" / "items.parquet", item=np.arange(6))
    found = tables.source("ours", numbers, {"questions": "points"}, folder=scored).open()
    np.testing.assert_array_equal(found.score(np.arange(5)), SCORES)
