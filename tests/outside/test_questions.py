"""Questions of an audit as files, answered by an owner, read like the live system."""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from typer.testing import CliRunner

from auditkit import api
from auditkit.builds import Given, System
from auditkit.commands.points import attach
from auditkit.commitment import new_key, pseudonym
from auditkit.contracts import Access, Recipe, Side
from auditkit.data.dataset import Dataset, Floats, Ints
from auditkit.deletion import DeletionRequest, Regime, select
from auditkit.errors import ConfigurationError, NotApplicableError, StoreError
from auditkit.evidence import fix_points, make_case, observe
from auditkit.evidence_files import read_evidence
from auditkit.outside import questions as asking
from auditkit.outside import tables
from auditkit.outside.question_files import Questions, read_questions
from auditkit.outside.question_words import example
from auditkit.outside.questions import PSEUDONYMS, Recorder, answerable_probes, find_questions, write_questions
from auditkit.outside.source import Ids, Source, collect
from auditkit.plan import Plan, Settings, make_plan
from auditkit.requests import Names
from auditkit.usefulness import measure_usefulness
from auditkit.utility import top_k
from auditkit.writing import EVIDENCE

app = typer.Typer()
attach(app)
app.command("other")(lambda: None)

BOTH = Access.LISTS | Access.SCORES | Access.NEW_USERS | Access.NEW_ITEMS


class Owned:
    """A system in double precision that only its owner holds: vectors, and a fresh one is the mean of what it likes."""

    def __init__(self, data: Dataset, seed: int) -> None:
        self.n_users, self.n_items = data.n_users, data.n_items
        rng = np.random.default_rng(seed)
        self.items = rng.standard_normal((data.n_items, 8))
        history = data.train.matrix(data.n_users, data.n_items)
        self.users = np.asarray(history @ self.items) + 0.1 * rng.standard_normal((data.n_users, 8))

    def score(self, users: Ints, *, branch: str | None = None) -> torch.Tensor:
        # Pair by pair, so that rows do not depend on what else is asked with them.
        return torch.from_numpy((self.users[users][:, None, :] * self.items[None]).sum(-1))

    def fold_in(self, histories: Sequence[Ints], *, side: Side = "user") -> torch.Tensor:
        known = self.items if side == "user" else self.users
        fresh = np.stack([known[told].mean(0) for told in histories])
        return torch.from_numpy((fresh[:, None, :] * known[None]).sum(-1))


class Served:
    """A trained backbone as a service: no weights to be seen."""

    def __init__(self, data: Dataset, recipe: Recipe) -> None:
        self.model: Any = recipe.train(data, 7, device="cpu")
        self.n_users, self.n_items = data.n_users, data.n_items

    def score(self, users: Ints, *, branch: str | None = None) -> torch.Tensor:
        found: torch.Tensor = self.model.score(users)
        return found

    def fold_in(self, histories: Sequence[Ints], *, side: Side = "user") -> torch.Tensor:
        found: torch.Tensor = self.model.fold_in(histories, side=side)
        return found


@dataclass(frozen=True)
class Owner:
    """Whoever holds a system and answers in the ids of the data files, with the code of README.txt."""

    model: Any
    users: Mapping[str, int]
    items: Mapping[str, int]

    def answer(self, points: Path, answers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(points)
        asked = read_questions(points)
        known: dict[str, Any] = {"scores_of": self.scores_of, "best_items": self.best_items}
        code = example(asked)
        assert code in (points / "README.txt").read_text("utf-8")
        exec(code, known)
        (points / "answers").rename(answers)
        if asked.histories:
            self.answer_folded(asked, answers)

    def scores_of(self, users: pd.Series[str], items: pd.Series[str]) -> Floats:
        rows = self.model.score(np.array([self.users[u] for u in users])).numpy()
        return np.asarray(rows[:, [self.items[i] for i in items]])

    def best_items(self, user: str, without: set[str], length: int) -> list[str]:
        scores = self.model.score(np.array([self.users[user]]))[0]
        return self.best(scores, without, length)

    def best(self, scores: torch.Tensor, without: set[str], length: int) -> list[str]:
        scores = scores.double().clone()
        scores[[self.items[i] for i in without]] = torch.nan
        names = list(self.items)
        return [names[k] for k in top_k(scores[None], length)[0].tolist() if k >= 0]

    def answer_folded(self, asked: Questions, answers: Path) -> None:
        known = self.items if asked.side == "user" else self.users
        histories = [np.array([known[one] for one in told]) for told in asked.histories.values()]
        rows = self.model.fold_in(histories, side=asked.side)
        if asked.wanted == "lists":
            told = asked.histories.values()
            lists = [self.best(row, set(ids), asked.length or 0) for row, ids in zip(rows, told, strict=True)]
            put(answers / "folded.parquet", history=list(asked.histories), items=lists)
            return
        # In an order of the owner's own, said beside the scores.
        own = list(known_columns := self.users if asked.side == "item" else self.items)[::-1]
        columns = rows.numpy()[:, [known_columns[one] for one in own]]
        put(answers / "folded.parquet", history=list(asked.histories), scores=list(columns))
        if asked.side == "item":
            put(answers / "all_users.parquet", user=own)
            return
        # Both tables have the same columns.
        scores = pd.read_parquet(answers / "scores.parquet")
        order = [asked.items.index(one) for one in own]
        rows_again = [np.asarray(row)[order] for row in scores["scores"]]
        put(answers / "scores.parquet", user=scores["user"], scores=rows_again)
        put(answers / "items.parquet", item=own)


def put(path: Path, **columns: Any) -> None:
    pd.DataFrame(columns).to_parquet(path, index=False)


def names_of(data: Dataset) -> Names:
    return Names(
        np.array([f"user {k:03d}" for k in range(data.n_users)]), np.array([f"i{k * 7}" for k in range(data.n_items)])
    )


def plan_of(data: Dataset, request: DeletionRequest, access: Access, **more: Any) -> Plan:
    """Without a recipe nothing is trained: what systems answer is all there is."""
    settings = Settings(profile="quick", access=access, **more)
    given = collect({"ours": Owned(data, 0)}, None, None, data)
    return make_plan(data, request, None, [], settings=settings, given=given)


def answered(model: Any, plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch, key: bytes | None = None) -> Source:
    """A live system, through questions and answers, as a source."""
    data, names = plan.data, names_of(plan.data)
    write_questions(plan, names, folder / "points", key)
    own = Ids(data.n_users, data.n_items, names)
    options: dict[str, Any] = {"questions": "points"}
    users, items = (own.own_users(np.arange(data.n_users)), own.own_items(np.arange(data.n_items)))
    if key is not None:
        options["pseudonyms"] = f"points/{PSEUDONYMS}"
        told = pd.read_parquet(folder / "points" / PSEUDONYMS).set_index(["kind", "id"])["pseudonym"]
        users, items = np.array([told["user", u] for u in users]), np.array([told["item", i] for i in items])
    owner = Owner(model, {u: k for k, u in enumerate(users)}, {i: k for k, i in enumerate(items)})
    owner.answer(folder / "points", folder / "ours", monkeypatch)
    return tables.source("ours", own, options, folder=folder)


CASES: dict[str, tuple[Regime, Access, bool, bool]] = {
    "interactions, scores": ("interaction", BOTH, True, False),
    "interactions, a trained model": ("interaction", BOTH, False, False),
    "interactions, lists": ("interaction", Access.LISTS, True, True),
    "users, scores": ("user", BOTH, True, True),
    "users, lists": ("user", Access.LISTS | Access.NEW_USERS, True, False),
    "items, scores": ("item", BOTH, True, False),
}


@pytest.fixture(scope="module")
def wide() -> Dataset:
    """More items than the longest lists show."""
    return Dataset.synthetic(n_users=60, n_items=400, n_interactions=3000)


@pytest.mark.parametrize("case", CASES)
def test_answers_are_read_like_the_live_system(
    case: str, wide: Dataset, tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    regime, access, double, hidden = CASES[case]
    plan = plan_of(wide, select(wide, regime, share=0.2), access)
    live = Owned(wide, 1) if double else Served(wide, tiny_recipe)
    source = answered(live, plan, tmp_path, monkeypatch, new_key() if hidden else None)
    assert "caution" not in source.text
    # Fresh accounts are asked of the side that the request names, if any.
    side = {"user": Access.NEW_USERS, "item": Access.NEW_ITEMS}.get(regime, Access(0))
    assert source.access == access & (Access.LISTS | Access.SCORES | side)
    table = source.open()
    assert source.list_length == getattr(table, "list_length", None)
    layout = make_case(plan.data, plan.request, seed=0)
    fixed = fix_points(answerable_probes(plan), layout, seed=0)
    systems = [
        (System(name, "unlearned", Given(name, "")), model) for name, model in (("live", live), ("tables", table))
    ]
    readings = observe(systems, fixed, layout, seed=0).readings
    asked = {probe.name for probe in readings}
    assert {"lists"} <= asked
    assert ("pairs" in asked) == (Access.SCORES in access)
    assert any("fold-in" in name for name in asked) == (regime != "interaction")
    for probe, reading in readings.items():
        for signal, (mine, theirs) in reading.values.items():
            assert np.isfinite(mine).any()
            # Of the trained model's single precision the last digit depends on what is asked together.
            np.testing.assert_allclose(theirs, mine, rtol=0, atol=0 if double else 1e-6, err_msg=f"{probe} {signal}")
    assert measure_usefulness(table, layout, plan.protocol) == measure_usefulness(live, layout, plan.protocol)


@pytest.mark.parametrize("regime", ["interaction", "user"])
def test_an_audit_reads_tables_like_the_live_system(
    regime: Regime, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, live = select(tiny, regime, share=0.2), Owned(tiny, 1)
    plan = plan_of(tiny, request, BOTH)
    source = answered(live, plan, tmp_path, monkeypatch)
    record = api.audit(
        data=tiny, request=request, settings=plan.settings, store=tmp_path / "store",
        given={"live": live, "tables": source}, out=tmp_path / "out",
    )  # fmt: skip
    mine, theirs = (m.evidence.readings for m in read_evidence(tmp_path / "out" / EVIDENCE).methods)
    assert mine.keys() == theirs.keys() >= {p for p in answerable_probes(plan) if p.name in ("pairs", "lists")}
    for probe, reading in mine.items():
        for signal, values in reading.values.items():
            np.testing.assert_array_equal(theirs[probe].values[signal], values, f"{probe} {signal}")
    entries = {system.name: system for system in record.systems}
    assert entries["tables"].utility == entries["live"].utility
    assert entries["tables"].verdict == entries["live"].verdict


def test_questions_do_not_depend_on_what_is_answered(tiny: Dataset, tiny_request: DeletionRequest) -> None:
    class Contrary(Recorder):
        def score(self, users: Ints, *, branch: str | None = None) -> torch.Tensor:
            return -super().score(users, branch=branch).flip(0)

        def fold_in(self, histories: Sequence[Ints], *, side: Side = "user") -> torch.Tensor:
            return -super().fold_in(histories, side=side)

    for request in (tiny_request, select(tiny, "user", share=0.2), select(tiny, "item", share=0.2)):
        plan = plan_of(tiny, request, BOTH, attacks=("all",))
        layout = make_case(plan.data, plan.request, seed=0)
        recorders = Recorder(120, 100), Contrary(120, 100)
        for recorder in recorders:
            asking.record(plan, layout, recorder)
        np.testing.assert_array_equal(recorders[0].asked, recorders[1].asked)
        for side in ("user", "item"):
            one, other = (recorder.told[side] for recorder in recorders)
            assert len(one) == len(other)
            assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    with pytest.raises(NotApplicableError, match="no branch 'id'"):
        recorders[0].score(np.arange(3), branch="id")


def test_pseudonyms_hide_every_id(tiny: Dataset, tmp_path: Path) -> None:
    plan, names = plan_of(tiny, select(tiny, "user", share=0.2), Access.LISTS | Access.NEW_USERS), names_of(tiny)
    key = new_key()
    found = write_questions(plan, names, tmp_path / "points", key)
    assert names.user is not None
    assert names.item is not None
    own = {*names.user.tolist(), *names.item.tolist()}
    for path in sorted((tmp_path / "points").iterdir()):
        if path.suffix == ".parquet" and path.name != PSEUDONYMS:
            table = pd.read_parquet(path)
            told = {
                one for name in table for cell in table[name] for one in ([cell] if isinstance(cell, str) else cell)
            }
            assert len(told) > 10
            assert not told & own
    assert (tmp_path / "points" / PSEUDONYMS).stat().st_mode & 0o777 == 0o600
    assert list(found.users) == sorted(found.users)
    assert list(found.items) == sorted(found.items)
    table = pd.read_parquet(tmp_path / "points" / PSEUDONYMS)
    assert {*table["id"]} == own
    assert table.set_index(["kind", "id"])["pseudonym"]["user", "user 003"] == pseudonym(key, "user", "user 003")
    assert "Ids here are pseudonyms: pseudonyms.parquet says" in (tmp_path / "points" / "README.txt").read_text("utf-8")
    again = read_questions(tmp_path / "points")
    assert again.digest == found.digest
    assert again.histories == found.histories


def test_lists_have_room_for_what_the_utility_masks(wide: Dataset) -> None:
    request = select(wide, "interaction", share=0.2)
    named = Ids(wide.n_users, wide.n_items)
    tested = find_questions(plan_of(wide, request, Access.LISTS, masked="train"), named)
    both = find_questions(plan_of(wide, request, Access.LISTS), named)
    plan = plan_of(wide, request, Access.LISTS)
    assert tested.length == max(int(getattr(probe, "k", 0)) for probe in answerable_probes(plan))
    kept = request.erase(wide, np.ones(request.n_units, np.bool_))
    assert both.length is not None
    assert both.length - (tested.length or 0) == np.bincount(kept.valid.users).max() > 0
    left_out = {*zip(both.left_out["user"], both.left_out["item"], strict=True)}
    pairs = zip(kept.train.users.tolist(), kept.train.items.tolist(), strict=True)
    assert left_out == {(str(user), str(item)) for user, item in pairs if str(user) in both.users}


def test_nothing_but_lists_or_scores_can_be_answered(tiny: Dataset, tiny_request: DeletionRequest) -> None:
    plan = plan_of(tiny, tiny_request, Access.NEW_USERS)
    with pytest.raises(ConfigurationError, match="must hold scores or lists for files to answer; add one"):
        find_questions(plan, Ids(tiny.n_users, tiny.n_items))


def test_questions_are_written_whole_or_not_at_all(
    tiny: Dataset, tiny_request: DeletionRequest, tmp_path: Path
) -> None:
    plan, out = plan_of(tiny, tiny_request, BOTH), tmp_path / "points"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"cannot write .*points: .*; choose another folder with --out"):
            write_questions(plan, Names(), out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    out.mkdir()
    write_questions(plan, Names(), out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "histories.parquet" not in before
    with pytest.raises(ConfigurationError, match=r"points exists already; choose another --out or remove it"):
        write_questions(plan, Names(), out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    write_questions(plan, Names(), tmp_path / "again")
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == before


CONFIGURATION = """
[data]
path = "data"

[request]
regime = "user"
share = 0.2

[[given]]
name = "ours"
table = "ours"
options = { questions = "points" }
"""


def test_the_command_writes_questions_before_there_are_answers(tiny_folder: Path, tmp_path: Path) -> None:
    config, key = tmp_path / "audit.toml", tmp_path / "key"
    config.write_text(CONFIGURATION.replace('"data"', f'"{tiny_folder / "data"}"'), "utf-8")
    key.write_text(new_key().hex(), "utf-8")
    run = CliRunner().invoke(app, ["points", str(config), "--out", str(tmp_path / "points"), "--key", str(key)])
    assert run.exit_code == 0, run.stderr
    assert run.stdout == f"{tmp_path / 'points'}\n"
    asked = read_questions(tmp_path / "points")
    assert (asked.wanted, asked.pseudonyms, asked.side) == ("scores", True, "user")
    assert f"wanted: scores of {len(asked.users)} users for 100 items" in run.stderr
    assert f"and of {len(asked.histories)} new users told a history (folded.parquet)" in run.stderr
    assert "send it apart from the rest" in run.stderr
    assert asked.digest in run.stderr
    key.write_text("no key", "utf-8")
    run = CliRunner().invoke(app, ["points", str(config), "--out", str(tmp_path / "others"), "--key", str(key)])
    assert "a unit key must be 64 hexadecimal digits" in str(run.exception)
    assert not (tmp_path / "others").exists()
