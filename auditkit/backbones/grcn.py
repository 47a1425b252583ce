"""GRCN (Wei et al., ACM MM 2020): the user-item graph, its edges weighed by content, carries the id vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, softplus

from auditkit.backbones.graph import Propagation
from auditkit.backbones.layers import Dense, drawn, drawn_together, triple_squares, unit_rows, weighted_mean
from auditkit.backbones.multimodal import MultimodalBackbone
from auditkit.data.dataset import Dataset
from auditkit.errors import ConfigurationError


class GRCN(MultimodalBackbone):
    """s(u, i) = sum over the id part and all modalities of the products of their vectors.

    Content, for each modality: c_i = leaky(W f_i + b) and a user's preference p_u, both of length 1. `routing` times

        p_u <- (p_u + sum over u's items of a_ui c_i), to length 1;   a_ui = softmax over u's items of p_u . c_i

    and once both ways: users become p_u + sum a_ui c_i, items c_i + sum over i's users of a_iu p_u, with the softmax
    over i's users. Ids: vectors of length 1 plus their sums over neighbours, `layers` times, with the weights

        w(i to u) = max over modalities of (a_ui * confidence_i), w(u to i) = max of (a_iu * confidence_u)

    where a weight below 0 prunes its edge. Vectors, preferences, layers and confidences are learned.

    Formulas, widths and the L2 term are published (MMRec's code). The paper routes 3 times. In the authors' code and in
    MMRec's, pairs point from users to items while routing, so no message reaches a user and routing changes nothing
    (reconstructed: read in the code, not run). The published figures are therefore those of `routing=0`, the default.
    Departures: the published codes score with what the last training step computed before it moved the weights; here
    scores always come from the current weights and the served graph. The bias of W starts at 0 (published: uniform).
    Published training takes up to 1000 epochs with patience 20. Learning rate and L2 weight are of MMRec's grid, which
    names no best pair.

    A modality's branch is its content part alone. Branch `id` is the id part, whose edge weights read the content of
    all modalities; among its parameters are its own tables and the confidences.
    """

    name: ClassVar[str] = "grcn"
    stackable: ClassVar[bool] = True
    fit_defaults: ClassVar[Mapping[str, Any]] = {
        "engine": "adam",
        "epochs": 200,
        "learning_rate": 1e-3,
        "l2": 1e-3,
        "batch": 2048,
        "negatives": "trained",
    }
    l2_form: ClassVar[str] = (
        "l2 times (mean over triples of |e_u|^2 + (|e_i|^2 + |e_j|^2) / 2, over factors, + mean over triples of the "
        "squared norms of u's preferences, over latent, + mean square of all preferences of the modality l2_table)"
    )

    user_id: nn.Parameter
    item_id: nn.Parameter
    user_confidence: nn.Parameter
    item_confidence: nn.Parameter
    edge_users: Tensor
    edge_items: Tensor

    @dataclass(frozen=True)
    class Config:
        """Hyper-parameters.

        Attributes:
            factors: width of the id vectors.
            latent: width of the content vectors of each modality.
            routing: iterations that refine preferences; 3 in the paper, 0 is what the published codes amount to.
            layers: sums over neighbours in the id part; published 2.
            l2_table: the modality whose whole preference table is in the L2 term of every step; MMRec's code has the
                image's alone. Data without this modality has no such term.
            trainable_features: train the raw features, or keep them as they are (published).
        """

        factors: int = 64
        latent: int = 64
        routing: int = 0
        layers: int = 2
        l2_table: str = "image"
        trainable_features: bool = False

        def __post_init__(self) -> None:
            least = {"factors": 1, "latent": 1, "routing": 0, "layers": 0}
            given = {name: getattr(self, name) for name in least}
            problems = [f"{n} must be {least[n]} or more, got {v}" for n, v in given.items() if v < least[n]]
            if problems:
                raise ConfigurationError(problems)

    def serve_graphs(self, data: Dataset) -> None:
        """Keep the places of the training pairs, [n_users, n_items], and each pair's user and item, int64 [n_pairs]."""
        self.graph = Propagation(csr_array(data.train.matrix(data.n_users, data.n_items)))
        self.register_buffer("edge_users", self.graph.rows(), persistent=False)
        self.register_buffer("edge_items", self.graph.columns.long(), persistent=False)

    def start(self, rng: np.random.Generator) -> None:
        """Xavier-normal tables, float32 [n_users or n_items, width]; confidences have a column per modality."""
        self.start_features()
        sizes, n_modalities = (self.n_users, self.n_items), len(self.modalities)
        self.user_id, self.item_id = drawn_together(rng, sizes, self.config.factors, "xavier-normal")
        self.user_confidence, self.item_confidence = drawn_together(rng, sizes, n_modalities, "xavier-normal")
        for modality in self.modalities:
            preferences = drawn(rng, (self.n_users, self.config.latent), "xavier-normal")
            self.register_parameter(_preferences_name(modality), preferences)
            content = Dense(
                self.width(modality), self.config.latent, rng=rng, members=self.members, start="xavier-normal"
            )
            self.add_module(_content_name(modality), content)

    @property
    def branches(self) -> Mapping[str, tuple[str, ...]]:
        """`id` and one per modality: its features where trained, its preferences and its layer."""
        found = {
            modality: (
                _preferences_name(modality),
                f"{_content_name(modality)}.weight",
                f"{_content_name(modality)}.bias",
                *self.feature_names(modality),
            )
            for modality in self.modalities
        }
        return {"id": ("user_id", "item_id", "user_confidence", "item_confidence"), **found}

    def embed(self, branch: str | None = None) -> tuple[Tensor, Tensor]:
        """Served vectors, float [n_users, d] and [n_items, d]: factors + latent times modalities, or a part of it."""
        self.check_branch(branch)
        if branch in self.modalities:
            content = self._modality(branch)
            return content.users, content.items
        parts = self._parts()
        users, items = zip(*(parts[:1] if branch == "id" else parts), strict=True)
        return torch.cat(users, 1), torch.cat(items, 1)

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, *, l2: float, weights: Tensor | None = None
    ) -> Tensor:
        """Weighted mean of softplus(s_uj - s_ui), plus the L2 term (see `l2_form`)."""
        gaps = []
        for user_part, item_part in self._parts():
            u, i, j = user_part.index_select(0, users), *(item_part.index_select(0, r) for r in (positives, negatives))
            gaps.append((u * (j - i)).sum(-1))
        made = weighted_mean(softplus(torch.stack(gaps).sum(0)), weights)
        return made + l2 * self._squares(users, positives, negatives, weights)

    def _parts(self) -> list[tuple[Tensor, Tensor]]:
        """The id part, then the modalities' content: vectors of users and of items."""
        contents = [self._modality(modality) for modality in self.modalities]
        return [self._ids(contents), *((content.users, content.items) for content in contents)]

    def _modality(self, modality: str) -> _Content:
        """A modality's content vectors, preferences routed and both sides exchanged, and its attention."""
        items = unit_rows(leaky_relu(self.get_submodule(_content_name(modality))(self.item_features(modality))))
        users = unit_rows(self._preferences(modality))
        for _ in range(self.config.routing):
            attention = self._softmax(self._affinities(users, items))
            users = unit_rows(users + self.graph.weighted(items, attention))
        affinities = self._affinities(users, items)
        to_users, to_items = self._softmax(affinities), self._softmax(affinities, back=True)
        return _Content(
            users + self.graph.weighted(items, to_users),
            items + self.graph.weighted(users, to_items, back=True),
            to_users,
            to_items,
        )

    def _preferences(self, modality: str) -> Tensor:
        # Not get_parameter, which refuses what torch.func puts in a parameter's place.
        table: Tensor = getattr(self, _preferences_name(modality))
        return table

    def _affinities(self, users: Tensor, items: Tensor) -> Tensor:
        """exp(p_u . c_i) of every pair, float [n_pairs]: the softmax before its sum; cosines cannot overflow it."""
        return self.graph.products(users, items).exp()

    def _softmax(self, affinities: Tensor, *, back: bool = False) -> Tensor:
        """Affinities over their sum at each pair's user, or at its item with `back`; [n_pairs]."""
        ones = affinities.new_ones(self.n_users if back else self.n_items, 1)
        sums = self.graph.weighted(ones, affinities, back=back).squeeze(1)
        return affinities / sums.index_select(0, self.edge_items if back else self.edge_users)

    def _ids(self, contents: Sequence[_Content]) -> tuple[Tensor, Tensor]:
        """The id part: vectors of users and items carried over the weighed edges."""
        to_users = _edge_weights([c.to_users for c in contents], self.item_confidence, self.edge_items)
        to_items = _edge_weights([c.to_items for c in contents], self.user_confidence, self.edge_users)
        users, items = user_sum, item_sum = unit_rows(self.user_id), unit_rows(self.item_id)
        for _ in range(self.config.layers):
            users, items = self.graph.weighted(items, to_users), self.graph.weighted(users, to_items, back=True)
            user_sum, item_sum = user_sum + users, item_sum + items
        return user_sum, item_sum

    def _squares(self, users: Tensor, positives: Tensor, negatives: Tensor, weights: Tensor | None) -> Tensor:
        """The L2 term without its weight, []."""
        terms = triple_squares((self.user_id, self.item_id), users, positives, negatives)
        for modality in self.modalities:
            told = self._preferences(modality).index_select(0, users)
            terms = terms + told.square().sum(-1) / self.config.latent
        made = weighted_mean(terms, weights)
        if self.config.l2_table in self.modalities:
            # Members have equally many users, so this is the sum of the members' own means.
            made = made + self.members * self._preferences(self.config.l2_table).square().mean()
        return made


class _Content(NamedTuple):
    """Content vectors of users and items, and the attention of every pair towards its user and its item, [n_pairs]."""

    users: Tensor
    items: Tensor
    to_users: Tensor
    to_items: Tensor


def _edge_weights(attention: Sequence[Tensor], confidence: Tensor, senders: Tensor) -> Tensor:
    """Maximum over modalities of attention ([n_pairs] each) times the sender's confidence, pruned at 0; [n_pairs]."""
    weighed = torch.stack(list(attention), 1) * confidence.index_select(0, senders)
    return weighed.max(1).values.relu()


def _preferences_name(modality: str) -> str:
    return f"user_preferences_{modality}"


def _content_name(modality: str) -> str:
    return f"{modality}_content"
