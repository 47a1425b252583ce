"""Margins s_ui - s_uj of triples as functions of selected parameters: values, derivative, adjoint.

Where scores are products of served vectors, the vectors are differentiated by autograd once and the sums over triples
are compiled; else autograd does all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numba import njit
from torch import Tensor

from auditkit.contracts import Backbone
from auditkit.errors import NotFactorizedError
from auditkit.unlearners.ifru_samples import Triples
from auditkit.unlearners.influence import Jacobian, Selection, Times

# Devices whose sums over triples are compiled; elsewhere torch sums.
_COMPILED = ("cpu",)


class Margins(Protocol):
    """Margins of n triples."""

    @property
    def values(self) -> Tensor:
        """The margins, float [n], detached."""
        ...

    @property
    def weights(self) -> Tensor:
        """What each triple counts, float [n]."""
        ...

    def along(self, vector: Tensor) -> Tensor:
        """Their derivative along a flat vector, float [n]."""
        ...

    def back(self, pulls: Tensor) -> Tensor:
        """Their gradient, each weighed by a pull (float [n]), as a flat vector."""
        ...


MarginsOf = Callable[[Triples], Margins]


def margins_of(model: Backbone, selection: Selection) -> MarginsOf:
    """How triples become margins; what the model serves is computed once.

    Args:
        model: scores the pairs; its parameters must not change while the margins are used.
        selection: what may move.
    """
    try:
        vectors = torch.cat(model.embed())
    except NotFactorizedError:
        return lambda triples: _ByScores(model, selection, triples)
    jacobian = Jacobian(selection, vectors)
    return lambda triples: _ByVectors(vectors.detach().contiguous(), jacobian, triples, model.n_users)


class _ByScores:
    """Margins through `logits`, differentiated by autograd."""

    def __init__(self, model: Backbone, selection: Selection, triples: Triples) -> None:
        users, positives, negatives = triples.ids(model.device)
        scores = model.logits(users.repeat(2), torch.cat([positives, negatives]))
        margins = scores[: len(triples)] - scores[len(triples) :]
        jacobian = Jacobian(selection, margins)
        self.weights = torch.as_tensor(triples.weights).to(scores)
        self.values, self.along, self.back = margins.detach(), jacobian.times, jacobian.back


class _ByVectors:
    """Margins through served vectors, float [n_users + n_items, d], users first."""

    def __init__(self, vectors: Tensor, jacobian: Jacobian, triples: Triples, n_users: int) -> None:
        # In the order of users, whose rows are then found in the cache.
        ordered = triples.take(np.argsort(triples.users, kind="stable"))
        users, positives, negatives = ordered.ids(vectors.device)
        self.weights = torch.as_tensor(ordered.weights).to(vectors)
        self._vectors, self._jacobian = vectors, jacobian
        self._rows = torch.stack([users, positives + n_users, negatives + n_users]).to(torch.int32)

    @cached_property
    def values(self) -> Tensor:
        return 0.5 * self._along(self._vectors)

    def along(self, vector: Tensor) -> Tensor:
        return self._along(self._jacobian.times(vector).contiguous())

    def back(self, pulls: Tensor) -> Tensor:
        return self._jacobian.back(self._back(pulls))

    def _along(self, moved: Tensor) -> Tensor:
        if moved.device.type in _COMPILED:
            made = torch.empty(self._rows.shape[1], dtype=moved.dtype)
            _along(self._rows.numpy(), self._vectors.numpy(), moved.numpy(), made.numpy())
            return made
        (u, i, j), x = self._rows, self._vectors
        return (moved[u] * (x[i] - x[j]) + x[u] * (moved[i] - moved[j])).sum(-1)

    def _back(self, pulls: Tensor) -> Tensor:
        made = torch.zeros_like(self._vectors)
        if made.device.type in _COMPILED:
            _back(self._rows.numpy(), self._vectors.numpy(), pulls.numpy(), made.numpy())
            return made
        (u, i, j), x = self._rows, self._vectors
        to_item = pulls[:, None] * x[u]
        made.index_add_(0, u, pulls[:, None] * (x[i] - x[j]))
        return made.index_add_(0, i, to_item).index_add_(0, j, -to_item)


# Reordered sums let the compiler use vector units; the order is the same in every run.
@njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract"})
def _along(rows, vectors, moved, out):  # type: ignore[no-untyped-def]
    """Write moved_u . (x_i - x_j) + x_u . (moved_i - moved_j) of every triple."""
    for t in range(rows.shape[1]):
        u, i, j = rows[0, t], rows[1, t], rows[2, t]
        total = out.dtype.type(0)
        for k in range(vectors.shape[1]):
            total += moved[u, k] * (vectors[i, k] - vectors[j, k]) + vectors[u, k] * (moved[i, k] - moved[j, k])
        out[t] = total


@njit(nogil=True, cache=True)
def _back(rows, vectors, pulls, out):  # type: ignore[no-untyped-def]
    """Add every triple's gradient of its margin by the vectors, times its pull."""
    for t in range(rows.shape[1]):
        u, i, j, pull = rows[0, t], rows[1, t], rows[2, t], pulls[t]
        for k in range(vectors.shape[1]):
            step = pull * vectors[u, k]
            out[u, k] += pull * (vectors[i, k] - vectors[j, k])
            out[i, k] += step
            out[j, k] -= step


def slope(margins: Margins) -> Tensor:
    """Gradient of the weighted sum of BPR losses, -log sigmoid(margin); flat."""
    return margins.back(-margins.weights * torch.sigmoid(-margins.values))


def bend(margins: Margins) -> Times:
    """Its Gauss-Newton matrix, sum of w sigma'(margin) x x^T with x a margin's gradient: positive semi-definite."""
    steep = margins.weights * torch.sigmoid(margins.values) * torch.sigmoid(-margins.values)
    return lambda vector: margins.back(steep * margins.along(vector))
