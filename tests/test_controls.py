from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from auditkit.contracts import Attack
from auditkit.controls import blind_auc, check_controls
from auditkit.data.dataset import Dataset, Interactions
from auditkit.deletion import DeletionRequest, select
from auditkit.evidence import Case, Evidence, make_case
from auditkit.record import Control
from auditkit.testing.examples import small_case, small_data, small_request
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


def test_without_a_primary_only_the_blind_attack_is_left() -> None:
    case = small_case("interaction")
    found, broken = check_controls(case, World().background(), {}, rules())
    assert [c.name for c in found] == ["blind metadata attack"]
    assert broken == {}


# --- the attacker who sees no model ------------------------------------------------------------------------------


def test_random_requests_look_like_test_pairs() -> None:
    data = Dataset.synthetic()
    area = blind_auc(make_case(data, select(data, "interaction", share=0.05), seed=0))
    assert area.low is not None
    assert area.high is not None
    assert area.low <= 0.55
    assert area.high >= 0.45


def test_a_popular_request_is_found_by_popularity_alone() -> None:
    data = Dataset.synthetic()
    case = make_case(data, select(data, "interaction", "core", share=0.05), seed=0)
    assert blind_auc(case).value == pytest.approx(1.0, abs=0.1)
    found, broken = check_controls(case, World().background(), {}, rules())
    assert not found[0].ok
    assert found[0].observed.startswith("AUC 0.9")
    # It invalidates AUC against outside, never the verdict that compares with Gold.
    assert broken == {}


def test_tuned_units_are_not_looked_at() -> None:
    data = Dataset.synthetic()
    request = select(data, "interaction", share=0.05)
    case = make_case(data, request, seed=0, tune=0.4)
    judged = Case(data, request, case.units[case.judged])
    assert blind_auc(case) == blind_auc(judged)
    assert blind_auc(case) != blind_auc(make_case(data, request, seed=0))


def test_a_forgotten_pair_does_not_count_itself() -> None:
    """Degrees come from the retain set: with all else equal, membership alone must not be seen in them."""
    users = np.repeat(np.arange(40), 10)
    items = np.tile(np.arange(10), 40)
    order = np.random.default_rng(0).permutation(400)
    train, test = order[:300], order[300:]
    data = Dataset(
        "plain", 40, 10, Interactions(users[train], items[train]), test=Interactions(users[test], items[test])
    )
    gone = np.random.default_rng(1).permutation(300)[:100]
    request = DeletionRequest("interaction", data.train.users[gone], data.train.items[gone])
    area = blind_auc(make_case(data, request, seed=0))
    assert area.low is not None
    assert area.high is not None
    assert area.low < 0.5 + 0.05
    assert area.high > 0.5 - 0.05


@pytest.mark.parametrize("kept", ["forget", "outside"])
def test_one_class_alone_has_no_area(kept: str) -> None:
    case = small_case("interaction")
    part = Case(small_data(), small_request("interaction"), case.units[case.units["group"] == kept])
    area = blind_auc(part)
    assert area.value is None
    assert area.note == "too few users or no outside pairs"


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
