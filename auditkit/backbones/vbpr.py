"""VBPR (He and McAuley, AAAI 2016): matrix factorization whose item vectors are half learned, half content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from auditkit.backbones.layers import Dense, bpr, drawn, embedding_norms, member_sizes
from auditkit.backbones.multimodal import MultimodalBackbone
from auditkit.data.dataset import Dataset
from auditkit.errors import ConfigurationError


class VBPR(MultimodalBackbone):
    """s(u, i) = p_u . [q_i ; W f_i + b], with f_i the raw features of all modalities side by side.

    This is the form of the MMRec library, whose figures are compared with; the paper's biases of users, items and
    content are not in it. Defaults are MMRec's (64 factors a half, Adam 1e-3, batch 2048, Xavier starts, raw features
    frozen, negatives among trained items) but for the number of epochs (MMRec: up to 1000, patience 20) and the L2
    weight, which MMRec picks from 2, 1, .1, ... 1e-5: `reconstructed`.

    Branches: `id` is p_u's first half with q_i; a modality's is p_u's second half with its own part of W f_i. The
    bias b is in no branch: it raises all items of a user alike.
    """

    name: ClassVar[str] = "vbpr"
    stackable: ClassVar[bool] = True
    fit_defaults: ClassVar[Mapping[str, Any]] = {
        "engine": "adam",
        "epochs": 200,
        "learning_rate": 1e-3,
        "l2": 0.1,
        "batch": 2048,
        "negatives": "trained",
    }
    l2_form: ClassVar[str] = (
        "l2 times the sum of the Frobenius norms (not squared) of the batch's user, positive and negative vectors, "
        "divided by the batch size"
    )

    user_table: nn.Parameter
    item_table: nn.Parameter
    projection: Dense

    @dataclass(frozen=True)
    class Config:
        """Hyper-parameters.

        Attributes:
            factors: width of each half: users have twice as many.
            trainable_features: train the raw features too, from their values.
        """

        factors: int = 64
        trainable_features: bool = False

        def __post_init__(self) -> None:
            if self.factors < 1:
                raise ConfigurationError(f"factors must be 1 or more, got {self.factors}")

    def serve_graphs(self, data: Dataset) -> None:
        """No graph is read."""

    def start(self, rng: np.random.Generator) -> None:
        """Xavier-uniform tables, a Xavier-normal projection with bias 0."""
        factors = self.config.factors
        self.user_table = drawn(rng, (self.n_users, 2 * factors))
        self.item_table = drawn(rng, (self.n_items, factors))
        self.start_features()
        width = sum(map(self.width, self.modalities))
        self.projection = Dense(width, factors, rng=rng, members=self.members, start="xavier-normal")

    @property
    def branches(self) -> Mapping[str, tuple[str, ...]]:
        """`id` and one per modality; modalities share the projection's matrix, each with columns of its own."""
        shared = ("user_table", "projection.weight")
        content = {modality: (*shared, *self.feature_names(modality)) for modality in self.modalities}
        return {"id": ("user_table", "item_table"), **content}

    def embed(self, branch: str | None = None) -> tuple[Tensor, Tensor]:
        """Vectors of twice `factors`; a branch has `factors`."""
        self.check_branch(branch)
        by_id, by_content = self.user_table.chunk(2, dim=1)
        if branch is None:
            return self.user_table, torch.cat([self.item_table, self.projection(self._raw())], dim=1)
        return (by_id, self.item_table) if branch == "id" else (by_content, self._projected(branch))

    def _raw(self, rows: Tensor | None = None) -> Tensor:
        """Features of all modalities side by side, float32 [n_items, width], or of the items `rows` alone."""
        features = [self.item_features(modality) for modality in self.modalities]
        return torch.cat(features if rows is None else [f.index_select(0, rows) for f in features], dim=1)

    def _projected(self, modality: str) -> Tensor:
        """A modality's part of W f, float [n_items, factors]."""
        widths = [self.width(m) for m in self.modalities]
        weight = self.projection.weight.view(self.members, self.config.factors, -1)
        own = torch.split(weight, widths, dim=2)[self.modalities.index(modality)]
        blocks = self.item_features(modality).view(self.members, -1, own.shape[2])
        return torch.bmm(blocks, own.transpose(1, 2)).flatten(0, 1)

    def _item_vectors(self, items: Tensor) -> Tensor:
        """Served vectors of `items` (int64 [n], in any order), float [n, 2 * factors]; each item is projected once."""
        rows, places = torch.unique(items, return_inverse=True)
        sizes = member_sizes(rows, self.n_items, self.members)
        content = self.projection(self._raw(rows), sizes).index_select(0, places)
        return torch.cat([self.item_table.index_select(0, items), content], dim=1)

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, *, l2: float, weights: Tensor | None = None
    ) -> Tensor:
        """BPR + l2 (|U| + |P| + |N|) / B: Frobenius norms, not squared, of the batch's user and item vectors."""
        u = self.user_table.index_select(0, users)
        i, j = self._item_vectors(torch.cat([positives, negatives])).chunk(2)
        norms = embedding_norms((u, i, j), self.batch_sizes(users))
        return bpr((u * i).sum(-1), (u * j).sum(-1), weights) + l2 * norms
