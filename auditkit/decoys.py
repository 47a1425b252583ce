"""Decoys are pairs that nobody was trained on: what they share with the forgotten pairs is no memory.

A system that forgot by another procedure than the Golds' (more epochs, another stopping rule) moves all its scores, and
those of the forgotten pairs with them. Decoys move alike. Their shift is carried over by what both kinds of pairs have
in common: how highly Gold scores the pair, how popular the item is, how active the user. This only takes a FAIL back
and never gives a PASS.
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


def _degrees(units: pd.DataFrame) -> Floats:
    """Log activity of the user and popularity of the item without the forgotten pairs, float64 [n_units, 2]."""
    forgotten = units["group"] == "forget"
    # A forgotten pair would count itself, and a decoy does not.
    columns = [
        units[degree] - forgotten.groupby(units[who]).transform("sum")
        for degree, who in (("activity", "user"), ("popularity", "item"))
    ]
    return np.log1p(np.maximum(np.stack(columns, axis=1).astype(np.float64), 0.0))


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
    """

    gold: Floats
    n_golds: int
    decoys: Ints
    basis: Floats
    solve: Floats
    scatter: float = 0.0

    def split(self, values: Floats) -> tuple[Floats, Floats]:
        """Shift that the decoys share, float64 [n_systems, n_points], and mean square of what is left of theirs."""
        moved = (values - self.gold)[:, self.decoys]
        # What a system does not answer takes nothing back.
        moved = np.where(np.isfinite(moved), moved, 0.0)
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

    def _correction(self, members: Bools) -> Floats:
        n = self.n_golds
        return np.where(members, n / (n - 1), n / (n + 1))

    def measured(self, golds: Floats, originals: Floats) -> Shared:
        """With the scatter of these Golds, which the mean is of, and originals; float64 [n, n_points] each."""
        parts = [(golds, True), (originals, False)]
        means = [float((self.split(v)[1] * self._correction(np.full(len(v), own))).mean()) for v, own in parts]
        return replace(self, scatter=max(means))


def _shared(values: Floats, background: Evidence, decoys: Bools, degrees: Floats) -> Shared | None:
    golds, originals = values[background.rows("gold")], values[background.rows("original")]
    gold = golds.mean(0)
    rows = np.flatnonzero(decoys & np.isfinite(gold))
    if len(rows) < MIN_DECOYS or len(golds) < 2 or not len(originals):
        return None
    basis = _basis(np.column_stack([np.where(np.isfinite(gold), gold, 0.0), degrees]), rows)
    found = Shared(gold, len(golds), rows, basis, np.linalg.pinv(basis[rows]).astype(np.float64))
    return found.measured(golds, originals)


@dataclass(frozen=True, eq=False)
class Decoys:
    """What decoys say of the readings of some probes.

    Attributes:
        signals: probe -> signal -> how it follows from decoys.
    """

    signals: Mapping[Probe, Mapping[str, Shared]]

    @classmethod
    def of(cls, background: Evidence, probes: Iterable[Probe]) -> Decoys | None:
        """Fit on a background; None where a probe asks about fewer than 200 decoys, or a signal has another shape."""
        outside = np.asarray(background.units["group"] == "outside")
        found: dict[Probe, dict[str, Shared]] = {}
        for probe in probes:
            reading = background.readings[probe]
            decoys = outside[reading.unit]
            if decoys.sum() < MIN_DECOYS or any(v.ndim != 2 for v in reading.values.values()):
                return None
            degrees = _degrees(background.units)[reading.unit]
            fitted = {name: _shared(v, background, decoys, degrees) for name, v in reading.values.items()}
            known = {name: shared for name, shared in fitted.items() if shared is not None}
            if len(known) < len(fitted):
                return None
            found[probe] = known
        return cls(found) if found else None

    def free(self, evidence: Evidence, members: Ints | None = None) -> Evidence:
        """The same systems without what their decoys share; other probes are left out.

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
