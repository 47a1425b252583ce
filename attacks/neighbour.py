"""Neighbours: does what was forgotten of one user still show in the rows of those most like that user?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_array

from auditkit.attacks.score_rows import z_in_rows
from auditkit.contracts import Access, Attack, Needs, Probe, Recommender
from auditkit.data.dataset import Floats, Ints
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case
from auditkit.linear import LinearAttack
from auditkit.utility import top_k

# Entries of a table of pairs by users that are held at once.
_BLOCK = 2**22


@dataclass(frozen=True)
class NeighbourRows(Probe):
    """Each pair's item, read in the rows of the user's nearest neighbours.

    Neighbours of u for a pair (u, i) are the users most like u by the Jaccard index of training histories who do not
    hold i in the original data; equal ones rank the lower id first, and who shares nothing is no neighbour. Histories
    are those of the retain set. A user whom the request erases has the history that was erased, and is nobody's
    neighbour. Columns `neighbour_0`, `neighbour_1`, ...: user ids, -1 where there is no further one.

    Signal `z`: mean over the neighbours of the z of i within their rows; NaN where none of them is offered i.

    Attributes:
        neighbours: most rows that a pair is read in, 1 or more.
    """

    neighbours: int = 10
    name: ClassVar[str] = "neighbour-rows"
    access: ClassVar[Access] = Access.SCORES

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """Every pair of every unit with its neighbours.

        Raises:
            NotApplicableError: the request names items, which leave every row.
        """
        if case.request.regime not in ("interaction", "user"):
            raise NotApplicableError(
                "an erased item leaves its neighbours' rows too; they are asked about users' pairs"
            )
        pairs = case.pairs()
        near = nearest_users(case, pairs["user"].to_numpy(), pairs["item"].to_numpy(), self.neighbours)
        return pairs.assign(**{f"neighbour_{k}": near[:, k] for k in range(self.neighbours)})

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """`z`, float64 [n_points]."""
        users = points[[f"neighbour_{k}" for k in range(self.neighbours)]].to_numpy()
        items = np.repeat(points["item"].to_numpy(), users.shape[1])
        z = z_in_rows(model.score, users.ravel(), items, case.data.n_items).reshape(users.shape)
        count = np.isfinite(z).sum(1)
        return {"z": np.where(count > 0, np.nansum(z, axis=1) / np.maximum(count, 1), np.nan)}


def nearest_users(case: Case, users: Ints, items: Ints, n: int) -> Ints:
    """Neighbours of each pair's user as `NeighbourRows` says, nearest first: int64 [n_pairs, n], padded with -1."""
    data, found = case.data, np.full((len(users), n), -1, np.int64)
    kept = case.retain.train.matrix(data.n_users, data.n_items)
    # Retained histories beside the histories of erased users, which are in no retain set.
    gone = case.request.users if case.request.regime == "user" else np.empty(0, np.int64)
    asked = kept if not len(gone) else data.train.matrix(data.n_users, data.n_items)
    holders = data.train.matrix(data.n_users, data.n_items).T.tocsr()
    for rows in _parts(users, data.n_users):
        ids, place = np.unique(users[rows], return_inverse=True)
        similar = jaccard(asked[ids], kept)
        similar[np.arange(len(ids)), ids] = 0.0
        similar[:, gone] = 0.0
        own = similar[place]
        own[holders[items[rows]].nonzero()] = 0.0
        found[rows] = top_k(torch.from_numpy(np.where(own > 0, own, np.nan)), n).numpy()
    return found


def _parts(users: Ints, n_users: int) -> Iterator[Ints]:
    """Pairs in blocks, those of one user together."""
    order, size = np.argsort(users, kind="stable"), max(1, _BLOCK // n_users)
    for start in range(0, len(order), size):
        yield order[start : start + size]


def jaccard(left: csr_array, right: csr_array) -> Floats:
    """Items in both histories over items in either, float64 [n_left, n_right]; 0 for two empty histories.

    Args:
        left, right: histories as rows of ones, [n_left, n_items] and [n_right, n_items].
    """
    both = np.asarray((left @ right.T).todense(), np.float64)
    either = np.asarray(left.sum(1))[:, None] + np.asarray(right.sum(1))[None, :] - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


@dataclass(frozen=True)
class Neighbour(LinearAttack):
    """The linear score of references (as in `lira-linear`) on the forgotten item in the rows of the user's neighbours.

    Signal: mean over neighbours v of u, none of whom holds i, of z(v, i). Source: collaborative memory; an interaction
    also moves the scores of similar users (the spillover that influence-based unlearning corrects, arXiv 2307.02147).
    *Reconstructed*: the probe is ours.

    It reads rows of retained users alone, so a row that is drawn again or masked hides nothing from it. Cannot see:
    what only the user's own row holds; a user with no retained neighbour. Its contrast is faint, so the reading is
    coarse. Neighbours are moved by all that moves an item: on MovieLens-100K a Gold of half as many epochs reads .3. So
    it is a note everywhere.

    Attributes:
        neighbours: rows that a pair is read in.
    """

    neighbours: int = 10
    name: ClassVar[str] = "neighbour"
    needs: ClassVar[Needs] = Needs(references=4)
    reads: ClassVar[str] = "whether the forgotten item still stands high with the users most like the forgotten one"

    @classmethod
    def battery(cls) -> tuple[Attack, ...]:
        """Runs when it is named."""
        return ()

    @classmethod
    def variants(cls) -> tuple[Attack, ...]:
        """Few and many neighbours."""
        return (cls(), cls(3), cls(30))

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Rows of neighbours."""
        return (NeighbourRows(self.neighbours),)

    @property
    def read_signal(self) -> str:
        """`z`, the mean over neighbours."""
        return "z"
