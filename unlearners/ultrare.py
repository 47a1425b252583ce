"""UltraRE: shards of alike users by optimal transport, each user scored by her own (Li et al., NeurIPS 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset, Ints
from auditkit.deletion import DeletionRequest
from auditkit.unlearners.partitions import Side, transport_parts
from auditkit.unlearners.sharding import ShardedTraining, pretrained, shard_seeds, without_tables


@dataclass(frozen=True)
class UltraRE(ShardedTraining):
    """Users clustered into shards of equal size by entropic optimal transport; no aggregator is learned.

    Published: k-means whose assignment is a transport plan with equal masses, shards trained to convergence, and a
    combination simpler than RecEraser's attention. Reconstructed: the rounding of the plan, and that a user is scored
    by her own shard alone (as CURE4Rec, NeurIPS 2024, evaluates it).

    Attributes:
        shards: how many, 1 or more.
        rounds: most assignments of the clustering, 1 or more.
        pretrain_epochs: of the plain training whose user vectors are clustered; the recipe's own number at most.
    """

    rounds: int = 10
    pretrain_epochs: int = 10
    name: ClassVar[str] = "ultrare"
    label: ClassVar[str] = "reconstructed"

    def problems(self) -> list[str]:
        """What is wrong with the hyper-parameters, in words."""
        counts = {"rounds": self.rounds, "pretrain_epochs": self.pretrain_epochs}
        return super().problems() + [f"{name} must be 1 or more, got {n}" for name, n in counts.items() if n < 1]

    def refuses(self, recipe: Recipe, request: DeletionRequest) -> str | None:
        """Backbones without a table of user vectors."""
        return without_tables(recipe)

    def parts(self, data: Dataset, recipe: Recipe, *, device: str, rng: np.random.Generator) -> Ints:
        """The cluster of every pair's user, int64 [n_train]."""
        seed = shard_seeds(rng, 1)[0]
        vectors, _ = pretrained(data, recipe, self.pretrain_epochs, device=device, seed=seed)
        users, place = np.unique(data.train.users, return_inverse=True)
        return transport_parts(Side(vectors, users), self.shards, rounds=self.rounds, rng=rng)[place]
