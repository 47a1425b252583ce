"""Train a yardstick with the `implicit` library: one model per training set, exported as embedding tables.

    auditkit plan-golds audit.toml --out training-sets
    python examples/implicit_golds.py --sets training-sets --out exports --model bpr

Needs implicit, pandas and pyarrow, not auditkit. Every system of training-sets/systems.csv is trained on its own set
and with its own seed, all else alike, and written to exports/<system>/ as users.npy and items.npy (with item_bias.npy
for BPR), rows in the order of the data set. What is there already is kept, so an interrupted run goes on where it
stopped.

Beside the yardstick it writes two systems whose truth is known, to see that the audit tells them apart:

    exports/unlearned-gold   retrained without the forgotten pairs, seed of its own: must not FAIL
    exports/unlearned-noop   a copy of original-1: has forgotten nothing
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Before numpy is loaded: its threads would fight with those of implicit.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking
from scipy.sparse import csr_matrix

GOLD, NOOP = "unlearned-gold", "unlearned-noop"


def options() -> argparse.Namespace:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--sets", type=Path, default=Path("training-sets"), help="folder that plan-golds wrote")
    made.add_argument("--out", type=Path, default=Path("exports"), help="folder of the exports")
    made.add_argument("--model", choices=["bpr", "als"], default="bpr")
    made.add_argument("--factors", type=int, default=64)
    made.add_argument("--iterations", type=int, help="default: 60 of BPR, 15 of ALS")
    made.add_argument("--learning-rate", type=float, default=0.05, help="of BPR")
    made.add_argument("--regularization", type=float, help="default: 0.02 of BPR, 5 of ALS")
    made.add_argument(
        "--threads", type=int, default=1, help="more are faster, but then BPR's weights differ from run to run"
    )
    chosen = made.parse_args()
    bpr = chosen.model == "bpr"
    chosen.iterations = chosen.iterations or (60 if bpr else 15)
    chosen.regularization = (0.02 if bpr else 5.0) if chosen.regularization is None else chosen.regularization
    return chosen


def train(pairs: csr_matrix, seed: int, chosen: argparse.Namespace) -> Any:
    """One fitted model of `implicit`."""
    common = {
        "factors": chosen.factors, "iterations": chosen.iterations, "regularization": chosen.regularization,
        "random_state": seed, "num_threads": chosen.threads, "use_gpu": False,
    }  # fmt: skip
    if chosen.model == "bpr":
        model = BayesianPersonalizedRanking(learning_rate=chosen.learning_rate, **common)
    else:
        model = AlternatingLeastSquares(**common)
    model.fit(pairs, show_progress=False)
    return model


def tables(model: Any, kind: str) -> dict[str, np.ndarray]:
    """The tables of a fitted `bpr` or `als` model, by the names of the embeddings way in.

    BPR keeps an item's bias as the last factor, beside a 1 in the last factor of every user.
    """
    users, items = np.asarray(model.user_factors), np.asarray(model.item_factors)
    if kind == "als":
        return {"users": users, "items": items}
    if not (users[:, -1] == 1).all():
        raise SystemExit("this version of implicit keeps the biases of BPR elsewhere; look at its user_factors")
    return {"users": users[:, :-1], "items": items[:, :-1], "item_bias": items[:, -1]}


def write(made: dict[str, np.ndarray], folder: Path) -> None:
    """A folder of arrays, whole or not at all."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, values in made.items():
            np.save(scratch / f"{name}.npy", np.ascontiguousarray(values), allow_pickle=False)
        scratch.chmod(0o755)
        scratch.replace(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class Sets:
    """The folder that `auditkit plan-golds` wrote; ids are numbered as in its users.parquet and items.parquet."""

    def __init__(self, folder: Path) -> None:
        self.systems = pd.read_csv(folder / "systems.csv")
        pairs = pd.read_parquet(folder / "training-sets.parquet")
        # Early stopping is not used here, so validation pairs are left alone for every system.
        self.pairs = pairs[pairs["part"] == "train"]
        users, items = (pd.Index(pd.read_parquet(folder / f"{name}s.parquet")[name]) for name in ("user", "item"))
        self.shape = (len(users), len(items))
        self.users, self.items = users.get_indexer(self.pairs["user"]), items.get_indexer(self.pairs["item"])

    def matrix(self, system: str) -> csr_matrix:
        """The pairs of one system's set as a matrix of ones, float32 [n_users, n_items]."""
        kept = self.pairs[system].to_numpy(bool)
        ones = np.ones(kept.sum(), np.float32)
        return csr_matrix((ones, (self.users[kept], self.items[kept])), shape=self.shape)


def check_same(sets: Path, chosen: argparse.Namespace) -> None:
    """Stop where earlier exports were made another way: systems of two procedures make no yardstick."""
    said = {k: v for k, v in vars(chosen).items() if k not in ("sets", "out")}
    said["training_sets"] = hashlib.sha256((sets / "training-sets.parquet").read_bytes()).hexdigest()
    path = chosen.out / "procedure.json"
    if path.exists() and json.loads(path.read_text("utf-8")) != said:
        raise SystemExit(f"{path} says that these exports were made otherwise; choose another --out")
    chosen.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(said, indent=2) + "\n", "utf-8")


def main() -> None:
    """Train what is missing."""
    chosen = options()
    check_same(chosen.sets, chosen)
    sets = Sets(chosen.sets)
    todo = [(name, name, seed) for name, seed in zip(sets.systems["system"], sets.systems["seed"], strict=True)]
    # The system under test is one more Gold, with a seed that none of the others has.
    todo.append((GOLD, "gold-1", int(sets.systems["seed"].max()) + 1))
    for done, (name, trained_on, seed) in enumerate(todo, 1):
        if (chosen.out / name).exists():
            continue
        start, pairs = time.perf_counter(), sets.matrix(trained_on)
        write(tables(train(pairs, seed, chosen), chosen.model), chosen.out / name)
        seconds = time.perf_counter() - start
        print(f"{done}/{len(todo)} {name}: {pairs.nnz} pairs in {seconds:.1f} s", file=sys.stderr, flush=True)
    if not (chosen.out / NOOP).exists():
        write({p.stem: np.load(p) for p in (chosen.out / "original-1").glob("*.npy")}, chosen.out / NOOP)


if __name__ == "__main__":
    main()
