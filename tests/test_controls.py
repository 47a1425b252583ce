from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from auditkit.contracts import Attack
from auditkit.controls import check_controls
from auditkit.evidence import Evidence
from auditkit.record import Control
from auditkit.testing.examples import small_case
from auditkit.yardstick import calibrate

from .gaussian import Linear, Raw, Signal, World, rules

_CASE = small_case("user")


def controls(world: World, background: Evidence, margin: float = 0.35) -> tuple[dict[str, Control], dict[str, str]]:
    battery: tuple[Attack, ...] = (Linear(), Raw())
    yardsticks = {attack: calibrate(attack, background, rules(margin)) for attack in battery}
    found, broken = check_controls(_CASE, background, yardsticks, rules(margin))
    return {c.name: c for c in found}, broken


def with_answers(background: Evidence, name: str, values: np.ndarray) -> Evidence:
    row = next(k for k, s in enumerate(background.systems) if s.name == name)
    background.readings[Signal()].values["z"][row] = values
    return background


def test_a_sound_audit_has_sound_controls() -> None:
    world = World(n_units=300, references=32, seed=2)
    found, broken = controls(world, world.background())
    assert list(found) == ["extra Gold", "original", "half-erased"]
    assert broken == {}
    assert all(c.ok for c in found.values())
    assert found["extra Gold"].observed.split(",")[0] in ("PASS", "INCONCLUSIVE")
    level = float(found["half-erased"].observed.split()[1].rstrip(","))
    assert level == pytest.approx(0.5, abs=0.15)


def test_an_extra_gold_that_fails_makes_the_audit_invalid() -> None:
    world = World(n_units=300, references=32, seed=2)
    found, broken = controls(world, with_answers(world.background(), "control gold", world.original()))
    assert not found["extra Gold"].ok
    assert found["extra Gold"].observed.startswith("FAIL, level ")
    assert broken == {"extra Gold": found["extra Gold"].consequence}
    assert broken["extra Gold"].startswith("INVALID: ")


def test_an_extra_gold_that_merely_does_not_pass_is_printed() -> None:
    world = World(n_units=300, references=32, seed=2)
    found, broken = controls(world, world.background(), margin=0.01)
    assert found["extra Gold"].observed.startswith("INCONCLUSIVE")
    assert found["extra Gold"].ok
    assert broken == {}


def test_a_half_that_is_not_found_leaves_no_power() -> None:
    world = World(n_units=300, references=32, seed=2)
    for values in (world.gold(), np.full(300, np.nan)):
        found, broken = controls(world, with_answers(world.background(), "half-erased", values))
        assert not found["half-erased"].ok
        assert list(broken) == ["half-erased"]
        assert broken["half-erased"].startswith("INCONCLUSIVE: ")


def test_an_original_that_is_not_found_leaves_no_power() -> None:
    world = World(n_units=40, strength=0.01, references=8)
    found, broken = controls(world, world.background())
    assert not found["original"].ok
    assert broken["original"].startswith("INCONCLUSIVE: ")
    assert not found["half-erased"].ok


def test_without_a_primary_only_the_blind_attacks_are_left() -> None:
    case = small_case("interaction")
    found, broken = check_controls(case, World().background(), {}, rules())
    assert [c.name for c in found] == ["blind metadata attack", "blind content attack"]
    assert broken == {}


def test_user_and_item_requests_have_no_outside_pairs() -> None:
    assert isinstance(_CASE.units, pd.DataFrame)
    found, _ = check_controls(_CASE, World().background(), {}, rules())
    assert found == []


def test_one_person_cannot_be_halved() -> None:
    world = World(n_units=1, per_unit=60, strength=4.0)
    background = with_answers(world.background(), "half-erased", world.gold())
    row = next(k for k, s in enumerate(background.systems) if s.name == "half-erased")
    background.held[row] = False
    found, broken = controls(world, background)
    assert found["original"].ok
    assert found["half-erased"].ok
    assert found["half-erased"].observed == "not applicable: the half of 1 unit holds 0.00 of the dose"
    assert not broken
