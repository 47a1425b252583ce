from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import auditkit.probes
from auditkit.attacks.sampled_scores import PairMargins, SampledScores, scores_at
from auditkit.data.dataset import Ints
from auditkit.probes import Pairs
from auditkit.testing import ProbeTests
from auditkit.testing.examples import small_case


class TestSampledScores(ProbeTests):
    probe = SampledScores(sampled=15)

    def test_scores_of_the_users_own_items(self) -> None:
        for case, original, gold in self.examples():
            points = self.points(case)
            one, other = self.read(original, case)["scores"], self.read(gold, case)["scores"]
            assert one.shape == (len(points), 15)
            rows = original.score(np.arange(original.n_users)).double().numpy()
            theirs = gold.score(np.arange(gold.n_users)).double().numpy()
            for k, user in enumerate(points["user"].to_numpy()[:20]):
                where = [int(np.flatnonzero(rows[user] == value)[0]) for value in one[k]]
                assert len(set(where)) == 15
                assert_array_equal(theirs[user, where], other[k])

    def test_users_are_capped_and_a_small_catalogue_is_asked_whole(self) -> None:
        case = small_case("interaction")
        few = SampledScores(sampled=1000, most=7)
        points = few.points(case, rng=np.random.default_rng(0))
        assert points["user"].nunique() == 7
        _, original, _ = next(self.examples())
        assert few.read(original, points, case, rng=np.random.default_rng(1))["scores"].shape[1] == 40


class TestPairMargins(ProbeTests):
    probe = PairMargins(negatives=30)

    def test_their_mean_is_the_margin_of_the_pairs_probe(self) -> None:
        """Both draw the same negatives from the same stream."""
        for case, original, _ in self.examples():
            margins = self.read(original, case)["margins"]
            pairs = Pairs(negatives=30)
            mean = pairs.read(original, case.pairs(), case, rng=np.random.default_rng(4))["margin"]
            assert_allclose(np.nanmean(margins, axis=1), mean, rtol=1e-9, atol=1e-12)

    def test_pairs_are_capped(self) -> None:
        points = PairMargins(most=11).points(small_case("interaction"), rng=np.random.default_rng(0))
        assert len(points) == 11
        assert points["unit"].is_unique


def test_pairs_in_any_order_and_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model, _ = next(TestPairMargins().examples())
    rng = np.random.default_rng(0)
    users: Ints = rng.integers(model.n_users, size=200)
    items: Ints = rng.integers(model.n_items, size=200)
    expected = model.score(np.arange(model.n_users)).double().numpy()[users, items]
    assert_array_equal(scores_at(model, users, items), expected)
    monkeypatch.setattr(auditkit.probes, "_BLOCK_BYTES", 8 * 7 * model.n_items)
    assert_allclose(scores_at(model, users, items), expected, rtol=1e-6)
