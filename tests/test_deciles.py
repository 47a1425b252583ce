"""Doses by popularity and activity: an average cannot hide a tenth, and fresh Golds are left in peace."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import stats

from auditkit.data.dataset import Floats
from auditkit.deciles import deciles, degrees_of, outside_p, quantile_groups
from auditkit.findings import read_system
from auditkit.record import Decile
from auditkit.statistics.dose import LinearScale, Reading
from auditkit.statistics.multiplicity import holm
from auditkit.yardstick import Yardstick, calibrate

from .gaussian import Linear, World, rules


@dataclass(frozen=True, eq=False)
class Ranked(World):
    """A world in which units differ in popularity, and users in activity."""

    popularity: str = "ranked"

    @property
    def units(self) -> pd.DataFrame:
        made, ids = super().units, np.arange(self.n_units)
        made["popularity"] = ids // 4 if self.popularity == "ranked" else 7
        made["activity"] = ids[::-1] % 50
        return made


@cache
def yardstick_of(world: Ranked, margin: float) -> Yardstick:
    return calibrate(Linear(), world.background(), rules(margin))


def groups(world: Ranked, *values: Floats, margin: float = 0.1) -> list[Decile]:
    yardstick = yardstick_of(world, margin)
    return deciles(yardstick, read_system(yardstick, world.audited(*values)))


@pytest.fixture(scope="module")
def world() -> Ranked:
    return Ranked(n_units=400, strength=2.0, references=32, seed=4)


# --- groups -----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 30), max_size=300))
def test_groups_keep_order_and_ties_and_leave_no_gap(values: list[int]) -> None:
    found = quantile_groups(np.array(values, np.int64))
    assert len(found) == len(values)
    for group in range(found.max(initial=-1) + 1):
        inside = np.array(values)[found == group]
        assert len(inside)
        outside = np.array(values)[found > group]
        assert not len(outside) or inside.max() < outside.min()
    assert found.max(initial=0) < min(10, max(1, len(values) // 5))


def test_distinct_values_make_ten_equal_groups() -> None:
    values = np.random.default_rng(0).permutation(400)
    assert_array_equal(quantile_groups(values), pd.qcut(pd.Series(values), 10, labels=False))


def test_one_unit_a_constant_and_nothing() -> None:
    assert_array_equal(quantile_groups(np.array([3])), [0])
    assert_array_equal(quantile_groups(np.full(90, 3)), np.zeros(90))
    assert len(quantile_groups(np.empty(0, np.int64))) == 0


def test_larger_groups_can_be_asked_for() -> None:
    assert quantile_groups(np.arange(47), 20).max() == 1
    assert quantile_groups(np.arange(39), 20).max() == 0


def test_a_long_tie_is_one_group_beside_the_others() -> None:
    values = np.concatenate([np.ones(80, np.int64), np.arange(2, 22)])
    found = quantile_groups(values)
    assert set(found[:80]) == {0}
    assert found.max() == 2


@pytest.mark.parametrize(
    ("user", "item", "expected"),
    [(3, 5, ("popularity", "activity")), (3, -1, ("activity",)), (-1, 5, ("popularity",))],
)
def test_users_have_an_activity_and_items_a_popularity(user: int, item: int, expected: tuple[str, ...]) -> None:
    assert degrees_of(pd.DataFrame({"user": [user, user], "item": [item, item]})) == expected
    assert degrees_of(pd.DataFrame({"user": [], "item": []})) == ()


# --- readings ---------------------------------------------------------------------------------------------------


def test_every_group_is_read_on_its_own_scale(world: Ranked) -> None:
    value = world.signal(np.arange(400) % 2 == 0)
    yardstick = yardstick_of(world, 0.1)
    judged = read_system(yardstick, world.audited(value))
    found = deciles(yardstick, judged)
    assert [g.by for g in found] == ["popularity"] * 10 + ["activity"] * 10
    assert sum(g.n_units for g in found) == 800
    scores, background = yardstick.scores.level, yardstick.background
    for group in found:
        degree = world.units[group.by].to_numpy()
        units = (degree >= group.low) & (degree <= group.high)
        assert units.sum() == group.n_units
        golds, originals = scores[background.rows("gold")][:, units], scores[background.rows("original")][:, units]
        naive = yardstick.lines.level.map(LinearScale(golds, originals).read(judged.runs[:, units]))
        assert group.residual_dose.value == pytest.approx(naive.value, abs=1e-12)
        assert (group.residual_dose.low, group.residual_dose.high) == pytest.approx(naive.bounds(0.05))
    assert np.mean([g.residual_dose.value for g in found]) == pytest.approx(0.5, abs=0.1)


def test_p_values_are_two_sided_holm_over_all_groups(world: Ranked) -> None:
    yardstick = yardstick_of(world, 0.1)
    found = groups(world, world.signal(np.arange(400) < 60))
    naive = []
    for group in found:
        assert group.residual_dose.value is not None
        assert group.residual_dose.high is not None
        degrees = len(yardstick.background.rows("gold")) - 1
        error = (group.residual_dose.high - group.residual_dose.value) / stats.t.isf(0.05, degrees)
        size = abs(group.residual_dose.value)
        naive.append(stats.t.sf((size - 0.1) / error, degrees) + stats.t.sf((size + 0.1) / error, degrees))
    assert [g.p_value for g in found] == pytest.approx(list(holm(np.minimum(naive, 1))), rel=1e-9)


def test_the_p_value_is_the_largest_over_the_interval_null() -> None:
    reading, margin, rng = Reading(0.3, 0.1, 7.0), 0.1, np.random.default_rng(0)
    noise = rng.standard_t(7, 400_000) * 0.1
    rates = [(np.abs(true + noise) >= 0.3).mean() for true in (-margin, 0.0, 0.05, margin)]
    assert outside_p(reading, margin) == pytest.approx(max(rates), abs=0.003)
    assert outside_p(Reading(0.0, 0.1, 7.0), margin) == 1.0


def test_the_farthest_group_is_marked_once(world: Ranked) -> None:
    found = groups(world, world.signal(np.arange(400) < 40))
    marked = [g for g in found if g.worst]
    assert len(marked) == 1
    assert abs(marked[0].residual_dose.value or 0) == max(abs(g.residual_dose.value or 0) for g in found)


def test_a_constant_column_is_one_group_that_reads_the_level() -> None:
    flat = Ranked(n_units=200, strength=2.0, popularity="constant", seed=6)
    values = flat.signal(np.arange(200) % 4 == 0)
    yardstick = yardstick_of(flat, 0.1)
    judged = read_system(yardstick, flat.audited(values))
    first, *others = deciles(yardstick, judged)
    assert (first.by, first.low, first.high, first.n_units) == ("popularity", 7, 7, 200)
    assert first.residual_dose.value == pytest.approx(judged.level.value)
    assert {g.by for g in others} == {"activity"}


def test_a_group_whose_original_is_not_found_has_no_reading() -> None:
    faint = Ranked(n_units=400, strength=2.0, references=32, seed=9)
    faint.gain[:40] = 0.0
    found = groups(faint, faint.gold())
    assert found[0].residual_dose.value is None
    assert found[0].p_value is None
    assert not found[0].worst
    assert found[0].residual_dose.note == "the original does not stand out from the Golds in this group"
    assert sum(g.worst for g in found) == 1


def test_one_unit_is_one_group() -> None:
    single = Ranked(n_units=1, per_unit=400, strength=2.0, references=32, seed=2)
    found = groups(single, single.gold())
    assert [(g.by, g.n_units) for g in found] == [("popularity", 1), ("activity", 1)]
    assert [g.worst for g in found] == [True, False]


def test_units_without_an_answer_are_in_no_group(world: Ranked) -> None:
    values = world.gold()
    values[:100] = np.nan
    found = groups(world, values)
    assert sum(g.n_units for g in found if g.by == "popularity") == 300
    assert min(g.low for g in found if g.by == "popularity") == 25


# --- many audits ------------------------------------------------------------------------------------------------


def test_what_kept_only_the_tail_is_found_in_the_tail(world: Ranked) -> None:
    """The least popular tenth is kept: a level of a tenth, and a dose of one there."""
    tail = np.arange(400) < 40
    for _ in range(5):
        values = world.signal(tail)
        yardstick = yardstick_of(world, 0.15)
        level = read_system(yardstick, world.audited(values)).level.value
        assert abs(level) < 0.2
        first, *others = [g for g in groups(world, values, margin=0.15) if g.by == "popularity"]
        assert first.worst
        assert first.p_value is not None
        assert first.p_value < 0.01
        assert first.residual_dose.value == pytest.approx(1.0, abs=0.25)
        assert all((g.p_value or 1) > 0.05 for g in others)


def test_fresh_golds_are_flagged_at_most_alpha() -> None:
    """Any of twenty groups beyond a margin near 0, in 400 audits of 40 worlds: family-wise error at most 5%."""
    flagged = []
    for seed in range(40):
        small = Ranked(n_units=200, strength=2.0, golds=8, references=8, seed=seed)
        yardstick = calibrate(Linear(), small.background(), rules(0.001))
        for _ in range(10):
            found = deciles(yardstick, read_system(yardstick, small.audited(small.gold())))
            flagged.append(any((g.p_value or 1) <= 0.05 for g in found))
    assert np.mean(flagged) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
