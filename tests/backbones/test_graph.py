from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import softplus

from auditkit.backbones import graph
from auditkit.backbones.graph import Propagation
from auditkit.data.dataset import Dataset, Interactions


def random_data(seed: int, n_users: int = 6, n_items: int = 5, density: float = 0.4) -> Dataset:
    """Random pairs; the last user and the first item have none."""
    mask = np.random.default_rng(seed).random((n_users, n_items)) < density
    mask[-1], mask[:, 0] = False, False
    return Dataset("random", n_users, n_items, Interactions.unique(*np.nonzero(mask))[0])


def dense(data: Dataset) -> Tensor:
    """D^-1/2 A D^-1/2 from the formula, with 0 for nodes of degree 0."""
    n = data.n_users + data.n_items
    adjacency = torch.zeros(n, n, dtype=torch.float64)
    for user, item in zip(data.train.users.tolist(), data.train.items.tolist(), strict=True):
        adjacency[user, data.n_users + item] = adjacency[data.n_users + item, user] = 1
    scale = adjacency.sum(1).clamp_min(1).rsqrt()
    return scale[:, None] * adjacency * scale


def vectors(data: Dataset, seed: int = 0, width: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(data.n_users + data.n_items, width, dtype=torch.float64, generator=generator)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.integers(0, 4))
def test_equals_the_dense_formula(seed: int, density: float, layers: int) -> None:
    data = random_data(seed, density=density)
    operator, reference, x = Propagation(data, torch.float64), dense(data), vectors(data, seed)
    torch.testing.assert_close(operator(x), reference @ x, rtol=0, atol=1e-12)
    mean = sum((torch.linalg.matrix_power(reference, k) @ x for k in range(layers + 1)), torch.zeros_like(x))
    torch.testing.assert_close(operator.mean_of_layers(x, layers), mean / (layers + 1), rtol=0, atol=1e-12)
    torch.testing.assert_close(operator.matrix().to_dense(), reference, rtol=0, atol=1e-12)


def test_nodes_without_pairs_get_zero() -> None:
    data = random_data(0)
    served = Propagation(data)(torch.ones(11, 2))
    assert served[[5, 6]].abs().max() == 0
    assert Propagation(Dataset("empty", 2, 2, Interactions.empty()))(torch.ones(4, 1)).abs().max() == 0


@pytest.mark.parametrize("layers", [1, 3])
def test_differentiable_twice(layers: int) -> None:
    data = random_data(1)
    operator, x = Propagation(data, torch.float64), vectors(data).requires_grad_()
    # The square gives the operator's output a second derivative, so that gradgradcheck sees the backward's backward.
    assert torch.autograd.gradcheck(lambda v: operator.mean_of_layers(v, layers).square(), (x,))
    assert torch.autograd.gradgradcheck(lambda v: operator.mean_of_layers(v, layers).square(), (x,))
    assert torch.autograd.gradgradcheck(operator, (x,))


def test_hessian_vector_product_of_bpr_equals_finite_differences() -> None:
    data = random_data(2, n_users=8, n_items=9)
    operator, x, direction = Propagation(data, torch.float64), vectors(data), vectors(data, seed=9)
    users, positives = torch.tensor(data.train.users), torch.tensor(data.train.items) + 8
    negatives = (positives - 8 + 3) % 9 + 8

    def loss(v: Tensor) -> Tensor:
        e = operator.mean_of_layers(v, 2)
        return softplus((e[users] * (e[negatives] - e[positives])).sum(-1)).mean()

    def gradient(v: Tensor) -> Tensor:
        return torch.autograd.grad(loss(v), v)[0]

    v = x.clone().requires_grad_()
    first = torch.autograd.grad(loss(v), v, create_graph=True)[0]
    product = torch.autograd.grad((first * direction).sum(), v)[0]
    step = 1e-5
    ahead, behind = ((x + s * step * direction).requires_grad_() for s in (1, -1))
    difference = (gradient(ahead) - gradient(behind)) / (2 * step)
    torch.testing.assert_close(product, difference, rtol=1e-7, atol=1e-9)
    assert product.abs().max() > 1e-3


def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    data = random_data(3, n_users=60, n_items=70)
    operator, x = Propagation(data), torch.randn(130, 8, generator=torch.Generator().manual_seed(0))
    alone = operator.mean_of_layers(x, 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(graph, "_WORK_PER_THREAD", 1)
    assert torch.equal(alone, operator.mean_of_layers(x, 3))


def test_accepts_gradients_that_are_not_contiguous() -> None:
    data = random_data(4)
    operator, x = Propagation(data, torch.float64), vectors(data)
    strided = torch.stack([x, x], -1)[..., 0]
    assert not strided.is_contiguous()
    torch.testing.assert_close(operator(strided), operator(x))
    leaf = x.clone().requires_grad_()
    operator(leaf).sum().backward()
    torch.testing.assert_close(leaf.grad, dense(data) @ torch.ones_like(x))


def test_moves_copies_and_stays_out_of_the_state() -> None:
    operator = Propagation(random_data(5))
    assert not operator.state_dict()
    assert operator.values.dtype == torch.float32
    twin = copy.deepcopy(operator).double()
    assert twin.values.dtype == torch.float64
    assert twin(torch.ones(11, 1, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu() -> None:
    data = random_data(6)
    operator, x = Propagation(data, torch.float64), vectors(data).requires_grad_()
    on_device = x.detach().cuda().requires_grad_()
    there = operator.mean_of_layers(x, 3)
    torch.testing.assert_close(copy.deepcopy(operator).cuda().mean_of_layers(on_device, 3).cpu(), there)
