"""Attack P: where a forgotten pair stands among the target's own never-trained pairs. A diagnostic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import special

from auditkit.attacks.pair_signals import Signal, answers, outside_points
from auditkit.contracts import Attack, Needs, Probe, Scores
from auditkit.data.dataset import Bools, Floats
from auditkit.deletion import Regime
from auditkit.evidence import Evidence, Targets
from auditkit.probes import Pairs
from auditkit.statistics.scores import wins


@dataclass(frozen=True)
class AttackP(Attack):
    """logit F(signal), F the empirical distribution of the signal over the target's own population (ties count half).

    The population is the units outside training (test pairs), pooled over users. The threshold for a false positive
    rate a is logit(1 - a), whatever the system. F is held within [.5/n, 1 - .5/n], n population pairs: beyond the
    population all signals are alike, and no rate below .5/n has a threshold. A population pair is ranked among all of
    them, itself included.

    Reference: Ye, Maddi, Murakonda, Bindschaedler, Shokri, CCS 2022 (arXiv 2111.09679), attack P, published for losses
    of classifiers; reconstructed for rankers: the signals, and the position instead of one threshold.

    Cannot see: which pairs are hard for every system. Means something only where forgotten and population pairs are
    exchangeable, as in a random split; a split by time or a request for popular items shifts all systems alike.

    Attributes:
        signal: which signal of the `pairs` probe is read. The margin finds most on MovieLens-100K.
    """

    signal: Signal = "margin"
    name: ClassVar[str] = "attack-p"
    needs: ClassVar[Needs] = Needs()
    fails_in: ClassVar[frozenset[Regime]] = frozenset({"interaction"})
    reads: ClassVar[str] = "where the forgotten pairs stand among pairs that the same system was never trained on"

    @classmethod
    def battery(cls) -> tuple[Attack, ...]:
        """Runs when it is named."""
        return ()

    @classmethod
    def variants(cls) -> tuple[Attack, ...]:
        """Margin and z."""
        return (cls(), cls("z"))

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Score signals at the pairs."""
        return (Pairs(),)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Mean logit per unit; no pattern. A target that answers no population pair reads NaN.

        Raises:
            NotApplicableError: the request has no pairs outside training.
        """
        reading = targets.readings[Pairs()]
        population = outside_points(background, reading)
        placed = [_place(values, population) for values in answers(reading, self.signal)]
        return Scores(reading.per_unit(np.stack(placed)), None, len(reading.points))


def _place(values: Floats, population: Bools) -> Floats:
    """Logit of each value's mid-rank share among the population, float64 [n_points]."""
    known = np.sort(values[population & np.isfinite(values)])
    if not len(known):
        return np.full(len(values), np.nan)
    edge = 0.5 / len(known)
    share = wins(values, known) / (2 * len(known))
    return np.where(np.isfinite(values), special.logit(share.clip(edge, 1 - edge)), np.nan)
