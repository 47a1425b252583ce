"""Deletion requests: what must be forgotten, which share of it, and the data that is left without it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from auditkit.data.dataset import Bools, Dataset, Features, Floats, Interactions, Ints, whole
from auditkit.errors import ConfigurationError, DataError

Regime = Literal["interaction", "user", "item", "modality"]
Selection = Literal["random", "core", "edge"]


@dataclass(frozen=True)
class Share:
    """A named part of a request's units: those whose place in the permutation of `seed` lies in [lo, hi).

    Places run from 0 to (n - 1) / n. `Share(0, 0)` is nobody (original), `Share()` everybody (Gold),
    `Share(0, q, seed)` and `Share(q, 1, seed)` complement one another (a pair of references).

    Attributes:
        lo, hi: in [0, 1].
        seed: of the permutation; None keeps the order of arrival (sequential prefixes).
    """

    lo: float = 0.0
    hi: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.lo <= self.hi <= 1:
            raise ConfigurationError(f"a share needs 0 <= lo <= hi <= 1, got lo={self.lo}, hi={self.hi}")

    def of(self, n: int) -> Bools:
        """Mask over `n` units, bool [n]."""
        places = np.arange(n) if self.seed is None else np.random.default_rng(self.seed).permutation(n)
        # Rounding the bounds to whole units keeps complements exact whatever the floating point does.
        return (places >= round(self.lo * n)) & (places < round(self.hi * n))


NOBODY = Share(0.0, 0.0)
EVERYBODY = Share(0.0, 1.0)


@dataclass(frozen=True, eq=False)
class DeletionRequest:
    """What must be forgotten. Unit k is the pattern (users[k], items[k]), -1 = any.

    Attributes:
        regime: what kind of unit the request names.
        users: int64 [n_units]; -1 in item and modality requests.
        items: int64 [n_units]; -1 in user requests.
        modalities: features of the named items that go too (all that goes, in a modality request; none in a user
            request, which names no items).
        selection: how the units were chosen, for the report.

    Raises:
        ConfigurationError: the patterns do not fit the regime, or a unit is named twice.
    """

    regime: Regime
    users: Ints
    items: Ints
    modalities: tuple[str, ...] = ()
    selection: str = "given"

    def __post_init__(self) -> None:
        for name in ("users", "items"):
            array = whole(getattr(self, name), name)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        problems = list(self._problems())
        if problems:
            raise ConfigurationError(problems)

    def _problems(self) -> list[str]:
        if self.regime not in get_args(Regime):
            return [f"regime must be one of {', '.join(get_args(Regime))}, got {self.regime!r}"]
        if self.users.ndim != 1 or self.users.shape != self.items.shape:
            return [
                f"users and items must be one-dimensional and equally long, got {self.users.shape}, {self.items.shape}"
            ]
        problems = []
        for name, ids, named in (
            ("users", self.users, self.regime in ("interaction", "user")),
            ("items", self.items, self.regime != "user"),
        ):
            if named and (ids < 0).any():
                problems.append(
                    f"{name} must name an id (0 or above) per unit of a {self.regime} request, got a negative one"
                )
            if not named and (ids != -1).any():
                problems.append(f"{name} must be -1 (any) in a {self.regime} request")
        if self.regime == "modality" and not self.modalities:
            problems.append("a modality request needs the names of the modalities that are withdrawn")
        if self.regime == "user" and self.modalities:
            problems.append("modalities belong to items; a user request names none, so leave modalities out")
        if len(np.unique(np.stack([self.users, self.items]), axis=1).T) != len(self.users):
            problems.append("a unit is named twice in the request; list every unit once")
        return problems

    @property
    def n_units(self) -> int:
        """How many units the request names."""
        return len(self.users)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of regime, patterns in order and modalities; not of how they were chosen."""
        state = hashlib.sha256(f"{self.regime}|{'|'.join(self.modalities)}|".encode())
        state.update(self.users.tobytes() + b"|" + self.items.tobytes())
        return state.hexdigest()

    def units(self, share: Share) -> Bools:
        """Mask of the units in `share`, bool [n_units]."""
        return share.of(self.n_units)

    def unit_of(self, pairs: Interactions, n_items: int) -> Ints:
        """The unit that covers each pair, int64 [n_pairs]; -1 where none does (always, in a modality request)."""
        if self.regime == "modality" or not self.n_units or not len(pairs):
            return np.full(len(pairs), -1, np.int64)
        keys, values = {
            "interaction": (self.users * n_items + self.items, pairs.users * n_items + pairs.items),
            "user": (self.users, pairs.users),
            "item": (self.items, pairs.items),
        }[self.regime]
        order = np.argsort(keys, kind="stable")
        place = np.minimum(np.searchsorted(keys[order], values), len(keys) - 1)
        unit = order[place]
        return np.where(keys[unit] == values, unit, -1)

    def _covered(self, pairs: Interactions, n_items: int, units: Bools) -> Bools:
        unit = self.unit_of(pairs, n_items)
        covered = unit >= 0
        covered[covered] = units[unit[covered]]
        return covered

    def erase(self, data: Dataset, units: Bools) -> Dataset:
        """`data` without what the masked units cover: train, validation and features. Test stays; idempotent.

        Args:
            data: what is erased from; ids keep their meaning.
            units: bool [n_units].
        """
        if not units.any():
            return data

        def left(pairs: Interactions) -> Interactions:
            return pairs.take(~self._covered(pairs, data.n_items, units))

        features = dict(data.features)
        for name in self.modalities:
            if name not in features:
                raise ConfigurationError(
                    f"modality {name!r} is not in {data.name!r}, which has: {', '.join(data.modalities) or 'none'}"
                )
            present = features[name].present.copy()
            present[self.items[units]] = False
            features[name] = Features(features[name].values, present)
        return replace(data, train=left(data.train), valid=left(data.valid), features=features)

    def forget_set(self, data: Dataset, units: Bools | None = None) -> Interactions:
        """The training interactions that the (masked) units cover."""
        chosen = np.ones(self.n_units, np.bool_) if units is None else units
        return data.train.take(self._covered(data.train, data.n_items, chosen))

    def check(self, data: Dataset) -> int:
        """Count the units that cover no training interaction.

        Raises:
            DataError: an id lies outside the data set, or no unit covers anything.
        """
        for name, ids, limit in (("user", self.users, data.n_users), ("item", self.items, data.n_items)):
            if len(ids) and ids.max() >= limit:
                raise DataError(
                    f"the request names {name} {ids.max()}, but {data.name!r} has {limit} {name}s (0-based)"
                )
        if self.regime == "modality":
            return 0
        covered = np.unique(self.unit_of(data.train, data.n_items))
        n_covered = int((covered >= 0).sum())
        if not n_covered:
            raise DataError(
                f"none of the {self.n_units} units of the request covers a training interaction; nothing to audit"
            )
        return self.n_units - n_covered


def _degrees(data: Dataset) -> tuple[Floats, Floats]:
    return (
        np.bincount(data.train.users, minlength=data.n_users).astype(np.float64),
        np.bincount(data.train.items, minlength=data.n_items).astype(np.float64),
    )


def candidates(data: Dataset, regime: Regime) -> tuple[Ints, Ints, Floats]:
    """Units that may be chosen, those with a training interaction: users, items, how central each is.

    Returns:
        Users and items, int64 [n], -1 = any; activity, popularity, or the logarithm of their product, float64 [n].
    """
    activity, popularity = _degrees(data)
    if regime == "interaction":
        users, items = data.train.users, data.train.items
        return users, items, np.log(activity[users]) + np.log(popularity[items])
    weight = activity if regime == "user" else popularity
    ids = np.flatnonzero(weight > 0)
    anyone = np.full(len(ids), -1, np.int64)
    users, items = (ids, anyone) if regime == "user" else (anyone, ids)
    return users, items, weight[ids]


_ORDERS: Mapping[str, Callable[[Floats, np.random.Generator], Ints]] = {
    "random": lambda central, rng: rng.permutation(len(central)),
    "core": lambda central, rng: np.lexsort((rng.random(len(central)), -central)),
    "edge": lambda central, rng: np.lexsort((rng.random(len(central)), central)),
}


def select(
    data: Dataset,
    regime: Regime,
    how: Selection = "random",
    *,
    share: float | None = None,
    count: int | None = None,
    seed: int = 0,
    modalities: tuple[str, ...] = (),
) -> DeletionRequest:
    """Choose a forget set.

    Args:
        data: where units come from; only units with a training interaction are candidates.
        regime: the kind of unit.
        how: `random`; `core` (most active users, most popular items, pairs of both); `edge` (least).
        share: part of the candidates, in (0, 1]; give this or `count`.
        count: number of units, at least 1 and at most the number of candidates.
        seed: of the draw and of the order among equals.
        modalities: features of the chosen items that go too.

    Returns:
        A request whose units are in order of arrival (shuffled by `seed`, so that prefixes are random parts).
    """
    if how not in _ORDERS:
        raise ConfigurationError(f"select must be one of {', '.join(_ORDERS)}, got {how!r}")
    users, items, central = candidates(data, regime)
    return first_units(
        regime, users, items, how, lambda rng: _ORDERS[how](central, rng),
        share=share, count=count, seed=seed, modalities=modalities,
    )  # fmt: skip


def first_units(
    regime: Regime,
    users: Ints,
    items: Ints,
    how: str,
    order: Callable[[np.random.Generator], Ints],
    *,
    share: float | None = None,
    count: int | None = None,
    seed: int = 0,
    modalities: tuple[str, ...] = (),
) -> DeletionRequest:
    """The first of some candidates in an order, as a request.

    Args:
        regime: the kind of unit.
        users, items: the candidates, int64 [n], -1 = any.
        how: the name of the order, for the report.
        order: the candidates' places, first choice first, int64 [n]; only asked where share and count are sound.
        share, count, seed, modalities: as in `select`.
    """
    if (share is None) == (count is None):
        raise ConfigurationError("give either share (in (0, 1]) or count (1 or more) of the units to forget, not both")
    if share is not None and not 0 < share <= 1:
        raise ConfigurationError(f"share must be in (0, 1], got {share}")
    wanted = max(1, round(share * len(users))) if share is not None else int(count or 0)
    if not 1 <= wanted <= len(users):
        raise ConfigurationError(f"count must be in 1..{len(users)} (the {regime}s with training data), got {wanted}")
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(order(rng)[:wanted])
    size = f"{share:g} of the {regime}s" if share is not None else f"{wanted} {regime}{'s' if wanted > 1 else ''}"
    return DeletionRequest(regime, users[chosen], items[chosen], modalities, selection=f"{how}, {size}, seed {seed}")
