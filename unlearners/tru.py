"""TRU (Zhou, Tam, Zheng, Ma and Yang, arXiv 2604.02183): the reverse update, aimed.

Published: deleted data weighs unevenly on the ranking, on the branches and on the layers of a multimodal recommender,
so a uniform reverse update (`mmrecun`) gets a gate on the ranking, a scale for each branch and an isolation of layers.
Not published (neither code, equations nor tables are public): every formula, threshold and default. All that is
reconstructed here, each intervention in a file of its own: `gate`, `branch_scaling`, `isolation`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import ClassVar

import numpy as np

from auditkit.contracts import Task
from auditkit.unlearners.branch_scaling import parameter_scales
from auditkit.unlearners.gate import Gate
from auditkit.unlearners.isolation import Isolation
from auditkit.unlearners.mmrecun import MMRecUn, Shape
from auditkit.unlearners.reversal import Reversal
from auditkit.unlearners.steps import Gradients, Triples


@dataclass(frozen=True)
class TRU(MMRecUn):
    """MMRecUn with three interventions; with all of them off it *is* MMRecUn, to the last bit.

    Before the steps the gate scales `id` rows of the forgotten pairs' items, or of the users of a user request, by
    factors learned on both terms. Whatever else reads those rows is scaled with them (MGCN's content views read
    `item_table`). It does nothing in a modality request, and where the `id` branch has no such rows: MIG-GT's has none
    of items, MMGCN has no `id` branch. GRCN takes its rows at length 1, so that only the confidences are gated there.

    In every step the reverse gradient, and it alone, is scaled by branch and kept to the most sensitive parts. A
    backbone whose only branch is `id` (BPR-MF, LightGCN, NeuMF) has nothing to scale: its one factor is 1.

    Attributes:
        gate: the ranking gate, folded into the weights.
        scaling: branch-wise scaling.
        isolation: capacity-aware isolation.
        gate_steps: steps that learn the gates.
        gate_learning_rate: of Adam on the gates' logits.
        capacity: share of all parameters that the reverse update may touch, in (0, 1].
        refresh: steps from one estimate of scales and sensitivities to the next.
    """

    gate: bool = True
    scaling: bool = True
    isolation: bool = True
    gate_steps: int = 10
    gate_learning_rate: float = 0.2
    capacity: float = 0.5
    refresh: int = 10
    name: ClassVar[str] = "tru"

    def _wanted(self) -> tuple[tuple[bool, str], ...]:
        rate = self.gate_learning_rate
        return (
            *super()._wanted(),
            (self.gate_steps >= 1, f"gate_steps must be 1 or more, got {self.gate_steps}; gate = false leaves it out"),
            (rate > 0, f"gate_learning_rate must be above 0, got {rate}"),
            (0 < self.capacity <= 1, f"capacity must be in (0, 1], got {self.capacity}"),
            (self.refresh >= 1, f"refresh must be 1 or more, got {self.refresh}"),
        )

    def _prepare(self, reversal: Reversal, task: Task, rng: np.random.Generator) -> None:
        """Learn the gates and fold them in."""
        found = Gate.of(reversal.served, task)
        if self.gate and found.tables and task.request.regime != "modality":
            batches = _batches(reversal, self.gate_steps, rng)
            rate = self.gate_learning_rate
            found.learn(reversal, batches, learning_rate=rate, forget_weight=self.forget_weight)

    def _shaping(self, reversal: Reversal, task: Task) -> Shape:
        """Scale and isolate the reverse gradient."""
        if not (self.scaling or self.isolation):
            return super()._shaping(reversal, task)
        return _Shaping(self, reversal)


def _batches(reversal: Reversal, n: int, rng: np.random.Generator) -> Iterator[tuple[Triples | None, Triples]]:
    """The first `n` batches of as many passes as it takes; none where there is nothing to forget."""
    passes = (reversal.batches(rng) for _ in range(n))
    return islice(chain.from_iterable(passes), n)


class _Shaping:
    """What is estimated now and then, and applied in every step."""

    def __init__(self, method: TRU, reversal: Reversal) -> None:
        self.method, self.branches = method, reversal.served.branches
        self.isolation = Isolation(reversal.served, reversal.forget.pairs, method.capacity)
        self.scales: dict[str, float] = {}
        self.steps = 0

    def __call__(self, forward: Gradients, reverse: Gradients) -> Gradients:
        """The reverse gradient as it is applied."""
        due = self.steps % self.method.refresh == 0
        self.steps += 1
        # Both are estimated from the gradients as they come: scales would blur sensitivities.
        shaped = reverse
        if self.method.scaling:
            if due:
                self.scales = parameter_scales(forward, reverse, self.branches)
            shaped = {name: gradient * self.scales[name] for name, gradient in reverse.items()}
        if self.method.isolation:
            self.isolation.see(forward, reverse)
            if due:
                self.isolation.choose()
            shaped = self.isolation.isolated(shaped)
        return shaped
