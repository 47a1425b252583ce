"""The scripts in examples/ that export models of other frameworks: what they write is what the audit reads."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from auditkit.config import parse
from auditkit.data.dataset import Dataset
from auditkit.data.readers import read
from auditkit.deletion import select
from auditkit.outside import embeddings, tables
from auditkit.outside.configured import unopened_all
from auditkit.outside.question_files import Questions, put
from auditkit.outside.source import Ids
from auditkit.outside.training_sets import training_sets, write
from auditkit.plan import Settings, background_systems, make_plan
from auditkit.requests import Names

N_USERS, N_ITEMS, WIDTH = 11, 30, 4


@pytest.fixture(autouse=True)
def examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "examples")


@pytest.fixture
def files() -> ModuleType:
    return importlib.import_module("export_files")


@pytest.fixture
def recbole() -> ModuleType:
    return importlib.import_module("export_recbole")


@pytest.fixture
def golds() -> ModuleType:
    return importlib.import_module("recbole_golds")


@pytest.fixture
def mmrec() -> ModuleType:
    return importlib.import_module("export_mmrec")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


U, V, W = drawn(N_USERS, WIDTH), drawn(N_ITEMS, WIDTH, seed=1), drawn(WIDTH, WIDTH, seed=2)
WIDE = drawn(N_USERS, N_ITEMS, seed=3), drawn(N_ITEMS, N_ITEMS, seed=4)

PRODUCTS: dict[str, tuple[Callable[[Any], Tensor], Tensor, Tensor]] = {
    "matmul": (lambda rows: torch.matmul(U[rows], V.transpose(0, 1)), U, V),
    "operator": (lambda rows: U[rows] @ V.T, U, V),
    "flattened, as RecBole returns it": (lambda rows: torch.mm(U[rows], V.T).view(-1), U, V),
    "mapped once more, as in BM3": (lambda rows: torch.matmul((U @ W)[rows], (V @ W).T), U @ W, V @ W),
}
NO_PRODUCTS: dict[str, Callable[[Any], Tensor]] = {
    "squashed": lambda rows: torch.sigmoid(U[rows] @ V.T),
    "the sum of two": lambda rows: U[rows] @ V.T + U[rows] @ W @ V.T,
    "of another size": lambda rows: (U[rows] @ V.T) * 2,
    "items that depend on the user": lambda rows: U[rows] @ (V * (1 + U[rows][0, 0])).T,
    "wider than the scores": lambda rows: WIDE[0][rows] @ WIDE[1],
    "no product at all": lambda rows: WIDE[0][rows],
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_tables_behind_a_product_are_seen(name: str, files: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BLOCK", 4)
    predict, users, items = PRODUCTS[name]
    found = files.tables_of(predict, np.arange(N_USERS))
    assert torch.equal(found[0], users)
    assert torch.equal(found[1], items)


@pytest.mark.parametrize("name", NO_PRODUCTS)
def test_what_is_no_product_has_no_tables(name: str, files: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BLOCK", 4)
    assert files.tables_of(NO_PRODUCTS[name], np.arange(N_USERS)) is None


# Rows of a model's tables as RecBole numbers them: padding first, then by first place in the files.
USER_TOKENS = np.array(["[PAD]", *(f"u{7 * k % 10}" for k in range(10))])
ITEM_TOKENS = np.array(["[PAD]", *map(str, np.random.default_rng(5).permutation(N_ITEMS - 1) + 100)])


def own_ids() -> Ids:
    """The audited data set: what it calls users and items, without the padding."""
    return Ids(10, N_ITEMS - 1, Names(np.sort(USER_TOKENS[1:]), np.sort(ITEM_TOKENS[1:])))


def expected(predict: Callable[[Any], Tensor]) -> Tensor:
    """The model's scores in the order of the audited data set, token by token."""
    table = predict(np.arange(N_USERS)).reshape(N_USERS, N_ITEMS)
    rows = [USER_TOKENS.tolist().index(name) for name in sorted(USER_TOKENS[1:])]
    columns = [ITEM_TOKENS.tolist().index(name) for name in sorted(ITEM_TOKENS[1:])]
    return table[rows][:, columns]


def exported(files: ModuleType, recbole: ModuleType, out: Path, predict: Any, questions: Path | None = None) -> str:
    user_rows, users = recbole.rows_of(USER_TOKENS, USER_TOKENS[1:])
    item_rows, items = recbole.rows_of(ITEM_TOKENS, ITEM_TOKENS[1:])
    return str(files.write_system(out, predict, user_rows, item_rows, users, items, questions))


def test_exported_tables_score_as_the_model_does(files: ModuleType, recbole: ModuleType, tmp_path: Path) -> None:
    predict = PRODUCTS["mapped once more, as in BM3"][0]
    assert exported(files, recbole, tmp_path / "ours", predict) == f"tables of width {WIDTH}"
    model = embeddings.source("ours", own_ids(), {}, folder=tmp_path).open()
    torch.testing.assert_close(model.score(np.arange(10)), expected(predict))


def test_exported_files_are_plain_arrays(files: ModuleType, recbole: ModuleType, tmp_path: Path) -> None:
    exported(files, recbole, tmp_path, PRODUCTS["matmul"][0])
    kinds = {path.name: np.load(path, allow_pickle=False).dtype.kind for path in tmp_path.iterdir()}
    assert kinds == {"users.npy": "f", "items.npy": "f", "user_ids.npy": "U", "item_ids.npy": "U"}
    assert "[PAD]" not in np.load(tmp_path / "user_ids.npy", allow_pickle=False)


def test_an_export_leaves_nothing_of_an_earlier_one(files: ModuleType, recbole: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    for predict, kinds in ((PRODUCTS["matmul"][0], {".npy"}), (NO_PRODUCTS["squashed"], {".parquet"})) * 2:
        exported(files, recbole, tmp_path, predict)
        assert {path.suffix for path in tmp_path.iterdir()} == {*kinds, ".json"}


def test_exported_scores_answer_the_questions(
    files: ModuleType, recbole: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK", 4)
    (tmp_path / "points").mkdir()
    asked = np.array([0, 2, 3, 9])
    questions = Questions("scores", tuple(own_ids().own_users(asked)), tuple(own_ids().own_items(np.arange(29))))
    put(questions, tmp_path / "points")
    predict = NO_PRODUCTS["squashed"]
    assert exported(files, recbole, tmp_path / "ours", predict, tmp_path / "points") == "scores"
    source = tables.source("ours", own_ids(), {"questions": "points"}, folder=tmp_path)
    assert "caution" not in source.text
    torch.testing.assert_close(source.open().score(asked), expected(predict)[asked])


def test_without_questions_all_users_are_written(files: ModuleType, recbole: ModuleType, tmp_path: Path) -> None:
    exported(files, recbole, tmp_path, NO_PRODUCTS["squashed"])
    written = pd.read_parquet(tmp_path / "scores.parquet")
    assert written["user"].tolist() == sorted(USER_TOKENS[1:])
    assert {len(row) for row in written["scores"]} == {N_ITEMS - 1}


def test_rows_follow_the_sorted_tokens_and_never_the_padding(recbole: ModuleType) -> None:
    tokens = np.array(["[PAD]", "b", "[PAD]", "10", "a", "9"])
    rows, named = recbole.rows_of(tokens, np.array(["9", "b", "b", "10", "[PAD]", "elsewhere"]))
    assert rows.tolist() == [3, 5, 2, 1]
    assert named.tolist() == ["10", "9", "[PAD]", "b"], "an entity may be called as the padding is; row 0 is padding"


@pytest.mark.parametrize("bad", ["", " a", "a ", "a\tb", "a\nb", "a\rb"])
def test_an_id_that_no_text_file_can_hold_is_refused(bad: str, files: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"1 ids cannot stand in a tab-separated file, such as .*; rename them"):
        files.as_text(["fine", bad])


def test_a_split_is_read_as_it_was_written(files: ModuleType, tmp_path: Path) -> None:
    parts = {
        "train": (['"quoted"', "ü", "7"], ["1", "2", "3"]),
        "valid": ([], []),
        "test": (["7", "ü"], ["1", "a,b"]),
    }
    files.write_split(tmp_path / "data", "tiny", parts)
    data, report = read(tmp_path / "data")
    assert (report.format, report.split) == ("recbole", "file")
    assert len(data.valid) == 0
    assert report.user_ids is not None
    assert report.item_ids is not None
    for part, (users, items) in parts.items():
        pairs = getattr(data, part)
        found = zip(report.user_ids[pairs.users], report.item_ids[pairs.items], strict=True)
        assert {(str(u), str(i)) for u, i in found} == set(zip(users, items, strict=True))


def test_pairs_of_a_part_are_tokens(recbole: ModuleType) -> None:
    part = SimpleNamespace(
        uid_field="user_id", iid_field="item_id", field2id_token={"user_id": USER_TOKENS, "item_id": ITEM_TOKENS},
        inter_feat={"user_id": torch.tensor([1, 3]), "item_id": torch.tensor([2, 1])},
    )  # fmt: skip
    users, items = recbole.pairs_of(part)
    assert users.tolist() == USER_TOKENS[[1, 3]].tolist()
    assert items.tolist() == ITEM_TOKENS[[2, 1]].tolist()


def test_what_cannot_be_compared_is_refused_at_once(recbole: ModuleType) -> None:
    config = {
        "MODEL_TYPE": SimpleNamespace(name="SEQUENTIAL"), "repeatable": True,
        "eval_args": {"mode": {"valid": "full", "test": "uni100"}},
    }  # fmt: skip
    problems = recbole.refusals(config)
    assert [problem.split()[:2] for problem in problems] == [
        ["a", "sequential"],
        ["repeatable", "="],
        ["eval_args.mode", "must"],
    ]
    fine = {"MODEL_TYPE": SimpleNamespace(name="GENERAL"), "repeatable": False, "eval_args": {"mode": {"test": "full"}}}
    assert recbole.refusals(fine) == []


@pytest.fixture
def handed_out(tiny: Dataset, tmp_path: Path) -> Path:
    """`training-sets/` of a small audit, as `auditkit plan-golds` writes it."""
    given = parse({"data": {"format": "synthetic"}, "given": [{"name": "ours", "embeddings": "exports/ours"}]}).given
    settings = Settings(profile="quick", golds=2, references=4)
    plan = make_plan(tiny, select(tiny, "user", share=0.1), None, [], settings=settings, given=unopened_all(given))
    write(training_sets(plan, Ids(tiny.n_users, tiny.n_items)), tmp_path / "training-sets")
    assert len(background_systems(plan)) == 10
    return tmp_path / "training-sets"


def test_every_system_is_trained_on_exactly_its_pairs(golds: ModuleType, handed_out: Path, tmp_path: Path) -> None:
    sets, pairs = golds.Sets(handed_out), pd.read_parquet(handed_out / "training-sets.parquet")
    assert len(sets.systems()) == 11
    for system in sets.systems():
        folder = tmp_path / system.name / "training-set"
        for part in sets.write(system.column, folder):
            written = pd.read_csv(folder / f"training-set.{part}.inter", sep="\t", dtype=str)
            wanted = pairs[pairs[system.column] & (pairs["part"] == part)]
            assert written.to_numpy().tolist() == wanted[["user", "item"]].to_numpy().tolist()


def test_who_lost_every_pair_is_still_named(golds: ModuleType, handed_out: Path, tiny: Dataset, tmp_path: Path) -> None:
    sets = golds.Sets(handed_out)
    sets.write("gold-1", tmp_path / "g")
    trained = pd.read_csv(tmp_path / "g" / "training-set.train.inter", sep="\t", dtype=str)
    named = pd.read_csv(tmp_path / "g" / "training-set.user", sep="\t", dtype=str)
    assert named["user_id:token"].tolist() == [str(k) for k in range(tiny.n_users)]
    assert trained["user_id:token"].nunique() < tiny.n_users
    assert len(pd.read_csv(tmp_path / "g" / "training-set.item", sep="\t")) == tiny.n_items


def test_seeds_are_all_different_and_the_fresh_gold_has_a_golds_pairs(golds: ModuleType, handed_out: Path) -> None:
    systems = golds.Sets(handed_out).systems()
    assert len({system.seed for system in systems}) == len(systems)
    assert (systems[-1].name, systems[-1].column) == ("unlearned-gold", "gold-1")


def test_sets_that_disagree_with_their_list_are_refused(golds: ModuleType, handed_out: Path, tmp_path: Path) -> None:
    path = handed_out / "training-sets.parquet"
    pairs = pd.read_parquet(path)
    pairs["gold-2"] = True
    pairs.to_parquet(path, index=False)
    with pytest.raises(SystemExit, match=r"gold-2: systems.csv and training-sets.parquet differ; write them again"):
        golds.Sets(handed_out).write("gold-2", tmp_path / "g")


def test_withdrawn_features_are_refused(golds: ModuleType, handed_out: Path) -> None:
    (handed_out / "withdrawn.parquet").touch()
    with pytest.raises(SystemExit, match="item features, which these models do not read"):
        golds.Sets(handed_out)


def test_what_is_finished_is_kept_unless_it_was_made_otherwise(
    golds: ModuleType, handed_out: Path, tmp_path: Path
) -> None:
    sets, settings = golds.Sets(handed_out), tmp_path / "run.yaml"
    settings.write_text("epochs: 3\n")
    procedure = golds.Procedure("BPR", (str(settings),), ())
    gold = sets.systems()[2]
    sets.write(gold.column, tmp_path / "g")
    done = tmp_path / "exports" / gold.name
    done.mkdir(parents=True)
    (done / "trained.json").write_text(json.dumps({"digest": procedure.digest(tmp_path / "g", gold.seed)}))
    assert golds.make(gold, sets, procedure, tmp_path / "exports", None) == "there already"
    settings.write_text("epochs: 4\n")
    with pytest.raises(SystemExit, match=r"was made from other pairs, settings or seed: remove it"):
        golds.make(gold, sets, procedure, tmp_path / "exports", None)


class Stale(torch.nn.Module):
    """Serves what its last pass left behind, as some of MMRec's models do: no parameter says which epoch that was."""

    n_users, n_items = N_USERS, N_ITEMS
    device = torch.device("cpu")
    left = U

    def full_sort_predict(self, batch: list[Tensor]) -> Tensor:
        return self.left[batch[0]] @ V.T


@pytest.mark.parametrize(("bigger", "start", "best"), [(True, -1.0, 3), (False, 1.0, 2)])
def test_the_best_valid_epoch_is_exported(
    mmrec: ModuleType, tmp_path: Path, bigger: bool, start: float, best: int
) -> None:
    valid, test, model = object(), object(), Stale()
    scores = {id(valid): iter([0.1, 0.3, 0.0, 0.9, 0.9, 0.4]), id(test): iter([0.9, 0.9, 0.1, 0.2, 1.0, 0.0])}

    class Trainer:
        valid_metric_bigger, best_valid_score = bigger, start

        def _valid_epoch(self, loader: object) -> tuple[float, dict[str, float]]:
            return next(scores[id(loader)]), {}

    trainer: Any = Trainer()
    mmrec.at_best(trainer, valid, lambda: mmrec.export_model(model, tmp_path))
    for epoch in range(6):
        model.left = U + epoch
        trainer._valid_epoch(valid)
        trainer._valid_epoch(test)
    np.testing.assert_array_equal(np.load(tmp_path / "users.npy"), (U + best).numpy())


def test_mmrec_models_are_asked_in_their_own_words(mmrec: ModuleType) -> None:
    scores = mmrec.predictor(Stale())(np.array([4, 2]))
    torch.testing.assert_close(scores, U[[4, 2]] @ V.T)


@pytest.mark.parametrize("start", ["src", "."])
def test_mmrec_is_found_where_its_main_starts(
    mmrec: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    said = {
        "configurator": "def Config(*said):\n    raise LookupError(said[0])",
        "dataloader": "EvalDataLoader = TrainDataLoader = None",
        "dataset": "RecDataset = None",
        "utils": "get_model = init_seed = None",
    }
    folder = tmp_path / "src" / "utils"
    folder.mkdir(parents=True)
    for name, text in said.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path / start)
    monkeypatch.setattr(sys, "path", [*sys.path])
    try:
        with pytest.raises(LookupError, match="BPR"):
            mmrec.prepared("BPR", "tiny", {})
    finally:
        for name in ("utils", *(f"utils.{name}" for name in said)):
            sys.modules.pop(name, None)


def test_settings_of_the_command_line(mmrec: ModuleType) -> None:
    said = ["--n_layers=2", "--reg_weight=1e-4", "--use_gpu=false", "--seed=[7]", "--learner=adam"]
    found = {"n_layers": 2, "reg_weight": 1e-4, "use_gpu": False, "seed": [7], "learner": "adam"}
    assert mmrec.settings_of(said) == found
    with pytest.raises(SystemExit, match=r"'--n_layers' is not understood; MMRec's own settings are given as --key=v"):
        mmrec.settings_of(["--n_layers", "2"])
