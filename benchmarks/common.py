"""What the benchmarks share: finding the data, reading doses of extra systems, and printing tables."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before torch is loaded

from auditkit.builds import System, Train, Workshop, build, make
from auditkit.contracts import Recipe
from auditkit.controls import check_controls
from auditkit.data.dataset import Dataset, Floats
from auditkit.data.readers import read
from auditkit.deletion import Regime, Share, select
from auditkit.evidence import Case, Evidence, fix_points, make_case, observe
from auditkit.plan import Plan, Settings, background_systems, make_plan, seed_of
from auditkit.plugins import unlearners
from auditkit.store import Store
from auditkit.talk import Talk
from auditkit.yardstick import Yardstick, calibrate

LIGHTGCN = {"config": {"layers": 2}, "fit": {"learning_rate": 1e-2, "batch": 8192, "epochs": 35}}
# Half as wide and trained less, where hundreds of systems are needed: Recall@20 on MovieLens-100K .29 against .33.
SMALL_LIGHTGCN: dict[str, dict[str, Any]] = {
    "config": {"layers": 2, "factors": 32},
    "fit": {"learning_rate": 1e-2, "batch": 8192, "epochs": 25},
}


def data_folder(given: str | None, name: str) -> Path:
    """`given`, or the data set under AUDITKIT_DATA or ../shared/data."""
    root = Path(os.environ.get("AUDITKIT_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    folder = Path(given) if given else root / name
    if not folder.exists():
        sys.exit(f"no data at {folder}: name the folder with --data, or set AUDITKIT_DATA")
    return folder


def read_implicit(folder: Path) -> Dataset:
    """Every row a positive; the file's own split, else a random 80/20 split per user."""
    data, report = read(folder)
    return data if report.split == "file" else read(folder, split="random:0.8/0/0.2")[0]


def parser(text: str | None) -> argparse.ArgumentParser:
    """Options that every benchmark on an audit has."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", help="folder of the data set (default: ml-100k under AUDITKIT_DATA)")
    made.add_argument("--regime", default="interaction", choices=["interaction", "user", "item"])
    made.add_argument("--share", type=float, default=0.05, help="of the candidates that the request names")
    made.add_argument("--backbone", default="bpr-mf")
    made.add_argument("--profile", default="standard", choices=["quick", "standard", "certify"])
    made.add_argument("--store", default=".auditkit", help="trained systems; runs are resumable")
    made.add_argument("--seed", type=int, default=0)
    return made


def recipe_of(backbone: str) -> Recipe:
    """The backbone as the benchmarks train it."""
    options: dict[str, Any] = LIGHTGCN if backbone == "lightgcn" else {}
    return Recipe.of(backbone, options.get("config"), options.get("fit"))


def plan_of(options: argparse.Namespace, methods: Sequence[Any] | None = None) -> Plan:
    """The audit that the options describe."""
    data = read_implicit(data_folder(options.data, "ml-100k"))
    request = select(data, cast(Regime, options.regime), share=options.share, seed=options.seed)
    chosen = [unlearners()["gold"]()] if methods is None else methods
    settings = Settings(profile=options.profile, seed=options.seed)
    return make_plan(data, request, recipe_of(options.backbone), chosen, settings=settings)


@dataclass(frozen=True, eq=False)
class Calibrated:
    """An audit up to the point where unlearned systems would be probed."""

    plan: Plan
    case: Case
    shop: Workshop
    background: Evidence
    yardstick: Yardstick
    questions: dict[Any, Any]
    seconds: float

    def observe(self, systems: Iterable[System]) -> Evidence:
        """Build and probe further systems."""
        with Talk() as talk:
            stream = ((system, model) for system, model, _ in build(list(systems), self.shop, talk))
            return observe(stream, self.questions, self.case, seed=self.plan.settings.seed)

    def broken(self) -> dict[str, str]:
        """Controls that failed."""
        return check_controls(self.case, self.background, {self.yardstick.attack: self.yardstick}, self.plan.rules)[1]


def calibrated(plan: Plan, store: str) -> Calibrated:
    """Build and probe the background, and calibrate the primary attack."""
    start = time.perf_counter()
    primary = plan.battery[0]
    case = make_case(plan.data, plan.request, seed=plan.settings.seed)
    shop = Workshop(plan.data, plan.request, Store(Path(store)), plan.settings.device)
    questions = fix_points(primary.probes, case, seed=plan.settings.seed)
    systems = background_systems(plan)
    with Talk() as talk:
        make(systems, shop, talk)
        stream = ((system, model) for system, model, _ in build(systems, shop, talk))
        background = observe(stream, questions, case, seed=plan.settings.seed)
    yardstick = calibrate(primary, background, plan.rules)
    return Calibrated(plan, case, shop, background, yardstick, questions, time.perf_counter() - start)


def partial(plan: Plan, dose: float, index: int) -> System:
    """A system that never saw all of the units but for a random share `dose`."""
    seed = seed_of(plan.settings.seed, f"rung {dose:g}", index)
    return System(f"dose {dose:g} no {index}", "control", Train(plan.trained, Share(0.0, 1 - dose, seed), seed))


def row(name: str, values: Sequence[float] | Floats, digits: int = 3) -> str:
    """One line of a table."""
    return f"{name:>10}  " + " ".join(f"{v:7.{digits}f}" for v in np.asarray(values, float))
