"""The contract of an endpoint, from this side: what the service says it is, and the three questions it can be asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditkit.contracts import Access, Side
from auditkit.data.dataset import Floats, Ints
from auditkit.errors import DataError
from auditkit.outside.http_session import HttpSession
from auditkit.outside.json_answers import AnswerError, distinct, fields_of, ids_of, kind_of, rows_of, size_of, table_of
from auditkit.outside.source import Ids

CONTRACT = "auditkit/1"
WORDS = {
    "scores": Access.SCORES | Access.LISTS, "lists": Access.LISTS,
    "new-users": Access.NEW_USERS, "new-items": Access.NEW_ITEMS,
}  # fmt: skip

# A number takes at most 25 characters; the rest is room for separators and modest indentation.
_BYTES_PER_NUMBER = 64
# An id of the data files as text; longer ones are no ids.
_BYTES_PER_NAME = 256
_BYTES_AROUND = 2**14


@dataclass(frozen=True, eq=False)
class Description:
    """What a service says of itself.

    Attributes:
        n_users, n_items: sizes of its id spaces.
        access: what it answers.
        max_users: most users or histories in one question; None sets no limit.
        max_k: longest list it gives; None sets no limit.
        users, items: the data set's id of each column, where the service names things by the data files' own ids.
        own: whether it does.
    """

    n_users: int
    n_items: int
    access: Access
    max_users: int | None = None
    max_k: int | None = None
    users: Ints | None = None
    items: Ints | None = None
    own: bool = False

    def at_once(self, wanted: int) -> int:
        """How many of `wanted` users may be asked at once."""
        return min(wanted, self.max_users or wanted)

    def without(self, access: Access) -> Description:
        """The same with less access."""
        return replace(self, access=self.access & ~access)


def read_description(session: HttpSession, ids: Ids) -> Description:
    """Ask a service what it is.

    Raises:
        DataError: it does not say, says what the contract does not know, or is made for other data.
    """
    limit = _BYTES_AROUND + _BYTES_PER_NAME * (ids.n_users + ids.n_items)
    return session.ask("", lambda answer: _description(answer, ids), limit=limit)


def _description(answer: dict[str, Any], ids: Ids) -> Description:
    _check_contract(answer.get("contract"))
    _, n_users, n_items, access, most, max_k, named, items, users = fields_of(
        answer,
        ("contract", "n_users", "n_items", "access"),
        ("max_users_per_request", "max_k", "ids", "items", "users"),
    )
    for name, found, wanted in (("n_users", n_users, ids.n_users), ("n_items", n_items, ids.n_items)):
        if size_of(found, name) != wanted:
            raise AnswerError(f"{name} must be {wanted}, as in the data, got {found}; serve the audited data's ids")
    made = Description(
        n_users, n_items, _access(access),
        None if most is None else size_of(most, "max_users_per_request"),
        None if max_k is None else size_of(max_k, "max_k"),
    )  # fmt: skip
    if named is None and items is None and users is None:
        return made
    return _with_own_ids(made, ids, named, items, users)


def _check_contract(found: Any) -> None:
    if found != CONTRACT:
        shown = found if isinstance(found, str) and re.fullmatch(r"auditkit/\d{1,3}", found) else "something else"
        raise AnswerError(f"contract must be {CONTRACT!r}, got {shown}; is this the address of an auditkit endpoint?")


def _access(words: Any) -> Access:
    known = ", ".join(WORDS)
    if type(words) is not list or not all(isinstance(word, str) and word in WORDS for word in words):
        raise AnswerError(f"access must be a list of words out of {known}")
    found = Access(0)
    for word in words:
        found |= WORDS[word]
    if Access.LISTS not in found:
        raise AnswerError("access must hold scores or lists; there is nothing to audit else")
    return found


def _with_own_ids(made: Description, ids: Ids, named: Any, items: Any, users: Any) -> Description:
    if named != "own":
        raise AnswerError('ids must be "own" where it stands, or where items or users are listed')
    if items is None or (users is None and Access.NEW_ITEMS in made.access):
        raise AnswerError("own ids need items, and users too where access holds new-items: the ids of the columns")
    return replace(
        made,
        own=True,
        items=_columns(items, ids, "item"),
        users=None if users is None else _columns(users, ids, "user"),
    )


def _columns(texts: Any, ids: Ids, side: Side) -> Ints:
    size = ids.n_items if side == "item" else ids.n_users
    if type(texts) is not list or len(texts) != size:
        raise AnswerError(f"{side}s must be a list of {size} ids, one for each column")
    return _placed(texts, ids, side, f"{side}s")


def _placed(texts: Sequence[Any], ids: Ids, side: Side, name: str) -> Ints:
    """The data set's ids of things that the service names by the data files' ids."""
    odd = sorted(kind_of(text) for text in texts if type(text) is not str)
    if odd:
        raise AnswerError(f"{name} must hold ids as text, got {odd[0]}")
    if not texts:
        return np.empty(0, np.int64)
    try:
        found = ids.items(texts, name) if side == "item" else ids.users(texts, name)
    except DataError:
        raise AnswerError(f"{name} holds ids that are not in the data; name them as the data files do") from None
    return distinct(found, name)


@dataclass(frozen=True, eq=False)
class Service:
    """The questions of the contract, each one request; ids on this side are the data set's.

    Attributes:
        session: to the service.
        ids: of the data set.
        about: what the service said of itself.
    """

    session: HttpSession
    ids: Ids
    about: Description

    def scores(self, users: Ints) -> Floats:
        """Score rows, float64 [n_users_asked, n_items], NaN where an item is not offered."""
        body = {"users": self._said(users, "user")}
        return self._table("/scores", body, len(users), len(users), "item")

    def fold_in(self, histories: Sequence[Sequence[int]], side: Side) -> Floats:
        """Score rows of fresh entities told the others' ids: float64 [n_histories, n_items], or [.., n_users]."""
        other: Side = "item" if side == "user" else "user"
        told = [self._said(np.array(history, np.int64), other) for history in histories]
        body = {"side": side, "histories": told}
        return self._table("/fold-in", body, sum(map(len, told)), len(told), other)

    def lists(self, users: Ints, k: int) -> Floats:
        """Lists as scores, float64 [n_users_asked, n_items]: k for the best, k-1, ..., NaN where not listed."""
        name_bytes = _BYTES_PER_NAME if self.about.own else _BYTES_PER_NUMBER

        def read(answer: dict[str, Any]) -> Floats:
            (items,) = fields_of(answer, ("items",))
            found = np.full((len(users), self.about.n_items), np.nan)
            for row, (j, listed) in zip(found, enumerate(rows_of(items, len(users), "items")), strict=True):
                row[self._listed(listed, k, f"items[{j}]")] = k - np.arange(len(listed))
            return found

        return self.session.ask(
            "/lists", read, body={"users": self._said(users, "user"), "k": k}, ids=len(users),
            limit=_BYTES_AROUND + name_bytes * k * len(users),
        )  # fmt: skip

    def _listed(self, listed: list[Any], k: int, name: str) -> Ints:
        if len(listed) > k:
            raise AnswerError(f"{name} must hold at most {k} items, as asked, got {len(listed)}")
        return _placed(listed, self.ids, "item", name) if self.about.own else ids_of(listed, self.about.n_items, name)

    def _said(self, asked: Ints, side: Side) -> list[Any]:
        if not self.about.own:
            return list(asked.tolist())
        named: NDArray[Any] = self.ids.own_users(asked) if side == "user" else self.ids.own_items(asked)
        return list(named.tolist())

    def _table(self, route: str, body: Any, n_ids: int, n_rows: int, side: Side) -> Floats:
        """A score table whose columns are items or users, in the order of the data set's ids."""
        about = self.about
        width, columns = (about.n_items, about.items) if side == "item" else (about.n_users, about.users)

        def read(answer: dict[str, Any]) -> Floats:
            return table_of(fields_of(answer, ("scores",))[0], n_rows, width)

        limit = _BYTES_AROUND + _BYTES_PER_NUMBER * n_rows * width
        found = self.session.ask(route, read, body=body, ids=n_ids, limit=limit)
        if columns is None:
            return found
        placed = np.empty_like(found)
        placed[:, columns] = found
        return placed
