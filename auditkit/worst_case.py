"""Worst-case requests: the units that a system can hardly forget, chosen from the data alone or from trained systems.

A share of random units tells how well a method does on the average request. These requests ask what it does for those
whose data are hardest to lose: an attack on the method, not a sample of its users.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from sklearn.utils.extmath import randomized_svd

from auditkit.data.dataset import Dataset, Floats, Interactions, Ints
from auditkit.deletion import DeletionRequest, Regime, candidates, first_units, select
from auditkit.errors import ConfigurationError

if TYPE_CHECKING:
    from auditkit.memorised import Pool

Choice = Literal["random", "core", "edge", "tail", "outlier", "memorised"]
# Users whose rows of scores are made at once.
_BLOCK = 1024
_COMPONENTS = 32


def choose(
    data: Dataset,
    regime: Regime,
    how: Choice = "random",
    *,
    share: float | None = None,
    count: int | None = None,
    seed: int = 0,
    modalities: tuple[str, ...] = (),
    pool: Pool | None = None,
) -> DeletionRequest:
    """Choose a forget set, at random or of the units that are hardest to forget.

    Args:
        data: where units come from; only units with a training interaction are candidates.
        regime: the kind of unit.
        how: `random`, `core` and `edge` as in `auditkit.deletion.select`. `tail`: interactions with the least popular
            items; users whose history is the least popular on average; the least popular items (for items the same as
            `edge`). `outlier`: interactions that the rest of the user's row predicts least (`left_out_cosine`), users
            and items whose row the others' main directions explain least (`unexplained`). `memorised`: the largest gap
            between systems that hold the unit and systems that do not (`auditkit.memorised.gaps`). In interaction
            requests these three leave every user and every item half of their pairs for as long as there are others:
            an item whose pairs all go is erased, and that is another request.
        share, count, seed, modalities: as in `select`; equals are in an order drawn from `seed`.
        pool: how the systems are trained that `memorised` is read from; the others train none.

    Returns:
        A request whose units are in a random order, the same for the same arguments.

    Raises:
        ConfigurationError: `memorised` without a pool, an unknown choice, or a share or count out of its domain.
    """
    if how in ("random", "core", "edge"):
        return select(data, regime, how, share=share, count=count, seed=seed, modalities=modalities)
    if how == "memorised" and pool is None:
        raise ConfigurationError("select = 'memorised' trains systems of the recipe: give a pool with the recipe")
    orders = {
        "tail": lambda: unpopularity(data, regime),
        "outlier": lambda: oddity(data, regime, seed),
        "memorised": lambda: _memorised(data, regime, modalities, pool, seed),
    }
    if how not in orders:
        known = ", ".join(["random", "core", "edge", *orders])
        raise ConfigurationError(f"select must be one of {known}, got {how!r}")
    users, items, _ = candidates(data, regime)

    def order(rng: np.random.Generator) -> Ints:
        ordered = _largest_first(orders[how](), rng)
        return _sparing_half(ordered, users, items) if regime == "interaction" else ordered

    return first_units(
        regime, users, items, how, order, share=share, count=count, seed=seed, modalities=modalities
    )  # fmt: skip


def _largest_first(values: Floats, rng: np.random.Generator) -> Ints:
    """Places by falling value, equals in a random order, NaN last."""
    return np.lexsort((rng.random(len(values)), -np.where(np.isfinite(values), values, -np.inf)))


def _sparing_half(order: Ints, users: Ints, items: Ints) -> Ints:
    """The same order of pairs, those that would take more than half of a user's or an item's behind all others."""
    early = np.ones(len(order), np.bool_)
    for ids in (users, items):
        counts = np.bincount(ids) if len(ids) else np.empty(0, np.int64)
        ordered = ids[order]
        grouped = np.argsort(ordered, kind="stable")
        place = np.empty(len(ids), np.int64)
        place[grouped] = np.arange(len(ids)) - np.repeat(np.cumsum(counts) - counts, counts)
        early &= place < counts[ordered] // 2
    return np.concatenate([order[early], order[~early]])


def unpopularity(data: Dataset, regime: Regime) -> Floats:
    """How unpopular each candidate is, float64 [n]: minus the popularity of its item, or of a user's mean item."""
    popularity = np.bincount(data.train.items, minlength=data.n_items).astype(np.float64)
    users, items, _ = candidates(data, regime)
    if regime != "user":
        return -popularity[items]
    total = np.bincount(data.train.users, popularity[data.train.items], data.n_users)
    return np.asarray(-total[users] / np.bincount(data.train.users, minlength=data.n_users)[users])


def oddity(data: Dataset, regime: Regime, seed: int = 0) -> Floats:
    """How little the rest of the data explains each candidate, float64 [n]; no recommender is trained.

    Args:
        data: as it stands; only the training pairs are read.
        regime: modality requests are read as those of items.
        seed: of the truncated decomposition of rows.
    """
    if regime == "interaction":
        return -left_out_cosine(data.train, data.n_users, data.n_items)
    users, items, _ = candidates(data, regime)
    return unexplained(data, seed)[users] if regime == "user" else unexplained(_swapped(data), seed)[items]


def _swapped(data: Dataset) -> Dataset:
    return Dataset(data.name, data.n_items, data.n_users, Interactions(data.train.items, data.train.users))


def left_out_cosine(pairs: Interactions, n_users: int, n_items: int) -> Floats:
    """How well the rest of the user's row predicts each pair, float64 [n_pairs], in [0, 1].

    The mean, over the user's other items j, of the cosine of item i and j in data without the pair itself:
    (c_ij - 1) / sqrt((n_i - 1) n_j), c_ij the users of both and n_i those of i. 0 where the item has no other user or
    the user no other item: nothing predicts such a pair.
    """
    matrix = pairs.matrix(n_users, n_items).astype(np.float64)
    counts, lengths = (np.asarray(matrix.sum(axis)).ravel() for axis in (0, 1))
    scale = 1 / np.sqrt(np.maximum(counts, 1))
    together = (matrix.T @ matrix).tocsr()
    found = []
    for start in range(0, n_users, _BLOCK):
        block = matrix[start : start + _BLOCK]
        sums = (block.multiply(scale[None]).tocsr() @ together).multiply(block).tocsr()
        sums.sort_indices()
        found.append(sums.data)
    order = np.lexsort((pairs.items, pairs.users))
    users, items = pairs.users[order], pairs.items[order]
    # Less the item's cosine with itself, and less the pair's own part of what it shares with the others.
    others = np.concatenate(found or [np.empty(0)]) - np.sqrt(counts[items]) - (matrix @ scale)[users] + scale[items]
    known = (counts[items] > 1) & (lengths[users] > 1)
    divisor = np.sqrt(np.maximum(counts[items] - 1, 1)) * np.maximum(lengths[users] - 1, 1)
    values = np.empty(len(pairs))
    # Rounded, so that equals are equal: a sum of cosines of 0 is not 1e-17.
    values[order] = np.where(known, np.round(others / divisor, 12), 0.0)
    return values


def unexplained(data: Dataset, seed: int = 0) -> Floats:
    """The part of each user's row beyond the main directions of all rows, float64 [n_users], in [0, 1].

    Rows have length 1, so that it is no measure of activity. A truncated singular value decomposition has 32
    directions, or half of what the shape allows; the squared distance of a row to its projection is returned. A row
    helped to find the directions, so one that stands alone in few data can be its own. NaN for a row without pairs.
    """
    matrix = data.train.matrix(data.n_users, data.n_items).astype(np.float64)
    lengths = np.asarray(matrix.sum(1)).ravel()
    rows = matrix.multiply(1 / np.sqrt(np.maximum(lengths, 1))[:, None]).tocsr()
    components = max(1, min(_COMPONENTS, min(rows.shape) // 2))
    directions = randomized_svd(rows, components, random_state=seed)[2]
    explained = np.square(rows @ directions.T).sum(1)
    return np.where(lengths > 0, np.round(1 - explained, 12).clip(0, 1), np.nan)


def _memorised(data: Dataset, regime: Regime, modalities: tuple[str, ...], pool: Pool | None, seed: int) -> Floats:
    from auditkit.memorised import gaps

    assert pool is not None
    return gaps(data, regime, pool, modalities=modalities, seed=seed)
