from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, linprog

from auditkit.data.dataset import Floats, Ints
from auditkit.unlearners.partitions import (
    Side,
    balanced_kmeans,
    capacity_of,
    cheapest_with_room,
    random_parts,
    transport_parts,
    transport_plan,
)

_SIZES = {"n": st.integers(0, 60), "n_parts": st.integers(1, 7), "seed": st.integers(0, 999)}


def _greedy(costs: Floats, capacity: int) -> Ints:
    """The definition: all places in the order of cost, each taken while thing and part are free."""
    places = sorted((costs[k, p], k, p) for k in range(costs.shape[0]) for p in range(costs.shape[1]))
    parts, room = np.full(len(costs), -1), np.full(costs.shape[1], capacity)
    for _, thing, part in places:
        if parts[thing] < 0 and room[part]:
            parts[thing] = part
            room[part] -= 1
    return parts


def _blobs(per_part: int = 12, n_parts: int = 4) -> tuple[Floats, Ints]:
    """Well separated groups of equal size, shuffled, and the group of each."""
    rng = np.random.default_rng(3)
    groups = rng.permutation(np.repeat(np.arange(n_parts), per_part))
    return 20 * np.eye(n_parts)[groups] + rng.standard_normal((len(groups), n_parts)), groups


def _same_partition(first: Ints, second: Ints) -> bool:
    return bool(np.array_equal(first[:, None] == first, second[:, None] == second))


@given(**_SIZES)
@settings(deadline=None, max_examples=40)
def test_random_parts_are_as_equal_as_can_be(n: int, n_parts: int, seed: int) -> None:
    parts = random_parts(n, n_parts, np.random.default_rng(seed))
    sizes = np.bincount(parts, minlength=n_parts)
    assert len(sizes) == n_parts
    assert sizes.sum() == n
    assert sizes.max() - sizes.min() <= 1


def test_random_parts_depend_on_the_draw_alone() -> None:
    one, again, other = (random_parts(50, 5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("n", "n_parts", "slack", "most"), [(100, 10, 1.0, 10), (101, 10, 1.0, 11), (100, 10, 1.1, 11), (25, 10, 1.2, 3)]
)
def test_capacity_is_rounded_up_and_not_by_rounding_errors(n: int, n_parts: int, slack: float, most: int) -> None:
    assert capacity_of(n, n_parts, slack) == most


@given(**_SIZES, spare=st.integers(0, 3), ties=st.booleans())
@settings(deadline=None, max_examples=80)
def test_the_matching_is_the_greedy_assignment(n: int, n_parts: int, seed: int, spare: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    costs = rng.integers(3, size=(n, n_parts)).astype(float) if ties else rng.random((n, n_parts))
    before, capacity = costs.copy(), -(-n // n_parts) + spare
    assert np.array_equal(cheapest_with_room(costs, capacity), _greedy(costs, capacity))
    assert np.array_equal(costs, before)


def test_distances_and_means_of_a_side() -> None:
    rng = np.random.default_rng(0)
    table, rows, centres = rng.standard_normal((6, 3)), rng.integers(6, size=20), rng.standard_normal((4, 3))
    side, parts = Side(table, rows), rng.integers(3, size=20)
    naive = np.array([[((table[row] - centre) ** 2).sum() for centre in centres] for row in rows])
    np.testing.assert_allclose(side.distances(centres), naive, rtol=1e-12)
    means = [table[rows[parts == part]].mean(0) for part in range(3)]
    np.testing.assert_allclose(side.means(parts, centres), [*means, centres[3]], rtol=1e-12)


@given(**_SIZES, slack=st.sampled_from([1.0, 1.2, 2.0]), two_sides=st.booleans())
@settings(deadline=None, max_examples=60)
def test_balanced_kmeans_stays_within_capacity(n: int, n_parts: int, seed: int, slack: float, two_sides: bool) -> None:
    rng = np.random.default_rng(seed)
    sides = [Side(rng.standard_normal((9, 4)), rng.integers(9, size=n)) for _ in range(1 + two_sides)]
    parts = balanced_kmeans(sides, n_parts, slack=slack, rounds=5, rng=rng)
    sizes = np.bincount(parts, minlength=n_parts)
    assert len(parts) == n
    assert len(sizes) == n_parts
    assert sizes.max() <= capacity_of(n, n_parts, slack)


def test_balanced_kmeans_finds_groups_and_comes_to_rest() -> None:
    vectors, groups = _blobs()
    side = [Side(vectors, np.arange(len(vectors)))]
    found = [
        balanced_kmeans(side, 4, slack=1.0, rounds=r, rng=np.random.default_rng(s)) for s in range(5) for r in (50, 99)
    ]
    assert any(_same_partition(parts, groups) for parts in found)
    for fifty, more in zip(found[::2], found[1::2], strict=True):
        assert np.array_equal(fifty, more)


def test_pairs_cost_the_product_of_both_sides() -> None:
    rng = np.random.default_rng(4)
    users, items = (
        Side(rng.standard_normal((5, 3)), np.arange(5)),
        Side(rng.standard_normal((5, 3)), np.arange(5)[::-1]),
    )
    chosen = np.random.default_rng(6).choice(5, 2, replace=False)
    costs = users.distances(users.table[chosen]) * items.distances(items.table[items.rows[chosen]])
    found = balanced_kmeans([users, items], 2, slack=1.2, rounds=1, rng=np.random.default_rng(6))
    assert np.array_equal(found, _greedy(costs, 3))


def _costs(n: int, n_parts: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    table, centres = rng.standard_normal((n, 2)), rng.standard_normal((n_parts, 2))
    return Side(table, np.arange(n)).distances(centres)


def test_the_plan_has_the_masses_asked_for() -> None:
    plan = np.exp(transport_plan(_costs(50, 7, 0), tolerance=1e-6, most=5_000))
    np.testing.assert_allclose(plan.sum(1), 1 / 50, rtol=1e-12)
    np.testing.assert_allclose(plan.sum(0), 1 / 7, rtol=1e-5)


def test_the_plan_is_sinkhorns() -> None:
    """The textbook form: alternate scaling of rows and columns of exp(-cost / epsilon)."""
    costs = _costs(20, 4, 1)
    kernel = np.exp(-costs / (0.1 * costs.mean()))
    rows, columns = np.ones(20), np.ones(4)
    for _ in range(2000):
        columns = 1 / 4 / (rows @ kernel)
        rows = 1 / 20 / (kernel @ columns)
    naive = rows[:, None] * kernel * columns
    np.testing.assert_allclose(np.exp(transport_plan(costs, blur=0.1, tolerance=1e-12, most=2000)), naive, rtol=1e-8)


def test_a_sharp_plan_costs_what_linear_programming_finds() -> None:
    costs = _costs(12, 3, 2)
    rows = np.kron(np.eye(12), np.ones(3))
    columns = np.tile(np.eye(3), 12)
    exact = linprog(costs.ravel(), A_eq=np.vstack([rows, columns]), b_eq=[1 / 12] * 12 + [1 / 3] * 3)
    assert exact.fun is not None
    plan = np.exp(transport_plan(costs, blur=0.005, tolerance=1e-6, most=20_000))
    assert exact.fun <= (plan * costs).sum() * (1 + 1e-6)
    assert (plan * costs).sum() <= exact.fun * 1.005


def test_equal_costs_are_shared_equally() -> None:
    np.testing.assert_allclose(np.exp(transport_plan(np.zeros((6, 3)))), 1 / 18)


@pytest.mark.parametrize("seed", range(5))
def test_the_rounded_plan_is_near_the_best_assignment(seed: int) -> None:
    costs = _costs(40, 4, seed)
    parts = cheapest_with_room(-transport_plan(costs, blur=0.01, most=2_000), 10)
    places = np.repeat(costs, 10, axis=1)
    best = places[linear_sum_assignment(places)].sum()
    found = costs[np.arange(40), parts].sum()
    assert best - 1e-9 <= found <= 1.05 * best
    # The greedy assignment without prices is what transport improves on.
    assert found <= costs[np.arange(40), cheapest_with_room(costs, 10)].sum() + 1e-9


@given(**_SIZES)
@settings(deadline=None, max_examples=15)
def test_transport_parts_are_of_equal_size(n: int, n_parts: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = transport_parts(Side(rng.standard_normal((60, 3)), np.arange(n)), n_parts, rounds=3, rng=rng)
    assert len(parts) == n
    assert np.bincount(parts, minlength=n_parts).max() <= -(-n // n_parts)


def test_transport_parts_find_groups() -> None:
    vectors, groups = _blobs()
    side = Side(vectors, np.arange(len(vectors)))
    found = [transport_parts(side, 4, rounds=20, rng=np.random.default_rng(s)) for s in range(5)]
    assert any(_same_partition(parts, groups) for parts in found)
