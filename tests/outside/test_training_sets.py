"""The training sets that an owner is handed are those that an audit of ours trains on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner, Result

from auditkit.builds import Train
from auditkit.commands import plan_golds
from auditkit.config import load, parse, read_data, resolve
from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset, Interactions
from auditkit.deletion import Regime, select
from auditkit.errors import ConfigurationError, StoreError
from auditkit.outside.configured import unopened_all
from auditkit.outside.source import Elsewhere, Ids
from auditkit.outside.training_sets import TrainingSets, sizes, slug, training_sets, write
from auditkit.plan import Plan, Settings, background_systems, make_plan
from auditkit.requests import Names

SETTINGS = Settings(profile="quick", golds=3, references=4, margin=0.3)
CONFIGURATION = """\
[data]
path = "data"
[request]
share = 0.2
[[given]]
name = "ours"
onnx = "ours.onnx"
[audit]
profile = "quick"
references = 8
"""


def ours() -> Elsewhere:
    """A system under test that is not there yet."""
    tables = parse({"data": {"format": "synthetic"}, "given": [{"name": "ours", "embeddings": "exports/ours"}]})
    return unopened_all(tables.given)


def planned(data: Dataset, regime: Regime, recipe: Recipe | None = None) -> Plan:
    features = data.modalities if regime in ("item", "modality") else ()
    request = select(data, regime, share=0.2, modalities=features)
    return make_plan(data, request, recipe, [], settings=SETTINGS, given=ours())


def plain(data: Dataset) -> Ids:
    return Ids(data.n_users, data.n_items)


def chosen(sets: TrainingSets, system: str, part: str) -> set[tuple[int, int]]:
    """The pairs of one system's set as 0-based ids."""
    rows = sets.pairs[sets.pairs[system] & (sets.pairs["part"] == part)]
    return set(zip(rows["user"].astype(int), rows["item"].astype(int), strict=True))


def pairs_of(part: Interactions) -> set[tuple[int, int]]:
    return set(zip(part.users.tolist(), part.items.tolist(), strict=True))


@pytest.mark.parametrize("regime", ["interaction", "user", "item", "modality"])
def test_each_system_has_the_set_that_an_audit_trains_it_on(tiny: Dataset, regime: Regime) -> None:
    plan = planned(tiny, regime)
    sets = training_sets(plan, plain(tiny))
    systems = background_systems(plan)
    assert list(sets.systems["system"]) == [slug(s.name) for s in systems]
    for system in systems:
        erased = plan.request.erase(tiny, ~system.build.held(plan.request))
        row = sets.systems.set_index("system").loc[slug(system.name)]
        for part in ("train", "valid"):
            wanted = pairs_of(getattr(erased, part))
            assert chosen(sets, slug(system.name), part) == wanted
            assert row[f"n_{part}"] == len(wanted)


def test_a_reference_and_its_twin_share_out_the_request(tiny: Dataset) -> None:
    plan = planned(tiny, "interaction")
    sets = training_sets(plan, plain(tiny)).pairs
    asked = pairs_of(plan.request.forget_set(tiny))
    forgotten = np.array([pair in asked for pair in zip(sets["user"].astype(int), sets["item"].astype(int))])  # noqa: B905
    train = (sets["part"] == "train").to_numpy()
    assert sets.loc[~forgotten, "original-1":].to_numpy(bool).all()
    there = sets[train & forgotten]
    assert there["original-1"].all()
    assert not there[["gold-1", "gold-3", "control-gold"]].to_numpy().any()
    assert (there["reference-1"] ^ there["reference-2"]).all()
    assert abs(int(there["half-erased"].sum()) - len(there) / 2) <= 1


def test_seeds_are_those_of_an_audit_that_trains_the_yardstick_itself(tiny: Dataset, tiny_recipe: Recipe) -> None:
    found = training_sets(planned(tiny, "interaction"), plain(tiny)).systems
    trained = background_systems(planned(tiny, "interaction", tiny_recipe))
    assert found["seed"].tolist() == [s.build.seed for s in trained if isinstance(s.build, Train)]
    assert found["seed"].is_unique
    assert found["role"].tolist() == [s.role for s in trained]
    assert (found["export"] == "exports/" + found["system"]).all()


def test_test_pairs_are_in_no_set(tiny: Dataset) -> None:
    sets = training_sets(planned(tiny, "interaction"), plain(tiny)).pairs
    listed = set(zip(sets["user"].astype(int), sets["item"].astype(int), strict=True))
    assert len(tiny.test)
    assert not listed & pairs_of(tiny.test)
    assert set(sets["part"]) == {"train", "valid"}


def test_pairs_go_by_the_data_files_own_ids_with_ratings_and_times() -> None:
    users, items = np.repeat(np.arange(12), 10), np.tile(np.arange(10), 12)
    train = Interactions(users, items, np.arange(120) / 10.0, np.arange(120) + 10**9)
    data = Dataset("named", 12, 11, train)
    names = Names(np.array([f"NA{u}" for u in range(12)]), np.array([*"abcdefghi", "null", "never seen"]))
    sets = training_sets(planned(data, "interaction"), Ids(12, 11, names))
    first = sets.pairs.iloc[10].to_dict()
    assert {k: first[k] for k in ("user", "item", "rating", "time", "part")} == {
        "user": "NA1", "item": "a", "rating": 1.0, "time": 10**9 + 10, "part": "train",
    }  # fmt: skip
    assert sets.items["item"].tolist()[-2:] == ["null", "never seen"]
    assert sets.users["user"].tolist() == names.user.tolist()  # type: ignore[union-attr]


def test_withdrawn_features_are_listed_per_system(tiny: Dataset) -> None:
    plan = planned(tiny, "modality")
    sets = training_sets(plan, plain(tiny))
    table = sets.withdrawn
    assert table is not None
    assert set(table["modality"]) == {"image"}
    assert set(table["item"].astype(int)) == set(plan.request.items.tolist())
    assert table["original-1"].all()
    assert not table["gold-1"].any()
    assert (table["reference-1"] ^ table["reference-2"]).all()
    assert "withdrawn.parquet lists the item features" in sets.readme
    assert training_sets(planned(tiny, "interaction"), plain(tiny)).withdrawn is None


def test_the_folder_reads_back_as_it_was_made(tiny: Dataset, tmp_path: Path) -> None:
    sets = training_sets(planned(tiny, "item"), plain(tiny))
    write(sets, tmp_path / "new" / "training-sets")
    folder = tmp_path / "new" / "training-sets"
    assert [p.name for p in sorted(folder.parent.iterdir())] == ["training-sets"]
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.txt", "items.parquet", "systems.csv", "training-sets.parquet", "users.parquet", "withdrawn.parquet",
    ]  # fmt: skip
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "training-sets.parquet"), sets.pairs)
    pd.testing.assert_frame_equal(pd.read_csv(folder / "systems.csv"), sets.systems)
    assert (folder / "README.txt").read_text("utf-8") == sets.readme


def test_nothing_is_overwritten_and_nothing_is_left_half_written(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = training_sets(planned(tiny, "interaction"), plain(tiny))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "kept").touch()
    with pytest.raises(ConfigurationError, match="exists already; choose another --out"):
        write(sets, tmp_path / "there")

    def full(self: pd.DataFrame, *_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(StoreError, match="No space left on device; choose another folder with --out"):
        write(sets, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("control gold", "control-gold"),
        ("gold-12", "gold-12"),
        ("../x/y", "x-y"),
        ("a  b", "a-b"),
        (".hidden", "hidden"),
    ],
)
def test_names_become_file_names(name: str, file: str) -> None:
    assert slug(name) == file


def test_sizes_tell_how_many_trainings_buy_which_margin(tiny: Dataset) -> None:
    table = sizes(planned(tiny, "user")).set_index("profile")
    assert list(table.loc["quick"]) == [4, 16, 24, 0.20]
    assert list(table.loc["certify"]) == [20, 64, 88, 0.12]
    assert list(table.loc["this plan"]) == [3, 4, 11, 0.3]


@pytest.fixture
def configured(tiny_folder: Path) -> Path:
    path = tiny_folder / "no-recipe.toml"
    path.write_text(CONFIGURATION, "utf-8")
    return path


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    plan_golds.attach(app)
    return CliRunner().invoke(app, ["plan-golds", *map(str, arguments)])


def test_the_command_writes_the_folder_and_says_what_it_costs(configured: Path, tmp_path: Path) -> None:
    said = run(configured, "--out", tmp_path / "sets", "--profile", "standard")
    assert said.exit_code == 0, said.exception
    assert said.stdout.splitlines() == [
        "profile     Golds  references  trainings  default margin",
        "quick           4          16         24            0.10",
        "standard        8          32         44            0.10",
        "certify        20          64         88            0.05",
        "this plan       8           8         20            0.10",
        "trainings: 2 originals, the Golds, the references, 1 control Gold and 1 half-erased",
        "The margin that this yardstick attains is known once its systems have answered; it may be wider.",
        f"training sets: {tmp_path / 'sets'}",
    ]
    tables = load(configured)
    data, _, names = read_data(tables)
    wanted = training_sets(resolve(tables, unopened=True, profile="standard"), Ids(data.n_users, data.n_items, names))
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "sets" / "training-sets.parquet"), wanted.pairs)
    again = run(configured, "--out", tmp_path / "sets")
    assert isinstance(again.exception, ConfigurationError)
