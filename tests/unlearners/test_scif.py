from __future__ import annotations

import numpy as np
import pytest
import torch

from auditkit.contracts import Backbone
from auditkit.data.dataset import Floats, Interactions, Ints
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError, NotApplicableError
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_data, small_request
from auditkit.testing.unlearners import forget_margin
from auditkit.unlearners.sampling import retained_batches
from auditkit.unlearners.scif import SCIF, collaborative_values, user_rows


class TestSCIF(UnlearnerTests):
    unlearner = SCIF()
    utility_band = (0.65, 1.1)

    def test_exactly_the_rows_of_the_target_users_move(self) -> None:
        task = self.task(small_request("interaction"), np.arange(5))
        parent, served = self.parent(task), self.run(task)
        assert isinstance(served, Backbone)
        moved = (served.get_parameter("user_table") != parent.get_parameter("user_table")).any(1).numpy()
        assert np.array_equal(np.flatnonzero(moved), np.unique(task.forget.users))
        assert torch.equal(served.get_parameter("item_table"), parent.get_parameter("item_table"))

    def test_a_user_s_step_is_the_dense_solve(self) -> None:
        """H and g of one user written out; every pair of the user is in H, the forgotten one too."""
        task = self.task(small_request("interaction"), np.array([0]))
        method = SCIF(damping=0.2, steps=200, draws=3)
        parent, served = self.parent(task), self.run(task, unlearner=method)
        user, rng = int(task.forget.users[0]), np.random.default_rng(5)
        p, q = (parent.get_parameter(n).detach().double().numpy() for n in ("user_table", "item_table"))
        users, items = np.tile(task.forget.users, 3), np.tile(task.forget.items, 3)
        others = retained_batches(task, 1).negatives(users, rng)
        values = _naive_values(task.retain.train, users, items, others, 20)
        slope = sum(-(1 - c) * (q[i] - q[j]) for c, i, j in zip(values, items, others, strict=True)) / 3
        held = small_data().train.items[small_data().train.users == user]
        against = retained_batches(task, 1).negatives(np.full(len(held), user), rng)
        bend = np.zeros((16, 16))
        for i, j in zip(held, against, strict=True):
            surely = 1 / (1 + np.exp(-p[user] @ (q[i] - q[j])))
            bend += surely * (1 - surely) * np.outer(q[i] - q[j], q[i] - q[j])
        damping = 0.2 * (slope @ bend @ slope) / (slope @ slope)
        expected = p[user] + np.linalg.solve(bend + damping * np.eye(16), slope)
        assert isinstance(served, Backbone)
        np.testing.assert_allclose(served.get_parameter("user_table").detach().numpy()[user], expected, atol=2e-3)

    def test_forgotten_pairs_fall(self) -> None:
        for regime in self.regimes:
            task = self.task(small_request(regime))
            assert forget_margin(self.run(task), task) < forget_margin(self.parent(task), task)

    def test_what_neighbours_hold_is_kept_more(self) -> None:
        """Among forgotten pairs, those that the votes are for fall less."""
        task = self.task(small_request("interaction"))
        parent, served = self.parent(task).score(np.arange(60)), self.run(task).score(np.arange(60))
        u, i = task.forget.users, task.forget.items
        fall = (parent - parent.mean(1, keepdim=True) - served + served.mean(1, keepdim=True)).numpy()[u, i]
        rng = np.random.default_rng(0)
        values = collaborative_values(task.retain.train, (60, 40), (u, i, rng.integers(40, size=len(u))), 20)
        assert fall[values > np.median(values)].mean() < fall[values <= np.median(values)].mean()

    def test_item_requests_are_refused_with_the_reason(self) -> None:
        reason = SCIF().refuses(self.recipe, small_request("item"))
        assert reason is not None
        assert "users alone" in reason

    def test_nothing_to_forget_leaves_the_parent(self) -> None:
        task = self.task(small_request("user"), np.empty(0, np.int64))
        assert torch.equal(self.run(task).score(np.arange(60)), self.parent(task).score(np.arange(60)))

    def test_a_backbone_without_rows_of_users(self) -> None:
        model = self.parent(self.task(small_request("user")))
        model.get_parameter("user_table").requires_grad_(False)
        with pytest.raises(NotApplicableError, match="trains no row per user"):
            user_rows(model, np.array([1]))


class TestSCIFOfLightGCN(UnlearnerTests):
    unlearner = SCIF(steps=5)
    backbone = "lightgcn"
    config = {"factors": 8, "layers": 2}  # noqa: RUF012
    fit = {"epochs": 3, "learning_rate": 0.02}  # noqa: RUF012
    utility_band = None


@pytest.mark.parametrize("k", [1, 3, 50])
def test_collaborative_values_equal_a_count_of_votes(k: int) -> None:
    """User 9 holds nothing: all others vote."""
    rng = np.random.default_rng(k)
    # Sizes of sets that share no common cosine keep the nearest users distinct.
    retain = Interactions.unique(*np.nonzero(rng.random((10, 60)) < rng.uniform(0.2, 0.8, (10, 1))))[0]
    retain = retain.take(retain.users != 9)
    users, items, others = rng.integers(10, size=40), rng.integers(60, size=40), rng.integers(60, size=40)
    found = collaborative_values(retain, (10, 60), (users, items, others), k)
    np.testing.assert_allclose(found, _naive_values(retain, users, items, others, k))
    assert ((found > 0) & (found < 1)).all()


def _naive_values(retain: Interactions, users: Ints, items: Ints, others: Ints, k: int) -> Floats:
    n_users = max(int(retain.users.max()), int(users.max())) + 1
    sets = [set(retain.items[retain.users == v].tolist()) for v in range(n_users)]
    values = []
    for u, i, j in zip(users, items, others, strict=True):
        alike = {v: len(sets[u] & s) / np.sqrt(max(len(sets[u]) * len(s), 1)) for v, s in enumerate(sets) if v != u}
        near = [v for v in sorted(alike, key=lambda v: -alike[v])[:k] if alike[v] > 0] or list(range(n_users))
        first, second = (sum(x in sets[v] for v in near) for x in (i, j))
        values.append((first + 1) / (first + second + 2))
    return np.array(values)


def test_requests_without_users_do_not_reach_it() -> None:
    assert "item" not in SCIF.regimes
    request = DeletionRequest("item", np.array([-1]), np.array([3]))
    assert SCIF().refuses(TestSCIF().recipe, request)


@pytest.mark.parametrize("options", [{"neighbours": 0}, {"steps": 0}, {"damping": -0.1}, {"draws": 0}])
def test_domains(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(ConfigurationError, match=f"{name} must be"):
        SCIF(**options)  # type: ignore[arg-type]
