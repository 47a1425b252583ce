from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity

from auditkit.backbones.item_graph import binary, members_apart, nearest_neighbours, of_members
from auditkit.data.dataset import Features
from auditkit.errors import ConfigurationError


def features(seed: int, n: int = 12, absent: int = 3) -> Features:
    rng = np.random.default_rng(seed)
    present = np.ones(n, np.bool_)
    present[rng.permutation(n)[:absent]] = False
    values = rng.normal(size=(n, 4)).astype(np.float32)
    values[~present] = np.nan
    return Features(values, present)


@given(st.integers(0, 1000), st.integers(1, 12), st.integers(0, 6))
def test_against_a_loop_over_cosines(seed: int, k: int, absent: int) -> None:
    data = features(seed, absent=absent)
    found = nearest_neighbours(data, k).toarray()
    ids = np.flatnonzero(data.present)
    similar = cosine_similarity(data.values[ids].astype(np.float64))
    for row, item in enumerate(ids):
        best = ids[np.argsort(-similar[row], kind="stable")[:k]]
        assert set(np.flatnonzero(found[item])) == set(best)
        np.testing.assert_allclose(found[item, ids][np.isin(ids, best)], similar[row][np.isin(ids, best)], atol=1e-6)
    assert not found[~data.present].any()
    assert not found[:, ~data.present].any()


def test_an_item_is_its_own_nearest_neighbour() -> None:
    data = features(0, absent=0)
    np.testing.assert_allclose(nearest_neighbours(data, 1).toarray(), np.eye(12), atol=1e-6)


def test_equal_similarities_keep_the_lower_id() -> None:
    data = Features(np.ones((5, 2), np.float32), np.ones(5, np.bool_))
    assert nearest_neighbours(data, 2).indices.tolist() == [0, 1] * 5


def test_rows_of_zeros_are_similar_to_nothing() -> None:
    data = Features(np.zeros((4, 2), np.float32), np.ones(4, np.bool_))
    found = nearest_neighbours(data, 2)
    assert found.nnz == 8
    assert not found.data.any()


def test_nobody_present() -> None:
    data = Features(np.zeros((4, 2), np.float32), np.zeros(4, np.bool_))
    assert nearest_neighbours(data, 2).nnz == 0
    assert nearest_neighbours(data, 2).shape == (4, 4)


def test_the_graph_follows_the_content() -> None:
    """Equal shapes and k with other features, or fewer present, give another graph."""
    one, other = features(1, absent=0), features(2, absent=0)
    fewer = Features(one.values, np.arange(12) > 0)
    graphs = [nearest_neighbours(f, 3).toarray() for f in (one, other, fewer, one)]
    assert np.array_equal(graphs[0], graphs[3])
    assert not np.array_equal(graphs[0], graphs[1])
    assert not np.array_equal(graphs[0], graphs[2])


def test_members_lie_apart() -> None:
    parts = [features(k) for k in range(3)]
    stacked = Features(np.concatenate([p.values for p in parts]), np.concatenate([p.present for p in parts]))
    again = of_members(stacked, 3)
    assert all(np.array_equal(a.present, b.present) for a, b in zip(again, parts, strict=True))
    joined = members_apart([nearest_neighbours(p, 4) for p in again]).toarray()
    for k, part in enumerate(parts):
        block = slice(12 * k, 12 * k + 12)
        np.testing.assert_array_equal(joined[block, block], nearest_neighbours(part, 4).toarray())
        joined[block, block] = 0
    assert not joined.any()


def test_binary_keeps_places() -> None:
    graph = nearest_neighbours(features(4), 3)
    assert set(binary(graph).data) == {1.0}
    assert np.array_equal(binary(graph).indices, graph.indices)


def test_no_neighbours_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="1 or more, got 0"):
        nearest_neighbours(features(0), 0)
