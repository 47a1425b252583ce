"""MIG-GT (Hu et al., AAAI 2025): propagation of its own depth per modality, then attention to sampled items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.sparse import csr_array, eye_array
from torch import Tensor, nn
from torch.nn.functional import batch_norm, prelu, softplus

from auditkit.backbones.graph import Propagation, adjacency, normalised
from auditkit.backbones.layers import Dense, dropout, weighted_mean
from auditkit.backbones.multimodal import MultimodalBackbone
from auditkit.data.dataset import Dataset, Ints
from auditkit.errors import ConfigurationError

# Keep the fixed draws of one seed apart.
_SAMPLE_STREAM, _PROJECTION_STREAM = 0x5A3, 0x9F0


class MIGGT(MultimodalBackbone):
    """s(u, i) = z_u . z_i, where z = .9 h + .1 attention(h; h, C sampled items) and h sums the branches' vectors.

    Each branch is propagated by MGDCF over A^ = D^-1/2 (A + I) D^-1/2 with a depth K of its own,
    h <- beta A^ h + alpha h_0, divided by beta^K + alpha (1 + ... + beta^(K-1)). In `id` users start from their table
    and items from 0; in a modality users start from 0 and items from a network of two layers over its features
    (linear, batch norm, PReLU; dropout between). Attention has queries and keys of `attention` factors and the vectors
    themselves as values. A loss term, the "unsmooth" regularisation, keeps what comes out for the item itself apart
    from what comes out for its sample.

    Items of a sample are drawn anew at every step of training. In serving they are fixed: drawn from `seed`, the same
    for every model over equally many users and items, whatever the data (the published inference draws anew each time
    and is not reproducible).

    The formulas are those of the published code. Departures: batch norm takes means and variances from the catalogue as
    served, in training (as the code does: all items are in every step) and in serving (where the code keeps
    running means); the linear layers before it have no bias, which it would take out; the loss is divided by the
    batch size, which Adam does not feel; held items are no negatives. `reconstructed`: wide features are projected by a
    Gaussian matrix, drawn from `seed`, and a modality other than `image` and `text` has depth 1.

    Defaults are the authors' for Amazon-Baby, who train 300 epochs with patience 100; a decay of .605 every 50 epochs
    is their .99 each.
    """

    name: ClassVar[str] = "mig-gt"
    stackable: ClassVar[bool] = True
    fit_defaults: ClassVar[Mapping[str, Any]] = {
        "engine": "adam",
        "epochs": 200,
        "learning_rate": 1e-2,
        "l2": 1e-5,
        "batch": 8000,
        "decay": 0.605,
    }
    l2_form: ClassVar[str] = "l2/2 times the squared norms of all served vectors, divided by the batch size"

    user_table: nn.Parameter

    @dataclass(frozen=True)
    class Config:
        """Hyper-parameters.

        Attributes:
            factors: width of the vectors.
            hidden: width of the hidden layer over features.
            layers: depth of `id`.
            modality_layers: depth of each modality; 1 where it is not named.
            alpha, beta: weights of the start and of the neighbours in MGDCF; above 0.
            samples: items C that a node attends to, beside itself.
            attention: width of queries and keys.
            residual: weight of the vector itself against attention, in [0, 1].
            feature_dropout: of raw and hidden features, in [0, 1) as all of them.
            start_dropout: of the vectors that propagation starts from.
            edge_dropout: of the edges, by branch.
            output_dropout: of the sum of the branches.
            project_wide: project features wider than the narrowest modality's to its width, at random and fixed.
            seed: of the served samples and of that projection.
            trainable_features: train the raw features too; published is not to.
        """

        factors: int = 64
        hidden: int = 512
        layers: int = 4
        modality_layers: Mapping[str, int] = field(default_factory=lambda: {"image": 1, "text": 2})
        alpha: float = 0.1
        beta: float = 0.9
        samples: int = 10
        attention: int = 4
        residual: float = 0.9
        feature_dropout: float = 0.3
        start_dropout: float = 0.3
        edge_dropout: float = 0.2
        output_dropout: float = 0.2
        project_wide: bool = True
        seed: int = 0
        trainable_features: bool = False

        def __post_init__(self) -> None:
            problems = [*self._sizes(), *self._rates()]
            if problems:
                raise ConfigurationError(problems)

        def _sizes(self) -> list[str]:
            least = {"factors": 1, "hidden": 1, "layers": 0, "samples": 1, "attention": 1, "seed": 0}
            found = [(name, getattr(self, name), bound) for name, bound in least.items()]
            found += [(f"modality_layers of {m!r}", depth, 0) for m, depth in self.modality_layers.items()]
            return [f"{name} must be {bound} or more, got {value}" for name, value, bound in found if value < bound]

        def _rates(self) -> list[str]:
            dropouts = ("feature_dropout", "start_dropout", "edge_dropout", "output_dropout")
            wanted = [
                (0 <= getattr(self, name) < 1, f"{name} must be in [0, 1), got {getattr(self, name)}")
                for name in dropouts
            ]
            wanted += [(getattr(self, name) > 0, f"{name} must be above 0") for name in ("alpha", "beta")]
            wanted.append((0 <= self.residual <= 1, f"residual must be in [0, 1], got {self.residual}"))
            return [problem for fine, problem in wanted if not fine]

    def serve_graphs(self, data: Dataset) -> None:
        """Build the operator with self-loops, the served samples, and the narrowed features.

        Raises:
            ConfigurationError: fewer than two items, over which nothing can be normalised.
        """
        if self._items_each < 2:
            raise ConfigurationError(f"{self.name} normalises over items and needs 2 or more, got {self._items_each}")
        matrix = adjacency(data)
        self.graph = Propagation(normalised(csr_array(matrix + eye_array(matrix.shape[0]))))
        self.sampled = self._sample(
            [np.random.default_rng([_SAMPLE_STREAM, self.config.seed]) for _ in range(self.members)]
        )
        narrowest = min(map(self.width, self.modalities))
        for place, modality in enumerate(self.modalities):
            if self.config.project_wide and self.width(modality) > narrowest:
                self._narrow(modality, narrowest, np.random.default_rng([_PROJECTION_STREAM, self.config.seed, place]))

    @property
    def _users_each(self) -> int:
        return self.n_users // self.members

    @property
    def _items_each(self) -> int:
        return self.n_items // self.members

    def _narrow(self, modality: str, width: int, rng: np.random.Generator) -> None:
        """Keep the random projection, and frozen features projected by it once for all steps."""
        matrix = rng.standard_normal((self.width(modality), width), np.float32) / np.float32(np.sqrt(width))
        self.register_buffer(_narrowing(modality), torch.from_numpy(matrix), persistent=False)
        if not self.config.trainable_features:
            raw = self.get_buffer(f"raw_{modality}")
            self.register_buffer(f"raw_{modality}", raw @ torch.from_numpy(matrix), persistent=False)

    def _sample(self, draws: Sequence[np.random.Generator]) -> Propagation:
        """Uniform items for every node, of its own member: rows of nodes, users first, with `samples` entries each."""
        shapes = [(rows, self.config.samples) for rows in (self._users_each, self._items_each)]
        sides: list[list[Ints]] = [[], []]
        for member, rng in enumerate(draws):
            for side, shape in zip(sides, shapes, strict=True):
                side.append(rng.integers(self._items_each, size=shape) + member * self._items_each)
        return self._places(torch.from_numpy(np.concatenate(sides[0] + sides[1])))

    def _places(self, items: Tensor) -> Propagation:
        """Sparse rows with an entry at each of these items, int64 [n, samples]; one that is there twice has two."""
        starts, columns = np.arange(len(items) + 1) * items.shape[1], items.flatten().cpu().numpy()
        matrix = csr_array((np.ones(len(columns)), columns, starts), shape=(len(items), self.n_items))
        return Propagation(matrix).to(self.device)

    def start(self, rng: np.random.Generator) -> None:
        """Normal users of scale 1 / sqrt(factors), Xavier-uniform matrices."""
        factors = self.config.factors
        table = rng.standard_normal((self.n_users, factors), np.float32) / np.float32(np.sqrt(factors))
        self.user_table = nn.Parameter(torch.from_numpy(table))
        self.start_features()
        for modality in self.modalities:
            widths = (self._input_width(modality), self.config.hidden, factors)
            self.add_module(_hidden(modality), _Layer(widths[0], widths[1], rng, self.members))
            self.add_module(_encoder(modality), _Layer(widths[1], widths[2], rng, self.members))
        self.query = self._attention_layer(rng)
        self.key = self._attention_layer(rng)

    def _attention_layer(self, rng: np.random.Generator) -> Dense:
        sizes = self.config.factors, self.config.attention
        return Dense(*sizes, rng=rng, members=self.members, start="xavier-uniform")

    def _input_width(self, modality: str) -> int:
        narrowing = self._buffers.get(_narrowing(modality))
        return self.width(modality) if narrowing is None else int(narrowing.shape[1])

    @property
    def branches(self) -> Mapping[str, tuple[str, ...]]:
        """`id` is the user table, a modality its network and features; attention is in no branch."""
        own = {m: (f"{_hidden(m)}.", f"{_encoder(m)}.") for m in self.modalities}
        names = [name for name, _ in self.named_parameters()]
        networks = {m: tuple(name for name in names if name.startswith(prefixes)) for m, prefixes in own.items()}
        return {"id": ("user_table",), **{m: (*self.feature_names(m), *networks[m]) for m in self.modalities}}

    def embed(self, branch: str | None = None) -> tuple[Tensor, Tensor]:
        """Served vectors z; a branch has its own propagated vectors, before they are summed and attended from."""
        self.check_branch(branch)
        if branch is not None:
            return self._branch(branch, ())
        vectors = self._summed(())
        return self._sides(self._attended(vectors, self._attention(vectors), self.sampled))

    def _summed(self, draws: Sequence[np.random.Generator]) -> Tensor:
        """Sum of the branches, float [n_users + n_items, factors]."""
        parts = [self._branch(branch, draws) for branch in ("id", *self.modalities)]
        sides = [torch.stack(side).sum(0) for side in zip(*parts, strict=True)]
        return torch.cat([dropout(side, self.config.output_dropout, draws) for side in sides])

    def _branch(self, branch: str, draws: Sequence[np.random.Generator]) -> tuple[Tensor, Tensor]:
        """Propagated vectors of a branch, float [n_users, factors] and [n_items, factors]."""
        depth = self.config.layers if branch == "id" else self.config.modality_layers.get(branch, 1)
        if branch == "id":
            users = dropout(self.user_table, self.config.start_dropout, draws)
            items = users.new_zeros(self.n_items, self.config.factors)
        else:
            items = dropout(self._encoded(branch, draws), self.config.start_dropout, draws)
            users = items.new_zeros(self.n_users, self.config.factors)
        made = self._propagated(torch.cat([users, items]), depth, draws)
        return made[: self.n_users], made[self.n_users :]

    def _encoded(self, modality: str, draws: Sequence[np.random.Generator]) -> Tensor:
        """A modality's network over its features, float [n_items, factors]."""
        features, rate = self.item_features(modality), self.config.feature_dropout
        if self.config.trainable_features and _narrowing(modality) in self._buffers:
            features = features @ self.get_buffer(_narrowing(modality))
        hidden = self.get_submodule(_hidden(modality))(dropout(features, rate, draws))
        made: Tensor = self.get_submodule(_encoder(modality))(dropout(hidden, rate, draws))
        return made

    def _propagated(self, start: Tensor, depth: int, draws: Sequence[np.random.Generator]) -> Tensor:
        """MGDCF (Hu et al., TKDE 2024): steps of h <- beta A^ h + alpha h_0, divided by the sum of their weights."""
        alpha, beta = self.config.alpha, self.config.beta
        coefficients = [alpha * beta**k for k in range(depth)] + [beta**depth]
        total = sum(coefficients)
        if not draws or not depth or not self.config.edge_dropout:
            return self.graph.polynomial(start, tuple(c / total for c in coefficients))
        values, made = self._dropped_edges(draws), start
        for _ in range(depth):
            made = beta * self.graph.weighted(made, values) + alpha * start
        mean: Tensor = made / total
        return mean

    def _dropped_edges(self, draws: Sequence[np.random.Generator]) -> Tensor:
        """The operator's values after dropout, float [n_entries]; each direction of an edge on its own."""
        ends = self.graph.row_starts.cpu().numpy()
        cut = ends[self.n_users]
        sizes = [np.diff(ends[: self.n_users + 1 : self._users_each]), np.diff(ends[self.n_users :: self._items_each])]
        sides = (self.graph.values[:cut], self.graph.values[cut:])
        rate = self.config.edge_dropout
        return torch.cat([dropout(v, rate, draws, n.tolist()) for v, n in zip(sides, sizes, strict=True)])

    def _attended(self, vectors: Tensor, attention: tuple[Tensor, Tensor], sampled: Propagation) -> Tensor:
        """Vectors z of all nodes: attention from each to itself and its sample, float [n_users + n_items, factors]."""
        queries, keys = attention
        own = (queries * keys).sum(1, keepdim=True)
        others = sampled.products(queries, keys[self.n_users :]).view(-1, self.config.samples)
        shares = self._softmax(torch.cat([own, others], dim=1))
        found = sampled.weighted(vectors[self.n_users :], shares[:, 1:].flatten()) + shares[:, :1] * vectors
        return self._mixed(vectors, found)

    def _sides(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        return vectors[: self.n_users], vectors[self.n_users :]

    def _attention(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys of all nodes, float [n_users + n_items, attention]."""
        queries, keys = (torch.cat([layer(side) for side in self._sides(vectors)]) for layer in (self.query, self.key))
        return queries, keys

    def _softmax(self, products: Tensor) -> Tensor:
        """Shares of what is attended to, in the last dimension, of products of queries and keys."""
        made: Tensor = (products / self.config.attention**0.5).softmax(-1)
        return made

    def _mixed(self, own: Tensor, found: Tensor) -> Tensor:
        made: Tensor = self.config.residual * own + (1 - self.config.residual) * found
        return made

    def _set_products(self, u: Tensor, sets: Tensor, vectors: Tensor) -> Tensor:
        """Products of u (float [n, factors]) with the vectors of each row's items, float [n, 1 + samples]."""
        items = vectors[self.n_users :]
        own = (u * items.index_select(0, sets[:, 0])).sum(1, keepdim=True)
        # Samples come sorted out of a sparse operator, so their order there is theirs here.
        sampled = self._places(sets[:, 1:]).products(u, items)
        return torch.cat([own, sampled.view(len(u), -1)], dim=1)

    def _unsmooth(self, products: Tensor, sets: Tensor, attention: tuple[Tensor, Tensor]) -> Tensor:
        """Cross entropy of picking each item out of the set of itself and its sample, float [n].

        Every one of the set attends to the set; of what comes out only the products with z_u are needed.

        Args:
            products: float [n, 1 + samples], of z_u with the vectors of the set before attention.
            sets: int64 [n, 1 + samples], items; the positive first.
            attention: queries and keys of all nodes.
        """
        rows = sets.flatten() + self.n_users
        queries, keys = (side.index_select(0, rows).view(*sets.shape, -1) for side in attention)
        found = (self._softmax(queries @ keys.transpose(1, 2)) @ products.unsqueeze(2)).squeeze(2)
        logits = self._mixed(products, found)
        return logits.logsumexp(1) - logits[:, 0]

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, *, l2: float, weights: Tensor | None = None
    ) -> Tensor:
        """Weighted mean of BPR and of the unsmooth term, plus l2/2 |Z|^2 / B over all nodes.

        The unsmooth term is -log softmax over the set {i, sample of i} of z_u . (what attention makes of each), at i.
        """
        draws = self.draws if self.training else ()
        sampled = self._sample(draws) if draws else self.sampled
        vectors = self._summed(draws)
        attention = self._attention(vectors)
        z = self._attended(vectors, attention, sampled)
        u = z.index_select(0, users)
        i, j = z.index_select(0, torch.cat([positives, negatives]) + self.n_users).chunk(2)
        sample = sampled.columns.view(-1, self.config.samples).index_select(0, positives + self.n_users)
        sets = torch.cat([positives.unsqueeze(1), sample], dim=1)
        unsmooth = self._unsmooth(self._set_products(u, sets, vectors), sets, attention)
        terms = softplus((u * (j - i)).sum(-1)) + unsmooth
        return weighted_mean(terms, weights) + 0.5 * l2 * self._squares(z, self.batch_sizes(users))

    def _squares(self, z: Tensor, sizes: list[int]) -> Tensor:
        """Sum over members of the squared norms of all its vectors over its batch size, []."""
        both = [side.square().view(self.members, -1).sum(1) for side in self._sides(z)]
        return ((both[0] + both[1]) / torch.tensor(sizes, device=z.device)).sum()


class _Layer(nn.Module):
    """Linear, batch norm over the rows given, PReLU; for each stacked member.

    Attributes:
        linear: Xavier-uniform, without bias.
        scale, shift: float32 [members * n_out], of batch norm.
        slope: float32 [members], of PReLU below 0.
    """

    def __init__(self, n_in: int, n_out: int, rng: np.random.Generator, members: int) -> None:
        super().__init__()
        self.members = members
        self.linear = Dense(n_in, n_out, rng=rng, members=members, bias=False, start="xavier-uniform")
        self.scale = nn.Parameter(torch.ones(members * n_out))
        self.shift = nn.Parameter(torch.zeros(members * n_out))
        self.slope = nn.Parameter(torch.full((members,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        """Float [members * rows, n_in] to [members * rows, n_out]."""
        own = (self.linear(x), self.scale, self.shift, self.slope)
        parts = zip(*(value.chunk(self.members) for value in own), strict=True)
        made = [
            prelu(batch_norm(rows, None, None, scale, shift, training=True), slope)
            for rows, scale, shift, slope in parts
        ]
        return torch.cat(made) if self.members > 1 else made[0]


def _narrowing(modality: str) -> str:
    return f"narrowing_{modality}"


def _hidden(modality: str) -> str:
    return f"{modality}_hidden"


def _encoder(modality: str) -> str:
    return f"{modality}_encoder"
