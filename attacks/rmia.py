"""RMIA: how many never-trained pairs a forgotten pair outdoes, each relative to the references. A diagnostic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy import special

from auditkit.attacks.pair_signals import answers, mean_over, points_of, references
from auditkit.contracts import Attack, Needs, Probe, Scores
from auditkit.data.dataset import Bools, Floats
from auditkit.deletion import Regime
from auditkit.errors import ConfigurationError, NotApplicableError
from auditkit.evidence import Evidence, Reading, Targets
from auditkit.probes import Pairs


@dataclass(frozen=True)
class Rmia(Attack):
    """Share of population pairs z with LR(x, z) = [p(x|target) / p(x)] / [p(z|target) / p(z)] >= gamma.

    p(x|system) is the probability of the item under the softmax over the user's items. p(x) of the references:

    - online: the mean of the IN references' mean and the OUT references' mean, so that either side has its half also
      where there are more of one; on a balanced design the published mean over all. Where one side is empty, the other.
    - offline: ((1 + a) OUT mean + (1 - a)) / 2, from OUT references alone.

    z are the units outside training, whose references are all OUT. Requests of users or items have none, and z are the
    retained pairs, which target and references all held: the score is then how far a forgotten pair is off
    relative to what training twice changes at retained pairs, compared with Gold like all scores, and no false positive
    rate follows from it; offline there is no p(z) and the attack does not apply. A z is compared with itself too.

    Scores are multiples of 1/|Z|: ties are exact, no false positive rate below 1/|Z| can be told, and what lies beyond
    every z reads 1.

    Reference: Zarifzadeh, Liu, Shokri, ICML 2024 (arXiv 2312.03262), published; for rankers p is reconstructed.

    Cannot see: what is shared by forgotten pairs and population.

    Attributes:
        form: online or offline.
        gamma: above 0. On MovieLens-100K it matters little: from 1/2 to 4 the AUC against Gold goes from .91 to .90.
        a: in [0, 1], offline: the assumed p_in = a p_out + (1 - a). Below 1 it suits classifiers, whose members have p
            near 1; among thousands of items p is near 0 and the constant drowns every p_out, so that nothing is left
            of the references. Therefore 1.
    """

    form: Literal["online", "offline"] = "online"
    gamma: float = 1.0
    a: float = 1.0
    name: ClassVar[str] = "rmia"
    # A pair of complementary references leaves one on either side of every point.
    needs: ClassVar[Needs] = Needs(references=2)
    fails_in: ClassVar[frozenset[Regime]] = frozenset({"interaction"})
    reads: ClassVar[str] = "how many pairs a forgotten pair outdoes, each measured by what references make of it"

    def __post_init__(self) -> None:
        """Refuse parameters without a meaning."""
        if not (self.gamma > 0 and 0 <= self.a <= 1):
            raise ConfigurationError(f"rmia: gamma must be above 0 and a in [0, 1], got {self.gamma} and {self.a}")

    @classmethod
    def battery(cls) -> tuple[Attack, ...]:
        """Runs when it is named."""
        return ()

    @classmethod
    def variants(cls) -> tuple[Attack, ...]:
        """Online and offline."""
        return (cls(), cls("offline"))

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Score signals at the pairs."""
        return (Pairs(),)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Mean share per unit, in [0, 1]; no pattern. A target that answers no z reads NaN.

        Raises:
            NotApplicableError: no pair is left to compare with.
        """
        reading = targets.readings[Pairs()]
        known, held = references(background, "softmax")
        expected = self._expected(special.log_expit(known), held)
        usable = np.isfinite(expected)
        population = _population(background, reading) & usable
        if not population.any():
            raise NotApplicableError(f"{self.form} it needs pairs outside the request that its references can judge")
        ratios = special.log_expit(answers(reading, "softmax")) - expected
        shares = np.stack([_shares(row, row[population], np.log(self.gamma)) for row in ratios])
        return Scores(mean_over(reading, shares, usable), None, int(usable.sum()))

    def _expected(self, log_p: Floats, held: Bools) -> Floats:
        """Of p(x) the logarithm, float64 [n_points]; NaN where the references that it takes are missing."""
        outside, any_out = _log_mean(log_p, ~held)
        if self.form == "offline":
            mixed = np.logaddexp(np.log1p(self.a) + outside, np.log1p(-self.a) if self.a < 1 else -np.inf)
            return np.where(any_out, mixed - np.log(2), np.nan)
        inside, any_in = _log_mean(log_p, held)
        sides = any_in.astype(np.int64) + any_out
        return np.where(sides > 0, np.logaddexp(inside, outside) - np.log(np.maximum(sides, 1)), np.nan)


def _log_mean(log_p: Floats, counted: Bools) -> tuple[Floats, Bools]:
    """Log of the mean of p over the counted references that answered, float64 [n_points], and where there is one.

    -inf (a mean of 0) where there is none. In logarithms, since the p of an item that nobody would choose is no number
    above 0.
    """
    counted = counted & np.isfinite(log_p)
    n = counted.sum(0)
    kept = np.where(counted, log_p, -np.inf)
    top = np.where(n > 0, kept.max(0, initial=-np.inf), 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(top + np.log(np.exp(kept - top).sum(0) / np.maximum(n, 1))), np.asarray(n > 0)


def _population(background: Evidence, reading: Reading) -> Bools:
    """Pairs outside training, else retained ones, bool [n_points]."""
    outside = points_of(background, reading, "outside")
    return outside if outside.any() else points_of(background, reading, "retain")


def _shares(ratios: Floats, population: Floats, log_gamma: float) -> Floats:
    """Share of the population that each log ratio outdoes by log gamma, float64 [n_points].

    LR(x, z) >= gamma is a threshold on z's own ratio, so one sorted population serves every x.
    """
    known = np.sort(population[np.isfinite(population)])
    if not len(known):
        return np.full(len(ratios), np.nan)
    share = np.searchsorted(known, ratios - log_gamma, side="right") / len(known)
    return np.where(np.isfinite(ratios), share, np.nan)
