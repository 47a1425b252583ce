"""The generated data set is seeded, skewed, fast to draw and worth learning from."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse.linalg import svds

from auditkit.data.dataset import Dataset
from auditkit.data.synthetic import synthetic
from auditkit.errors import ConfigurationError


def recall(data: Dataset, scores: NDArray[np.float64], k: int = 20) -> float:
    """Mean Recall@k over users with test interactions, train masked."""
    seen = data.train.matrix(data.n_users, data.n_items).toarray() > 0
    wanted = data.test.matrix(data.n_users, data.n_items).toarray()
    top = np.argsort(-np.where(seen, -np.inf, scores), axis=1)[:, :k]
    hits, sizes = np.take_along_axis(wanted, top, axis=1).sum(axis=1), wanted.sum(axis=1)
    return float((hits[sizes > 0] / sizes[sizes > 0]).mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_latent_factors_beat_popularity_by_far(seed: int) -> None:
    data = synthetic(seed=seed)
    train = data.train.matrix(data.n_users, data.n_items).astype(np.float64)
    u, s, vt = (np.asarray(factor, np.float64) for factor in svds(train, k=12, random_state=0))
    popularity = np.tile(np.bincount(data.train.items, minlength=data.n_items).astype(np.float64), (data.n_users, 1))
    assert recall(data, (u * s) @ vt) > 1.6 * recall(data, popularity)


def test_features_tell_what_items_share_users() -> None:
    data = synthetic()
    train = data.train.matrix(data.n_users, data.n_items).toarray().astype(np.float64)
    together = np.asarray(np.corrcoef(train, rowvar=False))
    alike = np.asarray(np.corrcoef(data.features["image"].values))
    above = np.triu_indices(data.n_items, 1)
    assert np.corrcoef(together[above], alike[above])[0, 1] > 0.3


def test_sizes_are_exact_and_popularity_is_skewed() -> None:
    data = Dataset.synthetic("toy", seed=3)
    parts = (data.train, data.valid, data.test)
    assert (data.name, data.n_users, data.n_items, sum(map(len, parts))) == ("toy", 600, 400, 24_000)
    assert [len(part) / 24_000 for part in parts] == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    degrees = np.sort(np.bincount(data.train.items, minlength=400))[::-1]
    assert degrees[:40].sum() > 2.5 * 0.1 * degrees.sum()
    assert np.bincount(np.concatenate([part.users for part in parts])).min() >= 5


def test_seeds_decide_everything_and_modalities_move_nothing_else() -> None:
    data = synthetic(seed=5)
    assert data.digest == synthetic(seed=5).digest != synthetic(seed=6).digest
    bare = synthetic(seed=5, features=("image",), width=8)
    assert np.array_equal(bare.train.codes(400), data.train.codes(400))
    assert bare.features["image"].values.shape == (400, 8)


def test_half_full_and_tiny_data_sets_can_be_drawn() -> None:
    dense = synthetic(n_users=4, n_items=10, n_interactions=20, clusters=1, features=())
    assert sum(len(part) for part in (dense.train, dense.valid, dense.test)) == 20
    thin = synthetic(n_users=7, n_items=2, n_interactions=7, features=())
    assert len(thin.train) == 7


def test_defaults_are_drawn_fast() -> None:
    synthetic()
    start = time.process_time()
    synthetic(seed=1)
    assert time.process_time() - start < 0.3


def test_impossible_sizes_are_refused_all_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        synthetic(n_users=10, n_items=10, n_interactions=51, clusters=0, noise=-1.0)
    assert len(caught.value.problems) == 3
    assert "half of all pairs = 50, got 51" in str(caught.value)
