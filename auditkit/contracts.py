"""All that a plug-in author reads: recommenders, backbones, recipes, unlearners, probes and attacks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Flag, auto
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from auditkit.architecture import Backbone as Backbone
from auditkit.architecture import Recommender as Recommender
from auditkit.architecture import Side as Side
from auditkit.data.dataset import Bools, Dataset, Floats, Interactions, Ints
from auditkit.deletion import DeletionRequest, Regime
from auditkit.digests import digest_of
from auditkit.errors import ConfigurationError, NotApplicableError
from auditkit.training.options import Fit as Fit

if TYPE_CHECKING:
    import pandas as pd

    from auditkit.evidence import Case, Evidence, Targets


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

    def train(self, data: Dataset, seed: int, *, device: str) -> Recommender:
        """One system of this procedure, trained from scratch on `data`."""
        if self.trainer is not None:
            return self.trainer.train(data, self, device=device, seed=seed)
        return self.architecture().fit([(data, seed)], self, device=device)[0]

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
        parents: what it starts from: a `backbone`, or `any` system whatever its procedure (it does not look into it,
            and serves what that procedure yields). A method that `trains` starts from what it trained.
        label: `published`, `reconstructed`, `control` or `baseline`, for the report.
    """

    name: ClassVar[str]
    regimes: ClassVar[frozenset[Regime]] = frozenset({"interaction", "user", "item"})
    trains: ClassVar[bool] = False
    parents: ClassVar[Literal["backbone", "any"]] = "backbone"
    label: ClassVar[str] = "baseline"

    def refuses(self, recipe: Recipe, request: DeletionRequest) -> str | None:
        """Why this method cannot answer `request` for systems of `recipe`, in words; None where it can.

        Beyond `regimes`, which are checked first: a backbone without gradients, a request that means nothing there.
        Asked before anything is built. Default: it can.
        """
        return None

    def train(self, data: Dataset, recipe: Recipe, *, device: str, seed: int) -> Recommender:
        """Train a system of this procedure on `data`. Default: plain; sharded methods override it.

        Work that could run on machines of its own (a shard) is wrapped in `auditkit.costs.piece()` each, so that the
        ledger can tell total work from the slowest piece.
        """
        return recipe.architecture().fit([(data, seed)], recipe, device=device)[0]

    @abstractmethod
    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Recommender:
        """Make `model` forget. `model` is a private copy served over `task.data`, made off the clock.

        Returns:
            What would be served from now on: a `Backbone` (usually `model.on(task.retain)`), or another recommender
            for which `dump` and `load` are overridden and whose attribute `backbones` says what lies beneath.
        """

    def dump(self, served: Recommender) -> tuple[tuple[Backbone, ...], dict[str, Floats | Ints]]:
        """What the store keeps of `served`: the backbones in it, one or more, and arrays of this method's own."""
        if not isinstance(served, Backbone):
            raise NotApplicableError(
                f"{self.name} serves a {type(served).__name__}; override dump and load to say how it is stored"
            )
        return (served,), {}

    def load(self, backbones: Sequence[Backbone], arrays: Mapping[str, Floats | Ints]) -> Recommender:
        """The inverse of `dump`."""
        return backbones[0]


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
        unlearned_references: systems of role `unlearned reference` in the background: trained on all but a third of the
            units, then made to forget another third by the method under test. Held: still entitled to; seen and not
            held: trained on and unlearned; not seen: never trained on. Complete designs have a multiple of 3.
        before: `Targets.before`, the answers of the original that the methods under test start from.
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
        one_sided: only a level above Gold is a finding; below it is none (and pattern and spread are not read).
        release: it reads the model before and the model after, and an exact Gold is found too: a finding on releasing
            both, judged apart. Its scores are higher for units that seem to have been deleted in between; they are
            compared with those of retained units of the same system, never with Gold, and no verdict depends on them.
        reads: one sentence on what it sees, for the report.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs]
    primary_for: ClassVar[frozenset[Regime]] = frozenset()
    fails_in: ClassVar[frozenset[Regime]] = frozenset()
    one_sided: ClassVar[bool] = False
    release: ClassVar[bool] = False
    reads: ClassVar[str] = ""

    @classmethod
    def battery(cls) -> tuple[Attack, ...]:
        """The instances that run when nothing else is said; () for an attack that runs only when it is named."""
        return (cls(),)

    @classmethod
    def variants(cls) -> tuple[Attack, ...]:
        """The instances that run when the attack is named, and that the catalogue compares."""
        return cls.battery() or (cls(),)

    def counts_in(self, regime: Regime) -> bool:
        """Whether a bad finding of this instance counts against a system of such a request.

        Default: where `fails_in` says so. Parameters with which honest deletions read far from Gold take it back.
        """
        return regime in self.fails_in

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

    def access_in(self, regime: Regime) -> Access:
        """What it needs in a request of this kind. Default: `access`; a probe that asks one side alone needs less."""
        return self.access

    @abstractmethod
    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Score every target alike. No target is in `background`; targets come without roles."""
