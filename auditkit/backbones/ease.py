"""EASE (Steck, WWW 2019): a linear item-item model with a closed form, and its exact downdate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from auditkit.contracts import Backbone, Recipe, Side
from auditkit.data.dataset import Dataset, Floats, Ints
from auditkit.errors import ConfigurationError, NotApplicableError, NotFactorizedError


class EASE(Backbone):
    """s(u, .) = x_u B with x_u the served history; B = I - P diag(1 / diag P), P = (X^T X + lambda I)^-1.

    All in float64; B takes 8 n_items^2 bytes, fitting it about four times that. Training has no randomness.
    """

    name: ClassVar[str] = "ease"
    engines: ClassVar[tuple[str, ...]] = ("closed-form",)
    fit_defaults: ClassVar[Mapping[str, Any]] = {"engine": "closed-form"}
    l2_form: ClassVar[str] = "config.regularization times the squared Frobenius norm of B (fit.l2 is not used)"

    item_weights: nn.Parameter
    history_starts: Tensor
    history_items: Tensor

    @dataclass(frozen=True)
    class Config:
        """Hyper-parameters.

        Attributes:
            regularization: lambda, above 0.
        """

        regularization: float = 200.0

        def __post_init__(self) -> None:
            if not self.regularization > 0:
                raise ConfigurationError(f"regularization must be above 0, got {self.regularization}")

    def serve(self, data: Dataset) -> None:
        """Keep the training pairs as the users' histories."""
        matrix = data.train.matrix(data.n_users, data.n_items)
        for name, array in (("history_starts", matrix.indptr), ("history_items", matrix.indices)):
            self.register_buffer(name, torch.from_numpy(array.astype(np.int64)), persistent=False)

    def start(self, rng: np.random.Generator) -> None:
        """B = 0, float64 [n_items, n_items], until it is fitted."""
        empty = torch.zeros(self.n_items, self.n_items, dtype=torch.float64)
        self.item_weights = nn.Parameter(empty, requires_grad=False)

    @property
    def branches(self) -> Mapping[str, tuple[str, ...]]:
        """`id` is all there is."""
        return {"id": ("item_weights",)}

    def embed(self, branch: str | None = None) -> tuple[Tensor, Tensor]:
        """Raise: the score is no product of a user and an item table.

        Raises:
            NotFactorizedError: always.
        """
        raise NotFactorizedError("ease has no user and item vectors; use score or logits")

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        """Scores from the served histories, float64 [n_given_users, n_items]; never masked by history."""
        self.check_branch(branch)
        # tensor() copies: ids are often read-only views, which torch does not take.
        rows, items = self._told(torch.tensor(users, device=self.device))
        return self._summed(items, torch.bincount(rows, minlength=len(users)))

    def logits(self, users: Tensor, items: Tensor) -> Tensor:
        """Scores of pairs, float64 [n]: sums of B over the history; differentiable."""
        rows, told = self._told(users)
        terms = self.item_weights[told, items[rows]]
        return terms.new_zeros(len(users)).index_add(0, rows, terms)

    def fold_in(self, histories: Sequence[Ints], *, side: Side = "user") -> Tensor:
        """Sum the rows of B over each history, float64 [n_histories, n_items]; an empty history scores 0.

        Raises:
            NotApplicableError: `side="item"`, since a fresh item has no row and column in B.
        """
        if side == "item":
            raise NotApplicableError("ease cannot fold in an item: B has no row or column for it; refit instead")
        lengths = torch.tensor([len(h) for h in histories], device=self.device)
        items = np.concatenate([np.asarray(h, np.int64) for h in histories])
        return self._summed(torch.from_numpy(items).to(self.device), lengths)

    def _told(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """The served histories one after another: (position in `users`, item) of every entry."""
        first, end = self.history_starts[users], self.history_starts[users + 1]
        rows = torch.repeat_interleave(torch.arange(len(users), device=users.device), end - first)
        before = torch.cumsum(end - first, 0) - (end - first)
        places = torch.arange(len(rows), device=users.device) - before[rows] + first[rows]
        return rows, self.history_items[places]

    def _summed(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Sum of the rows of B over consecutive runs of `items`, float64 [n_runs, n_items]."""
        starts = torch.cumsum(lengths, 0) - lengths
        with torch.no_grad():
            return embedding_bag(items, self.item_weights, starts, mode="sum")

    @classmethod
    def fit(cls, members: Sequence[tuple[Dataset, int]], recipe: Recipe, *, device: str) -> list[Self]:
        """Solve the closed form for each member; seeds change nothing.

        Raises:
            ConfigurationError: the recipe asks for another engine.
        """
        if recipe.fit.engine != "closed-form":
            raise ConfigurationError(f"fit.engine must be 'closed-form' for ease, got {recipe.fit.engine!r}")
        config = cls.Config(**recipe.config)
        return [cls._solved(data, config).to(device) for data, _ in members]

    @classmethod
    def _solved(cls, data: Dataset, config: Config) -> Self:
        gram = _gram(data) + config.regularization * np.eye(data.n_items)
        return cls._with(data, config, cho_solve(cho_factor(gram), np.eye(data.n_items)))

    @classmethod
    def _with(cls, data: Dataset, config: Config, inverse: Floats) -> Self:
        """The model whose P is `inverse`."""
        made = cls(data, config, rng=np.random.default_rng(0))
        weights = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0.0)
        made.item_weights.data = torch.from_numpy(weights)
        return made

    def downdate(self, retain: Dataset) -> Self:
        """The model that training on `retain` gives, from this one: exact unlearning.

        P is read off B and the served histories; with V the histories of the changed users, before (sign -1)
        and after (sign +1), P' = P - P V^T (S + V P V^T)^-1 V P (Woodbury), S the diagonal of signs. Cost
        O(n_items^2 n_changed), or that of solving anew where this is less.

        Args:
            retain: what is left; users and items keep their ids.

        Raises:
            NotApplicableError: B was not fitted on the data that this model is served over.
        """
        before, after = (_histories(data) for data in (self.data, retain))
        changed = np.unique((before - after).nonzero()[0])
        inverse = self._inverse()
        if 2 * len(changed) >= self.n_items:
            return self._solved(retain, self.config).to(self.device)
        rows = np.concatenate([before[changed].toarray(), after[changed].toarray()])
        signs = np.repeat([-1.0, 1.0], len(changed))
        moved = rows @ inverse
        inverse = inverse - moved.T @ np.linalg.solve(np.diag(signs) + moved @ rows.T, moved)
        return self._with(retain, self.config, inverse).to(self.device)

    def _inverse(self) -> Floats:
        """P from B: the columns of I - B are those of P over diag P, and G P = I gives their scale."""
        gram = _gram(self.data) + self.config.regularization * np.eye(self.n_items)
        columns = np.eye(self.n_items) - self.item_weights.detach().cpu().numpy()
        inverse: Floats = columns / np.einsum("ij,ji->i", gram, columns)
        probe = np.random.default_rng(0).standard_normal(self.n_items)
        if not np.allclose(gram @ (inverse @ probe), probe, atol=1e-6):
            raise NotApplicableError("the weights were not fitted on the data they are served over; retrain")
        return inverse


def _histories(data: Dataset) -> csr_array:
    """X, float64 [n_users, n_items]."""
    return data.train.matrix(data.n_users, data.n_items).astype(np.float64)


def _gram(data: Dataset) -> NDArray[np.float64]:
    """X^T X, float64 [n_items, n_items]; whole numbers, so exact."""
    histories = _histories(data)
    made: NDArray[np.float64] = (histories.T @ histories).toarray()
    return made
