"""Tables of answers: a system that only its owner can ask, by its answers to the questions of `auditkit points`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from auditkit.architecture import Side
from auditkit.contracts import Recommender
from auditkit.data.dataset import Ints
from auditkit.errors import ConfigurationError, DataError, NotApplicableError
from auditkit.outside.answer_folder import FOLDED, Answers, Asked, read_asked
from auditkit.outside.answer_lists import ListRows
from auditkit.outside.answer_scores import ScoreRows
from auditkit.outside.columns import MAX_BYTES
from auditkit.outside.question_files import history_id
from auditkit.outside.source import Ids, Source
from auditkit.plugins import resolve_options


@dataclass(frozen=True)
class Options:
    """What the configuration says of a folder of answers; paths are relative to the configuration file.

    Attributes:
        questions: folder that `auditkit points` wrote.
        pseudonyms: the file of that name, where the questions use pseudonyms.
        unserved: users without a score, or with an empty list, are not served by the system; else they are an error.
        max_bytes: the most that one file may have, on disk and unpacked, 1 or more.
    """

    questions: str
    pseudonyms: str | None = None
    unserved: bool = False
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise ConfigurationError(f"max_bytes must be 1 or more, got {self.max_bytes}")


class Tabled:
    """A recommender that looks answers up."""

    def __init__(self, asked: Asked, rows: ScoreRows | ListRows, folded: ScoreRows | ListRows | None) -> None:
        self.n_users, self.n_items = asked.named.n_users, asked.named.n_items
        self._asked, self._rows, self._folded = asked, rows, folded
        self._place = np.full(self.n_users, -1, np.int64)
        self._place[asked.users] = np.arange(len(asked.users))

    def score(self, users: Ints, *, branch: str | None = None) -> torch.Tensor:
        """The answers, float [n_given_users, n_items].

        Raises:
            NotApplicableError: a branch is asked for.
            DataError: a user was not asked for when the questions were written.
        """
        if branch is not None:
            raise NotApplicableError(f"tables of answers have no branch {branch!r}")
        ids = np.asarray(users, np.int64)
        places = self._place[ids]
        if (places < 0).any():
            raise DataError(_changed("user", str(self._asked.named.own_users(ids[places < 0][:1])[0])))
        return self._rows.take(places)

    def fold_in(self, histories: Sequence[Ints], *, side: Side = "user") -> torch.Tensor:
        """The answers for fresh users or items, float [n_histories, n_items] (n_users for `side="item"`).

        Raises:
            NotApplicableError: the owner answered for none.
            DataError: a history was not asked for when the questions were written.
        """
        if self._folded is None:
            raise NotApplicableError(f"the tables hold no answers for new {side}s ({FOLDED})")
        named = self._asked.named.own_items if side == "user" else self._asked.named.own_users
        ids = [history_id(side, named(np.asarray(told, np.int64)).tolist()) for told in histories]
        places = np.asarray(self._asked.histories.get_indexer(pd.Index(ids, dtype=object)), np.int64)
        if (places < 0).any():
            raise DataError(_changed("history", ids[int(np.argmax(places < 0))]))
        return self._folded.take(places)


class ListTabled(Tabled):
    """A recommender that looks lists up: scores K to 1 for the listed items in their order, NaN for all others.

    Attributes:
        list_length: K.
    """

    def __init__(self, asked: Asked, rows: ListRows, folded: ListRows | None) -> None:
        super().__init__(asked, rows, folded)
        self.list_length: int = rows.items.shape[1]


def _changed(kind: str, name: str) -> str:
    return f"{kind} {name!r} was not asked for: the questions were changed since; write them again (auditkit points)"


def source(place: str, ids: Ids, options: Mapping[str, Any], *, folder: Path) -> Source:
    """A folder of answers of one system.

    It holds `scores.parquet` (columns user, scores) or `lists.parquet` (user, items), and where the questions ask for
    it `folded.parquet` (history, and scores or items). Beside scores, `items.parquet` says the order of their columns,
    and `all_users.parquet` that of the scores of fresh items; without these it is taken to be that of the questions.

    Args:
        place: the folder, relative to `folder`.
        ids: of the audited data set.
        options: see `Options`.
        folder: of the configuration file.

    Raises:
        ConfigurationError: options that are unknown, missing, or do not fit the questions.
        DataError: all that is wrong with the answers.
    """
    chosen: Options = resolve_options((Options, options, f"options of table {place!r}"))[0]
    home = folder / place
    if not home.is_dir():
        raise DataError(f"{home} is no folder; name the folder of a system's answers")
    pseudonyms = None if chosen.pseudonyms is None else folder / chosen.pseudonyms
    asked = read_asked(ids, folder / chosen.questions, pseudonyms, chosen.max_bytes)
    answers = Answers(home, asked, chosen.unserved, chosen.max_bytes)
    cautions, digest = answers.check(), answers.digest()

    def make() -> Recommender:
        if answers.digest() != digest:
            raise DataError(f"{home} has changed since the audit looked at it; start the audit again")
        return _opened(answers)

    text = f"table of {asked.questions.wanted} {place}" + "".join(f"; caution: {c}" for c in cautions)
    return Source(text, digest, answers.access, make, asked.questions.length)


def _opened(answers: Answers) -> Recommender:
    if not answers.listed:
        return Tabled(answers.asked, *answers.scores())
    return ListTabled(answers.asked, *answers.lists())
