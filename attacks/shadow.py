"""The classical shadow-model attack: a classifier learned on references' points tells held from not held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from auditkit.contracts import Attack, Needs, Probe, Scores
from auditkit.data.dataset import Floats
from auditkit.evidence import Evidence, Reading, Targets
from auditkit.probes import Pairs
from auditkit.statistics.log_odds import learned_log_odds

SIGNALS = ("z", "rank", "margin", "softmax")


@dataclass(frozen=True)
class Shadow(Attack):
    """Log odds of having been held, of one classifier for all points; mean over a unit's pairs.

    Features: the four score signals and their squares, log(1 + activity) of the unit's user and log(1 + popularity) of
    its item, the forgotten pair itself not counted. Classifier: logistic regression on the requested units' pairs in
    the background's references, label: held. Every unit is held by half of the references, so what is known of a unit
    without a model (activity, popularity) cannot tell the labels apart; it only sets what a signal is compared with.

    Source: Shokri et al., "Membership Inference Attacks Against Machine Learning Models", IEEE S&P 2017 (arXiv
    1610.05820); reconstructed for rankers: score signals instead of class probabilities, references that lack the
    requested units instead of shadow data, one classifier instead of one a class. Gradient boosting separates original
    from Golds .005 in AUC better on ml-100k, at more than twice the cost.

    Cannot see: what is remembered of one pair but ordinary among others, since no pair is compared with itself in
    other systems. Squares make it unsigned in part, so it is a note everywhere, without a pattern.

    Edge cases: a pair with a signal that is not finite reads NaN; so does everything where the references all hold or
    all lack the units.
    """

    name: ClassVar[str] = "shadow"
    needs: ClassVar[Needs] = Needs(references=4)
    reads: ClassVar[str] = "what a classifier learned on other models takes for held, from all score signals at once"

    @classmethod
    def battery(cls) -> tuple[Shadow, ...]:
        """None: it runs when it is named."""
        return ()

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Score signals at the pairs."""
        return (Pairs(),)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Mean log odds per unit; no pattern."""
        known, reading = background.readings[Pairs()], targets.readings[Pairs()]
        references = background.rows("reference")
        asked_for = np.asarray(background.units["group"] == "forget")[known.unit]
        learned = features(known, background.units)[references][:, asked_for]
        labels = background.held[references][:, known.unit[asked_for]]
        odds = learned_log_odds(
            learned.reshape(-1, learned.shape[-1]), labels.ravel(), features(reading, background.units)
        )
        return Scores(reading.per_unit(odds), None, len(reading.points))


def features(reading: Reading, units: pd.DataFrame) -> Floats:
    """Signals, their squares, and logs of activity and popularity, float64 [n_systems, n_points, 10]."""
    signals = np.stack([reading.values[s] for s in SIGNALS], axis=-1)
    # A forgotten pair counts itself, and a pair that was never trained on does not.
    own = ((units["group"] == "forget") & (units["user"] >= 0) & (units["item"] >= 0)).to_numpy()
    degrees = np.log1p(np.maximum(units[["activity", "popularity"]].to_numpy() - own[:, None], 0.0))[reading.unit]
    return np.concatenate([signals, signals**2, np.broadcast_to(degrees, (len(signals), *degrees.shape))], axis=-1)
