from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm

from auditkit.attacks.u_lira import ULira
from auditkit.builds import System, Train, Unlearn
from auditkit.contracts import Access, Backbone, Recipe, Recommender, Unlearner
from auditkit.data.dataset import Floats, Ints
from auditkit.deletion import EVERYBODY, NOBODY, DeletionRequest, Regime, Share, select
from auditkit.evidence import Case, Evidence, fix_points, make_case, observe
from auditkit.findings import read_system
from auditkit.probes import Pairs
from auditkit.statistics.likelihood import shrunken
from auditkit.testing import AttackTests
from auditkit.testing.examples import small_data, small_task
from auditkit.unlearners.gold import Gold
from auditkit.unlearners.reverse_bpr import ReverseBPR
from auditkit.yardstick import Rules, Yardstick, calibrate

_RECIPE = Recipe.of("bpr-mf", {"factors": 8}, {"epochs": 40})
_WEAK = ReverseBPR(epochs=1, learning_rate=1e-4)


@cache
def _request() -> DeletionRequest:
    return select(small_data(), "interaction", share=0.1, seed=1)


@cache
def _case() -> Case:
    return make_case(small_data(), _request(), seed=1)


def _triples(method: Unlearner) -> list[System]:
    """Over a triple each unit was once never seen, once unlearned and once held."""
    found = []
    for k in range(24):
        thirds = [Share(r / 3, (r + 1) / 3, 50 + k // 3) for r in range(3)]
        built = Unlearn(Train(_RECIPE, thirds[k % 3], 300 + k), method, thirds[(k + 1) % 3], 400 + k)
        found.append(System(f"unlearned reference-{k}", "unlearned reference", built, method.name))
    return found


def _made(systems: list[System]) -> Iterator[tuple[System, Recommender]]:
    """Parents trained many at once, then made to forget."""
    data, request = small_data(), _request()
    parents = [s.build.parent if isinstance(s.build, Unlearn) else s.build for s in systems]
    members = [(request.erase(data, ~one.held(request)), one.seed) for one in parents]  # type: ignore[union-attr]
    models: list[Backbone] = _RECIPE.architecture().fit(members, _RECIPE, device="cpu")
    for system, model, (kept, _) in zip(systems, models, members, strict=True):
        build = system.build
        if isinstance(build, Unlearn):
            task = small_task(kept, request, _RECIPE, request.units(build.erased))
            yield system, build.unlearner.unlearn(model, task, rng=np.random.default_rng(build.seed))
        else:
            yield system, model


@cache
def _evidence(method: Unlearner) -> Evidence:
    """2 originals, 6 Golds, 24 unlearned references of `method`, and `method` on the whole request as under test."""
    whole = Unlearn(Train(_RECIPE, NOBODY, 0), method, EVERYBODY, 7)
    systems = [System(f"original-{k}", "original", Train(_RECIPE, NOBODY, k), "original") for k in range(2)]
    systems += [System(f"gold-{k}", "gold", Train(_RECIPE, EVERYBODY, 10 + k), "gold") for k in range(6)]
    systems += [*_triples(method), System("unlearned", "unlearned", whole, method.name)]
    questions = fix_points((Pairs(),), _case(), seed=1)
    return observe(_made(systems), questions, _case(), seed=1)


class _ULiraTests(AttackTests):
    """The kit's small systems have no unlearned references; these have."""

    attack: ClassVar[ULira]
    regimes: ClassVar[tuple[Regime, ...]] = ("interaction",)

    def examples(self) -> Iterator[tuple[Case, Evidence]]:
        yield _case(), _evidence(_WEAK)

    def background(self, evidence: Evidence) -> Evidence:
        return evidence.take(evidence.rows("unlearned reference"))

    def test_needs_are_enough(self) -> None:
        for case, evidence in self.examples():
            assert len(self.background(evidence).systems) == self.attack.needs.unlearned_references
            assert np.isfinite(self.score(evidence, self.targets(evidence)).level[:, case.forget]).all()

    def test_what_is_still_held_is_not_read(self) -> None:
        for case, evidence in self.examples():
            z = evidence.readings[Pairs()].values["z"]
            moved = np.where(evidence.held[:, evidence.readings[Pairs()].unit], np.nan, z)
            background = evidence.take(evidence.rows("unlearned reference"))
            changed = _with(background, moved[evidence.rows("unlearned reference")])
            fitted, usable = self.attack.fit(background)
            again, _ = self.attack.fit(changed)
            assert_allclose(again.weights(), fitted.weights(), rtol=1e-12)
            assert usable[case.forget[evidence.readings[Pairs()].unit]].all()

    def test_retained_and_outside_units_read_nan(self) -> None:
        for case, evidence in self.examples():
            assert np.isnan(self.score(evidence, self.targets(evidence)).level[:, ~case.forget]).all()


@dataclass(frozen=True)
class _Sides:
    """Systems that unlearned a point, and those that never saw it, in loops."""

    unlearned: list[Floats]
    unseen: list[Floats]

    @classmethod
    def of(cls, evidence: Evidence, points: Ints) -> _Sides:
        reading, rows = evidence.readings[Pairs()], evidence.rows("unlearned reference")
        unlearned, unseen = [], []
        for p in points:
            unit = reading.unit[p]
            gone = [r for r in rows if evidence.seen[r, unit] and not evidence.held[r, unit]]
            never = [r for r in rows if not evidence.seen[r, unit]]
            assert len(gone) == len(never) == 8
            unlearned.append(reading.values["z"][gone, p])
            unseen.append(reading.values["z"][never, p])
        return cls(unlearned, unseen)


class TestLinear(_ULiraTests):
    attack = ULira()

    def test_against_a_loop(self) -> None:
        evidence, reading = _evidence(_WEAK), _evidence(_WEAK).readings[Pairs()]
        points = np.flatnonzero(_case().forget[reading.unit])
        sides = _Sides.of(evidence, points)
        pairs = list(zip(sides.unlearned, sides.unseen, strict=True))
        contrast = np.array([a.mean() - b.mean() for a, b in pairs])
        middle = np.array([(a.mean() + b.mean()) / 2 for a, b in pairs])
        within = shrunken(np.array([(a.var() * 8 + b.var() * 8) / 14 for a, b in pairs]), 14)
        scores, target = self.score(evidence, self.targets(evidence)), self.targets(evidence)[-1]
        expected = contrast / within * (reading.values["z"][target, points] - middle)
        assert_allclose(scores.level[-1, reading.unit[points]], expected, rtol=1e-9)
        assert scores.pattern is not None
        assert scores.n_points == len(points)


class TestRatio(_ULiraTests):
    attack = ULira("ratio")

    def test_against_scipy(self) -> None:
        evidence, reading = _evidence(_WEAK), _evidence(_WEAK).readings[Pairs()]
        points = np.flatnonzero(_case().forget[reading.unit])
        sides = _Sides.of(evidence, points)
        value, ratio = reading.values["z"][self.targets(evidence)[-1], points], np.zeros(len(points))
        for sign, side in ((1, sides.unlearned), (-1, sides.unseen)):
            deviation = np.sqrt(np.mean([s.var(ddof=1) for s in side]))
            ratio += sign * np.asarray(norm.logpdf(value, [s.mean() for s in side], deviation))
        scores = self.score(evidence, self.targets(evidence))
        assert scores.pattern is None
        assert_allclose(scores.level[-1, reading.unit[points]], ratio, rtol=1e-7, atol=1e-9)


def _with(evidence: Evidence, z: Floats) -> Evidence:
    reading = evidence.readings[Pairs()]
    return replace(evidence, readings={Pairs(): replace(reading, values={**reading.values, "z": z})})


def _calibrated(method: Unlearner) -> Yardstick:
    rules = Rules("interaction", 0.2, 0.05, "lira-linear", Access.SCORES, 0)
    evidence = _evidence(method)
    return calibrate(ULira(), evidence.take(evidence.rows("original", "gold", "unlearned reference")), rules)


def test_a_method_that_hardly_does_anything_is_found() -> None:
    evidence = _evidence(_WEAK)
    yardstick = _calibrated(_WEAK)
    assert yardstick.power
    level = read_system(yardstick, evidence.take(evidence.rows("unlearned"))).level
    assert level.bounds(0.05)[0] > 0.5


def test_honest_deletion_leaves_nothing_to_find() -> None:
    """With Gold as the method the contrast is noise: it reads near Gold, or the original does not stand out."""
    evidence = _evidence(Gold())
    fitted, usable = ULira().fit(evidence.take(evidence.rows("unlearned reference")))
    contrast = (fitted.mean_in - fitted.mean_out)[usable]
    # Eight systems a side: squared contrasts are 2/8 of the variance by chance alone.
    assert np.mean(contrast**2 / fitted.within[usable]) == pytest.approx(2 / 8, rel=0.35)
    yardstick = _calibrated(Gold())
    level = read_system(yardstick, evidence.take(evidence.rows("unlearned"))).level
    assert not yardstick.power or level.p_beyond(0.2) > 0.05


def test_it_is_a_note_that_runs_when_named() -> None:
    assert ULira.battery() == ()
    assert not ULira.fails_in
    assert [attack.form for attack in ULira.variants()] == ["linear", "ratio"]
