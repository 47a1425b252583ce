"""What was to stay: a Gold's distance is 1 and its share beyond the band .05; what moved is seen, and where."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from auditkit.builds import System, Train
from auditkit.contracts import Probe, Recipe
from auditkit.data.dataset import Bools, Floats
from auditkit.deletion import EVERYBODY, DeletionRequest
from auditkit.evidence import Case, Evidence, Reading
from auditkit.probes import Lists, Pairs
from auditkit.record import Estimate, Retained
from auditkit.retained import OUTSIDE, retained
from auditkit.statistics.units import unit_p_values
from auditkit.testing.examples import small_data

FORGET, KEPT = 50, 400
RECIPE = Recipe.of("bpr-mf")


def case(*, items: bool = True, tuned: Bools | None = None) -> Case:
    n = FORGET + KEPT
    ids = np.arange(n)
    units = pd.DataFrame(
        {
            "user": ids, "item": ids if items else -1, "group": np.where(ids < FORGET, "forget", "retain"),
            "cluster": ids, "popularity": ids, "activity": ids[::-1],
            "split": np.where(np.zeros(n, bool) if tuned is None else tuned, "tune", "judge"),
        }
    )  # fmt: skip
    return Case(small_data(), DeletionRequest("interaction", ids[:FORGET], ids[:FORGET]), units)


def evidence(values: Floats, role: str) -> Evidence:
    systems = tuple(System(f"{role} {k}", role, Train(RECIPE, EVERYBODY, k)) for k in range(len(values)))  # type: ignore[arg-type]
    n = values.shape[1]
    points = pd.DataFrame({"unit": np.arange(n), "user": np.arange(n), "item": 0})
    held = np.zeros(values.shape, np.bool_)
    units = pd.DataFrame({"split": ["judge"] * n})
    return Evidence(systems, units, held, held, {Pairs(): Reading(points, {"z": values}, n)})


def drawn(rng: np.random.Generator, systems: int, scale: Floats | float = 1.0) -> Floats:
    return rng.standard_normal((systems, FORGET + KEPT)) * scale


def read(golds: Floats, *runs: Floats, at: Case | None = None) -> Retained:
    return retained(at or case(), evidence(golds, "gold"), {"it": evidence(np.stack(runs), "unlearned")})["it"]


def test_a_gold_shows_one_and_a_twentieth() -> None:
    rng = np.random.default_rng(0)
    scale = np.exp(rng.normal(0, 0.3, FORGET + KEPT))
    found = [read(drawn(rng, 8, scale), drawn(rng, 1, scale)[0]) for _ in range(40)]
    assert np.mean([f.value for f in found]) == pytest.approx(1.0, abs=0.02)
    assert np.mean([f.beyond.value for f in found]) == pytest.approx(0.05, abs=0.006)
    covered = [(f.beyond.low or 0) <= 0.05 <= (f.beyond.high or 0) for f in found]
    assert np.mean(covered) >= 0.85


def test_the_share_is_that_of_the_unit_tests_on_retained_units() -> None:
    rng = np.random.default_rng(1)
    golds, run = drawn(rng, 6), drawn(rng, 1)[0] * 2
    found = read(golds, run)
    naive = (unit_p_values(run[None, FORGET:], golds[:, FORGET:]).p <= OUTSIDE).mean()
    assert found.beyond.value == naive
    assert found.beyond.n_units == KEPT
    left_out = [
        (unit_p_values(golds[[k], FORGET:], np.delete(golds[:, FORGET:], k, axis=0)).p <= OUTSIDE).mean()
        for k in range(6)
    ]
    assert found.beyond.note == f"left-out Golds show {np.mean(left_out):.3f}"


def test_forgotten_and_tuned_units_do_not_count() -> None:
    rng = np.random.default_rng(2)
    golds, run = drawn(rng, 6), drawn(rng, 1)[0]
    moved = run.copy()
    moved[:FORGET] += 100
    assert read(golds, moved) == read(golds, run)
    tuned = np.arange(FORGET + KEPT) >= 250
    moved[tuned] += 100
    assert read(golds, moved, at=case(tuned=tuned)) == read(golds, run, at=case(tuned=tuned))
    assert read(golds, moved).value != read(golds, run).value


def test_a_tenth_that_moved_is_named() -> None:
    rng = np.random.default_rng(3)
    golds, run = drawn(rng, 8), drawn(rng, 1)[0]
    run[-40:] += 4
    found = read(golds, run)
    assert found.worst is not None
    assert (found.worst.by, found.worst.low, found.worst.high, found.worst.n_units) == ("popularity", 410, 449, 40)
    assert found.worst.beyond.value is not None
    assert found.worst.beyond.value > 0.7
    assert found.beyond.value is not None
    assert found.beyond.value < 0.2


def test_equal_shares_of_few_golds_promise_no_more_than_as_many_units() -> None:
    """Eight Golds that all show the same share still scatter like independent units."""
    rng = np.random.default_rng(10)
    small = case().units["group"].to_numpy() == "retain"
    found = [read(drawn(rng, 8), drawn(rng, 1)[0]) for _ in range(40)]
    least = 2.36 * np.sqrt(0.05 * 0.95 / small.sum() * 9 / 8)
    for one in found:
        assert one.beyond.value is not None
        assert one.beyond.high is not None
        assert one.beyond.high - one.beyond.value >= least * 0.999


def test_without_items_the_groups_are_by_activity() -> None:
    rng = np.random.default_rng(4)
    found = read(drawn(rng, 4), drawn(rng, 1)[0], at=case(items=False))
    assert found.worst is not None
    assert found.worst.by == "activity"


def test_several_runs_are_one_test_a_unit() -> None:
    rng = np.random.default_rng(5)
    golds = drawn(rng, 8)
    shares = [read(golds, *drawn(rng, 3)).beyond.value for _ in range(30)]
    assert np.mean([s for s in shares if s is not None]) == pytest.approx(0.05, abs=0.012)


def test_what_cannot_be_said_says_why() -> None:
    rng = np.random.default_rng(6)
    two = read(drawn(rng, 2), drawn(rng, 1)[0])
    assert two.value is not None
    assert (two.beyond.value, two.worst) == (None, None)
    assert two.beyond.note == "a Gold's own share needs 3 Golds, there are 2"
    masked = read(drawn(rng, 4), np.full(FORGET + KEPT, np.nan))
    assert (masked.value, masked.note) == (None, "the system answers nothing there")
    assert masked.beyond == Estimate()
    same = read(np.ones((4, FORGET + KEPT)), drawn(rng, 1)[0])
    assert same.note.startswith("the Golds do not differ")


def test_unanswered_and_infinite_units_are_left_out() -> None:
    rng = np.random.default_rng(7)
    golds, run = drawn(rng, 6), drawn(rng, 1)[0]
    run[FORGET : FORGET + 10], run[FORGET + 10] = np.nan, np.inf
    found = read(golds, run)
    assert found.beyond.n_units == KEPT - 11


def test_without_the_probe_there_is_nothing() -> None:
    rng = np.random.default_rng(8)
    golds = evidence(drawn(rng, 4), "gold")
    assert retained(case(), Evidence(golds.systems, golds.units, golds.seen, golds.held, {}), {"it": golds}) == {}
    other: dict[Probe, Reading] = {Lists(): golds.readings[Pairs()]}
    assert retained(case(), golds, {"it": Evidence(golds.systems, golds.units, golds.seen, golds.held, other)}) == {}
    nothing = evidence(np.full((4, FORGET + KEPT), np.nan), "gold")
    assert retained(case(), nothing, {"it": golds}) == {}


def test_the_ratio_against_a_loop() -> None:
    rng = np.random.default_rng(9)
    golds, run = drawn(rng, 5), drawn(rng, 1)[0] * 3
    kept = golds[:, FORGET:]
    mine = np.sqrt(np.mean((run[FORGET:] - kept.mean(0)) ** 2) * 5 / 6)
    theirs = [np.sqrt(np.mean((g - kept.mean(0)) ** 2) * 5 / 4) for g in kept]
    assert read(golds, run).value == pytest.approx(mine / np.exp(np.mean(np.log(theirs))), rel=1e-12)
