"""The unlearners' conformance kit: each of its tests finds the fault that it is there for."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from auditkit.contracts import Backbone, Recipe, Recommender, Task, Unlearner
from auditkit.data.dataset import Dataset, Interactions, Ints
from auditkit.deletion import DeletionRequest, Regime
from auditkit.errors import NotApplicableError
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_data
from auditkit.unlearners.controls import Masked, NoOp, SignFlipped
from auditkit.unlearners.reverse_bpr import ReverseBPR
from auditkit.unlearners.sharding import Sharded
from auditkit.unlearners.steps import Batches, bpr_steps


@dataclass(frozen=True)
class Bad(Unlearner):
    """Answers as it should; each subclass has one fault."""

    name: ClassVar[str] = "bad"

    def unlearn(self, model: Any, task: Task, *, rng: np.random.Generator) -> Any:
        served = model.on(task.retain)
        _steps(served, task.retain.train, task, rng)
        return served


def _steps(model: Backbone, pairs: Interactions, task: Task, rng: np.random.Generator) -> None:
    if model.trained and len(pairs):
        batches = Batches(pairs, model.n_items, 256)
        bpr_steps(model, batches, None, epochs=1, learning_rate=0.01, l2=0.0, rng=rng)


class NoLabel(Bad):
    label = "best"


class RefusesAll(Bad):
    def refuses(self, recipe: Recipe, request: DeletionRequest) -> str | None:
        return "not today"


class FailsOnTheClosedForm(Bad):
    def unlearn(self, model: Any, task: Task, *, rng: np.random.Generator) -> Any:
        if not model.trained:
            raise NotApplicableError("no gradients here")
        return super().unlearn(model, task, rng=rng)


class DrawsElsewhere(Bad):
    def unlearn(self, model: Any, task: Task, *, rng: np.random.Generator) -> Any:
        return super().unlearn(model, task, rng=np.random.default_rng(int(torch.randint(2**31, (1,)))))


class TrainsOnTestPairs(Bad):
    def unlearn(self, model: Any, task: Task, *, rng: np.random.Generator) -> Any:
        _steps(model, task.data.test, task, rng)
        return super().unlearn(model, task, rng=rng)


class ChangesTheTask(Bad):
    def unlearn(self, model: Any, task: Task, *, rng: np.random.Generator) -> Any:
        task.units[:] = True
        object.__setattr__(task, "data", task.retain)
        return super().unlearn(model, task, rng=rng)


class LosesAnItem(Bad):
    def unlearn(self, model: Any, task: Task, *, rng: np.random.Generator) -> Any:
        served = super().unlearn(model, task, rng=rng)
        fewer = Dataset("fewer", served.n_users, served.n_items - 1, Interactions.empty())
        return task.recipe.model(fewer, 0)


class Unseen:
    """A system that does not say what lies beneath."""

    def __init__(self, model: Backbone) -> None:
        self._model, self.n_users, self.n_items = model, model.n_users, model.n_items

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        return self._model.score(users, branch=branch)


class HidesWhatItServes(Bad):
    def unlearn(self, model: Any, task: Task, *, rng: np.random.Generator) -> Any:
        return Unseen(super().unlearn(model, task, rng=rng))


class KeepsOnePairInAShard(Bad):
    def unlearn(self, model: Any, task: Task, *, rng: np.random.Generator) -> Any:
        kept = Dataset("kept", task.data.n_users, task.data.n_items, task.forget.take(np.arange(len(task.forget)) < 1))
        served = super().unlearn(model, task, rng=rng)
        return Sharded([served, served.on(kept)])


class MaskedAndNotStored(Bad):
    def unlearn(self, model: Any, task: Task, *, rng: np.random.Generator) -> Any:
        return Masked(super().unlearn(model, task, rng=rng), np.array([[0, 0]]))

    def dump(self, served: Recommender) -> tuple[tuple[Backbone, ...], dict[str, Any]]:
        assert isinstance(served, Masked)
        return served.backbones, {}


class ReadsTheValidationOfTheModel(Bad):
    """In an audit the parent comes from the store, which keeps no validation pairs."""

    def unlearn(self, model: Any, task: Task, *, rng: np.random.Generator) -> Any:
        _steps(model, model.data.valid, task, rng)
        return super().unlearn(model, task, rng=rng)


class FailsTheSecondTime(Bad):
    def unlearn(self, model: Any, task: Task, *, rng: np.random.Generator) -> Any:
        if len(task.data.train) < len(small_data().train):
            raise RuntimeError("again?")
        return super().unlearn(model, task, rng=rng)


class NeedsTwoUnits(Bad):
    def unlearn(self, model: Any, task: Task, *, rng: np.random.Generator) -> Any:
        if task.units.sum() < 2:
            raise ValueError("too few")
        return super().unlearn(model, task, rng=rng)


class DividesByWhatIsLeft(Bad):
    def unlearn(self, model: Any, task: Task, *, rng: np.random.Generator) -> Any:
        served = super().unlearn(model, task, rng=rng)
        with torch.no_grad():
            for parameter in served.trained.values():
                parameter.mul_(torch.tensor(1.0) / len(task.retain.train))
        return served


class DividesByEveryUnit(Bad):
    """The share of each unit's pairs; one has none."""

    def unlearn(self, model: Any, task: Task, *, rng: np.random.Generator) -> Any:
        counts = np.bincount(task.request.unit_of(task.data.train, task.data.n_items) + 1)[1:]
        if len(counts) < task.request.n_units:
            raise IndexError(task.request.n_units)
        return super().unlearn(model, task, rng=rng)


class Forgets(Bad):
    """All of it."""

    def unlearn(self, model: Any, task: Task, *, rng: np.random.Generator) -> Any:
        return task.recipe.model(task.retain, 0)


class TrainsDifferently(Bad):
    """Its own training has no seed, and no pieces."""

    trains = True

    def train(self, data: Dataset, recipe: Recipe, *, device: str, seed: int) -> Recommender:
        chance = int(torch.randint(2**31, (1,)))
        return recipe.architecture().fit([(data, chance)], recipe, device=device)[0]


@dataclass(frozen=True)
class KeepsFeatures(Bad):
    """Withdraws nothing."""

    regimes: ClassVar[frozenset[Regime]] = frozenset({"modality"})

    def unlearn(self, model: Any, task: Task, *, rng: np.random.Generator) -> Any:
        return model


FAULTS: Sequence[tuple[Unlearner, str, type[Exception]]] = (
    (NoLabel(), "test_says_what_it_is", AssertionError),
    (RefusesAll(), "test_refuses_nothing_that_it_is_put_to_here", AssertionError),
    (FailsOnTheClosedForm(), "test_a_closed_form_is_answered_or_refused_in_words", NotApplicableError),
    (DrawsElsewhere(), "test_same_seed_same_system", AssertionError),
    (TrainsDifferently(), "test_its_own_training_repeats", AssertionError),
    (TrainsDifferently(), "test_its_own_training_says_what_its_pieces_took", AssertionError),
    (TrainsOnTestPairs(), "test_reads_no_test_pairs", AssertionError),
    (ChangesTheTask(), "test_task_is_left_alone", AssertionError),
    (LosesAnItem(), "test_shape_of_what_is_served", AssertionError),
    (HidesWhatItServes(), "test_says_what_lies_beneath", AttributeError),
    (NoOp(), "test_serves_over_the_retain_set", AssertionError),
    (KeepsOnePairInAShard(), "test_serves_over_the_retain_set", AssertionError),
    (KeepsFeatures(), "test_serves_over_the_retain_set", AssertionError),
    (MaskedAndNotStored(), "test_an_audit_makes_stores_and_reads_the_same", AssertionError),
    (ReadsTheValidationOfTheModel(), "test_an_audit_makes_stores_and_reads_the_same", AssertionError),
    (FailsTheSecondTime(), "test_a_second_request_goes_on_from_the_first", RuntimeError),
    (
        SignFlipped(epochs=1, batch=10**6, forget_batch=10**6),
        "test_one_step_lowers_the_forgotten_pairs",
        AssertionError,
    ),
    (NeedsTwoUnits(), "test_a_request_for_nothing", ValueError),
    (NeedsTwoUnits(), "test_a_request_for_one_unit", ValueError),
    (DividesByWhatIsLeft(), "test_a_request_for_everything", AssertionError),
    (DividesByEveryUnit(), "test_a_unit_without_data", IndexError),
    (Forgets(), "test_utility_stays_in_its_band", AssertionError),
)


def _name(value: object) -> str | None:
    return None if isinstance(value, type) else value if isinstance(value, str) else type(value).__name__


@pytest.mark.parametrize(("method", "test", "error"), FAULTS, ids=_name)
def test_the_kit_finds_a_fault(method: Unlearner, test: str, error: type[Exception], tmp_path: Path) -> None:
    class Kit(UnlearnerTests):
        unlearner = method
        one_step = method

    put_to = getattr(Kit(), test)
    wanted = inspect.signature(put_to).parameters
    with pytest.raises(error):
        put_to(**({"tmp_path": tmp_path} if "tmp_path" in wanted else {}))


def test_every_test_of_the_kit_is_shown_to_fail() -> None:
    tests = {name for name, _ in inspect.getmembers(UnlearnerTests, inspect.isfunction) if name.startswith("test_")}
    assert {test for _, test, _ in FAULTS} == tests


class TestWithoutAFault(UnlearnerTests):
    """What the faults are added to passes."""

    unlearner = Bad()
    one_step = ReverseBPR(epochs=1, batch=10**6, forget_batch=10**6)
