from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from auditkit.attacks.exposure import Exposure, HitRate
from auditkit.contracts import Recommender
from auditkit.crossing import cross_score
from auditkit.data.dataset import Floats, Ints
from auditkit.deletion import Regime
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case
from auditkit.testing import AttackTests, ProbeTests
from auditkit.testing.examples import OffersNothing, small_case, small_systems


class TestHitRate(ProbeTests):
    probe = HitRate(k=5)
    silence = 0.0
    regimes: ClassVar[tuple[Regime, ...]] = ("item",)

    def test_it_is_a_count_over_lists(self) -> None:
        case = small_case("item")
        model = small_systems("item")[0][1]
        points = self.points(case)
        found = self.read(model, case, points)["hits"]
        assert_allclose(found, naive(model, case, 5)[points["item"]])
        assert found.max() > 0

    def test_an_item_that_is_not_offered_is_shown_to_nobody(self) -> None:
        case = small_case("item")
        assert not self.read(OffersNothing(60, 40), case)["hits"].any()

    def test_other_requests_are_refused(self) -> None:
        for regime in ("interaction", "user"):
            with pytest.raises(NotApplicableError, match="asked in item requests"):
                self.probe.points(small_case(regime), rng=np.random.default_rng(0))


def naive(model: Recommender, case: Case, k: int) -> Floats:
    """User by user: sort what she does not keep, and count."""
    shown = np.zeros(case.data.n_items)
    kept = set(zip(case.retain.train.users.tolist(), case.retain.train.items.tolist(), strict=True))
    for user in range(case.data.n_users):
        scores = model.score(np.array([user]))[0].double().numpy()
        free = [i for i in range(case.data.n_items) if (user, i) not in kept]
        shown[sorted(free, key=lambda i: -scores[i])[:k]] += 1
    return shown / case.data.n_users


class Fixed:
    """The same scores for everybody."""

    def __init__(self, scores: Floats, n_users: int) -> None:
        self.row, self.n_users, self.n_items = torch.from_numpy(scores), n_users, len(scores)

    def score(self, users: Ints, *, branch: str | None = None) -> torch.Tensor:
        return self.row.expand(len(users), -1).clone()


def test_everybody_is_shown_the_best_item() -> None:
    case = small_case("item")
    erased = case.units["item"].to_numpy()[case.forget]
    scores = np.zeros(40)
    scores[erased[0]] = 1.0
    probe = HitRate(k=1)
    points = probe.points(case, rng=np.random.default_rng(0))
    found = probe.read(Fixed(scores, 60), points, case, rng=np.random.default_rng(0))["hits"]
    assert found[points["item"] == erased[0]] == 1.0
    assert not found[np.isin(points["item"], erased[1:])].any()


class TestExposure(AttackTests):
    attack = Exposure()
    regimes: ClassVar[tuple[Regime, ...]] = ("item",)

    def test_the_score_is_the_hit_rate(self) -> None:
        for _, evidence in self.examples():
            reading = evidence.readings[self.attack.probes[0]]
            level = cross_score(self.attack, evidence).level
            rows = [k for k, s in enumerate(evidence.systems) if s.role != "reference"]
            assert_array_equal(level[rows], reading.values["hits"][rows])

    def test_it_counts_above_gold_alone(self) -> None:
        assert self.attack.one_sided
        assert not self.attack.primary_for
        assert self.attack.fails_in == {"item"}
