"""User requests, lists alone: how far what a user is recommended lies from what the user has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import pandas as pd
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer

from auditkit.contracts import Access, Attack, Needs, Probe, Recommender, Scores
from auditkit.data.dataset import Floats
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case, Evidence, Targets
from auditkit.probes import Lists
from auditkit.statistics.log_odds import learned_log_odds


@dataclass(frozen=True)
class HistoryGap(Probe):
    """Mean vector of a user's history minus the rank-weighted vector of the user's top-K list.

    Signal `gap`: float64 [n_points, width], mean_{i in history} q_i - sum_j w_j q_(j-th item), with
    w_j = (k - j) / (1 + ... + k), j = 0 ... k - 1; a shorter list is weighted by its own length; NaN for an empty one.
    The history is all that the request erases (all training pairs, for retained users). The vectors q are the auditor's
    own, made from the retained interactions alone: latent semantic analysis, that is a truncated singular value
    decomposition of the user-item matrix with inverse-document-frequency weights (which discount popularity by its
    log). An item without retained interactions has the vector 0.

    Attributes:
        k: length of the lists.
        width: of the item vectors; fewer where users or items are fewer.
        most: users asked; more than these are sampled once.
    """

    k: int = 100
    width: int = 32
    most: int = 2000
    name: ClassVar[str] = "history-gap"
    access: ClassVar[Access] = Access.LISTS

    @property
    def lists(self) -> Lists:
        """The probe that asks for the lists."""
        return Lists(self.k, self.most)

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """One row per user behind a unit; items are -1."""
        if case.request.regime != "user":
            raise NotApplicableError("it compares a user's list with the user's history; this request names no users")
        return self.lists.points(case, rng=rng)

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """The difference of the two vectors."""
        vectors = item_vectors(case, self.width)
        history = case.data.train.matrix(case.data.n_users, case.data.n_items)[points["user"].to_numpy()].astype(float)
        shown = self.lists.read(model, points, case, rng=rng)["items"].astype(np.int64)
        mean = history @ vectors / np.maximum(history.sum(1), 1).reshape(-1, 1)
        return {"gap": np.asarray(mean) - listed(shown, vectors)}


def listed(shown: np.ndarray, vectors: Floats) -> Floats:
    """Rank-weighted vector of each list, float64 [n, width]; `shown` int64 [n, k], -1 after its end; NaN if empty."""
    left = (shown >= 0).sum(1, keepdims=True) - np.arange(shown.shape[1])
    weights = np.maximum(left, 0).astype(np.float64)
    with np.errstate(invalid="ignore"):
        weights /= weights.sum(1, keepdims=True)
    return np.asarray(np.einsum("nk,nkd->nd", weights, vectors[shown]))


@lru_cache(maxsize=1)
def item_vectors(case: Case, width: int) -> Floats:
    """The auditor's item vectors, float64 [n_items, width]; the same for every system of a case, and made once."""
    data = case.retain
    weighted = TfidfTransformer().fit_transform(data.train.matrix(data.n_users, data.n_items).astype(float))
    found = TruncatedSVD(min(width, min(weighted.shape) - 1), random_state=0).fit(weighted)
    vectors = np.asarray((found.components_ * found.singular_values_[:, None]).T)
    vectors.setflags(write=False)
    return vectors


@dataclass(frozen=True)
class ListHistory(Attack):
    """Log odds of having been held, of a classifier on the gap between history and list; mean over a unit's points.

    Features: the gap, its squares and its length. Classifier: logistic regression on the erased users in the
    background's references, label: held.

    Source: Zhang et al., "Membership Inference Attacks Against Recommender Systems", CCS 2021 (arXiv 2109.08045): the
    gap with lists of 100 and linearly falling weights is published. Reconstructed: item vectors (there from a
    factorisation of the attacker's data), a logistic regression instead of a perceptron of widths 100-32-8-2, and the
    negatives. There non-members are served the most popular items, so the attack tells a popularity list from a
    personal one: any system that knows a user reads as member and any that does not as non-member, cold start and
    membership being one. Here non-members are references that were trained without the user.

    Cannot see: scores, and what is left of the user beyond the own list. It reads the list of a row that no Gold
    trains, so what an honest deletion serves to an absent user (random, popular or nothing) moves it: a note
    everywhere.

    Edge cases: an empty list reads NaN; so does everything where the references all hold or all lack the users.

    Attributes:
        k, width: of the probe.
    """

    k: int = 100
    width: int = 32
    name: ClassVar[str] = "list-history"
    needs: ClassVar[Needs] = Needs(references=4)
    reads: ClassVar[str] = "whether the lists served to erased users still look like lists for what they once had"

    @classmethod
    def battery(cls) -> tuple[ListHistory, ...]:
        """None: it runs when it is named."""
        return ()

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Lists against histories."""
        return (HistoryGap(self.k, self.width),)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Mean log odds per unit; no pattern."""
        probe, references = self.probes[0], background.rows("reference")
        known, reading = background.readings[probe], targets.readings[probe]
        asked_for = np.asarray(background.units["group"] == "forget")[known.unit]
        learned = _features(known.values["gap"][references][:, asked_for])
        labels = background.held[references][:, known.unit[asked_for]]
        odds = learned_log_odds(
            learned.reshape(-1, learned.shape[-1]), labels.ravel(), _features(reading.values["gap"])
        )
        return Scores(reading.per_unit(odds), None, len(reading.points))


def _features(gap: Floats) -> Floats:
    return np.concatenate([gap, gap**2, np.sqrt((gap**2).sum(-1, keepdims=True))], axis=-1)
