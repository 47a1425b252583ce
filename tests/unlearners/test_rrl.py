from __future__ import annotations

import numpy as np
import pytest
import torch

from auditkit.backbones.bpr_mf import BPRMF
from auditkit.data.dataset import Floats, Ints
from auditkit.errors import ConfigurationError
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_request
from auditkit.testing.unlearners import forget_margin
from auditkit.unlearners.rrl import RRL, fisher_diagonal
from auditkit.unlearners.sampling import forgotten_batches, retained_batches

_ONE_STEP = RRL(epochs=1, forget_batch=10**6, learning_rate=0.001)


class TestRRL(UnlearnerTests):
    unlearner = RRL(forget_batch=64)
    one_step = _ONE_STEP
    # Nothing repairs what the reverse steps break.
    utility_band = (0.35, 1.1)

    def test_fisher_diagonal_is_the_sum_of_squared_gradients_of_single_triples(self) -> None:
        task = self.task(small_request("interaction"))
        parent = self.parent(task)
        triples = retained_batches(task, 1).epoch(np.random.default_rng(0))[:200]
        found = fisher_diagonal(parent, triples, l2=0.01)
        expected = _naive_fisher(parent, triples, 0.01)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name].numpy(), values, rtol=1e-4, atol=1e-7)

    def test_batches_estimate_it_without_bias_where_gradients_are_noise(self) -> None:
        """As at the end of training: squares of sums agree with sums of squares, here over two draws of negatives."""
        task = self.task(small_request("interaction"))
        parent, rng = self.parent(task), np.random.default_rng(0)
        single, batched = (
            sum(
                float(part.sum())
                for _ in range(2)
                for part in fisher_diagonal(parent, retained_batches(task, size).epoch(rng), l2=0.005).values()
            )
            for size in (1, 4)
        )
        assert batched == pytest.approx(single, rel=0.15)

    def test_a_step_is_the_written_out_formula(self) -> None:
        task = self.task(small_request("interaction"))
        method = RRL(epochs=1, learning_rate=0.05, damping=0.5, batch=1, forget_batch=10**6)
        parent, served = self.parent(task), self.run(task, unlearner=method)
        rng = np.random.default_rng(5)
        information = _naive_fisher(parent, retained_batches(task, 1).epoch(rng), task.recipe.fit.l2)
        ((users, positives, negatives),) = forgotten_batches(task, 10**6).epoch(rng)
        reverse = _reverse_gradient(parent, users, positives, negatives)
        floor = 0.5 * np.concatenate([part.ravel() for part in information.values()]).mean()
        for name, gradient in reverse.items():
            expected = parent.get_parameter(name).detach().numpy() - 0.05 * gradient / (information[name] + floor)
            assert isinstance(served, BPRMF)
            np.testing.assert_allclose(served.get_parameter(name).detach().numpy(), expected, rtol=1e-3, atol=1e-4)

    def test_what_retained_pairs_need_moves_less(self) -> None:
        """The information is all that tells entries apart: less damping lets it count for more."""
        task = self.task(small_request("interaction"))
        parent = self.parent(task)
        information = fisher_diagonal(parent, retained_batches(task, 1).epoch(np.random.default_rng(5)), l2=0.005)
        kept = information["item_table"].mean(1) > information["item_table"].mean()
        shares = []
        for damping in (100.0, 0.1):
            served = self.run(task, unlearner=RRL(learning_rate=0.002 * damping, damping=damping))
            assert isinstance(served, BPRMF)
            moved = (served.item_table - parent.get_parameter("item_table")).detach().square().sum(1)
            shares.append(float(moved[kept].sum() / moved.sum()))
        assert shares[1] < shares[0]

    def test_more_epochs_push_farther(self) -> None:
        task = self.task(small_request("interaction"))
        near, far = (forget_margin(self.run(task, unlearner=RRL(epochs=n)), task) for n in (1, 4))
        assert far < near < forget_margin(self.parent(task), task)

    def test_without_forgotten_or_retained_pairs_nothing_moves(self) -> None:
        users = np.arange(60)
        nothing = self.task(small_request("interaction"), np.empty(0, np.int64))
        assert torch.equal(self.run(nothing).score(users), self.parent(nothing).score(users))


class TestRRLOfLightGCN(UnlearnerTests):
    unlearner = RRL()
    one_step = _ONE_STEP
    backbone = "lightgcn"
    config = {"factors": 8, "layers": 2}  # noqa: RUF012
    fit = {"epochs": 3, "learning_rate": 0.02}  # noqa: RUF012
    utility_band = None


class TestRRLOfMGCN(UnlearnerTests):
    unlearner = RRL()
    backbone = "mgcn"
    config = {"factors": 4, "neighbours": 3}  # noqa: RUF012
    fit = {"epochs": 2, "learning_rate": 0.01, "batch": 256}  # noqa: RUF012
    utility_band = None


def _tables(parent: torch.nn.Module) -> tuple[Floats, Floats]:
    p, q = (parent.get_parameter(name).detach().double().numpy() for name in ("user_table", "item_table"))
    return p, q


def _naive_fisher(parent: torch.nn.Module, triples: list[tuple[Ints, Ints, Ints]], l2: float) -> dict[str, Floats]:
    """One triple after another, the gradient of BPR with L2 written out."""
    p, q = _tables(parent)
    of_users, of_items = np.zeros_like(p), np.zeros_like(q)
    for users, positives, negatives in triples:
        for u, i, j in zip(users, positives, negatives, strict=True):
            pull = 1 / (1 + np.exp(p[u] @ (q[i] - q[j])))
            of_users[u] += (-pull * (q[i] - q[j]) + l2 * p[u]) ** 2
            of_items[i] += (-pull * p[u] + l2 * q[i]) ** 2
            of_items[j] += (pull * p[u] + l2 * q[j]) ** 2
    return {"user_table": of_users, "item_table": of_items}


def _reverse_gradient(parent: torch.nn.Module, users: Ints, positives: Ints, negatives: Ints) -> dict[str, Floats]:
    """Of the sum of -log sigmoid(s_uj - s_ui)."""
    p, q = _tables(parent)
    of_users, of_items = np.zeros_like(p), np.zeros_like(q)
    for u, i, j in zip(users, positives, negatives, strict=True):
        push = 1 / (1 + np.exp(-p[u] @ (q[i] - q[j])))
        of_users[u] += push * (q[i] - q[j])
        of_items[i] += push * p[u]
        of_items[j] -= push * p[u]
    return {"user_table": of_users, "item_table": of_items}


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"batch": 0}, {"forget_batch": 0}, {"learning_rate": -1.0}, {"damping": 0.0}]
)
def test_domains(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(ConfigurationError, match=f"{name} must be"):
        RRL(**options)  # type: ignore[arg-type]


def test_all_problems_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        RRL(epochs=0, damping=-1.0)
    assert len(caught.value.problems) == 2
