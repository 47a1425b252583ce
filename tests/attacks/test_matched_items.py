from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logit
from sklearn.metrics.pairwise import cosine_similarity

from auditkit.attacks.content import content_of
from auditkit.attacks.matched_items import MatchedItems, MatchedPairs, matched_items, popularity_tenths
from auditkit.contracts import Backbone, Recommender
from auditkit.data.dataset import Dataset, Features, Interactions
from auditkit.testing import AttackTests, ProbeTests
from auditkit.testing.examples import small_case, small_data, small_systems


def _pairs(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    return data.train.users, data.train.items


def _known(data: Dataset) -> set[tuple[int, int]]:
    parts = (data.train, data.valid, data.test)
    return {pair for p in parts for pair in zip(p.users.tolist(), p.items.tolist(), strict=True)}


class TestMatchedPairs(ProbeTests):
    probe = MatchedPairs(controls=3)
    regimes = ("interaction", "user")

    def test_against_a_loop(self) -> None:
        for case, original, _ in self.examples():
            points = self.points(case)
            found = self.read(original, case, points)
            rows = original.score(np.arange(case.data.n_users)).double().numpy()
            z = (rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True)
            controls = points[["control_0", "control_1", "control_2"]].to_numpy()
            for k in range(0, len(points), 5):
                user, item = points["user"][k], points["item"][k]
                others = z[user, controls[k][controls[k] >= 0]]
                if len(others):
                    beaten = (others < z[user, item]).sum()
                    assert_allclose(found["z"][k], z[user, item] - others.mean(), rtol=1e-9)
                    assert_allclose(found["rank"][k], logit((beaten + 0.5) / (len(others) + 1)), rtol=1e-9)
                else:
                    assert np.isnan(found["z"][k])
                    assert np.isnan(found["rank"][k])

    def test_a_shift_of_a_whole_tenth_cancels(self) -> None:
        case, model = small_case("interaction"), small_systems("interaction")[0][1]
        points = self.points(case)
        tenths = popularity_tenths(case.data)
        plain = self.read(model, case, points)
        first = int(np.flatnonzero(np.isfinite(plain["z"]))[0])
        shift = np.where(tenths == tenths[points["item"][first]], 5.0, 0.0)
        shifted = self.read(Shifted(model, shift), case, points)
        assert_allclose(shifted["rank"], plain["rank"], atol=1e-9)
        # z is relative to the row's spread, which the shift changes for all of the user's pairs alike.
        mine = (points["user"] == points["user"][first]).to_numpy() & np.isfinite(plain["z"])
        ratio = shifted["z"][mine] / plain["z"][mine]
        assert_allclose(ratio, ratio[0], rtol=1e-4)


class Shifted:
    """A recommender whose scores of some items are raised for everybody."""

    def __init__(self, inner: Recommender, shift: np.ndarray) -> None:
        assert isinstance(inner, Backbone)
        self.inner, self.shift, self.n_users, self.n_items = inner, shift, inner.n_users, inner.n_items

    def score(self, users: np.ndarray, *, branch: str | None = None) -> object:
        return self.inner.score(users).double() + self.inner.score(users).double().new_tensor(self.shift)


class TestControls:
    def test_they_share_the_tenth_and_nobody_held_them(self) -> None:
        data = small_data()
        users, items = _pairs(data)
        chosen = matched_items(data, users, items, 3, np.random.default_rng(0))
        tenths, known = popularity_tenths(data), _known(data)
        for k in range(len(users)):
            mine = chosen[k][chosen[k] >= 0]
            assert len(set(mine)) == len(mine)
            assert items[k] not in mine
            assert (tenths[mine] == tenths[items[k]]).all()
            assert not {(int(users[k]), int(i)) for i in mine} & known
            free = [i for i in np.flatnonzero(tenths == tenths[items[k]]) if (int(users[k]), int(i)) not in known]
            assert len(mine) == min(3, len(free))

    def test_they_are_the_nearest_in_content(self) -> None:
        data = small_data()
        users, items = _pairs(data)
        chosen = matched_items(data, users, items, 3, np.random.default_rng(0))
        near, tenths, known = cosine_similarity(data.features["text"].values), popularity_tenths(data), _known(data)
        for k in range(0, len(users), 11):
            free = [i for i in np.flatnonzero(tenths == tenths[items[k]]) if (int(users[k]), int(i)) not in known]
            assert chosen[k][chosen[k] >= 0].tolist() == sorted(free, key=lambda i: -near[items[k], i])[:3]

    def test_without_content_they_are_drawn_anew_for_each_pair(self) -> None:
        data = Dataset("cold", 1, 5, Interactions.empty())
        users, items = np.zeros(400, np.int64), np.zeros(400, np.int64)
        chosen = matched_items(data, users, items, 1, np.random.default_rng(0))[:, 0]
        values, counts = np.unique(chosen, return_counts=True)
        assert values.tolist() == [1, 2, 3, 4]
        assert abs(counts - 100).max() < 40

    def test_absent_items_come_behind_the_present(self) -> None:
        data = small_data()
        text = data.features["text"]
        gone = np.arange(0, data.n_items, 2)
        present = text.present.copy()
        present[gone] = False
        values = text.values.copy()
        values[gone] = np.nan
        data = replace(data, features={"text": Features(values, present)}, train=Interactions.empty())
        data = replace(data, valid=Interactions.empty(), test=Interactions.empty())
        items = np.arange(1, data.n_items, 2)
        chosen = matched_items(data, np.zeros_like(items), items, 30, np.random.default_rng(0))
        n_present = (data.n_items + 1) // 2 - 1
        assert (chosen[:, :n_present] % 2 == 1).all()
        assert (chosen[:, n_present:] % 2 == 0).all()

    def test_a_user_who_holds_everything_has_none(self) -> None:
        data = Dataset("full", 1, 20, Interactions(np.zeros(20, np.int64), np.arange(20)))
        chosen = matched_items(data, np.zeros(20, np.int64), np.arange(20), 4, np.random.default_rng(0))
        assert_array_equal(chosen, np.full((20, 4), -1))


def test_tenths_of_equal_items_are_one() -> None:
    pairs = Interactions(np.arange(8).repeat(5), np.tile(np.arange(5), 8))
    assert len(np.unique(popularity_tenths(Dataset("level", 8, 5, pairs)))) == 1
    rising = Interactions(np.concatenate([np.arange(k) for k in range(40)]), np.arange(40).repeat(np.arange(40)))
    assert_array_equal(popularity_tenths(Dataset("rising", 40, 40, rising)), np.arange(40) // 4)


def test_modalities_weigh_the_same_whatever_their_scale() -> None:
    data = small_data()
    text = data.features["text"]
    image = Features(1000 * np.roll(text.values, 7, axis=0), text.present)
    both = content_of(replace(data, features={"image": image, "text": text}))
    assert both is not None
    expected = (cosine_similarity(text.values) + cosine_similarity(image.values)) / 2
    assert_allclose(both.vectors @ both.vectors.T, expected, atol=1e-5)
    assert content_of(replace(data, features={})) is None


class TestMatchedItems(AttackTests):
    attack = MatchedItems(controls=3)


@pytest.mark.parametrize("attack", MatchedItems.variants(), ids=str)
def test_every_variant_separates_original_from_golds(attack: MatchedItems) -> None:
    class Case(AttackTests):
        pass

    Case.attack = attack
    Case().test_higher_means_more_remembered()


def test_what_it_may_decide() -> None:
    assert MatchedItems.primary_for == MatchedItems.fails_in == {"interaction"}
