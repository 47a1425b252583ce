"""What an audit knows of a system made elsewhere before it is asked anything: where it is, and what can be asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import and_
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.contracts import Access, Backbone, Recommender
from auditkit.data.dataset import Dataset, Ints
from auditkit.errors import ConfigurationError, DataError
from auditkit.requests import Names

# How many unknown or missing ids a message shows.
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Source:
    """A system made elsewhere.

    Attributes:
        text: for the report: the way in and the place, such as `embedding tables exports/ours`; never a secret.
        digest: SHA-256 of its content, hexadecimal; empty where there is none to digest (an endpoint, a function).
        access: what can be asked of it.
        open: makes the recommender; called each time it is needed, so that many large systems are never held at once.
        list_length: items in each list, where lists are all there is; None where any length can be had.
    """

    text: str
    digest: str
    access: Access
    open: Callable[[], Recommender]
    list_length: int | None = None


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """All systems of an audit that were made elsewhere.

    Attributes:
        audited: name -> system under test.
        original: the owner's own original, which a yardstick that is trained here has to imitate.
        yardstick: name as `auditkit plan-golds` lists it -> original, Gold, reference or control of the owner's; empty
            where the yardstick is trained here, or where there is none.
    """

    audited: Mapping[str, Source] = field(default_factory=dict)
    original: Source | None = None
    yardstick: Mapping[str, Source] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Source]:
        """Every system once: those under test, the original, the yardstick."""
        yield from self.audited.values()
        if self.original is not None:
            yield self.original
        yield from self.yardstick.values()

    @property
    def access(self) -> Access:
        """What can be asked of all of them alike; of none it is everything."""
        return reduce(and_, (source.access for source in self), ~Access(0))

    @property
    def list_length(self) -> int | None:
        """Items in the shortest of their lists; None where any length can be had."""
        return min((s.list_length for s in self if s.list_length is not None), default=None)


def in_memory(model: Recommender) -> Source:
    """A recommender that is an object of the caller's, which can be asked what it has methods for."""
    access = Access.LISTS | Access.SCORES
    if hasattr(model, "fold_in"):
        access |= Access.NEW_USERS | Access.NEW_ITEMS
    if isinstance(model, Backbone) or hasattr(model, "backbones"):
        access |= Access.WEIGHTS
    return Source(f"an object in memory, {type(model).__name__}", "", access, lambda: model)


def collect(
    given: Mapping[str, Recommender | Source] | None,
    original: Recommender | Source | None,
    yardstick: Mapping[str, Recommender | Source] | None,
    data: Dataset,
) -> Elsewhere:
    """Systems made elsewhere, as a caller holds them.

    Args:
        given: name -> system under test.
        original: the owner's original, which a recipe has to imitate.
        yardstick: name -> system, all that `auditkit.plan.background_systems` lists; empty or None: trained here.
        data: over whose ids they are.

    Raises:
        ConfigurationError: objects over other ids; all at once.
    """
    problems: list[str] = []

    def source(name: str, model: Recommender | Source) -> Source:
        if isinstance(model, Source):
            return model
        if (model.n_users, model.n_items) != (data.n_users, data.n_items):
            problems.append(
                f"given system {name!r} scores {model.n_users} users x {model.n_items} items, the data set has "
                f"{data.n_users} x {data.n_items}; ids must mean the same"
            )
        return in_memory(model)

    audited, owned = ({n: source(n, m) for n, m in (some or {}).items()} for some in (given, yardstick))
    found = Elsewhere(audited, None if original is None else source("original", original), owned)
    if problems:
        raise ConfigurationError(problems)
    return found


@dataclass(frozen=True, eq=False)
class Ids:
    """The ids of the audited data set: what every system made elsewhere must mean by a user and an item.

    Attributes:
        n_users, n_items: sizes of the id spaces.
        names: the data files' own ids, where reading renumbered them.
    """

    n_users: int
    n_items: int
    names: Names = field(default_factory=Names)

    def users(self, own: Sequence[Any] | NDArray[Any], what: str) -> Ints:
        """The data set's ids of users named as in the data files, int64 [n].

        Args:
            own: names, compared as text.
            what: where they stand, for the message.

        Raises:
            DataError: some are not in the data; says how many and which come first.
        """
        return _placed(own, self.names.user, self.n_users, what)

    def items(self, own: Sequence[Any] | NDArray[Any], what: str) -> Ints:
        """As `users`, of items."""
        return _placed(own, self.names.item, self.n_items, what)

    def own_users(self, ids: Ints) -> NDArray[Any]:
        """The data files' own ids of users, text [n]."""
        return _named(ids, self.names.user)

    def own_items(self, ids: Ints) -> NDArray[Any]:
        """As `own_users`, of items."""
        return _named(ids, self.names.item)


def _named(ids: Ints, known: NDArray[Any] | None) -> NDArray[Any]:
    return np.asarray(ids if known is None else known[ids]).astype(str)


def _placed(own: Sequence[Any] | NDArray[Any], known: NDArray[Any] | None, size: int, what: str) -> Ints:
    texts = np.asarray(own).astype(str)
    index = pd.Index(np.arange(size).astype(str) if known is None else known.astype(str))
    found = np.asarray(index.get_indexer(pd.Index(texts)), np.int64)
    if (found < 0).any():
        unknown = ", ".join(map(repr, dict.fromkeys(texts[found < 0].tolist()[:_SHOWN])))
        raise DataError(
            f"{what}: {(found < 0).sum()} of {len(found)} ids are not in the data, such as {unknown}; "
            "name users and items as the data files do"
        )
    return found
