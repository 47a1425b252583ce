"""BPR-MF beside the `implicit` library on the same split: ranking quality and time per epoch.

    python -m benchmarks.bpr_mf_beside_implicit --name ml-100k
    python -m benchmarks.bpr_mf_beside_implicit --name ml-1m

Both train on the same pairs with 64 factors; both are ranked by the same full ranking with the training pairs masked.
Times are taken in one run, alternating, after a warm-up; read them as a ratio. `implicit` draws negatives by popularity
and uses one thread per core; ours trains one model per thread, so several models are timed as well.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from implicit.bpr import BayesianPersonalizedRanking
from torch import Tensor

from auditkit.contracts import Recipe, Recommender
from auditkit.data.dataset import Dataset, Ints
from auditkit.utility import evaluate
from benchmarks.common import data_folder, read_implicit


@dataclass(frozen=True, eq=False)
class Outside:
    """A fitted model of `implicit` as a recommender."""

    model: BayesianPersonalizedRanking
    n_users: int
    n_items: int

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        """Scores of all items."""
        return torch.from_numpy(np.asarray(self.model.user_factors)[users] @ np.asarray(self.model.item_factors).T)


def theirs(data: Dataset, epochs: int, seed: int, rate: float, l2: float) -> Outside:
    """Train `implicit`."""
    model = BayesianPersonalizedRanking(
        factors=64, learning_rate=rate, regularization=l2, iterations=epochs, random_state=seed
    )
    model.fit(data.train.matrix(data.n_users, data.n_items), show_progress=False)
    return Outside(model, data.n_users, data.n_items)


def main() -> None:
    """Print quality and times."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--name", default="ml-100k")
    options.add_argument("--data")
    options.add_argument("--epochs", type=int, default=60)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--models", type=int, default=8)
    chosen = options.parse_args()
    data = read_implicit(data_folder(chosen.data, chosen.name))
    recipe = Recipe.of("bpr-mf", fit={"epochs": chosen.epochs})
    fit = recipe.architecture().fit
    fit([(data, 0)], Recipe.of("bpr-mf", fit={"epochs": 1}), device="cpu")
    theirs(data, 1, 0, 0.05, 0.005)
    trainings: dict[str, Callable[[int], Sequence[Recommender]]] = {
        "auditkit, one model": lambda s: fit([(data, s)], recipe, device="cpu"),
        "implicit, all cores": lambda s: [theirs(data, chosen.epochs, s, 0.05, 0.005)],
        f"auditkit, {chosen.models} models": lambda s: fit(
            [(data, s + k) for k in range(chosen.models)], recipe, device="cpu"
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in trainings}
    quality: dict[str, list[float]] = {"auditkit": [], "implicit": []}
    for seed in range(chosen.seeds):
        for name, train in trainings.items():
            start = time.perf_counter()
            models = train(seed)
            times[name].append(time.perf_counter() - start)
            if len(models) == 1:
                found = evaluate(models[0], data.test, data.train, ks=(20,)).mean()
                quality[name.split(",")[0]].append(found["recall@20"])
    print(f"{data.name}: {len(data.train)} training pairs, {chosen.epochs} epochs, {chosen.seeds} seeds")
    for name, values in quality.items():
        print(f"Recall@20 {name:10} {np.mean(values):.4f} (sd {np.std(values, ddof=1):.4f})")
    base = np.median(times["implicit, all cores"])
    for name, seconds in times.items():
        each = np.median(seconds) / (chosen.models if "models" in name else 1)
        per_epoch = each / chosen.epochs * 1e3
        print(f"{name:22} {per_epoch:7.2f} ms an epoch and model, {each / base:5.2f} of implicit's time")


if __name__ == "__main__":
    main()
