"""The calibration benchmark's machinery on a small world; its figures are in docs/calibration.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from auditkit.deletion import Regime
from auditkit.plan import SIZES
from benchmarks.calibration import studies
from benchmarks.calibration.audits import battery, draw, references, replicate
from benchmarks.calibration.candidates import CANDIDATES, Candidate, default
from benchmarks.calibration.derived import with_derived
from benchmarks.calibration.page import Study, markdown, page
from benchmarks.calibration.pools import KEPT, Pool, gather
from benchmarks.calibration.primaries import row
from benchmarks.calibration.replicates import replicates
from benchmarks.calibration.studied import studied
from benchmarks.calibration.targets import Target
from benchmarks.calibration.worlds import CELLS, WORLDS, World, pool, shrunk

WORLD = shrunk(next(w for w in WORLDS if w.name == "synthetic bpr-mf interaction"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pools")


@pytest.fixture(scope="module")
def gathered(folder: Path) -> Pool:
    return gather(WORLD, folder)


@pytest.mark.parametrize("world", WORLDS, ids=lambda w: w.name)
def test_worlds_name_each_system_once_and_have_enough_of_them(world: World) -> None:
    systems = pool(world)
    assert len({s.name for s in systems}) == len(systems)
    golds = sum(s.role == "gold" for s in systems)
    assert golds > SIZES["certify"][0] + 1
    assert sum(s.role == "reference" for s in systems) >= SIZES["certify"][1]


def test_a_second_gathering_trains_nothing(folder: Path, gathered: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.calibration.pools.build", None)
    again = gather(WORLD, folder)
    for probe, reading in gathered.evidence.readings.items():
        for signal, values in reading.values.items():
            assert np.array_equal(values, again.evidence.readings[probe].values[signal], equal_nan=True)


@pytest.mark.parametrize("count", [16, 32, 64])
def test_references_are_complementary_and_spread_over_the_doses(gathered: Pool, count: int) -> None:
    rows = references(gathered, count, np.random.default_rng(0))
    held = gathered.evidence.held[rows][:, gathered.case.forget]
    assert len(set(rows)) == count
    assert (held.sum(0) == count // 2).all()
    shares = np.sort(held.mean(1))
    assert np.allclose(shares, (np.arange(count) + 0.5) / count, atol=1.5 / count + 1 / CELLS)


def test_no_system_under_test_is_in_its_background(gathered: Pool) -> None:
    drawn = draw(gathered, "quick", np.random.default_rng(1))
    shared = set(drawn.rows) & set(drawn.free)
    assert [gathered.evidence.systems[k].role for k in shared] == ["original"]


def test_decoys_are_held_by_nobody_and_stay_where_they_are_when_forgotten_scores_are_shifted(gathered: Pool) -> None:
    decoys = ~gathered.case.forget
    assert set(gathered.case.units["group"][decoys]) == {"outside"}
    assert not gathered.evidence.held[:, decoys].any()
    derived = with_derived(gathered)
    shifted, originals = derived.group("original - constant"), derived.group("original")
    (pairs,) = (r for p, r in derived.evidence.readings.items() if p.name == "pairs")
    (listed,) = (r for p, r in derived.evidence.readings.items() if p.name == "listed-pairs")
    assert np.isnan(listed.values["hit"][shifted]).all()
    for values in pairs.values.values():
        assert np.array_equal(values[shifted][:, decoys], values[originals][:, decoys])
        assert not np.isclose(values[shifted][:, ~decoys], values[originals][:, ~decoys]).all(1).any()


def test_derived_systems_have_the_level_they_were_tuned_to(folder: Path, gathered: Pool) -> None:
    table = replicates(with_derived(gathered), "quick", 2, default("interaction"), folder, jobs=1)
    shifted = table[table["group"] == "original - constant"]
    assert len(shifted)
    assert shifted["level"].abs().max() < 0.5
    assert (table[table["group"] == "original"]["level"] > 0.7).all()
    assert not (table[table["group"] == "original"]["verdict"] == "PASS").any()
    again = replicates(with_derived(gathered), "quick", 2, default("interaction"), folder, jobs=1)
    pd.testing.assert_frame_equal(table, again)


@pytest.mark.parametrize("regime", CANDIDATES)
def test_candidates_may_decide_and_what_they_read_is_kept(regime: Regime) -> None:
    candidates = CANDIDATES[regime]
    assert len({c.slug for c in candidates}) == len(candidates)
    assert default(regime) == candidates[0]
    for candidate in candidates:
        assert regime in candidate.attack.primary_for
        assert set(candidate.attack.probes) <= set(KEPT[regime])
        assert candidate.attack.read_signal in KEPT[regime][candidate.attack.probes[0]]
        assert not candidate.attack.access_in(regime) & ~candidate.allowed


def _listed() -> Candidate:
    return next(c for c in CANDIDATES["interaction"] if c.attack.name == "listed")


def test_what_an_auditor_may_not_ask_does_not_decide(gathered: Pool) -> None:
    assert [attack.name for attack in battery(gathered, _listed())] == ["listed"]
    table = replicate(with_derived(gathered), "quick", 0, _listed())
    originals, shifted = (table[table["group"] == name] for name in ("original", "original - constant"))
    assert originals["level"].notna().all()
    assert (shifted["verdict"] == "INCONCLUSIVE").all(), "what a list would show of shifted scores is not known"


def test_a_candidate_is_summed_up_in_one_row(folder: Path, gathered: Pool) -> None:
    made = studied([gathered], [_listed()], folder, 2, 1)
    found = row(gathered, _listed(), made)
    assert found["attack"] == "listed, by lists alone"
    bad = next(s.table for s in made if s.title == "Methods that must not pass")
    assert found["worst bad PASS"] == bad["PASS"].max()
    assert found["bad"] == str(sum(bad["PASS"] > 0.01))


def _table(**columns: object) -> pd.DataFrame:
    base = {
        "world": "w",
        "profile": "quick",
        "runs": 1,
        "audit": 0,
        "margin": 0.1,
        "attainable": 0.08,
        "verdict": "PASS",
    }
    return pd.DataFrame({**base, **columns})


def test_null_counts_what_a_loop_counts() -> None:
    rng = np.random.default_rng(3)
    middle, half = rng.normal(size=50), 1.5
    table = _table(
        group=["gold"] * 50, level=middle, level_low95=middle - half, level_high95=middle + half,
        verdict=["FAIL"] * 5 + ["PASS"] * 45,
    )  # fmt: skip
    found = studies.null(table).iloc[0]
    assert found["level rejected"] == pytest.approx(np.mean(np.abs(middle) > half))
    assert (found["FAIL"], found["PASS"]) == (0.1, 0.9)
    assert np.isnan(found["pattern rejected"])


def test_coverage_counts_the_rungs_it_names() -> None:
    table = _table(
        group=["gold", "dose 0.05", "dose 0.8", "dose 0.8"], level=0.0, dose_level=[0.0, 0.05, 0.8, 0.3],
        dose_pattern=0.0, dose_spread=0.0, level_low95=-0.1, level_high95=[0.1, 0.1, 0.1, 0.4],
    )  # fmt: skip
    found = studies.coverage(table).iloc[0]
    assert (found["level 0"], found["level <= .1"]) == (1.0, 1.0)
    assert found["level all"] == pytest.approx(2 / 3)


def test_only_what_lies_outside_misses_a_target() -> None:
    table = pd.DataFrame({"world": ["a item", "b user", "c user"], "x": [0.5, 0.99, np.nan]})
    assert Target(("x",), 0.9).missed(table) == ["a item: x 0.500"]
    assert Target(("x",), 0.9, where="not item").missed(table) == []
    assert Target(("x",), None, 0.7, where="user").missed(table) == ["b user: x 0.990"]


def test_the_page_says_what_is_not_met() -> None:
    table = pd.DataFrame({"world": ["a"], "x": [0.5], "empty": [np.nan]})
    text = page(
        [Study("Fine", "t", table, (Target(("x",), 0.1),)), Study("Bad", "t", table, (Target(("x",), 0.9),))], "c", "i"
    )
    assert "| Fine | 0 |" in text
    assert "| Bad | 1 |" in text
    assert "**Not met:**\n\n- a: x 0.500" in text
    assert "empty" not in markdown(table)


def test_larger_profiles_need_larger_pools() -> None:
    small = replace(WORLD, golds=4)
    assert len([s for s in pool(small) if s.role == "gold"]) == 4
