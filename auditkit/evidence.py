"""What is asked and what is answered: the case, the readings of probes, and the evidence that attacks score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from auditkit.builds import System
from auditkit.contracts import Probe, Recommender
from auditkit.data.dataset import Bools, Dataset, Floats, Ints
from auditkit.deletion import DeletionRequest
from auditkit.digests import digest_of
from auditkit.errors import NotApplicableError
from auditkit.splitting import clusters_of, split_of, tune_clusters

# Retained and outside units are for comparison only; more of them cost time and change no verdict.
_MOST_COMPARED = 2000


@dataclass(frozen=True, eq=False)
class Case:
    """The data, the request and the units that are asked about.

    Attributes:
        data: the original data.
        request: what must be forgotten.
        units: one row a unit: the request's units first and in its order, then units to compare with. Columns user,
            item (-1 = any), group (forget, retain, outside), cluster (the user where one is named, else the item),
            activity and popularity (training degree of user and item, 0 where none is named), split (tune, judge).
    """

    data: Dataset
    request: DeletionRequest
    units: pd.DataFrame

    @cached_property
    def forget(self) -> Bools:
        """Which units the request names, bool [n_units]."""
        return np.asarray(self.units["group"] == "forget")

    @cached_property
    def judged(self) -> Bools:
        """Which units, of any group, a verdict and its figures may use, bool [n_units]; no choice was tuned on them."""
        return np.asarray(self.units["split"] == "judge")

    @cached_property
    def retain(self) -> Dataset:
        """The data without anything the request covers."""
        return self.request.erase(self.data, np.ones(self.request.n_units, np.bool_))

    def pairs(self) -> pd.DataFrame:
        """The user-item pairs each unit stands for, columns unit, user, item: a user's or an item's training pairs."""
        named_users, named_items = self.units["user"].to_numpy(), self.units["item"].to_numpy()
        if (named_items >= 0).all() and (named_users >= 0).all():
            return pd.DataFrame({"unit": np.arange(len(self.units)), "user": named_users, "item": named_items})
        by_user = bool((named_users >= 0).all())
        keys = self.data.train.users if by_user else self.data.train.items
        unit_of = np.full(self.data.n_users if by_user else self.data.n_items, -1, np.int64)
        unit_of[named_users if by_user else named_items] = np.arange(len(self.units))
        rows = np.flatnonzero(unit_of[keys] >= 0)
        rows = rows[np.argsort(unit_of[keys][rows], kind="stable")]
        found = self.data.train.take(rows)
        return pd.DataFrame({"unit": unit_of[keys][rows], "user": found.users, "item": found.items})


def _sample(n: int, most: int, rng: np.random.Generator) -> Ints:
    return np.sort(rng.permutation(n)[:most])


def _frame(users: Ints, items: Ints, group: str) -> pd.DataFrame:
    return pd.DataFrame({"user": users, "item": items, "group": group})


def _compared(data: Dataset, request: DeletionRequest, rng: np.random.Generator) -> list[pd.DataFrame]:
    """Units that are not to be forgotten: retained ones of the same kind; for interactions also test pairs."""
    most = min(_MOST_COMPARED, request.n_units)
    retain = request.erase(data, np.ones(request.n_units, np.bool_)).train
    if request.regime == "interaction":
        kept, unseen = (
            retain.take(_sample(len(retain), most, rng)),
            data.test.take(_sample(len(data.test), most, rng)),
        )
        return [_frame(kept.users, kept.items, "retain"), _frame(unseen.users, unseen.items, "outside")]
    ids = retain.users if request.regime == "user" else retain.items
    ids = np.setdiff1d(ids, request.users if request.regime == "user" else request.items)
    ids = ids[_sample(len(ids), most, rng)]
    anyone = np.full(len(ids), -1, np.int64)
    return [_frame(ids, anyone, "retain") if request.regime == "user" else _frame(anyone, ids, "retain")]


def make_case(data: Dataset, request: DeletionRequest, *, seed: int, tune: float = 0.0) -> Case:
    """Lay out the units of an audit.

    Args:
        data: the original data.
        request: what must be forgotten.
        seed: of the units to compare with, and of the clusters to tune on.
        tune: share of the request's clusters whose units choices are tuned on, in [0, .5]; with 0 all units are judged.

    Raises:
        DataError: the request does not fit the data.
        ConfigurationError: so few units are left to tune on or to judge that neither works (see `tune_clusters`).
    """
    request.check(data)
    rng = np.random.default_rng([seed, 1])
    units = pd.concat(
        [_frame(request.users, request.items, "forget"), *_compared(data, request, rng)], ignore_index=True
    )
    users, items = units["user"].to_numpy(), units["item"].to_numpy()
    activity = np.append(np.bincount(data.train.users, minlength=data.n_users), 0)
    popularity = np.append(np.bincount(data.train.items, minlength=data.n_items), 0)
    # Index -1 is "any" and reads the appended zero.
    units["activity"], units["popularity"] = activity[users], popularity[items]
    units["cluster"] = clusters_of(users, items)
    units["split"] = split_of(units["cluster"].to_numpy(), tune_clusters(request, tune, seed))
    return Case(data, request, units)


@dataclass(frozen=True, eq=False)
class Reading:
    """What one probe observed of some systems.

    Attributes:
        points: the questions; columns unit, user, item and the probe's own.
        values: signal -> float64 [n_systems, n_points, ...], NaN where a system did not answer.
        n_units: units of the case, with or without points.
    """

    points: pd.DataFrame
    values: Mapping[str, Floats]
    n_units: int

    @cached_property
    def unit(self) -> Ints:
        """The unit of each point, int64 [n_points]."""
        return np.asarray(self.points["unit"], np.int64)

    def take(self, systems: Ints) -> Reading:
        """The same questions, some systems' answers."""
        return Reading(self.points, {name: v[systems] for name, v in self.values.items()}, self.n_units)

    def of_units(self, units: Bools) -> Reading:
        """Only the questions about some units, bool [n_units]; unit numbers stay."""
        kept = units[self.unit]
        if kept.all():
            return self
        points = self.points[kept].reset_index(drop=True)
        return Reading(points, {name: v[:, kept] for name, v in self.values.items()}, self.n_units)

    def sums(self, values: Floats) -> Floats:
        """Sum over each unit's points, float64 [n_systems, n_units]; NaN for units with no points or a NaN point."""
        found = np.zeros((len(values), self.n_units))
        for row, answers in zip(found, values, strict=True):
            row += np.bincount(self.unit, answers, minlength=self.n_units)
        found[:, np.bincount(self.unit, minlength=self.n_units) == 0] = np.nan
        return found

    def per_unit(self, values: Floats) -> Floats:
        """Mean over each unit's points, float64 [n_systems, n_units]; NaN where `sums` is."""
        counts = np.bincount(self.unit, minlength=self.n_units)
        return self.sums(values) / np.maximum(counts, 1)


@dataclass(frozen=True, eq=False)
class Targets:
    """Readings of the systems to score, without roles and without truth.

    Attributes:
        readings: of the systems themselves.
        before: of their parents before unlearning, or None.
    """

    readings: Mapping[Probe, Reading]
    before: Mapping[Probe, Reading] | None = None


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of systems of one procedure.

    Attributes:
        systems: in the order of all arrays.
        units: as in the case.
        seen, held: bool [n_systems, n_units]: ever trained on the unit; still entitled to it.
        readings: probe -> reading of all systems.
    """

    systems: tuple[System, ...]
    units: pd.DataFrame
    seen: Bools
    held: Bools
    readings: Mapping[Probe, Reading]

    def take(self, systems: Ints | Sequence[int]) -> Evidence:
        """Some of the systems."""
        rows = np.asarray(systems, np.int64)
        return Evidence(
            tuple(self.systems[k] for k in rows), self.units, self.seen[rows], self.held[rows],
            {probe: reading.take(rows) for probe, reading in self.readings.items()},
        )  # fmt: skip

    def joined(self, other: Evidence) -> Evidence:
        """These systems and `other`'s, with the probes that all of them answered."""
        readings = {
            probe: Reading(
                mine.points,
                {name: np.concatenate([v, other.readings[probe].values[name]]) for name, v in mine.values.items()},
                mine.n_units,
            )
            for probe, mine in self.readings.items()
            if probe in other.readings
        }
        seen, held = (np.concatenate(pair) for pair in ((self.seen, other.seen), (self.held, other.held)))
        return Evidence((*self.systems, *other.systems), self.units, seen, held, readings)

    def of_split(self, split: str) -> Evidence:
        """The same systems with the answers about units of one split: what judges never sees what was tuned on."""
        units = np.asarray(self.units["split"] == split)
        return replace(self, readings={probe: reading.of_units(units) for probe, reading in self.readings.items()})

    def rows(self, *roles: str) -> Ints:
        """Positions of the systems in these roles."""
        return np.array([k for k, s in enumerate(self.systems) if s.role in roles], np.int64)


def entitlement(systems: Sequence[System], case: Case) -> tuple[Bools, Bools]:
    """Seen and held, bool [n_systems, n_units] each; retained units count as held, outside ones as never seen."""
    others = np.asarray(case.units["group"] == "retain")
    seen = np.tile(others, (len(systems), 1))
    held = seen.copy()
    for k, system in enumerate(systems):
        seen[k, case.forget] = system.build.seen(case.request)
        held[k, case.forget] = system.build.held(case.request)
    return seen, held


def _stream(probe: Probe, seed: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, int(digest_of(probe)[:12], 16), purpose])


def fix_points(probes: Iterable[Probe], case: Case, *, seed: int) -> dict[Probe, pd.DataFrame]:
    """The questions of every distinct probe that applies to the request, before any system is read."""
    questions = {}
    for probe in dict.fromkeys(probes):
        try:
            questions[probe] = probe.points(case, rng=_stream(probe, seed, 0))
        except NotApplicableError:
            # Attacks that read this probe find no answers and say so.
            continue
    return questions


def _ask(probe: Probe, model: Recommender, points: pd.DataFrame, case: Case, seed: int) -> dict[str, Floats] | None:
    # Lists that were cut shorter than it asks for would read like lists that do not show the rest.
    if getattr(probe, "k", 0) > getattr(model, "list_length", np.inf):
        return None
    try:
        return probe.read(model, points, case, rng=_stream(probe, seed, 1))
    except NotApplicableError:
        return None


def observe(
    systems: Iterable[tuple[System, Recommender]],
    questions: Mapping[Probe, pd.DataFrame],
    case: Case,
    *,
    seed: int,
) -> Evidence:
    """Ask every system every question; each gets the same points and the same random stream.

    A probe that some of the systems cannot answer is left out: its attacks are not applicable to them.
    """
    met: list[System] = []
    answers: dict[Probe, list[dict[str, Floats] | None]] = {probe: [] for probe in questions}
    for system, model in systems:
        met.append(system)
        for probe, points in questions.items():
            answers[probe].append(_ask(probe, model, points, case, seed))
    seen, held = entitlement(met, case)
    readings = {}
    for probe, given in answers.items():
        known = [a for a in given if a is not None]
        if known and len(known) == len(met):
            values = {s: np.stack([a[s] for a in known]) for s in known[0]}
            readings[probe] = Reading(questions[probe], values, len(case.units))
    return Evidence(tuple(met), case.units, seen, held, readings)
