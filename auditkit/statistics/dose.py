"""Level, pattern and spread: how far a system stands from Gold towards the original, over training seeds.

Everything is on the dose scale: 0 reads like Gold, 1 like the original. Randomness is the training seed alone; data,
request and references are given. Golds and a system that forgot are exchangeable there, which is what makes the
t interval exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from auditkit.data.dataset import Floats

# Relative to the gap: below this two systems read equal (a deterministic procedure has no seed noise at all).
FLOOR = 1e-6
# Of the references' scatter: up to this quantile it is put down to the training seeds.
_EXPLAINED = 0.9
_MANY = 1e9
MIN_POINTS_PATTERN = 20
MIN_UNITS_SPREAD = 20


def t_isf(alpha: float, degrees: float) -> float:
    """Upper alpha quantile of Student's t: what `scipy.stats.t.isf` says, at a hundredth of its time."""
    return -float(special.stdtrit(degrees, alpha))


def t_sf(t: float, degrees: float) -> float:
    """Upper tail of Student's t."""
    return float(special.stdtr(degrees, -t))


@dataclass(frozen=True)
class Reading:
    """One statistic of one system.

    Attributes:
        value: on the dose scale.
        error: standard error for intervals.
        degrees: of freedom of the t distribution that goes with it.
    """

    value: float
    error: float
    degrees: float

    def bounds(self, alpha: float) -> tuple[float, float]:
        """One-sided 1 - alpha bounds on either side: (low, high)."""
        half = t_isf(alpha, self.degrees) * self.error
        return self.value - half, self.value + half

    def p_beyond(self, margin: float) -> float:
        """p-value of |true value| <= margin, against farther from 0 on the side of the reading."""
        return t_sf((abs(self.value) - margin) / self.error, self.degrees)


def standard_error(sd_golds: float, n_golds: int, runs: Floats) -> tuple[float, float]:
    """Standard error of (mean of runs - mean of Golds) and its degrees of freedom.

    One run: prediction, sd_G sqrt(1 + 1/S) on S - 1. More: sqrt(max(s_U, s_G)^2/R + s_G^2/S), on Welch's degrees but at
    most S - 1. Few runs that lie close by chance would else promise too much: without the floor, a two-sided 5% test of
    fresh Golds rejects 12% at R = 2, S = 20 (with it, 3%).

    Args:
        sd_golds: standard deviation of S Golds, above 0.
        n_golds: S, at least 2.
        runs: float64 [R], the runs' values.
    """
    if len(runs) == 1:
        return sd_golds * float(np.sqrt(1 + 1 / n_golds)), n_golds - 1.0
    error, degrees = standard_errors(np.asarray(sd_golds), n_golds, np.asarray(np.var(runs, ddof=1)), len(runs))
    return float(error), float(degrees)


def standard_errors(sd_golds: Floats, n_golds: float, scatter: Floats, n_runs: int) -> tuple[Floats, Floats]:
    """`standard_error` of several runs, for many audits at once.

    Args:
        sd_golds: float64 [...], above 0.
        n_golds: S, at least 2; may be infinite.
        scatter: float64 [...], sample variances of the runs.
        n_runs: R, at least 2.
    """
    known = sd_golds**2
    mine, theirs = np.maximum(scatter, known) / n_runs, known / n_golds
    total = mine + theirs
    welch = 1 / ((mine / total) ** 2 / (n_runs - 1) + (theirs / total) ** 2 / (n_golds - 1))
    return np.sqrt(total), np.where(scatter > known, np.minimum(welch, n_golds - 1), n_golds - 1.0)


@dataclass(frozen=True, eq=False)
class LinearScale:
    """Where Gold and original stand for a statistic that is linear in the scores (level or pattern).

    Attributes:
        golds: float64 [S, n_units], unit scores of the Golds, S >= 2.
        originals: float64 [O, n_units], of the originals, O >= 1.
    """

    golds: Floats
    originals: Floats

    @cached_property
    def zero(self) -> float:
        """Summed score of the mean Gold."""
        return float(self.golds.sum(1).mean())

    @cached_property
    def gap(self) -> float:
        """From the mean Gold to the mean original; may be 0 or negative where the attack sees nothing."""
        return float(self.originals.sum(1).mean()) - self.zero

    @cached_property
    def _unit(self) -> float:
        # Without a gap there is no scale; the floor keeps the arithmetic finite and the power check refuses the audit.
        return self.gap if self.gap != 0 else float("inf")

    def dose(self, scores: Floats) -> Floats:
        """Reading of systems on the straight line, float64 [n]; `scores` float64 [n, n_units]."""
        return np.asarray((scores.sum(-1) - self.zero) / self._unit)

    @cached_property
    def gold_doses(self) -> Floats:
        """Of each Gold, float64 [S]; their mean is 0."""
        return self.dose(self.golds)

    @cached_property
    def sd_golds(self) -> float:
        """Standard deviation of the Golds on the dose scale, floored at 1e-6 of the gap."""
        return max(float(np.std(self.gold_doses, ddof=1)), FLOOR)

    @cached_property
    def gap_error(self) -> float:
        """Relative standard error of the gap from the scatter of the originals; 0 where only one was trained."""
        if len(self.originals) < 2:
            return 0.0
        return float(np.std(self.dose(self.originals), ddof=1) / np.sqrt(len(self.originals)))

    @property
    def power(self) -> Reading:
        """The original itself, read as a system against the Golds: not above 0 means the audit can see nothing."""
        error, degrees = standard_error(self.sd_golds, len(self.golds), np.zeros(1))
        return Reading(1.0 if self.gap > 0 else 0.0, error, degrees)

    def read(self, runs: Floats) -> Reading:
        """A system from its runs' unit scores, float64 [R, n_units]; the original's own noise grows with the dose."""
        doses = self.dose(runs)
        error, degrees = standard_error(self.sd_golds, len(self.golds), doses)
        value = float(doses.mean())
        return Reading(value, float(np.hypot(error, value * self.gap_error)), degrees)

    def effective(self, held: Floats) -> float:
        """Effective dose of a system that holds `held` (0 or 1, [n_units]): sum(M g) / sum(g), g = original - Gold."""
        gain = self.originals.mean(0) - self.golds.mean(0)
        total = float(gain.sum())
        return float((held * gain).sum() / total) if total != 0 else float("nan")


@dataclass(frozen=True)
class DoseLine:
    """From a reading on the straight line to a dose: d = e + c e (1 - e), continued straight outside [0, 1].

    Attributes:
        curvature: c, in [-.9, .9] so that the map rises.
        residual_sd: of the left-out references about the curve; None without references.
        n_references: how many it was fitted on.
        bridge: b of the variance b |d (1 - d)| by which a system of dose d scatters about the curve beyond its seed
            noise. What a random part of the units adds up to is known at both ends, as a Brownian bridge is.
    """

    curvature: float = 0.0
    residual_sd: float | None = None
    n_references: int = 0
    bridge: float = 0.0

    def dose(self, reading: float) -> float:
        """The dose that a reading stands for."""
        return float(self.doses(np.asarray(reading)))

    def doses(self, readings: Floats) -> Floats:
        """The doses that readings stand for, any shape; infinite and NaN as they come."""
        inside = np.clip(readings, 0.0, 1.0)
        beyond = (1 + self.curvature) * np.minimum(readings, 0.0) + (1 - self.curvature) * np.maximum(readings - 1, 0.0)
        return np.asarray(inside + self.curvature * inside * (1 - inside) + beyond)

    def reading(self, dose: float) -> float:
        """The inverse of `dose`."""
        rise, fall = 1 + self.curvature, 1 - self.curvature
        if dose <= 0:
            return dose / rise
        if dose >= 1:
            return 1 + (dose - 1) / fall
        return 2 * dose / (rise + float(np.sqrt(rise**2 - 4 * self.curvature * dose)))

    def slope(self, reading: float) -> float:
        """Derivative of `dose`, above 0."""
        return 1 + self.curvature * (1 - 2 * min(max(reading, 0.0), 1.0))

    def map(self, reading: Reading) -> Reading:
        """The same reading on the curve: its error carried by the slope, and the bridge added to its variance."""
        dose = self.dose(reading.value)
        error = np.hypot(reading.error * self.slope(reading.value), bridge_error(self.bridge, dose))
        return Reading(dose, float(error), reading.degrees)


STRAIGHT = DoseLine()


def bridge_error(bridge: Floats | float, doses: Floats | float) -> Floats:
    """sqrt(b |d (1 - d)|): 0 at Gold and at the original, where no reference is needed to know what is held."""
    return np.asarray(np.sqrt(bridge * np.abs(doses * (1 - np.asarray(doses)))))


def fit_line(readings: Floats, doses: Floats, errors: Floats | None = None, degrees: float = float("inf")) -> DoseLine:
    """Least-squares curvature from references that were read with weights fitted without them.

    The bridge is b = max(mean(r^2) K/(K-1) - F mean((error slope)^2), 0) / mean(d (1 - d)), r the residuals and F the
    90% quantile of F on K-1 and the errors' degrees: moments, of what the training seeds do not explain. With F = 1 the
    chance error of few Golds' noise would widen the intervals of audits that have no bridge.

    Args:
        readings: float64 [K], on the straight line; NaN is left out.
        doses: float64 [K], effective doses.
        errors: float64 [K], standard errors of the readings over training seeds; None for none.
        degrees: of freedom that the errors are known by.
    """
    known = np.isfinite(readings) & np.isfinite(doses)
    e, d = readings[known], doses[known]
    noise = np.zeros(len(e)) if errors is None else errors[known]
    if len(e) < 3:
        return DoseLine(n_references=len(e))
    bend = np.where((e > 0) & (e < 1), e * (1 - e), 0.0)
    total = float((bend**2).sum())
    curvature = float(np.clip((bend * (d - e)).sum() / total, -0.9, 0.9)) if total > 0 else 0.0
    line = DoseLine(curvature)
    residuals = d - np.array([line.dose(x) for x in e])
    square = float((residuals**2).sum() / (len(e) - 1))
    explained = float(((noise * np.array([line.slope(x) for x in e])) ** 2).mean())
    most = float(special.fdtri(len(e) - 1, min(degrees, _MANY), _EXPLAINED))
    between = float(np.maximum(d * (1 - d), 0.0).mean())
    bridge = max(square - most * explained, 0.0) / between if between > 0 else 0.0
    return DoseLine(curvature, float(np.sqrt(square)), len(e), bridge)


@dataclass(frozen=True, eq=False)
class SpreadScale:
    """Where Gold and original stand in spread: V = mean over units of the squared deviation from the mean Gold.

    Size-corrected, since the mean of S Golds is itself uncertain: a target's V by S/(S+1), that of a Gold left out,
    measured from the mean of the others, by (S-1)/S. Both then estimate the variance of one system.

    Attributes:
        golds: float64 [S, n_units] unit scores, S >= 2.
        originals: float64 [O, n_units].
        line: from the ratio of variances to the share of squared gains that is held. Units that are held move others
            along, so that the ratio of a system that holds a part is not quite its share.
    """

    golds: Floats
    originals: Floats
    line: DoseLine = STRAIGHT

    @cached_property
    def _mean(self) -> Floats:
        return np.asarray(self.golds.mean(0))

    def variance(self, scores: Floats) -> Floats:
        """Size-corrected V of systems, float64 [n]; `scores` float64 [n, n_units]."""
        n = len(self.golds)
        return np.asarray(((scores - self._mean) ** 2).mean(-1) * n / (n + 1))

    @cached_property
    def _floor(self) -> float:
        raw = float(self.variance(self.originals).mean())
        return max(raw * FLOOR**2, np.finfo(float).tiny)

    @cached_property
    def gold_logs(self) -> Floats:
        """Log V of each Gold left out, float64 [S]."""
        n = len(self.golds)
        # The distance to the mean of the others is n/(n-1) times the distance to the mean of all.
        own = ((self.golds - self._mean) ** 2).mean(1) * (n / (n - 1)) ** 2 * (n - 1) / n
        return np.asarray(np.log(np.maximum(own, self._floor)))

    @cached_property
    def sd_logs(self) -> float:
        """Standard deviation of the Golds' log V, floored so that equal Golds keep a finite t."""
        return max(float(np.std(self.gold_logs, ddof=1)), FLOOR)

    @cached_property
    def gold(self) -> float:
        """V of a Gold, on the log scale's mean."""
        return float(np.exp(self.gold_logs.mean()))

    @cached_property
    def original(self) -> float:
        """V of the originals."""
        return float(self.variance(self.originals).mean())

    def effective(self, held: Floats) -> float:
        """Share of the squared gains that a system holds, `held` 0 or 1 [n_units]; NaN where nothing was gained."""
        gains = (self.originals.mean(0) - self._mean) ** 2
        total = float(gains.sum())
        return float((held * gains).sum() / total) if total > 0 else float("nan")

    @property
    def width(self) -> float:
        """V of the originals less V of a Gold; NaN where the original spreads no wider."""
        width = self.original - self.gold
        return width if width > 0 else float("nan")

    def shown(self, alpha: float) -> bool:
        """The originals spread wider than Golds, beyond the Golds' scatter: one-sided 1 - alpha bound on log V."""
        error, degrees = standard_error(self.sd_logs, len(self.golds), np.zeros(1))
        beyond = float(np.log(max(self.original, self._floor)) - self.gold_logs.mean())
        return beyond > t_isf(alpha, degrees) * error

    def ratios(self, variances: Floats) -> Floats:
        """(V - V_G) / (V_O - V_G), any shape; NaN where the original spreads no wider than Gold."""
        return np.asarray((variances - self.gold) / self.width)

    def rho(self, log_variance: float) -> float:
        """The ratio on the curve; NaN where the original spreads no wider than Gold."""
        return self.line.dose(float(self.ratios(np.exp(log_variance))))

    def read(self, runs: Floats) -> SpreadReading:
        """A system from its runs' unit scores, float64 [R, n_units]; the bridge is carried over to log V."""
        logs = np.log(np.maximum(self.variance(runs), self._floor))
        error, degrees = standard_error(self.sd_logs, len(self.golds), logs)
        middle = float(logs.mean())
        rho = self.rho(middle)
        if self.line.bridge and np.isfinite(rho):
            slope = self.line.slope(float(self.ratios(np.exp(middle)))) * float(np.exp(middle)) / self.width
            error = float(np.hypot(error, bridge_error(self.line.bridge, rho) / slope))
        return SpreadReading(self, middle, error, degrees)


@dataclass(frozen=True, eq=False)
class SpreadReading:
    """Spread of one system; its interval is a t interval on log V."""

    scale: SpreadScale
    log_variance: float
    error: float
    degrees: float

    @property
    def value(self) -> float:
        """Rho."""
        return self.scale.rho(self.log_variance)

    def bounds(self, alpha: float) -> tuple[float, float]:
        """One-sided 1 - alpha bounds on rho: (low, high)."""
        half = t_isf(alpha, self.degrees) * self.error
        return self.scale.rho(self.log_variance - half), self.scale.rho(self.log_variance + half)

    def p_beyond(self, margin: float) -> float:
        """p-value of rho <= margin."""
        limit = self.scale.gold + self.scale.line.reading(margin) * self.scale.width
        if not limit > 0:
            return 1.0
        return t_sf((self.log_variance - float(np.log(limit))) / self.error, self.degrees)
