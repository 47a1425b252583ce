"""Planted users, items and pairs: where they lie, what they are like, and that pairs by coin flips are exchangeable."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import stats

from auditkit.blind import blind_auc, blind_content_auc
from auditkit.canaries import PlantedRegime, coin_flip_pairs, plant, planted_request
from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset, Features, Interactions
from auditkit.errors import ConfigurationError, DataError
from auditkit.evidence import make_case
from auditkit.memorised import Pool, gaps
from auditkit.testing.examples import small_data

PLANTED: tuple[PlantedRegime, ...] = ("user", "item")


def tenths(data: Dataset) -> np.ndarray:
    """The tenth of popularity of each item with training pairs, -1 for the others, by ranks."""
    popularity = np.bincount(data.train.items, minlength=data.n_items)
    found = np.full(data.n_items, -1)
    active = np.flatnonzero(popularity)
    found[active] = (stats.rankdata(popularity[active], "ordinal") - 1) * 10 // len(active)
    return found


@pytest.mark.parametrize("regime", PLANTED)
@given(count=st.integers(1, 6), length=st.integers(1, 12), seed=st.integers(0, 9))
def test_canaries_come_last_and_the_real_stay(regime: PlantedRegime, count: int, length: int, seed: int) -> None:
    data = small_data()
    made, request = plant(data, regime, count, length=length, seed=seed)
    n = len(data.train)
    assert_array_equal(made.train.codes(made.n_items)[:n], data.train.users * made.n_items + data.train.items)
    assert made.valid is data.valid
    assert made.test is data.test
    by_user = regime == "user"
    first = data.n_users if by_user else data.n_items
    assert (made.n_users - data.n_users, made.n_items - data.n_items) == ((count, 0) if by_user else (0, count))
    ids, others = (made.train.users, made.train.items) if by_user else (made.train.items, made.train.users)
    assert_array_equal(np.bincount(ids[n:] - first, minlength=count), np.full(count, length))
    assert others[n:].max() < (data.n_items if by_user else data.n_users)
    assert_array_equal(request.users if by_user else request.items, np.arange(first, first + count))
    assert request.selection == f"canaries, {count} planted {regime}s"
    assert request.check(made) == 0
    # Without the canaries it is the data of before, but for their empty ids.
    left = request.erase(made, np.ones(count, np.bool_))
    assert_array_equal(left.train.users, data.train.users)
    assert made.digest == plant(data, regime, count, length=length, seed=seed)[0].digest
    assert request.digest == planted_request(made, regime, count).digest


def test_a_planted_user_takes_from_every_tenth_alike() -> None:
    data = Dataset.synthetic(n_users=200, n_items=100, n_interactions=5000)
    made, request = plant(data, "user", 10, length=20)
    assert len(np.unique(data.train.items)) == 100
    where = tenths(data)
    for user in request.users:
        assert_array_equal(np.bincount(where[made.train.items[made.train.users == user]]), np.full(10, 2))
    odd, _ = plant(data, "user", 30, length=3)
    # Fewer than ten items start at a random tenth, so that none is left out.
    assert len(np.unique(where[odd.train.items[odd.train.users >= 200]])) == 10


def test_a_planted_item_has_the_content_of_real_ones() -> None:
    data = small_data()
    text = data.features["text"]
    image = Features(np.arange(40, dtype=np.float32)[:, None], np.arange(40) % 2 == 0)
    nothing = Features(np.zeros((40, 2), np.float32), np.zeros(40, np.bool_))
    made, request = plant(replace(data, features={"text": text, "image": image, "none": nothing}), "item", 12)
    assert request.n_units == 12
    for name, feature in (("text", text), ("image", image)):
        rows = made.features[name].values[40:]
        real = feature.values[feature.present]
        assert all((real == row).all(axis=1).any() for row in rows)
        assert made.features[name].present[40:].all()
        assert_array_equal(made.features[name].values[:40], feature.values)
        assert_array_equal(made.features[name].present[:40], feature.present)
    assert not made.features["none"].present.any()
    # Another real item in each modality: nobody's content as a whole.
    sources = [np.flatnonzero((text.values == row).all(1))[0] for row in made.features["text"].values[40:]]
    assert (np.array(sources) != made.features["image"].values[40:, 0]).any()
    assert plant(data, "item", 2)[1].modalities == ()
    assert plant(data, "item", 2, modalities=("text",))[1].modalities == ("text",)


def test_the_length_is_that_of_a_typical_one_but_enough_to_be_told_of() -> None:
    data = small_data()
    typical = int(np.median(np.bincount(data.train.users)))
    made, _ = plant(data, "user", 1)
    assert (made.train.users == 60).sum() == typical > 8
    short = Dataset("short", 20, 20, Interactions(np.arange(20), np.arange(20)))
    made, _ = plant(short, "user", 1)
    assert (made.train.users == 20).sum() == 8
    tiny = Dataset("tiny", 3, 5, Interactions(np.arange(3), np.arange(3)))
    assert (plant(tiny, "item", 1)[0].train.items == 5).sum() == 3


def test_ratings_and_times_are_drawn_from_the_real_ones() -> None:
    plain = small_data()
    n = len(plain.train)
    train = Interactions(
        plain.train.users, plain.train.items, (np.arange(n) % 5 + 1).astype(np.float64), np.arange(n) + 1000
    )
    data = replace(plain, train=train)
    for made in (plant(data, "user", 3)[0], plant(data, "item", 3)[0], coin_flip_pairs(data, 20)[0]):
        ratings, times = made.train.ratings, made.train.times
        assert ratings is not None
        assert times is not None
        assert set(ratings[n:].tolist()) <= {1.0, 2.0, 3.0, 4.0, 5.0}
        assert set(times[n:].tolist()) <= set(range(1000, 1000 + n))


def test_planted_users_are_remembered() -> None:
    made, request = plant(small_data(), "user", 6)
    found = gaps(made, "user", Pool(Recipe.of("bpr-mf", {"factors": 8}, {"epochs": 40}), 4))
    assert found[request.users].min() > 0
    assert found[request.users].mean() > found[: small_data().n_users].mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regime": "interaction"}, "regime must be user or item, got 'interaction'"),
        ({"count": 0}, "canaries must be 1 or more, got 0"),
        ({"length": 0}, r"length must be in 1..40 \(the items with training data\), got 0"),
        ({"length": 41}, r"length must be in 1..40 .*, got 41"),
        ({"regime": "item", "length": 61}, r"length must be in 1..60 \(the users with training data\), got 61"),
    ],
)
def test_planting_refuses_with_a_reason(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        plant(small_data(), **{"regime": "user", "count": 2, **options})


def test_nothing_is_planted_in_no_data() -> None:
    empty = Dataset("empty", 3, 3, Interactions.empty())
    with pytest.raises(DataError, match="has no training interactions"):
        plant(empty, "user", 1)
    with pytest.raises(DataError, match="has no training interactions"):
        coin_flip_pairs(empty, 2)


# --- pairs by coin flips -----------------------------------------------------------------------------------------


@given(count=st.integers(20, 300), seed=st.integers(0, 30))
def test_every_pair_is_planted_or_left_out_and_nobody_held_it(count: int, seed: int) -> None:
    data = small_data()
    made, request = coin_flip_pairs(data, count, seed=seed)
    held = np.concatenate([p.codes(40) for p in (data.train, data.valid, data.test)])
    planted, outside = made.train.codes(40)[len(data.train) :], made.test.codes(40)
    assert len(np.unique(np.concatenate([planted, outside]))) == count
    assert not np.isin(np.concatenate([planted, outside]), held).any()
    assert_array_equal(request.users * 40 + request.items, planted)
    assert request.selection == f"canaries, {len(planted)} of {count} pairs planted by coin flips, seed {seed}"
    assert made.valid is data.valid
    assert made.digest == coin_flip_pairs(data, count, seed=seed)[0].digest


def test_coins_are_fair() -> None:
    planted = sum(coin_flip_pairs(small_data(), 100, seed=seed)[1].n_units for seed in range(50))
    assert stats.binomtest(planted, 5000).pvalue > 1e-3


def test_whoever_sees_no_model_cannot_tell_them_apart() -> None:
    """Exchangeable: intervals of both blind attacks hold .5, and over seeds their areas lie about it."""
    data = Dataset.synthetic(n_users=200, n_items=150, n_interactions=6000, features=("text",), width=6)
    areas: list[float] = []
    for seed in range(4):
        case = make_case(*coin_flip_pairs(data, 500, seed=seed), seed=0)
        assert (case.units["group"] == "outside").sum() > 200
        for area in (blind_auc(case), blind_content_auc(case)):
            assert area.value is not None
            assert area.low is not None
            assert area.high is not None
            assert area.low < 0.53
            assert area.high > 0.47
            areas.append(area.value)
    assert np.mean(areas) == pytest.approx(0.5, abs=0.03)


def test_too_many_or_too_few_pairs_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="a count of 2 or more, got 1"):
        coin_flip_pairs(small_data(), 1)
    with pytest.raises(DataError, match=r"too few pairs that nobody holds to plant 1500; found 1[0-9]{3}"):
        coin_flip_pairs(small_data(), 1500)


def test_coins_that_fall_on_one_side_are_refused() -> None:
    with pytest.raises(DataError, match="all of 2 coins fell on one side; plant more pairs or take another seed"):
        coin_flip_pairs(small_data(), 2, seed=0)
