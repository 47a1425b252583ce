"""Divergence from retrained models: how far answers or weights lie from the Golds'. Unsigned, so always a note."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from auditkit.attacks.embeddings import (
    ParameterRows,
    ServedVectors,
    cka_distance,
    parameter_distance,
    procrustes_distance,
)
from auditkit.attacks.sampled_scores import PairMargins, SampledScores
from auditkit.contracts import Attack, Needs, Probe, Scores
from auditkit.data.dataset import Floats, Ints
from auditkit.evidence import Evidence, Reading, Targets
from auditkit.probes import Lists, Pairs
from auditkit.statistics.lists import jaccard_at_k, kendall_tau, rbo
from auditkit.statistics.similarity import jensen_shannon

Measure = Literal["score", "jaccard", "rbo", "js-softmax", "js-bernoulli", "kendall", "cka", "procrustes", "parameters"]


@dataclass(frozen=True)
class Divergence(Attack):
    """Distance to the Golds, per unit.

    All but `score` are means of the distances to each Gold. What two Golds show of one another is the only unit that
    such numbers have: read them against the Golds' own band (`auditkit.divergences`).

    Attributes:
        measure:
            `score`: root mean square distance of z to the mean Gold over a unit's pairs.
            `jaccard`, `rbo`: one minus the overlap of the top-K lists (rank-biased overlap: Webber, Moffat and Zobel,
            ACM TOIS 28(4), 2010).
            `js-softmax`: Jensen-Shannon divergence in bits (Lin, IEEE Trans. Inf. Theory 37(1), 1991) of the softmax of
            the scores over 100 fixed random items of the user, renormalised over these; an item that is not offered
            has probability 0. It depends on the scale of the scores, as served.
            `js-bernoulli`: the same of sigma(s_ui - s_uj), the chance that the pair beats a negative under BPR, meaned
            over fixed negatives j and the unit's pairs.
            `kendall`: 1 - tau-b of the order of those 100 items (Kendall 1945); items not offered are tied at the end.
            `cka`: 1 - linear CKA (Kornblith et al., ICML 2019) of the served vectors of the units' users and items; one
            value for all units of a group, the forget units' among them.
            `procrustes`: residual of the unit's served vectors after the rotation that lays the retained units' rows
            onto a Gold's (orthogonal Procrustes, Schönemann 1966), centred and scaled.
            `parameters`: |row - Gold's| / |Gold's| of the unit's parameters. Rotating all vectors changes no score and
            all parameters: two Golds lie as far from one another as from anything.

    Cannot see: in which direction a system departs, nor why; a system trained longer than the Golds departs like one
    that remembers. The last three read weights and do not apply to sharded systems, `cka` and `procrustes` not where
    the score is no product of vectors.
    """

    measure: Measure = "score"
    name: ClassVar[str] = "divergence"
    needs: ClassVar[Needs] = Needs(golds=2)
    reads: ClassVar[str] = "how far answers or weights lie from those of retrained models, in either direction"

    @classmethod
    def battery(cls) -> tuple[Attack, ...]:
        """The measures of scores and lists that need no fixed item sets."""
        return (cls("score"), cls("jaccard"), cls("rbo"))

    @classmethod
    def variants(cls) -> tuple[Attack, ...]:
        """One instance per measure."""
        return tuple(cls(measure) for measure in _MEASURES)

    @property
    def to_mean_gold(self) -> bool:
        """The distance is to the mean of the Golds, not the mean of distances."""
        return self.measure == "score"

    @property
    def probes(self) -> tuple[Probe, ...]:
        """What the measure compares."""
        return (_MEASURES[self.measure][0],)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Distance per unit, 0 where the system answers as the Golds do; no pattern.

        Raises:
            NotApplicableError: `procrustes` has fewer retained rows to align by than vectors have columns.
        """
        probe, distance = _MEASURES[self.measure]
        reading, golds = targets.readings[probe], background.readings[probe].take(background.rows("gold"))
        return Scores(distance(reading, golds, background.units), None, len(reading.points))


def _score_distance(mine: Reading, golds: Reading, units: pd.DataFrame) -> Floats:
    return np.sqrt(mine.per_unit((mine.values["z"] - golds.values["z"].mean(0)) ** 2))


def _list_distance(overlap: Callable[[Ints, Ints], Floats]) -> Callable[[Reading, Reading, pd.DataFrame], Floats]:
    def distance(mine: Reading, golds: Reading, units: pd.DataFrame) -> Floats:
        lists, theirs = mine.values["items"], _ids(golds.values["items"])
        apart = np.stack([1 - np.mean([overlap(own, gold) for gold in theirs], axis=0) for own in _ids(lists)])
        return mine.per_unit(np.where(np.isnan(lists).any(-1), np.nan, apart))

    return distance


def _ids(lists: Floats) -> Ints:
    """Item ids; a list that was not given is empty."""
    return np.where(np.isnan(lists), -1, lists).astype(np.int64)


def _softmax_distance(mine: Reading, golds: Reading, units: pd.DataFrame) -> Floats:
    theirs = [_softmax(gold) for gold in golds.values["scores"]]
    own = (_softmax(scores) for scores in mine.values["scores"])
    return mine.per_unit(np.stack([np.mean([jensen_shannon(p, q) for q in theirs], axis=0) for p in own]))


def _softmax(scores: Floats) -> Floats:
    """Softmax of rows; 0 where an item is not offered, NaN for a row that offers nothing."""
    silent = np.asarray(np.isnan(scores).all(1))
    filled = np.where(np.isnan(scores), -np.inf, scores)
    filled[silent] = 0.0
    shares: Floats = np.asarray(softmax(filled, axis=1), np.float64)
    shares[silent] = np.nan
    return shares


def _bernoulli_distance(mine: Reading, golds: Reading, units: pd.DataFrame) -> Floats:
    theirs = [expit(gold) for gold in golds.values["margins"]]
    own = (expit(margins) for margins in mine.values["margins"])
    return mine.per_unit(np.stack([np.mean([_bernoulli(p, q) for q in theirs], axis=0) for p in own]))


def _bernoulli(p: Floats, q: Floats) -> Floats:
    """Jensen-Shannon divergence of coins, meaned over what both sides know, float64 [n_points]."""
    apart = jensen_shannon(np.stack([p, 1 - p], axis=-1), np.stack([q, 1 - q], axis=-1))
    known = ~np.isnan(apart)
    counts = known.sum(1)
    total = np.where(known, apart, 0.0).sum(1)
    made: Floats = np.divide(total, counts, out=np.full(len(apart), np.nan), where=counts > 0)
    return made


def _order_distance(mine: Reading, golds: Reading, units: pd.DataFrame) -> Floats:
    theirs = [_ordered(gold) for gold in golds.values["scores"]]
    own = (_ordered(scores) for scores in mine.values["scores"])
    return mine.per_unit(np.stack([1 - np.mean([kendall_tau(s, gold) for gold in theirs], axis=0) for s in own]))


def _ordered(scores: Floats) -> Floats:
    """Items that are not offered stand at the end, tied; a row that offers nothing stays NaN."""
    silent = np.isnan(scores).all(1, keepdims=True)
    return np.where(np.isnan(scores) & ~silent, -np.inf, scores)


_MEASURES: Mapping[Measure, tuple[Probe, Callable[[Reading, Reading, pd.DataFrame], Floats]]] = {
    "score": (Pairs(), _score_distance),
    "jaccard": (Lists(), _list_distance(jaccard_at_k)),
    "rbo": (Lists(), _list_distance(rbo)),
    "js-softmax": (SampledScores(), _softmax_distance),
    "js-bernoulli": (PairMargins(), _bernoulli_distance),
    "kendall": (SampledScores(), _order_distance),
    "cka": (ServedVectors(), cka_distance),
    "procrustes": (ServedVectors(), procrustes_distance),
    "parameters": (ParameterRows(), parameter_distance),
}
