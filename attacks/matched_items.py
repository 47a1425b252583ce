"""Matched items: a forgotten pair beside items alike that the same user never held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from auditkit.attacks.content import content_of
from auditkit.attacks.score_rows import z_in_rows
from auditkit.contracts import Access, Attack, Needs, Probe, Recommender
from auditkit.data.dataset import Dataset, Floats, Ints
from auditkit.deletion import Regime
from auditkit.evidence import Case
from auditkit.linear import LinearAttack

_GROUPS = 10
# Entries of a table of points by candidates that are held at once.
_BLOCK = 2**22


@dataclass(frozen=True)
class MatchedPairs(Probe):
    """Every pair beside control items of the same user.

    Controls are of the item's tenth by popularity (training pairs in the original data; ties share a tenth) and in none
    of the user's pairs of the original data. Where the data has features they are the nearest in content by cosine
    (modalities of equal weight); items without content, and all items of data without features, come in random order
    behind these. Columns `control_0`, `control_1`, ...: item ids, -1 where the tenth has no further item.

    Signals: `z`, the score z of the pair less the mean over its controls; `rank`, the logit of (b + .5) / (n + 1) with
    b the number of the n controls that it outranks (ties count half). Both NaN where the pair is not offered, or none
    of its controls.

    Attributes:
        controls: most controls of a pair, 1 or more.
    """

    controls: int = 20
    name: ClassVar[str] = "matched-pairs"
    access: ClassVar[Access] = Access.SCORES

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """Every pair of every unit with its controls."""
        pairs = case.pairs()
        chosen = matched_items(case.data, pairs["user"].to_numpy(), pairs["item"].to_numpy(), self.controls, rng)
        columns = {f"control_{k}": chosen[:, k] for k in range(self.controls)}
        return pairs.assign(**columns)

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """`z` and `rank`, float64 [n_points] each."""
        controls = points[[f"control_{k}" for k in range(self.controls)]].to_numpy()
        items = np.column_stack([points["item"].to_numpy(), controls])
        users = np.repeat(points["user"].to_numpy(), items.shape[1])
        z = z_in_rows(model.score, users, items.ravel(), case.data.n_items).reshape(items.shape)
        own, others = z[:, :1], z[:, 1:]
        count = np.isfinite(others).sum(1)
        answered = np.isfinite(own[:, 0]) & (count > 0)
        mean = np.nansum(others, axis=1) / np.maximum(count, 1)
        beaten = (others < own).sum(1) + 0.5 * (others == own).sum(1)
        rank = np.log((beaten + 0.5) / (count - beaten + 0.5))
        return {"z": np.where(answered, own[:, 0] - mean, np.nan), "rank": np.where(answered, rank, np.nan)}


def matched_items(data: Dataset, users: Ints, items: Ints, n: int, rng: np.random.Generator) -> Ints:
    """Control items of each pair as `MatchedPairs` says, best matched first: int64 [n_pairs, n], padded with -1.

    Args:
        data: the original data.
        users, items: int64 [n_pairs].
        n: most controls of a pair.
        rng: of the random order.
    """
    tenths, content = popularity_tenths(data), content_of(data)
    known = np.sort(np.concatenate([part.codes(data.n_items) for part in (data.train, data.valid, data.test)]))
    found = np.full((len(users), n), -1, np.int64)
    for tenth in np.unique(tenths[items]):
        candidates, mine = np.flatnonzero(tenths == tenth), np.flatnonzero(tenths[items] == tenth)
        size = max(1, _BLOCK // len(candidates))
        for rows in (mine[k : k + size] for k in range(0, len(mine), size)):
            # Cosines lie in [-1, 1] and random places behind them in (2, 3].
            order = 2 + rng.random((len(rows), len(candidates)))
            if content is not None:
                near = content.vectors[items[rows]] @ content.vectors[candidates].T
                both = content.present[items[rows]][:, None] & content.present[candidates]
                order = np.where(both, -near, order)
            held = np.isin(users[rows][:, None] * data.n_items + candidates, known)
            order[held | (candidates == items[rows][:, None])] = np.inf
            best = np.argsort(order, axis=1, kind="stable")[:, :n]
            taken = np.isfinite(np.take_along_axis(order, best, axis=1))
            found[rows, : best.shape[1]] = np.where(taken, candidates[best], -1)
    return found


def popularity_tenths(data: Dataset) -> Ints:
    """The tenth of each item by training pairs, int64 [n_items], 0 the least popular; equal counts share one."""
    counts = np.bincount(data.train.items, minlength=data.n_items)
    middle = (rankdata(counts) - 0.5) / len(counts)
    return np.asarray(middle * _GROUPS, np.int64)


@dataclass(frozen=True)
class MatchedItems(LinearAttack):
    """The linear score of references (as in `lira-linear`) on the pair's lead over matched control items.

    Signal: z(u, i) - mean over controls j of z(u, j), j of i's popularity and near it in content. Source: membership
    inference compares a candidate with non-members alike (MINER, CIKM 2024, by item frequency); rank probing with
    matched unseen items. *Reconstructed*: controls are fixed for each pair, and references weigh the lead.

    What moves all items of one popularity, or of one kind of content, cancels within the pair: another number of
    epochs, an unlearner that lowers whatever is alike. Cannot see: that same shift where it is what was remembered;
    pairs whose tenth the user holds whole; and, in user requests, what the other side's factors keep once the user's
    row is drawn again. There it is a note: a Gold that serves erased users the popular items reads .2 on
    MovieLens-100K, since a tenth is not one popularity (`lira-linear` reads .7).

    Attributes:
        signal: `z`, or `rank` among the controls.
        controls: of each pair.
    """

    signal: Literal["z", "rank"] = "z"
    controls: int = 20
    name: ClassVar[str] = "matched-items"
    needs: ClassVar[Needs] = Needs(references=4)
    primary_for: ClassVar[frozenset[Regime]] = frozenset({"interaction"})
    fails_in: ClassVar[frozenset[Regime]] = frozenset({"interaction"})
    reads: ClassVar[str] = (
        "how far a forgotten item stands above items of like popularity and content that were not held"
    )

    @classmethod
    def battery(cls) -> tuple[Attack, ...]:
        """Runs when it is named."""
        return ()

    @classmethod
    def variants(cls) -> tuple[Attack, ...]:
        """Both signals, and few controls."""
        return (cls(), cls("rank"), cls(controls=5))

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Pairs beside their controls."""
        return (MatchedPairs(self.controls),)

    @property
    def read_signal(self) -> str:
        """As chosen."""
        return self.signal
