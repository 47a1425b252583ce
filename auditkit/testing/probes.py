"""Conformance of probes: the same question for every system, and nothing moved by asking."""

# The name of a test says what it checks.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.testing import assert_array_equal

from auditkit.contracts import Access, Backbone, Probe
from auditkit.data.dataset import Floats
from auditkit.deletion import Regime
from auditkit.digests import digest_of
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case
from auditkit.testing.examples import REGIMES, OffersNothing, small_case, small_systems


class ProbeTests:
    """What every probe must do, on small BPR-MF systems in every regime it applies to.

    Attributes:
        probe: under test.
        silence: what a system that offers nothing reads as; NaN unless the signal has a value for it (-1 in lists).
        regimes: to which it must apply; it may raise `NotApplicableError` in others.
    """

    probe: ClassVar[Probe]
    silence: ClassVar[float] = np.nan
    regimes: ClassVar[tuple[Regime, ...]] = REGIMES

    def examples(self) -> Iterator[tuple[Case, Backbone, Backbone]]:
        """A case with an original and a Gold, for every regime."""
        for regime in self.regimes:
            models = {system.role: model for system, model in small_systems(regime)}
            original, gold = models["original"], models["gold"]
            assert isinstance(original, Backbone)
            assert isinstance(gold, Backbone)
            yield small_case(regime), original, gold

    def points(self, case: Case) -> pd.DataFrame:
        """The questions, from a fixed stream."""
        return self.probe.points(case, rng=np.random.default_rng(3))

    def read(self, model: object, case: Case, points: pd.DataFrame | None = None) -> dict[str, Floats]:
        """The answers, from a fixed stream."""
        asked = self.points(case) if points is None else points
        return self.probe.read(model, asked, case, rng=np.random.default_rng(4))  # type: ignore[arg-type]

    def test_says_what_it_is(self) -> None:
        assert self.probe.name
        assert isinstance(self.probe.access, Access)
        assert self.probe.access

    def test_is_a_value(self) -> None:
        twin = replace(self.probe)
        assert twin == self.probe
        assert hash(twin) == hash(self.probe)
        assert digest_of(twin) == digest_of(self.probe)

    def test_answers_or_refuses_other_regimes(self) -> None:
        for regime in set(REGIMES) - set(self.regimes):
            with suppress(NotApplicableError):
                assert len(self.points(small_case(regime)))

    def test_points_name_unit_user_and_item(self) -> None:
        for case, _, _ in self.examples():
            points = self.points(case)
            assert {"unit", "user", "item"} <= set(points.columns)
            assert len(points)
            assert points["unit"].between(0, len(case.units) - 1).all()
            assert points["user"].between(-1, case.data.n_users - 1).all()
            assert points["item"].between(-1, case.data.n_items - 1).all()
            assert case.forget[points["unit"].to_numpy()].any()

    def test_points_follow_from_the_stream(self) -> None:
        for case, _, _ in self.examples():
            pd.testing.assert_frame_equal(self.points(case), self.points(case))

    def test_answers_have_one_row_a_point(self) -> None:
        for case, original, gold in self.examples():
            points = self.points(case)
            answers = [self.read(model, case, points) for model in (original, gold)]
            assert answers[0].keys() == answers[1].keys()
            for one, other in zip(answers[0].values(), answers[1].values(), strict=True):
                assert one.dtype == np.float64
                assert one.shape == other.shape
                assert len(one) == len(points)
                assert np.isfinite(one).any()

    def test_same_system_same_answers(self) -> None:
        for case, original, _ in self.examples():
            one, other = self.read(original, case), self.read(original, case)
            for name in one:
                assert_array_equal(one[name], other[name])

    def test_asking_moves_nothing(self) -> None:
        for case, original, _ in self.examples():
            points = self.points(case)
            was, state = points.copy(), {n: v.clone() for n, v in original.state_dict().items()}
            scores = original.score(np.arange(original.n_users)).clone()
            numpy_stream, torch_stream = np.random.get_state(legacy=False), torch.get_rng_state()
            self.read(original, case, points)
            pd.testing.assert_frame_equal(points, was)
            assert all(torch.equal(value, state[name]) for name, value in original.state_dict().items())
            assert torch.equal(original.score(np.arange(original.n_users)), scores)
            assert str(np.random.get_state(legacy=False)) == str(numpy_stream)
            assert torch.equal(torch.get_rng_state(), torch_stream)

    def test_a_system_that_offers_nothing(self) -> None:
        for case, _, _ in self.examples():
            for values in self.read(OffersNothing(case.data.n_users, case.data.n_items), case).values():
                assert_array_equal(values, np.full_like(values, self.silence))
