"""What an auditor can reach decides which attacks run and which of them may pass a system."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditkit.contracts import Access, Recipe
from auditkit.data.dataset import Dataset
from auditkit.deletion import Regime, select
from auditkit.flow import audit
from auditkit.plan import Settings, make_plan
from auditkit.record import Record
from auditkit.unlearners.controls import NoOp, OutputMask
from auditkit.unlearners.gold import Gold


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def audited(store: Path, regime: Regime, access: Access) -> Record:
    # Lists of 100 are a sixth of this catalogue; of a smaller one they would show nearly everything.
    data = Dataset.synthetic(n_users=200, n_items=600, n_interactions=8000)
    settings = Settings(profile="quick", access=access, min_power=0.0)
    recipe = Recipe.of("bpr-mf", {"factors": 16})
    plan = make_plan(data, select(data, regime, share=0.1), recipe, [Gold(), NoOp(), OutputMask()], settings=settings)
    return audit(plan, store=store)


def test_lists_alone_judge_interactions(store: Path) -> None:
    record = audited(store, "interaction", Access.LISTS)
    assert record.policy.primary == "listed"
    verdicts = {s.name: s.verdict for s in record.systems if s.role == "unlearned"}
    assert verdicts["no-op"] == "FAIL"
    assert verdicts["output-mask"] != "PASS", "an item that a mask takes off the list has not left the weights"
    assert verdicts["gold"] != "FAIL"
    (gold,) = [s for s in record.systems if s.name == "gold" and s.role == "unlearned"]
    used = [f for f in gold.findings if f.section not in ("not_applicable", "error") and f.attack != "served-data"]
    assert {name for f in used for name in f.access} == {"LISTS"}
    refused = [f for f in gold.findings if f.attack == "lira-linear"]
    assert refused[0].section == "not_applicable"
    assert "SCORES" in refused[0].note


def test_lists_and_new_users_judge_users(store: Path) -> None:
    record = audited(store, "user", Access.LISTS | Access.NEW_USERS)
    assert record.policy.primary == "fold-in-lists"
    verdicts = {s.name: s.verdict for s in record.systems if s.role == "unlearned"}
    assert verdicts["no-op"] in ("FAIL", "INCONCLUSIVE")
    assert verdicts["gold"] != "FAIL"


def test_scores_without_new_users_show_nothing_of_users(store: Path) -> None:
    """Rows that were drawn again read clean while the other side remembers, so rows alone can pass nobody."""
    record = audited(store, "user", Access.SCORES)
    assert record.policy.primary == "fold-in"
    (gold,) = [s for s in record.systems if s.name == "gold" and s.role == "unlearned"]
    assert gold.verdict == "INCONCLUSIVE"
    assert any("NEW_USERS" in reason for reason in gold.reasons)


def test_what_other_trainings_read_like_is_a_limit_where_no_decoys_excuse_it(store: Path) -> None:
    users, pairs = (audited(store, r, Access.SCORES).limits for r in ("user", "interaction"))
    assert any("Train Golds as the method trains" in limit for limit in users)
    assert not any("Train Golds as the method trains" in limit for limit in pairs)
    everything = Access.SCORES | Access.NEW_USERS | Access.NEW_ITEMS
    asked = audited(store, "user", everything).limits
    assert not any("Train Golds as the method trains" in limit for limit in asked)


@pytest.mark.parametrize(("regime", "side"), [("user", Access.NEW_USERS), ("item", Access.NEW_ITEMS)])
def test_fresh_accounts_of_one_side_are_enough_for_requests_of_that_side(
    store: Path, regime: Regime, side: Access
) -> None:
    record = audited(store, regime, Access.SCORES | side)
    primary = next(f for f in record.systems[0].findings if f.primary)
    assert primary.attack == "fold-in"
    assert primary.residual_dose.value is not None, primary.note
    assert set(primary.access) == {"SCORES", side.name}
    other = next(s for s in (Access.NEW_USERS, Access.NEW_ITEMS) if s != side)
    refused = next(f for f in audited(store, regime, Access.SCORES | other).systems[0].findings if f.primary)
    assert refused.note == f"it needs access to {side.name}, which this audit was not given"
