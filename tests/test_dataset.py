"""Interactions, Features and Dataset: what they refuse, what they keep and what their digest depends on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.data.dataset import Dataset, Features, Interactions
from auditkit.errors import DataError

ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=40)


def pairs(*rows: tuple[int, int]) -> Interactions:
    return Interactions(np.array([u for u, _ in rows], np.int64), np.array([i for _, i in rows], np.int64))


def features(n_items: int = 3) -> Features:
    return Features(np.arange(2.0 * n_items, dtype=np.float32).reshape(n_items, 2), np.ones(n_items, np.bool_))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"users": [0, 1], "items": [0]}, r"items must have one value per user id \(2\), got 1"),
        ({"users": [0], "items": [0], "ratings": [1, 2]}, r"ratings must have one value per user id \(1\), got 2"),
        ({"users": [0], "items": [0], "times": []}, r"times must have one value per user id \(1\), got 0"),
        ({"users": [[0]], "items": [0]}, r"users must be one-dimensional, got shape \(1, 1\)"),
        ({"users": [0, -1], "items": [0, 1]}, "ids must be 0 or above, got a negative one"),
        ({"users": [0], "items": [-2]}, "ids must be 0 or above, got a negative one"),
        ({"users": [0], "items": [0], "ratings": [np.nan]}, "ratings must be finite, got NaN or infinity"),
        ({"users": [0], "items": [0], "ratings": [np.inf]}, "ratings must be finite, got NaN or infinity"),
        ({"users": [1, 0, 1], "items": [2, 2, 2]}, "a user-item pair occurs twice"),
        ({"users": [0.5], "items": [0]}, r"users must be whole numbers, got 0\.5"),
        ({"users": [0, 1], "items": [0, np.nan]}, "items must be whole numbers, got nan"),
    ],
)
def test_interactions_refuse_with_a_reason(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Interactions(**arguments)


def test_whole_floats_and_lists_become_integer_ids() -> None:
    made = Interactions([0.0, 1.0], [1, 0], [4, 5], [7, 8])  # type: ignore[arg-type]
    assert made.users.dtype == made.items.dtype == np.int64
    assert made.ratings is not None
    assert made.ratings.dtype == np.float64
    assert made.times is not None
    assert made.times.dtype == np.int64


@given(ROWS)
def test_unique_keeps_the_last_of_every_pair_in_order_of_arrival(rows: list[tuple[int, int]]) -> None:
    users, items = [u for u, _ in rows], [i for _, i in rows]
    kept, dropped = Interactions.unique(users, items, np.arange(len(rows)), np.arange(len(rows)) * 10)
    last = {pair: place for place, pair in enumerate(rows)}
    places = sorted(last.values())
    assert list(zip(kept.users.tolist(), kept.items.tolist(), strict=True)) == [rows[k] for k in places]
    assert kept.ratings is not None
    assert kept.ratings.tolist() == places
    assert kept.times is not None
    assert kept.times.tolist() == [10 * k for k in places]
    assert dropped == len(rows) - len(places)


def test_take_by_mask_and_by_positions() -> None:
    made = Interactions(np.array([0, 1, 2]), np.array([2, 1, 0]), np.array([0.5, 1.5, 2.5]))
    by_mask, by_place = made.take(np.array([True, False, True])), made.take(np.array([2, 0]))
    assert by_mask.users.tolist() == [0, 2]
    assert by_place.users.tolist() == [2, 0]
    assert by_place.items.tolist() == [0, 2]
    assert by_place.ratings is not None
    assert by_place.ratings.tolist() == [2.5, 0.5]
    assert by_place.times is None


def test_arrays_are_copies_that_cannot_be_written() -> None:
    source = np.array([0, 1])
    made = Interactions(source, np.array([0, 1]))
    source[0] = 9
    assert made.users.tolist() == [0, 1]
    for part in (made, made.take(np.array([True, True]))):
        with pytest.raises(ValueError, match="read-only"):
            part.users[0] = 5


def test_features_do_not_share_memory_with_their_source() -> None:
    values, present = np.zeros((2, 2), np.float32), np.array([True, False])
    made = Features(values, present)
    values[0, 0], present[0] = 1, False
    assert made.values[0, 0] == 0
    assert made.present.tolist() == [True, False]


@given(ROWS)
def test_codes_and_matrix_say_the_same_as_the_pairs(rows: list[tuple[int, int]]) -> None:
    made = pairs(*dict.fromkeys(rows))
    codes = made.codes(5)
    assert [(c // 5, c % 5) for c in codes.tolist()] == list(dict.fromkeys(rows))
    matrix = made.matrix(5, 5)
    dense = np.zeros((5, 5), np.float32)
    for user, item in rows:
        dense[user, item] = 1
    assert matrix.dtype == np.float32
    assert (matrix.toarray() == dense).all()
    assert matrix.has_sorted_indices


@pytest.mark.parametrize(
    ("values", "present", "message"),
    [
        (np.zeros(3), np.ones(3), r"features must be \[n_items, width\] .* got \(3,\) and \(3,\)"),
        (np.zeros((3, 2)), np.ones(2), r"got \(3, 2\) and \(2,\)"),
        (np.array([[0.0], [np.nan]]), np.ones(2), "features must be finite, got NaN or infinity in 1 rows"),
        (np.array([[np.inf], [np.nan]]), np.ones(2), "in 2 rows; mark them absent or mend them"),
    ],
)
def test_features_refuse_with_a_reason(values: Any, present: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Features(values, present)


def test_absent_rows_may_hold_anything() -> None:
    assert not Features(np.array([[np.nan]], np.float32), np.array([False])).present.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": pairs((3, 0))}, r"train holds user id 3, but the data set has 3 users \(0-based\)"),
        ({"valid": pairs((0, 3))}, r"valid holds item id 3, but the data set has 3 items"),
        ({"test": pairs((0, 0), (2, 7))}, "test holds item id 7"),
        ({"features": {"image": features(2)}}, "features 'image' have 2 rows, but there are 3 items"),
    ],
)
def test_dataset_refuses_with_a_reason(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset("x", 3, 3, **{"train": pairs((0, 0)), **change})


def whole() -> Dataset:
    train = Interactions(np.array([0, 1]), np.array([0, 1]), np.array([1.0, 2.0]), np.array([5, 6]))
    return Dataset("whole", 3, 3, train, pairs((0, 1)), pairs((1, 2)), {"image": features(), "text": features()})


CHANGES: dict[str, Callable[[Dataset], Dataset]] = {
    "n_users": lambda d: replace(d, n_users=4),
    "train pair": lambda d: replace(d, train=Interactions(d.train.users, [1, 0], d.train.ratings, d.train.times)),  # type: ignore[arg-type]
    "train order": lambda d: replace(d, train=d.train.take(np.array([1, 0]))),
    "rating": lambda d: replace(d, train=Interactions(d.train.users, d.train.items, [1.0, 3.0], d.train.times)),  # type: ignore[arg-type]
    "no ratings": lambda d: replace(d, train=Interactions(d.train.users, d.train.items, None, d.train.times)),
    "time": lambda d: replace(d, train=Interactions(d.train.users, d.train.items, d.train.ratings, [5, 7])),  # type: ignore[arg-type]
    "pair moves to valid": lambda d: replace(d, valid=pairs((0, 1), (1, 2)), test=Interactions.empty()),
    "valid and test swapped": lambda d: replace(d, valid=d.test, test=d.valid),
    "feature value": lambda d: replace(d, features={**d.features, "text": Features(-features().values, np.ones(3))}),  # type: ignore[arg-type]
    "feature absent": lambda d: replace(
        d, features={**d.features, "text": Features(features().values, [True, False, True])}  # type: ignore[arg-type]
    ),
    "feature name": lambda d: replace(d, features={"image": d.features["image"], "sound": d.features["text"]}),
    "feature gone": lambda d: replace(d, features={"image": d.features["image"]}),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_digest_changes_with_the_content(change: str) -> None:
    assert CHANGES[change](whole()).digest != whole().digest


def test_digest_is_of_content_not_of_names_or_order_of_features() -> None:
    data = whole()
    assert data.digest == whole().digest
    assert replace(data, name="other").digest == data.digest
    assert replace(data, features=dict(reversed(list(data.features.items())))).digest == data.digest


def test_modalities_are_sorted_and_synthetic_is_seeded() -> None:
    first = Dataset.synthetic(n_users=20, n_items=10, n_interactions=60, features=("text", "image"), seed=3)
    again = Dataset.synthetic(n_users=20, n_items=10, n_interactions=60, features=("text", "image"), seed=3)
    assert first.modalities == ("image", "text")
    assert first.digest == again.digest
    assert first.digest != Dataset.synthetic(n_users=20, n_items=10, n_interactions=60, seed=4).digest
