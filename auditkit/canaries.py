"""Canaries: made-up users, items and pairs that are planted before training, to be deleted again by the audit.

What they show is an upper bound on what an attack sees of ordinary units: they are as strange as units get, and most
real ones are remembered less. So the guarantee runs one way. A method whose systems still hold their canaries has left
something; one whose systems do not has not shown that it forgets every real unit. A company must plant them *before* it
trains: in a system that was trained without them there is nothing to delete.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from auditkit.data.dataset import Bools, Dataset, Features, Interactions, Ints
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError, DataError

PlantedRegime = Literal["user", "item"]
# Fold-in drops units with fewer than 4 pairs and tells half of the others: a canary should have some to spare.
_LEAST_LENGTH = 8
_GROUPS = 10
# Rounds of drawing pairs that nobody holds before the data are said to be too full for them.
_ROUNDS = 100


def plant(
    data: Dataset,
    regime: PlantedRegime,
    count: int,
    *,
    length: int | None = None,
    seed: int = 0,
    modalities: tuple[str, ...] = (),
) -> tuple[Dataset, DeletionRequest]:
    """Plant users or items and ask for their deletion.

    A planted user takes items from every tenth of popularity in turn, each drawn at random, as nobody's taste would
    have it. A planted item is taken by random users; its content in each modality is that of a real item, another one
    in each. Ratings and times, where the data have them, are drawn from the real ones.

    Args:
        data: real ids keep their meaning; the planted ones come last. Validation and test stay as they are.
        regime: what is planted.
        count: how many, 1 or more.
        length: training pairs of each; None is the median over real ones, at least 8 where there are as many.
        seed: of all draws.
        modalities: features of planted items that go with them; leave it out for users.

    Returns:
        The data with the canaries, and the request that names all of them in the order of their ids.

    Raises:
        ConfigurationError: the regime, count or length is out of its domain.
        DataError: the data have no training pairs.
    """
    if regime not in ("user", "item"):
        raise ConfigurationError(f"canaries are planted users or items: regime must be user or item, got {regime!r}")
    rng = np.random.default_rng([seed, 1])
    size = _length(data, regime, count, length)
    planted = np.repeat(np.arange(count) + (data.n_users if regime == "user" else data.n_items), size)
    if regime == "user":
        users, items = planted, np.concatenate([_mixed_items(data, size, rng) for _ in range(count)])
        made = replace(data, n_users=data.n_users + count)
    else:
        active = np.unique(data.train.users)
        users, items = np.concatenate([rng.permutation(active)[:size] for _ in range(count)]), planted
        features = {name: _with_rows(data.features[name], count, rng) for name in data.modalities}
        made = replace(data, n_items=data.n_items + count, features=features)
    made = replace(made, name=f"{data.name} + {count} planted {regime}s", train=_joined(data.train, users, items, rng))
    return made, planted_request(made, regime, count, modalities)


def planted_request(
    data: Dataset, regime: PlantedRegime, count: int, modalities: tuple[str, ...] = ()
) -> DeletionRequest:
    """The request that names the last `count` users or items of the data, as `plant` leaves them."""
    n = data.n_users if regime == "user" else data.n_items
    ids, anyone = np.arange(n - count, n), np.full(count, -1)
    users, items = (ids, anyone) if regime == "user" else (anyone, ids)
    return DeletionRequest(regime, users, items, modalities, selection=f"canaries, {count} planted {regime}s")


def coin_flip_pairs(data: Dataset, count: int, *, seed: int = 0) -> tuple[Dataset, DeletionRequest]:
    """Plant each of `count` made-up pairs with probability 1/2, and keep the others as non-members.

    Random active users, and items from every tenth of popularity alike; nobody holds the pairs in any part of the data.
    A fair coin decides which of them are trained on, so planted and left-out pairs are exchangeable: whoever tells them
    apart better than by chance has learned it from the system. Test pairs of a real data set are no such non-members:
    they may be other pairs than the training pairs in popularity or time.

    The left-out pairs *replace* the test part, so that they alone are what an audit compares with: AUC, error rates and
    epsilon mean what they say, while recall and NDCG of such an audit measure nothing.

    Args:
        data: what is planted in.
        count: candidate pairs, 2 or more.
        seed: of the pairs and of the coins.

    Returns:
        The data, and the request that names the planted pairs.

    Raises:
        ConfigurationError: count is below 2.
        DataError: the data have no training pairs, or are too full for so many more, or all coins fell on one side
            (another seed mends it).
    """
    if count < 2:
        raise ConfigurationError(f"coin-flip pairs need a count of 2 or more, got {count}")
    _check_trained(data)
    rng = np.random.default_rng([seed, 2])
    users, items = _free_pairs(data, count, rng)
    heads = rng.random(count) < 0.5
    if heads.all() or not heads.any():
        raise DataError(f"all of {count} coins fell on one side; plant more pairs or take another seed")
    made = replace(
        data, name=f"{data.name} + {heads.sum()} planted pairs",
        train=_joined(data.train, users[heads], items[heads], rng), test=Interactions(users[~heads], items[~heads]),
    )  # fmt: skip
    words = f"canaries, {heads.sum()} of {count} pairs planted by coin flips, seed {seed}"
    return made, DeletionRequest("interaction", users[heads], items[heads], selection=words)


def _length(data: Dataset, regime: PlantedRegime, count: int, length: int | None) -> int:
    _check_trained(data)
    ids, others = (data.train.users, data.train.items) if regime == "user" else (data.train.items, data.train.users)
    most, other = len(np.unique(others)), "items" if regime == "user" else "users"
    if count < 1:
        raise ConfigurationError(f"canaries must be 1 or more, got {count}")
    if length is None:
        typical = int(np.median(np.unique(ids, return_counts=True)[1]))
        return min(max(_LEAST_LENGTH, typical), most)
    if not 1 <= length <= most:
        raise ConfigurationError(f"length must be in 1..{most} (the {other} with training data), got {length}")
    return length


def _check_trained(data: Dataset) -> None:
    if not len(data.train):
        raise DataError(f"{data.name!r} has no training interactions to plant canaries among")


def _tenths(data: Dataset) -> list[Ints]:
    """Items with training pairs by rising popularity, in ten parts of about equal size (fewer for fewer items)."""
    popularity = np.bincount(data.train.items, minlength=data.n_items)
    active = np.flatnonzero(popularity)
    ordered = active[np.argsort(popularity[active], kind="stable")]
    return np.array_split(ordered, min(_GROUPS, len(ordered)))


def _mixed_items(data: Dataset, length: int, rng: np.random.Generator) -> Ints:
    """Distinct items from the tenths in turn, int64 [length]; the turn starts at a random tenth."""
    shuffled = [rng.permutation(part) for part in _tenths(data)]
    first = int(rng.integers(len(shuffled)))
    turns = [(place, (k - first) % len(shuffled), item) for k, part in enumerate(shuffled)
             for place, item in enumerate(part)]  # fmt: skip
    return np.array([item for _, _, item in sorted(turns)[:length]], np.int64)


def _free_pairs(data: Dataset, count: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Distinct pairs of active users and items of all tenths that no part of the data holds, int64 [count] each."""
    held = np.concatenate([part.codes(data.n_items) for part in (data.train, data.valid, data.test)])
    active, tenths = np.unique(data.train.users), _tenths(data)
    # An item of a smaller tenth comes as much oftener, so that every tenth has the same part.
    chances = np.concatenate([np.full(len(part), 1 / len(part) / len(tenths)) for part in tenths])
    found: Ints = np.empty(0, np.int64)
    for _ in range(_ROUNDS):
        users, items = rng.choice(active, count), rng.choice(np.concatenate(tenths), count, p=chances)
        codes = users * data.n_items + items
        found = np.concatenate([found, codes[~np.isin(codes, held)]])
        found = found[np.sort(np.unique(found, return_index=True)[1])]
        if len(found) >= count:
            return found[:count] // data.n_items, found[:count] % data.n_items
    raise DataError(f"{data.name!r} has too few pairs that nobody holds to plant {count}; found {len(found)}")


def _joined(real: Interactions, users: Ints, items: Ints, rng: np.random.Generator) -> Interactions:
    """Real pairs, then planted ones with ratings and times drawn from the real."""
    drawn = rng.integers(len(real), size=len(users))
    ratings = None if real.ratings is None else np.append(real.ratings, real.ratings[drawn])
    times = None if real.times is None else np.append(real.times, real.times[drawn])
    return Interactions(np.append(real.users, users), np.append(real.items, items), ratings, times)


def _with_rows(features: Features, count: int, rng: np.random.Generator) -> Features:
    """More rows at the end, each that of a random present item; absent where no item is present."""
    present = np.flatnonzero(features.present)
    rows = rng.choice(present, count) if len(present) else np.zeros(count, np.int64)
    there: Bools = np.append(features.present, np.full(count, len(present) > 0))
    return Features(np.concatenate([features.values, features.values[rows]]), there)
