"""QMIA: how far a forgotten pair stands above what popularity and activity explain of it. A diagnostic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from sklearn.linear_model import GammaRegressor, LinearRegression

from auditkit.attacks.pair_signals import Signal, answers, outside_points
from auditkit.contracts import Attack, Needs, Probe, Scores
from auditkit.data.dataset import Bools, Floats
from auditkit.deletion import Regime
from auditkit.evidence import Evidence, Targets
from auditkit.probes import Pairs

# Ten for each of the three coefficients of a head.
MIN_POPULATION = 30
# Keeps a covariate that is the same everywhere from making the head singular; too little to move a coefficient.
_RIDGE = 1e-8


@dataclass(frozen=True)
class Qmia(Attack):
    """(signal - mean) / deviation, both predicted from log activity of the user and log popularity of the item.

    The predictors are fitted on the target's own pairs outside training: least squares for the mean, then a gamma
    regression with log link of the squared residuals for the variance. The threshold for a false positive rate a is the
    normal quantile z_{1-a}, whatever the pair. Degrees are those of the retained data (a forgotten pair must not count
    itself, as an outside pair does not), held within the population's range. One model, no references.

    Reference: Bertran et al., NeurIPS 2023 (arXiv 2307.03694), the Gaussian head, published for images and tables;
    reconstructed for rankers: metadata of the pair, a linear head. Their other head, one pinball-loss quantile for one
    rate, scatters Golds one to three times as much on MovieLens-100K and finds no more; it is left out.

    Cannot see: what makes a pair hard beyond popularity and activity. Means something only where forgotten and outside
    pairs are exchangeable given both.

    Attributes:
        signal: which signal of the `pairs` probe is read. The softmax logit finds most on MovieLens-100K.
    """

    signal: Signal = "softmax"
    name: ClassVar[str] = "qmia"
    needs: ClassVar[Needs] = Needs()
    fails_in: ClassVar[frozenset[Regime]] = frozenset({"interaction"})
    reads: ClassVar[str] = (
        "how far the forgotten pairs stand above never-trained pairs of equal popularity and activity"
    )

    @classmethod
    def battery(cls) -> tuple[Attack, ...]:
        """Runs when it is named."""
        return ()

    @classmethod
    def variants(cls) -> tuple[Attack, ...]:
        """Softmax logit and z."""
        return (cls(), cls("z"))

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Score signals at the pairs."""
        return (Pairs(),)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Mean standardised signal per unit; no pattern.

        A target reads NaN where it answers fewer than 30 population pairs, or the same at all of them.

        Raises:
            NotApplicableError: the request has no pairs outside training.
        """
        reading = targets.readings[Pairs()]
        population = outside_points(background, reading)
        degrees = _degrees(background.units)[reading.unit]
        found = [_standardised(row, degrees, population) for row in answers(reading, self.signal)]
        return Scores(reading.per_unit(np.stack(found)), None, len(reading.points))


def _degrees(units: pd.DataFrame) -> Floats:
    """Log activity and log popularity in the retained data, float64 [n_units, 2]."""
    forgotten = units[units["group"] == "forget"].drop_duplicates(["user", "item"])
    columns = []
    for degree, who in (("activity", "user"), ("popularity", "item")):
        gone = np.bincount(forgotten[who], minlength=int(units[who].max()) + 1)
        columns.append(np.log1p(units[degree].to_numpy() - gone[units[who].to_numpy()]))
    return np.stack(columns, axis=1)


def _standardised(values: Floats, degrees: Floats, population: Bools) -> Floats:
    """(values - mean) / deviation, float64 [n_points]; NaN where the population says too little."""
    known = population & np.isfinite(values)
    if known.sum() < MIN_POPULATION or not np.ptp(values[known]) > 0:
        return np.full(len(values), np.nan)
    own = degrees[known]
    features = (np.clip(degrees, own.min(0), own.max(0)) - own.mean(0)) / np.where(own.std(0) > 0, own.std(0), 1.0)
    residuals = values - LinearRegression().fit(features[known], values[known]).predict(features)
    squares = residuals[known] ** 2
    # The gamma distribution has no 0, and one exact hit must not become a vanishing variance.
    squares = np.maximum(squares / squares.mean(), 1e-6) * squares.mean()
    head = GammaRegressor(alpha=_RIDGE, solver="newton-cholesky").fit(features[known], squares)
    return np.asarray(residuals / np.sqrt(head.predict(features)))
