"""Decoys are pairs that nobody was trained on: what they share with the forgotten pairs is no memory.

A system that forgot by another procedure than the Golds' (more epochs, another stopping rule) moves all its scores, and
those of the forgotten pairs with them. Decoys move alike. Their shift is carried over by what both kinds of pairs have
in common: how highly Gold scores the pair, how popular the item is, how active the user. This only takes a FAIL back
and never gives a PASS.

Decoys of interaction requests are test pairs. Those of user requests are fresh accounts that are told half of a
retained history and asked for its test pairs; how long the history is that was told stands in for the activity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

import numpy as np
import pandas as pd

from auditkit.contracts import Probe
from auditkit.data.dataset import Bools, Floats, Ints
from auditkit.evidence import Evidence, Reading

# Twenty for each function of the pair that the shift is carried over by.
MIN_DECOYS = 200
# On the dose scale. What moves its decoys by more than half of the original's memory is no variant of the procedure.
MOST_SHARED = 0.5
# Root mean square of what moves a fresh account's decoys, in that of another seed. On LightGCN honest trainings of 2/3
# and 3/2 of the epochs move those of fresh users by up to 1.7, reverse BPR by 2.8 and more; all limits between the
# two give the same verdicts there. Those of fresh items move further, honest ones too.
MOST_SEEDS, MOST_SEEDS_ITEMS = 2.25, 3.0
# Of a reading. Where decoys share the better half of it, it is theirs.
LEAST_LEFT = 0.5
# What decoys leave of a reading must lie beyond the margin by a one-sided bound at this level.
LEFT_ALPHA = 0.05


def _degrees(units: pd.DataFrame) -> Floats:
    """Log activity of the user and popularity of the item without the forgotten pairs, float64 [n_units, 2]."""
    forgotten = units["group"] == "forget"
    # A forgotten pair would count itself, and a decoy does not.
    columns = [
        units[degree] - forgotten.groupby(units[who]).transform("sum")
        for degree, who in (("activity", "user"), ("popularity", "item"))
    ]
    return np.log1p(np.maximum(np.stack(columns, axis=1).astype(np.float64), 0.0))


def _asked_of_accounts(reading: Reading) -> bool:
    """The probe marks its own decoys: points of fresh accounts."""
    return "decoy" in reading.points


def _decoys(background: Evidence, reading: Reading) -> tuple[Bools, Floats]:
    """Which points are decoys, bool [n_points], and two covariates of every point, float64 [n_points, 2]."""
    if _asked_of_accounts(reading):
        degrees = reading.points[["degree", "length"]].to_numpy(np.float64)
        return reading.points["decoy"].to_numpy(np.bool_), np.log1p(degrees)
    outside = np.asarray(background.units["group"] == "outside")
    return outside[reading.unit], _degrees(background.units)[reading.unit]


def _most(background: Evidence, reading: Reading) -> float:
    """How far decoys may move and still excuse, in seeds."""
    if not _asked_of_accounts(reading):
        return float("inf")
    # Units of an item request name no user.
    return MOST_SEEDS_ITEMS if bool((background.units["user"] < 0).all()) else MOST_SEEDS


def _basis(covariates: Floats, decoys: Ints) -> Floats:
    """Products of up to two covariates, float64 [n_points, 10]; beyond the decoys' range they are held at its end."""
    known = covariates[decoys]
    held = np.clip(covariates, known.min(0), known.max(0))
    width = known.std(0)
    scaled = (held - known.mean(0)) / np.where(width > 0, width, 1.0)
    full = np.column_stack([np.ones(len(scaled)), scaled])
    return np.stack(
        [full[:, i] * full[:, j] for i, j in combinations_with_replacement(range(full.shape[1]), 2)], axis=1
    )


@dataclass(frozen=True, eq=False)
class Shared:
    """How one signal of a system at the points follows from its decoys.

    Attributes:
        gold: float64 [n_points], mean of the background's Golds.
        n_golds: how many they are, S.
        decoys: positions of the decoys that every Gold answered.
        basis: float64 [n_points, 10].
        solve: float64 [10, n_decoys], least squares.
        scatter: mean square of the decoys about what is carried over, of a Gold or an original, the larger; corrected
            for the mean Gold being uncertain.
        most: of the decoys' root mean square shift, in that of a Gold; what moves them more has no reading without it.
        seeds: mean square of a Gold's decoys about the mean Gold, corrected alike.
    """

    gold: Floats
    n_golds: int
    decoys: Ints
    basis: Floats
    solve: Floats
    scatter: float = 0.0
    most: float = np.inf
    seeds: float = 0.0

    def split(self, values: Floats) -> tuple[Floats, Floats]:
        """Shift that the decoys share, float64 [n_systems, n_points], and mean square of what is left of theirs."""
        moved = self._moved(values)
        shared = moved @ self.solve.T @ self.basis.T
        return shared, np.asarray(((moved - shared[:, self.decoys]) ** 2).mean(1))

    def free(self, values: Floats, members: Bools) -> Floats:
        """The signal without what the decoys share, in units of the procedure's scatter.

        s' = m + (s - m - shared) / sqrt(max(q / scatter, 1)), q the mean square of the system's own decoys.

        Args:
            values: float64 [n_systems, n_points].
            members: bool [n_systems], the Golds that the mean is of.
        """
        shared, squares = self.split(values)
        wider = np.ones(len(values))
        if self.scatter > 0:
            wider = np.sqrt(np.maximum(squares * self._correction(members) / self.scatter, 1.0))
        return np.asarray(self.gold + (values - self.gold - shared) / wider[:, None])

    def beyond(self, values: Floats) -> Bools:
        """Systems, none of them a Gold of the mean, whose decoys moved by more than `most`, bool [n_systems]."""
        squares = (self._moved(values) ** 2).mean(1) * self.n_golds / (self.n_golds + 1)
        return np.asarray(squares > self.most**2 * self.seeds)

    def _moved(self, values: Floats) -> Floats:
        moved = (values - self.gold)[:, self.decoys]
        # What a system does not answer takes nothing back.
        return np.where(np.isfinite(moved), moved, 0.0)

    def _correction(self, members: Bools) -> Floats:
        n = self.n_golds
        return np.where(members, n / (n - 1), n / (n + 1))

    def measured(self, golds: Floats, originals: Floats) -> Shared:
        """With the scatter of these Golds, which the mean is of, and originals; float64 [n, n_points] each."""
        parts = [(golds, True), (originals, False)]
        means = [float((self.split(v)[1] * self._correction(np.full(len(v), own))).mean()) for v, own in parts]
        seeds = float((self._moved(golds) ** 2).mean()) * self.n_golds / (self.n_golds - 1)
        return replace(self, scatter=max(means), seeds=seeds)


def _shared(values: Floats, background: Evidence, decoys: Bools, degrees: Floats, most: float) -> Shared | None:
    golds, originals = values[background.rows("gold")], values[background.rows("original")]
    gold = golds.mean(0)
    rows = np.flatnonzero(decoys & np.isfinite(gold))
    if len(rows) < MIN_DECOYS or len(golds) < 2 or not len(originals):
        return None
    basis = _basis(np.column_stack([np.where(np.isfinite(gold), gold, 0.0), degrees]), rows)
    found = Shared(gold, len(golds), rows, basis, np.linalg.pinv(basis[rows]).astype(np.float64), most=most)
    return found.measured(golds, originals)


@dataclass(frozen=True, eq=False)
class Decoys:
    """What decoys say of the readings of some probes.

    Attributes:
        signals: probe -> signal -> how it follows from decoys.
        accounts: they are fresh accounts, not pairs.
    """

    signals: Mapping[Probe, Mapping[str, Shared]]
    accounts: bool = False

    @classmethod
    def of(cls, background: Evidence, probes: Iterable[Probe]) -> Decoys | None:
        """Fit on a background; None where a probe asks about fewer than 200 decoys, or a signal has another shape."""
        found: dict[Probe, dict[str, Shared]] = {}
        accounts = False
        for probe in probes:
            reading = background.readings[probe]
            decoys, degrees = _decoys(background, reading)
            accounts = accounts or _asked_of_accounts(reading)
            if decoys.sum() < MIN_DECOYS or any(v.ndim != 2 for v in reading.values.values()):
                return None
            most = _most(background, reading)
            fitted = {name: _shared(v, background, decoys, degrees, most) for name, v in reading.values.items()}
            known = {name: shared for name, shared in fitted.items() if shared is not None}
            if len(known) < len(fitted):
                return None
            found[probe] = known
        return cls(found, accounts) if found else None

    def free(self, evidence: Evidence, members: Ints | None = None) -> Evidence:
        """The same systems without what their decoys share; other probes are left out.

        Signals of a system under test whose decoys moved by more than `Shared.most` read NaN.

        Args:
            evidence: the same questions as the background.
            members: positions of the Golds of the background, where they are among the systems.
        """
        own = np.zeros(len(evidence.systems), np.bool_)
        own[[] if members is None else members] = True
        readings = {}
        for probe, signals in self.signals.items():
            reading = evidence.readings[probe]
            values = {name: shared.free(reading.values[name], own) for name, shared in signals.items()}
            if members is None:
                for name, shared in signals.items():
                    values[name][shared.beyond(reading.values[name])] = np.nan
            readings[probe] = Reading(reading.points, values, reading.n_units)
        return replace(evidence, readings=readings)


def confirmed(plain: Mapping[str, tuple[float, float]], free: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """p-values that need both readings beyond the margin: the larger of the two, which needs no correction.

    Args:
        plain: statistic -> reading and p-value.
        free: the same without what decoys share. A statistic that is missing there, or that differs by more than half a
            dose, takes nothing back.
    """  # fmt: skip
    found = {}
    for name, (value, p) in plain.items():
        other, other_p = free.get(name, (float("nan"), 0.0))
        found[name] = max(p, other_p) if abs(value - other) <= MOST_SHARED else p
    return found


def left_standing(
    plain: Mapping[str, tuple[float, float]], free: Mapping[str, tuple[float, float]]
) -> dict[str, float]:
    """p-values of readings that decoys on fresh accounts leave standing, 1 for the others.

    A reading stands if what is left of it without what decoys share lies beyond the margin at a one-sided 5%, and is
    half of it or more, or more than the original reads. A dose is small there beside what another length of training
    moves, so how far the two lie apart tells nothing (`Shared.most` bounds what may be excused).

    Args:
        plain: statistic -> reading and p-value of not being beyond the margin.
        free: the same without what decoys share; a statistic that is missing there takes nothing back.
    """
    found = {}
    for name, (value, p) in plain.items():
        left, left_p = free.get(name, (float("nan"), 0.0))
        own = left * np.sign(value) >= LEAST_LEFT * abs(value) or left > 1
        found[name] = p if np.isnan(left) or (own and left_p < LEFT_ALPHA) else 1.0
    return found
