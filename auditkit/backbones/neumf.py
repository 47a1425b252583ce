"""NeuMF (He et al., "Neural Collaborative Filtering", WWW 2017): a score that is no product of two tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NoReturn, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import linear, relu, softplus

from auditkit.architecture import Backbone, Side
from auditkit.backbones.layers import Dense, weighted_mean
from auditkit.data.dataset import Ints
from auditkit.errors import ConfigurationError, NotApplicableError, NotFactorizedError

# Activations of the widest hidden layer that are held at once while scoring.
_BLOCK = 2**18
_FOLD_IN_STEPS = 60
_FOLD_IN_NEGATIVES = 64
_FOLD_IN_L2 = 0.005


class NeuMF(Backbone):
    """Eq. 12 without its monotone sigmoid: s(u, i) = h . [p_u * q_i ; MLP([p'_u ; q'_i])].

    The GMF tower (p, q) multiplies element by element; the MLP tower (p', q') has ReLU layers, each half as wide as
    the one below. Both have vectors of their own; here they lie side by side in one row. Trained from scratch, without
    the paper's optional pre-training, by log loss (eq. 7) on each training pair and one sampled negative: the paper
    samples four.

    Defaults are those of the authors' code: 8 factors and a tower of 64, 32, 16, 8, Adam 1e-3, batch 256, no L2, 100
    epochs. Tables start from N(0, .01^2) as in the paper, matrices Xavier-uniform as in the code (but for h, which it
    starts 1.4 times smaller, and the output's bias, which eq. 12 does not have).
    """

    name: ClassVar[str] = "neumf"
    stackable: ClassVar[bool] = True
    fit_defaults: ClassVar[Mapping[str, Any]] = {
        "engine": "adam",
        "epochs": 100,
        "learning_rate": 1e-3,
        "l2": 0.0,
        "batch": 256,
    }
    l2_form: ClassVar[str] = "l2/2 times the mean over triples of the squared norms of their vectors in both towers"

    user_table: nn.Parameter
    item_table: nn.Parameter
    output: Dense

    @dataclass(frozen=True)
    class Config:
        """Hyper-parameters.

        Attributes:
            factors: width of the GMF tower and of the MLP tower's last layer ("predictive factors"; paper: 8 to 64).
            layers: hidden layers of the MLP tower; its vectors have factors * 2^(layers - 1) columns.
            init_scale: standard deviation of the tables' normal start.
        """

        factors: int = 8
        layers: int = 3
        init_scale: float = 0.01

        def __post_init__(self) -> None:
            wanted = (
                (self.factors >= 1, f"factors must be 1 or more, got {self.factors}"),
                (self.layers >= 1, f"layers must be 1 or more, got {self.layers}"),
                (self.init_scale > 0, f"init_scale must be above 0, got {self.init_scale}"),
            )
            problems = [problem for fine, problem in wanted if not fine]
            if problems:
                raise ConfigurationError(problems)

    def start(self, rng: np.random.Generator) -> None:
        """Normal tables [rows, factors of GMF + columns of the MLP tower], Xavier-uniform matrices."""
        factors, layers = self.config.factors, self.config.layers
        for name, rows in (("user_table", self.n_users), ("item_table", self.n_items)):
            drawn = rng.standard_normal((rows, factors + factors * 2 ** (layers - 1)), np.float32)
            self.register_parameter(name, nn.Parameter(torch.from_numpy(drawn * np.float32(self.config.init_scale))))
        widths = [factors * 2**k for k in range(layers, -1, -1)]
        self.hidden = nn.ModuleList(
            Dense(n_in, n_out, rng=rng, members=self.members, start="xavier-uniform")
            for n_in, n_out in pairwise(widths)
        )
        self.output = Dense(2 * factors, 1, rng=rng, members=self.members, bias=False, start="xavier-uniform")

    @property
    def _tower(self) -> list[Dense]:
        """The hidden layers, from the bottom."""
        return cast(list[Dense], list(self.hidden))

    @property
    def branches(self) -> Mapping[str, tuple[str, ...]]:
        """`id` is all there is."""
        return {"id": tuple(name for name, _ in self.named_parameters())}

    def embed(self, branch: str | None = None) -> NoReturn:
        """Raise: the score is no product of tables."""
        raise NotFactorizedError("neumf scores a pair through a network, not by a product of vectors; use score")

    def _pair_scores(self, users: Tensor, items: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
        """Scores of pairs of rows, float [n].

        Args:
            users, items: rows of the tables, float [n, columns].
            sizes: rows of each stacked member.
        """
        f = self.config.factors
        x = torch.cat([users[:, f:], items[:, f:]], dim=1)
        for layer in self._tower:
            x = relu(layer(x, sizes))
        joined = torch.cat([users[:, :f] * items[:, :f], x], dim=1)
        made: Tensor = self.output(joined, sizes).squeeze(1)
        return made

    def logits(self, users: Tensor, items: Tensor) -> Tensor:
        """Scores of pairs, float [n]; stacked members one after another."""
        rows = self.user_table.index_select(0, users), self.item_table.index_select(0, items)
        return self._pair_scores(*rows, self.batch_sizes(users))

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        """Scores as served, float [n_given_users, n_items]; pairs are made in blocks of bounded memory.

        Raises:
            NotApplicableError: no such branch, or the model is several stacked members: score them one by one.
        """
        self.check_branch(branch)
        with torch.no_grad():
            rows = torch.tensor(np.asarray(users), device=self.device)
            return self._all_scores(self.user_table.index_select(0, rows), self.item_table)

    def _all_scores(self, users: Tensor, items: Tensor) -> Tensor:
        """Every row of `users` (float [n, columns]) against every row of `items` ([m, columns]); [n, m]."""
        if self.members > 1:
            raise NotApplicableError("neumf cannot score stacked members at once; score the model of each")
        f = self.config.factors
        by_gmf, by_mlp = self.output.weight[0].chunk(2)
        made = (users[:, :f] * by_gmf) @ items[:, :f].T
        # The first layer of a pair is a sum of the user's part and the item's: each is computed once.
        first, *upper = self._tower
        of_users, of_items = first.weight.chunk(2, dim=1)
        users, items = linear(users[:, f:], of_users), linear(items[:, f:], of_items, first.bias)
        columns = min(len(items), max(1, _BLOCK // users.shape[1]))
        rows = max(1, _BLOCK // (users.shape[1] * columns))
        for top in range(0, len(users), rows):
            for left in range(0, len(items), columns):
                x = relu(users[top : top + rows, None] + items[None, left : left + columns])
                for layer in upper:
                    x = relu(layer(x))
                made[top : top + rows, left : left + columns] += x @ by_mlp
        return made

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, *, l2: float, weights: Tensor | None = None
    ) -> Tensor:
        """Weighted mean of -log sigmoid(s_ui) - log(1 - sigmoid(s_uj)) + l2/2 (|u|^2 + |i|^2 + |j|^2)."""
        u = self.user_table.index_select(0, users)
        # Each triple's two pairs lie together, so that stacked members stay one after another.
        items = self.item_table.index_select(0, torch.stack([positives, negatives], dim=1).flatten())
        sizes = [2 * n for n in self.batch_sizes(users)]
        positive, negative = self._pair_scores(u.repeat_interleave(2, dim=0), items, sizes).view(-1, 2).unbind(1)
        norms = u.square().sum(-1) + items.square().view(len(u), -1).sum(-1)
        return weighted_mean(softplus(-positive) + softplus(negative) + 0.5 * l2 * norms, weights)

    def fold_in(self, histories: Sequence[Ints], *, side: Side = "user") -> Tensor:
        """Log loss on the fresh entity's row, all else frozen: fixed negatives, fixed full-batch steps from 0.

        Each history has 64 fixed ids of its own as negatives, the same in every system (a told id among them counts
        for nothing), and both kinds of pairs weigh half: the mean over told ids plus the mean over negatives, plus
        .005/2 of the row's squared norm.
        """
        told = (self.user_table if side == "item" else self.item_table).detach()
        fresh = self._fitted(told, _Pairs.of(histories, len(told)), side)
        with torch.no_grad():
            if side == "user":
                return self._all_scores(fresh, self.item_table)
            return self._all_scores(self.user_table, fresh).T

    def _fitted(self, told: Tensor, pairs: _Pairs, side: Side) -> Tensor:
        """Fresh rows after 60 gradient steps, float [n_histories, columns].

        The score is piecewise linear in a row, so that a quarter of the weighted squared slopes, plus L2, bounds the
        loss's curvature between two kinks; its inverse is the step.
        """
        owner = torch.from_numpy(pairs.owner).to(told.device)
        other = told.index_select(0, torch.from_numpy(pairs.other).to(told.device))
        weight, is_told = torch.from_numpy(pairs.weight).to(told), torch.from_numpy(pairs.is_told).to(told)
        fresh = told.new_zeros(pairs.n, told.shape[1])
        for _ in range(_FOLD_IN_STEPS):
            rows = fresh.index_select(0, owner).requires_grad_()
            scores = self._pair_scores(rows, other) if side == "user" else self._pair_scores(other, rows)
            (slopes,) = torch.autograd.grad(scores.sum(), rows)
            pull = weight * (is_told - scores.detach().sigmoid())
            bend = told.new_zeros(pairs.n).index_add(0, owner, weight * slopes.square().sum(1))
            ascent = torch.zeros_like(fresh).index_add(0, owner, pull[:, None] * slopes) - _FOLD_IN_L2 * fresh
            fresh = fresh + ascent / (0.25 * bend + _FOLD_IN_L2)[:, None]
        return fresh


@dataclass(frozen=True, eq=False)
class _Pairs:
    """What fresh entities are fitted to.

    Attributes:
        n: number of histories.
        owner, other: int64 [n_pairs], the history and the told or negative id.
        weight: float64 [n_pairs].
        is_told: bool [n_pairs], False for a negative.
    """

    n: int
    owner: Ints
    other: Ints
    weight: NDArray[np.float64]
    is_told: NDArray[np.bool_]

    @classmethod
    def of(cls, histories: Sequence[Ints], n_ids: int) -> _Pairs:
        """Told ids and, from a generator of fixed seed, negatives among `n_ids` ids."""
        n = len(histories)
        negatives = np.random.default_rng(0).integers(n_ids, size=(n, _FOLD_IN_NEGATIVES))
        free = np.stack([~np.isin(drawn, told) for drawn, told in zip(negatives, histories, strict=True)])
        lengths = np.array([len(told) for told in histories])
        weights = (1 / np.repeat(lengths, lengths), (free / free.sum(1, keepdims=True).clip(1)).ravel())
        owners = (np.repeat(np.arange(n), lengths), np.repeat(np.arange(n), _FOLD_IN_NEGATIVES))
        others = (*(np.asarray(told, np.int64) for told in histories), negatives.ravel())
        is_told = np.arange(len(weights[0]) + len(weights[1])) < len(weights[0])
        return cls(n, np.concatenate(owners), np.concatenate(others), np.concatenate(weights), is_told)
