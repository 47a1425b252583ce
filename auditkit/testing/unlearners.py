"""Conformance of unlearners: reproducible, honest about what they serve, and unmoved by odd requests."""

# The name of a test says what it checks.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from auditkit.builds import System, Train, Unlearn, Workshop, make, read
from auditkit.contracts import Backbone, Recipe, Recommender, Task, Unlearner
from auditkit.costs import measured
from auditkit.data.dataset import Dataset, Features, Floats, Ints
from auditkit.deletion import EVERYBODY, NOBODY, DeletionRequest, Regime, Share, select
from auditkit.digests import digest_of
from auditkit.plugins import backbones
from auditkit.store import Store
from auditkit.testing.examples import REGIMES, recipe_of, small_data, small_request, small_task
from auditkit.utility import evaluate

_PARENT_SEED, _SEED = 7, 5


class UnlearnerTests:
    """What every unlearner must do, from a parent trained on 60 users and 40 items.

    A method that `trains` starts from what its own `train` made. Modality requests are asked of methods that claim
    them: where `backbone` reads no features, they are asked of VBPR.

    Attributes:
        unlearner: under test.
        backbone: of the parent, by name.
        config, fit: of the parent.
        trainer: whose training made the parent, for a method with `parents = "any"`; None trains plainly.
        serves_retain: no forgotten pair and no withdrawn feature is left in what it returns (graphs, histories), nor
            in any of the `backbones` beneath; a backbone is served over the retain set itself.
        one_step: the method set to exactly one gradient step, where it claims that each lowers the forgotten pairs;
            None where it claims no such thing.
        utility_band: Recall@20 on the test pairs of `Dataset.synthetic()`, relative to the parent's, after a request
            for 5% of the interactions (of the users or items where it answers no interaction request); None where the
            parent takes too long to train.
    """

    unlearner: ClassVar[Unlearner]
    backbone: ClassVar[str] = "bpr-mf"
    config: ClassVar[Mapping[str, Any]] = {"factors": 16}
    fit: ClassVar[Mapping[str, Any]] = {"epochs": 20}
    trainer: ClassVar[Unlearner | None] = None
    serves_retain: ClassVar[bool] = True
    one_step: ClassVar[Unlearner | None] = None
    utility_band: ClassVar[tuple[float, float] | None] = (0.8, 1.2)

    @property
    def recipe(self) -> Recipe:
        """Of the parent."""
        return self.procedure(self.backbone, self.config, self.fit)

    def procedure(self, backbone: str, config: Mapping[str, Any], fit: Mapping[str, Any]) -> Recipe:
        """How parents of a backbone are trained: plainly, by `trainer`, or by the method itself where it `trains`."""
        trainer = self.unlearner if self.unlearner.trains else self.trainer
        return replace(recipe_of(backbones()[backbone], config, fit), trainer=trainer)

    @property
    def regimes(self) -> tuple[Regime, ...]:
        """Those it claims to answer."""
        return tuple(r for r in (*REGIMES, "modality") if r in self.unlearner.regimes)

    def recipe_for(self, regime: Regime) -> Recipe:
        """`recipe`, but a backbone that reads features for a request that withdraws them."""
        if regime == "modality" and not self.recipe.architecture().needs_features:
            return self.procedure("vbpr", {"factors": 8}, {"epochs": 20, "learning_rate": 0.02, "batch": 256})
        return self.recipe

    def task(self, request: DeletionRequest, units: Ints | None = None) -> Task:
        """What the unlearner is given."""
        mask = None if units is None else np.isin(np.arange(request.n_units), units)
        return small_task(small_data(), request, self.recipe_for(request.regime), mask)

    def tasks(self) -> Iterator[Task]:
        """A tenth of the units, in every regime that it claims."""
        for regime in self.regimes:
            yield self.task(small_request(regime))

    def served(self, task: Task) -> Recommender:
        """What it makes of one of `tasks`, made once for all tests that only look at it."""
        key = (type(self), task.request.regime)
        if key not in _SERVED:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(1)
                _SERVED[key] = self.run(task)
        return _SERVED[key]

    def parent(self, task: Task) -> Any:
        """A private copy of the trained parent, as an audit makes it: a backbone, or what the trainer yields."""
        return _copied(_trained(task.recipe, task.data), task.recipe)

    def run(self, task: Task, seed: int = _SEED, unlearner: Unlearner | None = None) -> Recommender:
        """Unlearn from a private copy of the parent."""
        method = unlearner or self.unlearner
        return method.unlearn(self.parent(task), task, rng=np.random.default_rng(seed))

    def test_says_what_it_is(self) -> None:
        method = self.unlearner
        assert method.name
        assert method.regimes
        assert method.label in ("published", "reconstructed", "control", "baseline")
        assert digest_of(method) == digest_of(type(method)(**vars(method)))

    def test_refuses_nothing_that_it_is_put_to_here(self) -> None:
        for task in self.tasks():
            assert self.unlearner.refuses(task.recipe, task.request) is None

    def test_a_closed_form_is_answered_or_refused_in_words(self) -> None:
        """EASE has no gradients and no loss: a method that needs them says so before anything is built."""
        for regime in self.regimes:
            if regime != "modality":
                task = small_task(small_data(), small_request(regime), self.procedure("ease", {}, {}))
                reason = self.unlearner.refuses(task.recipe, task.request)
                assert reason is None or reason.strip()
                if reason is None:
                    _check_sound(self.run(task))

    def test_same_seed_same_system(self) -> None:
        """All randomness comes from `rng`: torch's own generator stands elsewhere in the second run."""
        for task in self.tasks():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(2)
                assert_array_equal(_scores(self.served(task)), _scores(self.run(task)))

    def test_its_own_training_repeats(self) -> None:
        if self.unlearner.trains:
            data = self.task(small_request(self.regimes[0])).data
            again = self.recipe.train(data, _PARENT_SEED, device="cpu")
            assert_array_equal(_scores(again), _scores(_trained(self.recipe, data)))

    def test_its_own_training_says_what_its_pieces_took(self) -> None:
        if self.unlearner.trains:
            data = self.task(small_request(self.regimes[0])).data
            with measured("cpu", solo=True) as cost:
                self.recipe.train(data, _PARENT_SEED, device="cpu")
            assert cost().pieces
            assert all(seconds > 0 for seconds in cost().pieces)

    def test_reads_no_test_pairs(self) -> None:
        """In an audit there are none to read; with some in place, training and unlearning come out the same."""
        for task in self.tasks():
            data, retain = (replace(part, test=small_data().test) for part in (task.data, task.retain))
            assert_array_equal(_scores(self.served(task)), _scores(self.run(replace(task, data=data, retain=retain))))

    def test_task_is_left_alone(self) -> None:
        for task in self.tasks():
            before = task.units.copy(), task.forget.users.copy(), task.forget.items.copy()
            digests = _digests(task)
            self.run(task)
            assert _digests(task) == digests
            for was, now in zip(before, (task.units, task.forget.users, task.forget.items), strict=True):
                assert_array_equal(was, now)

    def test_shape_of_what_is_served(self) -> None:
        for task in self.tasks():
            assert _scores(self.served(task)).shape == (small_data().n_users, small_data().n_items)

    def test_says_what_lies_beneath(self) -> None:
        """The check of what is served, and the store, must reach every backbone."""
        for task in self.tasks():
            for part in _beneath(self.served(task)):
                assert (part.n_users, part.n_items) == (task.data.n_users, task.data.n_items)

    def test_serves_over_the_retain_set(self) -> None:
        if self.serves_retain:
            for task in self.tasks():
                served = self.served(task)
                for part in _beneath(served):
                    assert not _left_over(part, task)
                    # Buffers are those of the data that the part names.
                    assert_array_equal(_scores(part), _scores(part.on(part.data)))
                if isinstance(served, Backbone):
                    assert served.data.digest == task.retain.digest
                    assert_array_equal(_scores(served), _scores(served.on(task.retain)))

    def test_an_audit_makes_stores_and_reads_the_same(self, tmp_path: Path) -> None:
        for regime in self.regimes:
            task = self.task(small_request(regime))
            shop = Workshop(small_data(), task.request, Store(tmp_path))
            build = Unlearn(Train(task.recipe, NOBODY, _PARENT_SEED), self.unlearner, EVERYBODY, _SEED)
            assert_array_equal(_scores(_made(build, shop)), _scores(self.served(task)))

    def test_a_second_request_goes_on_from_the_first(self, tmp_path: Path) -> None:
        """Half of the units, then the other half. What is neither a backbone nor its own training ends a chain."""
        for regime in self.regimes:
            task = self.task(small_request(regime))
            if isinstance(self.served(task), Backbone) or self.unlearner.trains or self.unlearner.parents == "any":
                parent = Train(task.recipe, NOBODY, _PARENT_SEED)
                first = Unlearn(parent, self.unlearner, Share(0.0, 0.5), _SEED)
                shop = Workshop(small_data(), task.request, Store(tmp_path))
                served = _made(Unlearn(first, self.unlearner, Share(0.5, 1.0), _SEED), shop)
                _check_sound(served)
                assert not (self.serves_retain and any(_left_over(part, task) for part in _beneath(served)))

    def test_one_step_lowers_the_forgotten_pairs(self) -> None:
        if self.one_step is not None:
            for task in self.tasks():
                if len(task.forget):
                    before, after = self.parent(task), self.run(task, unlearner=self.one_step)
                    assert forget_margin(after, task) < forget_margin(before, task)

    def test_a_request_for_nothing(self) -> None:
        """With no unit to erase, something is still served, with the same data beneath."""
        for regime in self.regimes:
            task = self.task(small_request(regime), np.empty(0, np.int64))
            assert len(task.forget) == 0
            served = self.run(task)
            _check_sound(served)
            assert np.isfinite(_scores(served)).all()

    def test_a_request_for_one_unit(self) -> None:
        for regime in self.regimes:
            _check_sound(self.run(self.task(small_request(regime), np.array([0]))))

    def test_a_request_for_everything(self) -> None:
        for regime in self.regimes:
            withdrawn = ("text",) if regime == "modality" else ()
            task = self.task(select(small_data(), regime, share=1.0, seed=1, modalities=withdrawn))
            assert len(task.retain.train) == 0 or regime == "modality"
            _check_sound(self.run(task))

    def test_a_unit_without_data(self) -> None:
        """A user, item or pair that the training data does not hold can be asked for, beside one that it does."""
        for regime in self.regimes:
            _check_sound(
                self.run(small_task(_with_strangers(), _request_for_a_stranger(regime), self.recipe_for(regime)))
            )

    def test_utility_stays_in_its_band(self) -> None:
        if self.utility_band is None:
            pytest.skip("this class states no band")
        data, regime = Dataset.synthetic(), self.regimes[0]
        withdrawn = data.modalities if regime == "modality" else ()
        task = small_task(
            data,
            select(data, regime, share=0.05, modalities=withdrawn),
            self.procedure(self.recipe_for(regime).backbone, {}, {}),
        )
        before, after = (_recall(model, data, task.request) for model in (self.parent(task), self.run(task)))
        assert self.utility_band[0] <= after / before <= self.utility_band[1]


# Trained parents by procedure and data: what every test starts from is trained once.
_PARENTS: dict[tuple[str, str], Recommender] = {}
_SERVED: dict[tuple[type[UnlearnerTests], Regime], Recommender] = {}


def _trained(recipe: Recipe, data: Dataset) -> Recommender:
    key = (recipe.digest, data.digest)
    if key not in _PARENTS:
        _PARENTS[key] = recipe.train(data, _PARENT_SEED, device="cpu")
    return _PARENTS[key]


def _copied(model: Recommender, recipe: Recipe) -> Recommender:
    """Fresh backbones with the same weights over the same data, put together by the method that trained them."""
    if recipe.trainer is None:
        assert isinstance(model, Backbone)
        return _fresh(model, recipe)
    parts, arrays = recipe.trainer.dump(model)
    copies = {name: array.copy() for name, array in arrays.items()}
    return recipe.trainer.load([_fresh(part, recipe) for part in parts], copies)


def _fresh(part: Backbone, recipe: Recipe) -> Backbone:
    copy = recipe.model(part.data, 0)
    copy.load_state_dict(part.state_dict())
    return copy.eval()


def _made(build: Unlearn, shop: Workshop) -> Recommender:
    make([System("unlearned", "unlearned", build)], shop, lambda *_: None)
    return read(build, shop)[0]


def _beneath(served: Recommender) -> tuple[Backbone, ...]:
    """The backbones of a system, in the way that the audit's own check finds them."""
    parts: tuple[Backbone, ...] = (served,) if isinstance(served, Backbone) else served.backbones  # type: ignore[attr-defined]
    assert parts
    assert all(isinstance(part, Backbone) for part in parts)
    return parts


def _check_sound(served: Recommender) -> None:
    """Every backbone scores every pair with a number. NaN may come from what hides items, infinity from nothing."""
    for part in _beneath(served):
        assert np.isfinite(_scores(part)).all()
    assert not np.isinf(_scores(served)).any()


def _left_over(part: Backbone, task: Task) -> int:
    """Pairs that may not stay, and withdrawn features, in what a backbone is served over."""
    n = task.data.n_items
    allowed = np.concatenate([task.retain.train.codes(n), task.retain.valid.codes(n)])
    pairs = (part.data.train.codes(n), part.data.valid.codes(n))
    gone = [f.present & ~task.retain.features[name].present for name, f in part.data.features.items()]
    return sum(int((~np.isin(codes, allowed)).sum()) for codes in pairs) + sum(int(rows.sum()) for rows in gone)


def _digests(task: Task) -> list[str]:
    """Of fresh copies: a data set remembers the digest that it had first."""
    return [replace(task.data).digest, replace(task.retain).digest, replace(task.request).digest]


def forget_margin(model: Recommender, task: Task) -> float:
    """Mean over the forgotten pairs of the score above the user's mean score."""
    scores = model.score(task.forget.users).detach().double().numpy()
    pairs = scores[np.arange(len(task.forget)), task.forget.items]
    return float((pairs - scores.mean(1)).mean())


def _scores(model: Recommender) -> Floats:
    return model.score(np.arange(model.n_users)).detach().double().numpy()


def _recall(model: Recommender, data: Dataset, request: DeletionRequest) -> float:
    """Recall@20 on the test pairs that the request does not cover."""
    asked = data.test.take(request.unit_of(data.test, data.n_items) < 0)
    return evaluate(model, asked, [data.train, data.valid]).mean()["recall@20"]


def _with_strangers() -> Dataset:
    """`small_data` with one more user and one more item, who met nobody and has no features."""
    data = small_data()
    features = {
        name: Features(np.vstack([f.values, np.zeros_like(f.values[:1])]), np.append(f.present, False))
        for name, f in data.features.items()
    }
    return replace(data, n_users=data.n_users + 1, n_items=data.n_items + 1, features=features)


def _request_for_a_stranger(regime: Regime) -> DeletionRequest:
    """A unit that covers something, and one that covers nothing."""
    data, known = _with_strangers(), small_request(regime)
    users = np.array([known.users[0], data.n_users - 1 if regime in ("interaction", "user") else -1])
    items = np.array([known.items[0], -1 if regime == "user" else data.n_items - 1])
    return DeletionRequest(regime, users, items, known.modalities)
