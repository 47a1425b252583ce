"""[[given]] tables of a configuration, and an owner who trains a yardstick from what `plan-golds` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from auditkit import cli
from auditkit.config import GivenTable, load, parse, resolve
from auditkit.contracts import Access, Backbone, Recipe
from auditkit.data.dataset import Dataset, Interactions
from auditkit.errors import ConfigurationError
from auditkit.outside.configured import form_problems
from auditkit.plan import THEIR_ORIGINAL, background_systems
from auditkit.record import Record

# Golds and references as in the fixtures whose verdicts are known.
AUDIT = """\
[data]
path = "data"

[request]
share = 0.2

[audit]
profile = "quick"
golds = 4
references = 8

[policy]
margin = 0.5

[[given]]
name = "retrained"
embeddings = "exports/retrained"

[[given]]
name = "untouched"
embeddings = "exports/original-2"

[[given]]
role = "yardstick"
embeddings = "exports/{system}"
"""


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["auditkit", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def owners_training(folder: Path, shape: tuple[int, int]) -> None:
    """What an owner does with training-sets/: one model per column, and tables of vectors out."""
    pairs = pd.read_parquet(folder / "training-sets" / "training-sets.parquet")
    systems = pd.read_csv(folder / "training-sets" / "systems.csv")
    recipe = Recipe.of("bpr-mf", {"factors": 16}, {"epochs": 60})
    wanted = [(str(row["system"]), str(row["system"]), row["seed"]) for row in systems.to_dict("records")]
    for name, column, seed in [*wanted, ("retrained", "gold-1", 12345)]:
        mine = pairs[pairs[column] & (pairs["part"] == "train")]
        train = Interactions(mine["user"].to_numpy().astype(int), mine["item"].to_numpy().astype(int))
        model = recipe.train(Dataset("theirs", *shape, train), int(seed), device="cpu")
        assert isinstance(model, Backbone)
        place = folder / "exports" / name
        place.mkdir(parents=True)
        for kind, table in zip(("users", "items"), model.embed(), strict=True):
            np.save(place / f"{kind}.npy", table.detach().numpy())


@pytest.fixture(scope="module")
def owned(tiny: Dataset, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration, the training sets and everything that an owner exported."""
    folder = tmp_path_factory.mktemp("owned")
    (folder / "data").symlink_to(tiny_folder / "data")
    (folder / "audit.toml").write_text(AUDIT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert command(patch, "plan-golds", "audit.toml") == 0
    owners_training(folder, (tiny.n_users, tiny.n_items))
    return folder


def test_an_owners_own_trainings_are_the_yardstick(owned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(owned)
    assert command(monkeypatch, "audit", "audit.toml", "--out", "report") == 1
    record = Record.read(owned / "report" / "report.json")
    assert {s.name: s.verdict for s in record.systems if s.verdict} == {"retrained": "PASS", "untouched": "FAIL"}
    assert (record.yardstick, record.policy.golds, record.policy.references) == ("owner", 4, 8)
    entry = next(s for s in record.systems if s.name == "retrained")
    assert entry.source == "embedding tables exports/retrained"
    page = (owned / "report" / "report.html").read_text()
    assert "embedding tables exports/retrained" in page
    assert str(owned) not in (owned / "report" / "report.json").read_text()


def test_what_lies_elsewhere_is_part_of_what_is_fixed_beforehand(owned: Path) -> None:
    plan = resolve(load(owned / "audit.toml"))
    assert plan.digest == resolve(load(owned / "audit.toml")).digest
    assert set(plan.given.yardstick) == {s.name for s in background_systems(plan)}
    assert all(source.digest for source in plan.sources.values())
    assert plan.settings.access == Access.LISTS | Access.SCORES | Access.NEW_USERS | Access.NEW_ITEMS
    untouched = load(owned / "audit.toml")
    table = untouched.given[0].model_copy(update={"access": ("scores",)})
    narrower = resolve(untouched.model_copy(update={"given": (table, *untouched.given[1:])}))
    assert narrower.settings.access == Access.SCORES
    assert narrower.digest != plan.digest


def test_every_absent_system_is_named_at_once(owned: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(owned / "data")
    (tmp_path / "audit.toml").write_text(AUDIT)
    with pytest.raises(ConfigurationError) as refused:
        resolve(load(tmp_path / "audit.toml"))
    names = {problem.partition("'")[2].partition("'")[0] for problem in refused.value.problems}
    # 2 originals, 4 Golds, 8 references, 2 controls, and the two under test.
    assert len(names) == 18
    assert {"retrained", "untouched", "gold-4", "reference-8", "control gold", "half-erased"} <= names


def test_a_given_original_is_laid_beside_those_trained_here(owned: Path) -> None:
    tables: dict[str, Any] = {
        "data": {"path": "data"}, "request": {"share": 0.2}, "recipe": {"backbone": "bpr-mf"},
        "given": [
            {"name": "ours", "embeddings": "exports/retrained"},
            {"role": "original", "embeddings": "exports/original-1"},
        ],
    }  # fmt: skip
    plan = resolve(parse(tables, owned))
    assert plan.yardstick == "here"
    assert set(plan.sources) == {"ours", THEIR_ORIGINAL}
    assert plan.given.original is not None
    assert plan.given.original.text == "embedding tables exports/original-1"


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([{"name": "x"}], "given.0 (x): exactly one of model, embeddings, table, endpoint, onnx must say"),
        ([{"name": "x", "onnx": "a", "table": "b"}], "where it is, got table, onnx"),
        ([{"onnx": "a.onnx"}], "given.0: name is missing"),
        ([{"name": "x", "table": "{system}"}], "which only a yardstick may have"),
        ([{"role": "yardstick", "table": "all"}], "table of a yardstick must have {system} in it"),
        ([{"role": "yardstick", "table": "{system}"}] * 2, "one table at most has the role yardstick, got 2"),
        ([{"role": "original", "table": "x"}] * 2, "one table at most has the role original, got 2"),
    ],
)
def test_tables_that_say_too_little_or_too_much(tables: list[dict[str, Any]], message: str) -> None:
    problems = form_problems([GivenTable.model_validate(table) for table in tables])
    assert any(message in problem for problem in problems), problems


def test_a_function_of_a_yardstick_is_told_the_system(owned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (owned / "their_systems.py").write_text(
        "import numpy as np, torch\n"
        "class Loaded:\n"
        "    n_users, n_items = 120, 100\n"
        "    def __init__(self, name):\n"
        "        self.tables = [torch.from_numpy(np.load(f'exports/{name}/{k}.npy')) for k in ('users', 'items')]\n"
        "    def score(self, users, *, branch=None):\n"
        "        return self.tables[0][torch.as_tensor(users)] @ self.tables[1].T\n"
    )
    monkeypatch.chdir(owned)
    text = AUDIT.replace('embeddings = "exports/{system}"', 'model = "their_systems:Loaded"')
    (owned / "functions.toml").write_text(text)
    plan = resolve(load(owned / "functions.toml"))
    assert plan.settings.access == Access.LISTS | Access.SCORES
    assert np.array_equal(
        np.asarray(plan.given.yardstick["control gold"].open().score(np.array([3]))),
        np.asarray(resolve(load(owned / "audit.toml")).given.yardstick["control gold"].open().score(np.array([3]))),
    )


def test_a_plan_names_what_was_made_elsewhere(
    owned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(owned)
    assert command(monkeypatch, "audit", "audit.toml", "--plan") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.endswith("made elsewhere") for line in lines) == 18
