from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from auditkit.attacks.list_history import HistoryGap, ListHistory, item_vectors, listed
from auditkit.contracts import Access, Backbone
from auditkit.crossing import cross_score
from auditkit.data.dataset import Ints
from auditkit.errors import NotApplicableError
from auditkit.testing import AttackTests, ProbeTests
from auditkit.testing.examples import OffersNothing, small_case


class TestHistoryGap(ProbeTests):
    probe = HistoryGap(k=10, width=8)
    regimes = ("user",)

    def test_against_a_loop(self) -> None:
        for case, original, _ in self.examples():
            points, vectors = self.points(case), item_vectors(case, 8)
            found = self.read(original, case, points)["gap"]
            assert found.shape == (len(points), 8)
            for k in (0, 2, len(points) - 1):
                user = int(points["user"][k])
                history = case.data.train.items[case.data.train.users == user]
                expected = np.mean([vectors[i] for i in history], axis=0)
                best = _best(original, user, case.retain.train.items[case.retain.train.users == user])
                for j, item in enumerate(best):
                    expected = expected - (len(best) - j) / sum(range(len(best) + 1)) * vectors[item]
                assert_allclose(found[k], expected, atol=1e-9)

    def test_lists_longer_than_the_catalogue(self) -> None:
        case, original, _ = next(self.examples())
        longer = HistoryGap(k=100, width=8)
        points = longer.points(case, rng=np.random.default_rng(3))
        gap = longer.read(original, points, case, rng=np.random.default_rng(4))["gap"]
        assert np.isfinite(gap).all()

    def test_more_dimensions_than_there_are(self) -> None:
        case = small_case("user")
        assert item_vectors(case, 500).shape == (case.data.n_items, case.data.n_items - 1)

    def test_vectors_know_nothing_of_what_is_erased(self) -> None:
        case = small_case("user")
        gone = np.setdiff1d(np.unique(case.data.train.items), case.retain.train.items)
        assert_allclose(item_vectors(case, 8)[gone], 0.0, atol=1e-12)
        together = item_vectors(case, 500) @ item_vectors(case, 500).T
        seen = case.retain.train.matrix(case.data.n_users, case.data.n_items).toarray()
        degrees = np.log((1 + len(seen)) / (1 + seen.sum(0))) + 1
        weighted = seen * degrees
        weighted /= np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-12)
        assert_allclose(together, weighted.T @ weighted, atol=0.05)

    @pytest.mark.parametrize("regime", ["interaction", "item"])
    def test_other_requests_name_no_users(self, regime: str) -> None:
        with pytest.raises(NotApplicableError, match="names no users"):
            self.points(small_case(regime))

    def test_an_empty_list_reads_nan(self) -> None:
        case = small_case("user")
        silent = OffersNothing(case.data.n_users, case.data.n_items)
        assert np.isnan(self.read(silent, case)["gap"]).all()


def _best(model: Backbone, user: int, masked: Ints) -> list[int]:
    """Up to 10 items; fewer for a user who keeps nearly all of the catalogue."""
    scores = model.score(np.array([user])).double().numpy()[0]
    return [int(item) for item in np.argsort(-scores, kind="stable") if item not in masked][:10]


def test_the_published_weights() -> None:
    """Lists of 100 are weighted by (100 - j) / 5050."""
    shown = np.arange(100)[None]
    assert_allclose(listed(shown, np.eye(100))[0], (100 - np.arange(100)) / 5050)


def test_a_short_list_is_weighted_by_its_own_length() -> None:
    shown = np.array([[2, 0, -1, -1], [-1, -1, -1, -1]])
    found = listed(shown, np.eye(3))
    assert_allclose(found[0], [1 / 3, 0, 2 / 3])
    assert np.isnan(found[1]).all()


class TestListHistory(AttackTests):
    attack = ListHistory(k=10, width=8)
    regimes = ("user",)

    def test_against_scikit_learn(self) -> None:
        for case, evidence in self.examples():
            reading, refs = evidence.readings[self.attack.probes[0]], evidence.rows("reference")
            gap, mine = reading.values["gap"], case.forget[reading.unit]
            rows = [np.concatenate([g, g**2, [np.linalg.norm(g)]]) for r in refs for g in gap[r, mine]]
            labels = [bool(h) for r in refs for h in evidence.held[r, reading.unit[mine]]]
            scaler = StandardScaler().fit(rows)
            model = LogisticRegression(tol=1e-8, max_iter=10_000).fit(scaler.transform(rows), labels)
            level = cross_score(self.attack, evidence).level
            for target in evidence.rows("original", "gold"):
                asked = [np.concatenate([g, g**2, [np.linalg.norm(g)]]) for g in gap[target]]
                odds = model.decision_function(scaler.transform(asked))
                assert_allclose(level[target, reading.unit], odds, atol=2e-3)

    def test_lists_are_all_it_needs(self) -> None:
        assert self.attack.access == Access.LISTS
        assert self.attack.battery() == ()
        assert not self.attack.fails_in
