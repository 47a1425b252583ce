"""The one propagation operator: a sparse matrix applied to rows of vectors, differentiable any number of times."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numba import njit
from scipy.sparse import csr_array, eye_array
from torch import Tensor, nn

from auditkit.data.dataset import Dataset, Ints

# Multiply-adds (a few milliseconds of them) that are worth a thread.
_WORK_PER_THREAD = 2**24


class Propagation(nn.Module):
    """A fixed sparse matrix A [n_rows, n_columns], applied to dense float [n_columns, d].

    Held in CSR form beside its transpose as buffers that follow `.to(...)`; they are rebuilt from the data, so no state
    dict holds them. Rows without entries give 0. `weighted` uses the places of A's entries with other values.
    """

    row_starts: Tensor
    columns: Tensor
    values: Tensor
    back_starts: Tensor
    back_columns: Tensor
    back_values: Tensor
    order: Tensor

    def __init__(self, matrix: csr_array, dtype: torch.dtype = torch.float32) -> None:
        """Take over a matrix.

        Args:
            matrix: float64 [n_rows, n_columns]; entries at the same place add up.
            dtype: float32 or float64.
        """
        super().__init__()
        self.shape: tuple[int, int] = matrix.shape
        matrix = matrix.sorted_indices()
        entries = csr_array((np.arange(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape).tocsc()
        buffers = {
            "row_starts": torch.from_numpy(matrix.indptr.astype(np.int32)),
            "columns": torch.from_numpy(matrix.indices.astype(np.int32)),
            "values": torch.from_numpy(matrix.data.astype(np.float64)).to(dtype),
            "back_starts": torch.from_numpy(entries.indptr.astype(np.int32)),
            "back_columns": torch.from_numpy(entries.indices.astype(np.int32)),
            "back_values": torch.from_numpy(matrix.data[entries.data].astype(np.float64)).to(dtype),
            "order": torch.from_numpy(entries.data.astype(np.int64)),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    @classmethod
    def over(cls, data: Dataset, dtype: torch.dtype = torch.float32) -> Self:
        """D^-1/2 A D^-1/2 of the training pairs, A = [[0, R], [R^T, 0]], users first: [n_users + n_items] square."""
        return cls(normalised(adjacency(data)), dtype)

    def forward(self, x: Tensor) -> Tensor:
        """A x, float [n_rows, d]."""
        made: Tensor = _Weighted.apply(None, x, self, False)  # type: ignore[no-untyped-call]
        return made

    def weighted(self, x: Tensor, values: Tensor, *, back: bool = False) -> Tensor:
        """A' x, A' having `values` (float [n_entries], differentiable) at A's places in CSR order; [n_rows, d].

        With `back` it is A'^T x, float [n_columns, d], of the same values in the same order.
        """
        made: Tensor = _Weighted.apply(values, x, self, back)  # type: ignore[no-untyped-call]
        return made

    def products(self, x: Tensor, y: Tensor) -> Tensor:
        """x_i . y_j at every place (i, j) of A in CSR order, [n_entries]; x float [n_rows, d], y [n_columns, d]."""
        made: Tensor = _Products.apply(x, y, self)  # type: ignore[no-untyped-call]
        return made

    def mean_of_layers(self, x: Tensor, layers: int) -> Tensor:
        """Mean of x, A x, ..., A^layers x: eq. 8 of LightGCN (SIGIR 2020) with equal weights."""
        return self.polynomial(x, (1 / (layers + 1),) * (layers + 1))

    def polynomial(self, x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
        """sum_k coefficients[k] A^k x of a square matrix, float [n_rows, d]."""
        made: Tensor = _Polynomial.apply(x, self, coefficients, False)  # type: ignore[no-untyped-call]
        return made

    def rows(self) -> Tensor:
        """The row of every entry in CSR order, int64 [n_entries]."""
        counts = self.row_starts[1:] - self.row_starts[:-1]
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)

    def multiply(
        self,
        x: Tensor,
        values: Tensor | None,
        *,
        back: bool,
        base: Tensor | None = None,
        beta: float = 0.0,
        alpha: float = 1.0,
    ) -> Tensor:
        """Return beta base + alpha A x (A^T x where `back`), outside autograd; float [n_rows or n_columns, d].

        Args:
            x: float, contiguous.
            values: of the entries in CSR order; None uses the matrix's own.
            back: use the transpose.
            base: None counts as 0.
            beta, alpha: factors.
        """  # fmt: skip
        starts, columns = (self.back_starts, self.back_columns) if back else (self.row_starts, self.columns)
        if values is None:
            values = self.back_values if back else self.values
        elif back:
            values = values.index_select(0, self.order)
        if x.device.type != "cpu":
            size = self.shape[::-1] if back else self.shape
            matrix = torch.sparse_csr_tensor(starts, columns, values, size=size, check_invariants=False)
            return alpha * (matrix @ x) if base is None else torch.addmm(base, matrix, x, beta=beta, alpha=alpha)
        made = np.empty((len(starts) - 1, x.shape[1]), values.numpy().dtype)
        # Python's floats would make the compiled sums float64.
        scales = made.dtype.type(beta), made.dtype.type(alpha)
        first = made if base is None else base.numpy()
        run = partial(
            _addmm, starts.numpy(), columns.numpy(), values.numpy(), first, base is not None, x.numpy(), *scales, made
        )
        _in_threads(run, starts.numpy(), len(values) * x.shape[1])
        return torch.from_numpy(made)

    def inner(self, x: Tensor, y: Tensor) -> Tensor:
        """`products` outside autograd, of contiguous tensors."""
        if x.device.type != "cpu":
            return (x.index_select(0, self.rows()) * y.index_select(0, self.columns)).sum(-1)
        starts, made = self.row_starts.numpy(), torch.empty(len(self.columns), dtype=x.dtype)
        run = partial(_inner, starts, self.columns.numpy(), x.numpy(), y.numpy(), made.numpy())
        _in_threads(run, starts, len(made) * x.shape[1])
        return made

    def matrix(self) -> Tensor:
        """The operator as a torch sparse CSR tensor, [n_rows, n_columns], sharing memory."""
        return torch.sparse_csr_tensor(
            self.row_starts, self.columns, self.values, size=self.shape, check_invariants=False
        )


class _Polynomial(torch.autograd.Function):
    """A polynomial of a matrix has the same polynomial of the transpose as its adjoint."""

    @staticmethod
    def forward(x: Tensor, operator: Propagation, coefficients: tuple[float, ...], back: bool) -> Tensor:
        """Horner's rule: one product per degree."""
        x = x.detach().contiguous()
        if len(coefficients) == 1:
            return x * coefficients[0]
        made = operator.multiply(x, None, back=back, base=x, beta=coefficients[-2], alpha=coefficients[-1])
        for coefficient in reversed(coefficients[:-2]):
            made = operator.multiply(made, None, back=back, base=x, beta=coefficient)
        return made

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Propagation, tuple[float, ...], bool], output: Tensor) -> None:
        """Keep the operator."""
        _, ctx.operator, ctx.coefficients, ctx.back = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """The same function of the gradient, so that it can be differentiated in turn."""
        made = _Polynomial.apply(gradients[0], ctx.operator, ctx.coefficients, not ctx.back)  # type: ignore[no-untyped-call]
        return made, None, None, None


class _Weighted(torch.autograd.Function):
    """One product; linear in the values and in the vectors, and so are its derivatives."""

    @staticmethod
    def forward(values: Tensor | None, x: Tensor, operator: Propagation, back: bool) -> Tensor:
        """Multiply."""
        given = None if values is None else values.detach().contiguous()
        return operator.multiply(x.detach().contiguous(), given, back=back)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor | None, Tensor, Propagation, bool], output: Tensor) -> None:
        """Keep what the derivative by the other factor needs."""
        values, x, ctx.operator, ctx.back = inputs
        ctx.save_for_backward(values, x if values is not None else None)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """The adjoint product, and for every value the inner product of its two vectors."""
        (values, x), operator, gradient = ctx.saved_tensors, ctx.operator, gradients[0]
        to_x = to_values = None
        if ctx.needs_input_grad[1]:
            to_x = _Weighted.apply(values, gradient, operator, not ctx.back)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[0]:
            ends = (x, gradient) if ctx.back else (gradient, x)
            to_values = _Products.apply(*ends, operator)  # type: ignore[no-untyped-call]
        return to_values, to_x, None, None


class _Products(torch.autograd.Function):
    """Inner products at the places of a matrix; the derivative by either factor is a product with a matrix of them."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, operator: Propagation) -> Tensor:
        """Multiply."""
        return operator.inner(x.detach().contiguous(), y.detach().contiguous())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Propagation], output: Tensor) -> None:
        """Keep the factors."""
        x, y, ctx.operator = inputs
        ctx.save_for_backward(x, y)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """The gradient as the matrix's values, times the other factor."""
        (x, y), operator, values = ctx.saved_tensors, ctx.operator, gradients[0]
        to_x = to_y = None
        if ctx.needs_input_grad[0]:
            to_x = _Weighted.apply(values, y, operator, False)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[1]:
            to_y = _Weighted.apply(values, x, operator, True)  # type: ignore[no-untyped-call]
        return to_x, to_y, None


def adjacency(data: Dataset) -> csr_array:
    """A = [[0, R], [R^T, 0]] of the training pairs, users first, float64 [n_users + n_items] square."""
    users, items = data.train.users, data.train.items + data.n_users
    rows, columns = np.concatenate([users, items]), np.concatenate([items, users])
    n = data.n_users + data.n_items
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=(n, n))


def normalised(matrix: csr_array) -> csr_array:
    """a_ij / sqrt(r_i r_j) with r the row sums: D^-1/2 A D^-1/2; entries of a column whose row sums to 0 become 0."""
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    coo = matrix.tocoo()
    product = sums[coo.row] * sums[coo.col]
    made = np.divide(coo.data, np.sqrt(product.clip(0)), out=np.zeros(len(coo.data)), where=product > 0)
    return csr_array((made, (coo.row, coo.col)), shape=matrix.shape)


def row_normalised(matrix: csr_array, *, self_loops: bool = False) -> csr_array:
    """D^-1 A, or D^-1 (A + I) with self loops: the mean over neighbours."""
    matrix = csr_array(matrix + eye_array(matrix.shape[0])) if self_loops else matrix
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    scale = np.divide(1.0, sums, out=np.zeros(len(sums)), where=sums > 0)
    return csr_array(
        (matrix.data * np.repeat(scale, np.diff(matrix.indptr)), matrix.indices, matrix.indptr), matrix.shape
    )


def _in_threads(run: Any, starts: Ints, work: int) -> None:
    """Call run(first row, end row) over all rows, on threads where there is work for them."""
    n_rows = len(starts) - 1
    threads = min(torch.get_num_threads(), 1 + work // _WORK_PER_THREAD)
    if threads == 1:
        run(0, n_rows)
        return
    # Parts with equally many entries.
    ends = np.searchsorted(starts, np.linspace(0, starts[-1], 4 * threads + 1))
    ends[0], ends[-1] = 0, n_rows
    # Threads of our own: a second OpenMP pool beside torch's would fight it for the cores.
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, ends[:-1], ends[1:]))


@njit(nogil=True, cache=True)
def _addmm(row_starts, columns, values, base, based, x, beta, alpha, out, first, end):  # type: ignore[no-untyped-def]
    """Write rows first..end of beta * base + alpha * matrix @ x to `out`; `base` counts where `based`.

    Each row is summed in the order of its columns, whatever else the matrix holds: stacked members equal
    members that train alone to the last bit, which torch's CSR product does not promise.
    """
    width = x.shape[1]
    for row in range(first, end):
        for k in range(width):
            out[row, k] = beta * base[row, k] if based else beta * 0
        for place in range(row_starts[row], row_starts[row + 1]):
            value, column = alpha * values[place], columns[place]
            for k in range(width):
                out[row, k] += value * x[column, k]


# Reordered sums let the compiler use vector units; the order is the same for every place, wherever it lies.
@njit(nogil=True, cache=True, fastmath={"reassoc", "nsz"})
def _inner(row_starts, columns, x, y, out, first, end):  # type: ignore[no-untyped-def]
    """Write the inner products of the places of rows first..end to `out`."""
    for row in range(first, end):
        for place in range(row_starts[row], row_starts[row + 1]):
            column = columns[place]
            total = out.dtype.type(0)
            for k in range(x.shape[1]):
                total += x[row, k] * y[column, k]
            out[place] = total
