"""Which clusters are tuned on: a fixed share, whole clusters, nobody moved by anybody else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from auditkit.data.dataset import Dataset
from auditkit.deletion import DeletionRequest, select
from auditkit.digests import digest_of
from auditkit.errors import ConfigurationError
from auditkit.evidence import make_case
from auditkit.splitting import clusters_of, split_of, tune_clusters


def of_users(n: int, each: int = 1) -> DeletionRequest:
    users = np.repeat(np.arange(n), each)
    return DeletionRequest("interaction", users, np.arange(len(users)))


def test_a_unit_clusters_by_its_user_and_without_one_by_its_item() -> None:
    assert_array_equal(clusters_of(np.array([4, -1, 0]), np.array([9, 7, -1])), [4, 7, 0])


def test_the_smallest_hashes_are_tuned_on() -> None:
    chosen = tune_clusters(of_users(200), 0.25, 7)
    hashes = {cluster: digest_of("tune", 7, cluster) for cluster in range(200)}
    assert_array_equal(chosen, sorted(sorted(hashes, key=lambda c: hashes[c])[:50]))


@given(st.integers(0, 10**6), st.floats(0.15, 0.5), st.integers(150, 300))
def test_share_seed_and_place(seed: int, share: float, n: int) -> None:
    chosen = tune_clusters(of_users(n), share, seed)
    assert len(chosen) == round(share * n)
    assert_array_equal(chosen, tune_clusters(of_users(n), share, seed))
    # A larger share keeps the clusters of a smaller one.
    assert set(chosen) <= set(tune_clusters(of_users(n), 0.5, seed))
    backwards = DeletionRequest("interaction", np.arange(n)[::-1].copy(), np.arange(n))
    assert_array_equal(chosen, tune_clusters(backwards, share, seed))


def test_seeds_differ() -> None:
    assert set(tune_clusters(of_users(200), 0.5, 0)) != set(tune_clusters(of_users(200), 0.5, 1))


def test_nothing_is_tuned_on_by_default_however_few_units() -> None:
    assert len(tune_clusters(of_users(1), 0.0, 0)) == 0


@pytest.mark.parametrize(
    ("n", "each", "share", "message"),
    [
        (100, 1, 0.15, "tune = 0.15 leaves 15 units to tune on and 85 to judge .* each part needs 20"),
        (39, 1, 0.5, "leaves 20 units to tune on and 19 to judge"),
        (1, 400, 0.5, r"leaves 0 units to tune on and 400 to judge \(whole clusters move, 1 of them\)"),
        (100, 1, 0.6, r"tune must be in \[0, 0.5\], a share of the request's clusters, got 0.6"),
        (100, 1, -0.1, r"tune must be in \[0, 0.5\]"),
        (100, 1, float("nan"), r"tune must be in \[0, 0.5\].*got nan"),
    ],
)
def test_refused_with_a_reason(n: int, each: int, share: float, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        tune_clusters(of_users(n, each), share, 0)


def test_the_case_splits_whole_clusters_of_every_group(tiny: Dataset) -> None:
    request = select(tiny, "interaction", share=0.2)
    case = make_case(tiny, request, seed=3, tune=0.3)
    tuned = tune_clusters(request, 0.3, 3)
    assert_array_equal(case.units["split"] == "tune", np.isin(case.units["cluster"], tuned))
    assert_array_equal(case.judged, case.units["split"] == "judge")
    assert set(case.units["group"][~case.judged]) == {"forget", "retain", "outside"}
    plain = make_case(tiny, request, seed=3)
    assert plain.judged.all()
    assert plain.units.drop(columns="split").equals(case.units.drop(columns="split"))


def test_splits_of_no_clusters() -> None:
    assert list(split_of(np.array([3, 4]), np.empty(0, np.int64))) == ["judge", "judge"]
