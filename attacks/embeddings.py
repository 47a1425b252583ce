"""Served vectors and parameters of users and items: probes that read them, and how far they lie from the Golds'."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.linalg import norm
from torch import Tensor

from auditkit.contracts import Access, Backbone, Probe, Recommender
from auditkit.data.dataset import Bools, Floats, Ints
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case, Reading
from auditkit.statistics.similarity import linear_cka, procrustes_residuals


def backbone_of(model: Recommender) -> Backbone:
    """The backbone that is served, also beneath an output mask.

    Raises:
        NotApplicableError: there is none, or several (shards), which share no axes.
    """
    if isinstance(model, Backbone):
        return model
    beneath: tuple[Backbone, ...] = getattr(model, "backbones", ())
    if len(beneath) == 1:
        return beneath[0]
    what = f"of {len(beneath)} sub-models, which share no axes" if beneath else "without weights to read"
    raise NotApplicableError(f"a {type(model).__name__} is a system {what}, so it has no one table of vectors")


def _rows_of_units(case: Case, most: int, rng: np.random.Generator) -> pd.DataFrame:
    """One row per unit and user or item that it names, and for retained units also per entity of their pairs."""
    group, pairs, parts = case.units["group"].to_numpy(), case.pairs(), []
    for side in ("user", "item"):
        named = case.units[side].to_numpy()
        units = np.flatnonzero(named >= 0)
        parts.append(_entities(side, units, named[units], own=True))
        met = pairs.loc[((named < 0) & (group == "retain"))[pairs["unit"]], ["unit", side]].drop_duplicates()
        parts.append(_entities(side, met["unit"].to_numpy(), met[side].to_numpy(), own=False))
    found = pd.concat(parts, ignore_index=True)
    unit = found["unit"].to_numpy()
    # The rows of one unit stay together; a unit's own come before those that are there for alignment alone.
    order = np.lexsort((rng.random(len(case.units))[unit], ~found["own"].to_numpy()))
    kept = pd.Series(group[unit[order]]).groupby(group[unit[order]]).cumcount().to_numpy() < most
    return found.iloc[np.sort(order[kept])].reset_index(drop=True)


def _entities(side: str, units: Ints, ids: Ints, *, own: bool) -> pd.DataFrame:
    nobody = np.full(len(ids), -1, np.int64)
    users, items = (ids, nobody) if side == "user" else (nobody, ids)
    return pd.DataFrame({"unit": units, "user": users, "item": items, "own": np.full(len(ids), own)})


def _read_rows(points: pd.DataFrame, users: Tensor | None, items: Tensor | None) -> Floats:
    """Rows of two tables at the points, float64 [n_points, width]; NaN where a table is missing, 0 where narrower."""
    tables = {side: table.detach() for side, table in (("user", users), ("item", items)) if table is not None}
    found = np.full((len(points), max(table.shape[1] for table in tables.values())), np.nan)
    for side, table in tables.items():
        asked = np.flatnonzero(points[side].to_numpy() >= 0)
        found[asked] = 0.0
        rows = torch.tensor(points[side].to_numpy()[asked], device=table.device)
        found[asked, : table.shape[1]] = table[rows].double().cpu().numpy()
    return found


@dataclass(frozen=True)
class ServedVectors(Probe):
    """The vectors whose products are the scores, at the users and items behind the units.

    Signal `vector`: float64 [n_points, d]. A point is a user (item -1) or an item (user -1). Points with `own` are what
    a unit names: the user, the item, or both of an interaction; the others are what retained units' pairs name
    besides, there for alignment. An output mask hides nothing: the vectors are those beneath it.

    Attributes:
        most: points per group (forget, retain, outside), own ones first, whole units as far as it goes.
    """

    most: int = 2000
    name: ClassVar[str] = "served-vectors"
    access: ClassVar[Access] = Access.WEIGHTS

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """Users and items of the units."""
        return _rows_of_units(case, self.most, rng)

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """The vectors.

        Raises:
            NotApplicableError: the score is no product of two tables, or the system has several of them or none.
        """
        with torch.no_grad():
            return {"vector": _read_rows(points, *backbone_of(model).embed())}


@dataclass(frozen=True)
class ParameterRows(Probe):
    """What a backbone has learned for the users and items behind the units, before any propagation.

    Signal `row`: float64 [n_points, width], all parameters with a row per user (or item) side by side; NaN for a side
    that has none. Parameters that all users share (projections, layers) are left out. Points as in `served-vectors`.

    Attributes:
        most: points per group (forget, retain, outside).
        width: wider rows are projected on as many fixed random directions, which keeps distances within a few percent.
    """

    most: int = 2000
    width: int = 256
    name: ClassVar[str] = "parameter-rows"
    access: ClassVar[Access] = Access.WEIGHTS

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """Users and items of the units."""
        return _rows_of_units(case, self.most, rng)

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """The rows.

        Raises:
            NotApplicableError: no parameter has a row per user or item, or the system has several backbones or none.
        """
        backbone = backbone_of(model)
        users = self._table(backbone, "user", backbone.n_users, rng)
        items = self._table(backbone, "item", backbone.n_items, rng)
        if users is None and items is None:
            raise NotApplicableError(f"{backbone.name} has no parameter with a row per user or item")
        return {"row": _read_rows(points, users, items)}

    def _table(self, backbone: Backbone, side: str, n: int, rng: np.random.Generator) -> Tensor | None:
        parameters = dict(backbone.named_parameters()).items()
        tables = [p.detach().reshape(n, -1) for name, p in parameters if name.startswith(side) and len(p) == n]
        if not tables:
            return None
        table = torch.cat(tables, dim=1)
        if table.shape[1] <= self.width:
            return table
        directions = rng.standard_normal((table.shape[1], self.width)) / np.sqrt(self.width)
        return table @ torch.tensor(directions, dtype=table.dtype, device=table.device)


def parameter_distance(mine: Reading, golds: Reading, units: pd.DataFrame) -> Floats:
    """Relative L2 distance of each unit's own rows, meaned over rows and Golds, float64 [n_targets, n_units].

    Formula: |row - Gold's row| / |Gold's row|; NaN where a Gold's row is all 0.
    """
    asked = _own(golds, "row")
    theirs = golds.values["row"][:, asked]
    sizes = norm(theirs, axis=-1)
    sizes[sizes == 0] = np.nan
    apart = [np.mean(norm(row[asked] - theirs, axis=-1) / sizes, axis=0) for row in mine.values["row"]]
    return _per_unit(mine, asked, apart)


def procrustes_distance(mine: Reading, golds: Reading, units: pd.DataFrame) -> Floats:
    """Root mean square residual of each unit's own rows, meaned over Golds, float64 [n_targets, n_units].

    Tables are laid onto each Gold's by the retained units' rows, each entity once.

    Raises:
        NotApplicableError: there are fewer retained rows than columns, so that anything can be laid onto anything.
    """
    own, theirs = _own(golds, "vector"), golds.values["vector"]
    anchors = _each_once(mine.points, (units["group"].to_numpy() == "retain")[mine.unit]) & np.isfinite(theirs).all(
        (0, 2)
    )
    n_anchors, width = int(anchors.sum()), theirs.shape[2]
    if n_anchors < width:
        raise NotApplicableError(
            f"laying {width} columns onto others needs as many retained rows, there are {n_anchors}"
        )
    apart = [
        np.mean([_squares(vectors, gold, anchors) for gold in theirs], axis=0)[own] for vectors in mine.values["vector"]
    ]
    return np.sqrt(_per_unit(mine, own, apart))


def _squares(vectors: Floats, gold: Floats, anchors: Bools) -> Floats:
    answered = anchors & np.isfinite(vectors).all(1)
    if answered.sum() < vectors.shape[1]:
        return np.full(len(vectors), np.nan)
    return procrustes_residuals(vectors, gold, answered) ** 2


def cka_distance(mine: Reading, golds: Reading, units: pd.DataFrame) -> Floats:
    """1 - linear CKA of a group's own rows, meaned over Golds: one value for all units of a group that are asked.

    float64 [n_targets, n_units]; NaN where fewer than 2 rows of the group were answered.
    """
    own, found = _own(golds, "vector"), np.full((len(mine.values["vector"]), mine.n_units), np.nan)
    group = units["group"].to_numpy()[mine.unit]
    for name in np.unique(group[own]):
        members = own & (group == name)
        rows = _each_once(mine.points, members)
        for k, vectors in enumerate(mine.values["vector"]):
            answered = np.isfinite(vectors).all(1)
            kept = rows & answered
            alike = np.mean([linear_cka(vectors[kept], gold[kept]) for gold in golds.values["vector"]])
            found[k, np.setdiff1d(mine.unit[members], mine.unit[members & ~answered])] = 1 - alike
    return found


def _own(golds: Reading, signal: str) -> Bools:
    """Points of what units name themselves, which every Gold answers, bool [n_points]."""
    return golds.points["own"].to_numpy() & np.isfinite(golds.values[signal]).all((0, 2))


def _each_once(points: pd.DataFrame, chosen: Bools) -> Bools:
    """The chosen points without those that name the same user or item again, bool [n_points]."""
    kept = np.zeros(len(points), np.bool_)
    kept[points.loc[chosen, ["user", "item"]].drop_duplicates().index] = True
    return kept


def _per_unit(reading: Reading, asked: Bools, values: Iterable[Floats]) -> Floats:
    """Mean over each unit's asked points, float64 [n_systems, n_units]."""
    return Reading(reading.points[asked], {}, reading.n_units).per_unit(np.stack(list(values)))
