from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn.functional import softplus

from auditkit.backbones import graph
from auditkit.backbones.graph import Propagation, adjacency, normalised, row_normalised
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
    operator, reference, x = Propagation.over(data, torch.float64), dense(data), vectors(data, seed)
    torch.testing.assert_close(operator(x), reference @ x, rtol=0, atol=1e-12)
    mean = sum((torch.linalg.matrix_power(reference, k) @ x for k in range(layers + 1)), torch.zeros_like(x))
    torch.testing.assert_close(operator.mean_of_layers(x, layers), mean / (layers + 1), rtol=0, atol=1e-12)
    torch.testing.assert_close(operator.matrix().to_dense(), reference, rtol=0, atol=1e-12)


def test_nodes_without_pairs_get_zero() -> None:
    data = random_data(0)
    served = Propagation.over(data)(torch.ones(11, 2))
    assert served[[5, 6]].abs().max() == 0
    assert Propagation.over(Dataset("empty", 2, 2, Interactions.empty()))(torch.ones(4, 1)).abs().max() == 0


@pytest.mark.parametrize("layers", [1, 3])
def test_differentiable_twice(layers: int) -> None:
    data = random_data(1)
    operator, x = Propagation.over(data, torch.float64), vectors(data).requires_grad_()
    # The square gives the operator's output a second derivative, so that gradgradcheck sees the backward's backward.
    assert torch.autograd.gradcheck(lambda v: operator.mean_of_layers(v, layers).square(), (x,))
    assert torch.autograd.gradgradcheck(lambda v: operator.mean_of_layers(v, layers).square(), (x,))
    assert torch.autograd.gradgradcheck(operator, (x,))


def test_hessian_vector_product_of_bpr_equals_finite_differences() -> None:
    data = random_data(2, n_users=8, n_items=9)
    operator, x, direction = Propagation.over(data, torch.float64), vectors(data), vectors(data, seed=9)
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
    operator, x = Propagation.over(data), torch.randn(130, 8, generator=torch.Generator().manual_seed(0))
    alone = operator.mean_of_layers(x, 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(graph, "_WORK_PER_THREAD", 1)
    assert torch.equal(alone, operator.mean_of_layers(x, 3))


def test_accepts_gradients_that_are_not_contiguous() -> None:
    data = random_data(4)
    operator, x = Propagation.over(data, torch.float64), vectors(data)
    strided = torch.stack([x, x], -1)[..., 0]
    assert not strided.is_contiguous()
    torch.testing.assert_close(operator(strided), operator(x))
    leaf = x.clone().requires_grad_()
    operator(leaf).sum().backward()
    torch.testing.assert_close(leaf.grad, dense(data) @ torch.ones_like(x))


def test_moves_copies_and_stays_out_of_the_state() -> None:
    operator = Propagation.over(random_data(5))
    assert not operator.state_dict()
    assert operator.values.dtype == torch.float32
    twin = copy.deepcopy(operator).double()
    assert twin.values.dtype == torch.float64
    assert twin(torch.ones(11, 1, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu() -> None:
    data = random_data(6)
    operator, x = Propagation.over(data, torch.float64), vectors(data).requires_grad_()
    on_device = x.detach().cuda().requires_grad_()
    there = operator.mean_of_layers(x, 3)
    torch.testing.assert_close(copy.deepcopy(operator).cuda().mean_of_layers(on_device, 3).cpu(), there)


def rectangle(seed: int, n_rows: int = 5, n_columns: int = 7, density: float = 0.4) -> csr_array:
    """Random entries in no order; the last row and the first column have none."""
    rng = np.random.default_rng(seed)
    mask = rng.random((n_rows, n_columns)) < density
    mask[-1], mask[:, 0] = False, False
    rows, columns = rng.permutation(np.stack(np.nonzero(mask)), axis=1)
    return csr_array((rng.normal(size=len(rows)), (rows, columns)), shape=mask.shape)


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_any_matrix_and_its_gradient(seed: int, density: float) -> None:
    matrix = rectangle(seed, density=density)
    operator, full = Propagation(matrix, torch.float64), torch.from_numpy(matrix.toarray())
    x = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    torch.testing.assert_close(operator(x), full @ x, rtol=0, atol=1e-12)
    direction = torch.arange(15, dtype=torch.float64).view(5, 3)
    (gradient,) = torch.autograd.grad((operator(x) * direction).sum(), x)
    torch.testing.assert_close(gradient, full.T @ direction, rtol=0, atol=1e-12)
    torch.testing.assert_close(operator.matrix().to_dense(), full, rtol=0, atol=1e-12)


@given(st.integers(0, 10_000))
def test_other_values_at_the_same_places(seed: int) -> None:
    matrix = rectangle(seed)
    operator = Propagation(matrix, torch.float64)
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(len(operator.values), dtype=torch.float64, generator=draw)
    x = torch.randn(7, 2, dtype=torch.float64, generator=draw)
    full = torch.zeros(5, 7, dtype=torch.float64)
    full[operator.rows(), operator.columns.long()] = values
    torch.testing.assert_close(operator.weighted(x, values), full @ x, rtol=0, atol=1e-12)
    torch.testing.assert_close(operator.weighted(x, operator.values), operator(x), rtol=0, atol=0)


@given(st.integers(0, 10_000))
def test_other_values_at_the_places_of_the_transpose(seed: int) -> None:
    operator = Propagation(rectangle(seed), torch.float64)
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(len(operator.values), dtype=torch.float64, generator=draw)
    x = torch.randn(5, 2, dtype=torch.float64, generator=draw)
    full = torch.zeros(5, 7, dtype=torch.float64)
    full[operator.rows(), operator.columns.long()] = values
    torch.testing.assert_close(operator.weighted(x, values, back=True), full.T @ x, rtol=0, atol=1e-12)


@given(st.integers(0, 10_000), st.integers(1, 9))
def test_inner_products_at_the_places(seed: int, width: int) -> None:
    operator = Propagation(rectangle(seed), torch.float64)
    draw = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(n, width, dtype=torch.float64, generator=draw) for n in (5, 7))
    expected = (x @ y.T)[operator.rows(), operator.columns.long()]
    torch.testing.assert_close(operator.products(x, y), expected, rtol=0, atol=1e-12)
    strided = torch.stack([x, x], -1)[..., 0]
    torch.testing.assert_close(operator.products(strided, y), expected, rtol=0, atol=1e-12)


def test_inner_products_are_differentiable_twice_and_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = Propagation(rectangle(3), torch.float64)
    draw = torch.Generator().manual_seed(0)
    x, y, z = (torch.randn(n, 2, dtype=torch.float64, generator=draw).requires_grad_() for n in (5, 7, 5))
    assert torch.autograd.gradcheck(operator.products, (x, y))
    assert torch.autograd.gradgradcheck(operator.products, (x, y))
    values = operator.products(x, y).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda t, v: operator.weighted(t, v, back=True), (z, values))
    assert torch.autograd.gradgradcheck(lambda t, v: operator.weighted(t, v, back=True), (z, values))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(graph, "_WORK_PER_THREAD", 1)
    assert torch.equal(values, operator.products(x, y))


def test_products_are_differentiable_twice_in_both_factors() -> None:
    operator = Propagation(rectangle(3), torch.float64)
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(len(operator.values), dtype=torch.float64, generator=draw).requires_grad_()
    x = torch.randn(7, 2, dtype=torch.float64, generator=draw).requires_grad_()
    assert torch.autograd.gradcheck(operator, (x,))
    assert torch.autograd.gradgradcheck(operator, (x,))
    assert torch.autograd.gradcheck(operator.weighted, (x, values))
    assert torch.autograd.gradgradcheck(operator.weighted, (x, values))


def test_polynomials_of_a_matrix_that_is_not_symmetric() -> None:
    rng = np.random.default_rng(0)
    full = rng.normal(size=(6, 6)) * (rng.random((6, 6)) < 0.5)
    operator, coefficients = Propagation(csr_array(full), torch.float64), (0.5, -1.0, 0.25)
    x = torch.from_numpy(rng.normal(size=(6, 2))).requires_grad_()
    expected = sum(c * np.linalg.matrix_power(full, k) for k, c in enumerate(coefficients)) @ x.detach().numpy()
    np.testing.assert_allclose(operator.polynomial(x, coefficients).detach(), expected, atol=1e-12)
    assert torch.autograd.gradcheck(lambda t: operator.polynomial(t, coefficients), (x,))
    assert torch.autograd.gradgradcheck(lambda t: operator.polynomial(t, coefficients), (x,))


def test_normalisations_against_the_formulas() -> None:
    data = random_data(4)
    full = adjacency(data).toarray()
    np.testing.assert_allclose(normalised(adjacency(data)).toarray(), dense(data), atol=1e-12)
    degrees = full.sum(1, keepdims=True)
    np.testing.assert_allclose(row_normalised(adjacency(data)).toarray(), full / np.maximum(degrees, 1), atol=1e-12)
    looped = (full + np.eye(11)) / (degrees + 1)
    np.testing.assert_allclose(row_normalised(adjacency(data), self_loops=True).toarray(), looped, atol=1e-12)


def test_entries_of_rows_that_sum_to_nothing_become_nothing() -> None:
    opposed = csr_array(np.array([[1.0, 2.0], [-3.0, 1.0]]))
    np.testing.assert_allclose(normalised(opposed).toarray(), np.diag([1 / 3, 1 / 2]))
    matrix = csr_array(np.array([[1.0, 2.0], [-1.0, 1.0]]))
    np.testing.assert_allclose(normalised(matrix).toarray(), np.diag([1 / 3, 0.0]))
    np.testing.assert_allclose(row_normalised(matrix).toarray(), np.array([[1 / 3, 2 / 3], [0.0, 0.0]]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_inner_products_on_cuda_equal_cpu() -> None:
    operator = Propagation(rectangle(3), torch.float64)
    x, y = torch.randn(5, 2, dtype=torch.float64), torch.randn(7, 2, dtype=torch.float64)
    there = copy.deepcopy(operator).cuda().products(x.cuda(), y.cuda())
    torch.testing.assert_close(there.cpu(), operator.products(x, y))
