"""Fold-in: fresh users (or items) are told either half of what was erased and asked for the other half.

Re-initialised rows read clean on rows, while the other side's factors still remember; a fresh account reads those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from auditkit.attacks.halves import decoy_histories, halved_histories
from auditkit.contracts import Access, Backbone, Needs, Probe, Recommender
from auditkit.data.dataset import Floats, Ints
from auditkit.deletion import Regime
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case
from auditkit.linear import LinearAttack
from auditkit.probes import offered, row_moments


@dataclass(frozen=True)
class FoldIn(Probe):
    """Scores of fresh entities. Points with `told` are the history and read NaN; the others are asked.

    User requests: two fresh users are told either half of the user's items (a random split, fixed per request) with
    item factors frozen, and asked for the other; signal `z`, the score of each asked item within the fresh user's row.
    Item requests: two fresh items are told either half of the item's training users; `z` is the score of each asked
    user within the fresh item's column. So each pair is asked once.

    Item requests also answer `row`: the fresh item's score within each asked user's row, the requested items' own
    columns left out. How far a fresh item stands above trained ones depends on how long those were trained, so honest
    deletions read far from Gold on it (the calibration benchmark shows by how much); no attack uses it.

    Beside them stand decoys (`auditkit.decoys`): fresh accounts that are told half of a retained user's items (of a
    retained item's users) and asked for its test pairs, on which nobody was trained. They carry no weight in a score.
    """

    name: ClassVar[str] = "fold-in"
    access: ClassVar[Access] = Access.NEW_USERS | Access.NEW_ITEMS | Access.SCORES

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """Pairs of the forget units that have at least 4, told to one account and asked of another; then decoys.

        Columns beside unit, user, item, told and account: `decoy`, asked of an account to compare with; `length`, of
        the told history; `degree`, retained training pairs of the item (user) that is asked for.
        """
        forgotten, compared = halved_histories(case, rng), decoy_histories(case, rng)
        compared = compared.assign(decoy=~compared["told"], account=compared["account"] + len(forgotten))
        found = pd.concat([forgotten.assign(decoy=False), compared], ignore_index=True)
        kept, by_user = case.retain.train, case.request.regime == "user"
        asked, ids = (found["item"], kept.items) if by_user else (found["user"], kept.users)
        degrees = np.bincount(ids, minlength=case.data.n_items if by_user else case.data.n_users)
        lengths = found.groupby("account")["told"].transform("sum")
        return found.assign(length=lengths, degree=degrees[asked.to_numpy()])

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """`z`, and `row` in item requests: float64 [n_points], NaN at told points."""
        if not isinstance(model, Backbone) and not hasattr(model, "fold_in"):
            raise NotApplicableError(f"a {type(model).__name__} takes no new users or items (it has no fold_in)")
        by_user = case.request.regime == "user"
        told = points["told"].to_numpy()
        ids = points["item" if by_user else "user"].to_numpy()
        # In the order of the questions: a backbone's fixed draws for a fresh account may go by its place.
        fresh, accounts = pd.factorize(points["account"])
        order = np.flatnonzero(told)[np.argsort(fresh[told], kind="stable")]
        histories = np.split(ids[order], np.cumsum(np.bincount(fresh[told], minlength=len(accounts)))[:-1])
        scores = model.fold_in(histories, side=case.request.regime).double()
        asked = np.flatnonzero(~told)
        values = scores[torch.as_tensor(fresh[asked]), torch.as_tensor(ids[asked])].cpu()
        mean, spread = (m.cpu()[torch.as_tensor(fresh[asked])] for m in row_moments(offered(scores)))
        found = np.full(len(points), np.nan)
        found[asked] = ((values - mean) / spread).numpy()
        if by_user:
            return {"z": found}
        row = np.full(len(points), np.nan)
        mean, spread = _user_rows(model, ids[asked], case)
        row[asked] = ((values - mean) / spread).numpy()
        return {"z": found, "row": row}


def _user_rows(model: Recommender, asked: Ints, case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of each asked user's row without the columns of the requested items."""
    users, place = np.unique(asked, return_inverse=True)
    scores = offered(model.score(users))
    scores[:, torch.tensor(case.request.items)] = torch.nan
    mean, spread = row_moments(scores)
    return mean.cpu()[torch.as_tensor(place)], spread.cpu()[torch.as_tensor(place)]


@dataclass(frozen=True)
class FoldInAttack(LinearAttack):
    """The linear score of references (as in `lira-linear`) on the fold-in signal: needs no row of the erased entity."""

    name: ClassVar[str] = "fold-in"
    needs: ClassVar[Needs] = Needs(references=4)
    primary_for: ClassVar[frozenset[Regime]] = frozenset({"user", "item"})
    fails_in: ClassVar[frozenset[Regime]] = frozenset({"user", "item"})
    reads: ClassVar[str] = (
        "what fresh accounts that are told half of the erased history get recommended of the other half"
    )

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Fresh users or items."""
        return (FoldIn(),)

    def access_in(self, regime: Regime) -> Access:
        """Scores, and fresh accounts of the one side that the request names."""
        return Access.SCORES | {"user": Access.NEW_USERS, "item": Access.NEW_ITEMS}.get(regime, self.access)

    @property
    def read_signal(self) -> str:
        """`z` of the asked points."""
        return "z"
