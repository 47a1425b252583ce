"""What would settle an audit: against closed forms for the level, other plans of the same Golds, and brute force."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from auditkit.data.dataset import Floats
from auditkit.errors import ConfigurationError, DataError
from auditkit.statistics.dose import LinearScale, SpreadScale
from auditkit.statistics.likelihood import fit_in_out
from auditkit.statistics.power import Settlement, attainable_margin, pass_probability, what_would_settle

from .test_power import rng, standard_level, statistics_of


def settled(level: Floats, margin: float, **more: Any) -> Settlement:
    plan: dict[str, Any] = {"alpha": 0.05, "rng": rng(), "n_units": 1_000, **more}
    return what_would_settle(level, plan.pop("pattern", None), plan.pop("spread", None), margin, **plan)


def of_level(sd: float, golds: float) -> float:
    """Attainable margin of the level alone: two t quantiles, by the formula."""
    return float(sd * 2 * stats.t.isf(0.05, golds - 1) * np.sqrt(1 + 1 / golds))


@pytest.mark.parametrize(("now", "then"), [(4, 6), (4, 12), (8, 20), (8, 64)])
def test_golds_for_the_level_alone(now: int, then: int) -> None:
    found = settled(0.05 * standard_level(now), of_level(0.05, then))
    assert found.golds is not None
    # Within the Monte-Carlo error of the draws, which are one set for all candidates.
    assert of_level(0.05, found.golds) == pytest.approx(of_level(0.05, then), rel=0.025)
    assert found.attainable == pytest.approx(of_level(0.05, now), rel=0.04)
    assert found.floor == pytest.approx(0.05 * 2 * stats.norm.isf(0.05), rel=0.03)


def test_no_number_of_golds_goes_below_the_floor() -> None:
    found = settled(0.05 * standard_level(8), 0.05 * 3.0)
    assert found.golds is None
    assert found.note == f"infinitely many Golds leave {found.floor:.3g}"
    assert found.runs is not None
    assert found.units is not None
    # Between the floor and the margin of 256 Golds lies a sliver where more would do, which is not searched.
    sliver = settled(0.05 * standard_level(8), found.floor * 1.0001)
    assert sliver.golds is None
    assert sliver.note == "256 Golds are not enough"


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2, 0.11])
def test_units_for_the_level_alone_go_with_the_square(share: float) -> None:
    level = 0.05 * standard_level(8)
    attainable = settled(level, 1.0).attainable
    found = settled(level, share * attainable, n_units=300)
    assert found.units == pytest.approx(300 / share**2, rel=0.001, abs=1)


def test_a_hundred_times_the_units_may_not_be_enough() -> None:
    level = 0.05 * standard_level(8)
    found = settled(level, 0.09 * settled(level, 1.0).attainable)
    assert (found.golds, found.runs, found.units) == (None, None, None)
    assert found.note.endswith("32 runs are not enough; 100 times the units are not enough")


@pytest.mark.parametrize(("noise", "now", "share"), [(10.0, 16, 0.9), (40.0, 16, 0.6), (3.0, 32, 0.95)])
def test_references_for_the_level_alone(noise: float, now: int, share: float) -> None:
    level = 0.05 * standard_level(8)
    margin = share * settled(level, 1.0).attainable
    found = settled(level, margin, weight_noise=noise, n_references=now)
    exact = 2 * noise / (share**2 * (1 + 2 * noise / now) - 1)
    assert found.references == pytest.approx(exact, rel=0.002, abs=2)
    assert found.references is not None
    assert found.references % 2 == 0


def test_references_that_cannot_help() -> None:
    level = 0.05 * standard_level(8)
    margin = 0.8 * settled(level, 1.0).attainable
    noiseless = settled(level, margin, weight_noise=0.0, n_references=16)
    assert noiseless.references is None
    assert "1,024 references are not enough" in noiseless.note
    for absent in (settled(level, margin), settled(level, margin, n_references=16)):
        assert absent.references is None
        assert "references" not in absent.note


def test_every_number_is_the_smallest_that_is_enough() -> None:
    level, pattern, spread = statistics_of(3)
    margin = 0.85 * attainable_margin(level, pattern, spread, alpha=0.05, rng=rng())
    found = settled(level, margin, pattern=pattern, spread=spread, n_units=60)
    plan: dict[str, Any] = {"alpha": 0.05, "draws": 40_000}

    def passing(**more: Any) -> float:
        return pass_probability(level, pattern, spread, margin, **plan, rng=np.random.default_rng(9), **more)

    assert found.golds is not None
    assert found.runs is not None
    assert found.units is not None
    error = 4 * np.sqrt(0.09 / 4_000)
    for enough, short in (
        ({"golds": found.golds}, {"golds": found.golds - 1}),
        ({"runs": found.runs}, {"runs": found.runs - 1}),
        ({"units_factor": found.units / 60}, {"units_factor": (found.units - 1) / 60}),
    ):
        assert passing(**enough) > 0.9 - error
        assert passing(**short) < 0.9 + error


def test_an_audit_whose_margin_is_attainable_needs_what_it_has() -> None:
    found = settled(0.01 * standard_level(8), 0.5, weight_noise=10.0, n_references=16, n_units=77)
    assert (found.golds, found.runs, found.units, found.references, found.note) == (8, 1, 77, 16, "")


def test_runs_are_counted_from_those_there_are() -> None:
    level = 0.05 * standard_level(20)
    once = settled(level, 0.12)
    thrice = settled(level, 0.12, runs=3)
    assert once.runs == thrice.runs
    assert once.runs is not None
    assert once.runs > 3
    assert thrice.attainable < once.attainable
    assert settled(level, 0.5, runs=3).runs == 3
    assert settled(level, 0.5, runs=40).runs == 40


def test_an_original_that_spreads_no_wider_is_settled_by_nothing() -> None:
    golds = rng().standard_normal((5, 30))
    spread = SpreadScale(golds, golds.mean(0)[None])
    found = settled(golds[:, 0], 0.1, spread=spread, weight_noise=1.0, n_references=16)
    assert astuple(found)[:6] == (None, None, None, None, np.inf, np.inf)
    assert found.note == "the original spreads no wider than the Golds: no margin is wide enough"


def test_golds_that_agree_settle_at_once() -> None:
    spread = SpreadScale(np.zeros((4, 30)), np.full((1, 30), 3.0))
    found = settled(np.zeros(4), 0.01, pattern=np.zeros(4), spread=spread)
    assert (found.golds, found.runs, found.units, found.note) == (4, 1, 1_000, "")


def test_same_seed_same_answer() -> None:
    level, pattern, spread = statistics_of(4)
    one, other = (settled(level, 0.1, pattern=pattern, spread=spread) for _ in range(2))
    assert one == other


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 500), st.floats(0.3, 0.95), st.floats(0.5, 0.99))
def test_a_narrower_margin_never_needs_less(seed: int, share: float, narrower: float) -> None:
    level, pattern, spread = statistics_of(seed)
    margin = share * attainable_margin(level, pattern, spread, alpha=0.05, rng=rng(), draws=2_000)
    known: dict[str, Any] = {"pattern": pattern, "spread": spread, "weight_noise": 30.0, "n_references": 16}
    wide, narrow = settled(level, margin, **known), settled(level, narrower * margin, **known)
    for name in ("golds", "runs", "units", "references"):
        before, after = getattr(wide, name), getattr(narrow, name)
        assert after is None or (before is not None and after >= before)


@pytest.mark.parametrize("bad", [{"n_units": 0}, {"runs": 0}, {"weight_noise": -1.0}, {"weight_noise": np.nan}])
def test_what_lies_outside_its_domain_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="what_would_settle needs"):
        settled(standard_level(4), 0.1, **bad)


def test_one_gold_is_refused() -> None:
    with pytest.raises(DataError, match="at least 2"):
        settled(np.zeros(1), 0.1)


def test_noise_of_the_weights_scatters_golds_by_the_formula() -> None:
    """Points with true contrasts, weights from K references, Golds of unit noise: sd/gap for K = 8, 16 and 64."""
    stream, points = np.random.default_rng(0), 4_000
    contrast = 0.5 * stream.standard_normal(points)
    # Sampling variance at one reference on either side is 2.
    noise = 2 / float(np.mean(contrast**2))

    def scatter(references: int) -> float:
        found = []
        for _ in range(4):
            held = np.tile(np.arange(references)[:, None] % 2 == 0, (1, points))
            values = held * contrast + stream.standard_normal((references, points))
            weights = fit_in_out(values, held).weights()
            golds = stream.standard_normal((150, points)) * weights
            found.append(LinearScale(golds, (contrast * weights)[None]).sd_golds)
        return float(np.mean(found))

    few, some, many = (scatter(k) for k in (8, 16, 64))
    predicted = [np.sqrt(1 + 2 * noise / k) for k in (8, 16, 64)]
    assert few / many == pytest.approx(predicted[0] / predicted[2], rel=0.1)
    assert some / many == pytest.approx(predicted[1] / predicted[2], rel=0.1)
    assert few / many > 1.5
