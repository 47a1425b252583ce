"""The one propagation operator: symmetric normalised adjacency of users and items, differentiable twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from numba import njit
from scipy.sparse import csr_array
from torch import Tensor, nn

from auditkit.data.dataset import Dataset, Ints

# Multiply-adds (a few milliseconds of them) that are worth a thread.
_WORK_PER_THREAD = 2**24


class Propagation(nn.Module):
    """A_hat = D^-1/2 A D^-1/2 with A = [[0, R], [R^T, 0]], R the training pairs and D the degrees.

    Applied to dense float [n_users + n_items, d], users first; nodes without pairs get 0. The matrix is
    held in CSR form as buffers that follow `.to(...)`; they are rebuilt from the data, so no state dict
    holds them.
    """

    row_starts: Tensor
    columns: Tensor
    values: Tensor

    def __init__(self, data: Dataset, dtype: torch.dtype = torch.float32) -> None:
        """Build the operator.

        Args:
            data: its training pairs are the edges.
            dtype: float32 or float64.
        """
        super().__init__()
        matrix = _normalised_adjacency(data)
        for name, array in (
            ("row_starts", matrix.indptr.astype(np.int32)),
            ("columns", matrix.indices.astype(np.int32)),
        ):
            self.register_buffer(name, torch.from_numpy(array), persistent=False)
        self.register_buffer("values", torch.from_numpy(matrix.data).to(dtype), persistent=False)

    @property
    def n_nodes(self) -> int:
        """Users and items together."""
        return len(self.row_starts) - 1

    def forward(self, x: Tensor) -> Tensor:
        """A_hat x, float [n_nodes, d]."""
        return self.polynomial(x, (0.0, 1.0))

    def mean_of_layers(self, x: Tensor, layers: int) -> Tensor:
        """Mean of x, A_hat x, ..., A_hat^layers x: eq. 8 of LightGCN (SIGIR 2020) with equal weights."""
        return self.polynomial(x, (1 / (layers + 1),) * (layers + 1))

    def polynomial(self, x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
        """sum_k coefficients[k] A_hat^k x, float [n_nodes, d]; differentiable any number of times."""
        made: Tensor = _Polynomial.apply(x, self, coefficients)  # type: ignore[no-untyped-call]
        return made

    def addmm(self, base: Tensor, x: Tensor, beta: float, alpha: float) -> Tensor:
        """Return beta base + alpha A_hat x, outside autograd; float [n_nodes, d]."""
        if x.device.type != "cpu":
            return torch.addmm(base, self.matrix(), x, beta=beta, alpha=alpha)
        made = np.empty(x.shape, self.values.numpy().dtype)
        matrix = self.row_starts.numpy(), self.columns.numpy(), self.values.numpy()
        # Python's floats would make the compiled sums float64.
        scales = made.dtype.type(beta), made.dtype.type(alpha)
        run = partial(_addmm, *matrix, base.numpy(), x.numpy(), *scales, made)
        threads = min(torch.get_num_threads(), 1 + len(self.values) * x.shape[1] // _WORK_PER_THREAD)
        if threads == 1:
            run(0, self.n_nodes)
        else:
            ends = self._even_ends(4 * threads)
            # Threads of our own: a second OpenMP pool beside torch's would fight it for the cores.
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(run, ends[:-1], ends[1:]))
        return torch.from_numpy(made)

    def _even_ends(self, parts: int) -> Ints:
        """Row bounds of parts with equally many entries, int64 [parts + 1]."""
        row_starts = self.row_starts.numpy()
        ends = np.searchsorted(row_starts, np.linspace(0, row_starts[-1], parts + 1))
        ends[0], ends[-1] = 0, self.n_nodes
        return ends

    def matrix(self) -> Tensor:
        """The operator as a torch sparse CSR tensor, [n_nodes, n_nodes], sharing memory."""
        size = (self.n_nodes, self.n_nodes)
        return torch.sparse_csr_tensor(self.row_starts, self.columns, self.values, size=size, check_invariants=False)


class _Polynomial(torch.autograd.Function):
    """A polynomial of a symmetric operator is symmetric, hence its own adjoint: backward applies it again."""

    @staticmethod
    def forward(x: Tensor, operator: Propagation, coefficients: tuple[float, ...]) -> Tensor:
        """Horner's rule: one product per degree."""
        x = x.detach().contiguous()
        if len(coefficients) == 1:
            return x * coefficients[0]
        made = operator.addmm(x, x, coefficients[-2], coefficients[-1])
        for coefficient in reversed(coefficients[:-2]):
            made = operator.addmm(x, made, coefficient, 1.0)
        return made

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Propagation, tuple[float, ...]], output: Tensor) -> None:
        """Keep the operator."""
        _, ctx.operator, ctx.coefficients = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The same function of the gradient, so that it can be differentiated in turn."""
        return ctx.operator.polynomial(gradients[0], ctx.coefficients), None, None


def _normalised_adjacency(data: Dataset) -> csr_array:
    """D^-1/2 A D^-1/2 in float64, indices sorted within a row."""
    users, items = data.train.users, data.train.items
    # Only nodes with pairs occur below, so no degree is 0.
    degree_u = np.bincount(users, minlength=data.n_users)
    degree_i = np.bincount(items, minlength=data.n_items)
    value = 1 / np.sqrt(degree_u[users].astype(np.float64) * degree_i[items])
    n = data.n_users + data.n_items
    rows = np.concatenate([users, items + data.n_users])
    columns = np.concatenate([items + data.n_users, users])
    made = csr_array((np.concatenate([value, value]), (rows, columns)), shape=(n, n))
    made.sort_indices()
    return made


@njit(nogil=True, cache=True)
def _addmm(row_starts, columns, values, base, x, beta, alpha, out, first, end):  # type: ignore[no-untyped-def]
    """Write rows first..end of beta * base + alpha * matrix @ x to `out`.

    Each row is summed in the order of its columns, whatever else the matrix holds: stacked members equal
    members that train alone to the last bit, which torch's CSR product does not promise.
    """
    width = x.shape[1]
    for row in range(first, end):
        for k in range(width):
            out[row, k] = beta * base[row, k]
        for place in range(row_starts[row], row_starts[row + 1]):
            value, column = alpha * values[place], columns[place]
            for k in range(width):
                out[row, k] += value * x[column, k]
