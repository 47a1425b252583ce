"""Epsilon of a system's unit scores: nothing where there is nothing, and chosen and counted on different units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from auditkit.contracts import Scores
from auditkit.data.dataset import Floats
from auditkit.deletion import Regime
from auditkit.disclosure import epsilon_low
from auditkit.evidence import Evidence, Targets
from auditkit.findings import read_system
from auditkit.record import Estimate
from auditkit.statistics.epsilon import epsilon_lower, epsilon_split
from auditkit.yardstick import calibrate

from .gaussian import Linear, Raw, Signal, World, rules


@dataclass(frozen=True)
class Distance(Raw):
    """A distance: it counts nowhere."""

    name: ClassVar[str] = "distance"
    fails_in: ClassVar[frozenset[Regime]] = frozenset()


@dataclass(frozen=True)
class Fussy(Raw):
    """It breaks on fewer than 200 points."""

    name: ClassVar[str] = "fussy"

    def score(self, targets: Targets, background: Evidence) -> Scores:
        if len(targets.readings[Signal()].points) < 200:
            raise ZeroDivisionError("too few")
        return super().score(targets, background)


@dataclass(frozen=True, eq=False)
class Halved(World):
    """A world of which the first 40% of the users are tuned on; two units a user."""

    @property
    def units(self) -> pd.DataFrame:
        made = super().units
        made["cluster"] = np.arange(self.n_units) // 2
        made["split"] = np.where(np.arange(self.n_units) < 0.4 * self.n_units, "tune", "judge")
        return made


def bound(world: World, *values: Floats, attack: Raw | Linear | None = None, tuned: bool = False) -> Estimate:
    attack, background, evidence = attack or Linear(), world.background(), world.audited(*values)
    part = background.of_split("judge")
    yardstick = calibrate(attack, part, rules())
    judged = read_system(yardstick, evidence.of_split("judge"))
    return epsilon_low(yardstick, judged, evidence, background.of_split("tune") if tuned else None, seed=5)


def test_an_original_discloses_and_a_gold_does_not() -> None:
    world = World(n_units=600, strength=5.0, seed=1)
    found = bound(world, world.original())
    assert found.value is not None
    assert found.value > 0.5
    assert (found.low, found.high, found.confidence) == (None, None, None)
    assert "one-sided 95% lower bound of the first run against one Gold" in found.method
    assert "taken as independent" in found.method


@pytest.mark.parametrize("tuned", [False, True])
def test_golds_disclose_in_at_most_a_twentieth(tuned: bool) -> None:
    found = []
    for seed in range(60):
        world = Halved(n_units=200, references=8, golds=4, seed=seed)
        found.append(bound(world, world.gold(), tuned=tuned).value)
    assert np.mean([v is not None and v > 0 for v in found]) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 60)


def test_first_run_against_first_gold_with_whole_clusters() -> None:
    world = Halved(n_units=400, strength=4.0, seed=2)
    background, runs = world.background(), (world.original(), world.gold())
    yardstick = calibrate(Linear(), background.of_split("judge"), rules())
    judged = read_system(yardstick, world.audited(*runs).of_split("judge"))
    gold = yardstick.scores.level[background.rows("gold")[0]][judged.units]
    clusters = world.units["cluster"].to_numpy()[judged.units]
    naive = epsilon_split(judged.runs[0], gold, clusters_positive=clusters, clusters_negative=clusters, seed=5)
    found = epsilon_low(yardstick, judged, world.audited(*runs), None, seed=5)
    assert (found.value, found.n_units) == (naive.value, naive.n_positive)


def test_tuned_units_choose_and_judged_ones_count() -> None:
    world = Halved(n_units=500, strength=5.0, seed=3)
    run = world.original()
    found = bound(world, run, tuned=True)
    assert found.value is not None
    assert found.value > 0.5
    assert "threshold chosen on the units tuned on" in found.method
    # One unit of each of the 150 judged clusters.
    assert found.n_units == 150
    # No threshold, no claim: what the tuned units do not answer chooses nothing.
    masked = run.copy()
    masked[:200] = np.nan
    assert bound(world, masked, tuned=True).value is None
    # Direction is chosen there too: over-forgotten where it counts, kept where it chooses, discloses nothing.
    mixed = np.where(np.arange(500) < 200, run, world.gold() - 3 * world.gain)
    assert bound(world, mixed, tuned=True).value == 0


def test_the_counted_bound_is_clopper_pearson_at_the_chosen_threshold() -> None:
    """A signal so strong that every guess is right: the bound is what so many right guesses show."""
    world = Halved(n_units=500, strength=60.0, seed=4)
    found = bound(world, world.original() + 50.0, attack=Raw(), tuned=True)
    assert found.value == epsilon_lower(150, 150, 0, 150).value


def test_distances_bound_nothing() -> None:
    world = World(n_units=200, seed=6)
    found = bound(world, world.original(), attack=Distance())
    assert found == Estimate(note="its scores are distances without a direction, which bound no epsilon")


def test_a_plug_in_that_breaks_on_the_tuned_units_bounds_nothing() -> None:
    world = Halved(n_units=400, strength=5.0, seed=7)
    found = bound(world, world.original(), attack=Fussy(), tuned=True)
    assert found.value is None
    assert found.note == "no scores of the tuned units: ZeroDivisionError: too few"


def test_one_cluster_cannot_be_halved() -> None:
    single = World(n_units=1, per_unit=300, seed=8)
    found = bound(single, single.original())
    assert found.value is None
    assert found.note.startswith("no epsilon: ")
