"""Combining shards by attention over their vectors: RecEraser's aggregator (Chen et al., WWW 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from auditkit.contracts import Backbone, Side
from auditkit.data.dataset import Interactions, Ints
from auditkit.unlearners.sharding import Sharded
from auditkit.unlearners.steps import Batches

# Of the transfer's squared norm, and what attention starts from, as in the published code.
_TRANSFER_L2 = 1e-5
_FIRST_CONTEXT = 0.01

Tables = tuple[Tensor, Tensor]


class ShardAttention(nn.Module):
    """One vector from every shard's: t_k = W_k e_k + b_k, then sum_k a_k t_k with a = softmax_k(h . relu(A t_k + c)).

    W and b belong to a shard and serve users and items alike; A, c and h are each side's own. Start: normal W and b
    of variance 2/(rows + columns), A likewise, c zero, h .01.
    """

    def __init__(self, n_shards: int, width: int, hidden: int, *, rng: np.random.Generator) -> None:
        """Draw the start.

        Args:
            n_shards: shards.
            width: of the vectors.
            hidden: width of the attention network.
            rng: of the start.
        """
        super().__init__()

        def drawn(*shape: int) -> nn.Parameter:
            scale = np.float32(np.sqrt(2 / (shape[-1] + shape[-2])))
            return nn.Parameter(torch.from_numpy(rng.standard_normal(shape, np.float32) * scale))

        self.transfer, self.transfer_bias = drawn(n_shards, width, width), drawn(n_shards, width)
        self.user_hidden, self.item_hidden = drawn(width, hidden), drawn(width, hidden)
        for side in ("user", "item"):
            self.register_parameter(f"{side}_bias", nn.Parameter(torch.zeros(hidden)))
            self.register_parameter(f"{side}_context", nn.Parameter(torch.full((hidden,), _FIRST_CONTEXT)))

    def forward(self, vectors: Tensor, side: Side) -> Tensor:
        """Combine: float [n_shards, n, width] of one side -> [n, width]."""
        hidden, bias, context = (self.get_parameter(f"{side}_{name}") for name in ("hidden", "bias", "context"))
        moved = torch.baddbmm(self.transfer_bias[:, None], vectors, self.transfer)
        weights = (torch.relu(moved @ hidden + bias) @ context).softmax(0)
        return torch.einsum("kn,knd->nd", weights, moved)

    def penalty(self) -> Tensor:
        """The L2 term of the transfer, []."""
        return _TRANSFER_L2 / 2 * (self.transfer.square().sum() + self.transfer_bias.square().sum())


def shard_tables(backbones: Sequence[Backbone]) -> Tables:
    """What the shards serve, one above the other: float [n_shards, n_users, d] and [n_shards, n_items, d]."""
    with torch.no_grad():
        served = [backbone.embed() for backbone in backbones]
    return torch.stack([users for users, _ in served]), torch.stack([items for _, items in served])


@dataclass(frozen=True)
class AttentionFit:
    """How the aggregator is trained.

    Attributes:
        hidden: width of the attention network; published: half of the vectors'.
        epochs: passes over the retained pairs.
        learning_rate: of Adam.
        batch: pairs per step.
    """

    hidden: int
    epochs: int
    learning_rate: float
    batch: int


def fit_attention(
    tables: Tables, pairs: Interactions, how: AttentionFit, *, rng: np.random.Generator
) -> ShardAttention:
    """Train an aggregator by BPR on `pairs`; the shards' vectors stay as they are.

    Args:
        tables: of the shards, from `shard_tables`.
        pairs: what may be learned from; none leaves the aggregator as it was drawn.
        how: size and optimiser.
        rng: of start, order and negatives.
    """
    users, items = tables
    model = ShardAttention(len(users), users.shape[-1], how.hidden, rng=rng).to(users.device)
    optimiser = torch.optim.Adam(model.parameters(), lr=how.learning_rate)
    batches = Batches(pairs, items.shape[1], how.batch)
    for _ in range(how.epochs):
        for batch in batches.epoch(rng):
            optimiser.zero_grad(set_to_none=True)
            attention_loss(model, tables, batch).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return model.requires_grad_(False)


def attention_loss(model: ShardAttention, tables: Tables, batch: tuple[Ints, Ints, Ints]) -> Tensor:
    """Mean of softplus(s_uj - s_ui) over combined vectors, plus the transfer's L2 term, []."""
    users, positives, negatives = (torch.as_tensor(ids, device=tables[0].device) for ids in batch)
    # A row that comes up often in a batch is combined once.
    user_rows, u = torch.unique(users, return_inverse=True)
    item_rows, ij = torch.unique(torch.cat([positives, negatives]), return_inverse=True)
    u_vectors, i_vectors = model(tables[0][:, user_rows], "user"), model(tables[1][:, item_rows], "item")
    i, j = i_vectors[ij].chunk(2)
    return softplus((u_vectors[u] * (j - i)).sum(-1)).mean() + model.penalty()


class AttentiveShards(Sharded):
    """Shards whose vectors are combined by attention; what is served is the product of the combined tables.

    A fresh user or item meets the combined tables too, by the backbone's own rule for plain tables.

    Attributes:
        attention: the aggregator.
    """

    def __init__(self, backbones: Sequence[Backbone], attention: ShardAttention) -> None:
        super().__init__(backbones)
        self.attention = attention
        users, items = shard_tables(backbones)
        with torch.no_grad():
            self._combined = as_plain(backbones[0], attention(users, "user"), attention(items, "item"))

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        """Products of combined vectors, float [n_given_users, n_items]."""
        return self._combined.score(users, branch=branch)

    def fold_in(self, histories: Sequence[Ints], *, side: Side = "user") -> Tensor:
        """Scores of fresh entities against the combined tables, shaped as in `Sharded`."""
        return self._combined.fold_in(histories, side=side)


def as_plain(like: Backbone, users: Tensor, items: Tensor) -> Backbone:
    """A model of `like`'s kind that serves these tables as they are: without layers where it would propagate.

    Args:
        like: a backbone with the parameters `user_table` and `item_table`.
        users, items: float [n_users, d], [n_items, d].
    """
    flat = {"layers": 0} if any(field.name == "layers" for field in fields(like.config)) else {}
    made = type(like)(like.data, replace(like.config, **flat), rng=np.random.default_rng(0)).to(users.device)
    with torch.no_grad():
        made.get_parameter("user_table").copy_(users)
        made.get_parameter("item_table").copy_(items)
    return made.requires_grad_(False).eval()
