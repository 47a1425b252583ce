"""Audits without models: unit scores of systems drawn from a Gaussian model with a known truth.

A forgotten pair's signal is d_x higher in a system that holds the unit; every system adds noise of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pandas as pd

from auditkit.builds import System, Train
from auditkit.contracts import Access, Attack, Needs, Probe, Recipe, Scores
from auditkit.data.dataset import Bools, Floats
from auditkit.deletion import EVERYBODY, NOBODY, DeletionRequest, Regime, Share
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case, Evidence, Reading, Targets
from auditkit.linear import fit_references, linear_scores
from auditkit.plan import reference_shares
from auditkit.record import Role
from auditkit.yardstick import Rules

RECIPE = Recipe.of("bpr-mf")
ALL = Access.SCORES | Access.LISTS


@dataclass(frozen=True)
class Signal(Probe):
    """One signal at the pairs; its answers are drawn, not read."""

    name: ClassVar[str] = "signal"
    access: ClassVar[Access] = Access.SCORES

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        raise NotApplicableError("answers are drawn")

    def read(self, model: object, points: pd.DataFrame, case: Case, *, rng: np.random.Generator) -> dict[str, Floats]:
        raise NotApplicableError("answers are drawn")


@dataclass(frozen=True)
class Linear(Attack):
    """The linear score of references on that signal."""

    name: ClassVar[str] = "linear"
    needs: ClassVar[Needs] = Needs(references=4)
    primary_for: ClassVar[frozenset[Regime]] = frozenset({"interaction"})
    fails_in: ClassVar[frozenset[Regime]] = frozenset({"interaction"})

    @property
    def probes(self) -> tuple[Probe, ...]:
        return (Signal(),)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        known, reading = background.readings[Signal()], targets.readings[Signal()]
        return linear_scores(reading, reading.values["z"], *fit_references(known, known.values["z"], background))


@dataclass(frozen=True)
class Raw(Linear):
    """The signal itself: a diagnostic."""

    name: ClassVar[str] = "raw"
    needs: ClassVar[Needs] = Needs()
    primary_for: ClassVar[frozenset[Regime]] = frozenset()

    def score(self, targets: Targets, background: Evidence) -> Scores:
        reading = targets.readings[Signal()]
        return Scores(reading.sums(reading.values["z"]), None, len(reading.points))


@dataclass(frozen=True)
class Broken(Raw):
    """A plug-in that raises."""

    name: ClassVar[str] = "broken"

    def score(self, targets: Targets, background: Evidence) -> Scores:
        raise ZeroDivisionError("nobody expected this")


@dataclass(frozen=True, eq=False)
class World:
    """A request with its truth.

    Attributes:
        n_units: of the request.
        per_unit: pairs of each.
        strength: mean of the gains d_x, in standard deviations of a system's noise.
        golds, references, originals: counts.
        seed: of everything drawn.
    """

    n_units: int = 200
    per_unit: int = 1
    strength: float = 1.5
    golds: int = 8
    references: int = 16
    originals: int = 2
    seed: int = 0
    rng: np.random.Generator = field(init=False)
    gain: Floats = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        object.__setattr__(self, "rng", rng)
        object.__setattr__(self, "gain", self.strength * rng.gamma(4.0, 0.25, self.n_units * self.per_unit))

    @property
    def request(self) -> DeletionRequest:
        return DeletionRequest("interaction", np.arange(self.n_units), np.zeros(self.n_units, np.int64))

    @property
    def units(self) -> pd.DataFrame:
        n = self.n_units
        ids = np.arange(n)
        return pd.DataFrame(
            {
                "user": ids,
                "item": 0,
                "group": "forget",
                "cluster": ids,
                "activity": 1,
                "popularity": 1,
                "split": "judge",
            }
        )

    def signal(self, held: Bools) -> Floats:
        """One system that holds `held`, float64 [n_points]."""
        return self.gain * np.repeat(held, self.per_unit) + self.rng.standard_normal(len(self.gain))

    def _member(self, name: str, role: Role, share: Share) -> tuple[System, Bools]:
        train = Train(RECIPE, share, 0)
        return System(name, role, train, role), train.held(self.request)

    def background(self) -> Evidence:
        """Originals, Golds, references, an extra Gold and a system that holds half."""
        members = [self._member(f"original-{k}", "original", NOBODY) for k in range(self.originals)]
        members += [self._member(f"gold-{k}", "gold", EVERYBODY) for k in range(self.golds)]
        shares = reference_shares(self.references, self.seed) if self.references else []
        members += [self._member(f"reference-{k}", "reference", share) for k, share in enumerate(shares)]
        members += [self._member("control gold", "control", EVERYBODY)]
        members += [self._member("half-erased", "control", Share(0, 0.5, 17))]
        return self.evidence([s for s, _ in members], np.array([h for _, h in members]))

    def evidence(self, systems: Sequence[System], held: Bools, values: Floats | None = None) -> Evidence:
        """Readings of some systems, drawn unless given."""
        drawn = np.stack([self.signal(h) for h in held]) if values is None else values
        points = pd.DataFrame({"unit": np.repeat(np.arange(self.n_units), self.per_unit), "user": 0, "item": 0})
        return Evidence(tuple(systems), self.units, held, held, {Signal(): Reading(points, {"z": drawn}, self.n_units)})

    def audited(self, *values: Floats) -> Evidence:
        """Runs of an unlearner under test that answer `values`."""
        systems = [System(f"run {k}", "unlearned", Train(RECIPE, EVERYBODY, k)) for k in range(len(values))]
        return self.evidence(systems, np.zeros((len(values), self.n_units), np.bool_), np.stack(values))

    def gold(self) -> Floats:
        """A fresh system that holds nothing."""
        return self.signal(np.zeros(self.n_units, np.bool_))

    def original(self) -> Floats:
        """A fresh system that holds everything."""
        return self.signal(np.ones(self.n_units, np.bool_))


def rules(margin: float = 0.1, primary: str = "linear", allowed: Access = ALL) -> Rules:
    """Rules of an interaction request at one-sided 5%."""
    return Rules("interaction", margin, 0.05, primary, allowed, 0)
