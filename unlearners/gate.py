"""A gate on the collaborative vectors of the entities that forgotten pairs name, learned and folded into the weights.

Reconstructed for TRU (arXiv 2604.02183), which publishes no formula: q_e = sigmoid(a_e) scales entity e's rows in the
tables of the `id` branch, and a alone is learned on the forward and the reverse term. The tables hold the scaled rows
from then on: there is no gate left at serving that could be taken off again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from auditkit.contracts import Backbone, Task
from auditkit.unlearners.isolation import table_side
from auditkit.unlearners.reversal import Reversal
from auditkit.unlearners.steps import Triples

# Gates start almost open: sigmoid(4) = .982.
_OPEN = 4.0


@dataclass(frozen=True, eq=False)
class Gate:
    """What is gated.

    Attributes:
        tables: name -> trained table of the `id` branch; float [n_entities, ...].
        rows: int64 [n], the entities.
    """

    tables: Mapping[str, nn.Parameter]
    rows: Tensor

    @classmethod
    def of(cls, model: Backbone, task: Task) -> Gate:
        """Users of a user request; the items of the forgotten pairs in item and interaction requests; else nothing.

        A modality request forgets no collaborative influence. Nothing is gated either where the `id` branch has no
        table with a row of those entities, or there is no such branch.
        """
        side = "user" if task.request.regime == "user" else "item"
        named = np.unique(task.forget.users if side == "user" else task.forget.items)
        names = [n for n in model.branches.get("id", ()) if n in model.trained and table_side(model, n) == side]
        tables = {name: model.trained[name] for name in names}
        return cls(tables, torch.from_numpy(named).to(model.device))

    def learn(
        self,
        reversal: Reversal,
        batches: Iterable[tuple[Triples | None, Triples]],
        *,
        learning_rate: float,
        forget_weight: float,
    ) -> Tensor:
        """Learn the gates with Adam, one step for each pair of batches, and leave the tables scaled.

        Args:
            reversal: both terms.
            batches: of both terms.
            learning_rate: of a.
            forget_weight: of the reverse term; the forward term counts 1.

        Returns:
            q, float [n], in (0, 1).
        """
        start = {name: table.detach()[self.rows].clone() for name, table in self.tables.items()}
        openness = nn.Parameter(torch.full((len(self.rows),), _OPEN, device=self.rows.device))
        optimiser = torch.optim.Adam([openness], lr=learning_rate)
        for retained, forgotten in batches:
            q = self._fold(openness, start)
            forward, reverse = reversal.forward(retained, self.tables), reversal.reverse(forgotten, self.tables)
            slope = torch.zeros_like(q)
            for name, rows in start.items():
                total = forward[name].add_(reverse[name], alpha=forget_weight)
                # A row is q times its start, so the gate's slope is the product of the row's gradient and that start.
                slope += (total[self.rows] * rows).sum(1)
            openness.grad = slope * q * (1 - q)
            optimiser.step()
        return self._fold(openness, start)

    @torch.no_grad()
    def _fold(self, openness: Tensor, start: Mapping[str, Tensor]) -> Tensor:
        q = torch.sigmoid(openness)
        for name, table in self.tables.items():
            table[self.rows] = q[:, None] * start[name]
        return q
