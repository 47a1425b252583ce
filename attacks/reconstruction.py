"""Reconstruction: how much of a user's served row each of her pairs explains, before unlearning and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from auditkit.attacks.embeddings import backbone_of
from auditkit.contracts import Access, Attack, Backbone, Needs, Probe, Recommender, Scores
from auditkit.data.dataset import Floats, Ints
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case, Evidence, Targets


@dataclass(frozen=True)
class PairWeights(Probe):
    """Weights with which a user's pairs add up to her row, by the model's own item vectors.

    Signal `weight`: float64 [n_points], the pair's coefficient c_i in the ridge regression of the user's row on the
    vectors of her candidates: row ~ sum_i c_i v_i. Candidates are her training pairs in the original data and her
    units' items, the same for every system. Where the score is a product p.q, the row is p and v_i is q_i less the mean
    item vector: with the items held still, p of L2-regularised BPR *is* such a sum, with c_i in proportion to 1 - sigma
    of the pair. In an item-item model (a square parameter `item_weights`, as in EASE) the row is the user's scores and
    v_i the item's row of the matrix: c_i is 1 for what is in the history and 0 for what is not, but for the ridge.
    Rotating all vectors changes no weight, so that models trained from other seeds can be compared.

    Attributes:
        ridge: in units of the mean squared norm of the candidates' vectors, above 0.
        most: users asked; of more than these the same sample for every system. All units of a user asked are points.
    """

    ridge: float = 1.0
    most: int = 500
    name: ClassVar[str] = "pair-weights"
    access: ClassVar[Access] = Access.WEIGHTS

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """Every pair of the users asked.

        Raises:
            NotApplicableError: the request names whole users or items, or withdraws features.
        """
        if case.request.regime != "interaction":
            raise NotApplicableError(
                f"which of a user's pairs were deleted is asked in interaction requests, not in {case.request.regime}"
            )
        pairs = case.pairs()
        users = rng.permutation(pairs["user"].unique())[: self.most]
        return pairs[pairs["user"].isin(users)].reset_index(drop=True)

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """The weights; NaN where a vector is not finite.

        Raises:
            NotApplicableError: the score is neither a product of two tables nor a sum over rows of an item-item matrix,
                or the system has several backbones or none.
        """
        users, items = points["user"].to_numpy(), points["item"].to_numpy()
        asked = np.unique(users)
        rows, vectors = _rows_and_vectors(backbone_of(model), asked)
        history, found = case.data.train.matrix(case.data.n_users, case.data.n_items), np.full(len(points), np.nan)
        points_of = points.groupby("user").indices
        for user, row in zip(asked, rows, strict=True):
            mine, held = points_of[user], history.indices[history.indptr[user] : history.indptr[user + 1]]
            candidates = np.union1d(held, items[mine])
            weights = ridge_weights(row, vectors[candidates], self.ridge)
            found[mine] = weights[np.searchsorted(candidates, items[mine])]
        return {"weight": found}


def _rows_and_vectors(backbone: Backbone, users: Ints) -> tuple[Floats, Floats]:
    """What is explained and by what, float64 [n_given_users, d] and [n_items, d]."""
    with torch.no_grad():
        weights = getattr(backbone, "item_weights", None)
        if weights is not None and weights.shape == (backbone.n_items, backbone.n_items):
            return backbone.score(users).double().cpu().numpy(), weights.double().cpu().numpy()
        rows, vectors = (table.double().cpu().numpy() for table in backbone.embed())
    return rows[users], vectors - vectors.mean(0)


def ridge_weights(row: Floats, vectors: Floats, ridge: float) -> Floats:
    """Coefficients c with least |row - sum_i c_i v_i|^2 + ridge * mean |v|^2 * |c|^2.

    Args:
        row: float64 [d].
        vectors: float64 [n, d].
        ridge: above 0.

    Returns:
        float64 [n]; 0 where every vector is 0, NaN throughout where a number is not finite.
    """
    n, d = vectors.shape
    if not (np.isfinite(row).all() and np.isfinite(vectors).all()):
        return np.full(n, np.nan)
    penalty = ridge * float(np.square(vectors).sum(1).mean())
    if not penalty:
        return np.zeros(n)
    # Both forms are equal; the smaller system is solved.
    if n <= d:
        return np.asarray(np.linalg.solve(vectors @ vectors.T + penalty * np.eye(n), vectors @ row))
    return np.asarray(vectors @ np.linalg.solve(vectors.T @ vectors + penalty * np.eye(d), row))


@dataclass(frozen=True)
class Reconstruction(Attack):
    """How much less of its user's row a pair explains after than before; needs no references.

    Formula: c_ui of the model before less c_ui of the model after (see the probe), meaned over a unit's pairs.

    Attributes:
        ridge: of the probe.

    Source: Bertran et al., "Reconstruction Attacks on Machine Unlearning: Simple Models are Vulnerable", NeurIPS 2024
    (arXiv 2405.20272): where a model minimises a regularised convex loss, the step from theta to theta- is H^-1 g(x*),
    so that H (theta - theta-) is the gradient of the deleted sample and reveals it. Reconstructed for rankers: a user's
    row is such a model once the items are held still; its stationarity condition is solved for the weight of each of
    her pairs, in the model before and in the model after, and the deleted pair is the one whose weight is gone.

    An exact deletion is found as well (in EASE, whose downdate equals retraining, all of it): a finding on releasing
    both models, not on the method.

    Cannot see: which pairs were deleted from users without a candidate, and what items learned from a pair. A method
    that moves little reads little; where items moved as well (training anew), their change blurs the weights.
    """

    ridge: float = 1.0
    name: ClassVar[str] = "reconstruction"
    needs: ClassVar[Needs] = Needs(before=True)
    release: ClassVar[bool] = True
    reads: ClassVar[str] = "which pairs no longer explain their user's row in the model after, and did in that before"

    @classmethod
    def battery(cls) -> tuple[Attack, ...]:
        """None: it runs when it is named."""
        return ()

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Weights of the pairs."""
        return (PairWeights(self.ridge),)

    @property
    def access(self) -> Access:
        """Weights of both models."""
        return super().access | Access.SNAPSHOTS

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Lost weight per unit, higher = more like deleted in between; NaN where either model has none; no pattern."""
        assert targets.before is not None, "the harness gives what `needs.before` asks for"
        reading, before = targets.readings[self.probes[0]], targets.before[self.probes[0]]
        return Scores(reading.per_unit(before.values["weight"] - reading.values["weight"]), None, len(reading.points))
