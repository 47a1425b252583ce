"""A request that withdraws features of items, from the configuration's words to the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auditkit.api import audit_plan
from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset
from auditkit.deletion import select
from auditkit.judge import UNCALIBRATED
from auditkit.plan import Settings, make_plan
from auditkit.record import Record, SystemEntry
from auditkit.unlearners.controls import NoOp
from auditkit.unlearners.gold import Gold


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    folder = tmp_path_factory.mktemp("modality")
    data = Dataset.synthetic(
        n_users=80, n_items=60, n_interactions=2_000, clusters=4, features=("image", "text"), width=8, seed=2
    )
    request = select(data, "modality", count=20, seed=1, modalities=("text",))
    fit = {"epochs": 20, "learning_rate": 0.02, "batch": 256, "l2": 0.0}
    recipe = Recipe.of("vbpr", {"factors": 8, "trainable_features": True}, fit)
    settings = Settings(profile="quick", golds=3, references=8)
    plan = make_plan(data, request, recipe, (Gold(), NoOp()), settings=settings)
    return audit_plan(plan, out=folder, store=Path(folder) / "store")


def system(record: Record, name: str) -> SystemEntry:
    return next(s for s in record.systems if s.name == name and s.role == "unlearned")


def test_retraining_is_read_and_not_judged(record: Record) -> None:
    gold = system(record, "gold")
    assert gold.verdict == "INCONCLUSIVE"
    assert UNCALIBRATED in gold.reasons
    readings = {f.attack: f.residual_dose.value for f in gold.findings if f.residual_dose.value is not None}
    assert {"lira-linear", "withdrawn-branch"} <= set(readings)
    assert all(np.isfinite(value) for value in readings.values())


def test_withdrawn_features_that_are_still_served_fail_without_statistics(record: Record) -> None:
    bad = system(record, "no-op")
    assert bad.verdict == "FAIL"
    assert bad.reasons == [
        "served-data: 20 of 20 forgotten pairs or withdrawn features are still in what the system scores through"
    ]


def test_the_report_says_what_was_withdrawn(record: Record) -> None:
    assert record.request.regime == "modality"
    assert record.request.n_units == 20
    assert record.request.n_interactions == 0
    assert record.dataset.modalities == ["image", "text"]
    assert any("features of items" in limit for limit in record.limits)
