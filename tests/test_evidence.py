from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from auditkit.builds import System, Train
from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset, Interactions
from auditkit.deletion import EVERYBODY, NOBODY, DeletionRequest, Regime, Share
from auditkit.errors import DataError
from auditkit.evidence import Reading, entitlement, fix_points, make_case, observe
from auditkit.probes import Lists, Pairs
from auditkit.testing.examples import (
    REGIMES,
    OffersNothing,
    small_case,
    small_data,
    small_evidence,
    small_request,
    small_systems,
)


@pytest.mark.parametrize("regime", REGIMES)
def test_request_units_come_first_in_their_order(regime: Regime) -> None:
    case, request = small_case(regime), small_request(regime)
    named = case.units[: request.n_units]
    assert (named["group"] == "forget").all()
    assert_array_equal(named["user"], request.users)
    assert_array_equal(named["item"], request.items)
    assert not (case.units["group"][request.n_units :] == "forget").any()
    assert (case.units["split"] == "judge").all()


@pytest.mark.parametrize("regime", REGIMES)
def test_compared_units_are_what_they_claim(regime: Regime) -> None:
    case, data, request = small_case(regime), small_data(), small_request(regime)
    pairs = set(zip(case.retain.train.users, case.retain.train.items, strict=True))
    tests = set(zip(data.test.users, data.test.items, strict=True))
    for row in case.units.itertuples():
        if row.group == "retain" and regime == "interaction":
            assert (row.user, row.item) in pairs
        if row.group == "outside":
            assert (row.user, row.item) in tests
        if row.group == "retain" and regime != "interaction":
            assert row.user not in set(request.users) - {-1}
            assert row.item not in set(request.items) - {-1}
    assert set(case.units["group"]) == {"forget", "retain", *({"outside"} if regime == "interaction" else ())}


@pytest.mark.parametrize("regime", REGIMES)
def test_activity_popularity_and_cluster_against_counts(regime: Regime) -> None:
    units, train = small_case(regime).units, small_data().train
    for unit in range(0, len(units), max(1, len(units) // 20)):
        user, item, activity, popularity, cluster = (
            int(units[c][unit]) for c in ("user", "item", "activity", "popularity", "cluster")
        )
        assert activity == (train.users == user).sum()
        assert popularity == (train.items == item).sum()
        assert cluster == (user if user >= 0 else item)


@pytest.mark.parametrize("regime", REGIMES)
def test_pairs_against_a_loop(regime: Regime) -> None:
    case, train = small_case(regime), small_data().train
    naive = []
    for unit, (user, item) in enumerate(zip(case.units["user"], case.units["item"], strict=True)):
        if user >= 0 and item >= 0:
            naive.append((unit, user, item))
        else:
            naive += [
                (unit, u, i)
                for u, i in zip(train.users, train.items, strict=True)
                if user in (-1, u) and item in (-1, i)
            ]
    pairs = case.pairs()
    assert pairs["unit"].is_monotonic_increasing
    found = list(zip(pairs["unit"], pairs["user"], pairs["item"], strict=True))
    assert len(found) == len(naive)
    assert set(found) == set(naive)


def test_same_seed_same_units_and_another_seed_others() -> None:
    one, same, other = (make_case(small_data(), small_request("interaction"), seed=s) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(one.units, same.units)
    assert not one.units.equals(other.units)


def test_a_request_outside_the_data_is_refused() -> None:
    with pytest.raises(DataError, match="names user 60"):
        make_case(small_data(), DeletionRequest("user", np.array([60]), np.array([-1])), seed=0)


def test_sums_and_means_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    points = pd.DataFrame({"unit": [2, 0, 2, 4, 4, 4], "user": 0, "item": 0})
    values = rng.standard_normal((3, 6))
    values[1, 3] = np.nan
    reading = Reading(points, {"z": values}, 6)
    for found, reduce in ((reading.sums(values), np.sum), (reading.per_unit(values), np.mean)):
        assert found.shape == (3, 6)
        for system in range(3):
            for unit in range(6):
                mine = values[system, points["unit"] == unit]
                assert_allclose(found[system, unit], reduce(mine) if len(mine) else np.nan)
    assert np.isnan(reading.sums(values)[1, 4])


def test_entitlement_follows_builds() -> None:
    case, request = small_case("user"), small_request("user")
    recipe, half = Recipe.of("bpr-mf"), Share(0.0, 0.5, 3)
    systems = [System(str(s), "reference", Train(recipe, s, 0)) for s in (NOBODY, EVERYBODY, half)]
    seen, held = entitlement(systems, case)
    assert_array_equal(held[:, case.forget], [[True] * 6, [False] * 6, ~request.units(half)])
    assert_array_equal(seen, held)
    assert held[:, ~case.forget].all()
    inter = small_case("interaction")
    _, held = entitlement(systems[:1], inter)
    assert not held[:, inter.units["group"] == "outside"].any()


@pytest.mark.parametrize("regime", REGIMES)
def test_every_system_is_asked_the_same(regime: Regime) -> None:
    """The order of the systems, and who else is asked, changes no answer."""
    case, systems = small_case(regime), small_systems(regime)
    questions = fix_points((Pairs(), Lists()), case, seed=1)
    whole = small_evidence((Pairs(), Lists()), regime)
    assert whole is not None
    backwards = observe(reversed(systems), questions, case, seed=1)
    for probe, reading in backwards.readings.items():
        for name, values in reading.values.items():
            assert_array_equal(values[::-1], whole.readings[probe].values[name])
    assert_array_equal(backwards.held[::-1], whole.held)


def test_equal_probes_are_asked_once() -> None:
    assert list(fix_points([Pairs(), Pairs(), Pairs(negatives=7)], small_case("user"), seed=0)) == [Pairs(), Pairs(7)]


def test_a_probe_that_one_system_cannot_answer_is_left_out() -> None:
    from auditkit.attacks.fold_in import FoldIn

    class ScoresOnly:
        n_users, n_items = 60, 40
        score = OffersNothing(60, 40).score

    case = small_case("user")
    systems = [*small_systems("user")[:1], (small_systems("user")[1][0], ScoresOnly())]
    evidence = observe(systems, fix_points((FoldIn(), Pairs()), case, seed=0), case, seed=0)
    assert set(evidence.readings) == {Pairs()}


def test_take_and_rows() -> None:
    evidence = small_evidence((Pairs(),), "user")
    assert evidence is not None
    assert_array_equal(evidence.rows("original", "unlearned"), [0, 1, 14])
    part = evidence.take([14, 0])
    assert [s.role for s in part.systems] == ["unlearned", "original"]
    assert_array_equal(part.readings[Pairs()].values["z"], evidence.readings[Pairs()].values["z"][[14, 0]])
    assert_array_equal(part.held, evidence.held[[14, 0]])


def test_a_part_of_the_evidence_holds_only_its_units() -> None:
    evidence = small_evidence((Pairs(),), "interaction")
    assert evidence is not None
    assert evidence.of_split("judge").readings[Pairs()] is evidence.readings[Pairs()]
    tuned = np.arange(len(evidence.units)) % 3 == 0
    split = replace(evidence, units=evidence.units.assign(split=np.where(tuned, "tune", "judge")))
    whole = evidence.readings[Pairs()]
    parts = {name: split.of_split(name) for name in ("tune", "judge")}
    for name, mine in (("tune", tuned), ("judge", ~tuned)):
        reading = parts[name].readings[Pairs()]
        assert_array_equal(np.unique(reading.unit), np.unique(whole.unit[mine[whole.unit]]))
        assert_array_equal(reading.values["z"], whole.values["z"][:, mine[whole.unit]])
        assert_array_equal(np.isnan(reading.sums(reading.values["z"])).all(0), ~mine)
        assert reading.n_units == whole.n_units
        assert_array_equal(parts[name].held, evidence.held)


def test_a_case_without_test_pairs_has_no_outside() -> None:
    data = small_data()
    bare = Dataset("bare", data.n_users, data.n_items, data.train, test=Interactions.empty())
    assert "outside" not in set(make_case(bare, small_request("interaction"), seed=0).units["group"])
