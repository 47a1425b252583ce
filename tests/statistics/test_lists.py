"""List overlaps against sets, written out; orders against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import kendalltau

from auditkit.errors import ConfigurationError, DataError
from auditkit.statistics.lists import jaccard_at_k, kendall_tau, rbo

Ints = NDArray[np.int64]
one_list = st.lists(st.integers(0, 9), max_size=7, unique=True)
pairs_of_lists = st.lists(st.tuples(one_list, one_list), min_size=1, max_size=6)


def padded(lists: list[list[int]], k: int = 7) -> Ints:
    return np.array([items + [-1] * (k - len(items)) for items in lists], np.int64)


def agreement(a: list[int], b: list[int], depth: int) -> float:
    """Share of the first `depth` places that agree, extrapolated where a list is at its end."""
    short, long = sorted((a, b), key=len)
    if not short:
        return 0.0
    depth = min(depth, len(long))
    shared = len({*a[:depth]} & {*b[:depth]})
    if depth > len(short):
        shared_at_short = len({*short} & {*long[: len(short)]})
        return (shared + shared_at_short / len(short) * (depth - len(short))) / depth
    return shared / depth


def naive_rbo(a: list[int], b: list[int], p: float) -> float:
    """The infinite sum that defines rank-biased overlap, cut where nothing is left of the weights."""
    return (1 - p) * sum(p ** (d - 1) * agreement(a, b, d) for d in range(1, 1 + int(-40 / np.log10(p) / 2)))


def published_rbo(a: list[int], b: list[int], p: float) -> float:
    """Equation 32 of Webber, Moffat and Zobel (2010), term by term."""
    short, long = sorted((a, b), key=len)
    s, size = len(short), len(long)
    x = {d: len({*short[:d]} & {*long[:d]}) for d in range(1, size + 1)}
    total = sum(x[d] / d * p**d for d in range(1, size + 1))
    total += sum(x[s] * (d - s) / (s * d) * p**d for d in range(s + 1, size + 1))
    return (1 - p) / p * total + ((x[size] - x[s]) / size + x[s] / s) * p**size


@given(pairs_of_lists)
def test_jaccard_equals_sets(lists: list[tuple[list[int], list[int]]]) -> None:
    found = jaccard_at_k(padded([a for a, _ in lists]), padded([b for _, b in lists]))
    expected = [len({*a} & {*b}) / len({*a} | {*b}) if a or b else np.nan for a, b in lists]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@given(pairs_of_lists, st.sampled_from([0.1, 0.5, 0.8, 0.9]))
def test_rbo_equals_its_definition_and_the_published_equation(
    lists: list[tuple[list[int], list[int]]], p: float
) -> None:
    found = rbo(padded([a for a, _ in lists]), padded([b for _, b in lists]), p)
    for value, (a, b) in zip(found, lists, strict=True):
        if not a and not b:
            assert np.isnan(value)
            continue
        assert value == pytest.approx(naive_rbo(a, b, p), abs=1e-10)
        assert value == pytest.approx(published_rbo(a, b, p) if a and b else 0.0, abs=1e-10)


@given(st.permutations(range(8)), st.permutations(range(12)), st.sampled_from([0.5, 0.9, 0.98]))
def test_rbo_of_equally_long_lists(a: list[int], b: list[int], p: float) -> None:
    """Equation 30: what lists of one length reduce to."""
    shared = [len({*a[:d]} & {*b[:d]}) for d in range(1, 9)]
    expected = shared[7] / 8 * p**8 + (1 - p) / p * sum(x / d * p**d for d, x in enumerate(shared, 1))
    found = rbo(np.array([a]), np.array([b[:8]]), p)
    assert found == pytest.approx([expected], abs=1e-12)
    # More padding is no more list.
    assert rbo(padded([a], 11), padded([b[:8]], 11), p) == pytest.approx(found, abs=1e-12)


@given(pairs_of_lists, st.permutations(range(10)))
def test_overlap_is_symmetric_bounded_and_blind_to_names(
    lists: list[tuple[list[int], list[int]]], names: list[int]
) -> None:
    a, b = padded([a for a, _ in lists]), padded([b for _, b in lists])
    rename = np.append(np.array(names) * 1_000_003, -1)
    for measure in (jaccard_at_k, rbo):
        found = measure(a, b)
        np.testing.assert_allclose(found, measure(b, a), rtol=1e-12)
        np.testing.assert_allclose(found, measure(rename[a], rename[b]), rtol=1e-12)
        known = found[~np.isnan(found)]
        assert ((known >= 0) & (known <= 1 + 1e-12)).all()
        np.testing.assert_allclose(measure(a, a)[(a >= 0).any(axis=1)], 1.0, rtol=1e-12)


def test_rbo_weighs_the_top_and_jaccard_does_not() -> None:
    base = np.arange(10)
    top, bottom = base.copy(), base.copy()
    top[0], bottom[9] = 99, 99
    assert rbo([base], [top])[0] < rbo([base], [bottom])[0]
    assert jaccard_at_k([base], [top])[0] == jaccard_at_k([base], [bottom])[0] == pytest.approx(9 / 11)
    assert rbo([base], [base[::-1] + 20])[0] == 0


def test_large_lists_equal_row_by_row_sets() -> None:
    rng = np.random.default_rng(0)
    a, b = (np.argsort(rng.random((300, 200)), axis=1)[:, :100] for _ in range(2))
    expected = [len({*x} & {*y}) / len({*x} | {*y}) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    np.testing.assert_allclose(jaccard_at_k(a, b), expected, rtol=1e-12)
    expected = [published_rbo(x, y, 0.95) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    np.testing.assert_allclose(rbo(a, b, 0.95), expected, rtol=1e-10)


def test_no_rows_and_no_places() -> None:
    for measure in (jaccard_at_k, rbo):
        assert measure(np.empty((0, 5), int), np.empty((0, 5), int)).shape == (0,)
        assert np.isnan(measure(np.empty((2, 0), int), np.empty((2, 0), int))).tolist() == [True, True]


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([[1, 2]], [[1, 2, 3]], "one shape"),
        ([1, 2], [1, 2], "one shape"),
        ([[1.0, 2.0]], [[1, 2]], "integer"),
        ([[1, -2]], [[1, 2]], "0 or above"),
        ([[1, 2]], [[-1, 2]], "pad the end"),
        ([[1, 1]], [[2, 3]], "twice"),
        ([[1, 2]], [[3, 3]], "twice"),
        ([[1, 1]], [[1, 2]], "twice"),
        ([[2, 1]], [[1, 1]], "twice"),
    ],
)
def test_bad_lists_are_refused(a: list[list[int]], b: list[list[int]], message: str) -> None:
    for measure in (jaccard_at_k, rbo):
        with pytest.raises(DataError, match=message):
            measure(a, b)


@pytest.mark.parametrize("p", [0.0, 1.0, -0.5])
def test_persistence_outside_its_domain_is_refused(p: float) -> None:
    with pytest.raises(ConfigurationError, match="p must be"):
        rbo([[1]], [[1]], p)


@pytest.mark.parametrize("levels", [3, 8, 1_000_000])
def test_kendall_equals_scipys_tau_b(levels: int) -> None:
    rng = np.random.default_rng(levels)
    a, b = rng.integers(levels, size=(2, 60, 25)).astype(np.float64)
    expected = [kendalltau(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(kendall_tau(a, b), expected, rtol=1e-12, atol=1e-12)


def test_kendall_reads_order_alone() -> None:
    scores = np.array([[3.0, -np.inf, 1.0, 2.0]])
    assert kendall_tau(scores, [[30, 0, 10, 20]]) == [1]
    assert kendall_tau(scores, -scores) == [-1]
    assert kendall_tau([[1, 2, -np.inf, -np.inf]], [[1, 2, 0, 0]]) == [1]


def test_kendall_where_there_is_no_order() -> None:
    a = np.array([[1, 1, 1], [1, np.nan, 2], [1, 2, 3]])
    assert np.isnan(kendall_tau(a, [[1, 2, 3]] * 3)).tolist() == [True, True, False]
    assert np.isnan(kendall_tau([[1, 2, 3]] * 3, a)).tolist() == [True, True, False]
    assert np.isnan(kendall_tau([[1.0]], [[2.0]])).all()
    assert kendall_tau(np.empty((0, 4)), np.empty((0, 4))).shape == (0,)


@pytest.mark.parametrize(("a", "b"), [([[1, 2]], [[1, 2, 3]]), ([1, 2], [1, 2])])
def test_scores_of_other_items_are_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(DataError, match="one shape"):
        kendall_tau(a, b)
