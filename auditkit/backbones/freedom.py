"""FREEDOM (Zhou and Shen, ACM MM 2023): LightGCN trained on sampled edges, items smoothed over a frozen graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from auditkit.backbones.graph import Propagation, normalised
from auditkit.backbones.item_graph import binary, members_apart, nearest_neighbours, of_members
from auditkit.backbones.layers import Dense, bpr, drawn, member_sizes, weighted_mean
from auditkit.backbones.multimodal import MultimodalBackbone
from auditkit.data.dataset import Dataset, Ints
from auditkit.errors import ConfigurationError

# The share of `image` where other modalities stand beside it: published for image and text.
_IMAGE_SHARE = 0.1


class FREEDOM(MultimodalBackbone):
    """s(u, i) = g_u . (g_i + h_i) with g LightGCN's vectors and h = S^item_layers e the items' smoothed ones.

    S = sum over modalities m of w_m S_m, where S_m has 1/k at the k items nearest to each by cosine of the raw
    features as given; it never changes. LightGCN trains on a part of the edges that is sampled anew each epoch and
    serves over all of them. Scores read nothing of the features but S: their projections, and the features themselves
    where they are trained, only serve the auxiliary loss of g_u . (W_m f_m + b_m).

    Layers, losses and defaults are the published ones (the authors' code, which is also MMRec's). `reconstructed`:
    which point of the published grids is the default, and the weights of S beyond image and text. MMRec trains up to
    1000 epochs with patience 20. There is no published L2 term; `l2` is 0 by default.

    An item that is absent in m has no row and no column in S_m; the weights of the others stay as they are.
    """

    name: ClassVar[str] = "freedom"
    stackable: ClassVar[bool] = True
    fit_defaults: ClassVar[Mapping[str, Any]] = {
        "engine": "adam",
        "epochs": 200,
        "learning_rate": 1e-3,
        "l2": 0.0,
        "batch": 2048,
        "negatives": "trained",
    }
    l2_form: ClassVar[str] = (
        "l2/2 times the mean over triples of the squared norms of their layer-0 vectors; published without"
    )

    user_table: nn.Parameter
    item_table: nn.Parameter

    @dataclass(frozen=True)
    class Config:
        """Hyper-parameters.

        Attributes:
            factors: width of the vectors.
            layers: propagation steps over users and items.
            item_layers: propagation steps over the item-item graph.
            neighbours: k, of each item in each modality, itself included.
            modality_weights: modality -> w_m of the item-item graph, of all modalities of the data. None is the
                published rule, generalised: `image` has .1 and the others share .9 equally; without an `image`, or
                with nothing else, all share 1 equally.
            dropout: share of edges that an epoch trains without, in [0, 1); published grid .8, .9.
            content_weight: of the auxiliary losses; published grid 0, 1e-5, 1e-4, 1e-3.
            trainable_features: train the raw features, as published, or keep them as they are.
        """

        factors: int = 64
        layers: int = 2
        item_layers: int = 1
        neighbours: int = 10
        modality_weights: Mapping[str, float] | None = None
        dropout: float = 0.8
        content_weight: float = 1e-3
        trainable_features: bool = True

        def __post_init__(self) -> None:
            wanted = (
                (self.factors >= 1, f"factors must be 1 or more, got {self.factors}"),
                (self.layers >= 0, f"layers must be 0 or more, got {self.layers}"),
                (self.item_layers >= 1, f"item_layers must be 1 or more, got {self.item_layers}"),
                (self.neighbours >= 1, f"neighbours must be 1 or more, got {self.neighbours}"),
                (
                    all(isinstance(w, int | float) and w >= 0 for w in (self.modality_weights or {}).values()),
                    f"modality_weights must be numbers of 0 or more, got {self.modality_weights}",
                ),
                (0 <= self.dropout < 1, f"dropout must be in [0, 1), got {self.dropout}"),
                (self.content_weight >= 0, f"content_weight must be 0 or more, got {self.content_weight}"),
            )
            problems = [problem for fine, problem in wanted if not fine]
            if problems:
                raise ConfigurationError(problems)

    def serve_graphs(self, data: Dataset) -> None:
        """Build the user-item operator of all edges and the item-item operators; no edges are sampled yet.

        Raises:
            ConfigurationError: `modality_weights` names other modalities than the data.
        """
        self.graph = Propagation.over(data)
        self.sampled: Propagation | None = None
        weights = self._modality_weights()
        neighbours = {modality: self._neighbours(modality) for modality in self.modalities}
        self.item_item = Propagation(reduce(add, (weights[m] * matrix for m, matrix in neighbours.items())))
        for modality, matrix in neighbours.items():
            self.add_module(f"{modality}_graph", Propagation(matrix))

    def _modality_weights(self) -> Mapping[str, float]:
        given: Mapping[str, float] | None = self.config.modality_weights
        if given is None:
            others = [m for m in self.modalities if m != "image"]
            if len(others) in (0, len(self.modalities)):
                return dict.fromkeys(self.modalities, 1 / len(self.modalities))
            return {"image": _IMAGE_SHARE, **dict.fromkeys(others, (1 - _IMAGE_SHARE) / len(others))}
        if set(given) != set(self.modalities):
            raise ConfigurationError(
                f"modality_weights must name the modalities of the data ({', '.join(self.modalities)}), "
                f"got {', '.join(given) or 'none'}"
            )
        return given

    def _neighbours(self, modality: str) -> csr_array:
        """1 / k at the nearest neighbours, stacked members apart."""
        parts = of_members(self.data.features[modality], self.members)
        return members_apart([normalised(binary(nearest_neighbours(part, self.config.neighbours))) for part in parts])

    def start(self, rng: np.random.Generator) -> None:
        """Xavier-uniform tables, float32 [n_users, factors] and [n_items, factors]; projections as torch starts."""
        self.user_table = drawn(rng, (self.n_users, self.config.factors))
        self.item_table = drawn(rng, (self.n_items, self.config.factors))
        self.start_features()
        for modality in self.modalities:
            projection = Dense(self.width(modality), self.config.factors, rng=rng, members=self.members)
            self.add_module(f"{modality}_projection", projection)

    @property
    def branches(self) -> Mapping[str, tuple[str, ...]]:
        """`id`: LightGCN alone. A modality: its item-item graph alone; its projection and features only train."""
        tables = ("user_table", "item_table")
        content = {
            m: (*tables, *self.feature_names(m), f"{m}_projection.weight", f"{m}_projection.bias")
            for m in self.modalities
        }
        return {"id": tables, **content}

    def start_epoch(self, draws: Sequence[np.random.Generator]) -> None:
        """Sample the edges to train on, each member's from its own draws; without draws, forget them."""
        super().start_epoch(draws)
        if not self.draws or self.config.dropout == 0:
            self.sampled = None
            return
        kept = replace(self.data, train=self.data.train.take(self._sample(self.draws)))
        self.sampled = Propagation.over(kept, self.graph.values.dtype).to(self.device)

    def _sample(self, draws: Sequence[np.random.Generator]) -> Ints:
        """Rows of the training pairs to keep: floor((1 - dropout) n) of each member's n, without replacement.

        A pair's chance at each draw is proportional to 1 / sqrt(d_u d_i). The smallest of exponential variates, each
        divided by its weight, are such a sample (Efraimidis and Spirakis, Information Processing Letters 2006).
        """
        train = self.data.train
        by_user, by_item = np.bincount(train.users), np.bincount(train.items)
        weights = 1 / np.sqrt(by_user[train.users] * by_item[train.items])
        member = train.users // (self.n_users // self.members)
        kept = []
        for m, rng in enumerate(draws):
            rows = np.flatnonzero(member == m)
            keys = rng.exponential(size=len(rows)) / weights[rows]
            kept.append(rows[np.argsort(keys)[: int((1 - self.config.dropout) * len(rows))]])
        return np.concatenate(kept)

    def embed(self, branch: str | None = None) -> tuple[Tensor, Tensor]:
        """Served vectors over all edges, float [n_users, factors] and [n_items, factors].

        Args:
            branch: `id` is (g_u, g_i); a modality is (g_u, S_m^item_layers e).
        """
        self.check_branch(branch)
        users, items = self._propagated(self.graph)
        if branch == "id":
            return users, items
        if branch is None:
            return users, items + self._smoothed("item_item")
        return users, self._smoothed(f"{branch}_graph")

    def _propagated(self, graph: Propagation) -> tuple[Tensor, Tensor]:
        """The vectors g of users and of items."""
        served = graph.mean_of_layers(torch.cat([self.user_table, self.item_table]), self.config.layers)
        return served[: self.n_users], served[self.n_users :]

    def _smoothed(self, graph: str) -> Tensor:
        """The vectors h over the named operator, float [n_items, factors]."""
        items: Tensor = self.item_table
        for _ in range(self.config.item_layers):
            items = self.get_submodule(graph)(items)
        return items

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, *, l2: float, weights: Tensor | None = None
    ) -> Tensor:
        """BPR + content_weight * sum over modalities of BPR(g_u . content) + L2, over this epoch's edges in training.

        Outside training all edges count.
        """
        graph = self.sampled if self.training and self.sampled is not None else self.graph
        user_vectors, item_vectors = self._propagated(graph)
        u = user_vectors.index_select(0, users)
        made = self._ranking(u, item_vectors + self._smoothed("item_item"), positives, negatives, weights)
        if self.config.content_weight:
            made = made + self.config.content_weight * self._content(u, positives, negatives, weights)
        if l2:
            rows = (self.user_table, users), (self.item_table, positives), (self.item_table, negatives)
            norms = [table.index_select(0, ids).square().sum(-1) for table, ids in rows]
            made = made + 0.5 * l2 * weighted_mean(reduce(add, norms), weights)
        return made

    @staticmethod
    def _ranking(u: Tensor, items: Tensor, positives: Tensor, negatives: Tensor, weights: Tensor | None) -> Tensor:
        """BPR of the users' vectors (float [n, factors]) with rows of a table of items."""
        i, j = items.index_select(0, positives), items.index_select(0, negatives)
        return bpr((u * i).sum(-1), (u * j).sum(-1), weights)

    def _content(self, u: Tensor, positives: Tensor, negatives: Tensor, weights: Tensor | None) -> Tensor:
        """Sum over modalities of BPR with projected features; only the batch's items are projected, each once."""
        items, places = torch.unique(torch.cat([positives, negatives]), return_inverse=True)
        i, j = places.chunk(2)
        sizes = member_sizes(items, self.n_items, self.members)
        total = torch.zeros((), dtype=u.dtype, device=u.device)
        for modality in self.modalities:
            features = self.item_features(modality).index_select(0, items)
            projected = self.get_submodule(f"{modality}_projection")(features, sizes)
            total = total + self._ranking(u, projected, i, j, weights)
        return total
