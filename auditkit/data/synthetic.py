"""Seeded data sets that can be learned: clusters, latent factors, skewed popularity, telling features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from auditkit.data.dataset import Dataset, Features, Floats, Interactions, Ints
from auditkit.data.splits import split
from auditkit.errors import ConfigurationError

_FACTORS = 16
_TASTE = 5.0
_WITHIN_CLUSTER = 0.6
_ACTIVITY_SPREAD = 0.6
_FEWEST = 5
_BLOCK = 1 << 22


def synthetic(
    name: str = "synthetic",
    *,
    n_users: int = 600,
    n_items: int = 400,
    n_interactions: int = 24_000,
    clusters: int = 8,
    seed: int = 0,
    features: Sequence[str] = ("image", "text"),
    width: int = 32,
    noise: float = 0.5,
    popularity: float = 0.8,
    shares: str = "0.8/0.1/0.1",
) -> Dataset:
    """Draw a data set.

    Users and items lie around cluster centres in a latent space. A user meets item i with Gumbel-perturbed
    utility `5 * cosine(u, i) + log p_i`, where `p_i ~ rank_i ** -popularity` (Zipf), and takes as many of
    the best as the user is active: sampling without replacement, with probabilities proportional to the
    exponential of the unperturbed utility. Activity is log-normal. Features are a random projection of the
    item's factors plus noise.

    Args:
        name: of the data set.
        n_users: at least 1.
        n_items: at least 2.
        n_interactions: in all, at least one per user and at most half of all pairs.
        clusters: of users and of items, at least 1.
        seed: same seed, same data set; modalities added do not change the interactions.
        features: names of the modalities.
        width: of every feature, at least 1.
        noise: standard deviation of the noise beside features of unit variance.
        popularity: exponent of the Zipf law; 0 makes all items alike.
        shares: of train/valid/test, drawn per user.

    Returns:
        The data set; interactions arrive in random order, without ratings and times.

    Raises:
        ConfigurationError: a size is out of its domain; all problems at once.
    """
    _check(n_users, n_items, n_interactions, clusters, width, noise)
    # One stream per purpose, so that a change of one does not move the others.
    geometry, draws, views = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    centres = _unit(geometry.standard_normal((clusters, _FACTORS)))
    users, items = (_around(centres, n, geometry) for n in (n_users, n_items))
    appeal = -popularity * np.log(1.0 + geometry.permutation(n_items))
    counts = _activity(n_users, n_items, n_interactions, draws)
    pairs = _draw(users, items, appeal, counts, draws)
    train, valid, test = split(pairs, f"random:{shares}", n_users=n_users, seed=seed)
    views_of = {modality: _view(items, width, noise, views) for modality in features}
    return Dataset(name, n_users, n_items, train, valid, test, views_of)


def _check(n_users: int, n_items: int, n_interactions: int, clusters: int, width: int, noise: float) -> None:
    minima = {
        "n_users": (n_users, 1),
        "n_items": (n_items, 2),
        "clusters": (clusters, 1),
        "width": (width, 1),
    }
    problems = [f"{key} must be at least {low}, got {got}" for key, (got, low) in minima.items() if got < low]
    if not n_users <= n_interactions <= n_users * n_items // 2:
        problems.append(
            f"n_interactions must lie between n_users = {n_users} and half of all pairs = "
            f"{n_users * n_items // 2}, got {n_interactions}"
        )
    if not 0 <= noise < np.inf:
        problems.append(f"noise must be 0 or above and finite, got {noise}")
    if problems:
        raise ConfigurationError(problems)


def _unit(vectors: Floats) -> Floats:
    lengths: Floats = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


def _around(centres: Floats, n: int, rng: np.random.Generator) -> Floats:
    spread = _WITHIN_CLUSTER * rng.standard_normal((n, _FACTORS)) / np.sqrt(_FACTORS)
    return _unit(centres[rng.integers(len(centres), size=n)] + spread)


def _activity(n_users: int, n_items: int, n_interactions: int, rng: np.random.Generator) -> Ints:
    """Interactions of each user: log-normal, at least 5 where there are enough, `n_interactions` in all."""
    fewest = min(_FEWEST, n_interactions // n_users, n_items)
    weights = rng.lognormal(sigma=_ACTIVITY_SPREAD, size=n_users)
    counts = fewest + rng.multinomial(n_interactions - fewest * n_users, weights / weights.sum())
    counts = np.minimum(counts, n_items).astype(np.int64)
    while missing := n_interactions - int(counts.sum()):
        room = np.flatnonzero(counts < n_items)[:missing]
        counts[room] += 1
    return counts


def _draw(users: Floats, items: Floats, appeal: Floats, counts: Ints, rng: np.random.Generator) -> Interactions:
    block = max(1, _BLOCK // len(items))
    chosen = [
        _best(users[low : low + block], items, appeal, counts[low : low + block], rng)
        for low in range(0, len(users), block)
    ]
    order = rng.permutation(int(counts.sum()))
    who = np.repeat(np.arange(len(users)), counts)
    return Interactions(who[order], np.concatenate(chosen)[order])


def _best(users: Floats, items: Floats, appeal: Floats, counts: Ints, rng: np.random.Generator) -> Ints:
    """The items with the largest perturbed utility, as many per user as `counts` says, users in order."""
    utility = _TASTE * users @ items.T + appeal + rng.gumbel(size=(len(users), len(items)))
    most = int(counts.max())
    best = np.argpartition(-utility, min(most, len(items) - 1), axis=1)[:, :most]
    order = np.argsort(-np.take_along_axis(utility, best, axis=1), axis=1)
    ranked = np.take_along_axis(best, order, axis=1)
    taken: Ints = ranked[np.arange(most) < counts[:, None]]
    return taken


def _view(items: Floats, width: int, noise: float, rng: np.random.Generator) -> Features:
    projection = rng.standard_normal((_FACTORS, width))
    values: NDArray[np.float64] = items @ projection + noise * rng.standard_normal((len(items), width))
    return Features(values.astype(np.float32), np.ones(len(items), np.bool_))
