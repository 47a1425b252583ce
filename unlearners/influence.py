"""Influence functions: selections of parameters, their gradients and Hessian-vector products, and solvers of H p = g.

Removing samples of total gradient g from a mean loss over n samples moves its minimiser by H^-1 g / n to first order
(Koh and Liang, "Understanding Black-box Predictions via Influence Functions", ICML 2017). Vectors are flat, float
[size], in the order of a `Selection`. A matrix is known by its product with a vector alone: a `Times`.

    chosen = Selection(model.trained, {"user_table": rows})
    times = Hessian(chosen, loss).times
    p = conjugate_gradients(times, chosen.gradient(gone), damping=1e-3).value
    chosen.add(p / n)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from auditkit.errors import ConfigurationError, NotApplicableError

Times = Callable[[Tensor], Tensor]
Ending = Literal["tolerance", "steps", "negative curvature", "patience", "exact"]

# A dense Hessian of more entries than this (512 MiB in float64) is a mistake.
_MOST_DENSE = 2**26


@dataclass(frozen=True, eq=False)
class Selection:
    """The parameters that may move: whole tensors, or some rows of them.

    Attributes:
        parameters: name -> parameter; all others are constants.
        rows: name -> int64 [n], distinct rows of that parameter; a parameter without an entry is taken whole.
    """

    parameters: Mapping[str, nn.Parameter]
    rows: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = [
            f"rows names parameter {name!r}, which is not selected; known: {', '.join(self.parameters) or 'none'}"
            for name in self.rows
            if name not in self.parameters
        ]
        problems += [
            f"rows of {name!r} must be distinct and in 0..{len(self.parameters[name]) - 1}, got {_worst(ids)}"
            for name, ids in self.rows.items()
            if name in self.parameters and not _fits(ids, len(self.parameters[name]))
        ]
        if problems:
            raise ConfigurationError(problems)

    @property
    def size(self) -> int:
        """Length of a flat vector."""
        return sum(self._picked(name, parameter).numel() for name, parameter in self.parameters.items())

    def flat(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """One vector of the selected entries, [size]; differentiable.

        Args:
            tensors: one of each parameter's shape, in their order; None counts as zeros.
        """
        parts = [
            self._picked(name, torch.zeros_like(parameter) if tensor is None else tensor).reshape(-1)
            for (name, parameter), tensor in zip(self.parameters.items(), tensors, strict=True)
        ]
        return torch.cat(parts) if parts else torch.zeros(0)

    def values(self) -> Tensor:
        """The parameters as they are, [size]; a copy."""
        return self.flat([p.detach() for p in self.parameters.values()]).clone()

    def gradient(self, loss: Tensor, *, graph: bool = False) -> Tensor:
        """The loss' gradient by the selection, [size]; zeros where the loss does not depend on it.

        Args:
            loss: [], of the parameters.
            graph: make the gradient differentiable.
        """
        if not loss.requires_grad or not self.parameters:
            return torch.zeros_like(self.values())
        wanted = list(self.parameters.values())
        return self.flat(torch.autograd.grad(loss, wanted, create_graph=graph, retain_graph=graph, allow_unused=True))

    def add(self, change: Tensor) -> None:
        """Add a flat vector to the parameters, in place."""
        self._write(change, add=True)

    def put(self, values: Tensor) -> None:
        """Set the parameters to a flat vector, in place."""
        self._write(values, add=False)

    @torch.no_grad()
    def _write(self, vector: Tensor, *, add: bool) -> None:
        start = 0
        for name, parameter in self.parameters.items():
            old = self._picked(name, parameter)
            part = vector[start : start + old.numel()].view_as(old)
            start += old.numel()
            new = old + part if add else part
            if name in self.rows:
                parameter[self.rows[name]] = new
            else:
                parameter.copy_(new)

    def _picked(self, name: str, tensor: Tensor) -> Tensor:
        return tensor.index_select(0, self.rows[name]) if name in self.rows else tensor


def _fits(ids: Tensor, length: int) -> bool:
    return not len(ids) or (int(ids.min()) >= 0 and int(ids.max()) < length and _distinct(ids) == len(ids))


def _distinct(ids: Tensor) -> int:
    return len(np.unique(ids.cpu().numpy()))


def _worst(ids: Tensor) -> str:
    return f"{len(ids)} ids ({_distinct(ids)} distinct) in {int(ids.min())}..{int(ids.max())}"


class Hessian:
    """The loss' second derivative by a selection, by double backward. The graph is built once and kept.

    Attributes:
        gradient: of the loss, [size], detached.
    """

    def __init__(self, selection: Selection, loss: Tensor) -> None:
        """Take the gradient.

        Args:
            selection: what may move; its parameters must not change while this object is used.
            loss: [], twice differentiable.
        """
        self._selection = selection
        self._slope = selection.gradient(loss, graph=True)
        self.gradient = self._slope.detach()

    def times(self, vector: Tensor) -> Tensor:
        """H v, [size]."""
        return _pulled(self._selection, self._slope, vector)


class Jacobian:
    """The derivative of a model's outputs by a selection, both ways. The graph is built once and kept."""

    def __init__(self, selection: Selection, outputs: Tensor) -> None:
        """Take over the outputs' graph.

        Args:
            selection: what may move; its parameters must not change while this object is used.
            outputs: float, any shape, differentiable twice.
        """
        self._selection, self._outputs = selection, outputs

    @cached_property
    def _transposed(self) -> tuple[Tensor, Tensor]:
        """Some y and J^T y as a function of it."""
        dual = torch.zeros_like(self._outputs, requires_grad=True)
        return dual, _pulled(self._selection, self._outputs, dual, graph=True)

    def times(self, vector: Tensor) -> Tensor:
        """J v, shaped as the outputs: J^T y is linear in y, and its derivative by y along v is J v."""
        dual, pulled = self._transposed
        if not pulled.requires_grad:
            return torch.zeros_like(self._outputs)
        (moved,) = torch.autograd.grad(pulled, dual, vector, retain_graph=True)
        return moved

    def back(self, cotangent: Tensor) -> Tensor:
        """J^T y, [size]; y shaped as the outputs."""
        return _pulled(self._selection, self._outputs, cotangent)


class GaussNewton:
    """J^T L J of a loss of the model's outputs, L its second derivative by them: positive semi-definite where L is.

    The Hessian of a bilinear score is indefinite even where the loss is convex in the scores; this is what is left of
    it without the outputs' own curvature (Schraudolph, Neural Computation 2002). Equal to it where outputs are linear.
    """

    def __init__(self, selection: Selection, outputs: Tensor, loss: Callable[[Tensor], Tensor]) -> None:
        """Build the graphs of J and of L once.

        Args:
            selection: what may move; its parameters must not change while this object is used.
            outputs: float [n], differentiable twice.
            loss: outputs to [], twice differentiable.
        """
        self._jacobian = Jacobian(selection, outputs)
        self._at = outputs.detach().requires_grad_()
        (self._slope,) = torch.autograd.grad(loss(self._at), self._at, create_graph=True)

    def times(self, vector: Tensor) -> Tensor:
        """J^T L J v, [size]."""
        moved = self._jacobian.times(vector)
        (bent,) = torch.autograd.grad(self._slope, self._at, moved, retain_graph=True)
        return self._jacobian.back(bent)


def _pulled(selection: Selection, outputs: Tensor, cotangent: Tensor, *, graph: bool = False) -> Tensor:
    """cotangent^T d outputs / d selection, [size]; the graph of the outputs is kept."""
    if not outputs.requires_grad:
        return torch.zeros_like(selection.values())
    wanted = list(selection.parameters.values())
    found = torch.autograd.grad(outputs, wanted, cotangent, create_graph=graph, retain_graph=True, allow_unused=True)
    return selection.flat(found)


@dataclass(frozen=True, eq=False)
class Solution:
    """What a solver found.

    Attributes:
        value: p, float [size].
        steps: products with the matrix that led to it.
        ending: why the solver stopped.
    """

    value: Tensor
    steps: int
    ending: Ending


def conjugate_gradients(
    times: Times,
    g: Tensor,
    *,
    damping: float | Tensor = 0.0,
    steps: int = 100,
    tolerance: float = 1e-6,
    diagonal: Tensor | None = None,
) -> Solution:
    """(H + damping I)^-1 g by conjugate gradients from 0 (Hestenes and Stiefel, 1952).

    On a direction of negative curvature it stops with what it has (the truncated Newton rule of Dembo and Steihaug,
    Mathematical Programming 1983); where the first direction is one, that is 0.

    Args:
        times: H v of a symmetric H.
        g: float [size].
        damping: added to the diagonal, 0 or more; float [size] where entries differ.
        steps: most products with H.
        tolerance: stop at a residual of this share of g's length (in the norm of 1 / `diagonal`).
        diagonal: float [size], above 0, about H's diagonal: the preconditioner. None takes none.
    """
    scale = torch.ones_like(g) if diagonal is None else 1 / diagonal
    p, residual = torch.zeros_like(g), g.clone()
    direction = scale * residual
    square = residual.dot(direction)
    goal = tolerance**2 * square
    for step in range(steps):
        if square <= goal:
            return Solution(p, step, "tolerance")
        bent = times(direction) + damping * direction
        curvature = direction.dot(bent)
        if curvature <= 0:
            return Solution(p, step + 1, "negative curvature")
        length = square / curvature
        p, residual = p + length * direction, residual - length * bent
        scaled = scale * residual
        before, square = square, residual.dot(scaled)
        direction = scaled + square / before * direction
    return Solution(p, steps, "tolerance" if square <= goal else "steps")


def adam(
    times: Times,
    g: Tensor,
    *,
    learning_rate: float,
    steps: int = 5000,
    damping: float | Tensor = 0.0,
    quality: Callable[[Tensor], float] | None = None,
    patience: int = 10,
) -> Solution:
    """Minimise p^T (H + damping I) p / 2 - p^T g by Adam from 0, as the authors' code of IFRU does.

    Args:
        times: H v of a symmetric H.
        g: float [size].
        learning_rate: of Adam; steps of p have about this size in every entry.
        steps: most of them, 1 or more.
        damping: added to the diagonal, 0 or more; float [size] where entries differ.
        quality: of a p, higher is better; then the best p that was seen is returned, 0 not among them.
        patience: steps in a row without a better quality before stopping.
    """
    p = torch.zeros_like(g)
    optimiser = torch.optim.Adam([p], lr=learning_rate)
    best, top, misses = p.clone(), -float("inf"), 0
    for step in range(1, steps + 1):
        p.grad = times(p) + damping * p - g
        optimiser.step()
        if quality is None:
            continue
        value = quality(p)
        misses = 0 if value > top else misses + 1
        if value > top:
            best, top = p.clone(), value
        if misses >= patience:
            return Solution(best, step, "patience")
    return Solution(p if quality is None else best, steps, "steps")


def exact(times: Times, g: Tensor, *, damping: float = 0.0) -> Solution:
    """(H + damping I)^-1 g of the dense matrix, for small selections.

    Raises:
        NotApplicableError: the matrix would be too large, or is singular.
    """
    size = len(g)
    if size * size > _MOST_DENSE:
        raise NotApplicableError(f"a dense Hessian of {size} parameters is too large; use conjugate_gradients")
    matrix = dense(times, g)
    matrix.diagonal().add_(damping)
    solved, failed = torch.linalg.solve_ex(matrix, g)
    if bool(failed):
        raise NotApplicableError(f"the Hessian of the {size} parameters is singular; set damping above 0")
    return Solution(solved, size, "exact")


def dense(times: Times, like: Tensor) -> Tensor:
    """The matrix itself, [size, size], one product per column.

    Args:
        times: H v.
        like: float [size], for length, type and device.
    """
    unit = torch.eye(len(like), dtype=like.dtype, device=like.device)
    return torch.stack([times(column) for column in unit], dim=1) if len(like) else unit
