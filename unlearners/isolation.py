"""Which parts of a model a reverse update may touch: the most sensitive ones, up to a capacity.

Reconstructed for TRU (arXiv 2604.02183), which publishes no formula. A part is a row of a table of users or items that
a forgotten pair names (other rows are never touched), or any other parameter as a whole. Its sensitivity is the mean
square of its reverse gradients so far over that of its forward gradients. Parts are taken in order of sensitivity while
the capacity lasts, the first in any case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from auditkit.contracts import Backbone, Side
from auditkit.data.dataset import Interactions
from auditkit.unlearners.rows import side_of

_LEAST = 1e-20


def table_side(model: Backbone, name: str) -> Side | None:
    """`user` or `item` where the parameter is a table [n, width] with a row for each of them, else None."""
    return side_of(model, name) if model.get_parameter(name).dim() == 2 else None


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of one parameter.

    Attributes:
        parameter: float [n, ...].
        rows: int64 [n_parts], rows that are a part each; None where the parameter is one part.
    """

    parameter: nn.Parameter
    rows: Tensor | None

    @classmethod
    def of(cls, model: Backbone, name: str, pairs: Interactions) -> Parts:
        """The named rows of a table, or the whole of another parameter."""
        parameter, side = model.get_parameter(name), table_side(model, name)
        if side is None:
            return cls(parameter, None)
        rows = np.unique(pairs.users if side == "user" else pairs.items)
        return cls(parameter, torch.from_numpy(rows).to(parameter.device))

    @property
    def sizes(self) -> Tensor:
        """Entries of each part, int64 [n_parts]."""
        if self.rows is None:
            return torch.tensor([self.parameter.numel()])
        return torch.full((len(self.rows),), self.parameter.shape[1])

    def mean_squares(self, gradient: Tensor) -> Tensor:
        """Mean square of each part, float64 [n_parts], on the CPU."""
        if self.rows is None:
            return gradient.double().square().mean().reshape(1).cpu()
        return gradient.index_select(0, self.rows).double().square().mean(1).cpu()

    def mask(self, taken: Tensor) -> Tensor:
        """1 where a gradient is let through: float [n, 1] of a table, else [].

        Args:
            taken: bool [n_parts].
        """
        if self.rows is None:
            return taken[0].to(self.parameter)
        mask = self.parameter.new_zeros(len(self.parameter), 1)
        mask[self.rows, 0] = taken.to(mask)
        return mask


class Isolation:
    """What the reverse update may touch, by the gradients seen so far."""

    def __init__(self, model: Backbone, pairs: Interactions, capacity: float) -> None:
        """Find the parts.

        Args:
            model: whose trained parameters.
            pairs: the forgotten pairs.
            capacity: share of all trained entries that may be touched, in (0, 1].
        """
        self._parts = {name: Parts.of(model, name, pairs) for name in model.trained}
        self._sizes = torch.cat([parts.sizes for parts in self._parts.values()])
        self._budget = capacity * sum(parameter.numel() for parameter in model.trained.values())
        self._squares = torch.zeros(2, len(self._sizes), dtype=torch.float64)
        self._masks: dict[str, Tensor] = {}

    def see(self, forward: Mapping[str, Tensor], reverse: Mapping[str, Tensor]) -> None:
        """Add one step's gradients (name -> tensor) to what is known."""
        for known, gradients in zip(self._squares, (forward, reverse), strict=True):
            known += torch.cat([parts.mean_squares(gradients[name]) for name, parts in self._parts.items()])

    def choose(self) -> None:
        """Take the most sensitive parts by what is known."""
        forward, reverse = self._squares
        order = torch.argsort(reverse / (forward + _LEAST), descending=True, stable=True)
        fits = self._sizes[order].cumsum(0) <= self._budget
        fits[:1] = True
        taken = torch.zeros(len(order), dtype=torch.bool)
        taken[order[fits]] = True
        split = torch.split(taken, [len(parts.sizes) for parts in self._parts.values()])
        self._masks = {n: parts.mask(own) for (n, parts), own in zip(self._parts.items(), split, strict=True)}

    def isolated(self, reverse: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The reverse gradient where it may touch, 0 elsewhere; of the same shapes. After `choose`."""
        return {name: gradient * self._masks[name] for name, gradient in reverse.items()}
