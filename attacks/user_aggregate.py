"""User requests: one number a user from all the user's pairs, calibrated user by user on references."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from auditkit.contracts import Needs, Probe, Scores
from auditkit.data.dataset import Bools, Floats
from auditkit.errors import NotApplicableError
from auditkit.evidence import Evidence, Reading, Targets
from auditkit.linear import LinearAttack, fit_references, linear_scores, summed
from auditkit.probes import Pairs
from auditkit.statistics.likelihood import InOut, fit_in_out


@dataclass(frozen=True)
class UserAggregate(LinearAttack):
    """The linear score of references (as in `lira-linear`) on an aggregate over each erased user's pairs.

    Score: t_u = mean, min, max or sum of log-likelihood ratios of the signal over the user's pairs; then
    w_u (t_u - middle_u) with w_u = contrast / variance of t_u between references that held the user and those that did
    not. A user's pairs depend on one another, so variances of single pairs do not add up to that of their sum: here
    the variance is that of the aggregate itself, seen in references. One point a unit, so level, pattern and
    spread are over users.

    Source: per-user aggregation of record-level scores is common practice in user-level membership inference (e.g.
    Zhang et al., CCS 2021, arXiv 2109.08045, names the level); the log-likelihood ratio is `lira`'s (Carlini et al.,
    arXiv 2112.03570). Reconstructed: the calibration on references and the linear score are this kit's.

    `llr` reads a reference by Gaussians fitted to the other references: its own would read it as more certain than any
    target.

    Cannot see: what is left of the user on the items' side, since it reads the user's own row (`fold-in` does); which
    of a user's pairs are remembered. An untrained row reads like Gold's.

    Edge cases: a user with a pair that is not answered reads NaN; users whom no reference held, or all did (retained
    users), read NaN; where the aggregate of no user varies, weights are plain differences of means.

    Attributes:
        aggregate: of the signal over a user's pairs.
        signal: which signal of the `pairs` probe is read.
    """

    aggregate: Literal["mean", "min", "max", "llr"] = "mean"
    signal: Literal["z", "rank", "margin", "softmax"] = "z"
    name: ClassVar[str] = "user-aggregate"
    needs: ClassVar[Needs] = Needs(references=4)
    reads: ClassVar[str] = "each erased user's pairs together, compared with systems known to hold or lack the user"

    @classmethod
    def battery(cls) -> tuple[UserAggregate, ...]:
        """None: it runs when it is named."""
        return ()

    @classmethod
    def variants(cls) -> tuple[UserAggregate, ...]:
        """One instance per aggregate."""
        return (cls("mean"), cls("min"), cls("max"), cls("llr"))

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Score signals at the pairs."""
        return (Pairs(),)

    @property
    def read_signal(self) -> str:
        """As chosen."""
        return self.signal

    def values(self, reading: Reading, background: Evidence) -> Floats:
        """The aggregate, float64 [n_systems, n_units]; NaN for units without a pair or with an unanswered one."""
        signal = reading.values[self.signal]
        if self.aggregate == "mean":
            return reading.per_unit(signal)
        if self.aggregate == "llr":
            known = background.readings[Pairs()]
            fitted, usable = fit_references(known, known.values[self.signal], background)
            return summed(reading, fitted.log_ratio(signal), usable)
        return extreme(reading, signal, np.minimum if self.aggregate == "min" else np.maximum)

    def fit(self, background: Evidence) -> tuple[InOut, Bools]:
        """Gaussians of the references' aggregates at each unit, and which units carry a contrast."""
        references = background.rows("reference")
        fitted = fit_in_out(self._of_references(background), background.held[references])
        return fitted, fitted.usable

    def _of_references(self, background: Evidence) -> Floats:
        references, reading = background.rows("reference"), background.readings[Pairs()]
        if self.aggregate != "llr":
            return self.values(reading.take(references), background)
        others = [background.take(np.setdiff1d(references, [r])) for r in references]
        read = [self.values(reading.take(np.array([r])), rest) for r, rest in zip(references, others, strict=True)]
        return np.concatenate(read)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        """Linear score of each user's aggregate, and its pattern over users.

        Raises:
            NotApplicableError: the request does not name users.
        """
        if not (background.units["item"] == -1).all():
            raise NotApplicableError("it aggregates over all pairs of a user; this request does not name users")
        reading = targets.readings[Pairs()]
        whole_users = Reading(pd.DataFrame({"unit": np.arange(reading.n_units)}), {}, reading.n_units)
        return linear_scores(whole_users, self.values(reading, background), *self.fit(background))


def extreme(reading: Reading, values: Floats, of: np.ufunc) -> Floats:
    """`of` (np.minimum or np.maximum) over each unit's points, float64 [n_systems, n_units]; NaN where `sums` is."""
    found = np.full((reading.n_units, len(values)), -of.reduce([-np.inf, np.inf]))
    of.at(found, reading.unit, values.T)
    return np.where(np.isfinite(found), found, np.nan).T
