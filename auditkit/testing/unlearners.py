"""Conformance of unlearners: reproducible, honest about what they serve, and unmoved by odd requests."""

# The name of a test says what it checks.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from auditkit.contracts import Backbone, Recipe, Recommender, Task, Unlearner
from auditkit.data.dataset import Dataset, Floats, Ints
from auditkit.deletion import DeletionRequest, Regime, select
from auditkit.digests import digest_of
from auditkit.plugins import backbones
from auditkit.testing.examples import REGIMES, recipe_of, small_data, small_request, small_task
from auditkit.utility import evaluate


class UnlearnerTests:
    """What every unlearner must do, from a parent trained on 60 users and 40 items.

    Attributes:
        unlearner: under test.
        backbone: of the parent, by name.
        config, fit: of the parent.
        serves_retain: what it returns is a backbone served over the retain set (graph, histories).
        one_step: the method set to exactly one gradient step, where it claims that each lowers the forgotten pairs;
            None where it claims no such thing.
        utility_band: Recall@20 on the test pairs of `Dataset.synthetic()`, relative to the parent's, after an
            interaction request of 5%; None where the parent takes too long to train.
    """

    unlearner: ClassVar[Unlearner]
    backbone: ClassVar[str] = "bpr-mf"
    config: ClassVar[Mapping[str, Any]] = {"factors": 16}
    fit: ClassVar[Mapping[str, Any]] = {"epochs": 20}
    serves_retain: ClassVar[bool] = True
    one_step: ClassVar[Unlearner | None] = None
    utility_band: ClassVar[tuple[float, float] | None] = (0.8, 1.2)

    @property
    def recipe(self) -> Recipe:
        """Of the parent."""
        return recipe_of(backbones()[self.backbone], self.config, self.fit)

    @property
    def regimes(self) -> tuple[Regime, ...]:
        """Those it claims to answer, modality requests left out."""
        return tuple(r for r in REGIMES if r in self.unlearner.regimes)

    def task(self, request: DeletionRequest, units: Ints | None = None) -> Task:
        """What the unlearner is given."""
        mask = None if units is None else np.isin(np.arange(request.n_units), units)
        return small_task(small_data(), request, self.recipe, mask)

    def parent(self, task: Task) -> Backbone:
        """A private copy of the trained parent, as an audit makes it."""
        return _parent(self.backbone, self.recipe, task.data)

    def run(self, task: Task, seed: int = 5, unlearner: Unlearner | None = None) -> Recommender:
        """Unlearn from a private copy of the parent."""
        method = unlearner or self.unlearner
        return method.unlearn(self.parent(task), task, rng=np.random.default_rng(seed))

    def test_says_what_it_is(self) -> None:
        method = self.unlearner
        assert method.name
        assert method.regimes
        assert method.label in ("published", "reconstructed", "control", "baseline")
        assert digest_of(method) == digest_of(type(method)(**vars(method)))

    def test_same_seed_same_system(self) -> None:
        for regime in self.regimes:
            task = self.task(small_request(regime))
            assert_array_equal(_scores(self.run(task)), _scores(self.run(task)))

    def test_task_is_left_alone(self) -> None:
        for regime in self.regimes:
            task = self.task(small_request(regime))
            digests = task.data.digest, task.retain.digest, task.request.digest
            before = task.units.copy(), task.forget.users.copy(), task.forget.items.copy()
            self.run(task)
            assert (task.data.digest, task.retain.digest, task.request.digest) == digests
            for was, now in zip(before, (task.units, task.forget.users, task.forget.items), strict=True):
                assert_array_equal(was, now)

    def test_shape_of_what_is_served(self) -> None:
        for regime in self.regimes:
            served = self.run(self.task(small_request(regime)))
            assert _scores(served).shape == (small_data().n_users, small_data().n_items)

    def test_serves_over_the_retain_set(self) -> None:
        if self.serves_retain:
            for regime in self.regimes:
                task = self.task(small_request(regime))
                served = self.run(task)
                assert isinstance(served, Backbone)
                assert served.data.digest == task.retain.digest
                assert_array_equal(_scores(served), _scores(served.on(task.retain)))

    def test_store_gives_back_what_was_served(self) -> None:
        for regime in self.regimes:
            served = self.run(self.task(small_request(regime)))
            beneath, arrays = self.unlearner.dump(served)
            copy = self.recipe.model(beneath.data, 0)
            copy.load_state_dict(beneath.state_dict())
            assert_array_equal(_scores(self.unlearner.load(copy.eval(), arrays)), _scores(served))

    def test_one_step_lowers_the_forgotten_pairs(self) -> None:
        if self.one_step is not None:
            for regime in self.regimes:
                task = self.task(small_request(regime))
                before, after = self.parent(task), self.run(task, unlearner=self.one_step)
                assert forget_margin(after, task) < forget_margin(before, task)

    def test_a_request_for_nothing(self) -> None:
        """With no unit to erase, something is still served, with the same data beneath."""
        for regime in self.regimes:
            task = self.task(small_request(regime), np.empty(0, np.int64))
            assert len(task.forget) == 0
            assert np.isfinite(_scores(self.run(task))).all()

    def test_a_request_for_one_unit(self) -> None:
        for regime in self.regimes:
            served = self.run(self.task(small_request(regime), np.array([0])))
            assert np.isfinite(_scores(served)).any()

    def test_a_request_for_everything(self) -> None:
        for regime in self.regimes:
            task = self.task(select(small_data(), regime, share=1.0, seed=1))
            assert len(task.retain.train) == 0
            assert not np.isinf(_scores(self.run(task))).any()

    def test_a_unit_without_data(self) -> None:
        """A user, item or pair that the training data does not hold can be asked for, beside one that it does."""
        for regime in self.regimes:
            task = small_task(_with_strangers(), _request_for_a_stranger(regime), self.recipe)
            assert np.isfinite(_scores(self.run(task))).any()

    def test_utility_stays_in_its_band(self) -> None:
        if self.utility_band is None:
            pytest.skip("this class states no band")
        data = Dataset.synthetic()
        recipe = recipe_of(backbones()[self.backbone], {}, {})
        task = small_task(data, select(data, "interaction", share=0.05), recipe)
        parent = _parent(self.backbone, recipe, task.data)
        before = _recall(parent, data)
        after = _recall(self.unlearner.unlearn(parent, task, rng=np.random.default_rng(5)), data)
        assert self.utility_band[0] <= after / before <= self.utility_band[1]


# Trained parents by backbone, procedure and data: what every test starts from is trained once.
_PARENTS: dict[tuple[str, str, str], Backbone] = {}


def _parent(backbone: str, recipe: Recipe, data: Dataset) -> Backbone:
    key = (backbone, recipe.digest, data.digest)
    if key not in _PARENTS:
        _PARENTS[key] = recipe.architecture().fit([(data, 7)], recipe, device="cpu")[0]
    copy = recipe.model(data, 0)
    copy.load_state_dict(_PARENTS[key].state_dict())
    return copy.eval()


def forget_margin(model: Recommender, task: Task) -> float:
    """Mean over the forgotten pairs of the score above the user's mean score."""
    scores = model.score(task.forget.users).detach().double().numpy()
    pairs = scores[np.arange(len(task.forget)), task.forget.items]
    return float((pairs - scores.mean(1)).mean())


def _scores(model: Recommender) -> Floats:
    return model.score(np.arange(model.n_users)).detach().double().numpy()


def _recall(model: Recommender, data: Dataset) -> float:
    return evaluate(model, data.test, [data.train, data.valid]).mean()["recall@20"]


def _with_strangers() -> Dataset:
    """`small_data` with one more user and one more item, who met nobody."""
    data = small_data()
    return replace(data, n_users=data.n_users + 1, n_items=data.n_items + 1, features={})


def _request_for_a_stranger(regime: Regime) -> DeletionRequest:
    """A unit that covers something, and one that covers nothing."""
    data, known = _with_strangers(), small_request(regime)
    users = np.array([known.users[0], -1 if regime == "item" else data.n_users - 1])
    items = np.array([known.items[0], -1 if regime == "user" else data.n_items - 1])
    return DeletionRequest(regime, users, items)
