"""EASE is deterministic and has an exact downdate: a correct audit reads 0 on it and finds every shortcut."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from auditkit import plugins
from auditkit.backbones.ease import EASE
from auditkit.contracts import Backbone, Recipe, Task, Unlearner
from auditkit.data.dataset import Dataset
from auditkit.deletion import Regime, select
from auditkit.flow import audit
from auditkit.plan import Settings, make_plan
from auditkit.record import Record, SystemEntry


@dataclass(frozen=True)
class Downdate(Unlearner):
    """The exact update of the closed form."""

    name: ClassVar[str] = "exact-downdate"

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        assert isinstance(model, EASE)
        return model.downdate(task.retain)


@dataclass(frozen=True)
class KeepWeights(Unlearner):
    """Drops the forgotten rows from the history and keeps the weights."""

    name: ClassVar[str] = "rows-dropped"

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        return model.on(task.retain)


def _record(regime: Regime, store: Path) -> Record:
    data = Dataset.synthetic(n_users=200, n_items=120, n_interactions=8000)
    plan = make_plan(
        data,
        select(data, regime, share=0.1),
        Recipe.of("ease"),
        [Downdate(), KeepWeights(), plugins.unlearners()["no-op"]()],
        settings=Settings(profile="quick"),
    )
    return audit(plan, store=store)


@pytest.fixture(scope="module", params=["interaction", "user"])
def record(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Record:
    return _record(request.param, tmp_path_factory.mktemp("store"))


def _system(record: Record, name: str) -> SystemEntry:
    return next(s for s in record.systems if s.name == name)


def test_the_exact_downdate_reads_zero_and_passes(record: Record) -> None:
    system = _system(record, "exact-downdate")
    assert system.verdict == "PASS", system.reasons
    for reading in (system.residual_dose, system.pattern, system.spread):
        assert reading.value is not None
        assert abs(reading.value) < 1e-6


def test_kept_weights_are_found(record: Record) -> None:
    system = _system(record, "rows-dropped")
    assert system.verdict == "FAIL", system.reasons
    assert system.residual_dose.value is not None
    assert system.residual_dose.value > 0.2


def test_forgotten_pairs_in_the_history_fail_directly(record: Record) -> None:
    system = _system(record, "no-op")
    assert system.verdict == "FAIL"
    assert system.reasons[0].startswith("served-data")
    assert system.residual_dose.value == pytest.approx(1.0, abs=1e-6)
