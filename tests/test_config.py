"""The configuration file: what is read, and every kind of mistake with its message."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auditkit.canaries import PlantedRegime, plant
from auditkit.commitment import units_of
from auditkit.config import AuditConfig, load, make_request, parse, read_data, resolve
from auditkit.config_example import EXAMPLE
from auditkit.contracts import Access, Recipe
from auditkit.data.dataset import Dataset
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError
from auditkit.memorised import Pool
from auditkit.requests import Names, read_request
from auditkit.worst_case import Choice, choose

Tables = dict[str, Any]


def base() -> Tables:
    return {
        "data": {"path": "data"},
        "request": {"share": 0.2},
        "recipe": {"backbone": "bpr-mf"},
        "unlearner": [{"name": "no-op"}],
    }


def problems_of(act: Callable[[], Any]) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        act()
    return caught.value.problems


def changed(table: str, **keys: Any) -> Tables:
    return {**base(), table: {**base().get(table, {}), **keys}}


# Mistakes that the tables themselves show.
TABLES: dict[str, tuple[Tables, str]] = {
    "unknown table": ({**base(), "polciy": {}}, "polciy: unknown key; remove it or see `auditkit init`"),
    "unknown key": (changed("data", pth="x"), "data.pth: unknown key"),
    "unknown key in a list": ({**base(), "unlearner": [{"name": "gold", "param": {}}]}, "unlearner.0.param: unknown"),
    "no data": ({k: v for k, v in base().items() if k != "data"}, "data: missing; see `auditkit init` for an example"),
    "no recipe": ({k: v for k, v in base().items() if k != "recipe"}, "recipe: missing"),
    "no backbone": ({**base(), "recipe": {}}, "recipe.backbone: missing"),
    "no name": ({**base(), "unlearner": [{"params": {}}]}, "unlearner.0.name: missing"),
    "table for a list": ({**base(), "unlearner": {"name": "gold"}}, "unlearner: "),
    "text for a number": (changed("data", k_core="many"), "data.k_core: input should be a valid integer.*got 'many'"),
    "negative": (changed("data", k_core=-1), "data.k_core: input should be greater than or equal to 0, got -1"),
    "regime": (
        changed("request", regime="row"),
        "request.regime: input should be 'interaction', 'user', 'item' or 'modality'",
    ),
    "select": (changed("request", select="middle"), "request.select: .*'random', .* or 'memorised', got 'middle'"),
    "share": (changed("request", share=1.5), "request.share: input should be less than or equal to 1, got 1.5"),
    "canaries": (changed("request", canaries=0), "request.canaries: input should be greater than or equal to 1, got 0"),
    "count": (changed("request", count=0), "request.count: input should be greater than or equal to 1, got 0"),
    "runs": ({**base(), "unlearner": [{"name": "gold", "runs": 0}]}, "unlearner.0.runs: .*or equal to 1, got 0"),
    "profile": (changed("audit", profile="swift"), "audit.profile: .*'quick', 'standard' or 'certify', got 'swift'"),
    "golds": (changed("audit", golds=1), "audit.golds: input should be greater than or equal to 2, got 1"),
    "references": (changed("audit", references=2), "audit.references: .*or equal to 4, got 2"),
    "access": (changed("audit", access=["scores", "root"]), "audit.access.1: .*'lists', 'scores', .*got 'root'"),
    "margin": (changed("policy", margin=1.0), "policy.margin: input should be less than 1, got 1.0"),
    "alpha": (changed("policy", alpha=0.5), "policy.alpha: input should be less than 0.5, got 0.5"),
    "given role": ({**base(), "given": [{"name": "x", "model": "a:b", "role": "gold"}]}, "given.0.role: .*got 'gold'"),
}


@pytest.mark.parametrize("name", TABLES)
def test_mistakes_in_the_tables(name: str) -> None:
    tables, message = TABLES[name]
    found = problems_of(lambda: parse(tables))
    assert any(re.match(message, p) for p in found), found


# Mistakes that only data and plug-ins show.
RESOLVED: dict[str, tuple[Tables, str]] = {
    "backbone": (changed("recipe", backbone="bpr"), "no backbone named 'bpr'"),
    "config key": (changed("recipe", config={"factor": 8}), "backbone 'bpr-mf' has no option 'factor'; did you mean"),
    "config type": (changed("recipe", config={"factors": "8"}), "backbone 'bpr-mf': factors must be int, got '8'"),
    "config value": (changed("recipe", config={"factors": 0}), "factors must be 1 or more"),
    "fit key": (changed("recipe", fit={"epoch": 8}), "recipe.fit has no option 'epoch'; did you mean 'epochs'?"),
    "engine": (changed("recipe", fit={"engine": "lbfgs"}), "engine must be one of 'sgd', 'adam', 'closed-form', got"),
    "unlearner": ({**base(), "unlearner": [{"name": "gld"}]}, "no unlearner named 'gld'; did you mean 'gold'?"),
    "param": (
        {**base(), "unlearner": [{"name": "reverse-bpr", "params": {"epochs": 1.5}}]},
        "unlearner.0 (reverse-bpr): epochs must be int, got 1.5",
    ),
    "param value": (
        {**base(), "unlearner": [{"name": "gold"}, {"name": "reverse-bpr", "params": {"epochs": 0}}]},
        "unlearner.1 (reverse-bpr): epochs, batch and forget_batch must be 1 or more",
    ),
    "no unlearner": ({**base(), "unlearner": []}, "there is nothing to audit"),
    "twice": ({**base(), "unlearner": [{"name": "gold"}, {"name": "gold"}]}, "two systems are called 'gold'"),
    "share and count": (changed("request", count=5), "request: give either share (in (0, 1]) or count"),
    "neither": ({**base(), "request": {}}, "request: give either share (in (0, 1]) or count"),
    "file and share": (changed("request", file="r.csv"), "request: give either file, or select with share or count"),
    "canaries and select": (
        {**base(), "request": {"regime": "user", "canaries": 5, "select": "core", "count": 3}},
        "request: with canaries the canaries are the request; leave out select, count"),
    "canaries and file": (
        {**base(), "request": {"regime": "item", "canaries": 5, "file": "r.csv"}}, "are the request; leave out file"),
    "canaries of interactions": (
        {**base(), "request": {"canaries": 5}}, "regime must be user or item, got 'interaction'"),
    "too many": ({**base(), "request": {"count": 10**6}}, "count must be in 1.."),
    "modalities": (changed("request", regime="user", modalities=["image"]), "modalities belong"),
    "modality": (changed("request", regime="modality"), "needs the names of the modalities"),
    "no path": ({**base(), "data": {}}, 'data.path: missing; name a file or folder, or say format = "synthetic"'),
    "no such data": (changed("data", path="nowhere"), "nowhere does not exist"),
    "format": (changed("data", format="xml"), "format must be one of auto, mmrec"),
    "split": (changed("data", split="sideways"), "sideways"),
    "odd references": ({**base(), "audit": {"references": 5}}, "references must be an even number of 4 or more"),
    "primary": ({**base(), "policy": {"primary": "fold-in"}}, "primary 'fold-in' cannot judge interaction requests"),
    "given without function": (
        {**base(), "given": [{"name": "x", "model": "module"}]}, 'given.0 (x): model must be "module:function"'),
    "given module": ({**base(), "given": [{"name": "x", "model": "no_such:f"}]}, "'x': no_such cannot be imported"),
    "given function": ({**base(), "given": [{"name": "x", "model": "math:load"}]}, "has no 'load'"),
}  # fmt: skip


@pytest.mark.parametrize("name", RESOLVED)
def test_mistakes_that_data_and_plug_ins_show(tiny_folder: Path, name: str) -> None:
    tables, message = RESOLVED[name]
    found = problems_of(lambda: resolve(parse(tables, tiny_folder)))
    assert len(found) == 1
    assert message in found[0]


def test_all_mistakes_of_the_tables_come_at_once() -> None:
    tables = {
        "data": {"path": 3, "k_core": -1}, "request": {"regime": "row", "share": 2}, "recipe": {"bckbone": "x"},
        "unlearner": [{"name": "gold", "runs": 0}], "audit": {"profile": "x"}, "policy": {"alpha": 1}, "extra": 1,
    }  # fmt: skip
    found = problems_of(lambda: parse(tables))
    assert sorted(p.split(":")[0] for p in found) == sorted([
        "data.path", "data.k_core", "request.regime", "request.share", "recipe.backbone", "recipe.bckbone",
        "unlearner.0.runs", "audit.profile", "policy.alpha", "extra",
    ])  # fmt: skip


def test_all_mistakes_of_data_and_plug_ins_come_at_once(tiny_folder: Path) -> None:
    tables = {
        "data": {"path": "nowhere"}, "request": {}, "recipe": {"backbone": "bpr-mf", "config": {"factors": 0},
        "fit": {"epochs": "x"}}, "unlearner": [{"name": "gld"}, {"name": "reverse-bpr", "params": {"epochs": 0}}],
        "given": [{"name": "x", "model": "math"}],
    }  # fmt: skip
    found = problems_of(lambda: resolve(parse(tables, tiny_folder)))
    assert len(found) == 7
    assert str(ConfigurationError(found)).startswith("7 problems:\n- ")


def test_a_configuration_becomes_the_plan_it_says(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tiny_folder)
    (tiny_folder / "served_elsewhere.py").write_text(
        "import torch\nclass Flat:\n    n_users, n_items = 120, 100\n"
        "    def score(self, users, *, branch=None):\n        return torch.zeros(len(users), 100)\n"
        "def load():\n    return Flat()\n"
    )
    tables = {
        "data": {"path": "data"},
        "request": {"regime": "user", "select": "core", "count": 7, "seed": 3},
        "recipe": {"backbone": "bpr-mf", "config": {"factors": 16}, "fit": {"epochs": 5}},
        "unlearner": [{"name": "reverse-bpr", "params": {"epochs": 4}, "runs": 2, "label": "rb"}, {"name": "gold"}],
        "given": [{"name": "ours", "model": "served_elsewhere:load"}],
        "audit": {"golds": 3, "references": 6, "originals": 1, "seed": 11, "access": ["scores", "new-users"]},
        "policy": {"margin": 0.3, "alpha": 0.1, "primary": "fold-in", "min_power": 0.9},
    }
    plan = resolve(parse(tables, tiny_folder), profile="quick")
    s = plan.settings
    assert (s.profile, s.golds, s.references, s.originals, s.seed) == ("quick", 3, 6, 1, 11)
    # A flat table of scores takes no new users, and one audit has one access.
    assert s.access == Access.SCORES
    assert (s.margin, s.alpha, s.primary, s.min_power, s.tune) == (0.3, 0.1, "fold-in", 0.9, 0.0)
    assert (plan.request.regime, plan.request.n_units) == ("user", 7)
    assert plan.request.selection == "core, 7 users, seed 3"
    assert [(m.name, m.runs) for m in plan.methods] == [("rb", 2), ("gold", 1)]
    assert plan.trained.config["factors"] == 16
    assert plan.trained.fit.epochs == 5
    assert set(plan.given.audited) == {"ours"}
    assert plan.split == "file"
    assert (plan.data.n_users, plan.data.n_items) == (120, 100)


@pytest.mark.parametrize("how", ["tail", "outlier"])
def test_worst_case_requests_are_those_of_choose(tiny_folder: Path, how: Choice) -> None:
    tables = {**base(), "data": {"path": "data"}, "request": {"select": how, "share": 0.1, "seed": 2}}
    plan = resolve(parse(tables, tiny_folder))
    assert plan.request.digest == choose(plan.data, "interaction", how, share=0.1, seed=2).digest


def test_memorised_requests_train_a_pool_of_the_recipe_once(tiny_folder: Path) -> None:
    recipe = {"backbone": "bpr-mf", "config": {"factors": 8}, "fit": {"epochs": 4}}
    tables = {
        **base(), "data": {"path": "data"}, "recipe": recipe,
        "request": {"regime": "user", "select": "memorised", "count": 9},
        "audit": {"store": str(tiny_folder / "pool")},
    }  # fmt: skip
    told: list[str] = []
    plan = resolve(parse(tables, tiny_folder), progress=lambda text, done, total: told.append(text))
    assert told[0] == "building half-1 .. half-8"
    pool = Pool(Recipe.of("bpr-mf", {"factors": 8}, {"epochs": 4}))
    assert plan.request.digest == choose(plan.data, "user", "memorised", count=9, pool=pool).digest
    told.clear()
    again = resolve(parse(tables, tiny_folder), progress=lambda text, done, total: told.append(text))
    assert again.request.digest == plan.request.digest
    assert not any(text.startswith("building") for text in told)


@pytest.mark.parametrize("regime", ["user", "item"])
def test_canaries_are_planted_and_are_the_request(tiny_folder: Path, regime: PlantedRegime) -> None:
    tables = {**base(), "data": {"path": "data"}, "request": {"regime": regime, "canaries": 7, "seed": 4}}
    config = parse(tables, tiny_folder)
    plan = resolve(config)
    bare = resolve(parse({**tables, "request": {"regime": regime, "count": 1}}, tiny_folder)).data
    made, request = plant(bare, regime, 7, seed=4)
    assert plan.data.digest == made.digest
    assert plan.request.digest == request.digest
    assert plan.request.selection == f"canaries, 7 planted {regime}s"
    # Publishing names them as the files name the others.
    data, _, names = read_data(config)
    assert make_request(config, data, names).digest == request.digest
    units = units_of(request, names)
    assert len(set(units)) == 7
    assert all("canary-" in unit for unit in units)


def test_canaries_of_files_with_numbers_are_numbers() -> None:
    assert Names().planted("user", 3).user is None
    named = Names(np.array([4, 8]), None).planted("user", 2)
    assert named.user is not None
    assert named.user.tolist() == ["4", "8", "canary-1", "canary-2"]
    assert named.item is None
    items = Names(None, np.array(["a"])).planted("item", 1)
    assert items.item is not None
    assert items.item.tolist() == ["a", "canary-1"]


def test_the_share_to_tune_on_is_read_and_refused_where_too_little_is_left(tiny_folder: Path) -> None:
    tables = {**base(), "data": {"path": "data"}, "request": {"share": 0.2}, "audit": {"tune": 0.25}}
    assert resolve(parse(tables, tiny_folder)).settings.tune == 0.25
    few = {**tables, "request": {"count": 30}}
    assert any("each part needs 20" in p for p in problems_of(lambda: resolve(parse(few, tiny_folder))))
    wild = {**tables, "audit": {"tune": 0.7}, "policy": {"min_power": 1}}
    assert [p.split(":")[0] for p in problems_of(lambda: parse(wild))] == ["audit.tune", "policy.min_power"]


def test_what_the_command_says_replaces_the_file_and_is_checked_alike(tiny_folder: Path) -> None:
    config = load(tiny_folder / "gold.toml")
    plan = resolve(config, profile="standard", access=("scores",), attacks=("default", "lira"))
    assert (plan.settings.profile, plan.settings.access) == ("standard", Access.SCORES)
    assert plan.settings.attacks == ("default", "lira")
    assert resolve(config, profile=None).digest == resolve(config).digest
    wrong = problems_of(lambda: resolve(config, profile="swift", access=("scores", "thoughts")))
    assert [p.split(":")[0] for p in wrong] == ["audit.profile", "audit.access.1"]
    assert "'quick', 'standard' or 'certify', got 'swift'" in wrong[0]
    assert any("'mind-reading' not known" in p for p in problems_of(lambda: resolve(config, attacks=("mind-reading",))))


def test_the_same_file_gives_the_same_digest(tiny_folder: Path) -> None:
    first, again = (resolve(load(tiny_folder / "gold.toml")) for _ in range(2))
    assert first.digest == again.digest
    assert resolve(load(tiny_folder / "gold.toml"), profile="standard").digest != first.digest
    assert resolve(load(tiny_folder / "no-op.toml")).digest != first.digest


def test_the_example_parses_and_every_commented_key_is_one_there_is() -> None:
    assert isinstance(parse(tomllib.loads(EXAMPLE)), AuditConfig)
    uncommented = []
    for line in EXAMPLE.splitlines():
        bare = line.removeprefix("# ")
        uncommented.append(bare if line.startswith("# ") and (" = " in bare or bare.startswith("[[")) else line)
    tables = tomllib.loads("\n".join(uncommented))
    made = parse(tables)
    assert made.request.file == "request.csv"
    assert made.request.canaries == 20
    assert made.given[0].name == "ours"
    assert made.audit.access == ("scores",)


def test_synthetic_data_needs_no_path() -> None:
    tables = {**base(), "data": {"format": "synthetic", "seed": 2}}
    assert resolve(parse(tables)).data.n_users == 600


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[data", "is not valid TOML"), (b"\xff\xfe", "is not valid TOML"), (b'a = 1\na = 2', "is not valid TOML"),
     (None, "cannot read .*No such file or directory; `auditkit init` writes an example")],
)  # fmt: skip
def test_files_that_are_no_toml(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "audit.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        load(path)


@pytest.mark.parametrize(
    ("regime", "content", "message"),
    [
        ("interaction", None, "request.file: cannot read .* as CSV"),
        ("interaction", "", "request.file: cannot read .* as CSV"),
        ("interaction", "user,item\n", "lists no units; name at least one"),
        ("interaction", "user\n3\n", r"needs the column\(s\) user, item, found: user"),
        ("item", "user\n3\n", r"needs the column\(s\) item, found: user"),
        ("interaction", "user,item\n1,2\n3,x\n", "line 3: item must be a 0-based id, got 'x'"),
        ("user", "user\n1.5\n", "line 2: user must be a 0-based id, got '1.5'"),
        ("user", "user\n1\n-4\n", "line 3: user must be a 0-based id, got '-4'"),
        ("user", "user,item\n1,2\n,3\n", "line 3: user must be a 0-based id, got ''"),
        ("interaction", "user,item\n1,2\n\n3\n", "line 4: item must be a 0-based id, got ''"),
        ("user", "user\n99999999999999999999\n", "line 2: user must be a 0-based id, got '99999999999999999999'"),
        ("user", "user\n5\n5\n", "a unit is named twice in the request"),
    ],
)
def test_request_files_that_are_refused(tmp_path: Path, regime: Any, content: str | None, message: str) -> None:
    path = tmp_path / "request.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=message):
        read_request(path, regime)


def test_request_files_are_read_relative_to_the_configuration(tiny_folder: Path) -> None:
    (tiny_folder / "request.csv").write_text("item,user,why\n4,3,asked\n0,7,asked\n")
    made = read_request(tiny_folder / "request.csv", "interaction")
    assert (made.users.tolist(), made.items.tolist()) == ([3, 7], [4, 0])
    tables = {**base(), "request": {"regime": "user", "file": "request.csv"}}
    request = resolve(parse(tables, tiny_folder)).request
    assert isinstance(request, DeletionRequest)
    assert (request.users.tolist(), set(request.items.tolist())) == ([3, 7], {-1})
    assert request.selection == "listed in request.csv"


def test_ids_outside_the_data_are_refused(tiny_folder: Path) -> None:
    (tiny_folder / "far.csv").write_text("user\n120\n")
    tables = {**base(), "request": {"regime": "user", "file": "far.csv"}}
    with pytest.raises(ConfigurationError, match="line 2: user '120' is not in the data; 1 of 1 rows"):
        resolve(parse(tables, tiny_folder))


def test_ids_are_read_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("user\n9007199254740993\n\n 7\n8.0\n")
    assert read_request(tmp_path / "r.csv", "user").users.tolist() == [9007199254740993, 7, 8]


def test_request_files_name_units_as_the_data_files_do(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("user,item\nalice,9\nbob,7\n")
    made = read_request(path, "interaction", names=Names(np.array(["alice", "bob"]), np.array([7, 9])))
    assert (made.users.tolist(), made.items.tolist()) == ([0, 1], [1, 0])
    path.write_text("user\nalice\ncarol\n")
    with pytest.raises(ConfigurationError, match="line 3: user 'carol' is not in the data; 1 of 2 rows"):
        read_request(path, "user", names=Names(np.array(["alice", "bob"]), None))


@pytest.mark.parametrize(
    ("regime", "said", "expected"),
    [
        ("item", None, ("image",)),
        ("item", [], ()),
        ("interaction", None, ()),
        ("modality", None, ("image",)),
        ("modality", ["image"], ("image",)),
    ],
)
def test_with_an_item_goes_its_content_unless_the_request_says_otherwise(
    tiny: Dataset, tmp_path: Path, regime: str, said: list[str] | None, expected: tuple[str, ...]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    parts = [np.column_stack([p.users, p.items, np.full(len(p), k)]) for k, p in enumerate((tiny.train, tiny.valid))]
    header = "userID\titemID\tx_label"
    np.savetxt(folder / "data.inter", np.concatenate(parts), "%d", "\t", header=header, comments="")
    np.save(folder / "image_feat.npy", tiny.features["image"].values)
    asked: dict[str, Any] = {"regime": regime, "count": 5} | ({} if said is None else {"modalities": said})
    tables = {**base(), "request": asked, "recipe": {"backbone": "vbpr"}}
    plan = resolve(parse(tables, tmp_path))
    assert plan.request.modalities == expected
    erased = plan.request.erase(plan.data, np.ones(5, np.bool_))
    assert erased.features["image"].present.sum() == tiny.n_items - (5 if expected else 0)
