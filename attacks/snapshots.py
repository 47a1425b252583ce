"""Two snapshots: what the answers before and after unlearning say about what was deleted in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy.special import softmax

from auditkit.attacks.sampled_scores import PairMargins
from auditkit.contracts import Access, Attack, Needs, Probe, Scores
from auditkit.data.dataset import Bools, Floats
from auditkit.evidence import Evidence, Reading, Targets
from auditkit.probes import Pairs

_SIGNALS = ("z", "rank", "margin", "softmax")


@dataclass(frozen=True)
class Snapshots(Attack):
    """How much the answers at a unit's pairs changed from the model before to the model after; needs no references.

    Source: Chen et al., "When Machine Unlearning Jeopardizes Privacy", CCS 2021 (arXiv 2005.02205), whose classifier
    reads differences of the posteriors of both models. Reconstructed: a ranker has signals at a pair in the place of
    posteriors, and a fixed rule replaces the trained classifier, so that nothing is fitted to who was deleted. What all
    pairs have in common cancels, for the change is read in units of what the retained pairs of the same system show.

    Attributes:
        feature:
            `difference`: drop of each signal at the pair (z, rank, margin, softmax) less its mean over retained pairs,
            over their standard deviation; the mean of the four. Higher where the pair lost more than others did.
            `euclidean`: distance between both posteriors, the softmax over the pair and fixed negatives of the user.
            `sorted`: the same after each posterior is sorted, so that only its shape counts.

    An exact deletion is found as well: a finding on releasing both models, not on the method.

    Cannot see: a pair that an output mask hides (it is not answered, which gives it away without an attack); the
    reason of a change, since training anew with another seed changes every answer; in user and item requests, the
    rows of the erased entity change most whatever was in them. A model that did not change reads 0 everywhere.
    """

    feature: Literal["difference", "euclidean", "sorted"] = "difference"
    name: ClassVar[str] = "snapshots"
    needs: ClassVar[Needs] = Needs(before=True)
    release: ClassVar[bool] = True
    reads: ClassVar[str] = "which pairs lost more than others did from the model before to the model after"

    @classmethod
    def battery(cls) -> tuple[Attack, ...]:
        """None: it runs when it is named."""
        return ()

    @classmethod
    def variants(cls) -> tuple[Attack, ...]:
        """One instance per feature."""
        return (cls("difference"), cls("euclidean"), cls("sorted"))

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Signals at the pairs, or margins to single negatives."""
        return (Pairs(),) if self.feature == "difference" else (PairMargins(),)

    @property
    def access(self) -> Access:
        """Scores of both models."""
        return super().access | Access.SNAPSHOTS

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Mean change over a unit's pairs, higher = more like deleted in between; no pattern.

        NaN where a pair was not answered by either model; for `difference` also everywhere in a system that answers
        fewer than 2 retained pairs. Where retained pairs do not change at all, drops keep their own unit.
        """
        reading, before = targets.readings[self.probes[0]], _before(targets)[self.probes[0]]
        if self.feature == "difference":
            kept = np.asarray(background.units["group"] == "retain")[reading.unit]
            drops = [_standardised(before.values[s] - reading.values[s], kept) for s in _SIGNALS]
            change = np.mean(drops, axis=0)
        else:
            change = _moved(before.values["margins"], reading.values["margins"], shape_only=self.feature == "sorted")
        return Scores(reading.per_unit(change), None, len(reading.points))


def _before(targets: Targets) -> Mapping[Probe, Reading]:
    assert targets.before is not None, "the harness gives what `needs.before` asks for"
    return targets.before


def _standardised(drops: Floats, kept: Bools) -> Floats:
    """Drops in units of those of the retained points, row by row, float64 [n_systems, n_points]."""
    found = np.full(drops.shape, np.nan)
    for row, own in zip(found, drops, strict=True):
        known = own[kept & np.isfinite(own)]
        if len(known) >= 2:
            spread = float(known.std(ddof=1))
            row[:] = (own - known.mean()) / (spread if spread > 0 else 1.0)
    return found


def _moved(before: Floats, after: Floats, *, shape_only: bool) -> Floats:
    """Euclidean distance of posteriors before and after, float64 [n_systems, n_points]; NaN where one is unknown."""
    known = np.isfinite(before) & np.isfinite(after)
    one, other = _posterior(before, known), _posterior(after, known)
    if shape_only:
        one, other = np.sort(one, axis=-1), np.sort(other, axis=-1)
    return np.where(known.any(-1), np.linalg.norm(one - other, axis=-1), np.nan)


def _posterior(margins: Floats, known: Bools) -> Floats:
    """Softmax over the pair (score 0) and the negatives that both models answer (score -margin)."""
    rivals = np.where(known, -margins, -np.inf)
    return np.asarray(softmax(np.concatenate([np.zeros_like(rivals[..., :1]), rivals], axis=-1), axis=-1), np.float64)
