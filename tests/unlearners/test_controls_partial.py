from __future__ import annotations

import numpy as np
import pytest
import torch

from auditkit.contracts import Backbone, Recipe, Task
from auditkit.data.dataset import Bools, Ints
from auditkit.errors import ConfigurationError
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_data, small_request
from auditkit.unlearners.controls import Masked
from auditkit.unlearners.controls_partial import OtherSideRetrained, PopularOnly, RandomPart, RowsDropped, StaleGraph

_EVERYBODY = np.arange(60)
_LIGHTGCN = ({"factors": 8, "layers": 2}, {"epochs": 3, "learning_rate": 0.02})


class TestRowsDropped(UnlearnerTests):
    unlearner = RowsDropped()

    def test_the_weights_are_the_parents_bit_for_bit(self) -> None:
        for task in self.tasks():
            (beneath,), _ = self.unlearner.dump(self.run(task))
            for name, parameter in self.parent(task).named_parameters():
                assert torch.equal(beneath.get_parameter(name), parameter)

    def test_erased_rows_and_no_others_are_gone(self) -> None:
        for task in self.tasks():
            scores = self.run(task).score(_EVERYBODY).numpy()
            gone = np.zeros((60, 40), np.bool_)
            if task.request.regime == "user":
                gone[task.request.users] = True
            if task.request.regime == "item":
                gone[:, task.request.items] = True
            assert np.array_equal(np.isnan(scores), gone)

    def test_a_fresh_account_is_served_from_the_kept_weights(self) -> None:
        task = self.task(small_request("user"))
        served = self.run(task)
        assert isinstance(served, Masked)
        told = [np.array([1, 2, 3])]
        assert torch.equal(served.fold_in(told), self.parent(task).fold_in(told))


class TestRowsDroppedOfLightGCN(UnlearnerTests):
    unlearner = RowsDropped()
    backbone = "lightgcn"
    config, fit = _LIGHTGCN
    utility_band = None


class TestOtherSideRetrained(UnlearnerTests):
    unlearner = OtherSideRetrained()

    def test_erased_rows_are_the_parents_bit_for_bit_and_no_others_are(self) -> None:
        for task in self.tasks():
            kept = _rows_kept(self.parent(task), self.run(task))
            for side, named in (("user", task.request.users), ("item", task.request.items)):
                assert np.array_equal(np.flatnonzero(kept[f"{side}_table"]), np.sort(named[named >= 0]))

    def test_everything_else_scores_as_a_gold_does(self) -> None:
        for task in self.tasks():
            served, gold = self.run(task).score(_EVERYBODY).numpy(), _gold(task, seed=5).score(_EVERYBODY).numpy()
            users, items = (
                np.setdiff1d(np.arange(n), named) for n, named in ((60, task.request.users), (40, task.request.items))
            )
            rest = np.ix_(users, items)
            np.testing.assert_allclose(served[rest], gold[rest], rtol=1e-3, atol=1e-4)

    def test_erased_rows_still_score_as_they_used_to(self) -> None:
        """Turned onto the original's axes; a Gold's own axes would leave no more than chance."""
        for task in self.tasks():
            covered = np.isin(_EVERYBODY, task.request.users)[:, None] | np.isin(np.arange(40), task.request.items)
            models = self.parent(task), self.run(task), _gold(task, 5)
            before, after, gold = (model.score(_EVERYBODY).numpy()[covered] for model in models)
            assert np.corrcoef(before, after)[0, 1] > max(0.5, np.corrcoef(before, gold)[0, 1])

    @pytest.mark.parametrize("backbone", ["ease", "neumf", "vbpr", "mgcn"])
    def test_other_scores_than_products_are_refused(self, backbone: str) -> None:
        reason = self.unlearner.refuses(Recipe.of(backbone), small_request("user"))
        assert reason is not None
        assert "choose bpr-mf or lightgcn" in reason


class TestOtherSideRetrainedOfLightGCN(UnlearnerTests):
    unlearner = OtherSideRetrained()
    backbone = "lightgcn"
    config, fit = _LIGHTGCN
    utility_band = None


class TestRandomPart(UnlearnerTests):
    unlearner = RandomPart()
    serves_retain = False

    def test_exactly_nine_tenths_of_the_units_are_gone(self) -> None:
        task = self.task(small_request("interaction"), np.arange(90))
        assert len(_units_left(self.run(task), task)) == 9

    def test_of_few_units_one_stays(self) -> None:
        for regime, n in (("user", 6), ("item", 4)):
            task = self.task(small_request(regime))
            assert task.request.n_units == n
            assert len(_units_left(self.run(task), task)) == 1

    def test_the_units_that_stay_are_drawn(self) -> None:
        task = self.task(small_request("interaction"))
        one, other = (_units_left(self.run(task, seed=seed), task) for seed in (1, 2))
        assert not np.array_equal(one, other)

    def test_of_one_unit_it_stays(self) -> None:
        task = self.task(small_request("user"), np.array([2]))
        assert _units_left(self.run(task), task).tolist() == [2]

    def test_it_is_trained_on_what_it_is_served_over(self) -> None:
        task = self.task(small_request("user"))
        rng, served = np.random.default_rng(5), self.run(task, seed=5)
        assert isinstance(served, Backbone)
        rng.permutation(task.request.n_units)
        again = task.recipe.train(served.data, int(rng.integers(2**31)), device="cpu")
        assert torch.equal(served.score(_EVERYBODY), again.score(_EVERYBODY))


class TestPopularOnly(UnlearnerTests):
    unlearner = PopularOnly()
    serves_retain = False

    def test_forgotten_pairs_of_the_most_popular_items_go_and_the_others_stay(self) -> None:
        for task in self.tasks():
            served = self.run(task)
            assert isinstance(served, Backbone)
            n = task.data.n_items
            stays = np.isin(task.forget.codes(n), served.data.train.codes(n))
            popularity = np.bincount(task.data.train.items, minlength=n)
            gone, left = np.unique(task.forget.items[~stays]), np.unique(task.forget.items[stays])
            assert len(gone) == int(0.2 * len(np.unique(task.forget.items)))
            assert not len(np.intersect1d(gone, left))
            assert not len(gone) or popularity[gone].min() >= popularity[left].max()
            assert len(served.data.train) == len(task.retain.train) + int(stays.sum())

    def test_some_item_always_goes_of_many_and_none_of_few(self) -> None:
        few = self.run(self.task(small_request("item"), np.array([0, 1])))
        assert isinstance(few, Backbone)
        assert few.data.train.codes(40).tolist() == small_data().train.codes(40).tolist()


class TestStaleGraph(UnlearnerTests):
    unlearner = StaleGraph()
    backbone = "lightgcn"
    config, fit = _LIGHTGCN
    serves_retain = False
    utility_band = None

    def test_a_golds_weights_over_the_graph_of_the_original(self) -> None:
        for task in self.tasks():
            served, gold = self.run(task), _gold(task, seed=5)
            assert isinstance(served, Backbone)
            assert served.data.digest == task.data.digest
            for name, parameter in gold.named_parameters():
                assert torch.equal(served.get_parameter(name), parameter)
            assert not torch.allclose(served.score(_EVERYBODY), gold.score(_EVERYBODY), rtol=1e-2)

    @pytest.mark.parametrize("backbone", ["bpr-mf", "neumf"])
    def test_what_scores_through_no_graph_is_refused(self, backbone: str) -> None:
        assert "no graph or history" in (self.unlearner.refuses(Recipe.of(backbone), small_request("user")) or "")

    @pytest.mark.parametrize("backbone", ["lightgcn", "ease", "mgcn"])
    def test_graphs_histories_and_features_are_not(self, backbone: str) -> None:
        assert self.unlearner.refuses(Recipe.of(backbone), small_request("user")) is None


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_domains(share: float) -> None:
    with pytest.raises(ConfigurationError, match=r"share must be in \[0, 1\)"):
        RandomPart(share)
    with pytest.raises(ConfigurationError, match=r"head must be in \[0, 1\)"):
        PopularOnly(share)


def _gold(task: Task, seed: int) -> Backbone:
    """The Gold that a control with this seed starts from."""
    first = int(np.random.default_rng(seed).integers(2**31))
    return task.recipe.architecture().fit([(task.retain, first)], task.recipe, device="cpu")[0]


def _rows_kept(parent: Backbone, served: object) -> dict[str, Bools]:
    assert isinstance(served, Backbone)
    return {name: (p == served.get_parameter(name)).all(1).numpy() for name, p in parent.named_parameters()}


def _units_left(served: object, task: Task) -> Ints:
    assert isinstance(served, Backbone)
    unit = task.request.unit_of(served.data.train, task.data.n_items)
    left = np.unique(unit[unit >= 0])
    return left[task.units[left]]
