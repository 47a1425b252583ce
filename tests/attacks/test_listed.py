from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from auditkit.attacks.listed import Listed, ListedPairs
from auditkit.attacks.top_lists import list_signals, moderated, steadied
from auditkit.contracts import Recommender
from auditkit.crossing import cross_score
from auditkit.data.dataset import Floats, Ints
from auditkit.evidence import Case
from auditkit.statistics.likelihood import fit_in_out
from auditkit.testing import AttackTests, ProbeTests
from auditkit.testing.examples import small_case, small_systems


def naive_place(model: Recommender, case: Case, user: int, item: int, k: int) -> int | None:
    """Sort what the user does not keep, best first, and look."""
    kept = case.retain.train.items[case.retain.train.users == user]
    scores = model.score(np.array([user]))[0].double().numpy()
    best = [i for i in np.argsort(-scores, kind="stable") if i not in kept][:k]
    return best.index(item) + 1 if item in best else None


class TestListedPairs(ProbeTests):
    probe = ListedPairs(k=5)

    def test_against_a_sorted_row(self) -> None:
        for case, original, _ in self.examples():
            points = self.points(case)
            found = self.read(original, case, points)
            for k in range(0, len(points), 7):
                place = naive_place(original, case, points["user"][k], points["item"][k], 5)
                assert found["hit"][k] == (place is not None)
                assert_allclose(found["log"][k], 0 if place is None else np.log(6 / place))
                assert_allclose(found["reciprocal"][k], 0 if place is None else 1 / place)
            assert 0 < found["hit"][case.forget[points["unit"]]].mean() < 1

    def test_retained_pairs_are_never_listed(self) -> None:
        case, model = small_case("interaction"), small_systems("interaction")[0][1]
        points = self.points(case)
        kept = case.units["group"].to_numpy()[points["unit"]] == "retain"
        assert kept.any()
        assert not self.read(model, case, points)["hit"][kept].any()

    def test_a_list_longer_than_the_catalogue_shows_all_that_is_not_kept(self) -> None:
        case, model = small_case("interaction"), small_systems("interaction")[0][1]
        points = self.points(case)
        found = ListedPairs(k=1000).read(model, points, case, rng=np.random.default_rng(0))["hit"]
        assert found[case.forget[points["unit"]]].all()

    def test_a_masked_pair_is_not_listed_and_an_equal_row_has_no_list(self) -> None:
        case = small_case("interaction")
        points = self.points(case)
        user, item = int(points["user"][0]), int(points["item"][0])
        inner = small_systems("interaction")[0][1]
        masked = self.read(Altered(inner, user, item, np.nan), case, points)
        assert masked["hit"][0] == masked["log"][0] == 0
        equal = self.read(Altered(inner, user, slice(None), 1.0), case, points)
        mine = (points["user"] == user).to_numpy()
        assert np.isnan(equal["hit"][mine]).all()
        assert_array_equal(equal["hit"][~mine], self.read(inner, case, points)["hit"][~mine])


@dataclass
class Altered:
    """A recommender with some scores of one user replaced."""

    inner: Recommender
    user: int
    items: int | slice
    value: float

    @property
    def n_users(self) -> int:
        return self.inner.n_users

    @property
    def n_items(self) -> int:
        return self.inner.n_items

    def score(self, users: Ints, *, branch: str | None = None) -> torch.Tensor:
        scores = self.inner.score(users).clone()
        scores[torch.from_numpy(np.asarray(users) == self.user), self.items] = self.value
        return scores


class TestListed(AttackTests):
    attack = Listed(k=5)

    def test_against_a_loop(self) -> None:
        for case, evidence in self.examples():
            reading = evidence.readings[self.attack.probes[0]]
            hit, refs = reading.values["hit"], evidence.rows("reference")
            points = np.flatnonzero(case.forget[reading.unit])
            held = evidence.held[np.ix_(refs, reading.unit[points])]
            within = fit_in_out(hit[np.ix_(refs, points)], held).within
            inside, outside = (
                np.array([hit[refs[h], p].mean() for h, p in zip(side.T, points, strict=True)])
                for side in (held, ~held)
            )
            shown = (inside > 0) | (outside > 0)
            within = (within + within[shown].mean()) / 2
            contrast, per_side = inside - outside, len(refs) / 2
            noise = 2 * within[shown].mean() / per_side
            share = max(0.0, 1 - noise / contrast[shown].var())
            steady = contrast[shown].mean() + share * (contrast - contrast[shown].mean())
            terms = np.where(shown, steady, 0) / within * (hit[0, points] - (inside + outside) / 2)
            naive = [terms[reading.unit[points] == unit].sum() for unit in range(int(case.forget.sum()))]
            assert_allclose(cross_score(self.attack, evidence).level[0, case.forget], naive, rtol=1e-9, atol=1e-9)

    def test_no_weight_is_without_bound(self) -> None:
        """A point that every reference with it lists and no other does has no variance of its own."""
        rng = np.random.default_rng(0)
        held = rng.permuted(np.tile(np.arange(8) < 4, (50, 1)), axis=1).T
        values = (rng.random((8, 50)) < 0.3).astype(float)
        values[:, 0] = held[:, 0]
        values[:, 1:20] = 0
        fitted = fit_in_out(values, held)
        shown = (fitted.mean_in > 0) | (fitted.mean_out > 0)
        weights, common = moderated(fitted).weights(), fitted.within[shown].mean()
        contrast = fitted.mean_in - fitted.mean_out
        assert contrast[0] == 1
        assert np.abs(weights).max() <= 2 / common
        assert_allclose(weights, contrast / ((fitted.within + common) / 2))
        assert weights[0] < fitted.weights()[0]
        assert not weights[1:20].any()

    def test_lists_that_show_nothing_leave_the_fit_as_it_is(self) -> None:
        held = np.tile(np.arange(8) < 4, (3, 1)).T
        fitted = fit_in_out(np.zeros((8, 3)), held)
        assert moderated(fitted) is fitted
        assert steadied(fitted) is fitted
        assert not fitted.weights().any()


def test_faint_contrasts_become_one_and_strong_ones_stay() -> None:
    rng = np.random.default_rng(0)
    held = rng.permuted(np.tile(np.arange(16) < 8, (400, 1)), axis=1).T
    chance = rng.choice([0.1, 0.9], 400)
    faint = fit_in_out((rng.random((16, 400)) < 0.3 + 0.05 * held).astype(float), held)
    strong = fit_in_out((rng.random((16, 400)) < np.where(held, chance, 0.1)).astype(float), held)
    for fitted, low, high in ((faint, 0.0, 0.4), (strong, 0.85, 1.0)):
        was, now = (f.mean_in - f.mean_out for f in (fitted, steadied(fitted)))
        assert_allclose(now.mean(), was.mean())
        assert_allclose(steadied(fitted).middle(), fitted.middle())
        assert low <= now.std() / was.std() < high


class TestListedByPlace(AttackTests):
    attack = Listed(k=5, signal="log")


class TestListedByReciprocal(AttackTests):
    attack = Listed(k=10, signal="reciprocal")


def test_ties_list_the_lower_id_first() -> None:
    scores = torch.tensor([[1.0, 2.0, 2.0, 2.0], [3.0, torch.nan, 1.0, 2.0]])
    rows, items = np.array([0, 0, 0, 1, 1]), np.array([1, 2, 3, 1, 3])
    found = list_signals(scores, rows, items, 2)
    assert_array_equal(found["hit"], [1, 1, 0, 0, 1])
    assert_allclose(found["reciprocal"], [1, 1 / 2, 0, 0, 1 / 2])
    assert_allclose(found["log"], [np.log(3), np.log(1.5), 0, 0, np.log(1.5)])


@pytest.mark.parametrize("n", [1, 3])
def test_rows_with_nothing_or_one_thing_to_list(n: int) -> None:
    """One item is no ranking, so it is no list either."""
    scores = torch.full((2, n), torch.nan)
    scores[1, 0] = 5.0
    found: dict[str, Floats] = list_signals(scores, np.array([0, 1]), np.array([0, 0]), 2)
    assert all(np.isnan(values).all() for values in found.values())


def test_it_may_be_primary_where_lists_are_all_there_is() -> None:
    assert Listed.primary_for == Listed.fails_in == {"interaction"}
    assert Listed.battery() == ()
    assert Listed() in Listed.variants()
