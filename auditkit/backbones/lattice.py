"""LATTICE (Zhang et al., ACM MM 2021): LightGCN plus item vectors smoothed over an item graph that is learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from auditkit.backbones.graph import Propagation, adjacency, normalised, row_normalised
from auditkit.backbones.item_graph import binary, members_apart, nearest_neighbours, search
from auditkit.backbones.layers import Dense, bpr, drawn, weighted_mean
from auditkit.backbones.multimodal import MultimodalBackbone
from auditkit.data.dataset import Dataset, Features
from auditkit.errors import ConfigurationError

Places = Mapping[str, Propagation]


class LATTICE(MultimodalBackbone):
    """s(u, i) = g_u . (g_i + h_i / |h_i|), with g LightGCN's vectors over D^-1 (A + I) and h = S^layers e.

    The item graph is S = (1 - skip) L + skip O. With a softmax weight a_m per modality, O = sum a_m O_m, where O_m
    joins the nearest neighbours by cosine of the raw features; L = sum a_m L_m does the same with projected features,
    and changes with them. Each O_m, and L as a whole, is D^-1/2 S D^-1/2 with row sums D; none is symmetrised.

    Which items are neighbours in L is searched for before every epoch, and in serving from the weights as they are;
    no matrix of all pairs of items is held. `loss` outside of training keeps the neighbours of its first call.

    Departures from the published code: it rebuilds L once an epoch and lets gradients into its values at that step
    alone, where here the values follow the weights at every step (the paper's formula); it divides the L2 term by the
    nominal batch size on a short last batch too; and items whose features are absent are out of both graphs.

    Defaults are the authors' (Adam 5e-4 times .96^(epoch / 50), L2 1e-5, 10 neighbours, skip .9) with MMRec's batch of
    2048 and negatives among trained items; MMRec trains up to 1000 epochs with patience 20.
    """

    name: ClassVar[str] = "lattice"
    stackable: ClassVar[bool] = True
    fit_defaults: ClassVar[Mapping[str, Any]] = {
        "engine": "adam",
        "epochs": 200,
        "learning_rate": 5e-4,
        "l2": 1e-5,
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
            layers: steps over the user-item graph.
            item_layers: steps over the item graph.
            content_factors: width of the projected features.
            neighbours: of each item in each item graph, itself included.
            skip: weight of the graph of raw features, in [0, 1].
            trainable_features: train the raw features too, as published; the graph O stays that of the given ones.
        """

        factors: int = 64
        layers: int = 2
        item_layers: int = 1
        content_factors: int = 64
        neighbours: int = 10
        skip: float = 0.9
        trainable_features: bool = True

        def __post_init__(self) -> None:
            least = {"factors": 1, "layers": 0, "item_layers": 1, "content_factors": 1, "neighbours": 1}
            problems = [
                f"{field} must be {least} or more, got {getattr(self, field)}"
                for field, least in least.items()
                if getattr(self, field) < least
            ]
            if not 0 <= self.skip <= 1:
                problems.append(f"skip must be in [0, 1], got {self.skip}")
            if problems:
                raise ConfigurationError(problems)

    def serve_graphs(self, data: Dataset) -> None:
        """Build D^-1 (A + I) and the graphs of raw features; what was found of the learned graph is forgotten."""
        self.graph = Propagation(row_normalised(adjacency(data), self_loops=True))
        for modality in self.modalities:
            self.add_module(_raw_graph(modality), self.item_graph(modality, self._raw_neighbours))
        self._training_places: Places | None = None
        self._found: dict[str, tuple[Tensor, Propagation]] = {}

    def _raw_neighbours(self, features: Features) -> csr_array:
        return normalised(nearest_neighbours(features, self.config.neighbours))

    def start(self, rng: np.random.Generator) -> None:
        """Xavier-uniform tables, torch's start for the projections, equal modality weights."""
        self.user_table = drawn(rng, (self.n_users, self.config.factors))
        self.item_table = drawn(rng, (self.n_items, self.config.factors))
        self.start_features()
        for modality in self.modalities:
            projection = Dense(self.width(modality), self.config.content_factors, rng=rng, members=self.members)
            self.add_module(_projection(modality), projection)
        self.modality_weights = nn.Parameter(torch.full((self.members * len(self.modalities),), 0.5))

    @property
    def branches(self) -> Mapping[str, tuple[str, ...]]:
        """`id`, and a modality's features and projection; the modalities' weights are in no branch."""
        content = {
            m: (*self.feature_names(m), f"{_projection(m)}.weight", f"{_projection(m)}.bias") for m in self.modalities
        }
        return {"id": ("user_table", "item_table"), **content}

    def start_epoch(self, draws: Sequence[np.random.Generator]) -> None:
        """Search for the neighbours of the learned graph; without draws, forget those of training."""
        super().start_epoch(draws)
        self._training_places = self._places(self.modalities) if self.draws else None

    def embed(self, branch: str | None = None) -> tuple[Tensor, Tensor]:
        """Served vectors.

        `id` is g_u . g_i: no item graph. A modality is g_u . h_i / |h_i| with an item graph of that modality alone.
        """
        self.check_branch(branch)
        users, items = self._collaborative()
        if branch == "id":
            return users, items
        if branch is None:
            return users, items + self._content(self._places(self.modalities))
        return users, self._content(self._places((branch,)))

    def _collaborative(self) -> tuple[Tensor, Tensor]:
        """g: means over layers, float [n_users, factors] and [n_items, factors]."""
        tables = torch.cat([self.user_table, self.item_table])
        served = self.graph.mean_of_layers(tables, self.config.layers)
        return served[: self.n_users], served[self.n_users :]

    def _content(self, places: Places) -> Tensor:
        """Unit vectors h / |h| by the graphs of these modalities, float [n_items, factors]; 0 without neighbours."""
        learned, skip = self._learned(places), self.config.skip
        shares = self._shares(tuple(places))
        vectors: Tensor = self.item_table
        for _ in range(self.config.item_layers):
            raw = sum(shares[m] * self.get_submodule(_raw_graph(m))(vectors) for m in places)
            smoothed = sum(places[m].weighted(vectors, learned[m]) for m in places)
            vectors = (1 - skip) * smoothed + skip * raw
        return _unit(vectors)

    def _shares(self, modalities: Sequence[str]) -> dict[str, Tensor]:
        """Softmax weights among these modalities, float [n_items, 1] each: those of the item's own member."""
        columns = [self.modalities.index(m) for m in modalities]
        weights = self.modality_weights.view(self.members, -1)[:, columns].softmax(1)
        rows = weights.repeat_interleave(self.n_items // self.members, dim=0)
        return {m: rows[:, k : k + 1] for k, m in enumerate(modalities)}

    def _learned(self, places: Places) -> dict[str, Tensor]:
        """Values of L at the places of each modality: a_m cos(x_i, x_j) / sqrt(d_i d_j); 0 where d is not above 0."""
        shares = self._shares(tuple(places))
        ends = {m: (graph.rows(), graph.columns.long()) for m, graph in places.items()}
        values = {}
        sums = torch.zeros_like(self.item_table[:, 0])
        for m, graph in places.items():
            projected = _unit(self._projected(m))
            similar = graph.products(projected, projected)
            values[m] = shares[m][:, 0].index_select(0, ends[m][0]) * similar
            sums = sums.index_add(0, ends[m][0], values[m])
        scale = torch.where(sums > 0, torch.where(sums > 0, sums, 1).rsqrt(), 0)
        return {m: v * scale.index_select(0, ends[m][0]) * scale.index_select(0, ends[m][1]) for m, v in values.items()}

    def _projected(self, modality: str) -> Tensor:
        made: Tensor = self.get_submodule(_projection(modality))(self.item_features(modality))
        return made

    def _places(self, modalities: Sequence[str]) -> Places:
        return {m: self._search(m) for m in modalities}

    @torch.no_grad()
    def _search(self, modality: str) -> Propagation:
        """Where the learned graph has entries; found again only if the projected features are other ones."""
        projected = self._projected(modality)
        known = self._found.get(modality)
        if known is None or not _same(known[0], projected):
            vectors = np.split(projected.float().cpu().numpy(), self.members)
            present = np.split(self.data.features[modality].present, self.members)
            parts = [Features(v, p) for v, p in zip(vectors, present, strict=True)]
            matrix = members_apart([binary(search(part, self.config.neighbours)) for part in parts])
            known = projected, Propagation(matrix, projected.dtype).to(projected.device)
            self._found[modality] = known
        return known[1]

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, *, l2: float, weights: Tensor | None = None
    ) -> Tensor:
        """BPR + l2/2 (|u|^2 + |i|^2 + |j|^2) of the served vectors, weighted mean over triples."""
        if self._training_places is None:
            self._training_places = self._places(self.modalities)
        user_vectors, item_vectors = self._collaborative()
        item_vectors = item_vectors + self._content(self._training_places)
        u = user_vectors.index_select(0, users)
        i, j = item_vectors.index_select(0, torch.cat([positives, negatives])).chunk(2)
        norms = (u.square() + i.square() + j.square()).sum(-1)
        return bpr((u * i).sum(-1), (u * j).sum(-1), weights) + 0.5 * l2 * weighted_mean(norms, weights)


def _raw_graph(modality: str) -> str:
    return f"{modality}_raw_graph"


def _projection(modality: str) -> str:
    return f"{modality}_projection"


def _unit(vectors: Tensor) -> Tensor:
    """Rows of length 1; rows of 0 stay 0, and nothing is undefined there however often it is differentiated."""
    squares = vectors.square().sum(-1, keepdim=True)
    return vectors * torch.where(squares > 0, squares, 1).rsqrt()


def _same(one: Tensor, other: Tensor) -> bool:
    alike = one.dtype == other.dtype and one.device == other.device
    return alike and torch.equal(one, other)
