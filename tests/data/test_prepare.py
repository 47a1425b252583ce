"""Positive filters and the k-core against naive oracles."""

from __future__ import annotations

import operator
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.data.dataset import Interactions
from auditkit.data.prepare import Positive, k_core
from auditkit.errors import ConfigurationError, DataError

PAIRS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), unique=True, max_size=60)
LOG = Interactions(np.zeros(4, int), np.arange(4), np.array([1.0, 3.5, 4.0, 5.0]), np.array([9, 8, 7, 6]))


def naive_core(pairs: list[tuple[int, int]], k: int) -> set[tuple[int, int]]:
    left = set(pairs)
    while True:
        users, items = Counter(u for u, _ in left), Counter(i for _, i in left)
        kept = {(u, i) for u, i in left if users[u] >= k and items[i] >= k}
        if kept == left:
            return left
        left = kept


@given(PAIRS, st.integers(0, 5))
def test_k_core_equals_the_naive_one(pairs: list[tuple[int, int]], k: int) -> None:
    users = np.array([u for u, _ in pairs], np.int64)
    items = np.array([i for _, i in pairs], np.int64)
    stays = k_core(users, items, k)
    assert {pair for pair, stay in zip(pairs, stays, strict=True) if stay} == naive_core(pairs, k)
    for ids in (users[stays], items[stays]):
        assert (np.unique(ids, return_counts=True)[1] >= k).all()
    assert k_core(users[stays], items[stays], k).all()


def test_k_core_takes_more_than_one_round() -> None:
    # Item 2 falls first, which takes user 2 below 2, which takes item 3 below 2.
    users, items = np.array([0, 0, 1, 1, 2, 2, 0]), np.array([0, 1, 0, 1, 2, 3, 3])
    assert k_core(users, items, 2).tolist() == [True, True, True, True, False, False, False]


@pytest.mark.parametrize(
    ("symbol", "compare"),
    [
        (">=", operator.ge),
        (">", operator.gt),
        ("==", operator.eq),
        ("!=", operator.ne),
        ("<=", operator.le),
        ("<", operator.lt),
    ],
)
def test_every_comparison(symbol: str, compare: object) -> None:
    assert LOG.ratings is not None
    assert LOG.times is not None
    assert callable(compare)
    assert Positive.parse(f"rating {symbol} 4").holds(LOG).tolist() == [compare(r, 4) for r in LOG.ratings]
    assert Positive.parse(f" timestamp{symbol}7e0 ").holds(LOG).tolist() == [compare(t, 7) for t in LOG.times]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rating",
        "rating >= four",
        "rating => 4",
        "price > 1",
        "rating > 1 or 1",
        "4 < rating",
        "rating > 1e999",
    ],
)
def test_other_expressions_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="positive must read `column comparison number`"):
        Positive.parse(text)


def test_missing_columns_and_negative_k() -> None:
    with pytest.raises(DataError, match="needs a rating column"):
        Positive.parse("rating > 1").holds(Interactions.empty())
    with pytest.raises(ConfigurationError, match="k_core must be 0"):
        k_core(np.empty(0, np.int64), np.empty(0, np.int64), -1)
    assert str(Positive.parse("rating>=4.0")) == "rating >= 4"
