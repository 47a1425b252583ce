"""SISA: sharded, isolated, sliced and aggregated training (Bourtoule et al., IEEE S&P 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np

from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset, Ints
from auditkit.unlearners.partitions import random_parts
from auditkit.unlearners.sharding import ShardedTraining

Partition = Literal["interaction", "user"]


@dataclass(frozen=True)
class SISA(ShardedTraining):
    """Random shards, scores averaged over the shards that hold the user. One slice: a touched shard starts over.

    Published: disjoint random shards, isolated training, the mean as aggregation. With `partition="user"` each user
    is in one shard and scored by it alone, which is how CURE4Rec (NeurIPS 2024) compares it.

    Attributes:
        shards: how many, 1 or more; one shard is plain training.
        partition: what is dealt out at random, each `interaction` (published) or each `user` with all of theirs.
    """

    partition: Partition = "interaction"
    name: ClassVar[str] = "sisa"
    label: ClassVar[str] = "published"

    def problems(self) -> list[str]:
        """What is wrong with the hyper-parameters, in words."""
        known = get_args(Partition)
        wrong = f"partition must be one of {', '.join(known)}, got {self.partition!r}"
        return super().problems() + ([] if self.partition in known else [wrong])

    def parts(self, data: Dataset, recipe: Recipe, *, device: str, rng: np.random.Generator) -> Ints:
        """Random shards of nearly equal size, int64 [n_train]."""
        if self.partition == "interaction":
            return random_parts(len(data.train), self.shards, rng)
        users, place = np.unique(data.train.users, return_inverse=True)
        return random_parts(len(users), self.shards, rng)[place]
