"""A service that answers HTTP as a system under test: `endpoint = "https://host/path"`.

The contract, version 1. All bodies are JSON objects in UTF-8 with these keys and no others; a score is a finite number,
or null where an item is not offered; users and items are the data set's 0-based ids.

`GET {address}` describes the service:
    {"contract": "auditkit/1", "n_users": 943, "n_items": 1682, "access": ["scores", "new-users"]}
    `access` names what it answers, of scores, lists, new-users and new-items; scores or lists must be among them.
    Optional: `max_users_per_request`; `max_k`, the longest list it gives; `"ids": "own"`, for users and items named by
    the data files' own ids, as text: then `items` lists them all in the order of the columns, and `users` too where
    new-items is in `access`.
`POST {address}/scores` {"users": [0, 5]} -> {"scores": [[0.5, null, ...], ...]}, a full row for each user in order.
`POST {address}/lists` {"users": [0, 5], "k": 100} -> {"items": [[12, 7, ...], ...]}, at most k items, best first.
`POST {address}/fold-in` {"side": "user", "histories": [[3, 9], ...]} -> {"scores": [[...], ...]}: scores of all items
    for a fresh user who is told these items, or, with the side "item", of all users for a fresh item told these users.

The service must answer the same question alike each time. Lists are taken as served. A service that leaves out of a
list what its user already has leaves out forgotten items too, as long as it still knows them: such lists cannot show
that these were remembered, and an audit of lists alone sees less than one of scores.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from auditkit.contracts import Access, Recommender, Side
from auditkit.data.dataset import Floats, Ints
from auditkit.errors import ConfigurationError, DataError, NotApplicableError
from auditkit.outside.http_manners import Manners, address_problems
from auditkit.outside.http_session import HttpSession, NotServedError
from auditkit.outside.service import Description, Service, read_description
from auditkit.outside.source import Ids, Source
from auditkit.plugins import resolve_options

# Of one answer: large enough that waiting for the network does not count, small enough to be parsed at once.
_ANSWER_BYTES = 8 * 2**20
_BYTES_PER_SCORE = 26
_MOST_AT_ONCE = 256
_TRIED = 8
# Of the largest score of a row. The rounding of float32 products depends on the place in a batch.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Options(Manners):
    """Options of an endpoint, beside those of `Manners`.

    Attributes:
        batch: users or histories in one question, 1 or more, and never more than the service takes; None: at most 256,
            fewer where an answer would exceed 8 MB.
        list_length: length of the lists that are asked for where a service gives lists alone; None: 100, or as many as
            it gives if fewer. What users keep takes places in the lists of a service that does not leave it out.
    """

    batch: int | None = None
    list_length: int | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigurationError: some are out of range; all at once.
        """
        problems = [
            f"{name} must be 1 or more, got {value}"
            for name, value in (("batch", self.batch), ("list_length", self.list_length))
            if value is not None and value < 1
        ]
        try:
            super().__post_init__()
        except ConfigurationError as error:
            problems += error.problems
        if problems:
            raise ConfigurationError(problems)


class Endpoint:
    """The service as a recommender. Rows are kept, so that nothing is asked twice while it is held.

    Attributes:
        n_users, n_items: sizes of the id spaces.
    """

    def __init__(self, service: Service, batch: int | None) -> None:
        self.n_users, self.n_items = service.about.n_users, service.about.n_items
        self._service, self._batch = service, batch
        self._rows: dict[Hashable, Floats] = {}

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        """Scores as served, float64 [n_given_users, n_items], NaN where an item is not offered or not listed.

        Raises:
            NotApplicableError: a branch is asked for.
            DataError: the service does not answer, or not as the contract says.
        """
        if branch is not None:
            raise NotApplicableError("an endpoint serves one score and shows no branches of it")
        return self._asked([int(u) for u in users], self._of_users, self.n_items)

    def _of_users(self, users: Sequence[int]) -> Floats:
        return self._service.scores(np.array(users, np.int64))

    def fold_in(self, histories: Sequence[Ints], *, side: Side = "user") -> Tensor:
        """Scores of fresh users told items, float64 [n_histories, n_items], or of fresh items told users.

        Raises:
            NotApplicableError: the service takes no such fresh entities.
            DataError: the service does not answer, or not as the contract says.
        """
        if (Access.NEW_USERS if side == "user" else Access.NEW_ITEMS) not in self._service.about.access:
            raise NotApplicableError(f"{self._service.session.address} takes no new {side}s")
        asked = [(side, *(int(id_) for id_ in history)) for history in histories]
        width = self.n_items if side == "user" else self.n_users
        return self._asked(asked, lambda some: self._service.fold_in([ids[1:] for ids in some], side), width)

    def _asked(self, keys: Sequence[Any], ask: Callable[[Sequence[Any]], Floats], width: int) -> Tensor:
        """The rows of `keys`; those that are not known yet are asked for in batches."""
        new = [key for key in dict.fromkeys(keys) if key not in self._rows]
        size = self._service.about.at_once(self._batch or _batch_for(width))
        for start in range(0, len(new), size):
            some = new[start : start + size]
            self._rows.update(zip(some, ask(some), strict=True))
        return torch.from_numpy(np.stack([self._rows[key] for key in keys]) if len(keys) else np.empty((0, width)))


class ListEndpoint(Endpoint):
    """A service that gives lists alone: a listed item's score is its place from below, others are not offered.

    Attributes:
        list_length: length of the lists, which is also the score of the best item.
    """

    def __init__(self, service: Service, batch: int | None, list_length: int) -> None:
        super().__init__(service, batch)
        self.list_length = list_length

    def _of_users(self, users: Sequence[int]) -> Floats:
        return self._service.lists(np.array(users, np.int64), self.list_length)


def _batch_for(width: int) -> int:
    return max(1, min(_MOST_AT_ONCE, _ANSWER_BYTES // (_BYTES_PER_SCORE * width)))


def source(place: str, ids: Ids, options: Mapping[str, Any], *, folder: Path) -> Source:
    """A service as a source. It is asked what it is, twice for some users' rows, and once for each kind of fold-in.

    Each `open()` makes an endpoint with rows of its own; pace, limit and ledger of questions are shared.

    Args:
        place: address of the service, without credentials.
        ids: of the audited data set.
        options: see `Options`.
        folder: what file names in the options are relative to.

    Raises:
        ConfigurationError: address or options are not usable, all problems at once; the token is not accepted.
        DataError: the service is not reached, or does not do what the contract says.
    """
    chosen = _checked(place, options)
    session = HttpSession(place, chosen, folder)
    service = Service(session, ids, read_description(session, ids))
    length = _list_length(service, chosen.list_length)
    _check_steady(service, _fresh(service, chosen, length), _fresh(service, chosen, length))
    service = Service(session, ids, _cut(service))

    def opened() -> Recommender:
        return _fresh(service, chosen, length)

    return Source(f"endpoint {session.address}", "", service.about.access, opened, length)


def _fresh(service: Service, chosen: Options, list_length: int | None) -> Endpoint:
    if list_length is None:
        return Endpoint(service, chosen.batch)
    return ListEndpoint(service, chosen.batch, list_length)


def _checked(place: str, options: Mapping[str, Any]) -> Options:
    problems = address_problems(place, allow_http=options.get("allow_http") is True)
    try:
        chosen: Options = resolve_options((Options, options, "endpoint"))[0]
    except ConfigurationError as error:
        problems = [*problems, *error.problems]
    if problems:
        raise ConfigurationError(problems)
    return chosen


def _list_length(service: Service, wanted: int | None) -> int | None:
    about = service.about
    if Access.SCORES in about.access:
        if wanted is not None:
            raise ConfigurationError("endpoint: list_length is for services that give lists alone; leave it out")
        return None
    most = min(about.max_k or about.n_items, about.n_items)
    if wanted is not None and wanted > most:
        raise ConfigurationError(f"endpoint: list_length must be at most {most}, the longest list served, got {wanted}")
    return wanted or min(100, most)


def _check_steady(service: Service, first: Endpoint, second: Endpoint) -> None:
    """Ask the same users twice, in another order: the same rows must come back."""
    users = np.unique(np.linspace(0, first.n_users - 1, _TRIED).astype(np.int64))[: service.about.at_once(_TRIED)]
    once, again = first.score(users), second.score(users[::-1].copy()).flip(0)
    where = f"endpoint {service.session.address}"
    if once.isnan().all():
        raise DataError(f"{where}: it offers no item to any of {len(users)} users asked; check what it serves")
    largest = once.abs().nan_to_num().amax(1, keepdim=True)
    same = torch.isclose(once, again, rtol=0, atol=0, equal_nan=True) | ((once - again).abs() <= _ROUNDING * largest)
    if not same.all():
        raise DataError(
            f"{where}: asked twice, {int((~same).any(1).sum())} of {len(users)} users got other answers; switch off "
            "A/B tests, exploration, caches and learning from requests, and serve rows in the order asked"
        )


def _cut(service: Service) -> Description:
    """The description without the kinds of fold-in that are announced and not there."""
    about = service.about
    sides: tuple[tuple[Side, Access], ...] = (("user", Access.NEW_USERS), ("item", Access.NEW_ITEMS))
    for side, access in sides:
        if access in about.access:
            try:
                service.fold_in([(0,)], side)
            except NotServedError:
                about = about.without(access)
    return about
