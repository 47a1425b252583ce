"""MMGCN (Wei et al., ACM MM 2019): one graph network per modality, over user-item means, averaged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from auditkit.backbones.graph import Propagation, row_normalised
from auditkit.backbones.layers import (
    Dense,
    bpr,
    drawn,
    drawn_together,
    member_sizes,
    triple_squares,
    unit_rows,
    weighted_mean,
)
from auditkit.backbones.multimodal import MultimodalBackbone
from auditkit.data.dataset import Dataset
from auditkit.errors import ConfigurationError


class MMGCN(MultimodalBackbone):
    """s(u, i) = z_u . z_i with z the mean over modalities of a graph network of each.

    With P the users' preference table of the modality, X the items' features (mapped by a dense layer or as they are)
    and e the vectors of user and item ids that all modalities share, x starts as [P; X] with rows of length 1, and

        x <- leaky(G [leaky(mean over neighbours of x W); leaky(x L + b) + e] + c)        `layers` times.

    Means are over the training pairs, without self loops; a node without pairs has mean 0. Formulas and widths are
    published (the authors' code and MMRec's, which agree); both concatenate always, though their switch reads
    'False'. The paper learns P and e. Both codes keep them as plain tensors that no optimizer knows: they stay at their
    random start, and all that is learned is the shared matrices. `vectors` chooses between the two.

    Departures: the published codes score with what the last training step computed before it moved the weights; here
    scores always come from the current weights and the served graph. Biases start at 0 (published: uniform) but for
    the layer that maps features. Published training takes up to 1000 epochs with patience 20. The learning rate and the
    L2 weight are the authors' for TikTok, the batch is MMRec's (theirs: 1024).

    A branch is the network of one modality, with the shared id vectors. There is no branch of ids alone: they have no
    score of their own.
    """

    name: ClassVar[str] = "mmgcn"
    stackable: ClassVar[bool] = True
    fit_defaults: ClassVar[Mapping[str, Any]] = {
        "engine": "adam",
        "epochs": 200,
        "learning_rate": 5e-4,
        "l2": 0.1,
        "batch": 2048,
        "negatives": "trained",
    }
    l2_form: ClassVar[str] = (
        "l2 times (mean over triples of |e_u|^2 + (|e_i|^2 + |e_j|^2) / 2, over factors, + mean square of the mapped "
        "modality's user preferences); frozen vectors (the default) do not move by it"
    )

    user_id: nn.Parameter
    item_id: nn.Parameter

    @dataclass(frozen=True)
    class Config:
        """Hyper-parameters.

        Attributes:
            factors: width of the vectors.
            layers: graph layers of each modality; published 3.
            mapped: the modality whose features a dense layer maps to `latent` columns before the graph; all others
                keep their width. Published for image and text (4096 and 384 columns). Data without this modality has
                none mapped.
            latent: columns of the mapped features and of their user preferences.
            vectors: `frozen` as both published codes have it: preferences and id vectors keep their random start, and
                the L2 term moves nothing. `trainable` as in the paper.
            trainable_features: train the raw features, or keep them as they are (published).
        """

        factors: int = 64
        layers: int = 3
        mapped: str = "image"
        latent: int = 256
        vectors: Literal["frozen", "trainable"] = "frozen"
        trainable_features: bool = False

        def __post_init__(self) -> None:
            wanted = (
                (self.factors >= 1, f"factors must be 1 or more, got {self.factors}"),
                (self.layers >= 1, f"layers must be 1 or more, got {self.layers}"),
                (self.latent >= 1, f"latent must be 1 or more, got {self.latent}"),
                (
                    self.vectors in ("frozen", "trainable"),
                    f"vectors must be 'frozen' or 'trainable', got {self.vectors!r}",
                ),
            )
            problems = [problem for fine, problem in wanted if not fine]
            if problems:
                raise ConfigurationError(problems)

    def serve_graphs(self, data: Dataset) -> None:
        """Build the means over a user's items [n_users, n_items] and over an item's users [n_items, n_users]."""
        pairs = data.train.matrix(data.n_users, data.n_items).astype(np.float64)
        self.user_means = Propagation(row_normalised(pairs))
        self.item_means = Propagation(row_normalised(csr_array(pairs.T)))

    def start(self, rng: np.random.Generator) -> None:
        """Draw tables and matrices (Xavier-normal) and the layer that maps features (torch's start)."""
        self.start_features()
        sizes = self.n_users, self.n_items
        self.user_id, self.item_id = drawn_together(rng, sizes, self.config.factors, "xavier-normal")
        for modality in self.modalities:
            self._start_network(modality, rng)
        for vectors in (self.user_id, self.item_id, *(self._preferences(m) for m in self.modalities)):
            vectors.requires_grad_(self.config.vectors == "trainable")

    def _start_network(self, modality: str, rng: np.random.Generator) -> None:
        width = self.width(modality)
        if modality == self.config.mapped:
            self.add_module(_map_name(modality), Dense(width, self.config.latent, rng=rng, members=self.members))
            width = self.config.latent
        self.register_parameter(_preferences_name(modality), drawn(rng, (self.n_users, width), "xavier-normal"))
        for k in range(self.config.layers):
            layer = _Layer(width, self.config.factors, rng=rng, members=self.members)
            self.add_module(_layer_name(modality, k), layer)
            width = self.config.factors

    @property
    def branches(self) -> Mapping[str, tuple[str, ...]]:
        """One per modality: its features where trained, its preferences and matrices, and the shared id vectors."""
        return {
            modality: (
                "user_id",
                "item_id",
                _preferences_name(modality),
                *self.feature_names(modality),
                *self._matrices(modality),
            )
            for modality in self.modalities
        }

    def _matrices(self, modality: str) -> Iterator[str]:
        modules = [_layer_name(modality, k) for k in range(self.config.layers)]
        for module in [_map_name(modality), *modules] if modality == self.config.mapped else modules:
            yield from (f"{module}.{name}" for name, _ in self.get_submodule(module).named_parameters())

    def embed(self, branch: str | None = None) -> tuple[Tensor, Tensor]:
        """Served user and item vectors, float [n_users, factors] and [n_items, factors]."""
        self.check_branch(branch)
        modalities = self.modalities if branch is None else (branch,)
        users, items = zip(*(self._through(m, self.config.layers) for m in modalities), strict=True)
        return torch.stack(users).mean(0), torch.stack(items).mean(0)

    def _through(self, modality: str, layers: int) -> tuple[Tensor, Tensor]:
        """A modality's vectors of users and items after some of its layers."""
        users = unit_rows(self._preferences(modality))
        items = unit_rows(self._content(modality))
        for k in range(layers):
            layer = self._layer(modality, k)
            near_users, near_items = layer.near_of(self.user_means, items), layer.near_of(self.item_means, users)
            users, items = layer(near_users, users, self.user_id), layer(near_items, items, self.item_id)
        return users, items

    def _preferences(self, modality: str) -> Tensor:
        # Not get_parameter, which refuses what torch.func puts in a parameter's place.
        table: Tensor = getattr(self, _preferences_name(modality))
        return table

    def _content(self, modality: str) -> Tensor:
        features = self.item_features(modality)
        if modality != self.config.mapped:
            return features
        mapped: Tensor = self.get_submodule(_map_name(modality))(features)
        return mapped

    def _layer(self, modality: str, k: int) -> _Layer:
        return cast(_Layer, self.get_submodule(_layer_name(modality, k)))

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, *, l2: float, weights: Tensor | None = None
    ) -> Tensor:
        """Weighted mean of softplus(s_uj - s_ui), plus the L2 term (see `l2_form`)."""
        user_rows, user_places = torch.unique(users, return_inverse=True)
        item_rows, item_places = torch.unique(torch.cat([positives, negatives]), return_inverse=True)
        served = zip(*(self._at(modality, user_rows, item_rows) for modality in self.modalities), strict=True)
        user_vectors, item_vectors = (torch.stack(parts).mean(0) for parts in served)
        u = user_vectors.index_select(0, user_places)
        i, j = item_vectors.index_select(0, item_places).chunk(2)
        made = bpr((u * i).sum(-1), (u * j).sum(-1), weights)
        return made + l2 * self._squares(users, positives, negatives, weights)

    def _at(self, modality: str, user_rows: Tensor, item_rows: Tensor) -> tuple[Tensor, Tensor]:
        """A modality's served vectors of some users and items, ids ascending: the last layer needs no other rows."""
        users, items = self._through(modality, self.config.layers - 1)
        layer = self._layer(modality, self.config.layers - 1)

        def at(rows: Tensor, *tables: Tensor) -> Tensor:
            sizes = member_sizes(rows, len(tables[0]), self.members)
            mean, own, ids = (table.index_select(0, rows) for table in tables)
            made: Tensor = layer(layer.near(mean, sizes), own, ids, sizes)
            return made

        return (
            at(user_rows, self.user_means(items), users, self.user_id),
            at(item_rows, self.item_means(users), items, self.item_id),
        )

    def _squares(self, users: Tensor, positives: Tensor, negatives: Tensor, weights: Tensor | None) -> Tensor:
        """The L2 term without its weight, []."""
        squares = triple_squares((self.user_id, self.item_id), users, positives, negatives)
        made = weighted_mean(squares, weights)
        if self.config.mapped in self.modalities:
            # Members have equally many users, so this is the sum of the members' own means.
            made = made + self.members * self._preferences(self.config.mapped).square().mean()
        return made


class _Layer(nn.Module):
    """G [leaky(mean over neighbours of x W); leaky(x L + b) + e] + c, leaky: one graph layer of one modality."""

    def __init__(self, width: int, factors: int, *, rng: np.random.Generator, members: int) -> None:
        super().__init__()
        self.near = Dense(width, width, rng=rng, members=members, bias=False, start="xavier-normal")
        self.own = Dense(width, factors, rng=rng, members=members, start="xavier-normal")
        self.joined = Dense(width + factors, factors, rng=rng, members=members, start="xavier-normal")

    def near_of(self, means: Propagation, x: Tensor) -> Tensor:
        """Means over neighbours of x W, float [n_rows, width], by the order that multiplies fewer rows by W."""
        made: Tensor = means(self.near(x)) if len(x) < means.shape[0] else self.near(means(x))
        return made

    def forward(self, near: Tensor, own: Tensor, ids: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
        """Join what neighbours give (`near`, [n, width]) with the rows' own x ([n, width]) and e ([n, factors])."""
        given = leaky_relu(self.own(own, sizes)) + ids
        return leaky_relu(self.joined(torch.cat([leaky_relu(near), given], 1), sizes))


def _preferences_name(modality: str) -> str:
    return f"user_preferences_{modality}"


def _map_name(modality: str) -> str:
    return f"{modality}_map"


def _layer_name(modality: str, k: int) -> str:
    return f"{modality}_layer_{k}"
