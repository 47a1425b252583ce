"""Does the imitation check refuse a wrong recipe and accept the right one?

    python -m benchmarks.imitation --store FOLDER [--worlds bpr-mf] [--profile quick] [--audits 20]

trains pools of systems on MovieLens-100K (resumable), draws audits from them and hands in, as "their original": systems
of other recipes, and systems of our own that the audit does not hold. Beside what the check says stands the truth: what
Golds of their recipe really read on our yardstick. Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from auditkit.builds import System, Train, Workshop, build, make, silent
from auditkit.contracts import Recipe, Recommender
from auditkit.data.dataset import Floats, Ints
from auditkit.deletion import EVERYBODY, NOBODY, Regime, Share, select
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case, fix_points, make_case, observe
from auditkit.findings import read_system
from auditkit.flow import Observations
from auditkit.imitation import Imitation, check_imitation
from auditkit.plan import MARGINS, SIZES, Plan, Settings, make_plan, seed_of
from auditkit.plan_checks import Profile
from auditkit.plugins import unlearners
from auditkit.probes import Pairs
from auditkit.record import Role
from auditkit.statistics.intervals import clopper_pearson
from auditkit.store import Store
from auditkit.talk import Talk
from auditkit.usefulness import measure_usefulness
from auditkit.yardstick import Yardstick, calibrate
from benchmarks.common import data_folder, read_implicit

# As in the calibration benchmark.
RECIPES: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "bpr-mf": ({}, {}),
    "lightgcn": ({"layers": 2, "factors": 32}, {"learning_rate": 1e-2, "batch": 8192, "epochs": 25}),
    "ease": ({}, {}),
}
TIMES = (0.5, 0.8, 1.25, 2.0)
# Of their scores, in standard deviations of a user's row.
NOISE = (0.1, 0.3)
# Systems of each other recipe, with everything and without the request.
EACH = 2
# Left-out originals that one drawn audit is asked about.
LEFT = 4
GIVEN_HALVES = 3


@dataclass(frozen=True)
class World:
    """Our recipe, and one request."""

    backbone: str
    regime: Regime = "interaction"
    originals: int = 16
    golds: int = 16
    cells: int = 32
    profiles: tuple[Profile, ...] = ("quick", "standard")

    @property
    def name(self) -> str:
        """Of the section."""
        return f"ours {self.backbone}, {self.regime} request"

    def systems(self) -> list[System]:
        """Ours, by role, and those of other recipes, which are controls named after what differs."""
        ours = recipe_of(self.backbone)
        made = [_trained(f"original {k}", "original", NOBODY, ours) for k in range(self.originals)]
        made += [_trained(f"gold {k}", "gold", EVERYBODY, ours) for k in range(self.golds)]
        for cell in range(self.cells):
            cut, order = (2 * cell + 1) / (2 * self.cells), seed_of(0, "share", cell)
            made.append(_trained(f"reference {2 * cell}", "reference", Share(0, cut, order), ours))
            made.append(_trained(f"reference {2 * cell + 1}", "reference", Share(cut, 1, order), ours))
        halves = [Share(0, 0.5, seed_of(0, "half share", k)) for k in range(GIVEN_HALVES)]
        made += [_trained(f"half {k}", "control", share, ours) for k, share in enumerate(halves)]
        for name, recipe in others(self.backbone).items():
            if name == "ease" and self.regime == "item":
                continue  # it takes no fresh items, so it cannot be asked what the primary attack reads
            for k in range(1 if name == "ease" else EACH):
                made.append(_trained(f"{name} original {k}", "control", NOBODY, recipe))
                made.append(_trained(f"{name} gold {k}", "control", EVERYBODY, recipe))
        return made


WORLDS = (
    World("bpr-mf"),
    World("lightgcn", originals=10, golds=10, cells=16, profiles=("quick",)),
    World("bpr-mf", "user"),
    World("bpr-mf", "item"),
)


def recipe_of(backbone: str, config: Mapping[str, Any] | None = None, fit: Mapping[str, Any] | None = None) -> Recipe:
    """As the benchmark trains it, with something changed."""
    usual, steps = RECIPES[backbone]
    return Recipe.of(backbone, {**usual, **(config or {})}, {**steps, **(fit or {})})


def others(backbone: str) -> dict[str, Recipe]:
    """What differs -> recipe."""
    ours = recipe_of(backbone)
    rate, factors = ours.fit.learning_rate, int(ours.config["factors"])
    found = {f"epochs x{x:g}": recipe_of(backbone, fit={"epochs": round(ours.fit.epochs * x)}) for x in TIMES}
    found |= {f"learning rate x{x:g}": recipe_of(backbone, fit={"learning_rate": rate * x}) for x in TIMES}
    found |= {f"factors x{x:g}": recipe_of(backbone, {"factors": int(factors * x)}) for x in (0.5, 2)}
    found |= {f"l2 x{x:g}": recipe_of(backbone, fit={"l2": ours.fit.l2 * x}) for x in (0.1, 10)}
    return found | {name: recipe_of(name) for name in RECIPES if name != backbone}


def _trained(name: str, role: Role, erased: Share, recipe: Recipe) -> System:
    return System(name, role, Train(recipe, erased, seed_of(0, name, 0)), role)


@dataclass(frozen=True, eq=False)
class Noisy:
    """A recommender whose scores carry fixed normal noise, in standard deviations of a user's row."""

    model: Recommender
    level: float
    seed: int

    @property
    def n_users(self) -> int:
        """As the model's."""
        return self.model.n_users

    @property
    def n_items(self) -> int:
        """As the model's."""
        return self.model.n_items

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        """The model's, with the same noise for a user each time."""
        scores = self.model.score(users, branch=branch)
        rows = [torch.randn(self.n_items, generator=torch.Generator().manual_seed(self.seed + int(u))) for u in users]
        return scores + self.level * scores.std(1, keepdim=True) * torch.stack(rows)


@dataclass(frozen=True, eq=False)
class Pool:
    """A world's systems, trained and asked."""

    world: World
    plan: Plan
    case: Case
    observed: Observations

    @cached_property
    def names(self) -> list[str]:
        """Of the systems."""
        return [s.name for s in self.observed.evidence.systems]

    def some(self, rows: Ints) -> Observations:
        """What was observed of some systems."""
        made = Observations(usefulness=self.observed.usefulness)
        made.evidence = self.observed.evidence.take(rows)
        return made

    def draw(self, profile: Profile, seed: int) -> tuple[Bench, Ints]:
        """An audit of a profile's size, and the originals that it does not hold."""
        rng, evidence = np.random.default_rng(seed), self.observed.evidence
        golds, references = SIZES[profile]
        first, others = rng.permutation(evidence.rows("original")), rng.permutation(evidence.rows("gold"))
        strata = evidence.rows("reference").reshape(references // 2, -1, 2)
        pairs = strata[np.arange(len(strata)), rng.integers(strata.shape[1], size=len(strata))]
        half = self.names.index(f"half {rng.integers(GIVEN_HALVES)}")
        rows = np.concatenate([first[:2], others[:golds], pairs.ravel(), [others[golds], half]])
        background = self.some(rows)
        # The extra Gold is in no yardstick.
        systems = list(background.evidence.systems)
        systems[-2] = replace(systems[-2], role="control")
        background.evidence = replace(background.evidence, systems=tuple(systems))
        margin = MARGINS[self.world.regime][list(SIZES).index(profile)]
        rules = replace(self.plan.rules, margin=margin)
        yardstick = calibrate(self.plan.battery[0], background.evidence.of_split("judge"), rules)
        return Bench(self, background, yardstick), first[2:]


@dataclass(frozen=True, eq=False)
class Bench:
    """One drawn audit."""

    pool: Pool
    background: Observations
    yardstick: Yardstick

    def check(self, row: int) -> Imitation:
        """One system of the pool as their original."""
        return check_imitation(
            self.pool.some(np.array([row])), self.background, self.yardstick, self.pool.case, self.yardstick.rules
        )

    def truth(self, row: int) -> tuple[float, float, float]:
        """Level, pattern and spread that a Gold of the same recipe really reads; NaN where it cannot be read."""
        gold = self.pool.names.index(self.pool.names[row].replace("original", "gold"))
        try:
            read = read_system(self.yardstick, self.pool.observed.evidence.take([gold]).of_split("judge"))
        except NotApplicableError:
            return (float("nan"),) * 3
        pattern, spread = (float("nan") if r is None else r.value for r in (read.pattern, read.spread))
        return read.level.value, pattern, spread


def gather(world: World, folder: Path) -> Pool:
    """Train what the folder lacks and ask every system what the check reads."""
    data = read_implicit(data_folder(None, "ml-100k"))
    request = select(data, world.regime, share=0.05, seed=0)
    plan = make_plan(data, request, recipe_of(world.backbone), [unlearners()["gold"]()], settings=Settings())
    case, shop = make_case(data, request, seed=0), Workshop(data, request, Store(folder))
    observed, systems = Observations(), world.systems()

    def stream() -> Iterator[tuple[System, Recommender]]:
        for system, model in _served(systems, shop):
            if system.role != "reference":
                observed.usefulness[system.name] = measure_usefulness(model, case, plan.protocol)
            yield system, model

    with Talk() as talk:
        make(systems, shop, talk)
    questions = fix_points([*plan.battery[0].probes, Pairs()], case, seed=0)
    observed.evidence = observe(stream(), questions, case, seed=0)
    return Pool(world, plan, case, observed)


def _served(systems: list[System], shop: Workshop) -> Iterator[tuple[System, Recommender]]:
    """Every system; where scores alone are read, also some of ours with noise on their scores."""
    for system, model, _ in build(systems, shop, silent):
        yield system, model
        number = system.name.rpartition(" ")[2]
        # Fold-in reads no served scores, and a wrapper has none.
        if shop.request.regime == "interaction" and system.role in ("original", "gold") and int(number) < EACH:
            for level in NOISE:
                noisy = replace(system, name=f"noise {level:g} {system.role} {number}", role="control")
                yield noisy, Noisy(model, level, seed_of(0, noisy.name, 0))


def _row(name: str, found: list[Imitation], truth: Floats, margin: float) -> dict[str, Any]:
    shown = {key: float(np.mean([f.figures[key].theirs for f in found])) for key in found[0].figures}
    blamed = {key: float(np.mean([not f.figures[key].inside for f in found])) for key in shown}
    real = np.nanmean(truth, axis=0) if np.isfinite(truth).any() else np.full(3, np.nan)
    beyond = bool((np.abs(real[:2]) > margin).any() or real[2] > margin or abs(shown.get("dose", 1.0) - 1) > margin)
    return {
        "theirs": name, "refused": float(np.mean([not f.accepted for f in found])), "should be": beyond,
        "their Golds read (level, pattern, spread)": ", ".join(f"{v:.2f}" for v in real),
        "carried over (level, pattern)": _numbers(shown, "gold level", "gold pattern"),
        "dose, pattern of theirs": _numbers(shown, "dose", "pattern"),
        "shift, spread": _numbers(shown, "retained shift", "retained spread", "outside spread"),
        "recall, ndcg": _numbers(shown, "recall@20", "ndcg@20"),
        "refused by": ", ".join(key for key, share in blamed.items() if share >= 0.5) or "-",
    }  # fmt: skip


def _numbers(shown: Mapping[str, float], *keys: str) -> str:
    return ", ".join(f"{shown[key]:.2f}" if key in shown else "-" for key in keys)


def report(pool: Pool, profile: Profile, audits: int) -> str:
    """The table of other recipes, where the check and the truth differ, and how often one of ours is refused."""
    theirs = [k for k, name in enumerate(pool.names) if " original " in name]
    kinds: dict[str, list[tuple[Imitation, tuple[float, float, float]]]] = {}
    mine: list[Imitation] = []
    for seed in range(audits):
        bench, left = pool.draw(profile, seed)
        mine += [bench.check(row) for row in left[:LEFT]]
        for row in theirs if seed < EACH else []:
            kind = pool.names[row].partition(" original ")[0]
            kinds.setdefault(kind, []).append((bench.check(row), bench.truth(row)))
    margin = MARGINS[pool.world.regime][list(SIZES).index(profile)]
    rows = [_row(name, [f for f, _ in pairs], np.array([t for _, t in pairs]), margin) for name, pairs in kinds.items()]
    table = pd.DataFrame(rows)
    title = f"## {pool.world.name}, {profile} (margin {margin:g})"
    shown = table.to_markdown(index=False, floatfmt=".2f")
    return "\n\n".join([title, shown, _lost(table), _false_refusals(mine), ""])


def _lost(table: pd.DataFrame) -> str:
    """Recipes where most decisions differ from the truth."""
    wrong = table[(table["refused"] >= 0.5) != table["should be"]]
    told = [f"{r['theirs']} ({'refused' if r['refused'] >= 0.5 else 'accepted'})" for _, r in wrong.iterrows()]
    return f"Decided otherwise than the truth: {', '.join(told) or 'none'}."


def _false_refusals(found: list[Imitation]) -> str:
    refused, n = sum(not f.accepted for f in found), len(found)
    rate = clopper_pearson(refused, n)
    each = {key: sum(not f.figures[key].inside for f in found if key in f.figures) for key in found[0].figures}
    blamed = ", ".join(f"{key} {count}" for key, count in each.items() if count) or "none"
    return (
        f"One of ours, left out: {refused} of {n} refused ({rate.low:.3f} to {rate.high:.3f} if independent, which "
        f"draws of one pool are not). By check: {blamed}."
    )


def main() -> None:
    """Measure and print."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--store", default=".auditkit", help="trained systems; runs are resumable")
    made.add_argument("--worlds", nargs="*", help="backbones, or backbone-regime; default all")
    made.add_argument("--profile", choices=get_args(Profile), help="default: those of the world")
    made.add_argument("--audits", type=int, default=50, help="drawn from each pool")
    options = made.parse_args()
    for world in WORLDS:
        if options.worlds and not {world.backbone, f"{world.backbone}-{world.regime}"} & set(options.worlds):
            continue
        pool = gather(world, Path(options.store))
        for profile in world.profiles if options.profile is None else [cast(Profile, options.profile)]:
            print(report(pool, profile, options.audits), flush=True)


if __name__ == "__main__":
    main()
