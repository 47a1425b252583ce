"""Options and questions that do not fit the answers, the data or one another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditkit.errors import AuditkitError
from auditkit.outside import tables
from auditkit.outside.question_files import Questions, put
from tests.outside.small_answers import ASKED, HISTORIES, IDS, ITEMS, USERS, lay_scores, write

Change = Callable[[Path], None]


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    return lay_scores(tmp_path)


def about_with(**changes: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / "points" / "questions.json"
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")

    return change


def hidden(folder: Path, users: Any = USERS, items: Any = ITEMS) -> None:
    """Questions under pseudonyms, and a file that says whose they are."""
    for path in (folder / "points").iterdir():
        path.unlink()
    put(Questions("scores", ("pu0",), tuple(f"p{one}" for one in ITEMS), True), folder / "points")
    kinds = ["user"] * len(users) + ["item"] * len(items)
    own = [*users, *items]
    write(folder / "points" / "pseudonyms.parquet", kind=kinds, pseudonym=[f"p{one}" for one in own], id=own)


def no_json(folder: Path) -> None:
    (folder / "points" / "questions.json").write_text("{", "utf-8")


NAMED = {"pseudonyms": "points/pseudonyms.parquet"}
SETTING_CASES: dict[str, tuple[Change | None, dict[str, Any], str]] = {
    "an unknown option": (
        None, {"question": "points"}, r"options of table 'ours' has no option 'question'; did you mean"),
    "a bad limit": (None, {"max_bytes": 0}, r"max_bytes must be 1 or more, got 0"),
    "an option of another kind": (None, {"unserved": "yes"}, r"unserved must be bool, got 'yes'"),
    "pseudonyms that are not used": (None, NAMED, r"options.pseudonyms must be left out: the questions use the data"),
    "pseudonyms that are not named": (hidden, {}, r"options.pseudonyms is missing: the questions use pseudonyms"),
    "pseudonyms of other users": (
        lambda p: hidden(p, ["x", *USERS[1:]]), NAMED, r"column id: 1 of 8 ids are not in the data, such as 'x'"),
    "pseudonyms of few users": (lambda p: hidden(p, USERS[1:]), NAMED, r"must name each of the 8 users once"),
    "pseudonyms of an item twice": (
        lambda p: hidden(p, USERS, [*ITEMS[:5], "i4"]), NAMED, r"must name each of the 6 items once"),
    "no answers": (None, {"place": "theirs"}, r"theirs is no folder; name the folder of a system's answers"),
    "no questions": (
        None, {"questions": "nowhere"}, r"nowhere holds no questions of an audit: questions.json is missing"),
    "questions of another version": (
        about_with(version=9), {}, r"questions.json is of version 9, this auditkit reads 1"),
    "questions without a digest": (about_with(digest=None), {}, r"do not have the digest that questions.json states"),
    "questions of another length": (
        about_with(wanted="lists", length="x"), {}, r"left_out.parquet is missing|not as it was written"),
    "questions that are no JSON": (no_json, {}, r"questions.json cannot be read"),
    "questions of other users": (
        lambda p: write(p / "points" / "users.parquet", user=ASKED[:4]), {}, r"its files do not have the digest that"),
    "histories told otherwise": (
        lambda p: write(p / "points" / "histories.parquet", history=[*HISTORIES], side="user", told=[["i0"], ["i3"]]),
        {},
        r"history '[0-9a-f]{32}' is not what its digest says"),
    "questions of other data": (
        lambda p: put(Questions("scores", tuple(ASKED), tuple(ITEMS[:5])), p / "points"), {},
        r"points asks about 5 items, the data set has 6; write them again"),
}  # fmt: skip


@pytest.mark.parametrize("case", SETTING_CASES)
def test_malformed_settings_and_questions(case: str, scored: Path) -> None:
    change, options, message = SETTING_CASES[case]
    if change is not None:
        change(scored)
    more = {**options}
    place = more.pop("place", "ours")
    with pytest.raises(AuditkitError, match=message):
        tables.source(place, IDS, {"questions": "points", **more}, folder=scored)
