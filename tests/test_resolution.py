"""What an audit can see before any unlearned system is read, against what it sees then."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from scipy import stats

from auditkit.contracts import Attack, Needs, Probe
from auditkit.findings import read_system
from auditkit.linear import LinearAttack
from auditkit.record import Settle
from auditkit.resolution import power_at_half, remedies, settle
from auditkit.statistics.power import attainable_margin
from auditkit.yardstick import Yardstick, calibrate

from .gaussian import Linear, Signal, World, rules


@dataclass(frozen=True)
class Weighted(LinearAttack):
    """The linear score as the primary attacks have it, which knows the noise of its weights."""

    name: ClassVar[str] = "linear"
    needs: ClassVar[Needs] = Needs(references=4)

    @property
    def probes(self) -> tuple[Probe, ...]:
        return (Signal(),)

    @property
    def read_signal(self) -> str:
        return "z"


def calibrated(world: World, margin: float = 0.1, attack: Attack | None = None) -> Yardstick:
    return calibrate(attack or Linear(), world.background(), rules(margin))


# --- power ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("golds", "strength", "units"), [(8, 0.9, 20), (4, 1.0, 60), (12, 0.5, 30)])
def test_power_is_how_often_a_half_is_found(golds: int, strength: float, units: int) -> None:
    """Promised from the Golds, on the average over audits, against systems that really hold half of the units."""
    promised, found = [], []
    for seed in range(30):
        world = World(n_units=units, strength=strength, golds=golds, references=16, originals=8, seed=seed)
        yardstick = calibrated(world)
        if not yardstick.power:
            continue
        promised.append(power_at_half(yardstick))
        gain = world.gain.copy()
        # Exactly half of the effective dose, whichever units weigh most.
        world.gain[:] = gain / 2
        for _ in range(8):
            level = read_system(yardstick, world.audited(world.original())).level
            found.append(level.bounds(0.05)[0] > 0)
    assert len(promised) > 15
    # Three standard errors of 30 worlds, each of which promises by a scatter it only estimates.
    assert np.mean(promised) == pytest.approx(np.mean(found), abs=0.15)


def test_power_is_that_of_the_statistics_with_the_originals_noise_at_one_half() -> None:
    yardstick = calibrated(World(n_units=40, strength=1.0, golds=6, references=16, seed=1))
    scale = yardstick.scale(yardstick.scores.level, yardstick.judged)
    error = np.sqrt(scale.sd_golds**2 * (1 + 1 / 6) + (0.5 * scale.gap_error) ** 2 + yardstick.bridges[0] / 4)
    naive = stats.nct.sf(stats.t.isf(0.05, 5), 5, 0.5 / error)
    assert 0.05 < naive < 0.999
    assert power_at_half(yardstick) == pytest.approx(naive, rel=1e-9)


def test_a_deterministic_procedure_is_sure_to_find_it() -> None:
    exact = World(n_units=60, strength=5.0, golds=6, originals=1, references=8, seed=1)
    background = exact.background()
    values = background.readings[Signal()].values["z"]
    values[background.rows("gold")] = 0.25
    # Not 1 exactly: that a half is read as a half is known from 8 references.
    assert power_at_half(calibrate(Linear(), background, rules())) > 1 - 1e-9


def test_power_rises_with_golds_and_is_sure_for_a_strong_trace() -> None:
    powers = [
        np.mean([power_at_half(calibrated(World(n_units=60, golds=g, references=16, seed=s))) for s in range(12)])
        for g in (3, 6, 20)
    ]
    assert powers[0] < powers[1] < powers[2]
    assert power_at_half(calibrated(World(n_units=400, strength=4.0))) == pytest.approx(1.0)


def test_an_original_that_is_not_found_leaves_none() -> None:
    assert power_at_half(calibrated(World(n_units=40, strength=0.01, references=8))) == 0.0


# --- what would settle ------------------------------------------------------------------------------------------


def test_an_attainable_margin_needs_nothing_and_no_pattern_can_be_helped_by_nothing() -> None:
    world = World(n_units=400, references=32, seed=5)
    assert settle(calibrated(world, margin=0.9)) is None
    few = World(n_units=15, strength=3.0, references=16, seed=5)
    assert settle(calibrated(few, margin=0.01)) is None


def test_each_remedy_alone_is_enough_and_a_little_less_is_not() -> None:
    yardstick = calibrated(World(n_units=400, references=32, seed=5), margin=0.15, attack=Weighted())
    assert yardstick.attainable is not None
    assert yardstick.attainable > 0.15
    found, null = settle(yardstick), yardstick.null_readings
    assert found is not None
    assert null is not None
    assert (found.golds_now, found.runs_now, found.units_now, found.references_now) == (8, 1, 400, 32)
    assert found.attainable == pytest.approx(yardstick.attainable, rel=0.03)

    def attainable(golds: int = 8, runs: int = 1, units: int = 400) -> float:
        rng = np.random.default_rng(1)
        return attainable_margin(
            *null, alpha=0.05, rng=rng, golds=golds, runs=runs, units_factor=units / 400, bridges=yardstick.bridges
        )

    assert found.units is not None
    assert attainable(units=found.units) == pytest.approx(0.15, rel=0.03)
    assert found.runs is not None
    assert attainable(runs=found.runs) <= 0.15 * 1.03
    assert attainable(runs=found.runs - 1) > 0.15 * 0.97


def test_several_runs_may_be_enough_already() -> None:
    yardstick = calibrated(World(n_units=400, references=32, seed=5), margin=0.15)
    single = settle(yardstick)
    assert single is not None
    assert single.runs is not None
    assert settle(yardstick, runs=single.runs) is None
    fewer = settle(yardstick, runs=single.runs - 1)
    assert fewer is None or fewer.runs == single.runs


def test_references_are_a_remedy_only_of_weights_that_come_from_them() -> None:
    world = World(n_units=400, strength=1.0, references=8, seed=2)
    assert settle(calibrated(world, margin=0.2)) is not None
    plain, weighted = (settle(calibrated(replace(world), 0.2, attack)) for attack in (Linear(), Weighted()))
    assert plain is not None
    assert weighted is not None
    assert plain.references is None
    assert weighted.references is None or weighted.references > 8


def test_weight_noise_is_what_the_truth_says() -> None:
    """With gains d and unit noise, c = 2 / mean d^2; and Golds scatter by sqrt(1 + 2c/K) as it promises."""
    world = World(n_units=2_000, strength=1.0, references=32, seed=3)
    c = Weighted().weight_noise(world.background())
    assert c is not None
    assert c == pytest.approx(2 / float((world.gain**2).mean()), rel=0.1)
    sd = {}
    for references in (8, 64):
        many = World(n_units=500, strength=1.0, golds=300, references=references, seed=4)
        yardstick = calibrated(many, attack=Weighted())
        sd[references] = yardstick.scale(yardstick.scores.level, yardstick.judged).sd_golds
    promised = np.sqrt((1 + 2 * c / 8) / (1 + 2 * c / 64))
    assert sd[8] / sd[64] == pytest.approx(promised, rel=0.12)


def test_references_without_a_contrast_have_no_noise_to_speak_of() -> None:
    background = World(n_units=200, strength=0.0, references=8, seed=1).background()
    assert Weighted().weight_noise(background) is None or Weighted().weight_noise(background) > 50  # type: ignore[operator]
    nobody = background.take(background.rows("gold", "original"))
    assert Weighted().weight_noise(nobody) is None


# --- words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("golds", "runs", "units", "references", "said"),
    [
        (16, 3, 9_000, None, "what would settle it: 16 Golds (now 8), or 3 runs of the method (now 1), or 9,000 units "
         "in the request (now 4,000); more references alone cannot"),
        (None, 5, None, None, "what would settle it: 5 runs of the method (now 1); more Golds or units in the request "
         "or references alone cannot"),
        (None, None, None, None, "no one change alone would settle it"),
        (16, 3, 9_000, 64, "what would settle it: 16 Golds (now 8), or 3 runs of the method (now 1), or 9,000 units "
         "in the request (now 4,000), or 64 references (now 32)"),
    ],
)  # fmt: skip
def test_remedies_in_words(
    golds: int | None, runs: int | None, units: int | None, references: int | None, said: str
) -> None:
    found = Settle(
        golds=golds, golds_now=8, runs=runs, units=units, units_now=4_000, references=references, references_now=32,
        attainable=0.2,
    )  # fmt: skip
    assert remedies(found) == said
