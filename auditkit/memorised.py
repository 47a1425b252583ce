"""How strongly systems of a recipe remember each unit of the data, measured on a pool of systems trained on halves."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from auditkit.battery import primary_of
from auditkit.builds import Progress, System, Train, Workshop, make, read, silent
from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset, Floats
from auditkit.deletion import DeletionRequest, Regime, Share, candidates
from auditkit.errors import ConfigurationError
from auditkit.evidence import Case, Evidence, Reading
from auditkit.linear import LinearAttack
from auditkit.plan import ALL_ACCESS, seed_of
from auditkit.plugins import attacks
from auditkit.store import Store


@dataclass(frozen=True, eq=False)
class Pool:
    """How the systems are trained that memory is measured on.

    Attributes:
        recipe: theirs; best the audited one.
        size: how many, an even number of at least 4. Every unit is held by half of them.
        store: where they are kept, so that they are trained once; None keeps them for one call.
        device: torch device.
        progress: called with a text and how much of how much is done.

    Raises:
        ConfigurationError: the size is odd or below 4.
    """

    recipe: Recipe
    size: int = 16
    store: Path | None = None
    device: str = "cpu"
    progress: Progress = silent

    def __post_init__(self) -> None:
        if self.size < 4 or self.size % 2:
            raise ConfigurationError(f"a pool needs an even size of 4 or more, got {self.size}")


def gaps(data: Dataset, regime: Regime, pool: Pool, *, modalities: tuple[str, ...] = (), seed: int = 0) -> Floats:
    """What the primary attack reads of systems that hold a unit, less what it reads of others, for every candidate.

    The systems are trained on the data without a random half of *all* units, in complementary pairs. The signal is that
    of the regime's primary attack, meaned over a unit's points: the z of the score within the user's row in interaction
    requests, the z of what a fresh user or item that is told half gets of the other half in theirs. (The units' own
    rows would rank those first whose rows know most, and not those that the rest of a system remembers.) An audit
    trains references of its own, on other shares and seeds: a request of the largest gaps is an attack on the method's
    worst case, and no reference of the audit was looked at to choose it. Chance is in every gap, the largest flatter.

    Args:
        data: whose units are measured.
        regime: the kind of unit.
        pool: how the systems are trained.
        modalities: features that go with a unit's item.
        seed: of the halves and of training.

    Returns:
        float64 [n_candidates] in the order of `auditkit.deletion.candidates`; NaN where nothing can be read, such as a
        pair that is never offered, or in user and item requests a unit of fewer than 4 pairs.

    Raises:
        NotApplicableError: systems of the recipe cannot be asked the primary attack's probe.
    """
    users, items, _ = candidates(data, regime)
    everything = DeletionRequest(regime, users, items, modalities)
    systems = [_system(pool, k, seed) for k in range(pool.size)]
    units = pd.DataFrame({"user": users, "item": items, "group": "forget"})
    attack = attacks()[primary_of(regime, ALL_ACCESS)].variants()[0]
    assert isinstance(attack, LinearAttack)
    with ExitStack() as stack:
        home = pool.store or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shop = Workshop(data, everything, Store(home), pool.device)
        make(systems, shop, pool.progress)
        reading = _read(attack, systems, Case(data, everything, units), shop, pool.progress, seed)
    held = np.stack([system.build.held(everything) for system in systems])
    evidence = Evidence(tuple(systems), units, held, held, {attack.probes[0]: reading})
    fitted, usable = attack.fit(evidence)
    gap = (fitted.mean_in - fitted.mean_out)[None, usable]
    means: Floats = Reading(reading.points[usable], {}, len(users)).per_unit(gap)[0]
    return means


def _read(
    attack: LinearAttack, systems: Sequence[System], case: Case, shop: Workshop, progress: Progress, seed: int
) -> Reading:
    """The one signal that the attack reads, of every system: the others would only take memory."""
    probe, signal = attack.probes[0], attack.read_signal
    points, answers = probe.points(case, rng=np.random.default_rng([seed, 0])), []
    for k, system in enumerate(systems):
        progress(f"probing {system.name}", k, len(systems))
        model, _ = read(system.build, shop)
        answers.append(probe.read(model, points, case, rng=np.random.default_rng([seed, 1]))[signal])
    return Reading(points, {signal: np.stack(answers)}, len(case.units))


def _system(pool: Pool, k: int, seed: int) -> System:
    """One of the pool: the first of a pair lacks one half of the units, the second the other."""
    order = seed_of(seed, "memorised half", k // 2)
    erased = Share(0.0, 0.5, order) if k % 2 == 0 else Share(0.5, 1.0, order)
    return System(f"half-{k + 1}", "reference", Train(pool.recipe, erased, seed_of(seed, "memorised", k)), "reference")
