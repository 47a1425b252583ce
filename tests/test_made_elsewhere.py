"""Audits of systems made elsewhere: the owner's yardstick, one that imitates it, and none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import auditkit
from auditkit.builds import Workshop, make
from auditkit.builds import read as read_build
from auditkit.contracts import Access, Recipe, Recommender
from auditkit.data.dataset import Dataset, Ints
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError
from auditkit.evidence_files import read_evidence
from auditkit.plan import Plan, Settings, audited_systems, background_systems, make_plan
from auditkit.record import Record
from auditkit.rederive import differences, rederive
from auditkit.store import Store
from auditkit.unlearners.controls import NoOp
from auditkit.unlearners.gold import Gold

SCORES = Access.LISTS | Access.SCORES
SETTINGS = Settings(golds=4, references=8, margin=0.5, min_power=0, access=SCORES)


@dataclass
class Table:
    """Scores as an owner hands them over."""

    scores: torch.Tensor

    @property
    def n_users(self) -> int:
        return len(self.scores)

    @property
    def n_items(self) -> int:
        return self.scores.shape[1]

    def score(self, users: Ints, *, branch: str | None = None) -> torch.Tensor:
        return self.scores[torch.as_tensor(np.asarray(users))]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe.of("bpr-mf", {"factors": 16}, {"epochs": 60})


@pytest.fixture(scope="module")
def plan(tiny: Dataset, tiny_request: DeletionRequest, recipe: Recipe) -> Plan:
    return make_plan(tiny, tiny_request, recipe, [Gold(), NoOp()], settings=SETTINGS)


@pytest.fixture(scope="module")
def tables(plan: Plan, store: Path) -> dict[str, Recommender]:
    """Every system of the audit as the owner of all of them hands it over."""
    shop = Workshop(plan.data, plan.request, Store(store))
    systems = [*background_systems(plan), *(s for runs in audited_systems(plan).values() for s in runs)]
    make(systems, shop, lambda *_: None)
    users = np.arange(plan.data.n_users)
    return {s.name: Table(read_build(s.build, shop)[0].score(users)) for s in systems}


def numbers(record: Record) -> dict[str, list[object]]:
    """Verdict, depth and every finding's readings, by system."""
    return {
        s.name: [
            s.verdict, s.depth.value,
            *((f.attack, f.section, f.residual_dose.value, f.pattern.value, f.spread.value, f.p_value)
              for f in s.findings if f.attack != "served-data"),
        ]
        for s in record.systems if s.verdict is not None
    }  # fmt: skip


def test_an_owners_yardstick_gives_the_verdicts_of_the_live_systems(
    plan: Plan, tables: dict[str, Recommender], store: Path
) -> None:
    live = auditkit.audit(
        data=plan.data, request=plan.request, recipe=plan.recipe, unlearners=[Gold(), NoOp()], settings=SETTINGS,
        store=store,
    )  # fmt: skip
    yardstick = {s.name: tables[s.name] for s in background_systems(plan)}
    given = {name: tables[name] for name in ("gold", "no-op")}
    theirs = auditkit.audit(
        data=plan.data, request=plan.request, given=given, yardstick=yardstick, settings=SETTINGS, store=store
    )
    assert numbers(theirs) == numbers(live)
    assert (live.yardstick, theirs.yardstick) == ("here", "owner")
    assert theirs.attainable_margin == live.attainable_margin
    assert [c.model_dump() for c in theirs.controls] == [c.model_dump() for c in live.controls]
    assert theirs.backbone.name == "made elsewhere"
    assert theirs.protocol.negatives == "not known: all systems were made elsewhere"
    assert any("is the owner's word" in limit for limit in theirs.limits)
    entry = next(s for s in theirs.systems if s.name == "no-op")
    assert (entry.verdict, entry.source) == ("FAIL", "an object in memory, Table")
    assert entry.utility["recall@20"] == next(s for s in live.systems if s.name == "no-op").utility["recall@20"]


def test_without_any_gold_nothing_has_a_dose_and_what_ranks_where_is_told(
    plan: Plan, tables: dict[str, Recommender], store: Path, tmp_path: Path
) -> None:
    record = auditkit.audit(
        data=plan.data, request=plan.request, given={"ours": tables["no-op"]}, settings=SETTINGS, store=store,
        out=tmp_path / "report",
    )  # fmt: skip
    assert (record.verdict, record.exit_code, record.yardstick) == ("INCONCLUSIVE", 4, "none")
    (ours,) = record.systems
    assert all(f.residual_dose.value is None for f in ours.findings)
    assert {f.section for f in ours.findings} == {"not_applicable"}
    exposed = {e.group: e for e in ours.exposure}
    assert set(exposed) == {"forget", "retain", "outside"}
    # What it was trained on ranks above what it was not; it still holds what was to be forgotten.
    assert exposed["forget"].percentile is not None
    assert exposed["outside"].percentile is not None
    assert exposed["forget"].percentile > exposed["outside"].percentile + 0.1
    assert ours.utility["recall@20"].value is not None
    assert ours.utility["recall@20"].delta_vs_gold.value is None
    assert record.policy.golds == record.policy.references == 0
    assert any("There is no Gold" in limit for limit in record.limits)
    assert "ours: INCONCLUSIVE - there is no Gold to compare with" in record.reasons[0]
    kept = read_evidence(tmp_path / "report" / "evidence.npz")
    assert differences(record, rederive(kept)) == []
    assert "There is no Gold" in (tmp_path / "report" / "report.html").read_text()


def imitated(plan: Plan, store: Path, out: Path | None = None, **more: Any) -> Record:
    return auditkit.audit(
        data=plan.data, request=plan.request, recipe=plan.recipe, settings=SETTINGS, store=store, out=out, **more
    )


def test_a_recipe_has_to_imitate_the_owners_original(
    plan: Plan, tables: dict[str, Recommender], store: Path, tmp_path: Path
) -> None:
    given = {name: tables[name] for name in ("gold", "no-op")}
    record = imitated(plan, store, tmp_path / "right", given=given, original=tables["original-2"])
    assert {s.name: s.verdict for s in record.systems if s.verdict} == {"gold": "PASS", "no-op": "FAIL"}
    control = next(c for c in record.controls if c.name == "imitation")
    assert control.ok, control.observed
    kept = read_evidence(tmp_path / "right" / "evidence.npz")
    assert differences(record, rederive(kept)) == []


def test_another_procedure_than_the_owners_is_no_yardstick(
    plan: Plan, tables: dict[str, Recommender], store: Path, tmp_path: Path
) -> None:
    other = Recipe.of("ease").train(plan.data, 0, device="cpu")
    theirs = Table(other.score(np.arange(plan.data.n_users)))
    given = {"no-op": theirs, "gold": tables["gold"]}
    record = imitated(plan, store, tmp_path / "wrong", given=given, original=theirs)
    assert {s.name: s.verdict for s in record.systems if s.verdict} == {"gold": "INVALID", "no-op": "INVALID"}
    assert any("wrong yardstick" in reason for reason in record.reasons)
    kept = read_evidence(tmp_path / "wrong" / "evidence.npz")
    assert differences(record, rederive(kept)) == []


def test_without_the_owners_original_nothing_shows_that_the_recipe_imitates(
    plan: Plan, tables: dict[str, Recommender], store: Path
) -> None:
    record = imitated(plan, store, given={name: tables[name] for name in ("gold", "no-op")})
    assert {s.verdict for s in record.systems if s.verdict} == {"INCONCLUSIVE"}
    assert any("give the original it started from" in reason for reason in record.reasons)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "there is nothing to audit"),
        ({"given": {"x": 0}, "original": 0, "recipe": None}, "a given original is there for a recipe to imitate"),
        ({"given": {"x": 0}, "yardstick": {"gold-1": 0}}, "there are two yardsticks"),
        ({"given": {"x": 0}, "unlearners": [Gold()], "recipe": None}, "'gold' starts from a system that is trained"),
        ({"given": {"gold": 0}, "unlearners": [Gold()]}, "two systems are called 'gold'"),
        ({"given": {"x": 1}}, "'x' scores 3 users x 100 items, the data set has 120 x 100"),
    ],
)
def test_what_cannot_be_audited_is_said(plan: Plan, more: dict[str, Any], message: str) -> None:
    held = [Table(torch.zeros(120, 100)), Table(torch.zeros(3, 100))]

    def filled(value: Any) -> Any:
        return {n: held[k] for n, k in value.items()} if isinstance(value, dict) else value

    objects: dict[str, Any] = {"data": plan.data, "request": plan.request, "recipe": plan.recipe}
    objects |= {n: filled(held[v] if isinstance(v, int) else v) for n, v in more.items()}
    with pytest.raises(ConfigurationError, match=message):
        auditkit.audit(**objects)
