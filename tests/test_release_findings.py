"""Attacks on both snapshots are judged apart: they decide nothing, and a Gold is found as well."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from auditkit.attacks.snapshots import Snapshots
from auditkit.contracts import Access, Recipe, Scores
from auditkit.data.dataset import Dataset
from auditkit.deletion import select
from auditkit.evidence import Evidence, Targets
from auditkit.flow import audit
from auditkit.plan import ALL_ACCESS, Method, Settings, make_plan
from auditkit.plugins import attacks
from auditkit.record import Finding, Record
from auditkit.unlearners.controls import NoOp
from auditkit.unlearners.gold import Gold


@dataclass(frozen=True)
class Broken(Snapshots):
    """Raises while it scores."""

    name: ClassVar[str] = "broken-snapshots"

    def score(self, targets: Targets, background: Evidence) -> Scores:
        raise RuntimeError("out of ideas")


@dataclass(frozen=True)
class _Store:
    folder: Path

    def audited(self, access: Access, *battery: Snapshots) -> Record:
        data = Dataset.synthetic(n_users=200, n_items=120, n_interactions=8000)
        primary = attacks()["lira-linear"].variants()
        plan = make_plan(
            data, select(data, "interaction", share=0.1), Recipe.of("bpr-mf", {"factors": 16}),
            [Method(Gold()), Method(NoOp())], settings=Settings(profile="quick", access=access),
            battery=[*primary, *battery],
        )  # fmt: skip
        return audit(plan, store=self.folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> _Store:
    return _Store(tmp_path_factory.mktemp("store"))


def findings(record: Record, name: str) -> dict[str, Finding]:
    return {s.name: f for s in record.systems for f in s.findings if f.attack == name}


def test_what_both_models_give_away_is_shown_with_golds_beside(store: _Store) -> None:
    record = store.audited(ALL_ACCESS | Access.SNAPSHOTS, Snapshots())
    found = findings(record, "snapshots")
    assert {f.section for f in found.values()} == {"release"}
    assert not any(f.counts or f.primary for f in found.values())
    gold, unchanged = found["gold"].auc, found["no-op"].auc
    assert gold.value is not None
    assert gold.low is not None
    assert gold.low > 0.5, "an exact Gold is found by whoever holds both models"
    assert unchanged.value == 0.5, "a model that did not change gives nothing away"
    assert "Golds read 0." in found["no-op"].note
    assert found["gold"].residual_dose.value is None


def test_no_verdict_depends_on_it(store: _Store) -> None:
    with_it = store.audited(ALL_ACCESS | Access.SNAPSHOTS, Snapshots())
    without = store.audited(ALL_ACCESS)
    assert [(s.name, s.verdict, s.reasons) for s in with_it.systems] == [
        (s.name, s.verdict, s.reasons) for s in without.systems
    ]


def test_it_is_not_applicable_without_both_models(store: _Store) -> None:
    found = findings(store.audited(ALL_ACCESS, Snapshots()), "snapshots")
    assert {f.section for f in found.values()} == {"not_applicable"}
    assert all("SNAPSHOTS" in f.note for f in found.values())


def test_an_error_bars_a_pass_here_too(store: _Store) -> None:
    record = store.audited(ALL_ACCESS | Access.SNAPSHOTS, Broken())
    found = findings(record, "broken-snapshots")
    assert {f.section for f in found.values()} == {"error"}
    verdicts = {s.name: s.verdict for s in record.systems if s.role == "unlearned"}
    assert verdicts["gold"] == "INCONCLUSIVE"
    assert verdicts["no-op"] == "FAIL"
