"""Does CURE4Rec's ordering hold: Retrain > UltraRE > RecEraser > SISA in NDCG@20?

    python -m benchmarks.cure4rec
    python -m benchmarks.cure4rec --backbone lightgcn --seeds 3

The protocol of CURE4Rec (NeurIPS 2024, Datasets and Benchmarks) as far as it is known, on ML-100K: every rating is a
positive, 80/20 at random per user, 5% of the users at random are deleted from train and test. BPR with 32 factors
started at scale .01, Adam 1e-3, 1024 pairs a step, no L2, 50 epochs. Ten shards of users, each user scored by her own
shard alone: RecEraser is its clustering without its aggregator there (30 rounds, shards of equal size), UltraRE its
own (10 rounds). LightGCN has 64 factors and 3 layers.

Assumed here: no early stopping (published: patience 5, looking at the test pairs; LightGCN's length is ours); users are
clustered by vectors of the recipe itself, trained on the data before the deletion (published: WMF vectors that came
with the code); all 1,682 items (published: 1,349). Methods train on all the data and then unlearn. Split, request and
start differ by seed.

The published figures divide DCG@20 by the ideal of *all* of a user's test items; that is the column "as published".
Beside the four stand RecEraser's clustering as CURE4Rec's code has it, which serves the farthest users first, and
RecEraser with the attention of its own paper.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from auditkit.contracts import Backbone, Recipe, Recommender, Task
from auditkit.costs import Cost, measured
from auditkit.data.dataset import Dataset, Floats, Interactions, Ints
from auditkit.data.readers import read
from auditkit.deletion import DeletionRequest, select
from auditkit.statistics.intervals import t_quantile
from auditkit.unlearners.partitions import Side, capacity_of, cheapest_with_room
from auditkit.unlearners.receraser import RecEraser
from auditkit.unlearners.sharding import Sharded, ShardedTraining, pretrained, shard_seeds
from auditkit.unlearners.sisa import SISA
from auditkit.unlearners.ultrare import UltraRE
from auditkit.utility import Utility, evaluate
from benchmarks.common import data_folder

_FIT: Mapping[str, Any] = {"engine": "adam", "learning_rate": 1e-3, "batch": 1024, "l2": 0.0, "epochs": 50}
RECIPES: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "bpr-mf": ({"factors": 32, "init_scale": 0.01}, _FIT),
    "lightgcn": ({"factors": 64, "layers": 3}, {**_FIT, "learning_rate": 5e-3}),
}
# NDCG@20 of random deletion on ML-100K, from the tables on the project's page.
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "bpr-mf": {"retrain": 0.3003, "ultrare": 0.2764, "receraser": 0.2615, "sisa": 0.2324},
    "lightgcn": {"retrain": 0.3121, "ultrare": 0.3069, "receraser": 0.2905, "sisa": 0.1932},
}
CLAIM = ("retrain", "ultrare", "receraser", "sisa")
AS_CODED = ("retrain", "ultrare", "receraser, farthest first", "sisa")


class OwnShard(RecEraser):
    """RecEraser's clustering of users, each scored by her own shard alone: what CURE4Rec calls RecEraser."""

    def combine(
        self, backbones: Sequence[Backbone], data: Dataset, recipe: Recipe, rng: np.random.Generator
    ) -> Sharded:
        """No aggregator."""
        return Sharded(backbones)


class FarthestFirst(OwnShard):
    """The same with the sort order of CURE4Rec's code: of all users and centres the farthest are matched first."""

    def parts(self, data: Dataset, recipe: Recipe, *, device: str, rng: np.random.Generator) -> Ints:
        """Shards of equal size, int64 [n_train]."""
        seed = shard_seeds(rng, 1)[0]
        vectors, _ = pretrained(data, recipe, self.pretrain_epochs, device=device, seed=seed)
        users, place = np.unique(data.train.users, return_inverse=True)
        side = Side(vectors, users)
        centres, parts = vectors[rng.choice(users, self.shards, replace=False)], np.zeros(len(users), np.int64)
        for _ in range(self.rounds):
            parts = cheapest_with_room(-side.distances(centres), capacity_of(len(users), self.shards, 1.0))
            centres = side.means(parts, centres)
        return parts[place]


def contenders(epochs: int) -> dict[str, ShardedTraining | None]:
    """Methods by name; None trains again. Clustered vectors are trained as long as the recipe."""
    users: dict[str, Any] = {"partition": "user", "slack": 1.0, "rounds": 30, "pretrain_epochs": epochs}
    return {
        "retrain": None,
        "ultrare": UltraRE(pretrain_epochs=epochs),
        "receraser": OwnShard(**users),
        "receraser, farthest first": FarthestFirst(**users),
        "receraser, attention": RecEraser(**users),
        "sisa": SISA(partition="user"),
    }


@dataclass(frozen=True)
class Outcome:
    """One method on one seed.

    Attributes:
        ndcg, published_ndcg, recall: at 20, over the retained users.
        train, unlearn: what they cost; retraining has only the latter.
    """

    ndcg: float
    published_ndcg: float
    recall: float
    train: Cost | None
    unlearn: Cost


def published_ndcg(found: Utility, truth: Interactions) -> float:
    """Mean NDCG@20 with the ideal of all test items of a user, however many, as CURE4Rec divides."""
    counts = np.bincount(truth.users)[found.users]
    ideal = np.cumsum(1 / np.log2(np.arange(2.0, counts.max() + 2)))
    return float((found.values["ndcg@20"] * ideal[np.minimum(counts, 20) - 1] / ideal[counts - 1]).mean())


def task_of(data: Dataset, request: DeletionRequest, recipe: Recipe) -> Task:
    """All units of the request, nothing to test on."""
    everything, untested = np.ones(request.n_units, np.bool_), replace(data, test=Interactions.empty())
    forget = request.forget_set(untested, everything)
    return Task(untested, request.erase(untested, everything), forget, request, everything, recipe, "cpu")


def run(method: ShardedTraining | None, data: Dataset, request: DeletionRequest, recipe: Recipe, seed: int) -> Outcome:
    """Train, unlearn, evaluate on the users who stay."""
    task, trained = task_of(data, request, recipe), None
    served: Recommender
    if method is None:
        with measured("cpu", solo=True) as unlearned:
            served = recipe.train(task.retain, seed, device="cpu")
    else:
        with measured("cpu", solo=True) as training:
            parent = method.train(task.data, recipe, device="cpu", seed=seed)
        trained = training()
        with measured("cpu", solo=True) as unlearned:
            served = method.unlearn(parent, task, rng=np.random.default_rng([seed, 1]))
    truth = data.test.take(~np.isin(data.test.users, request.users))
    found = evaluate(served, truth, task.retain.train, ks=(20,))
    mean = found.mean()
    return Outcome(mean["ndcg@20"], published_ndcg(found, truth), mean["recall@20"], trained, unlearned())


def _cell(values: Sequence[float], digits: int = 4) -> str:
    spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"


def _line(name: str, runs: Sequence[Outcome], published: float | None) -> str:
    seconds = [[r.train.wall_s if r.train else np.nan for r in runs], [r.unlearn.wall_s for r in runs]]
    pieces = [r.unlearn.pieces or (r.unlearn.wall_s,) for r in runs]
    times = [*np.mean(seconds, 1), np.mean([max(p) for p in pieces]), np.mean([np.mean(p) for p in pieces])]
    shown = " | ".join("-" if np.isnan(t) else f"{t:.2f}" for t in times)
    return (
        f"| {name} | {_cell([r.ndcg for r in runs])} | {_cell([r.published_ndcg for r in runs])} | {published or '-'} "
        f"| {_cell([r.recall for r in runs])} | {shown} |"
    )


def _gap(better: Floats, worse: Floats) -> str:
    """Mean paired difference with its 95% t interval."""
    differences = better - worse
    n = len(differences)
    if n < 2:
        return f"{differences.mean():+.4f}"
    half = t_quantile(n - 1, 0.95) * differences.std(ddof=1) / np.sqrt(n)
    return f"{differences.mean():+.4f} ({differences.mean() - half:+.4f} to {differences.mean() + half:+.4f})"


def verdict(title: str, order: Sequence[str], ndcg: Mapping[str, Floats]) -> str:
    """Whether an ordering holds on the mean and by seed, and each step of it."""
    rows = np.stack([ndcg[name] for name in order])
    held = [bool((np.diff(of_seed) < 0).all()) for of_seed in rows.T]
    means = bool((np.diff(rows.mean(1)) < 0).all())
    steps = [f"  {a} - {b}: {_gap(ndcg[a], ndcg[b])}" for a, b in pairwise(order)]
    head = f"{title}: {'holds' if means else 'does not hold'} on the mean, in {sum(held)} of {len(held)} seeds"
    return "\n".join([head, *steps])


def main() -> None:
    """Print the table and the verdicts."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", help="folder of the data set (default: ml-100k under AUDITKIT_DATA)")
    made.add_argument("--backbone", default="bpr-mf", choices=list(RECIPES))
    made.add_argument("--seeds", type=int, default=5)
    made.add_argument("--epochs", type=int, default=50)
    options = made.parse_args()
    config, fit = RECIPES[options.backbone]
    recipe = Recipe.of(options.backbone, config, {**fit, "epochs": options.epochs})
    found: dict[str, list[Outcome]] = {}
    for seed in range(options.seeds):
        data, _ = read(data_folder(options.data, "ml-100k"), split="random:0.8/0/0.2", seed=seed)
        request = select(data, "user", share=0.05, seed=seed)
        for name, method in contenders(options.epochs).items():
            outcome = run(method, data, request, recipe, seed)
            print(f"seed {seed}, {name}: NDCG@20 {outcome.ndcg:.4f}", file=sys.stderr, flush=True)
            found.setdefault(name, []).append(outcome)
    print(
        "| method | NDCG@20 | as published | published | Recall@20 | train s | unlearn s | slowest shard | mean shard |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, runs in found.items():
        print(_line(name, runs, PUBLISHED[options.backbone].get(name)))
    ndcg = {name: np.array([r.ndcg for r in runs]) for name, runs in found.items()}
    print(verdict("Retrain > UltraRE > RecEraser > SISA", CLAIM, ndcg))
    print(verdict("the same with RecEraser as coded", AS_CODED, ndcg))


if __name__ == "__main__":
    main()
