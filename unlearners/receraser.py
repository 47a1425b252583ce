"""RecEraser: shards of alike data and an attentive aggregator (Chen, Sun, Zhang and Ding, WWW 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch

from auditkit.contracts import Backbone, Recipe, Recommender
from auditkit.data.dataset import Dataset, Floats, Ints
from auditkit.deletion import DeletionRequest
from auditkit.unlearners.partitions import Side, balanced_kmeans
from auditkit.unlearners.shard_attention import (
    AttentionFit,
    AttentiveShards,
    ShardAttention,
    fit_attention,
    shard_tables,
)
from auditkit.unlearners.sharding import Sharded, ShardedTraining, pretrained, shard_seeds, without_tables

Partition = Literal["interaction", "user", "item"]


@dataclass(frozen=True)
class RecEraser(ShardedTraining):
    """Balanced k-means over pairs, users or items; sub-models combined by transfer and attention over shards.

    Published: the three partitions with room for 1.2 |D| / N, 10 shards, 50 rounds, W_k e + b_k and attention over
    shards for users and items apart, deletion by training the shard and the aggregator again. Departures: vectors to
    cluster come from a short training of the recipe's own backbone instead of WMF, the aggregator is trained by Adam
    without dropout for the epochs given here, and the k-means centres are means (the published code averages over the
    dimensions too).

    Attributes:
        shards: how many, 1 or more.
        partition: what is clustered: each `interaction` (InBP), each `user` (UBP) or each `item` (IBP) with all of
            theirs.
        slack: room in a shard relative to the mean, 1 or more.
        rounds: most assignments of the clustering, 1 or more.
        pretrain_epochs: of the plain training whose vectors are clustered; the recipe's own number at most.
        attention: width of the attention network, 1 or more; published: half of the vectors'.
        epochs: passes of the aggregator over the retained pairs, 1 or more.
        learning_rate: of the aggregator, above 0.
        batch: pairs per step of the aggregator, 1 or more.
    """

    partition: Partition = "interaction"
    slack: float = 1.2
    rounds: int = 50
    pretrain_epochs: int = 10
    attention: int = 32
    epochs: int = 5
    learning_rate: float = 0.005
    batch: int = 4096
    name: ClassVar[str] = "receraser"
    label: ClassVar[str] = "published"

    def problems(self) -> list[str]:
        """What is wrong with the hyper-parameters, in words."""
        wanted = {
            f"partition must be one of {', '.join(get_args(Partition))}, got {self.partition!r}": self.partition
            in get_args(Partition),
            f"slack must be 1 or more, got {self.slack}": self.slack >= 1,
            f"learning_rate must be above 0, got {self.learning_rate}": self.learning_rate > 0,
        }
        counts = ("rounds", "pretrain_epochs", "attention", "epochs", "batch")
        wanted |= {f"{name} must be 1 or more, got {getattr(self, name)}": getattr(self, name) >= 1 for name in counts}
        return super().problems() + [problem for problem, fine in wanted.items() if not fine]

    def refuses(self, recipe: Recipe, request: DeletionRequest) -> str | None:
        """Backbones without tables of user and item vectors."""
        return without_tables(recipe)

    def parts(self, data: Dataset, recipe: Recipe, *, device: str, rng: np.random.Generator) -> Ints:
        """The cluster of every pair, or of its user or item, int64 [n_train]."""
        seed = shard_seeds(rng, 1)[0]
        users, items = pretrained(data, recipe, self.pretrain_epochs, device=device, seed=seed)
        train = data.train
        if self.partition == "interaction":
            return self._clusters([Side(users, train.users), Side(items, train.items)], rng)
        vectors, ids = (users, train.users) if self.partition == "user" else (items, train.items)
        present, place = np.unique(ids, return_inverse=True)
        return self._clusters([Side(vectors, present)], rng)[place]

    def _clusters(self, sides: list[Side], rng: np.random.Generator) -> Ints:
        return balanced_kmeans(sides, self.shards, slack=self.slack, rounds=self.rounds, rng=rng)

    def combine(
        self, backbones: Sequence[Backbone], data: Dataset, recipe: Recipe, rng: np.random.Generator
    ) -> Sharded:
        """Fit the aggregator on the training pairs of `data`."""
        how = AttentionFit(self.attention, self.epochs, self.learning_rate, self.batch)
        attention = fit_attention(shard_tables(backbones), data.train, how, rng=rng)
        return AttentiveShards(backbones, attention)

    def dump(self, served: Recommender) -> tuple[tuple[Backbone, ...], dict[str, Floats | Ints]]:
        """All shards and the aggregator's weights."""
        assert isinstance(served, AttentiveShards)
        return served.backbones, {name: p.cpu().numpy() for name, p in served.attention.named_parameters()}

    def load(self, backbones: Sequence[Backbone], arrays: Mapping[str, Floats | Ints]) -> Sharded:
        """The inverse of `dump`."""
        n_shards, width, _ = arrays["transfer"].shape
        attention = ShardAttention(n_shards, width, arrays["user_hidden"].shape[1], rng=np.random.default_rng(0))
        attention.load_state_dict({name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()})
        return AttentiveShards(backbones, attention.requires_grad_(False).to(backbones[0].device))
