"""What decoys share with the forgotten pairs is taken out exactly, and only a FAIL is ever taken back by it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from auditkit.builds import System
from auditkit.data.dataset import Bools, Floats
from auditkit.decoys import MIN_DECOYS, MOST_SEEDS, Decoys, confirmed, left_standing
from auditkit.errors import NotApplicableError
from auditkit.evidence import Evidence, Reading
from auditkit.findings import finding, read_system
from auditkit.judge import rule
from auditkit.yardstick import Yardstick, calibrate
from tests.gaussian import Linear, Signal, World, rules

UNITS, DECOYS = 300, 400


@dataclass(frozen=True, eq=False)
class Decoyed(World):
    """A world with decoys; every pair has a height that all systems share, as a popular item has."""

    n_units: int = UNITS
    decoys: int = DECOYS
    strength: float = 3.0

    @property
    def everyone(self) -> int:
        return self.n_units + self.decoys

    @property
    def units(self) -> pd.DataFrame:
        n, rng = self.everyone, np.random.default_rng(5)
        return pd.DataFrame(
            {
                "user": np.arange(n) % 40,
                "item": np.arange(n) % 60,
                "group": np.where(np.arange(n) < self.n_units, "forget", "outside"),
                "cluster": np.arange(n) % 40,
                "activity": rng.integers(30, 200, 40)[np.arange(n) % 40],
                "popularity": rng.integers(30, 200, 60)[np.arange(n) % 60],
                "split": "judge",
            }
        )

    @property
    def height(self) -> Floats:
        return 3 * np.random.default_rng(6).standard_normal(self.everyone)

    def signal(self, held: Bools) -> Floats:
        gain = np.append(self.gain * held[: self.n_units], np.zeros(self.decoys))
        return self.height + gain + self.rng.standard_normal(self.everyone)

    def evidence(self, systems: list[System], held: Bools, values: Floats | None = None) -> Evidence:  # type: ignore[override]
        padded = np.pad(held[:, : self.n_units], ((0, 0), (0, self.decoys)))
        drawn = np.stack([self.signal(h) for h in held]) if values is None else values
        points = pd.DataFrame({"unit": np.arange(self.everyone), "user": 0, "item": 0})
        return Evidence(
            tuple(systems), self.units, padded, padded, {Signal(): Reading(points, {"z": drawn}, self.everyone)}
        )

    def gold(self) -> Floats:
        return self.signal(np.zeros(self.n_units, np.bool_))

    def original(self) -> Floats:
        return self.signal(np.ones(self.n_units, np.bool_))


@pytest.fixture(scope="module")
def world() -> Decoyed:
    return Decoyed(references=32)


@pytest.fixture(scope="module")
def background(world: Decoyed) -> Evidence:
    return world.background()


@pytest.fixture(scope="module")
def yardstick(background: Evidence) -> Yardstick:
    return calibrate(Linear(), background, rules())


def fitted(background: Evidence) -> Decoys:
    found = Decoys.of(background, [Signal()])
    assert found is not None
    return found


def values(evidence: Evidence) -> Floats:
    return evidence.readings[Signal()].values["z"]


# --- what is carried over -----------------------------------------------------------------------------------------


def test_a_shift_that_follows_from_the_pair_is_taken_out_exactly(world: Decoyed, background: Evidence) -> None:
    gold = values(background)[background.rows("gold")].mean(0)
    units, rng = world.units, np.random.default_rng(7)
    forgotten = units["group"] == "forget"
    # The covariates by hand: Gold's mean, and degrees without the forgotten pairs.
    degrees = [
        np.log1p(units[d] - units[w].map(units[w][forgotten].value_counts()).fillna(0)).to_numpy()
        for d, w in (("activity", "user"), ("popularity", "item"))
    ]
    columns = []
    for x in (gold, *degrees):
        columns.append(np.clip(x, x[UNITS:].min(), x[UNITS:].max()))
    terms = [np.ones(world.everyone), *columns] + [a * b for a in columns for b in columns]
    shift = np.sum([rng.normal() * t for t in terms], axis=0)
    freed = values(fitted(background).free(world.audited(gold + shift)))[0]
    assert np.abs(shift).max() > 10
    assert_allclose(freed, gold, atol=1e-8)


def test_memory_stays_where_it_is(world: Decoyed, background: Evidence) -> None:
    gold = values(background)[background.rows("gold")].mean(0)
    memory = np.append(world.gain, np.zeros(DECOYS))
    assert_array_equal(values(fitted(background).free(world.audited(gold + memory)))[0], gold + memory)


def test_a_wider_scatter_is_measured_by_the_systems_own(world: Decoyed, background: Evidence) -> None:
    decoys = fitted(background)
    shared = decoys.signals[Signal()]["z"]
    gold, noise = shared.gold, np.random.default_rng(8).standard_normal((1, world.everyone))
    carried, squares = shared.split(gold + noise)
    wider = 5 * np.sqrt(shared.scatter / (squares[0] * 8 / 9))
    freed = values(decoys.free(world.audited((gold + wider * noise)[0])))
    assert_allclose(freed, gold + wider * (noise - carried) / 5, rtol=1e-9)


def test_fresh_golds_scatter_like_those_of_the_background() -> None:
    """The size correction: without it, those that the mean is of would lie (S + 1) / (S - 1) closer."""
    fresh, own = [], []
    for seed in range(20):
        world = Decoyed(golds=4, references=0, seed=seed)
        background = world.background()
        shared = fitted(background).signals[Signal()]["z"]
        golds = values(background)[background.rows("gold")]
        own.append(shared.split(golds)[1].mean() * 4 / 3)
        fresh.append(shared.split(np.stack([world.gold() for _ in range(4)]))[1].mean() * 4 / 5)
    assert np.mean(fresh) == pytest.approx(np.mean(own), rel=0.02)


@pytest.mark.parametrize("decoys", [0, MIN_DECOYS - 1])
def test_with_too_few_decoys_the_rule_stays(decoys: int) -> None:
    few = calibrate(Linear(), Decoyed(decoys=decoys).background(), rules())
    assert few.decoys is None
    assert few.unshared is None
    assert read_system(few, Decoyed(decoys=decoys).audited(Decoyed(decoys=decoys).gold())).unshared is None


def test_a_decoy_that_a_system_does_not_answer_takes_nothing_back(world: Decoyed, background: Evidence) -> None:
    gold = values(background)[background.rows("gold")].mean(0)
    silent = gold + 2.0
    silent[UNITS:] = np.nan
    assert_array_equal(values(fitted(background).free(world.audited(silent)))[0, :UNITS], (gold + 2.0)[:UNITS])


# --- what it does to a verdict ------------------------------------------------------------------------------------


def drift(world: Decoyed, size: float) -> Floats:
    """What another number of epochs does: the higher a pair stands, the more it moves."""
    return size * (0.5 + 0.2 * world.height)


def section(yardstick: Yardstick, world: Decoyed, answers: Floats) -> str:
    return finding(yardstick, world.audited(answers))[0].section


def test_an_honest_drift_does_not_fail_and_does_not_pass(world: Decoyed, yardstick: Yardstick) -> None:
    moved = world.gold() + drift(world, 1.5)
    judged = read_system(yardstick, world.audited(moved))
    assert judged.unshared is not None
    assert judged.level.value > 0.2
    assert abs(judged.unshared.level.value) < 0.1
    assert section(yardstick, world, moved) == "inconclusive"
    assert section(calibrate(Linear(), Decoyed(decoys=0, references=32).background(), rules()), Decoyed(decoys=0),
                   moved[:UNITS]) == "leak"  # fmt: skip


def test_the_verdict_says_why_a_drift_does_not_fail(world: Decoyed, yardstick: Yardstick) -> None:
    found, judged = finding(yardstick, world.audited(world.gold() + drift(world, 1.5)))
    ruling = rule([found], judged, yardstick, yardstick.rules, 1, {})
    assert ruling.verdict == "INCONCLUSIVE"
    assert "level" in judged.excused(0.1, 0.05)
    assert any("pairs that nobody was trained on moved alike" in reason for reason in ruling.reasons)
    assert "moved alike, so level" in found.note
    kept = finding(yardstick, world.audited(world.original()))[1]
    assert kept.excused(0.1, 0.05) == []


def test_a_deterministic_procedure_still_finds_its_original(world: Decoyed, background: Evidence) -> None:
    exact = background.take(np.arange(len(background.systems)))
    answers = values(exact)
    answers[exact.rows("gold")] = world.height
    sure = calibrate(Linear(), exact, rules())
    assert section(sure, world, world.original()) == "leak"
    assert section(sure, world, world.height) == "clean"


@pytest.mark.parametrize("shift", [0.0, -1.0, -3.0])
def test_what_leaves_its_decoys_alone_still_fails(world: Decoyed, yardstick: Yardstick, shift: float) -> None:
    answers = world.original()
    answers[:UNITS] += shift
    assert section(yardstick, world, answers) in ("leak", "over_forgotten")


def test_memory_beneath_a_drift_still_fails(world: Decoyed, yardstick: Yardstick) -> None:
    assert section(yardstick, world, world.original() + drift(world, 1.5)) == "leak"


def test_more_than_half_a_dose_is_not_excused(world: Decoyed, yardstick: Yardstick) -> None:
    judged = read_system(yardstick, world.audited(world.gold() + drift(world, 6.0)))
    assert judged.unshared is not None
    assert abs(judged.unshared.level.value) < 0.1
    assert section(yardstick, world, world.gold() + drift(world, 6.0)) == "leak"


def test_true_golds_pass_as_without_decoys(yardstick: Yardstick, world: Decoyed) -> None:
    for _ in range(10):
        judged = read_system(yardstick, world.audited(world.gold()))
        assert judged.unshared is not None
        p_values = judged.p_values(0.1)
        plain = {"level": judged.fail_level, "pattern": judged.fail_pattern, "spread": judged.spread}
        for name, reading in plain.items():
            assert reading is not None
            assert p_values[name] >= reading.p_beyond(0.1)


def test_both_readings_must_lie_beyond_unless_they_lie_far_apart() -> None:
    plain = {"level": (0.3, 0.01), "pattern": (1.2, 0.02), "spread": (0.4, 0.03), "extra": (0.2, 0.04)}
    free = {"level": (0.05, 0.9), "pattern": (0.1, 0.8), "spread": (0.5, 0.001)}
    assert confirmed(plain, free) == {"level": 0.9, "pattern": 0.02, "spread": 0.03, "extra": 0.04}


# --- fresh accounts -----------------------------------------------------------------------------------------------


def accounts(world: Decoyed, evidence: Evidence) -> Evidence:
    """The same answers, the decoys asked of fresh accounts: units that every system holds."""
    units, (probe, reading) = evidence.units, next(iter(evidence.readings.items()))
    decoy = np.arange(world.everyone) >= world.n_units
    told, popular = units["activity"].to_numpy(), units["popularity"].to_numpy()
    points = reading.points.assign(decoy=decoy, length=told, degree=popular)
    return replace(
        evidence, units=units.assign(group=np.where(decoy, "retain", "forget")), held=evidence.held | decoy,
        readings={probe: replace(reading, points=points)},
    )  # fmt: skip


def of_accounts(world: Decoyed, answers: Floats) -> Evidence:
    return accounts(world, world.audited(answers))


@pytest.fixture(scope="module")
def fresh(world: Decoyed, background: Evidence) -> Yardstick:
    return calibrate(Linear(), accounts(world, background), rules())


def test_what_follows_from_a_fresh_account_is_taken_out_exactly(world: Decoyed, fresh: Yardstick) -> None:
    assert fresh.decoys is not None
    assert fresh.decoys.accounts
    gold = fresh.decoys.signals[Signal()]["z"].gold
    points = fresh.background.readings[Signal()].points
    shift = np.zeros(world.everyone)
    for column, size in (("length", 0.3), ("degree", -0.2)):
        x = np.log1p(points[column].to_numpy(np.float64))
        shift += size * np.clip(x, x[UNITS:].min(), x[UNITS:].max())
    assert np.abs(shift).max() > 0.2
    assert_allclose(values(fresh.decoys.free(of_accounts(world, gold + shift)))[0], gold + shift - shift, atol=1e-8)


def test_a_variant_is_excused_however_far_it_reads(world: Decoyed, fresh: Yardstick) -> None:
    """The original is weak here, as fold-in is on LightGCN: decoys that move by a seed read above a dose."""
    weak = Decoyed(strength=0.6, references=32)
    yardstick = calibrate(Linear(), accounts(weak, weak.background()), rules())
    moved = weak.gold() + drift(weak, 1.5)
    found, judged = finding(yardstick, of_accounts(weak, moved))
    assert judged.unshared is not None
    assert judged.level.value - judged.unshared.level.value > 0.5
    assert found.section == "inconclusive"
    assert finding(yardstick, of_accounts(weak, weak.original() + drift(weak, 1.5)))[0].section == "leak"


def test_what_moves_far_beyond_seeds_is_not_excused(world: Decoyed, fresh: Yardstick) -> None:
    assert fresh.decoys is not None
    shared = fresh.decoys.signals[Signal()]["z"]
    noise = np.random.default_rng(9).standard_normal(world.everyone)
    noise *= np.sqrt(shared.seeds * 9 / 8 / np.mean(noise[UNITS:] ** 2))
    for seeds, kept in ((0.99 * MOST_SEEDS, True), (1.01 * MOST_SEEDS, False)):
        freed = values(fresh.decoys.free(of_accounts(world, shared.gold + seeds * noise)))
        assert np.isfinite(freed).all() == kept
        assert (read_system(fresh, of_accounts(world, shared.gold + seeds * noise)).unshared is not None) == kept
    broken = world.gold() + drift(world, 9.0)
    assert finding(fresh, of_accounts(world, broken))[0].section == "leak"


def test_the_size_of_a_shift_is_measured_in_seeds() -> None:
    golds = []
    for seed in range(20):
        world = Decoyed(golds=4, references=0, seed=seed)
        shared = fitted(accounts(world, world.background())).signals[Signal()]["z"]
        golds.append(shared.seeds)
    assert np.mean(golds) == pytest.approx(1.0, rel=0.02)


def test_an_original_far_from_gold_on_decoys_stays_a_yardstick(world: Decoyed, background: Evidence) -> None:
    far = accounts(world, background.take(np.arange(len(background.systems))))
    answers = values(far)
    answers[far.rows("original"), UNITS:] += 20.0
    assert calibrate(Linear(), far, rules()).power


@pytest.mark.parametrize(
    ("value", "left", "stands"),
    [(0.8, 0.41, True), (0.8, 0.39, False), (-0.8, -0.41, True), (-0.8, -0.39, False),
     (-0.8, 0.5, False), (2.4, 1.01, True), (2.4, 0.99, False), (-2.4, -1.01, False), (0.3, 0.9, True)],
)  # fmt: skip
def test_a_reading_stands_by_what_decoys_do_not_share(value: float, left: float, stands: bool) -> None:
    plain = {"level": (value, 0.01)}
    assert left_standing(plain, {"level": (left, 0.04)}) == {"level": 0.01 if stands else 1.0}
    assert left_standing(plain, {"level": (left, 0.06)}) == {"level": 1.0}, "not surely beyond the margin"


def test_what_has_no_reading_without_decoys_stands() -> None:
    plain = {"level": (0.3, 0.01), "spread": (0.1, 0.8)}
    assert left_standing(plain, {}) == {"level": 0.01, "spread": 0.8}


def test_a_probe_that_is_not_there_is_refused_before_decoys_are_sought(background: Evidence) -> None:
    with pytest.raises(NotApplicableError, match="did not answer it"):
        calibrate(
            Linear(), Evidence(background.systems, background.units, background.seen, background.held, {}), rules()
        )
