"""The audit as a Python call, with a configuration and with objects of the caller's own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

import auditkit
from auditkit.backbones.bpr_mf import BPRMF
from auditkit.builds import Train, Workshop
from auditkit.builds import read as read_build
from auditkit.config import load
from auditkit.contracts import Backbone, Recipe, Task, Unlearner
from auditkit.data.dataset import Dataset, Ints
from auditkit.deletion import EVERYBODY, DeletionRequest
from auditkit.errors import ConfigurationError
from auditkit.plan import Settings, seed_of
from auditkit.plugins import registry
from auditkit.record import Record
from auditkit.resolution import remedies
from auditkit.store import Store
from auditkit.unlearners.controls import NoOp
from auditkit.unlearners.gold import Gold

SETTINGS = Settings(profile="quick", golds=4, references=8, margin=0.5)


class Biased(BPRMF):
    """A backbone of the caller: BPR-MF that is served with its popularity added."""

    name: ClassVar[str] = "test-api-biased"
    popularity: torch.Tensor

    def serve(self, data: Dataset) -> None:
        counts = np.bincount(data.train.items, minlength=data.n_items)
        self.register_buffer("popularity", torch.from_numpy(np.log1p(counts).astype(np.float32)))

    def embed(self, branch: str | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        ones = torch.ones(self.n_users, 1)
        return torch.cat([self.user_table, ones], 1), torch.cat([self.item_table, 0.01 * self.popularity[:, None]], 1)


@dataclass(frozen=True)
class KeepsTheGraph(Unlearner):
    """An unlearner of the caller: retrained weights, served over the forgotten data."""

    name: ClassVar[str] = "test-api-keeps"

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        gold = Gold().unlearn(model, task, rng=rng)
        assert isinstance(gold, Backbone)
        return gold.on(task.data)


class Copied:
    """A recommender that is nothing but a table of scores."""

    def __init__(self, scores: torch.Tensor) -> None:
        self.table = scores
        self.n_users, self.n_items = scores.shape

    def score(self, users: Ints, *, branch: str | None = None) -> torch.Tensor:
        return self.table[torch.as_tensor(np.asarray(users))].clone()


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe.of("bpr-mf", {"factors": 16}, {"epochs": 60})


@pytest.fixture
def registered() -> Iterator[None]:
    auditkit.register("backbones", Biased)
    auditkit.register("unlearners", KeepsTheGraph)
    yield
    registry("backbones").registered.pop(Biased.name)
    registry("unlearners").registered.pop(KeepsTheGraph.name)


def verdicts(record: Record) -> dict[str, str | None]:
    return {s.name: s.verdict for s in record.systems if s.role == "unlearned"}


def test_a_path_and_its_tables_give_the_same_report(tiny_folder: Path, tiny_store: Path, tmp_path: Path) -> None:
    path = tiny_folder / "gold.toml"
    written = auditkit.audit(path, out=tmp_path / "out", store=tiny_store)
    assert (written.verdict, written.exit_code) == ("PASS", 0)
    parsed = auditkit.audit(load(path), store=tiny_store)
    assert parsed.units is None
    same = {"created": "", "units": None}
    assert parsed.model_copy(update=same) == written.model_copy(update=same)
    assert Record.read(tmp_path / "out" / "report.json") == written
    assert written.units is not None
    content = (tmp_path / "out" / written.units.path).read_bytes()
    assert hashlib.sha256(content).hexdigest() == written.units.digest
    units = pd.read_parquet(tmp_path / "out" / "units.parquet")
    assert int((units["group"] == "forget").sum()) == written.request.n_units
    assert {"original_score", "gold_score", "score:gold", "p:gold", "q:gold", "side:gold"} <= set(units.columns)


def test_an_audit_with_tuned_units_judges_the_others_alone(
    tiny: Dataset, tiny_request: DeletionRequest, recipe: Recipe, tiny_store: Path, tmp_path: Path
) -> None:
    record = auditkit.audit(
        data=tiny, request=tiny_request, recipe=recipe, unlearners=[Gold(), NoOp()], store=tiny_store,
        settings=replace(SETTINGS, tune=0.4), out=tmp_path,
    )  # fmt: skip
    n = record.request.n_units
    assert 0.3 * n < record.request.n_units_tune < 0.5 * n
    assert record.request.n_units_judged == n - record.request.n_units_tune
    assert record.policy.tune == 0.4
    assert verdicts(record) == {"gold": "PASS", "no-op": "FAIL"}
    units = pd.read_parquet(tmp_path / "units.parquet")
    tuned = (units["split"] == "tune") & (units["group"] == "forget")
    assert tuned.sum() == record.request.n_units_tune
    assert units.loc[tuned, ["score:no-op", "p:no-op", "gold_score"]].isna().all().all()
    for system in record.systems:
        for finding in system.findings:
            assert finding.n_units in (0, record.request.n_units_judged, n if finding.attack == "served-data" else 0)
            if finding.primary:
                assert finding.n_points == record.request.n_units_judged
                assert "threshold chosen on the units tuned on" in finding.epsilon_low.method
        assert sum(d.n_units for d in system.deciles if d.by == "activity") in (0, record.request.n_units_judged)
    drawn = {curve.system: curve.n_positive for curve in record.curves.roc}
    assert set(drawn.values()) == {record.request.n_units_judged}
    epsilon = {s.name: next(f for f in s.findings if f.primary).epsilon_low.value for s in record.systems if s.findings}
    assert epsilon["gold"] == 0


def test_what_lies_beneath_the_average_is_in_the_record(
    tiny: Dataset, tiny_request: DeletionRequest, recipe: Recipe, tiny_store: Path
) -> None:
    told: list[str] = []
    record = auditkit.audit(
        data=tiny, request=tiny_request, recipe=recipe, unlearners=[Gold(), NoOp()], store=tiny_store,
        settings=replace(SETTINGS, margin=0.02), progress=lambda text, *_: told.append(text),
    )  # fmt: skip
    fixed = next(text for text in told if text.startswith("fixed before probing"))
    assert record.policy.power is not None
    assert fixed.endswith(f"power to find half of the units {record.policy.power:.2f} (at least 0.8)")
    systems = {s.name: s for s in record.systems}
    gold, kept = systems["gold"], systems["no-op"]
    assert gold.unit_tests is not None
    assert kept.unit_tests is not None
    assert gold.unit_tests.n_rejected <= kept.unit_tests.n_rejected
    assert kept.unit_tests.n_tested == record.request.n_units
    assert {d.by for d in kept.deciles} == {"popularity", "activity"}
    assert sum(d.worst for d in kept.deciles) == 1
    assert set(record.retained) == {"gold", "no-op"}
    assert record.retained["gold"].beyond.value == pytest.approx(0.05, abs=0.04)
    # No audit of this size attains a margin of .02: the report says what would.
    assert gold.verdict == "INCONCLUSIVE"
    assert record.settle is not None
    assert any(remedies(record.settle) in reason for reason in gold.reasons)
    assert systems["original"].unit_tests is None


def test_given_systems_are_judged_by_what_they_score(
    tiny: Dataset, tiny_request: DeletionRequest, recipe: Recipe, tiny_store: Path
) -> None:
    told: list[tuple[str, int, int]] = []
    record = auditkit.audit(
        data=tiny, request=tiny_request, recipe=recipe, unlearners=[Gold()], settings=SETTINGS, store=tiny_store,
        progress=lambda *step: told.append(step),
    )  # fmt: skip
    assert verdicts(record) == {"gold": "PASS"}
    assert any(text.startswith("fixed before probing: configuration") for text, _, _ in told)
    assert all(0 <= done <= total for _, done, total in told)
    # An honest retraining and the original itself, as tables of scores that came from elsewhere.
    shop = Workshop(tiny, tiny_request, Store(tiny_store))
    users = np.arange(tiny.n_users)
    original = read_build(Train(recipe, auditkit.Share(0, 0), seed_of(0, "original", 0)), shop)[0].score(users)
    extra = read_build(Train(recipe, EVERYBODY, seed_of(0, "control gold", 0)), shop)[0].score(users)
    given = {"honest": Copied(extra), "unchanged": Copied(original)}
    another = read_build(Train(recipe, auditkit.Share(0, 0), seed_of(0, "original", 1)), shop)[0].score(users)
    record = auditkit.audit(
        data=tiny, request=tiny_request, recipe=recipe, given=given, original=Copied(another), settings=SETTINGS,
        store=tiny_store,
    )  # fmt: skip
    assert verdicts(record)["unchanged"] == "FAIL"
    assert verdicts(record)["honest"] in ("PASS", "INCONCLUSIVE")
    entry = next(s for s in record.systems if s.name == "honest")
    assert (entry.method, entry.cost.unlearn_s, entry.speedup_vs_gold.value) == ("given", None, None)
    assert entry.speedup_vs_gold.note == "made elsewhere: its cost is not known"


@pytest.mark.usefixtures("registered")
def test_a_backbone_and_an_unlearner_of_the_callers_own(
    tiny: Dataset, tiny_request: DeletionRequest, tmp_path: Path
) -> None:
    own = Recipe.of("test-api-biased", {"factors": 16}, {"epochs": 60})
    record = auditkit.audit(
        data=tiny, request=tiny_request, recipe=own, unlearners=[Gold(), KeepsTheGraph()], settings=SETTINGS,
        store=tmp_path,
    )  # fmt: skip
    assert record.backbone.name == "test-api-biased"
    assert verdicts(record)["gold"] != "FAIL"
    # Its weights are clean; what condemns it is the data it is served over.
    assert verdicts(record)["test-api-keeps"] == "FAIL"
    kept = next(s for s in record.systems if s.name == "test-api-keeps")
    served = next(f for f in kept.findings if f.attack == "served-data")
    assert (served.section, served.counts) == ("leak", True)
    assert f"{tiny_request.n_units} of {tiny_request.n_units} forgotten pairs" in served.note


def test_either_a_configuration_or_objects(tiny: Dataset, tiny_folder: Path) -> None:
    mixtures: list[dict[str, Any]] = [
        {"data": tiny}, {"unlearners": [Gold()]}, {"given": {"x": Copied(torch.zeros(1, 1))}}
    ]  # fmt: skip
    for objects in mixtures:
        with pytest.raises(ConfigurationError, match=r"pass either a configuration or objects .* not both"):
            auditkit.audit(tiny_folder / "gold.toml", **objects)


@pytest.mark.parametrize(
    ("present", "absent"),
    [((), ("data", "request", "recipe")), (("data",), ("request", "recipe")), (("data", "recipe"), ("request",))],
)
def test_missing_objects_are_named_at_once(
    tiny: Dataset, recipe: Recipe, present: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    objects: dict[str, Any] = {name: {"data": tiny, "recipe": recipe}[name] for name in present}
    with pytest.raises(ConfigurationError) as caught:
        auditkit.audit(unlearners=[Gold()], **objects)
    assert caught.value.problems == tuple(f"{name} is missing; pass it, or a configuration" for name in absent)


def test_the_package_offers_what_it_says() -> None:
    for name in auditkit.__all__:
        assert getattr(auditkit, name) is not None
        assert name in dir(auditkit)
    with pytest.raises(AttributeError, match="module 'auditkit' has no attribute 'aduit'"):
        _ = auditkit.aduit
