"""Interactions, item features and the data set that holds them; immutable, with a content digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from auditkit.errors import DataError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def whole(values: ArrayLike, name: str) -> Ints:
    """A copy as int64; floats are taken where they hold whole numbers.

    Raises:
        DataError: a value is a fraction, NaN or infinite. Cutting it off would name another user or item.
    """
    given = np.asarray(values)
    if given.dtype.kind == "f":
        bad = ~np.isfinite(given) | (given != np.floor(given))
        if bad.any():
            raise DataError(f"{name} must be whole numbers, got {given[bad][0]}; map ids to 0-based integers first")
    return np.array(given, np.int64)


def _frozen(values: ArrayLike, dtype: type[np.generic], name: str) -> NDArray[np.generic]:
    array = whole(values, name) if dtype is np.int64 else np.array(values, dtype=dtype, copy=True)
    if array.ndim != 1:
        raise DataError(f"{name} must be one-dimensional, got shape {array.shape}; pass one value per interaction")
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class Interactions:
    """User-item pairs, optionally with rating and timestamp. Pairs are unique.

    Attributes:
        users: int64 [n], 0-based ids.
        items: int64 [n], 0-based ids.
        ratings: float64 [n], finite, or None.
        times: int64 [n], seconds (or any increasing clock), or None.

    Raises:
        DataError: lengths differ, an id is negative, a rating is not finite, or a pair occurs twice
            (`Interactions.unique` keeps the last of each).
    """

    users: Ints
    items: Ints
    ratings: Floats | None = None
    times: Ints | None = None

    def __post_init__(self) -> None:
        for name, dtype in (("users", np.int64), ("items", np.int64), ("ratings", np.float64), ("times", np.int64)):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _frozen(value, dtype, name))
        for name in ("items", "ratings", "times"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.users):
                raise DataError(f"{name} must have one value per user id ({len(self.users)}), got {len(value)}")
        if len(self.users) and min(self.users.min(), self.items.min()) < 0:
            raise DataError("ids must be 0 or above, got a negative one; map unknown ids before building Interactions")
        if self.ratings is not None and not np.isfinite(self.ratings).all():
            raise DataError("ratings must be finite, got NaN or infinity; drop those rows or set a value")
        if _duplicated(self.users, self.items).any():
            raise DataError("a user-item pair occurs twice; Interactions.unique keeps the last of each")

    @classmethod
    def empty(cls) -> Interactions:
        """No interactions."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64))

    @classmethod
    def unique(
        cls, users: ArrayLike, items: ArrayLike, ratings: ArrayLike | None = None, times: ArrayLike | None = None
    ) -> tuple[Interactions, int]:
        """Keep the last row of every pair, in order of arrival.

        Returns:
            The interactions and how many rows were dropped as duplicates.
        """
        u, i = np.asarray(users, np.int64), np.asarray(items, np.int64)
        keep = ~_duplicated(u, i)
        rest = [None if column is None else np.asarray(column)[keep] for column in (ratings, times)]
        return cls(u[keep], i[keep], rest[0], rest[1]), int((~keep).sum())

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: Bools | Ints) -> Interactions:
        """The interactions at `rows` (a mask or distinct positions), in that order."""
        made = object.__new__(Interactions)
        for name in ("users", "items", "ratings", "times"):
            value = getattr(self, name)
            part = None if value is None else value[rows]
            if part is not None:
                part.setflags(write=False)
            object.__setattr__(made, name, part)
        return made

    def codes(self, n_items: int) -> Ints:
        """One integer per pair, `user * n_items + item`: equal codes are equal pairs. int64 [n]."""
        return self.users * n_items + self.items

    def matrix(self, n_users: int, n_items: int) -> csr_array:
        """The pairs as a CSR matrix of ones, float32 [n_users, n_items], indices sorted within a row."""
        values = np.ones(len(self), np.float32)
        made = csr_array((values, (self.users, self.items)), shape=(n_users, n_items))
        made.sort_indices()
        return made


def _duplicated(users: Ints, items: Ints) -> Bools:
    """True where a later row holds the same pair."""
    if len(users) != len(items):
        raise DataError(f"items must have one value per user id ({len(users)}), got {len(items)}")
    order = np.lexsort((items, users))
    again = (users[order][1:] == users[order][:-1]) & (items[order][1:] == items[order][:-1])
    found = np.zeros(len(users), np.bool_)
    # lexsort is stable: among equal pairs the earlier row comes first, so all but the last are marked.
    found[order[:-1][again]] = True
    return found


@dataclass(frozen=True, eq=False)
class Features:
    """Content features of items in one modality.

    Attributes:
        values: float32 [n_items, width], finite where present.
        present: bool [n_items]; an absent row is never read.
    """

    values: NDArray[np.float32]
    present: Bools

    def __post_init__(self) -> None:
        values = np.ascontiguousarray(self.values, np.float32)
        # Frozen arrays are shared (erasing copies no feature matrix); a caller's own array is not frozen under it.
        if values.flags.writeable and np.may_share_memory(values, self.values):
            values = values.copy()
        present = np.array(self.present, np.bool_)
        if values.ndim != 2 or present.shape != (len(values),):
            raise DataError(
                f"features must be [n_items, width] with present [n_items], got {values.shape} and {present.shape}"
            )
        if not np.isfinite(values[present]).all():
            bad = int((~np.isfinite(values).all(axis=1) & present).sum())
            raise DataError(
                f"features must be finite, got NaN or infinity in {bad} rows; mark them absent or mend them"
            )
        for array in (values, present):
            array.setflags(write=False)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "present", present)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the values; `present` is digested by the data set."""
        return hashlib.sha256(self.values.tobytes() + str(self.values.shape).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Dataset:
    """Everything a system is trained, selected and tested on. Ids keep their meaning: erasing never renumbers.

    Attributes:
        name: for people; not part of the digest.
        n_users, n_items: sizes of the id spaces; ids without interactions are allowed.
        train, valid, test: the parts; readers keep a pair that stands in two parts in the earlier one.
        features: modality -> `Features`, each with n_items rows.
    """

    name: str
    n_users: int
    n_items: int
    train: Interactions
    valid: Interactions = field(default_factory=Interactions.empty)
    test: Interactions = field(default_factory=Interactions.empty)
    features: Mapping[str, Features] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part in ("train", "valid", "test"):
            pairs: Interactions = getattr(self, part)
            for name, limit, ids in (("user", self.n_users, pairs.users), ("item", self.n_items, pairs.items)):
                if len(ids) and ids.max() >= limit:
                    raise DataError(
                        f"{part} holds {name} id {ids.max()}, but the data set has {limit} {name}s (0-based)"
                    )
        for name, feature in self.features.items():
            if len(feature.present) != self.n_items:
                raise DataError(
                    f"features {name!r} have {len(feature.present)} rows, but there are {self.n_items} items"
                )

    @classmethod
    def synthetic(cls, name: str = "synthetic", **options: Any) -> Dataset:
        """A seeded data set that can be learned; options as in `auditkit.data.synthetic.synthetic`."""
        from auditkit.data.synthetic import synthetic

        return synthetic(name, **options)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the feature sets, sorted."""
        return tuple(sorted(self.features))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content: sizes, all three parts in order, features. Names do not count."""
        state = hashlib.sha256(f"{self.n_users},{self.n_items}".encode())
        for part in (self.train, self.valid, self.test):
            for column in (part.users, part.items, part.ratings, part.times):
                state.update(b"none" if column is None else column.tobytes())
                state.update(b"|")
        for name in self.modalities:
            feature = self.features[name]
            state.update(name.encode() + feature.digest.encode() + feature.present.tobytes())
        return state.hexdigest()
