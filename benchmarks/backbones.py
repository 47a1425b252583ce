"""Recall@20 and NDCG@20 of every backbone beside published figures, and what an epoch costs.

    python -m benchmarks.backbones --data-name tiktok [--backbones mgcn vbpr] [--seeds 3] [--store FOLDER]
    python -m benchmarks.backbones --backbones bm3 --seeds 1 --config '{"layers": 1}' --fit '{"l2": 0.01}'

Each model stops early on validation Recall@20 (checked every second epoch, patience ten checks) and is evaluated
once on test, full ranking, training pairs masked. Hyper-parameters are each backbone's defaults unless `TUNED` or
`SHAPED` names others, which were chosen on validation. Finished runs are kept in the store: an
interrupted benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before torch is loaded

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import Tensor

from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset, Ints
from auditkit.data.readers import read
from auditkit.plugins import backbones
from auditkit.training.early_stopping import validation_recall
from auditkit.utility import evaluate
from auditkit.writing import replace_file
from benchmarks.common import data_folder

# Recall@20 / NDCG@20 as printed by others: the table of MMSSL (WWW 2023) on these very files, with text features for
# TikTok that are missing here; ranges on Amazon-Baby reach to the table of the MMRec library (another draw).
PUBLISHED: Mapping[str, Mapping[str, str]] = {
    "tiktok": {
        "bpr-mf": ".0346 / .0130", "lightgcn": ".0653 / .0282", "vbpr": ".0380 / .0134", "mmgcn": ".0730 / .0307",
        "grcn": ".0804 / .0350", "lattice": ".0843 / .0367", "bm3": ".0957 / .0404",
    },
    "amazon-baby": {"bpr-mf": ".0440 to .0575", "lightgcn": ".0698 to .0754"},
}  # fmt: skip
# By data set: what departs from the defaults, chosen on validation.
TUNED: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "tiktok": {
        "bpr-mf": {"l2": 0.02}, "lightgcn": {"learning_rate": 5e-3}, "vbpr": {"l2": 1.0},
        "grcn": {"learning_rate": 1e-2}, "lattice": {"learning_rate": 5e-3},
    },
    "amazon-baby": {"bpr-mf": {"l2": 0.02}, "lightgcn": {"learning_rate": 5e-3}},
}  # fmt: skip
# The same of the architecture.
SHAPED: Mapping[str, Mapping[str, Mapping[str, Any]]] = {"tiktok": {"bm3": {"layers": 2, "dropout": 0.3}}}
_STOPPING = {"patience": 10, "every": 2, "epochs": 300}


def read_with_validation(name: str) -> Dataset:
    """The file's own split, else 80/10/10 per user."""
    data, report = read(data_folder(None, name))
    return data if report.split == "file" else read(data_folder(None, name), split="random:0.8/0.1/0.1")[0]


def _options() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data-name", default="tiktok", help="folder under AUDITKIT_DATA")
    made.add_argument("--backbones", nargs="*", help="default: all but ease and neumf")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--epochs", type=int, help="a fixed number of passes, instead of stopping early")
    made.add_argument("--config", type=json.loads, default={}, help="other hyper-parameters, as a JSON object")
    made.add_argument("--fit", type=json.loads, default={}, help="other options of the training, as a JSON object")
    made.add_argument("--device", default="cpu")
    made.add_argument("--jobs", type=int, default=1, help="models trained side by side, one thread each if several")
    made.add_argument("--store", default=".auditkit/backbones", help="finished runs")
    return made.parse_args()


class Popularity:
    """Recommends what most users have, to everybody: what any model must beat."""

    def __init__(self, data: Dataset) -> None:
        self.n_users, self.n_items = data.n_users, data.n_items
        self._counts = torch.from_numpy(np.bincount(data.train.items, minlength=data.n_items).astype(np.float32))

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        """Training pairs of each item, float32 [n_given_users, n_items]."""
        return self._counts.expand(len(users), -1)


def recipe(name: str, options: argparse.Namespace, epochs: int | None = None) -> Recipe:
    """The backbone as this benchmark trains it: to its own stop, or for a number of passes."""
    length = _STOPPING if epochs is None else {"epochs": epochs}
    config = {**SHAPED.get(options.data_name, {}).get(name, {}), **options.config}
    return Recipe.of(name, config, {**TUNED.get(options.data_name, {}).get(name, {}), **length, **options.fit})


def run(name: str, data: Dataset, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Train one model; times in seconds."""
    chosen, device = recipe(name, options, options.epochs), options.device
    start = time.perf_counter()
    model = chosen.architecture().fit([(data, seed)], chosen, device=device)[0]
    trained = time.perf_counter() - start
    found = evaluate(model, data.test, data.train, ks=(20,)).mean()
    return {
        "recall": found["recall@20"], "ndcg": found["ndcg@20"], "valid": validation_recall(model, data),
        "train_s": trained, "epoch_s": epoch_seconds(name, data, options) if seed == 0 else float("nan"),
        "parameters": sum(p.numel() for p in model.trained.values()),
    }  # fmt: skip


def epoch_seconds(name: str, data: Dataset, options: argparse.Namespace) -> float:
    """Seconds of one epoch without validation: the difference between three epochs and one."""
    spent = []
    for epochs in (1, 3):
        chosen = recipe(name, options, epochs)
        start = time.perf_counter()
        chosen.architecture().fit([(data, 0)], chosen, device=options.device)
        spent.append(time.perf_counter() - start)
    return max(spent[1] - spent[0], 0.0) / 2


def _kept(name: str, data: Dataset, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """The figures of one run, from the store or made now."""
    if options.jobs > 1:
        torch.set_num_threads(1)
    folder = Path(options.store)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{options.data_name}-{name}-{recipe(name, options, options.epochs).digest[:12]}-{seed}.json"
    if not path.exists():
        found = run(name, data, seed, options)
        replace_file(path, partial(_write, json.dumps(found)))
    kept: dict[str, float] = json.loads(path.read_text())
    return kept


def _write(text: str, path: Path) -> None:
    path.write_text(text)


def main() -> None:
    """Print one row per backbone."""
    options = _options()
    data = read_with_validation(options.data_name)
    names = options.backbones or [n for n in backbones() if n not in ("ease", "neumf")]
    names = [n for n in names if data.features or not backbones()[n].needs_features]
    runs = [(name, seed) for name in names for seed in range(options.seeds)]
    found = dict(zip(runs, Parallel(options.jobs)(delayed(_kept)(n, data, s, options) for n, s in runs), strict=True))
    print(f"{options.data_name}: {len(data.train):,} training pairs; {options.device}, {options.jobs} at a time")
    print("| backbone | Recall@20 | NDCG@20 | published | validation | s an epoch | s in all | parameters |")
    print("|---|---|---|---|---|---|---|---|")
    plain = evaluate(Popularity(data), data.test, data.train, ks=(20,)).mean()
    print(f"| popularity | {plain['recall@20']:.4f} | {plain['ndcg@20']:.4f} | | | | | |")
    for name in names:
        rows = [found[name, seed] for seed in range(options.seeds)]
        mean = {key: float(np.nanmean([r[key] for r in rows])) for key in rows[0]}
        spread = float(np.std([r["recall"] for r in rows], ddof=1)) if len(rows) > 1 else float("nan")
        published = PUBLISHED.get(options.data_name, {}).get(name, "")
        print(
            f"| {name} | {mean['recall']:.4f} ± {spread:.4f} | {mean['ndcg']:.4f} | {published} | {mean['valid']:.4f} "
            f"| {mean['epoch_s']:.2f} | {mean['train_s']:.0f} | {mean['parameters']:,.0f} |"
        )


if __name__ == "__main__":
    main()
