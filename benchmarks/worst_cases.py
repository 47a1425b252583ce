"""Requests that are hardest to forget beside a random one: what the same methods leave of each.

    python -m benchmarks.worst_cases --store FOLDER [--regimes interaction user item] [--profile standard]

Units at random, of the tail, outliers, and the most memorised ones (16 systems of the recipe measure which); users and
items are planted as well. One audit each of `gold`, `ifru`, `mmrecun` and `no-op`; 5% of the candidates, canaries as
many as a random request names.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import cast

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before torch is loaded

from auditkit.api import audit_plan
from auditkit.canaries import PlantedRegime, plant
from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset
from auditkit.deletion import DeletionRequest, Regime
from auditkit.memorised import Pool
from auditkit.plan import Method, Settings, make_plan
from auditkit.plugins import unlearners
from auditkit.record import Finding, Record, SystemEntry
from auditkit.talk import Talk
from auditkit.worst_case import Choice, choose
from benchmarks.common import data_folder, parser, read_implicit, recipe_of

METHODS = ("gold", "ifru", "mmrecun", "no-op")
SELECTIONS: tuple[Choice, ...] = ("random", "tail", "outlier", "memorised")
_COLUMNS = (
    "request", "units", "margin", "AUC of no-op", *(f"{name}: verdict, depth, level, pattern" for name in METHODS)
)  # fmt: skip


def requested(data: Dataset, regime: Regime, how: str, recipe: Recipe, store: Path) -> tuple[Dataset, DeletionRequest]:
    """The data as trained on, and the request."""
    if how == "planted":
        count = choose(data, regime, share=0.05).n_units
        return plant(data, cast(PlantedRegime, regime), count)
    return data, choose(data, regime, cast(Choice, how), share=0.05, pool=Pool(recipe, store=store))


def _primary(system: SystemEntry) -> Finding:
    return next(finding for finding in system.findings if finding.primary)


def _reading(system: SystemEntry) -> str:
    values = (system.depth, system.residual_dose, system.pattern)
    return ", ".join([str(system.verdict), *("-" if e.value is None else f"{e.value:.2f}" for e in values)])


def line(how: str, request: DeletionRequest, record: Record) -> str:
    """One row of the table."""
    systems = {s.name: s for s in record.systems if s.role == "unlearned"}
    auc = _primary(systems["no-op"]).auc
    margin = record.attainable_margin
    cells = [
        how, str(request.n_units), "-" if margin is None else f"{margin:.3f}",
        "-" if auc is None or auc.value is None else f"{auc.value:.3f}", *(_reading(systems[name]) for name in METHODS)
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def table(regime: Regime, options: argparse.Namespace) -> list[str]:
    """A regime's requests, one audit each."""
    data = read_implicit(data_folder(options.data, "ml-100k"))
    recipe, store = recipe_of(options.backbone), Path(options.store)
    found = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    for how in (*SELECTIONS, *(("planted",) if regime != "interaction" else ())):
        trained_on, request = requested(data, regime, how, recipe, store)
        methods = [Method(unlearners()[name]()) for name in METHODS]
        settings = Settings(profile=options.profile, seed=options.seed)
        plan = make_plan(trained_on, request, recipe, methods, settings=settings)
        with Talk() as talk:
            found.append(line(how, request, audit_plan(plan, out=None, store=store, progress=talk)))
    return found


def main() -> None:
    """Print a table a regime."""
    options = parser(__doc__)
    options.add_argument("--regimes", nargs="*", default=["interaction", "user", "item"])
    chosen = options.parse_args()
    for regime in chosen.regimes:
        print(f"{regime}, {chosen.backbone}, {chosen.profile}\n\n" + "\n".join(table(regime, chosen)), flush=True)


if __name__ == "__main__":
    main()
