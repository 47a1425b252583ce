"""How a backbone is trained: the options that all engines share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from auditkit.errors import ConfigurationError


@dataclass(frozen=True)
class Fit:
    """How a backbone is trained; every field is part of the procedure and of the report's protocol.

    Attributes:
        engine: `sgd` (compiled per-sample SGD, BPR-MF only), `adam` (torch, stacked members), `closed-form` (EASE).
        epochs: passes, or the most of them when `patience` is set.
        learning_rate: of the engine's rule.
        l2: weight of the L2 term; its form is the backbone's (`l2_form` in the report's protocol).
        batch: pairs per step (`adam`).
        decay: the learning rate of epoch e (from 0) is learning_rate * decay ** (e / 50), `adam` only; 1 keeps it.
        sampler: `shuffle` (every pair once an epoch) or `users` (users with replacement, then one of their items).
        negatives: items that negatives are drawn from, `adam` only: `all`, or those `trained` on (with training pairs).
        patience: evaluations without a better validation Recall@20 before stopping; None trains `epochs` passes.
        every: epochs between evaluations.
        valid: share of train held out by pair hash when the data has no validation part and `patience` is set.
    """

    engine: Literal["sgd", "adam", "closed-form"] = "adam"
    epochs: int = 100
    learning_rate: float = 1e-3
    l2: float = 1e-4
    batch: int = 2048
    decay: float = 1.0
    sampler: Literal["shuffle", "users"] = "shuffle"
    negatives: Literal["all", "trained"] = "all"
    patience: int | None = None
    every: int = 5
    valid: float = 0.0

    def __post_init__(self) -> None:
        wanted = (
            (self.epochs >= 1, f"epochs must be 1 or more, got {self.epochs}"),
            (self.learning_rate > 0, f"learning_rate must be above 0, got {self.learning_rate}"),
            (self.l2 >= 0, f"l2 must be 0 or more, got {self.l2}"),
            (self.batch >= 1, f"batch must be 1 or more, got {self.batch}"),
            (0 < self.decay <= 1, f"decay must be in (0, 1], got {self.decay}"),
            (
                self.engine == "adam" or (self.decay == 1 and self.negatives == "all"),
                f"decay and negatives belong to engine 'adam'; with {self.engine!r} leave them at 1 and 'all'",
            ),
            (self.patience is None or self.patience >= 1, f"patience must be 1 or more, got {self.patience}"),
            (self.every >= 1, f"every must be 1 or more, got {self.every}"),
            (0 <= self.valid < 1, f"valid must be in [0, 1), got {self.valid}"),
        )
        problems = [problem for fine, problem in wanted if not fine]
        if problems:
            raise ConfigurationError(problems)
