"""What an audit would cost: which systems are stored, which must be built, and about how long that takes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from auditkit.builds import System, Train, Unlearn, Workshop, missing
from auditkit.contracts import Recipe
from auditkit.plan import Plan, audited_systems, background_systems, earlier_steps, plain_golds
from auditkit.store import Store


@dataclass(frozen=True)
class Foreseen:
    """One line of the plan.

    Attributes:
        system: what must exist.
        stored: it does already.
        seconds: estimate of building it; None where nothing is known (a method that never ran here).
    """

    system: System
    stored: bool
    seconds: float | None


def foresee(plan: Plan, store: Store) -> list[Foreseen]:
    """Every system of the audit with an estimate, from what the store knows or one timed epoch; builds nothing."""
    shop = Workshop(plan.data, plan.request, store, plan.settings.device, plan.sources)
    audited = [s for runs in audited_systems(plan).values() for s in runs]
    chained = [step for system in audited for step in earlier_steps(system)]
    background = [] if plan.yardstick == "none" else background_systems(plan)
    systems = [*background, *plain_golds(plan), *chained, *audited]
    absent = {shop.address(s.build) for s in missing(systems, shop)}
    known = _known_seconds(systems, shop)
    training = known.get("train")
    if training is None and any(isinstance(s.build, Train) and shop.address(s.build) in absent for s in systems):
        training = _timed_epoch(plan)
    found = []
    for system in systems:
        seconds = (
            training
            if isinstance(system.build, Train)
            else known.get(system.method, training if system.method == "gold" else None)
        )
        stored = shop.address(system.build) not in absent
        found.append(Foreseen(system, stored, 0.0 if stored else seconds))
    return found


def _known_seconds(systems: Sequence[System], shop: Workshop) -> Mapping[str, float]:
    """Mean wall seconds of what is stored, by method (`train` for training)."""
    seen: dict[str, list[float]] = {}
    for system in systems:
        if isinstance(system.build, Train | Unlearn) and shop.store.has(shop.address(system.build)):
            method = "train" if isinstance(system.build, Train) else system.method
            seen.setdefault(method, []).append(float(shop.store.meta(shop.address(system.build))["cost"]["wall_s"]))
    return {method: sum(times) / len(times) for method, times in seen.items()}


def _timed_epoch(plan: Plan) -> float:
    """Seconds of one training, from one epoch of it on this machine (compilation left out)."""
    recipe = plan.trained
    short = Recipe(recipe.backbone, recipe.config, replace(recipe.fit, epochs=1, patience=None), recipe.trainer)
    architecture = recipe.architecture()
    architecture.fit([(plan.data, 0)], short, device=plan.settings.device)
    start = time.perf_counter()
    architecture.fit([(plan.data, 0)], short, device=plan.settings.device)
    epochs = 1 if recipe.fit.engine == "closed-form" else recipe.fit.epochs
    return (time.perf_counter() - start) * epochs
