"""Recommenders as they are audited, and the architectures that are trained here."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from auditkit.data.dataset import Dataset, Ints
from auditkit.errors import NotApplicableError

if TYPE_CHECKING:
    from auditkit.contracts import Recipe

Side = Literal["user", "item"]


@runtime_checkable
class Recommender(Protocol):
    """The least that can be audited: scores as served, and the sizes of the id spaces. Nothing to inherit."""

    @property
    def n_users(self) -> int: ...  # noqa: D102 - said above

    @property
    def n_items(self) -> int: ...  # noqa: D102 - said above

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        """Scores of all items for each user, float [n_given_users, n_items]; higher is better.

        Never masked by history. NaN where an item is not offered.
        """
        ...


class Backbone(nn.Module, ABC):
    """A recommender architecture. Parameters are learned; buffers are built from the data it is served over.

    A subclass is one file: a frozen dataclass `Config`, `serve` (buffers), `start` (parameters) and `embed`, or
    `score` and `logits` where it has no pair of tables. The constructor is not overridden. A parameter that is stored
    but not trained has `requires_grad=False`.

    Attributes:
        name: registered name.
        stackable: the model over the disjoint union of `members` data sets *is* that many models trained at once.
            The first axis of every parameter then holds the members' own parameters one after another: one row per
            user or item (names starting with `user` or `item`), or a matrix of each member (`layers.Dense`); and no
            term of the loss joins two members.
        members: how many models this one is; 1 but while members are stacked.
        draws: one random generator per member, renewed before every epoch; empty outside training.
        needs_features: it reads item features and is refused data without them.
        engines: how it can be trained; the first is the default's.
        fit_defaults: how this backbone departs from the defaults of `Fit`.
        l2_form: the L2 term in words, for the report.
        Config: frozen dataclass of hyper-parameters.
    """

    name: ClassVar[str]
    stackable: ClassVar[bool] = False
    needs_features: ClassVar[bool] = False
    engines: ClassVar[tuple[str, ...]] = ("adam",)
    fit_defaults: ClassVar[Mapping[str, Any]] = {}
    l2_form: ClassVar[str] = "none"
    Config: ClassVar[type[Any]]
    n_users: int
    n_items: int

    def __init__(self, data: Dataset, config: Any, *, rng: np.random.Generator, members: int = 1) -> None:
        super().__init__()
        self.config, self.members = config, members
        self.draws: tuple[np.random.Generator, ...] = ()
        self._serve_over(data)
        self.start(rng)

    def _serve_over(self, data: Dataset) -> None:
        self.data, self.n_users, self.n_items = data, data.n_users, data.n_items
        self.serve(data)

    @abstractmethod
    def start(self, rng: np.random.Generator) -> None:
        """Create the parameters from `rng` alone (equal generators give equal parameters)."""

    def serve(self, data: Dataset) -> None:
        """Build the buffers (graph, histories) from `data`; called again by `on`. Default: no buffers."""

    @property
    def branches(self) -> Mapping[str, tuple[str, ...]]:
        """Branch (`id`, or a modality of the data) -> the names of its parameters. Default: none."""
        return {}

    def check_branch(self, branch: str | None) -> None:
        """Accept None (all of the model) and its branches.

        Raises:
            NotApplicableError: it has no such branch.
        """
        if branch not in (None, *self.branches):
            known = ", ".join(self.branches) or "none"
            raise NotApplicableError(f"{self.name} has no branch {branch!r}, only: {known}")

    def start_epoch(self, draws: Sequence[np.random.Generator]) -> None:
        """Renew what is random in training, before each epoch.

        Draw from these NumPy generators, member by member, and on the CPU: then the same seed draws the same on every
        device. Without draws, or in evaluation mode, nothing is random.

        Args:
            draws: one generator per member, from the member's seed and the epoch alone.
        """
        self.draws = tuple(draws)

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """Name -> parameter, of those that training moves."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def batch_sizes(self, users: Tensor) -> list[int]:
        """How many triples of a batch belong to each member; members lie one after another.

        Args:
            users: int64 [n], of the batch.
        """
        if self.members == 1:
            return [len(users)]
        member = users // (self.n_users // self.members)
        found: list[int] = torch.bincount(member, minlength=self.members).tolist()
        return found

    @abstractmethod
    def embed(self, branch: str | None = None) -> tuple[Tensor, Tensor]:
        """Served vectors, float [n_users, d] and [n_items, d], whose product is the score; differentiable.

        Raises:
            NotFactorizedError: the score is no product of tables; then `score`, `logits` and `fold_in` are overridden.
        """

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        """Scores as served, float [n_given_users, n_items]; NaN where an item is offered to nobody."""
        with torch.no_grad():
            user_vectors, item_vectors = self.embed(branch)
            rows = torch.tensor(np.asarray(users), device=user_vectors.device)
            return user_vectors[rows] @ item_vectors.T

    def logits(self, users: Tensor, items: Tensor) -> Tensor:
        """Scores of pairs, float [n], twice differentiable."""
        user_vectors, item_vectors = self.embed()
        return (user_vectors[users] * item_vectors[items]).sum(-1)

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, *, l2: float, weights: Tensor | None = None
    ) -> Tensor:
        """Training loss of a batch, [], auxiliary terms included.

        Args:
            users, positives, negatives: int64 [n]; stacked members one after another.
            l2: weight of the L2 term, whose form is `l2_form`.
            weights: float [n], what each triple counts (default 1/n): stacked members of different batch sizes each
                keep their own mean.
        """
        raise NotApplicableError(f"{self.name} is not trained by gradient steps and has no loss")

    def on(self, data: Dataset) -> Self:
        """The same parameters (shared, not copied), served over other data: buffers are rebuilt."""
        made = copy.copy(self)
        made.__dict__ = {
            **self.__dict__,
            "_parameters": dict(self._parameters),
            "_modules": dict(self._modules),
            "_buffers": {},
        }
        made._serve_over(data)
        return made.to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def fold_in(self, histories: Sequence[Ints], *, side: Side = "user") -> Tensor:
        """Scores of fresh entities told some ids; nothing learned moves.

        Args:
            histories: told item ids of each fresh user (`side="user"`) or told user ids of each fresh item.
            side: which kind of entity is fresh.

        Returns:
            float [n_histories, n_items], or [n_histories, n_users] for `side="item"`. Default: the mean of the told
            entities' served vectors stands for the fresh one.
        """
        with torch.no_grad():
            user_vectors, item_vectors = self.embed()
            told = user_vectors if side == "item" else item_vectors
            fresh = torch.stack([told[torch.tensor(np.asarray(h), device=told.device)].mean(0) for h in histories])
            return fresh @ told.T

    @classmethod
    def fit(cls, members: Sequence[tuple[Dataset, int]], recipe: Recipe, *, device: str) -> list[Self]:
        """Train one model per (data, seed), many at once; a member's stream is its seed's alone.

        Default: the torch engine, stacked where `stackable`. A closed form or a compiled kernel overrides this.
        """
        from auditkit.training.stacked import fit_adam

        return fit_adam(cls, members, recipe, device=device)
