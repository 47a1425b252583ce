"""Questions of an audit in a folder: written whole or not at all, and read with every digest checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NoReturn

import pandas as pd

from auditkit.architecture import Side
from auditkit.errors import DataError
from auditkit.outside.columns import MAX_BYTES, Limits, batches, open_columns, parts, read_ids, texts
from auditkit.outside.question_words import readme

VERSION = 1
# The file of counts and digests; it has a few hundred bytes.
_ABOUT, _ABOUT_BYTES = "questions.json", 10**6


@dataclass(frozen=True, eq=False)
class Questions:
    """What the owner of a system is asked. Ids are text: the data files' own, or pseudonyms of these.

    Attributes:
        wanted: `scores` of all items, or `lists` of the best.
        users: whose.
        items: all items.
        pseudonyms: ids are pseudonyms.
        side: what the histories are of.
        histories: digest of its content -> told ids of a fresh user (items) or a fresh item (users).
        everyone: all users, where fresh items are asked about; else empty.
        left_out: pairs that must not be listed, columns user and item; no rows where scores are wanted.
        length: of the lists; None where scores are wanted.
    """

    wanted: Literal["scores", "lists"]
    users: tuple[str, ...]
    items: tuple[str, ...]
    pseudonyms: bool = False
    side: Side = "user"
    histories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    everyone: tuple[str, ...] = ()
    left_out: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"user": [], "item": []}, dtype=str))
    length: int | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that is asked."""
        state = hashlib.sha256(json.dumps([VERSION, self.wanted, self.side, self.length, self.pseudonyms]).encode())
        pairs = (self.left_out["user"].tolist(), self.left_out["item"].tolist())
        for ids in (self.users, self.items, sorted(self.histories), self.everyone, *pairs):
            state.update(json.dumps(list(ids)).encode() + b"\n")
        return state.hexdigest()

    @property
    def answers(self) -> dict[str, list[str]]:
        """File that is expected back -> its columns; `folded.parquet` and those that say an order may be left out."""
        found = {f"{self.wanted}.parquet": ["user", self.column]}
        if self.wanted == "scores":
            found["items.parquet"] = ["item"]
        if self.histories:
            found["folded.parquet"] = ["history", self.column]
        return {**found, "all_users.parquet": ["user"]} if self.everyone else found

    @property
    def column(self) -> str:
        """The column of the answers."""
        return "scores" if self.wanted == "scores" else "items"


def history_id(side: Side, told: Sequence[str]) -> str:
    """What a history is called: the first 128 bits of a SHA-256 of its content, 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps([side, list(told)]).encode()).hexdigest()[:32]


def put(questions: Questions, folder: Path) -> None:
    """Write all files of the questions into a folder that is there."""
    _ids("user", questions.users).to_parquet(folder / "users.parquet", index=False)
    _ids("item", questions.items).to_parquet(folder / "items.parquet", index=False)
    if questions.everyone:
        _ids("user", questions.everyone).to_parquet(folder / "all_users.parquet", index=False)
    if questions.histories:
        ids, told = [*questions.histories], [list(ids) for ids in questions.histories.values()]
        pd.DataFrame({"history": ids, "side": questions.side, "told": told}).to_parquet(
            folder / "histories.parquet", index=False
        )
    if questions.wanted == "lists":
        questions.left_out.to_parquet(folder / "left_out.parquet", index=False)
    (folder / "README.txt").write_text(readme(questions), encoding="utf-8")
    (folder / _ABOUT).write_text(json.dumps(_about(questions), indent=2) + "\n", encoding="utf-8")


def _ids(name: str, ids: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(list(ids), dtype=str)})


def _about(questions: Questions) -> dict[str, Any]:
    return {
        "version": VERSION, "digest": questions.digest, "wanted": questions.wanted, "length": questions.length,
        "side": questions.side, "pseudonyms": questions.pseudonyms, "n_users": len(questions.users),
        "n_items": len(questions.items), "n_histories": len(questions.histories),
        "n_all_users": len(questions.everyone), "answers": questions.answers,
    }  # fmt: skip


def read_questions(folder: Path, max_bytes: int = MAX_BYTES) -> Questions:
    """The questions in a folder.

    Args:
        folder: as `auditkit points` wrote it.
        max_bytes: the most that one of its tables may have.

    Raises:
        DataError: they are not there, of another version, or not as they were written.
    """
    about = _told_about(folder)

    def column(name: str, file: str) -> tuple[str, ...]:
        return tuple(read_ids(folder / file, (name,), max_bytes)[name].tolist())

    try:
        listed = about["wanted"] == "lists"
        found = Questions(
            "lists" if listed else "scores", column("user", "users.parquet"), column("item", "items.parquet"),
            bool(about["pseudonyms"]), "item" if about["side"] == "item" else "user",
            _read_histories(folder / "histories.parquet", max_bytes) if about["n_histories"] else {},
            column("user", "all_users.parquet") if about["n_all_users"] else (),
            *((_read_left_out(folder, max_bytes), int(about["length"])) if listed else ()),
        )  # fmt: skip
        stated = about["digest"]
    except (KeyError, TypeError, ValueError) as error:
        _refuse(folder, f"{_ABOUT} is not as it was written ({type(error).__name__}: {error})")
    if found.digest != stated:
        _refuse(folder, f"its files do not have the digest that {_ABOUT} states, {str(stated)[:16]}")
    return found


def _refuse(folder: Path, why: str) -> NoReturn:
    raise DataError(f"{folder} holds no questions of an audit: {why}; name the folder that auditkit points wrote")


def _told_about(folder: Path) -> dict[str, Any]:
    path = folder / _ABOUT
    if not path.is_file() or path.stat().st_size > _ABOUT_BYTES:
        _refuse(folder, f"{_ABOUT} is missing or no file of at most {_ABOUT_BYTES:,} bytes")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        _refuse(folder, f"{_ABOUT} cannot be read ({error})")
    if not isinstance(about, dict) or about.get("version") != VERSION:
        stated = about.get("version") if isinstance(about, dict) else None
        _refuse(folder, f"{_ABOUT} is of version {stated!r}, this auditkit reads {VERSION}")
    return about


def _read_left_out(folder: Path, max_bytes: int) -> pd.DataFrame:
    return pd.DataFrame(read_ids(folder / "left_out.parquet", ("user", "item"), max_bytes), dtype=object)


def _read_histories(path: Path, max_bytes: int) -> dict[str, tuple[str, ...]]:
    file = open_columns(path, {"history": "ids", "side": "ids", "told": "lists"}, Limits(bytes=max_bytes))
    found: dict[str, tuple[str, ...]] = {}
    for batch in batches(file, path, ["history", "side", "told"]):
        _, lengths, entries = parts(batch.column("told"))
        ids, ends = texts(entries).tolist(), lengths.cumsum().tolist()
        for name, side, end, length in zip(
            texts(batch.column("history")), texts(batch.column("side")), ends, lengths.tolist(), strict=True
        ):
            told = tuple(ids[end - length : end])
            if side not in ("user", "item") or None in told or history_id(side, told) != name:
                raise DataError(f"{path}: history {name!r} is not what its digest says; write the questions again")
            found[name] = told
    return found
