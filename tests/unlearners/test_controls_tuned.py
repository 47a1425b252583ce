from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from auditkit.contracts import Backbone, Recipe
from auditkit.data.dataset import Dataset
from auditkit.deletion import select
from auditkit.errors import ConfigurationError
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_request, small_task
from auditkit.unlearners.controls_ladder import Questions, TunedToLevel
from auditkit.unlearners.controls_search import Contrast, fall_to
from auditkit.unlearners.controls_tuned import MinusConstant, Noise, OverForgetting, Shifted, TunedToAUC
from auditkit.unlearners.influence import Selection

_EVERYBODY = np.arange(60)
_LIGHTGCN = ({"factors": 8, "layers": 2}, {"epochs": 3, "learning_rate": 0.02})


class TestOverForgetting(UnlearnerTests):
    unlearner = OverForgetting(learning_rate=0.02, batch=256, forget_batch=64)
    utility_band = (0.0, 1.0)

    def test_forgotten_pairs_fall_far_below_where_gold_has_them(self) -> None:
        """On the scale of the audit's primary attack, where a Gold reads 0 and the parent 1."""
        ladder = TunedToLevel()
        for task in self.tasks():
            rng = np.random.default_rng(5)
            level = ladder.level(self.parent(task), task, Questions.of(task, rng), rng)
            # So few pairs take longer steps; in whole-user requests steps too long ruin all likeness instead.
            rate = 0.05 if task.request.regime == "interaction" else 0.02
            served = self.run(task, unlearner=replace(self.unlearner, learning_rate=rate))
            assert isinstance(served, Backbone)
            assert level.read(served) < -0.15


class TestNoise(UnlearnerTests):
    unlearner = Noise()
    utility_band = (0.0, 0.9)

    def test_forgotten_and_other_pairs_score_alike_where_they_did_not(self) -> None:
        for task in self.tasks():
            contrast = Contrast.of(task, np.random.default_rng(5))
            served = self.run(task, seed=5)
            assert isinstance(served, Backbone)
            assert contrast.auc(self.parent(task)) > 0.6
            assert contrast.auc(served) == pytest.approx(0.5, abs=0.02)

    def test_every_weight_is_noisy(self) -> None:
        task = self.task(small_request("user"))
        served = self.run(task)
        assert isinstance(served, Backbone)
        for name, parameter in self.parent(task).named_parameters():
            assert (served.get_parameter(name) != parameter).all()


class TestNoiseOfLightGCN(UnlearnerTests):
    unlearner = Noise()
    backbone = "lightgcn"
    config, fit = _LIGHTGCN
    utility_band = None


class TestTunedToAUC(UnlearnerTests):
    unlearner = TunedToAUC(learning_rate=0.02, batch=256, forget_batch=64)
    utility_band = (0.0, 1.1)

    def test_forgotten_and_other_pairs_score_alike_where_they_did_not(self) -> None:
        for task in self.tasks():
            contrast = Contrast.of(task, np.random.default_rng(5))
            served = self.run(task, seed=5)
            assert isinstance(served, Backbone)
            assert contrast.auc(self.parent(task)) > 0.6
            assert contrast.auc(served) == pytest.approx(0.5, abs=0.02)

    def test_a_backbone_without_a_loss_is_refused(self) -> None:
        assert "no loss" in (self.unlearner.refuses(Recipe.of("ease"), small_request("user")) or "")


class TestTunedToAUCOfLightGCN(UnlearnerTests):
    unlearner = TunedToAUC(passes=4)
    backbone = "lightgcn"
    config, fit = _LIGHTGCN
    utility_band = None


class TestMinusConstant(UnlearnerTests):
    unlearner = MinusConstant()
    serves_retain = False

    def test_the_weights_are_the_parents_bit_for_bit(self) -> None:
        for task in self.tasks():
            (beneath,), _ = self.unlearner.dump(self.run(task))
            for name, parameter in self.parent(task).named_parameters():
                assert torch.equal(beneath.get_parameter(name), parameter)

    def test_covered_scores_lie_lower_by_the_constant_and_no_others_do(self) -> None:
        for task in self.tasks():
            served = self.run(task)
            assert isinstance(served, Shifted)
            drop = (self.parent(task).score(_EVERYBODY) - served.score(_EVERYBODY)).numpy()
            covered = np.zeros((60, 40), np.bool_)
            for user, item in zip(task.request.users, task.request.items, strict=True):
                covered[user if user >= 0 else slice(None), item if item >= 0 else slice(None)] = True
            assert served.constant > 0
            np.testing.assert_allclose(drop, np.where(covered, served.constant, 0.0), atol=1e-5)

    def test_forgotten_pairs_score_as_others_do_on_average(self) -> None:
        task = self.task(small_request("interaction"))
        served, contrast = self.run(task, seed=5), Contrast.of(task, np.random.default_rng(5))
        scores = served.score(_EVERYBODY).double().numpy()
        forgotten = scores[task.forget.users, task.forget.items].mean()
        assert forgotten == pytest.approx(scores[contrast.users, contrast.items].mean(), abs=1e-5)

    def test_a_fresh_account_sees_only_erased_items_lowered(self) -> None:
        for task in self.tasks():
            served, told = self.run(task), [np.array([1, 2, 3])]
            assert isinstance(served, Shifted)
            drop = (self.parent(task).fold_in(told) - served.fold_in(told)).numpy()[0]
            lowered = np.isin(np.arange(40), task.request.items) & (task.request.regime == "item")
            np.testing.assert_allclose(drop, np.where(lowered, served.constant, 0.0), atol=1e-5)
            assert torch.equal(served.fold_in(told, side="item"), self.parent(task).fold_in(told, side="item"))


def test_contrast_keeps_one_side_and_draws_pairs_that_nobody_was_trained_on() -> None:
    data = Dataset.synthetic(n_users=300, n_items=200, n_interactions=6_000, seed=2)
    for regime in ("interaction", "user", "item"):
        task = small_task(data, select(data, regime, share=0.1), Recipe.of("bpr-mf"))
        contrast = Contrast.of(task, np.random.default_rng(0))
        kept, drawn = (contrast.items, contrast.users) if regime == "item" else (contrast.users, contrast.items)
        mine, theirs = (
            (task.forget.items, data.train.users) if regime == "item" else (task.forget.users, data.train.items)
        )
        assert np.array_equal(kept, mine)
        assert not np.isin(contrast.users * data.n_items + contrast.items, data.train.codes(data.n_items)).any()
        degree = np.bincount(theirs)
        assert degree[drawn].mean() == pytest.approx(degree[theirs].mean(), rel=0.15)


def test_contrast_of_users_who_hold_everything_ends() -> None:
    """Nobody is left to draw: what was drawn last stands, and the search goes on with it."""
    data = Dataset.synthetic(n_users=60, n_items=40, n_interactions=1_200)
    users, items = np.divmod(np.arange(60 * 40), 40)
    data = replace(data, train=type(data.train)(users, items), test=type(data.train).empty(), valid=data.train.empty())
    task = small_task(data, select(data, "user", share=0.1), Recipe.of("bpr-mf"))
    assert len(Contrast.of(task, np.random.default_rng(0)).items) == len(task.forget)


def test_falling_stops_at_the_target_or_where_steps_end() -> None:
    model = _some_model()
    weights, table = Selection({"user_table": model.trained["user_table"]}), model.trained["user_table"]

    def lower(k: int) -> None:
        weights.put(weights.values() - 1.0)

    def mean() -> float:
        return float(table.detach().double().mean())

    assert fall_to(weights, lower, mean, -2.25, tolerance=1e-4, steps=9) == pytest.approx(-2.25, abs=1e-4)
    assert mean() == pytest.approx(-2.25, abs=1e-4)
    at = mean()
    assert fall_to(weights, lower, mean, 5.0, tolerance=1e-4, steps=9) == at
    assert fall_to(weights, lower, mean, -9.0, tolerance=1e-4, steps=2) == pytest.approx(at - 2, abs=1e-4)
    before = weights.values()
    assert np.isnan(fall_to(weights, lower, lambda: float("nan"), -20.0, tolerance=1e-4, steps=3))
    assert torch.equal(weights.values(), before)


def _some_model() -> Backbone:
    """Something with weights."""
    data = Dataset.synthetic(n_users=60, n_items=40, n_interactions=1_200)
    return Recipe.of("bpr-mf").model(data, 0)


@pytest.mark.parametrize("options", [{"growth": 0.9}, {"tolerance": 0.0}, {"tolerance": 1.0}, {"passes": 0}])
def test_domains(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=r"must be 1 or more"):
        TunedToAUC(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("tolerance", [0.0, 0.5])
def test_domain_of_noise(tolerance: float) -> None:
    with pytest.raises(ConfigurationError, match=r"tolerance must be in \(0, 0.5\)"):
        Noise(tolerance)
