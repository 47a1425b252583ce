"""The example that trains a yardstick with `implicit`: its exports rank as the library itself ranks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from auditkit.config import parse
from auditkit.data.dataset import Dataset, Interactions
from auditkit.deletion import select
from auditkit.outside.configured import unopened_all
from auditkit.outside.embeddings import source
from auditkit.outside.source import Ids
from auditkit.outside.training_sets import training_sets, write
from auditkit.plan import Settings, make_plan
from auditkit.utility import evaluate

implicit = pytest.importorskip("implicit", reason="needs the library implicit")
evaluation = pytest.importorskip("implicit.evaluation", reason="needs the library implicit")

SCRIPT = Path(__file__).parents[2] / "examples" / "implicit_golds.py"
K = 20


@pytest.fixture(scope="module")
def sets(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training sets of 11 systems: some users have no training pair left in a Gold."""
    tables = parse({"data": {"format": "synthetic"}, "given": [{"name": "ours", "embeddings": "exports/ours"}]})
    settings = Settings(profile="quick", golds=2, references=4, originals=2)
    plan = make_plan(
        tiny, select(tiny, "user", share=0.1), None, [], settings=settings, given=unopened_all(tables.given)
    )
    folder = tmp_path_factory.mktemp("implicit") / "training-sets"
    write(training_sets(plan, Ids(tiny.n_users, tiny.n_items)), folder)
    return folder


def run(sets: Path, out: Path, model: str, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(SCRIPT), "--sets", str(sets), "--out", str(out), "--model", model]
    return subprocess.run(
        [*command, "--factors", "8", "--iterations", "4", *more], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module", params=["bpr", "als"])
def exports(request: pytest.FixtureRequest, sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp(str(request.param)) / "exports"
    said = run(sets, out, request.param)
    assert (said.returncode, said.stdout) == (0, ""), said.stderr
    return out


def arrays(folder: Path) -> dict[str, Any]:
    return {path.stem: np.load(path) for path in sorted(folder.iterdir())}


def fitted(folder: Path) -> Any:
    """The library's model with the exported tables, biases where the library keeps them."""
    made = arrays(folder)
    if "item_bias" not in made:
        with threadpool_limits(1, "blas"):  # it warns of more
            model = implicit.als.AlternatingLeastSquares(use_gpu=False, num_threads=1)
        model.user_factors, model.item_factors = made["users"], made["items"]
        return model
    model = implicit.bpr.BayesianPersonalizedRanking(use_gpu=False, num_threads=1)
    ones = np.ones((len(made["users"]), 1), np.float32)
    model.user_factors = np.hstack([made["users"], ones])
    model.item_factors = np.hstack([made["items"], made["item_bias"][:, None]])
    return model


def matrix(pairs: Interactions, data: Dataset) -> csr_matrix:
    ones = np.ones(len(pairs), np.float32)
    # Its evaluation takes no wider indices.
    places = (pairs.users.astype(np.int32), pairs.items.astype(np.int32))
    return csr_matrix((ones, places), shape=(data.n_users, data.n_items))


def test_recall_is_that_of_the_library(tiny: Dataset, exports: Path) -> None:
    """`implicit` reports no recall.

    Its `ndcg` is ours; its `precision` is the hits of all users over the sum of min(K, test pairs of a user), which
    follows from our recall of each user; and its own lists give the recall itself. Users without a training pair have
    equal scores everywhere (ALS), and which of these comes first is no property of the model; they are left out.
    """
    for name in ("original-1", "gold-1"):
        known = (np.load(exports / name / "users.npy") != 0).any(axis=1)
        asked = tiny.test.take(known[tiny.test.users])
        train, test = matrix(tiny.train, tiny), matrix(asked, tiny)
        model = source(name, Ids(tiny.n_users, tiny.n_items), {}, folder=exports).open()
        ours = evaluate(model, asked, tiny.train, ks=(K,))
        theirs = evaluation.ranking_metrics_at_k(
            fitted(exports / name), train, test, K=K, show_progress=False, num_threads=1
        )
        recall, n_truth = ours.values[f"recall@{K}"], np.diff(test.indptr)[ours.users]
        assert ours.mean()[f"ndcg@{K}"] == pytest.approx(theirs["ndcg"], abs=1e-6)
        assert (recall * n_truth).sum() / np.minimum(n_truth, K).sum() == pytest.approx(theirs["precision"], abs=1e-6)
        lists, _ = fitted(exports / name).recommend(ours.users, train[ours.users], N=K)
        hits = [np.isin(row, test[user].indices).sum() for user, row in zip(ours.users, lists, strict=True)]
        np.testing.assert_allclose(recall, np.array(hits) / n_truth, atol=1e-6)
        assert len(ours.users) > 100
        assert 0.1 < recall.mean() < 1


def test_every_system_is_there_and_the_truth_of_two_is_known(sets: Path, exports: Path) -> None:
    listed = pd.read_csv(sets / "systems.csv")["system"].tolist()
    assert sorted(p.name for p in exports.iterdir()) == sorted(
        [*listed, "unlearned-gold", "unlearned-noop", "procedure.json"]
    )
    made = {name: arrays(exports / name) for name in [*listed, "unlearned-gold", "unlearned-noop"]}
    assert all((made["unlearned-noop"][name] == values).all() for name, values in made["original-1"].items())
    tables = [values["users"].tobytes() for name, values in made.items() if name != "unlearned-noop"]
    assert len(set(tables)) == len(tables)


def test_systems_learn_from_their_own_sets_alone(sets: Path, exports: Path) -> None:
    pairs = pd.read_parquet(sets / "training-sets.parquet")
    gone = pairs.loc[~pairs["gold-1"], "user"].astype(int).unique()
    assert len(gone) == 12
    # The library leaves zeros where it has seen nothing.
    for name, forgotten in (("original-1", False), ("gold-1", True), ("control-gold", True), ("unlearned-gold", True)):
        assert (np.load(exports / name / "users.npy")[gone] == 0).all() == forgotten


def test_a_second_run_makes_what_is_missing_alike_and_nothing_else(sets: Path, exports: Path) -> None:
    model = "bpr" if (exports / "gold-1" / "item_bias.npy").exists() else "als"
    before, first = arrays(exports / "gold-2"), (exports / "gold-1" / "users.npy").stat()
    for path in (exports / "gold-2").iterdir():
        path.unlink()
    (exports / "gold-2").rmdir()
    said = run(sets, exports, model)
    assert said.returncode == 0
    assert [line.split(":")[0] for line in said.stderr.splitlines()] == ["4/11 gold-2"]
    assert all((before[name] == values).all() for name, values in arrays(exports / "gold-2").items())
    assert (exports / "gold-1" / "users.npy").stat() == first


def test_two_procedures_are_never_mixed(sets: Path, exports: Path) -> None:
    model = "bpr" if (exports / "gold-1" / "item_bias.npy").exists() else "als"
    said = run(sets, exports, model, "--regularization", "0.5")
    assert said.returncode == 1
    assert "procedure.json says that these exports were made otherwise; choose another --out" in said.stderr
