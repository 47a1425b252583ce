"""How much faster than retraining is IFRU? Requests of one user and growing, LightGCN and BPR-MF, MovieLens-1M.

    python -m benchmarks.ifru_speed --store FOLDER [--data ml-1m] [--backbones lightgcn,bpr-mf] [--shares 0,.001,.01]

5% of the training pairs, chosen by a hash of the pair, are held out; training stops on their Recall@20. Gold is
trained alone, without the one user, to its own early stop; it and the parent are kept in the store, so that a second
run starts with the unlearning. The clock of IFRU runs from the request to the served system: erasing, building the
graph again, and all that the method does. The median of some runs after one to warm up is divided.

Then where the time of a one-user run goes, and the limit: the rows that sparse products and sums over triples gather
and scatter, at the rate at which one thread of this machine adds up random rows of such a table.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.nn.functional import embedding_bag

from auditkit.backbones.graph import Propagation
from auditkit.builds import System, Train, Workshop, make, read
from auditkit.contracts import Backbone, Recipe, Task
from auditkit.costs import machine
from auditkit.data.dataset import Dataset, Interactions
from auditkit.deletion import EVERYBODY, NOBODY, DeletionRequest, select
from auditkit.store import Store
from auditkit.talk import Talk
from auditkit.unlearners import ifru_margins
from auditkit.unlearners.ifru import IFRU
from benchmarks.common import data_folder, read_implicit

_CHOSEN: Mapping[str, Mapping[str, Any]] = {
    "bpr-mf": {"config": {}, "fit": {}},
    "lightgcn": {"config": {"layers": 2}, "fit": {"learning_rate": 5e-3, "batch": 4096}},
}
# What one run is made of, by the functions' names; none of them calls another.
_STAGES = {
    "erase": "erasing", "on": "building the graph", "nodes": "pruning", "bending": "sampling",
    "lost_samples": "sampling", "near": "sampling", "margins_of": "serving both graphs",
    "stationary_weight": "slopes", "slope": "slopes", "conjugate_gradients": "solving", "draw_again": "fresh rows",
}  # fmt: skip


def recipe_of(backbone: str, options: argparse.Namespace) -> Recipe:
    """Training that stops on 5% of the training pairs."""
    stopping = {"valid": 0.05, "patience": options.patience, "every": options.every, "epochs": options.epochs}
    chosen: Mapping[str, Any] = _CHOSEN[backbone]
    return Recipe.of(backbone, chosen["config"], {**chosen["fit"], **stopping})


def trained(shop: Workshop, recipe: Recipe) -> tuple[Train, float]:
    """The parent, made where it is missing, and what a Gold took, in seconds."""
    parent, gold = Train(recipe, NOBODY, 0), Train(recipe, EVERYBODY, 1)
    with Talk() as talk:
        systems = [System("gold", "gold", gold, timed=True), System("original", "original", parent, timed=True)]
        make(systems, shop, talk)
    cost = read(gold, shop)[1]
    assert cost is not None
    return parent, cost.wall_s


def once(model: Backbone, data: Dataset, request: DeletionRequest, recipe: Recipe, seed: int) -> None:
    """All that a request sets off."""
    units = np.ones(request.n_units, np.bool_)
    retain, forget = request.erase(data, units), request.forget_set(data)
    task = Task(data, retain, forget, request, units, recipe, "cpu")
    IFRU().unlearn(model, task, rng=np.random.default_rng(seed))


def stages(profile: cProfile.Profile) -> dict[str, float]:
    """Seconds of each stage; what is in none is `other`."""
    found = dict.fromkeys([*_STAGES.values(), "other"], 0.0)
    stats: Any = pstats.Stats(profile)
    for (_, _, name), (*_, cumulative, callers) in stats.stats.items():
        # A stage that another stage calls is counted there.
        outside = [c for (_, _, caller), c in callers.items() if caller not in _STAGES]
        if name in _STAGES and callers:
            found[_STAGES[name]] += sum(c[3] for c in outside)
        elif name == "once":
            found["other"] += cumulative
    found["other"] -= sum(seconds for name, seconds in found.items() if name != "other")
    return {name: seconds for name, seconds in found.items() if seconds > 0}


@contextmanager
def rows_moved() -> Iterator[list[int]]:
    """Counts the rows that sparse products and sums over triples read at random places, and those written there."""
    moved: list[int] = []
    multiply, vectors = Propagation.multiply, ifru_margins._ByVectors
    along, back = vectors._along, vectors._back

    def product(self: Propagation, *args: Any, **options: Any) -> torch.Tensor:
        moved.append(len(self.values))
        return multiply(self, *args, **options)

    def derivative(self: Any, table: torch.Tensor) -> torch.Tensor:
        moved.append(6 * self._rows.shape[1])
        return along(self, table)

    def adjoint(self: Any, pulls: torch.Tensor) -> torch.Tensor:
        moved.append(9 * self._rows.shape[1])
        return back(self, pulls)

    with (
        patch.object(Propagation, "multiply", product),
        patch.object(vectors, "_along", derivative),
        patch.object(vectors, "_back", adjoint),
    ):
        yield moved


def rows_per_second(n_rows: int, width: int) -> float:
    """Random rows of a float32 table that are added up in a second, in sums of 64; the best of some tries."""
    table, places = torch.randn(n_rows, width), torch.randint(n_rows, (2**12, 64))
    best = np.inf
    for _ in range(7):
        start = time.perf_counter()
        embedding_bag(places, table, mode="sum")
        best = min(best, time.perf_counter() - start)
    return places.numel() / best


def measure(backbone: str, data: Dataset, shares: Sequence[float], options: argparse.Namespace) -> None:
    """One backbone's table and profile."""
    recipe = recipe_of(backbone, options)
    requests = [select(data, "user", count=max(1, round(share * data.n_users)), seed=0) for share in shares]
    shop = Workshop(data, requests[0], Store(Path(options.store)))
    parent, gold = trained(shop, recipe)
    print(f"\n{backbone} on {data.name}: Gold {gold:.1f} s\n{'users':>6} {'pairs':>7} {'IFRU s':>8} {'ratio':>8}")
    untested = replace(data, test=Interactions.empty())
    for request in requests:
        seconds = []
        for seed in range(options.runs + 1):
            model = parent_copy(parent, shop)
            start = time.perf_counter()
            once(model, untested, request, recipe, seed)
            seconds.append(time.perf_counter() - start)
        middle = float(np.median(seconds[1:]))
        print(f"{request.n_units:6} {len(request.forget_set(data)):7} {middle:8.3f} {gold / middle:7.0f}x", flush=True)
    explain(parent_copy(parent, shop), untested, requests[0], recipe)


def parent_copy(parent: Train, shop: Workshop) -> Backbone:
    """The stored parent as served, read anew."""
    model = read(parent, shop)[0]
    assert isinstance(model, Backbone)
    return model


def explain(model: Backbone, data: Dataset, request: DeletionRequest, recipe: Recipe) -> None:
    """Where the time of a request goes, and the least that its memory traffic takes."""
    profile = cProfile.Profile()
    profile.runcall(once, model, data, request, recipe, 0)
    found = stages(profile)
    total = sum(found.values())
    print("  " + ", ".join(f"{name} {1e3 * s:.0f} ms ({s / total:.0%})" for name, s in found.items()))
    with rows_moved() as moved:
        once(model, data, request, recipe, 0)
    width = recipe.config["factors"]
    least = sum(moved) / rows_per_second(data.n_users + data.n_items, width)
    print(f"  {sum(moved) * 4 * width / 1e9:.2f} GB of rows moved, {least:.3f} s at that of sums of random rows: "
          f"{least / total:.0%} of the run")  # fmt: skip


def main() -> None:
    """Print the tables."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", default="ml-1m", help="folder, or its name under AUDITKIT_DATA")
    made.add_argument("--backbones", default="lightgcn,bpr-mf")
    made.add_argument("--shares", default="0,.001,.01", help="of the users; at least one user is asked for")
    made.add_argument("--epochs", type=int, default=200, help="at most")
    made.add_argument("--patience", type=int, default=4, help="evaluations without a better one")
    made.add_argument("--every", type=int, default=5, help="epochs between evaluations")
    made.add_argument("--runs", type=int, default=3)
    made.add_argument("--store", default=".auditkit")
    options = made.parse_args()
    given = options.data if Path(options.data).is_dir() else None
    data = read_implicit(data_folder(given, options.data))
    print(f"{machine()}, {torch.get_num_threads()} threads; {len(data.train)} training pairs")
    for backbone in options.backbones.split(","):
        measure(backbone, data, [float(share) for share in options.shares.split(",")], options)


if __name__ == "__main__":
    main()
