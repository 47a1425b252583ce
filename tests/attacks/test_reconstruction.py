from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import ortho_group
from sklearn.linear_model import Ridge

from auditkit.attacks.reconstruction import PairWeights, Reconstruction, ridge_weights
from auditkit.backbones.ease import EASE
from auditkit.builds import System, Train
from auditkit.contracts import Backbone, Recipe
from auditkit.deletion import EVERYBODY, NOBODY
from auditkit.errors import NotApplicableError
from auditkit.evidence import Evidence, fix_points, observe
from auditkit.release import release_auc
from auditkit.testing import ProbeTests
from auditkit.testing.examples import OffersNothing, small_case, small_data
from auditkit.unlearners.sharding import Sharded
from tests.attacks.before import BeforeTests


@pytest.mark.parametrize(("n", "d"), [(5, 12), (12, 5), (6, 6)])
def test_weights_are_those_of_ridge_regression(n: int, d: int) -> None:
    rng = np.random.default_rng(n)
    row, vectors = rng.standard_normal(d), rng.standard_normal((n, d))
    penalty = 0.3 * np.square(vectors).sum(1).mean()
    oracle = Ridge(alpha=penalty, fit_intercept=False).fit(vectors.T, row)
    assert_allclose(ridge_weights(row, vectors, 0.3), oracle.coef_, rtol=1e-8)


def test_weights_where_there_is_nothing_to_explain_by() -> None:
    assert_array_equal(ridge_weights(np.ones(3), np.zeros((4, 3)), 1.0), np.zeros(4))
    assert np.isnan(ridge_weights(np.array([1, np.nan]), np.ones((3, 2)), 1.0)).all()
    assert np.isnan(ridge_weights(np.ones(2), np.array([[1, 1], [np.inf, 0]]), 1.0)).all()


@cache
def ease() -> tuple[EASE, EASE]:
    """A model, and its exact downdate to what is retained."""
    recipe = Recipe.of("ease", {"regularization": 10.0})
    model = recipe.architecture().fit([(small_data(), 0)], recipe, device="cpu")[0]
    assert isinstance(model, EASE)
    return model, model.downdate(small_case("interaction").retain)


class TestPairWeights(ProbeTests):
    probe = PairWeights()
    regimes = ("interaction",)

    def test_against_scikit_learn(self) -> None:
        case, original, _ = next(self.examples())
        points, found = self.points(case), self.read(original, case)["weight"]
        rows, vectors = (table.detach().double().numpy() for table in original.embed())
        vectors = vectors - vectors.mean(0)
        for user in points["user"].unique()[:5]:
            mine = (points["user"] == user).to_numpy()
            held = case.data.train.items[case.data.train.users == user]
            candidates = np.union1d(held, points["item"][mine])
            penalty = np.square(vectors[candidates]).sum(1).mean()
            fitted = Ridge(alpha=penalty, fit_intercept=False).fit(vectors[candidates].T, rows[user])
            expected = fitted.coef_[np.searchsorted(candidates, points["item"][mine])]
            assert_allclose(found[mine], expected, rtol=1e-6, atol=1e-9)

    def test_rotating_all_vectors_changes_no_weight(self) -> None:
        case, original, _ = next(self.examples())
        turn = torch.tensor(ortho_group.rvs(8, random_state=0), dtype=torch.float32)
        turned = original.on(original.data)
        for name in ("user_table", "item_table"):
            turned.register_parameter(name, torch.nn.Parameter(getattr(original, name).detach() @ turn))
        assert_allclose(self.read(turned, case)["weight"], self.read(original, case)["weight"], atol=1e-5)

    def test_an_item_item_model_shows_its_histories(self) -> None:
        """With hardly any ridge the weight is 1 for what is in the history and 0 for what is not."""
        case, (model, downdated) = small_case("interaction"), ease()
        exact = PairWeights(ridge=1e-9)
        points = exact.points(case, rng=np.random.default_rng(0))
        groups = case.units["group"].to_numpy()[points["unit"]]
        for system, held in ((model, groups != "outside"), (downdated, groups == "retain")):
            weights = exact.read(system, points, case, rng=np.random.default_rng(0))["weight"]
            assert_allclose(weights, held.astype(np.float64), atol=1e-4)

    def test_users_are_capped(self) -> None:
        points = PairWeights(most=9).points(small_case("interaction"), rng=np.random.default_rng(0))
        assert points["user"].nunique() == 9

    @pytest.mark.parametrize("regime", ["user", "item", "modality"])
    def test_other_requests_name_no_pair(self, regime: str) -> None:
        with pytest.raises(NotApplicableError, match="asked in interaction requests"):
            self.points(small_case(regime))

    def test_a_system_that_offers_nothing(self) -> None:
        with pytest.raises(NotApplicableError, match="without weights"):
            self.read(OffersNothing(60, 40), small_case("interaction"))

    def test_shards_have_no_one_table(self) -> None:
        case, one, other = next(self.examples())
        with pytest.raises(NotApplicableError, match="sub-models"):
            self.read(Sharded([one, other]), case)

    def test_a_score_that_is_no_product_is_refused(self) -> None:
        recipe = Recipe.of("neumf")
        with pytest.raises(NotApplicableError, match="not by a product of vectors"):
            self.read(recipe.model(small_data(), 0), small_case("interaction"))


class TestReconstruction(BeforeTests):
    attack = Reconstruction()
    regimes = ("interaction",)

    def test_weight_lost_per_unit(self) -> None:
        _, evidence = next(self.examples())
        reading, target = evidence.readings[self.attack.probes[0]], int(evidence.rows("unlearned")[0])
        lost = reading.values["weight"][0] - reading.values["weight"][target]
        level = self.score(evidence, np.array([target])).level[0]
        assert_allclose(level[reading.unit], lost)
        assert np.isnan(np.delete(level, reading.unit)).all()


def evidence_of(models: dict[str, Backbone], attack: Reconstruction) -> Evidence:
    recipe, case = Recipe.of("ease"), small_case("interaction")
    systems = [
        System(
            name,
            "original" if name == "parent" else "unlearned",
            Train(recipe, NOBODY if name == "parent" else EVERYBODY, 0),
        )
        for name in models
    ]
    questions = fix_points(attack.probes, case, seed=1)
    return observe(zip(systems, models.values(), strict=True), questions, case, seed=1)


def test_an_exact_downdate_reveals_what_was_deleted() -> None:
    """Unlearning is exact and both models together give the forgotten pairs away: a finding on the release."""
    model, downdated = ease()
    attack, case = Reconstruction(), small_case("interaction")
    evidence = evidence_of({"parent": model, "downdated": downdated}, attack)
    retrained = EASE.fit([(case.retain, 0)], Recipe.of("ease", {"regularization": 10.0}), device="cpu")[0]
    assert_allclose(downdated.item_weights.detach(), retrained.item_weights.detach(), atol=1e-9)
    level = TestReconstruction().score(evidence, np.array([0, 1])).level
    groups = case.units["group"].to_numpy()
    unchanged, found = release_auc(level, groups == "forget", groups == "retain", case.units["cluster"])
    assert unchanged.auc.value == 0.5
    assert found.auc.value is not None
    assert found.auc.value > 0.99
