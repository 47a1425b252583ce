from __future__ import annotations

import numpy as np
import pytest
import torch

from auditkit.backbones.bpr_mf import BPRMF
from auditkit.errors import ConfigurationError
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_data, small_request
from auditkit.testing.unlearners import forget_margin
from auditkit.unlearners.negative_gradient import NegativeGradient
from auditkit.unlearners.sampling import forgotten_batches

_ONE_STEP = NegativeGradient(epochs=1, batch=10**6)


class TestNegativeGradient(UnlearnerTests):
    unlearner = NegativeGradient(epochs=2, batch=64)
    one_step = _ONE_STEP
    utility_band = (0.6, 1.2)

    def test_one_step_climbs_the_bpr_loss_of_the_forgotten_pairs(self) -> None:
        """Adam's first step is the learning rate along the gradient's sign, written out for one user's row."""
        task = self.task(small_request("interaction"))
        parent, served = self.parent(task), self.run(task, unlearner=_ONE_STEP)
        assert isinstance(served, BPRMF)
        batches = forgotten_batches(task, 10**6)
        ((users, positives, negatives),) = batches.epoch(np.random.default_rng(5))
        p, q = (parent.get_parameter(name).detach().numpy() for name in ("user_table", "item_table"))
        user = int(users[0])
        slope = np.zeros(p.shape[1])
        for i, j in zip(positives[users == user], negatives[users == user], strict=True):
            slope -= (q[i] - q[j]) / (1 + np.exp(p[user] @ (q[i] - q[j])))
        moved = served.user_table.detach().numpy()[user] - p[user]
        clear = np.abs(slope) > 1e-3
        assert clear.sum() > 8
        np.testing.assert_allclose(moved[clear], _ONE_STEP.learning_rate * np.sign(slope[clear]), rtol=2e-2)

    def test_users_of_no_forgotten_pair_stay(self) -> None:
        task = self.task(small_request("interaction"), np.arange(3))
        parent, served = self.parent(task), self.run(task)
        assert isinstance(served, BPRMF)
        moved = (served.user_table != parent.get_parameter("user_table")).any(1).numpy()
        assert np.array_equal(np.flatnonzero(moved), np.unique(task.forget.users))

    def test_nothing_to_forget_leaves_the_parent(self) -> None:
        task = self.task(small_request("interaction"), np.empty(0, np.int64))
        users = np.arange(60)
        assert torch.equal(self.run(task).score(users), self.parent(task).score(users))

    def test_the_step_grows_without_bound(self) -> None:
        """Unlike the swapped form: after many epochs the forgotten pairs are far below all others."""
        task = self.task(small_request("interaction"))
        few, many = (self.run(task, unlearner=NegativeGradient(epochs=n, learning_rate=0.02)) for n in (2, 30))
        assert forget_margin(many, task) < forget_margin(few, task) - 2
        assert np.isfinite(many.score(np.arange(60)).numpy()).all()

    def test_retained_items_of_a_user_are_no_negatives(self) -> None:
        task = self.task(small_request("user"))
        batches = forgotten_batches(task, 10**6)
        ((users, _, negatives),) = batches.epoch(np.random.default_rng(0))
        assert not np.isin(users * 40 + negatives, small_data().train.codes(40)).any()


class TestNegativeGradientOfLightGCN(UnlearnerTests):
    unlearner = NegativeGradient(epochs=1)
    one_step = _ONE_STEP
    backbone = "lightgcn"
    config = {"factors": 8, "layers": 2}  # noqa: RUF012
    fit = {"epochs": 3, "learning_rate": 0.02}  # noqa: RUF012
    utility_band = None


@pytest.mark.parametrize("options", [{"epochs": 0}, {"batch": 0}, {"learning_rate": -1.0}])
def test_domains(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="must be 1 or more"):
        NegativeGradient(**options)  # type: ignore[arg-type]
