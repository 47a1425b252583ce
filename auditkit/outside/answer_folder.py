"""A folder of answers against the questions that they answer: everything is checked before anything is used."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from auditkit.contracts import Access
from auditkit.data.dataset import Ints
from auditkit.digests import digest_of
from auditkit.errors import ConfigurationError, DataError
from auditkit.outside.answer_lists import ListRows, load_lists
from auditkit.outside.answer_scores import ScoreRows, check_scores, load_scores
from auditkit.outside.answer_tables import AnswerFile
from auditkit.outside.columns import read_ids
from auditkit.outside.question_files import Questions, read_questions
from auditkit.outside.source import Ids
from auditkit.requests import Names

FOLDED = "folded.parquet"


@dataclass(frozen=True, eq=False)
class Asked:
    """The questions in terms of the data set.

    Attributes:
        questions: as written.
        named: the ids that they use.
        users: int64 [n_asked], ids of the data set.
        histories: digests, in the order of rows.
    """

    questions: Questions
    named: Ids
    users: Ints
    histories: pd.Index


def read_asked(ids: Ids, where: Path, pseudonyms: Path | None, max_bytes: int) -> Asked:
    """The questions in a folder, placed in the data set.

    Args:
        ids: of the data set.
        where: the folder of the questions.
        pseudonyms: the file of pseudonyms, where the questions use them.
        max_bytes: the most that one file may have.

    Raises:
        ConfigurationError: pseudonyms are used and not named, or named and not used.
        DataError: the questions are not as they were written, or of another data set.
    """
    questions = read_questions(where, max_bytes)
    if questions.pseudonyms != (pseudonyms is not None):
        raise ConfigurationError(
            "options.pseudonyms is missing: the questions use pseudonyms; name their file pseudonyms.parquet"
            if questions.pseudonyms
            else "options.pseudonyms must be left out: the questions use the data files' own ids"
        )
    named = ids if pseudonyms is None else _pseudonymous(ids, pseudonyms, max_bytes)
    items = named.items(questions.items, f"{where / 'items.parquet'}")
    if len(np.unique(items)) != ids.n_items or len(items) != ids.n_items:
        raise DataError(f"{where} asks about {len(items)} items, the data set has {ids.n_items}; write them again")
    users = named.users(questions.users, f"{where / 'users.parquet'}")
    return Asked(questions, named, users, pd.Index([*questions.histories], dtype=object))


def _pseudonymous(ids: Ids, path: Path, max_bytes: int) -> Ids:
    """The same ids under the names of a file of pseudonyms, which must name every user and item once."""
    table = pd.DataFrame(read_ids(path, ("kind", "pseudonym", "id"), max_bytes))
    found = {}
    for kind, size, lookup in (("user", ids.n_users, ids.users), ("item", ids.n_items, ids.items)):
        mine = table[table["kind"] == kind]
        places = lookup(mine["id"].to_numpy(), f"{path}, column id")
        if len(mine) != size or len(np.unique(places)) != size or mine["pseudonym"].nunique() != size:
            raise DataError(f"{path} must name each of the {size} {kind}s once; it is not of this data set, or changed")
        found[kind] = np.empty(size, object)
        found[kind][places] = mine["pseudonym"].to_numpy()
    return Ids(ids.n_users, ids.n_items, Names(found["user"].astype(str), found["item"].astype(str)))


@dataclass(frozen=True, eq=False)
class Answers:
    """The files that answer.

    Attributes:
        home: the folder.
        asked: the questions.
        unserved: users without any score or item are not served.
        max_bytes: the most that one file may have.
    """

    home: Path
    asked: Asked
    unserved: bool
    max_bytes: int

    @property
    def listed(self) -> bool:
        """Lists are wanted, not scores."""
        return self.asked.questions.wanted == "lists"

    @property
    def access(self) -> Access:
        """What the files grant.

        Every history that the audit asks about is answered or none is, and they are all of one side.
        """
        own = Access.LISTS if self.listed else Access.LISTS | Access.SCORES
        if self._folded is None:
            return own
        return own | (Access.NEW_USERS if self.asked.questions.side == "user" else Access.NEW_ITEMS)

    def digest(self) -> str:
        """SHA-256 over the names and digests of the files that are read, and that of the questions."""
        found = []
        for path in (self.home / name for name in sorted(self.asked.questions.answers)):
            if path.is_file():
                with path.open("rb") as file:
                    found.append([path.name, hashlib.file_digest(file, "sha256").hexdigest()])
        return digest_of("tables", self.asked.questions.digest, found)

    def check(self) -> list[str]:
        """Look at everything.

        Returns:
            What can be and is seldom meant, in words.

        Raises:
            DataError: all that is wrong.
        """
        problems: list[str] = []
        cautions: list[str] = []
        for step in self._steps():
            try:
                cautions += step()
            except DataError as error:
                problems.append(str(error))
        if problems:
            text = "\n- ".join(problems)
            raise DataError(f"several problems:\n- {text}" if "\n" in text else text)
        return cautions

    def scores(self) -> tuple[ScoreRows, ScoreRows | None]:
        """Rows of users and of histories."""
        items = self.asked.named.items(self._order("item")[0], "items.parquet")
        if self._folded is None:
            return load_scores(self._main, items), None
        fresh = self.asked.named.users(self._order("user")[0], "all_users.parquet") if self._by_user else items
        return load_scores(self._main, items), load_scores(self._folded, fresh)

    def lists(self) -> tuple[ListRows, ListRows | None]:
        """Lists of users and of histories."""
        return self._list_rows(self._main), None if self._folded is None else self._list_rows(self._folded)

    def _steps(self) -> Iterator[Callable[[], list[str]]]:
        files = [file for file in (self._main, self._folded) if file is not None]
        if self.listed:
            yield from (partial(self._check_lists, file) for file in files)
            return
        yield self._check_kind
        yield lambda: self._order("item")[1]
        if self._by_user:
            yield lambda: self._order("user")[1]
        yield from (partial(check_scores, file) for file in files)

    @property
    def _main(self) -> AnswerFile:
        asked = self.asked.questions
        width = asked.length or len(asked.items)
        return self._file(f"{asked.wanted}.parquet", "user", asked.users, width, unserved=self.unserved)

    @property
    def _folded(self) -> AnswerFile | None:
        asked = self.asked.questions
        if not asked.histories or not (self.home / FOLDED).exists():
            return None
        width = asked.length or len(asked.everyone or asked.items)
        return self._file(FOLDED, "history", tuple(asked.histories), width, unserved=False)

    @property
    def _by_user(self) -> bool:
        """Whether there are scores of fresh items, one for each user."""
        return self._folded is not None and self.asked.questions.side == "item"

    def _file(self, name: str, key: str, asked: Sequence[str], width: int, *, unserved: bool) -> AnswerFile:
        index = pd.Index(list(asked), dtype=object)
        return AnswerFile(self.home / name, key, index, self.asked.questions.digest, width, unserved, self.max_bytes)

    def _check_kind(self) -> list[str]:
        if (self.home / "lists.parquet").exists() and not self._main.path.exists():
            raise DataError(
                f"{self.home} holds lists, and the questions want scores; write questions with access to lists alone "
                '(access = ["lists"])'
            )
        return []

    def _check_lists(self, file: AnswerFile) -> list[str]:
        self._list_rows(file)
        return []

    def _list_rows(self, file: AnswerFile) -> ListRows:
        names = pd.Index(self.asked.named.own_items(np.arange(self.asked.named.n_items)).astype(object))
        return load_lists(file, names, self._barred_users() if file.key == "user" else self._barred_histories())

    def _barred_users(self) -> Ints:
        pairs, named = self.asked.questions.left_out, self.asked.named
        place = np.full(named.n_users, -1, np.int64)
        place[self.asked.users] = np.arange(len(self.asked.users))
        rows = place[named.users(pairs["user"].to_numpy(), "left_out.parquet")]
        items = named.items(pairs["item"].to_numpy(), "left_out.parquet")
        return np.sort(rows[rows >= 0] * named.n_items + items[rows >= 0])

    def _barred_histories(self) -> Ints:
        told = self.asked.questions.histories.values()
        rows = np.repeat(np.arange(len(told)), [len(ids) for ids in told])
        items = self.asked.named.items([one for ids in told for one in ids], "histories.parquet")
        return np.sort(rows * self.asked.named.n_items + items)

    def _order(self, kind: str) -> tuple[Sequence[str], list[str]]:
        """Of what the columns of scores are, and a caution where that is not said in the answers.

        Raises:
            DataError: the file that says it does not name each item (or user) once.
        """
        name = "items.parquet" if kind == "item" else "all_users.parquet"
        known = self.asked.questions.items if kind == "item" else self.asked.questions.everyone
        if not (self.home / name).exists():
            return known, [
                f"no {name} beside the answers, so that their scores are in the questions' order is not shown"
            ]
        own = read_ids(self.home / name, (kind,), self.max_bytes)[kind].tolist()
        wrong = sorted(set(own) ^ set(known))
        if wrong or len(own) != len(known):
            raise DataError(
                f"{self.home / name} must name each of the {len(known)} {kind}s of the questions once, in the order of "
                f"the scores; it has {len(own)} rows"
                + (f", and {len(wrong)} {kind}s are unknown or missing, such as {wrong[0]!r}" if wrong else "")
            )
        return own, []
