"""MGCN (Yu et al., ACM MM 2023): content purified by behaviour, smoothed over items, fused by preference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from auditkit.backbones.graph import Propagation, adjacency, normalised
from auditkit.backbones.item_graph import nearest_neighbours
from auditkit.backbones.layers import Dense, bpr, drawn, info_nce, member_sizes, weighted_mean
from auditkit.backbones.multimodal import MultimodalBackbone
from auditkit.data.dataset import Dataset, Features
from auditkit.errors import ConfigurationError


class MGCN(MultimodalBackbone):
    """s(u, i) = e_u . e_i with e = behaviour view + side view, of users and items alike.

    The behaviour view C is the mean of layers 0..K of the tables over D^-1/2 A D^-1/2. The content view M_m of a
    modality m starts from features purified by behaviour, item_table * sigmoid(W_1 (W_m f_m + b_m) + b_1), smoothed
    over the items nearest in m; users get the items' by the upper right block of D^-1/2 A D^-1/2. The side view fuses
    the content views. With w the softmax over modalities of q . tanh(W M_m + b), alike for all m, and
    common = sum over m of w_m M_m,

        side = (common + sum over m of (M_m - common) * sigmoid(W_p C + b_p)) / (n_modalities + 1).

    Layers, losses and defaults are published (paper and the authors' code, which is also MMRec's); the divisor is
    published for two modalities, 3, and reconstructed for others. Departures: up to 1000 epochs are published, with
    patience 20 (MMRec) or 10; the L2 term of a short last batch is divided by its own size, not by the full one's.

    Item-item graphs are of the raw features as given, as published: trained features do not move them. An absent item
    is in no item-item graph, so its content view is 0.
    """

    name: ClassVar[str] = "mgcn"
    stackable: ClassVar[bool] = True
    fit_defaults: ClassVar[Mapping[str, Any]] = {
        "engine": "adam",
        "epochs": 200,
        "learning_rate": 1e-3,
        "l2": 1e-4,
        "batch": 2048,
        "decay": 0.96,
        "negatives": "trained",
    }
    l2_form: ClassVar[str] = "l2/2 times the mean over triples of the squared norms of their served vectors"

    user_table: nn.Parameter
    item_table: nn.Parameter

    @dataclass(frozen=True)
    class Config:
        """Hyper-parameters.

        Attributes:
            factors: width of the vectors.
            layers: propagation steps K over users and items.
            item_layers: propagation steps over an item-item graph.
            neighbours: items an item is joined to in each modality, itself included.
            contrastive_weight: of the InfoNCE terms; published grid .001, .01, .1.
            temperature: of the InfoNCE terms.
            trainable_features: train the raw features, as published, or keep them as they are.
        """

        factors: int = 64
        layers: int = 2
        item_layers: int = 1
        neighbours: int = 10
        contrastive_weight: float = 0.01
        temperature: float = 0.2
        trainable_features: bool = True

        def __post_init__(self) -> None:
            wanted = (
                (self.factors >= 1, f"factors must be 1 or more, got {self.factors}"),
                (self.layers >= 0, f"layers must be 0 or more, got {self.layers}"),
                (self.item_layers >= 1, f"item_layers must be 1 or more, got {self.item_layers}"),
                (self.neighbours >= 1, f"neighbours must be 1 or more, got {self.neighbours}"),
                (
                    self.contrastive_weight >= 0,
                    f"contrastive_weight must be 0 or more, got {self.contrastive_weight}; 0 leaves the terms out",
                ),
                (self.temperature > 0, f"temperature must be above 0, got {self.temperature}"),
            )
            problems = [problem for fine, problem in wanted if not fine]
            if problems:
                raise ConfigurationError(problems)

    def serve_graphs(self, data: Dataset) -> None:
        """Build the user-item operator, its user-from-item block, and an item-item operator per modality."""
        graph = normalised(adjacency(data))
        self.graph = Propagation(graph)
        self.user_from_items = Propagation(graph[: data.n_users, data.n_users :])
        for modality in self.modalities:
            self.add_module(f"{modality}_graph", self.item_graph(modality, self._neighbours))

    def _neighbours(self, features: Features) -> Any:
        """w_ij / sqrt(r_i r_j) with w the cosines of the nearest neighbours and r their row sums."""
        return normalised(nearest_neighbours(features, self.config.neighbours))

    def start(self, rng: np.random.Generator) -> None:
        """Xavier-uniform tables, float32 [n_users, factors] and [n_items, factors]; layers as torch starts them."""
        factors, members = self.config.factors, self.members
        self.user_table = drawn(rng, (self.n_users, factors))
        self.item_table = drawn(rng, (self.n_items, factors))
        self.start_features()
        for modality in self.modalities:
            projection = Dense(self.width(modality), factors, rng=rng, members=members)
            self.add_module(f"{modality}_projection", projection)
            for gate in ("purifier", "preference"):
                self.add_module(f"{modality}_{gate}", Dense(factors, factors, rng=rng, members=members))
        self.attention = Dense(factors, factors, rng=rng, members=members)
        self.query = Dense(factors, 1, rng=rng, members=members, bias=False)

    @property
    def branches(self) -> Mapping[str, tuple[str, ...]]:
        """`id`: the behaviour view alone. A modality: its content view alone, which reads `item_table` as well."""
        return {"id": ("user_table", "item_table"), **{m: self._content_names(m) for m in self.modalities}}

    def _content_names(self, modality: str) -> tuple[str, ...]:
        layers = (f"{modality}_{part}.{which}" for part in ("projection", "purifier") for which in ("weight", "bias"))
        return ("item_table", *self.feature_names(modality), *layers)

    def embed(self, branch: str | None = None) -> tuple[Tensor, Tensor]:
        """Served vectors, float [n_users, factors] and [n_items, factors].

        Args:
            branch: `id` is C. A modality is M_m: what a model of that modality alone would serve as its side view, but
                for a factor of 1/2.
        """
        self.check_branch(branch)
        if branch == "id":
            return self._behaviour()
        if branch is not None:
            return self._content(branch)
        users, items = self._views()
        return users[0] + self._side(users), items[0] + self._side(items)

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, *, l2: float, weights: Tensor | None = None
    ) -> Tensor:
        """BPR + l2/2 (|e_u|^2 + |e_i|^2 + |e_j|^2) + contrastive_weight (NCE of users + NCE of positives).

        NCE is the InfoNCE of side view and behaviour view over a member's batch, repeats included.
        """
        user_views, item_views = self._views()
        u, of_users = self._in_batch(user_views, users)
        i, of_items = self._in_batch(item_views, positives)
        rows = [view.index_select(0, negatives) for view in item_views]
        j = rows[0] + self._side(rows, self.batch_sizes(users))
        norms = (u.square() + i.square() + j.square()).sum(-1)
        ranking = bpr((u * i).sum(-1), (u * j).sum(-1), weights)
        contrast: Tensor = self.config.contrastive_weight * (of_users + of_items)
        return ranking + 0.5 * l2 * weighted_mean(norms, weights) + contrast

    def _in_batch(self, views: Sequence[Tensor], ids: Tensor) -> tuple[Tensor, Tensor]:
        """Served vectors of `ids` (float [n, factors]) and the sum over members of their InfoNCE ([]).

        Most users, and many items, are several times in a batch: what depends on the entity alone is computed once.
        """
        distinct, places, counts = torch.unique(ids, return_inverse=True, return_counts=True)
        sizes = member_sizes(distinct, len(views[0]), self.members)
        rows = [view.index_select(0, distinct) for view in views]
        side = self._side(rows, sizes)
        parts = zip(*(torch.split(table, sizes) for table in (side, rows[0], counts)), strict=True)
        contrast = torch.stack([info_nce(s, c, self.config.temperature, n) for s, c, n in parts]).sum()
        return (rows[0] + side).index_select(0, places), contrast

    def _views(self) -> tuple[list[Tensor], list[Tensor]]:
        """Behaviour view and content views of users, and of items; float [n, factors] each."""
        pairs = [self._behaviour(), *(self._content(modality) for modality in self.modalities)]
        return [users for users, _ in pairs], [items for _, items in pairs]

    def _behaviour(self) -> tuple[Tensor, Tensor]:
        """Layer means of users and of items."""
        served = self.graph.mean_of_layers(torch.cat([self.user_table, self.item_table]), self.config.layers)
        return served[: self.n_users], served[self.n_users :]

    def _content(self, modality: str) -> tuple[Tensor, Tensor]:
        """Content view of users and of items."""
        projected = self._layer(modality, "projection")(self.item_features(modality))
        items = self.item_table * torch.sigmoid(self._layer(modality, "purifier")(projected))
        for _ in range(self.config.item_layers):
            items = self.get_submodule(f"{modality}_graph")(items)
        return self.user_from_items(items), items

    def _side(self, views: Sequence[Tensor], sizes: Sequence[int] | None = None) -> Tensor:
        """The behaviour-aware fuser, float [n, factors].

        Args:
            views: the rows' behaviour view, then their content views; float [n, factors] each.
            sizes: rows of each member where they differ.
        """
        behaviour, *contents = views
        attention = [self.query(torch.tanh(self.attention(content, sizes)), sizes) for content in contents]
        shares = torch.cat(attention, dim=1).softmax(1)
        common = total = reduce(add, (shares[:, k : k + 1] * content for k, content in enumerate(contents)))
        for modality, content in zip(self.modalities, contents, strict=True):
            preference = torch.sigmoid(self._layer(modality, "preference")(behaviour, sizes))
            total = total + (content - common) * preference
        return total / (len(contents) + 1)

    def _layer(self, modality: str, part: str) -> nn.Module:
        return self.get_submodule(f"{modality}_{part}")
