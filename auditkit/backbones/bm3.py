"""BM3 (Zhou et al., WWW 2023): two views of each interaction are pulled together, without negatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from auditkit.backbones.graph import Propagation
from auditkit.backbones.layers import Dense, drawn, dropout, weighted_mean
from auditkit.backbones.multimodal import MultimodalBackbone
from auditkit.data.dataset import Dataset
from auditkit.errors import ConfigurationError

# Below this product of squared lengths a cosine is taken as 0 / this; torch's cosine has the same floor.
_LEAST = 1e-16


class BM3(MultimodalBackbone):
    """s(u, i) = q(h_u) . q(h_i), with q a linear predictor and h LightGCN's vectors (items: plus their own).

    Content shapes the item vectors in training only: its projections are pulled to the item's vector, and the
    score reads none of it. The sampled negatives are not read.

    Defaults are the authors' for Amazon-Baby (1 layer, dropout .5, L2 weight .1, content weight 2) with MMRec's Adam
    1e-3 and batch 2048; MMRec trains up to 1000 epochs with patience 20. Departures: the biases start from 0, and each
    row of a batch has its own dropout (the authors drop entries of the tables, so the rows of one user share theirs).
    """

    name: ClassVar[str] = "bm3"
    stackable: ClassVar[bool] = True
    fit_defaults: ClassVar[Mapping[str, Any]] = {
        "engine": "adam",
        "epochs": 200,
        "learning_rate": 1e-3,
        "l2": 0.1,
        "batch": 2048,
    }
    l2_form: ClassVar[str] = (
        "l2 times (|H_U| + |H_I|) / number of items, with Frobenius norms, not squared, of all propagated vectors"
    )

    user_table: nn.Parameter
    item_table: nn.Parameter

    @dataclass(frozen=True)
    class Config:
        """Hyper-parameters.

        Attributes:
            factors: width of the vectors.
            layers: propagation steps; published 1 or 2.
            dropout: share of entries zeroed in the targets, in [0, 1); published .3 or .5.
            content_weight: weight of the terms that align content.
            trainable_features: train the raw features too, as published.
        """

        factors: int = 64
        layers: int = 1
        dropout: float = 0.5
        content_weight: float = 2.0
        trainable_features: bool = True

        def __post_init__(self) -> None:
            wanted = (
                (self.factors >= 1, f"factors must be 1 or more, got {self.factors}"),
                (self.layers >= 0, f"layers must be 0 or more, got {self.layers}"),
                (0 <= self.dropout < 1, f"dropout must be in [0, 1), got {self.dropout}"),
                (self.content_weight >= 0, f"content_weight must be 0 or more, got {self.content_weight}"),
            )
            problems = [problem for fine, problem in wanted if not fine]
            if problems:
                raise ConfigurationError(problems)

    def serve_graphs(self, data: Dataset) -> None:
        """Build the propagation operator from the training pairs."""
        self.graph = Propagation.over(data)

    def start(self, rng: np.random.Generator) -> None:
        """Xavier starts: uniform tables, normal matrices."""
        self.user_table = drawn(rng, (self.n_users, self.config.factors))
        self.item_table = drawn(rng, (self.n_items, self.config.factors))
        self.predictor = self._dense(self.config.factors, rng)
        self.start_features()
        for modality in self.modalities:
            self.add_module(_projection(modality), self._dense(self.width(modality), rng))

    def _dense(self, n_in: int, rng: np.random.Generator) -> Dense:
        return Dense(n_in, self.config.factors, rng=rng, members=self.members, start="xavier-normal")

    @property
    def branches(self) -> Mapping[str, tuple[str, ...]]:
        """`id` is all that is served; a modality stands for its features and their projection."""
        content = {
            m: (*self.feature_names(m), f"{_projection(m)}.weight", f"{_projection(m)}.bias") for m in self.modalities
        }
        return {"id": ("user_table", "item_table", "predictor.weight", "predictor.bias"), **content}

    def embed(self, branch: str | None = None) -> tuple[Tensor, Tensor]:
        """Predicted vectors; `id` is the served score itself.

        A modality scores q(h_u) . q(W_m f_i), as the loss compares them: user vectors with that content alone.
        """
        self.check_branch(branch)
        users, items = self._online()
        if branch in self.modalities:
            items = self.get_submodule(_projection(branch))(self.item_features(branch))
        return self.predictor(users), self.predictor(items)

    def _online(self) -> tuple[Tensor, Tensor]:
        """h: means over layers, items with their own vector added; float [n_users, factors], [n_items, factors]."""
        tables = torch.cat([self.user_table, self.item_table])
        served = self.graph.mean_of_layers(tables, self.config.layers)
        return served[: self.n_users], served[self.n_users :] + self.item_table

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, *, l2: float, weights: Tensor | None = None
    ) -> Tensor:
        """Weighted mean of 2 - cos(q(h_u), t_i) - cos(q(h_i), t_u) plus the content terms, plus the L2 term.

        The content terms of each modality, with c = W_m f_i, are 2 - cos(q(c), t_i) - cos(q(c), t_c). A target t is
        the same vector without gradient and with dropout.
        """
        online = self._online()
        sizes = self.batch_sizes(users)
        user, item = online[0].index_select(0, users), online[1].index_select(0, positives)
        item_target = self._target(item, sizes)
        terms = 2 - _cosine(self.predictor(user, sizes), item_target)
        terms = terms - _cosine(self.predictor(item, sizes), self._target(user, sizes))
        for modality in self.modalities:
            aligned = self._alignment(modality, positives, item_target, sizes)
            terms = terms + self.config.content_weight * aligned
        return weighted_mean(terms, weights) + l2 * self._norms(*online)

    def _alignment(self, modality: str, items: Tensor, item_target: Tensor, sizes: list[int]) -> Tensor:
        """The content terms of the rows of a batch, float [n]."""
        features = self.item_features(modality).index_select(0, items)
        content = self.get_submodule(_projection(modality))(features, sizes)
        predicted = self.predictor(content, sizes)
        return 2 - _cosine(predicted, item_target) - _cosine(predicted, self._target(content, sizes))

    def _target(self, x: Tensor, sizes: list[int]) -> Tensor:
        """The other view: no gradient, and dropout while training."""
        return dropout(x.detach(), self.config.dropout, self.draws if self.training else (), sizes)

    def _norms(self, users: Tensor, items: Tensor) -> Tensor:
        """Sum over members of (|H_U| + |H_I|) / number of items: MMRec's EmbLoss of these two tables."""
        both = zip(self.of_each(users), self.of_each(items), strict=True)
        return torch.stack([(u.norm() + i.norm()) / len(i) for u, i in both]).sum()


def _projection(modality: str) -> str:
    return f"{modality}_projection"


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    """Cosines of the rows, float [n]; about 0 where one of them is 0."""
    lengths = one.square().sum(-1) * other.square().sum(-1)
    return (one * other).sum(-1) / lengths.clamp_min(_LEAST).sqrt()
