"""Does LightGCN train as published? Gowalla in the LightGCN split: Recall@20 and NDCG@20 after some epochs.

    python benchmarks/gowalla_lightgcn.py --data DIR --epochs 5 --seed 2020 --out result.json

The authors' own code documents Recall@20 .1071 and NDCG@20 .0894 at epoch 5; within 2% counts as reached.
Several values of --epochs train anew each (a shorter run is the beginning of a longer one). Exits with 1 where
epoch 5 was asked for and missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from auditkit.backbones.lightgcn import LightGCN
from auditkit.contracts import Fit, Recipe
from auditkit.data.dataset import Dataset, Interactions
from auditkit.utility import evaluate

PUBLISHED = {5: {"recall@20": 0.10711, "ndcg@20": 0.08941}}
TOLERANCE = 0.02


def read(folder: Path) -> Dataset:
    """The data set from `gowalla.inter` (tab-separated userID, itemID, x_label: 0 train, 1 valid, 2 test)."""
    table = pd.read_csv(folder / "gowalla.inter", sep="\t")
    train, valid, test = (
        Interactions(part["userID"].to_numpy(), part["itemID"].to_numpy())
        for part in (table[table["x_label"] == label] for label in range(3))
    )
    n_users, n_items = (int(table[name].max()) + 1 for name in ("userID", "itemID"))
    return Dataset("gowalla", n_users, n_items, train, valid, test)


def measure(data: Dataset, epochs: int, seed: int) -> dict[str, Any]:
    """Train for some epochs, evaluate on test with train masked; times in seconds."""
    fit = Fit(epochs=epochs, learning_rate=1e-3, l2=1e-4, batch=2048, sampler="users")
    recipe = Recipe("lightgcn", asdict(LightGCN.Config(factors=64, layers=3, init_scale=0.1)), fit)
    began = time.perf_counter()
    model = LightGCN.fit([(data, seed)], recipe, device="cpu")[0]
    trained = time.perf_counter()
    means = evaluate(model, data.test, data.train, ks=(20,)).mean()
    return {
        "epochs": epochs,
        "seed": seed,
        "threads": torch.get_num_threads(),
        "train_s_per_epoch": (trained - began) / epochs,
        "evaluate_s": time.perf_counter() - trained,
        **means,
    }


def reached(result: dict[str, Any]) -> bool | None:
    """Whether every published figure of these epochs is met within the tolerance; None where there is none."""
    published = PUBLISHED.get(result["epochs"])
    if published is None:
        return None
    return all(abs(result[name] / value - 1) <= TOLERANCE for name, value in published.items())


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds gowalla.inter")
    parser.add_argument("--epochs", type=int, nargs="+", default=[5])
    parser.add_argument("--seed", type=int, default=2020)
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    data = read(options.data)
    results = []
    for epochs in options.epochs:
        result = measure(data, epochs, options.seed)
        result |= {"published": PUBLISHED.get(epochs), "reached": reached(result)}
        print(json.dumps(result), flush=True)
        results.append(result)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return int(any(result["reached"] is False for result in results))


if __name__ == "__main__":
    sys.exit(main())
