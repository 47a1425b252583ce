from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from auditkit.contracts import Backbone, Task
from auditkit.data.dataset import Interactions
from auditkit.errors import ConfigurationError
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_data, small_request
from auditkit.testing.unlearners import forget_margin
from auditkit.unlearners.gif import GIF, damped_inverse, largest_eigenvalue, within
from auditkit.unlearners.influence import Selection, exact
from auditkit.unlearners.sampling import original_batches

_USERS = np.arange(60)


def lost_gradient(method: GIF, model: Backbone, task: Task, seed: int = 0) -> Tensor:
    """What the method says was lost, [size]."""
    graphs = model, model.on(task.retain)
    return method.lost_gradient(Selection(model.trained), graphs, task, np.random.default_rng(seed))


class TestGIF(UnlearnerTests):
    unlearner = GIF(steps=10)
    utility_band = (0.9, 1.1)

    def test_without_a_graph_only_forgotten_pairs_are_lost(self) -> None:
        """Their gradient written out, one pair after another."""
        task = self.task(small_request("interaction"))
        model = self.parent(task)
        found = lost_gradient(GIF(draws=1, hops=2), model, task)
        assert torch.equal(found, lost_gradient(GIF(draws=1, hops=0), model, task))
        negatives = original_batches(task, 1).negatives(task.forget.users, np.random.default_rng(0))
        p, q = (model.get_parameter(name).detach().double().numpy() for name in ("user_table", "item_table"))
        of_users, of_items, l2 = np.zeros_like(p), np.zeros_like(q), task.recipe.fit.l2
        for u, i, j in zip(task.forget.users, task.forget.items, negatives, strict=True):
            pull = 1 / (1 + np.exp(p[u] @ (q[i] - q[j])))
            of_users[u] += -pull * (q[i] - q[j]) + l2 * p[u]
            of_items[i] += -pull * p[u] + l2 * q[i]
            of_items[j] += pull * p[u] + l2 * q[j]
        expected = np.concatenate([of_users.ravel(), of_items.ravel()])
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)

    def test_several_negatives_are_a_mean(self) -> None:
        """Of 400 draws: near the mean over all items that the user does not hold."""
        task = self.task(small_request("interaction"), np.array([0]))
        model = self.parent(task)
        found = lost_gradient(GIF(draws=400), model, task)[: 60 * 16].view(60, 16)[task.forget.users[0]]
        user, item = int(task.forget.users[0]), int(task.forget.items[0])
        held = small_data().train.items[small_data().train.users == user]
        p, q = (model.get_parameter(name).detach() for name in ("user_table", "item_table"))
        differences = q[item] - q[np.setdiff1d(np.arange(40), held)]
        each = -torch.sigmoid(-(differences @ p[user]))[:, None] * differences + task.recipe.fit.l2 * p[user]
        torch.testing.assert_close(found, each.mean(0), rtol=0.1, atol=0.02)

    def test_forgotten_pairs_fall_and_deeper_with_more_steps(self) -> None:
        task = self.task(small_request("interaction"))
        few, many = (forget_margin(self.run(task, unlearner=GIF(steps=n)), task) for n in (3, 40))
        assert many < few < forget_margin(self.parent(task), task)

    def test_nothing_to_forget_leaves_the_parent(self) -> None:
        task = self.task(small_request("interaction"), np.empty(0, np.int64))
        assert torch.equal(self.run(task).score(_USERS), self.parent(task).score(_USERS))


class TestGIFOfFewParameters(UnlearnerTests):
    unlearner = GIF(steps=10)
    config = {"factors": 4}  # noqa: RUF012
    utility_band = None

    def test_the_step_solves_the_damped_system(self) -> None:
        """With many steps: (H + damping scale I)^-1 lost / n, H dense by autograd."""
        task = self.task(small_request("interaction"), np.arange(4))
        parent = self.parent(task)
        method = GIF(steps=100, damping=0.3, draws=1)
        chosen = Selection(parent.trained)
        before, rng = chosen.values(), np.random.default_rng(5)
        lost = method.lost_gradient(chosen, (parent, parent.on(task.retain)), task, rng)
        ((users, positives, negatives),) = original_batches(task, 10**6).epoch(rng)
        ids = [torch.from_numpy(column) for column in (users, positives, negatives)]

        def bpr(p: Tensor, q: Tensor) -> Tensor:
            u, i, j = p[ids[0]], q[ids[1]], q[ids[2]]
            norms = u.square().sum(1) + i.square().sum(1) + j.square().sum(1)
            return (-torch.nn.functional.logsigmoid((u * (i - j)).sum(1)) + 0.5 * task.recipe.fit.l2 * norms).mean()

        p, q = (parent.get_parameter(name).detach() for name in ("user_table", "item_table"))
        blocks = torch.autograd.functional.hessian(bpr, (p, q))  # type: ignore[no-untyped-call]
        rows = [
            torch.cat([part.reshape(a.numel(), -1) for part in row], dim=1)
            for a, row in zip((p, q), blocks, strict=True)
        ]
        hessian = torch.cat(rows)
        top = largest_eigenvalue(lambda v: hessian @ v, lost)
        solved = torch.linalg.solve(hessian + 0.3 * top * torch.eye(len(lost)), lost) / len(task.data.train)
        served = self.run(task, unlearner=method)
        assert isinstance(served, Backbone)
        torch.testing.assert_close(Selection(served.trained).values() - before, solved, rtol=1e-2, atol=1e-5)


class TestGIFOfLightGCN(UnlearnerTests):
    unlearner = GIF(steps=5)
    backbone = "lightgcn"
    config = {"factors": 8, "layers": 2}  # noqa: RUF012
    fit = {"epochs": 3, "learning_rate": 0.02}  # noqa: RUF012
    utility_band = None

    def test_what_is_lost_is_the_difference_of_two_naive_gradients(self) -> None:
        """All pairs over the whole graph, and the retained pairs over what is left of it."""
        task = self.task(small_request("interaction"), np.arange(20))
        model = self.parent(task)
        method = GIF(draws=1, hops=10)
        found = lost_gradient(method, model, task)
        rng = np.random.default_rng(0)
        sampler = original_batches(task, 10**6)
        parts = [(pairs, sampler.negatives(pairs.users, rng)) for pairs in (task.forget, task.retain.train)]
        whole = sum(_naive_gradient(model, pairs, negatives, task) for pairs, negatives in parts)
        left = _naive_gradient(model.on(task.retain), *parts[1], task)
        np.testing.assert_allclose(found.numpy(), (whole - left).numpy(), rtol=1e-3, atol=1e-4)

    def test_hops_bound_which_retained_pairs_count(self) -> None:
        task = self.task(small_request("interaction"), np.array([0]))
        model = self.parent(task)
        none, near, all_of_them = (lost_gradient(GIF(draws=1, hops=n), model, task) for n in (0, 1, 10))
        sampler = original_batches(task, 10**6)
        alone = _naive_gradient(
            model, task.forget, sampler.negatives(task.forget.users, np.random.default_rng(0)), task
        )
        torch.testing.assert_close(none, alone, rtol=1e-3, atol=1e-5)
        assert not torch.allclose(near, none, atol=1e-4)
        assert not torch.allclose(near, all_of_them, atol=1e-4)


def _naive_gradient(model: Backbone, pairs: Interactions, negatives: np.ndarray, task: Task) -> Tensor:
    """Of the loss' sum over pairs, each with its negative."""
    ids = (torch.from_numpy(column.copy()) for column in (pairs.users, pairs.items, negatives))
    loss = len(pairs) * model.loss(*ids, l2=task.recipe.fit.l2)
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(model.trained.values()))])


@pytest.mark.parametrize("hops", range(5))
def test_within_equals_a_search_edge_by_edge(hops: int) -> None:
    rng = np.random.default_rng(hops)
    pairs = Interactions.unique(rng.integers(30, size=40), rng.integers(30, size=40))[0]
    others, walked = pairs.take(np.arange(2)), pairs.take(np.arange(2, len(pairs)))
    reached = {("u", u) for u in others.users} | {("i", i) for i in others.items}
    edges = [{("u", u), ("i", i)} for u, i in zip(walked.users, walked.items, strict=True)]
    expected = [False] * len(edges)
    for _ in range(hops):
        expected = [bool(edge & reached) for edge in edges]
        reached = reached.union(*(edge for edge, found in zip(edges, expected, strict=True) if found))
    assert within(walked, others, hops).tolist() == expected


def test_largest_eigenvalue() -> None:
    values = torch.tensor([-3.0, 1.0, 2.0])
    found = largest_eigenvalue(lambda v: values * v, torch.ones(3))
    assert 3.0 <= found <= 3.6
    assert largest_eigenvalue(lambda v: 0 * v, torch.ones(3)) == 0
    assert largest_eigenvalue(lambda v: v, torch.zeros(3)) == 0


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_the_inverse_is_lissa_s_recursion(steps: int) -> None:
    values = torch.tensor([0.1, 1.0, 2.0], dtype=torch.float64)
    g = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    found = damped_inverse(lambda v: values * v, g, steps=steps, damping=0.1, scale=2.0)
    # Of each eigenvalue a: the partial sum of the geometric series of 1 - .1 - a / 2.
    ratio = 1 - 0.1 - values / 2.0
    torch.testing.assert_close(found, g * sum(ratio**k for k in range(steps + 1)) / 2.0)


def test_the_inverse_reaches_its_limit() -> None:
    values = torch.tensor([0.1, 1.0, 2.0], dtype=torch.float64)
    g = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    found = damped_inverse(lambda v: values * v, g, steps=3000, damping=0.01, scale=2.0)
    torch.testing.assert_close(found, exact(lambda v: values * v, g, damping=0.02).value)


def test_the_inverse_ends_before_negative_curvature_grows() -> None:
    """Alone, the third direction would grow by a tenth a step; its part of g is small, so that others shrink first."""
    values = torch.tensor([1.0, 2.0, -0.4], dtype=torch.float64)
    g = torch.tensor([1.0, 1.0, 1e-3], dtype=torch.float64)
    few, many = (damped_inverse(lambda v: values * v, g, steps=n, damping=0.1, scale=2.0) for n in (200, 10**4))
    assert torch.equal(few, many)
    torch.testing.assert_close(few[:2], 1 / (values[:2] + 0.2), rtol=1e-2, atol=0)
    assert abs(float(few[2])) < 0.02


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"damping": 1.0}, {"scale": 0.5}, {"hops": -1}, {"draws": 0}, {"batch": 0}]
)
def test_domains(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(ConfigurationError, match=f"{name} must be"):
        GIF(**options)  # type: ignore[arg-type]
