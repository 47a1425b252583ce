"""Likeness of distributions and tables, against scipy and sums written out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial import procrustes
from scipy.spatial.distance import jensenshannon
from scipy.stats import ortho_group

from auditkit.data.dataset import Floats
from auditkit.errors import DataError
from auditkit.statistics.similarity import jensen_shannon, linear_cka, procrustes_residuals


def distributions(seed: int, *shape: int) -> Floats:
    drawn = np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), shape[:-1])
    return np.asarray(drawn, np.float64)


def tables(seed: int, n: int = 40, d: int = 5) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, d))
    return shared, shared @ rng.standard_normal((d, d)) + 0.5 * rng.standard_normal((n, d))


def whole(n: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.ones(n, np.bool_)


def test_jensen_shannon_is_the_square_of_scipys_distance() -> None:
    p, q = distributions(0, 3, 20, 7), distributions(1, 3, 20, 7)
    p[0, 0, :3] = 0
    p[0, 0] /= p[0, 0].sum()
    assert_allclose(jensen_shannon(p, q), jensenshannon(p, q, base=2, axis=-1) ** 2, rtol=1e-12)


def test_jensen_shannon_of_equal_disjoint_and_unknown() -> None:
    assert jensen_shannon([0.5, 0.5, 0], [0.5, 0.5, 0]) == 0
    assert jensen_shannon([1, 0], [0, 1]) == 1
    assert np.isnan(jensen_shannon([np.nan, 1], [0, 1]))
    near = distributions(2, 1000, 30)
    assert jensen_shannon(near, near * (1 + 1e-16)).min() >= 0


def test_cka_is_the_aligned_kernels() -> None:
    """The other form of the paper: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) of centred Gram matrices."""
    a, b = tables(3)
    centring = np.eye(len(a)) - 1 / len(a)
    k, m = (centring @ (x @ x.T) @ centring for x in (a, b))
    assert linear_cka(a, b) == pytest.approx((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()), rel=1e-12)


def test_cka_is_blind_to_rotation_place_and_scale() -> None:
    a, b = tables(4)
    turned = 3 * a @ ortho_group.rvs(5, random_state=1) + 7
    assert linear_cka(turned, b) == pytest.approx(linear_cka(a, b), rel=1e-10)
    assert linear_cka(turned, a) == pytest.approx(1.0)
    assert linear_cka(a, np.hstack([b, np.zeros((40, 2))])) == pytest.approx(linear_cka(a, b), rel=1e-12)


def test_cka_of_few_unrelated_rows_is_large() -> None:
    rng = np.random.default_rng(5)
    few = np.mean([linear_cka(*rng.standard_normal((2, 30, 60))) for _ in range(30)])
    assert few == pytest.approx(60 / 90, abs=0.03)


def test_cka_without_a_value() -> None:
    assert np.isnan(linear_cka(np.ones((1, 3)), np.ones((1, 3))))
    assert np.isnan(linear_cka(np.ones((4, 3)), np.eye(4)))


def test_procrustes_equals_scipys_disparity() -> None:
    """Scipy also scales by s, the sum of singular values: its disparity is 1 - s^2, ours is 2 - 2 s."""
    a, b = tables(6)
    found = procrustes_residuals(a, b, whole(40))
    disparity = procrustes(a, b)[2]
    assert np.square(found).mean() == pytest.approx(2 - 2 * np.sqrt(1 - disparity), rel=1e-10)


def test_a_moved_scaled_and_rotated_table_has_no_residuals() -> None:
    a, _ = tables(7)
    turned = 0.1 * a @ ortho_group.rvs(5, random_state=2) - 4
    assert_allclose(procrustes_residuals(a, turned, whole(40)), 0, atol=1e-12)


def test_only_anchors_align() -> None:
    a, _ = tables(8)
    turned = a @ ortho_group.rvs(5, random_state=3)
    anchors = np.arange(40) < 20
    moved = turned.copy()
    moved[30] += 2.0
    found = procrustes_residuals(a, moved, anchors)
    size = np.sqrt(np.square(a[:20] - a[:20].mean(0)).sum(1).mean())
    assert found[30] == pytest.approx(np.linalg.norm(np.full(5, 2.0)) / size)
    assert_allclose(np.delete(found, 30), 0, atol=1e-12)


def test_rows_that_are_not_known_hide_themselves_alone() -> None:
    a, b = tables(9)
    anchors = np.arange(40) < 20
    whole_table = procrustes_residuals(a, b, anchors)
    a[35] = np.nan
    found = procrustes_residuals(a, b, anchors)
    assert np.isnan(found[35])
    assert_allclose(np.delete(found, 35), np.delete(whole_table, 35), rtol=1e-12)


def test_nothing_to_align_by() -> None:
    a, b = tables(10)
    assert np.isnan(procrustes_residuals(a, b, ~whole(40))).all()
    assert np.isnan(procrustes_residuals(np.ones((40, 5)), b, whole(40))).all()
    assert np.isnan(procrustes_residuals(a, np.ones((40, 5)), whole(40))).all()


def test_other_entities_are_refused() -> None:
    a, b = tables(11)
    with pytest.raises(DataError, match="one row per entity"):
        linear_cka(a, b[1:])
    with pytest.raises(DataError, match="one row per entity"):
        procrustes_residuals(a[0], b[0], whole(40))
    with pytest.raises(DataError, match="same columns"):
        procrustes_residuals(a, b[:, 1:], whole(40))
