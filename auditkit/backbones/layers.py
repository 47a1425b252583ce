"""What backbones are made of beside tables: starts, dense layers of stacked members, losses that several share.

Stacked members (see `auditkit.training.stacked`) lie below one another: M members of n rows are one tensor of M n rows,
and a matrix [out, in] of each is one parameter [M out, in].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize, softplus

Start = Literal["xavier-uniform", "xavier-normal", "normal", "torch"]


def drawn(rng: np.random.Generator, shape: tuple[int, int], start: Start = "xavier-uniform") -> nn.Parameter:
    """A float32 parameter [rows, columns].

    Args:
        rng: its stream alone decides the values.
        shape: rows (outputs, or entities of a table) and columns (inputs, or factors).
        start: `xavier-uniform` within sqrt(6 / (rows + columns)) and `xavier-normal` with variance 2 / (rows + columns)
            (Glorot and Bengio, AISTATS 2010); `normal` with standard deviation .1; `torch`, uniform within
            1 / sqrt(columns), the start of torch's linear layers.
    """
    rows, columns = shape
    if start in ("xavier-normal", "normal"):
        scale = 0.1 if start == "normal" else np.sqrt(2 / (rows + columns))
        return nn.Parameter(torch.from_numpy(rng.standard_normal(shape, np.float32) * np.float32(scale)))
    bound = np.float32(np.sqrt(6 / (rows + columns)) if start == "xavier-uniform" else 1 / np.sqrt(columns))
    return nn.Parameter(torch.from_numpy((2 * rng.random(shape, np.float32) - 1) * bound))


def drawn_together(
    rng: np.random.Generator, sizes: tuple[int, int], width: int, start: Start = "xavier-uniform"
) -> tuple[nn.Parameter, nn.Parameter]:
    """Two float32 tables, [sizes[0], width] and [sizes[1], width], that start as one table of both (see `drawn`)."""
    both = drawn(rng, (sum(sizes), width), start).data
    return nn.Parameter(both[: sizes[0]].clone()), nn.Parameter(both[sizes[0] :].clone())


class Dense(nn.Module):
    """x W^T + b, with one W and b for each stacked member.

    Attributes:
        weight: float32 [members * n_out, n_in].
        bias: float32 [members * n_out], or None.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        rng: np.random.Generator,
        members: int = 1,
        bias: bool = True,
        start: Start = "torch",
    ) -> None:
        """Draw the parameters; a Xavier start has bias 0, as is usual."""
        super().__init__()
        self.members = members
        drawn_weights = [drawn(rng, (n_out, n_in), start).data for _ in range(members)]
        self.weight = nn.Parameter(torch.cat(drawn_weights))
        self.bias: nn.Parameter | None = None
        if bias:
            bound = np.float32(1 / np.sqrt(n_in) if start == "torch" else 0.0)
            values = (2 * rng.random(members * n_out, np.float32) - 1) * bound
            self.bias = nn.Parameter(torch.from_numpy(values))

    def forward(self, x: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
        """Float [members * rows, n_in] to [members * rows, n_out].

        Args:
            x: the members' rows below one another.
            sizes: rows of each member where they differ; equal parts when absent.
        """
        if self.members == 1:
            return linear(x, self.weight, self.bias)
        weights = self.weight.chunk(self.members)
        biases = self.bias.chunk(self.members) if self.bias is not None else [None] * self.members
        if sizes is not None:
            parts = torch.split(x, list(sizes))
            return torch.cat([linear(part, w, b) for part, w, b in zip(parts, weights, biases, strict=True)])
        blocks = x.view(self.members, -1, x.shape[-1])
        made = torch.bmm(blocks, torch.stack(list(weights)).transpose(1, 2))
        if self.bias is not None:
            made = made + self.bias.view(self.members, 1, -1)
        return made.reshape(-1, made.shape[-1])


def member_sizes(ids: Tensor, n_rows: int, members: int) -> list[int]:
    """How many of the ids of a table's rows are each stacked member's.

    Args:
        ids: int64 [n], members one after another.
        n_rows: of the table, all members together.
        members: how many.
    """
    if members == 1:
        return [len(ids)]
    found: list[int] = torch.bincount(ids // (n_rows // members), minlength=members).tolist()
    return found


def dropout(x: Tensor, rate: float, draws: Sequence[np.random.Generator], sizes: Sequence[int] | None = None) -> Tensor:
    """`x` with each entry zeroed with probability `rate` and the others divided by 1 - rate; same shape.

    Args:
        x: float [n, ...], the members' rows below one another.
        rate: in [0, 1).
        draws: one generator per member; without any nothing is dropped.
        sizes: rows of each member where they differ; equal parts when absent.
    """
    if not draws or rate == 0:
        return x
    rows = sizes if sizes is not None else [len(x) // len(draws)] * len(draws)
    kept = [draw.random((n, *x.shape[1:]), np.float32) >= rate for draw, n in zip(draws, rows, strict=True)]
    return x * torch.from_numpy(np.concatenate(kept)).to(x.device, x.dtype).div_(1 - rate)


def unit_rows(x: Tensor) -> Tensor:
    """Rows divided by their Euclidean length, float [n, d]; a row of zeros stays so.

    Equals torch's `normalize` in half its time, forward and backward. Lengths below 1e-12 count as that.
    """
    return x * (x * x).sum(-1, keepdim=True).clamp_min(1e-24).rsqrt()


def bpr(positive: Tensor, negative: Tensor, weights: Tensor | None) -> Tensor:
    """Weighted mean of -log sigmoid(positive - negative), []: BPR (Rendle et al., UAI 2009).

    Args:
        positive, negative: scores, float [n].
        weights: float [n] that sum to 1 within each member; None weighs all alike.
    """
    return weighted_mean(softplus(negative - positive), weights)


def weighted_mean(terms: Tensor, weights: Tensor | None) -> Tensor:
    """Sum of weights times terms (float [n] each), or the mean where there are no weights; []."""
    return terms.mean() if weights is None else (terms * weights).sum()


def embedding_norms(vectors: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Sum over members of (|U| + |P| + |N|) / B with Frobenius norms that are *not* squared, [].

    The regularizer that the MMRec and RecBole libraries call EmbLoss; usable weights are larger than for a squared one.

    Args:
        vectors: tables of the batch (users, positives, negatives), float [n, d] each, members below one another.
        sizes: rows of each member's batch.
    """
    parts = [torch.split(table, list(sizes)) for table in vectors]
    return torch.stack([torch.stack([part[m].norm() for part in parts]).sum() / n for m, n in enumerate(sizes)]).sum()


def info_nce(one: Tensor, other: Tensor, temperature: float, counts: Tensor | None = None) -> Tensor:
    """Mean of -log(exp(cos(one_i, other_i) / t) / sum_j exp(cos(one_i, other_j) / t)) over the rows of one member, [].

    Args:
        one, other: float [n, d]; row i of both belongs together, all other rows are its negatives, repeats included.
            A row of zeros has cosine 0 with all.
        temperature: t, above 0.
        counts: [n], how often each row is meant, 1 or more: the same number as with the rows repeated, computed once
            for each. None counts every row once.
    """
    anchors, others = normalize(one, dim=-1) / temperature, normalize(other, dim=-1)
    own = (anchors * others).sum(-1)
    if counts is None:
        return ((anchors @ others.T).logsumexp(1) - own).mean()
    repeats = counts.to(own.dtype)
    return weighted_mean(torch.addmm(repeats.log(), anchors, others.T).logsumexp(1) - own, repeats / repeats.sum())


def triple_squares(tables: tuple[Tensor, Tensor], users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """(|e_u|^2 + (|e_i|^2 + |e_j|^2) / 2) / d of each triple, float [n]: the user counts once per item.

    The L2 term of the MMGCN and GRCN codes, which take the mean over components of user rows repeated for both items.

    Args:
        tables: of users and of items, float [n_users, d] and [n_items, d].
        users, positives, negatives: int64 [n].
    """
    rows = (tables[0], users), (tables[1], positives), (tables[1], negatives)
    u, i, j = (table.index_select(0, ids).square().sum(-1) for table, ids in rows)
    return (u + (i + j) / 2) / tables[0].shape[1]
