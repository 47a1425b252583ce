"""All that a plug-in author reads: recommenders, backbones, recipes, unlearners, probes and attacks."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Flag, auto
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from auditkit.data.dataset import Bools, Dataset, Floats, Interactions, Ints
from auditkit.deletion import DeletionRequest, Regime
from auditkit.digests import digest_of
from auditkit.errors import ConfigurationError, NotApplicableError
from auditkit.training.options import Fit as Fit

if TYPE_CHECKING:
    import pandas as pd

    from auditkit.evidence import Case, Evidence, Targets

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
    `score` and `logits` where it has no pair of tables. The constructor is not overridden.

    Attributes:
        name: registered name.
        stackable: every parameter has one row per user or per item (names starting with `user` or `item`), so that
            the model over the disjoint union of M data sets *is* M models trained at once.
        branches: branch (`id`, `visual`, `text`, ...) -> the names of its parameters.
        engines: how it can be trained; the first is the default's.
        fit_defaults: how this backbone departs from the defaults of `Fit`.
        l2_form: the L2 term in words, for the report.
        Config: frozen dataclass of hyper-parameters.
    """

    name: ClassVar[str]
    stackable: ClassVar[bool] = False
    branches: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    engines: ClassVar[tuple[str, ...]] = ("adam",)
    fit_defaults: ClassVar[Mapping[str, Any]] = {}
    l2_form: ClassVar[str] = "none"
    Config: ClassVar[type[Any]]
    n_users: int
    n_items: int

    def __init__(self, data: Dataset, config: Any, *, rng: np.random.Generator) -> None:
        super().__init__()
        self.config = config
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
            users, positives, negatives: int64 [n].
            l2: weight of the L2 term.
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


@dataclass(frozen=True)
class Recipe:
    """How a system is trained, all resolved; its digest is the procedure that systems share.

    Attributes:
        backbone: registered name.
        config: every hyper-parameter of the backbone, defaults included.
        fit: how it is trained, engine included.
        trainer: an unlearner whose own `train` is the procedure (sharded training), or None for plain training.
    """

    backbone: str
    config: Mapping[str, Any]
    fit: Fit
    trainer: Unlearner | None = None

    @classmethod
    def of(
        cls,
        backbone: str,
        config: Mapping[str, Any] | None = None,
        fit: Mapping[str, Any] | None = None,
        trainer: Unlearner | None = None,
    ) -> Recipe:
        """Resolve defaults and check names.

        Raises:
            ConfigurationError: unknown backbone, unknown or ill-typed keys; all at once.
        """
        from auditkit.plugins import backbones, resolve_options

        chosen = backbones()[backbone]
        resolved, chosen_fit = resolve_options(
            (chosen.Config, dict(config or {}), f"backbone {backbone!r}"),
            (Fit, {**chosen.fit_defaults, **(fit or {})}, "recipe.fit"),
        )
        if chosen_fit.engine not in chosen.engines:
            able = " or ".join(chosen.engines)
            raise ConfigurationError(f"recipe.fit: engine of {backbone!r} must be {able}, got {chosen_fit.engine!r}")
        return cls(backbone, asdict(resolved), chosen_fit, trainer)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the resolved recipe: the procedure."""
        return digest_of("recipe", self)

    def architecture(self) -> type[Backbone]:
        """The backbone class."""
        from auditkit.plugins import backbones

        return backbones()[self.backbone]

    def model(self, data: Dataset, seed: int) -> Backbone:
        """A fresh, untrained model over `data`."""
        chosen = self.architecture()
        return chosen(data, chosen.Config(**self.config), rng=np.random.default_rng(seed))


@dataclass(frozen=True, eq=False)
class Task:
    """All that unlearning may see.

    Attributes:
        data: what the parent was trained on, test empty.
        retain: `data` without what the request covers.
        forget: the training interactions that go.
        request, units: the request and the mask of its units, bool [n_units], that this task erases.
        recipe: how the parent was trained.
        device: where to compute.
    """

    data: Dataset
    retain: Dataset
    forget: Interactions
    request: DeletionRequest
    units: Bools
    recipe: Recipe
    device: str


@dataclass(frozen=True)
class Unlearner(ABC):
    """An unlearning method; the fields of the frozen dataclass are its hyper-parameters.

    Attributes:
        name: registered name.
        regimes: the kinds of request it can answer.
        trains: it brings its own training procedure (shards), so Golds of that procedure are its yardstick.
        label: `published`, `reconstructed`, `control` or `baseline`, for the report.
    """

    name: ClassVar[str]
    regimes: ClassVar[frozenset[Regime]] = frozenset({"interaction", "user", "item"})
    trains: ClassVar[bool] = False
    label: ClassVar[str] = "baseline"

    def train(self, data: Dataset, recipe: Recipe, *, device: str, seed: int) -> Backbone:
        """Train a system of this procedure on `data`. Default: plain; sharded methods override it."""
        return recipe.architecture().fit([(data, seed)], recipe, device=device)[0]

    @abstractmethod
    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Recommender:
        """Make `model` forget. `model` is a private copy served over `task.data`, made off the clock.

        Returns:
            What would be served from now on: a `Backbone` (usually `model.on(task.retain)`), or another recommender
            for which `dump` and `load` are overridden.
        """

    def dump(self, served: Recommender) -> tuple[Backbone, dict[str, Floats | Ints]]:
        """What the store keeps of `served`: a backbone, and arrays of this method's own."""
        if not isinstance(served, Backbone):
            raise NotApplicableError(
                f"{self.name} serves a {type(served).__name__}; override dump and load to say how it is stored"
            )
        return served, {}

    def load(self, backbone: Backbone, arrays: Mapping[str, Floats | Ints]) -> Recommender:
        """The inverse of `dump`."""
        return backbone


class Access(Flag):
    """What an auditor can reach: a set, not a ladder."""

    LISTS = auto()
    SCORES = auto()
    NEW_USERS = auto()
    NEW_ITEMS = auto()
    WEIGHTS = auto()
    SNAPSHOTS = auto()


@dataclass(frozen=True)
class Probe(ABC):
    """The only code that touches a live system: asks the same question of every system. Equal probes are asked once.

    Attributes:
        name: registered in reports.
        access: what it needs to reach.
    """

    name: ClassVar[str]
    access: ClassVar[Access]

    @abstractmethod
    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """The questions, fixed before any system is read: columns unit, user, item and the probe's own."""

    @abstractmethod
    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """Answers: signal -> float64 [n_points, ...], NaN where there is none; `rng` is alike for all systems."""


@dataclass(frozen=True)
class Needs:
    """The minimum below which an attack is not applicable.

    Attributes:
        golds: Golds in the *background* of every target. 0 keeps Golds out of the background, so that they are scored
            as targets all at once and no leave-one-out is needed.
        references: references in the background.
        unlearned_references: references that were trained and unlearned by the method.
        before: the reading of the parent before unlearning.
    """

    golds: int = 0
    references: int = 0
    unlearned_references: int = 0
    before: bool = False


@dataclass(frozen=True, eq=False)
class Scores:
    """What an attack concludes: higher = more remembered, NaN = cannot tell.

    Attributes:
        level: float64 [n_targets, n_units], sums over a unit's points weighted by w.
        pattern: float64 [n_targets, n_units], weighted so that a common shift cancels; None makes it a diagnostic.
        n_points: how many probe points carry a weight.
    """

    level: Floats
    pattern: Floats | None = None
    n_points: int = 0


@dataclass(frozen=True)
class Attack(ABC):
    """A pure function from evidence to one score per system and unit.

    Attributes:
        name: registered name.
        needs: minimum background.
        probes: what it reads; its access is their union.
        primary_for: regimes in which it may be the primary attack.
        fails_in: regimes in which a bad finding counts against a system; elsewhere it is a note.
        reads: one sentence on what it sees, for the report.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs]
    primary_for: ClassVar[frozenset[Regime]] = frozenset()
    fails_in: ClassVar[frozenset[Regime]] = frozenset()
    reads: ClassVar[str] = ""

    @classmethod
    def battery(cls) -> tuple[Attack, ...]:
        """The instances that run when nothing else is said; one with default parameters unless overridden."""
        return (cls(),)

    @property
    @abstractmethod
    def probes(self) -> tuple[Probe, ...]:
        """The probes whose readings `score` uses."""

    @property
    def access(self) -> Access:
        """Union of the probes' access."""
        needed = Access(0)
        for probe in self.probes:
            needed |= probe.access
        return needed

    @abstractmethod
    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Score every target alike. No target is in `background`; targets come without roles."""
