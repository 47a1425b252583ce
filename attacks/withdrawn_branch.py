"""The withdrawn branch: what a modality alone still says at the training pairs of items whose content was withdrawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from auditkit.contracts import Access, Needs, Probe, Recommender
from auditkit.data.dataset import Floats
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case
from auditkit.linear import LinearAttack
from auditkit.probes import blocks, offered, row_moments


@dataclass(frozen=True)
class BranchPairs(Probe):
    """Scores through the withdrawn modalities' branches at the units' pairs.

    Signal `z`: the score within the user's row, summed over the withdrawn modalities; NaN where a pair is not offered.
    """

    name: ClassVar[str] = "branch-pairs"
    access: ClassVar[Access] = Access.SCORES | Access.WEIGHTS

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """Every pair of every unit."""
        if not case.request.modalities:
            raise NotApplicableError("the request withdraws no modality, so there is no withdrawn branch to read")
        return case.pairs()

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """`z`, float64 [n_points]."""
        known = getattr(model, "branches", {})
        missing = [m for m in case.request.modalities if m not in known]
        if missing:
            raise NotApplicableError(f"a {type(model).__name__} has no branch for: {', '.join(missing)}")
        users, place = np.unique(points["user"].to_numpy(), return_inverse=True)
        items, found = points["item"].to_numpy(), np.zeros(len(points))
        order = np.argsort(place, kind="stable")
        for modality in case.request.modalities:
            start = 0
            for block in blocks(users, case.data.n_items):
                mine = order[np.searchsorted(place[order], start) : np.searchsorted(place[order], start + len(block))]
                scores = offered(model.score(block, branch=modality))
                rows = torch.as_tensor(place[mine] - start, device=scores.device)
                mean, spread = row_moments(scores)
                values = scores[rows, torch.as_tensor(items[mine], device=scores.device)]
                found[mine] += ((values - mean[rows]) / spread[rows]).cpu().numpy()
                start += len(block)
        return {"z": found}


@dataclass(frozen=True)
class WithdrawnBranch(LinearAttack):
    """The linear score of references (as in `lira-linear`) on the withdrawn modalities' branches alone."""

    name: ClassVar[str] = "withdrawn-branch"
    needs: ClassVar[Needs] = Needs(references=4)
    reads: ClassVar[str] = "how strongly the withdrawn content alone still recommends the items it was withdrawn from"

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Scores through the withdrawn branches."""
        return (BranchPairs(),)

    @property
    def read_signal(self) -> str:
        """`z`, summed over the withdrawn modalities."""
        return "z"
