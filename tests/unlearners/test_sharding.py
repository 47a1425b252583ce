from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from auditkit.contracts import Backbone, Recipe, Task
from auditkit.costs import measured
from auditkit.data.dataset import Dataset, Floats, Interactions, Ints
from auditkit.deletion import DeletionRequest, Regime, select
from auditkit.errors import ConfigurationError
from auditkit.testing.examples import small_data, small_request, small_task
from auditkit.unlearners.sharding import (
    Sharded,
    ShardedTraining,
    pretrained,
    shard_data,
    shard_seeds,
    train_shard,
    without_tables,
)

_RECIPE = Recipe.of("bpr-mf", {"factors": 8}, {"epochs": 5})


@dataclass(frozen=True)
class ByUser(ShardedTraining):
    """User u is in shard u modulo the number of shards."""

    name: ClassVar[str] = "by-user"

    def parts(self, data: Dataset, recipe: Recipe, *, device: str, rng: np.random.Generator) -> Ints:
        return data.train.users % self.shards


@dataclass(frozen=True)
class ByPair(ByUser):
    """Pairs are dealt out one after another."""

    def parts(self, data: Dataset, recipe: Recipe, *, device: str, rng: np.random.Generator) -> Ints:
        return np.arange(len(data.train)) % self.shards


def _task(request: DeletionRequest, recipe: Recipe = _RECIPE) -> Task:
    return small_task(small_data(), request, recipe)


def _scores(model: Sharded | Backbone, users: Ints | None = None) -> Floats:
    return model.score(np.arange(model.n_users) if users is None else users).detach().double().numpy()


def _same_weights(one: Backbone, other: Backbone) -> bool:
    return all(torch.equal(p, other.get_parameter(name)) for name, p in one.named_parameters())


def _unlearned(method: ShardedTraining, task: Task) -> tuple[Sharded, Sharded]:
    parent = method.train(task.data, task.recipe, device="cpu", seed=1)
    return parent, method.unlearn(parent, task, rng=np.random.default_rng(2))


def _user_request(*users: int) -> DeletionRequest:
    return DeletionRequest("user", np.array(users), np.full(len(users), -1))


def test_a_score_is_the_mean_over_the_shards_that_hold_the_user() -> None:
    model = ByPair(shards=7).train(small_data(), _RECIPE, device="cpu", seed=0)
    for user in range(small_data().n_users):
        holders = [part for part in model.backbones if user in part.data.train.users]
        naive = np.mean([_scores(part, np.array([user]))[0] for part in holders], axis=0)
        np.testing.assert_allclose(_scores(model, np.array([user]))[0], naive, rtol=1e-4, atol=1e-6)


def test_users_may_come_in_any_order_and_twice() -> None:
    model = ByPair(shards=3).train(small_data(), _RECIPE, device="cpu", seed=0)
    asked = np.array([7, 3, 7, 0])
    np.testing.assert_allclose(_scores(model, asked), _scores(model)[asked], rtol=1e-4, atol=1e-6)


def test_a_user_of_one_shard_is_scored_by_it_alone() -> None:
    model = ByUser(shards=3).train(small_data(), _RECIPE, device="cpu", seed=0)
    for user in (0, 1, 2, 30):
        own = _scores(model.backbones[user % 3], np.array([user]))
        assert np.array_equal(_scores(model, np.array([user])), own)


def test_a_user_whom_no_shard_holds_hears_all_that_hold_anything() -> None:
    data = small_data()
    few = replace(data, train=data.train.take(np.isin(data.train.users, [0, 1, 4])))
    model = ByUser(shards=3).train(few, _RECIPE, device="cpu", seed=0)
    assert [len(part.data.train) > 0 for part in model.backbones] == [True, True, False]
    naive = np.mean([_scores(part, np.array([50])) for part in model.backbones[:2]], axis=0)
    np.testing.assert_allclose(_scores(model, np.array([50])), naive, rtol=1e-5, atol=1e-7)


def test_a_fresh_user_hears_every_shard_by_what_it_knows() -> None:
    data = small_data()
    kept = data.train.take((data.train.items != 3) | (data.train.users % 2 == 1))
    model = ByUser(shards=2).train(replace(data, train=kept), _RECIPE, device="cpu", seed=0)
    even, odd = model.backbones
    known = [np.array([5, 8]), np.array([3, 5, 8])]
    naive = (even.fold_in(known[:1]) + odd.fold_in(known[1:])) / 2
    torch.testing.assert_close(model.fold_in([np.array([3, 5, 8])]), naive)
    # Item 3 alone is known to the odd shard only: the even one is told all there is.
    torch.testing.assert_close(
        model.fold_in([np.array([3])]), (even.fold_in([np.array([3])]) + odd.fold_in([np.array([3])])) / 2
    )


def test_a_fresh_item_is_scored_for_each_user_by_the_shards_that_hold_her() -> None:
    model = ByUser(shards=2).train(small_data(), _RECIPE, device="cpu", seed=0)
    told = [np.array([0, 2, 5, 7, 9]), np.array([1, 4, 8, 11])]
    found = model.fold_in(told, side="item")
    for shard, backbone in enumerate(model.backbones):
        own = backbone.fold_in([ids[ids % 2 == shard] for ids in told], side="item")
        torch.testing.assert_close(found[:, shard::2], own[:, shard::2])


@pytest.mark.parametrize("method", [ByPair(shards=4), ByUser(shards=4)])
@pytest.mark.parametrize("regime", ["interaction", "user", "item"])
def test_every_retained_pair_is_in_one_shard_and_no_other_pair_in_any(method: ShardedTraining, regime: Regime) -> None:
    task = _task(small_request(regime))
    for model, data in zip(_unlearned(method, task), (task.data, task.retain), strict=True):
        codes = np.concatenate([part.data.train.codes(data.n_items) for part in model.backbones])
        assert np.array_equal(np.sort(codes), np.sort(data.train.codes(data.n_items)))


def test_untouched_shards_stay_bit_for_bit_and_touched_ones_start_over() -> None:
    """Users 0 and 4 are in shard 0 of 4; the retrained shard is training on what is left with the next seed."""
    task = _task(_user_request(0, 4))
    parent, served = _unlearned(ByUser(shards=4), task)
    kept = [_same_weights(*pair) for pair in zip(parent.backbones, served.backbones, strict=True)]
    assert kept == [False, True, True, True]
    assert np.array_equal(_scores(served)[1::4], _scores(parent)[1::4])
    left = shard_data(task.retain, task.retain.train.users % 4 == 0)
    seed = shard_seeds(np.random.default_rng(2), 4)[0]
    assert _same_weights(served.backbones[0], train_shard(left, _RECIPE, seed, "cpu"))


def test_a_shard_with_other_validation_pairs_starts_over_too() -> None:
    """Early stopping looked at them: what is erased from the validation part alone still shaped its shard."""
    whole = small_data()
    task = _task(_user_request(1))
    only_valid = replace(task, retain=replace(task.retain, train=task.data.train))
    assert len(only_valid.retain.valid) < len(whole.valid)
    parent, served = _unlearned(ByUser(shards=4), only_valid)
    kept = [_same_weights(*pair) for pair in zip(parent.backbones, served.backbones, strict=True)]
    assert kept == [True, False, True, True]


def test_shards_are_what_is_timed() -> None:
    with measured("cpu", solo=True) as training:
        model = ByUser(shards=4).train(small_data(), _RECIPE, device="cpu", seed=0)
    assert len(training().pieces) == 4
    with measured("cpu", solo=True) as unlearning:
        ByUser(shards=4).unlearn(model, _task(_user_request(0)), rng=np.random.default_rng(0))
    assert len(unlearning().pieces) == 1
    assert 0 < unlearning().pieces[0] <= unlearning().wall_s


def test_a_request_for_nothing_changes_nothing() -> None:
    task = small_task(small_data(), small_request("user"), _RECIPE, np.zeros(small_request("user").n_units, np.bool_))
    parent, served = _unlearned(ByUser(shards=4), task)
    assert np.array_equal(_scores(parent), _scores(served))


def test_a_request_for_everything_leaves_shards_as_they_are_drawn() -> None:
    task = _task(select(small_data(), "user", share=1.0))
    _, served = _unlearned(ByUser(shards=4), task)
    seeds = shard_seeds(np.random.default_rng(2), 4)
    assert all(
        _same_weights(part, _RECIPE.model(task.retain, s)) for part, s in zip(served.backbones, seeds, strict=True)
    )
    np.testing.assert_allclose(
        _scores(served), np.mean([_scores(p) for p in served.backbones], 0), rtol=1e-4, atol=1e-6
    )


def test_more_shards_than_pairs() -> None:
    data = replace(small_data(), train=small_data().train.take(np.arange(3)))
    model = ByPair(shards=5).train(data, _RECIPE, device="cpu", seed=0)
    assert [len(part.data.train) for part in model.backbones] == [1, 1, 1, 0, 0]
    assert np.isfinite(_scores(model)).all()


def test_a_plain_parent_is_refused_in_words() -> None:
    task = _task(small_request("user"))
    plain = _RECIPE.train(task.data, 0, device="cpu")
    with pytest.raises(ConfigurationError, match="unlearns what it trained in shards, got a BPRMF"):
        ByUser().unlearn(plain, task, rng=np.random.default_rng(0))


def test_no_shards_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="by-user: shards must be 1 or more, got 0"):
        ByUser(shards=0)


def test_a_shard_validates_on_its_own_users_or_on_all() -> None:
    train = Interactions(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]))
    valid = Interactions(np.array([0, 1]), np.array([2, 2]))
    data = Dataset("few", 3, 3, train, valid)
    assert shard_data(data, train.users == 0).valid.users.tolist() == [0]
    assert shard_data(data, train.users == 2).valid.users.tolist() == [0, 1]


def test_shards_of_a_recipe_that_stops_early() -> None:
    recipe = Recipe.of("bpr-mf", {"factors": 8}, {"epochs": 20, "patience": 2, "every": 2})
    task = _task(small_request("user"), recipe)
    _, served = _unlearned(ByUser(shards=3), task)
    assert np.isfinite(_scores(served)).all()


def test_pretraining_is_short_and_plain() -> None:
    recipe = replace(_RECIPE, trainer=ByUser())
    users, items = pretrained(small_data(), recipe, 2, device="cpu", seed=3)
    plain = Recipe.of("bpr-mf", {"factors": 8}, {"epochs": 2}).train(small_data(), 3, device="cpu")
    assert isinstance(plain, Backbone)
    assert np.array_equal(users, plain.get_parameter("user_table").detach().double().numpy())
    assert np.array_equal(items, plain.get_parameter("item_table").detach().double().numpy())


def test_pretraining_is_never_longer_than_training() -> None:
    long, own = (pretrained(small_data(), _RECIPE, n, device="cpu", seed=3)[0] for n in (50, 5))
    assert np.array_equal(long, own)


def test_backbones_without_tables_are_named() -> None:
    assert without_tables(Recipe.of("lightgcn")) is None
    reason = without_tables(Recipe.of("ease"))
    assert reason is not None
    assert "bpr-mf and lightgcn" in reason
    assert "ease" in reason
