"""The per-unit table: what stands in it is what the statistics say, unit by unit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from auditkit.findings import Judged, read_system
from auditkit.statistics.multiplicity import benjamini_hochberg
from auditkit.statistics.units import unit_p_values
from auditkit.unit_table import RATE, summarise_units, unit_table, unit_tests
from auditkit.yardstick import Yardstick, calibrate

from .gaussian import Linear, World, rules

HELD = np.arange(200) < 50


@pytest.fixture(scope="module")
def world() -> World:
    return World(n_units=200, strength=8.0, golds=12, references=16, seed=3)


@pytest.fixture(scope="module")
def yardstick(world: World) -> Yardstick:
    return calibrate(Linear(), world.background(), rules())


@pytest.fixture(scope="module")
def kept(world: World, yardstick: Yardstick) -> Judged:
    """Two runs that keep the first quarter; the last ten units are not answered."""
    runs = [world.signal(HELD) for _ in range(2)]
    runs[0][190:] = np.nan
    return read_system(yardstick, world.audited(*runs))


def test_tests_are_those_of_the_statistics_on_answered_units(yardstick: Yardstick, kept: Judged) -> None:
    tests = unit_tests(yardstick, kept)
    golds = yardstick.scores.level[yardstick.background.rows("gold")][:, :190]
    naive = unit_p_values(kept.runs, golds)
    assert_allclose(tests.p, naive.p, rtol=1e-12)
    assert_allclose(tests.q, benjamini_hochberg(naive.p), rtol=1e-12)
    assert tests.floor == naive.floor


def test_kept_units_are_told_and_forgotten_ones_are_not(yardstick: Yardstick, kept: Judged) -> None:
    tests = unit_tests(yardstick, kept)
    entry = summarise_units(tests, 12)
    assert entry.n_tested == 190
    assert entry.n_rejected == int((tests.q <= RATE).sum())
    assert entry.n_rejected_dependent <= entry.n_rejected
    assert entry.n_above == entry.n_rejected
    assert 35 <= entry.n_rejected <= 55
    assert entry.floor == pytest.approx(1 / (12 * 190 + 1))
    assert "12 Golds" in entry.method


def test_golds_are_told_from_golds_rarely(world: World, yardstick: Yardstick) -> None:
    """Any rejection at all, in 200 fresh Golds: at most the rate, since nothing is true to be found."""
    entries = [
        summarise_units(unit_tests(yardstick, read_system(yardstick, world.audited(world.gold()))), 12)
        for _ in range(200)
    ]
    assert np.mean([e.n_rejected > 0 for e in entries]) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_a_deterministic_procedure_reads_no_difference_in_rounding() -> None:
    exact = World(n_units=60, strength=5.0, golds=6, references=8, seed=1)
    background = exact.background()
    values = next(iter(background.readings.values())).values["z"]
    values[background.rows("gold")] = 0.25
    yardstick = calibrate(Linear(), background, rules())
    same = unit_tests(yardstick, read_system(yardstick, exact.audited(np.full(60, 0.25 + 1e-12))))
    assert summarise_units(same, 6).n_rejected == 0
    other = unit_tests(yardstick, read_system(yardstick, exact.audited(np.full(60, 0.25) + exact.gain)))
    assert summarise_units(other, 6).n_rejected == 60


def test_the_table_has_a_row_a_unit_and_columns_a_method(world: World, yardstick: Yardstick, kept: Judged) -> None:
    tests = unit_tests(yardstick, kept)
    # A method may be called like a yardstick: its columns are its own.
    table = unit_table(world.units, yardstick, {"gold": (kept, tests)})
    assert len(table) == 200
    columns = [
        "unit", *world.units.columns, "original_score", "gold_score",
        *(f"{name}:gold" for name in ("score", "deviation", "p", "q", "side")),
    ]  # fmt: skip
    assert list(table.columns) == columns
    level, background = yardstick.scores.level, yardstick.background
    assert_allclose(table["gold_score"], level[background.rows("gold")].mean(0))
    assert_allclose(table["original_score"], level[background.rows("original")].mean(0))
    assert_allclose(table["score:gold"][:190], kept.runs.mean(0))
    assert_allclose(table["deviation:gold"][:190], (table["score:gold"] - table["gold_score"])[:190], atol=1e-12)
    assert table[["score:gold", "deviation:gold", "p:gold", "q:gold"]][190:].isna().all().all()
    assert set(table["side:gold"][190:]) == {""}
    above = table["deviation:gold"][:190] > 0
    assert_array_equal(table["side:gold"][:190], np.where(above, "above", "below"))


def test_without_a_primary_the_table_is_the_case(world: World) -> None:
    table = unit_table(world.units, None, {})
    assert list(table.columns) == ["unit", *world.units.columns]
