"""What an audit can show before a system is read: attainable margin, power, and what would settle it.

One simulation serves all: audits as planned, with a true Gold in the place of the system. Each yields the smallest
margin at which that Gold would PASS; a quantile of those is the attainable margin, their distribution the chance to
PASS.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import special, stats

from auditkit.data.dataset import Floats
from auditkit.errors import ConfigurationError, DataError
from auditkit.statistics.dose import FLOOR, SpreadScale, bridge_error, standard_errors
from auditkit.statistics.intervals import join_notes

MOST_GOLDS, MOST_RUNS, MOST_UNITS_FACTOR, MOST_REFERENCES = 256, 32, 100, 1024
# A share of 90% is then known within .005.
_SEARCH_DRAWS = 4_000


@dataclass(frozen=True, eq=False)
class _Null:
    """What S Golds say of one more Gold.

    Attributes:
        columns: float64 [c, S], level, pattern where it applies, log V where it applies.
        n_linear: how many of them are level and pattern.
        spread: None where it does not apply.
        bridges: float64 [c], of level and pattern; 0 for log V.
    """

    columns: Floats
    n_linear: int
    spread: SpreadScale | None
    bridges: Floats

    @classmethod
    def of(cls, level: Floats, pattern: Floats | None, spread: SpreadScale | None, bridges: Sequence[float]) -> _Null:
        linear = [level] if pattern is None else [level, pattern]
        columns = linear if spread is None else [*linear, spread.gold_logs]
        if len(level) < 2 or any(len(column) != len(level) for column in columns):
            sizes = [len(column) for column in columns]
            raise DataError(f"level, pattern and spread must come of the same Golds, at least 2, got {sizes}")
        known = np.zeros(len(columns))
        known[: len(linear)] = bridges[: len(linear)]
        return cls(np.stack(columns), len(linear), spread, known)

    @property
    def golds(self) -> int:
        return int(self.columns.shape[1])

    @cached_property
    def covariance(self) -> Floats:
        return np.atleast_2d(np.cov(self.columns, ddof=1))

    @cached_property
    def sd(self) -> Floats:
        return np.asarray(self.columns.std(1, ddof=1))

    def margins(self, deviations: Floats, halves: Floats) -> Floats:
        """Smallest margin around every bound, float64 [draws]; inf where the original spreads no wider than Gold."""
        needed = (np.abs(deviations) + halves)[:, : self.n_linear].max(1)
        if self.spread is None:
            return np.asarray(needed)
        if not self.spread.width > 0:
            return np.full(len(needed), np.inf)
        # With two Golds a draw may lie beyond what exp can hold: then no margin is wide enough.
        with np.errstate(over="ignore"):
            highest = np.exp(self.spread.gold_logs.mean() + deviations[:, -1] + halves[..., -1])
        return np.asarray(np.maximum(needed, self.spread.line.doses(self.spread.ratios(highest))))


@dataclass(frozen=True, eq=False)
class _Draws:
    """True Golds as systems, drawn once for every plan that is compared.

    Attributes:
        deviations: float64 [draws, c], mean of one run less mean of the S Golds, their covariance taken as known.
        chi2: float64 [draws, 1], on S - 1 degrees: how uncertain that covariance is.
        more_runs: float64 [k, draws, c], at row j - 1 the sum of squares that j runs beyond the first add.
    """

    deviations: Floats
    chi2: Floats
    more_runs: Floats

    @classmethod
    def of(cls, null: _Null, rng: np.random.Generator, draws: int, runs: int) -> _Draws:
        """For plans of up to `runs` runs."""
        n, c = null.golds, len(null.columns)
        fresh = rng.multivariate_normal(np.zeros(c), null.covariance * (1 + 1 / n), size=draws, method="svd")
        chi2 = rng.chisquare(n - 1, size=(draws, 1))
        others = rng.multivariate_normal(np.zeros(c), null.covariance, size=(runs - 1, draws), method="svd")
        return cls(fresh, chi2, np.cumsum(others**2, axis=0))

    def scale(self, n: int, golds: float) -> Floats:
        """True over estimated standard deviation with so many Golds, float64 [draws, 1], by the same quantiles."""
        if golds == n:
            return np.asarray(np.sqrt((n - 1) / self.chi2))
        if np.isinf(golds):
            return np.ones_like(self.chi2)
        return np.asarray(np.sqrt((golds - 1) / special.chdtri(golds - 1, special.chdtrc(n - 1, self.chi2))))


@dataclass(frozen=True)
class _Plan:
    """An audit as planned, whose Golds scatter as those there are.

    Attributes:
        golds: S', at least 2; may be infinite.
        runs: R, of the method.
        linear, logs: factors on the standard deviations of level and pattern, and of log V.
    """

    golds: float
    runs: int = 1
    linear: float = 1.0
    logs: float = 1.0

    def margins(self, null: _Null, draws: _Draws, alpha: float) -> Floats:
        """Smallest margin at which each drawn Gold would PASS, float64 [draws]."""
        n = null.golds
        factor = np.array([self.linear] * null.n_linear + [self.logs] * (len(null.columns) - null.n_linear))
        # A ratio, so that the plan as it stands multiplies by exactly 1.
        shorter = np.sqrt((1 / self.runs + 1 / self.golds) / (1 + 1 / n))
        scale = draws.scale(n, self.golds) * factor
        error, degrees = self._errors(np.maximum(null.sd * factor, FLOOR), scale, draws)
        deviations = draws.deviations * scale * shorter
        error = np.hypot(error, bridge_error(null.bridges, deviations) * factor)
        return null.margins(deviations, -special.stdtrit(degrees, alpha) * error)

    def _errors(self, sd: Floats, scale: Floats, draws: _Draws) -> tuple[Floats, Floats]:
        if self.runs == 1:
            return sd * np.sqrt(1 + 1 / self.golds), np.asarray(self.golds - 1.0)
        scatter = scale**2 * draws.more_runs[self.runs - 2] / (self.runs - 1)
        return standard_errors(sd, self.golds, scatter, self.runs)


def _simulate(
    null: _Null, alpha: float, rng: np.random.Generator, draws: int, golds: int | None, runs: int, units_factor: float
) -> Floats:
    planned = null.golds if golds is None else golds
    if planned < 2 or runs < 1 or not 0 < units_factor < np.inf:
        raise ConfigurationError(
            "a plan has at least 2 Golds, 1 run and a finite units_factor above 0, "
            f"got {planned}, {runs} and {units_factor}"
        )
    plan = _of_units(_Plan(planned, runs), 1 / units_factor)
    return plan.margins(null, _Draws.of(null, rng, draws, runs), alpha)


def _quantile(margins: Floats, power: float) -> float:
    most = np.finfo(np.float64).max
    value = float(np.quantile(np.minimum(margins, most), power))
    return value if value < most else float("inf")


def attainable_margin(
    level: Floats,
    pattern: Floats | None,
    spread: SpreadScale | None,
    *,
    alpha: float,
    rng: np.random.Generator,
    power: float = 0.9,
    draws: int = 20_000,
    golds: int | None = None,
    runs: int = 1,
    units_factor: float = 1.0,
    bridges: Sequence[float] = (0.0, 0.0),
) -> float:
    """The smallest margin at which `power` of fresh Golds would PASS level, pattern and spread jointly.

    Fresh Golds are drawn from the t distribution on S' - 1 degrees that predicts (level, pattern, log V) of one more
    Gold: the Golds' covariance times 1/R + 1/S'. With normal draws only 80% would pass with 8 Golds, since the
    covariance is itself estimated. Bounds are those of `dose.standard_error`, the runs' own scatter drawn as well.

    With S' other than S it is what an audit of S' Golds would print if its Golds scatter as these do.

    Args:
        level, pattern: float64 [S], readings of the Golds, S at least 2; pattern None where it does not apply.
        spread: None where it does not apply.
        alpha: of the one-sided bounds.
        rng: of the draws.
        power, draws: as said.
        golds: S', at least 2; None for the S there are.
        runs: R, of the method under test; 2 may need a wider margin than 1, since Welch's degrees fall to about 1 where
            they lie far apart.
        units_factor: of a request with so many times as many units; first order: units are nearly independent within a
            system, so that variances and covariances of level, pattern and log V shrink by it.
        bridges: of the dose lines of level and pattern.

    Returns:
        On the dose scale; inf where the original spreads no wider than the Golds.

    Raises:
        DataError: fewer than 2 Golds, or statistics of different Golds.
        ConfigurationError: golds, runs or units_factor outside their domain.
    """  # fmt: skip
    null = _Null.of(level, pattern, spread, bridges)
    return _quantile(_simulate(null, alpha, rng, draws, golds, runs, units_factor), power)


def pass_probability(
    level: Floats,
    pattern: Floats | None,
    spread: SpreadScale | None,
    margin: float,
    *,
    alpha: float,
    rng: np.random.Generator,
    draws: int = 20_000,
    golds: int | None = None,
    runs: int = 1,
    units_factor: float = 1.0,
    bridges: Sequence[float] = (0.0, 0.0),
) -> float:
    """Share of fresh Golds that would PASS level, pattern and spread jointly at `margin`.

    The inverse of `attainable_margin`, whose arguments it takes; a bound at the margin is not inside.
    """  # fmt: skip
    null = _Null.of(level, pattern, spread, bridges)
    return float((_simulate(null, alpha, rng, draws, golds, runs, units_factor) < margin).mean())


def detection_power(sd_golds: float, n_golds: int, dose: float, alpha: float, runs: int = 1) -> float:
    """Probability that a system of this dose is found: its lower one-sided 1 - alpha bound lies above 0.

    One run, exact for normal readings: (value / error) is noncentral t on S - 1 degrees with noncentrality
    dose / (sd sqrt(1 + 1/S)). Several runs: the normal probability given both sample variances, averaged over a grid of
    200 x 200 of their quantiles, with the error and degrees of `dose.standard_error`. The system is taken to scatter
    like a Gold.

    Args:
        sd_golds: true standard deviation of a Gold on the dose scale, 0 or above; floored at 1e-6 as in `dose`.
        n_golds: S, at least 2.
        dose: of the system; at 0 the power is alpha with one run and at most alpha with more.
        alpha: of the one-sided bound, in (0, .5).
        runs: R, at least 1.

    Raises:
        ConfigurationError: a number lies outside its domain.
    """
    if not 0 <= sd_golds < np.inf or n_golds < 2 or runs < 1 or not 0 < alpha < 0.5 or not np.isfinite(dose):
        raise ConfigurationError(
            "detection_power needs sd_golds >= 0, n_golds >= 2, a finite dose, alpha in (0, 0.5) and runs >= 1, "
            f"got {sd_golds}, {n_golds}, {dose}, {alpha} and {runs}"
        )
    error = max(sd_golds, FLOOR) * float(np.sqrt(1 / runs + 1 / n_golds))
    if runs == 1:
        return float(stats.nct.sf(-special.stdtrit(n_golds - 1, alpha), n_golds - 1, dose / error))
    middles = (np.arange(200) + 0.5) / 200
    golds = np.sqrt(stats.chi2.ppf(middles, n_golds - 1) / (n_golds - 1))
    scatter = stats.chi2.ppf(middles, runs - 1) / (runs - 1)
    errors, degrees = standard_errors(golds[:, None], n_golds, scatter[None, :], runs)
    bounds = -special.stdtrit(degrees, alpha) * errors / np.sqrt(1 / runs + 1 / n_golds)
    return float(special.ndtr(dose / error - bounds).mean())


@dataclass(frozen=True)
class Settlement:
    """What would make a margin attainable, each remedy alone; None where that alone cannot.

    Attributes:
        golds, runs, units, references: smallest number with which `power` of true Golds would PASS at the margin.
        attainable: margin as the audit stands, from the search's own draws.
        floor: attainable margin with infinitely many Golds, all else as it stands.
        note: why a remedy cannot, or lies beyond the search.
    """

    golds: int | None
    runs: int | None
    units: int | None
    references: int | None
    attainable: float
    floor: float
    note: str = ""


def what_would_settle(
    level: Floats,
    pattern: Floats | None,
    spread: SpreadScale | None,
    margin: float,
    *,
    alpha: float,
    rng: np.random.Generator,
    power: float = 0.9,
    n_units: int,
    weight_noise: float | None = None,
    n_references: int | None = None,
    runs: int = 1,
    bridges: Sequence[float] = (0.0, 0.0),
) -> Settlement:
    """The smallest number of Golds, runs, units or references with which the margin becomes attainable, each alone.

    All candidates see the same draws. Searched are up to 256 Golds, 32 runs, 100 times the units and 1,024 references.

    - Golds have a floor: with infinitely many a level alone still needs (z_{1-alpha} + z_{(1+power)/2}) sd_G for one
      run.
    - References enter through the noise of the weights. With c the sampling variance of a weight's IN - OUT contrast at
      one reference on either side over its mean square without noise, K references (K/2 on either side) scatter a Gold
      by sqrt(1 + 2c/K) relative to the gap; level and pattern scale by the ratio of two such, log V stays. First order.
    - Units: first order, as `units_factor` of `attainable_margin`.
    - A margin that is attainable already returns the numbers as they are.

    Args:
        level, pattern, spread, alpha, rng, power, bridges: as in `attainable_margin`.
        margin: to be attained, on the dose scale.
        n_units: units of the request that are judged, at least 1.
        weight_noise: c, 0 or above; None where the attack's weights are not a contrast of references.
        n_references: K; None where there are none.
        runs: R as the audit stands.

    Raises:
        DataError: fewer than 2 Golds, or statistics of different Golds.
        ConfigurationError: a number lies outside its domain.
    """  # fmt: skip
    if n_units < 1 or runs < 1 or (weight_noise is not None and not weight_noise >= 0):
        raise ConfigurationError(
            f"what_would_settle needs n_units >= 1, runs >= 1, weight_noise >= 0, got {n_units}, {runs}, {weight_noise}"
        )
    null = _Null.of(level, pattern, spread, bridges)
    most_golds, most_runs = max(null.golds, MOST_GOLDS), max(runs, MOST_RUNS)
    search = _Search(null, _Draws.of(null, rng, _SEARCH_DRAWS, most_runs), alpha, power, margin)
    now = _Plan(null.golds, runs)
    found = Settlement(
        golds=search.first(range(null.golds, most_golds + 1), lambda size: replace(now, golds=size)),
        # Two runs may need a wider margin than one, by Welch's degrees; from two on, more are better.
        runs=runs
        if search.enough(now)
        else search.first(range(runs + 1, most_runs + 1), lambda n: replace(now, runs=n)),
        units=search.first(
            range(n_units, MOST_UNITS_FACTOR * n_units + 1), lambda size: _of_units(now, n_units / size)
        ),
        references=_references(search, now, weight_noise, n_references),
        attainable=search.attainable(now),
        floor=search.attainable(replace(now, golds=np.inf)),
    )
    return replace(found, note=_why_not(found, margin, weight_noise is not None))


@dataclass(frozen=True, eq=False)
class _Search:
    """One set of draws, by which plans are compared."""

    null: _Null
    draws: _Draws
    alpha: float
    power: float
    margin: float

    def attainable(self, plan: _Plan) -> float:
        return _quantile(plan.margins(self.null, self.draws, self.alpha), self.power)

    def enough(self, plan: _Plan) -> bool:
        margins = plan.margins(self.null, self.draws, self.alpha)
        return float((margins < self.margin).mean()) >= self.power

    def first(self, sizes: range, plan: Callable[[int], _Plan]) -> int | None:
        """The first size whose plan is enough, where those after it are as well; None if the last is not."""
        if not sizes or not self.enough(plan(sizes[-1])):
            return None
        return sizes[bisect_left(sizes, True, key=lambda size: self.enough(plan(size)))]


def _of_units(plan: _Plan, share: float) -> _Plan:
    """With all variances times `share`, as a request of 1/share times as many units has them."""
    return replace(plan, linear=float(np.sqrt(share)), logs=float(np.sqrt(share)))


def _references(search: _Search, plan: _Plan, noise: float | None, number: int | None) -> int | None:
    if noise is None or not number:
        return None
    sizes = range(number, max(number, MOST_REFERENCES) + 1, 2)
    known = 1 + 2 * noise / number
    return search.first(sizes, lambda size: replace(plan, linear=float(np.sqrt((1 + 2 * noise / size) / known))))


def _why_not(found: Settlement, margin: float, references_count: bool) -> str:
    """What lies behind each None."""
    if np.isinf(found.floor):
        return "the original spreads no wider than the Golds: no margin is wide enough"
    endless = found.floor >= margin
    golds = f"infinitely many Golds leave {found.floor:.3g}" if endless else f"{MOST_GOLDS} Golds are not enough"
    return join_notes(
        "" if found.golds else golds,
        "" if found.runs else f"{MOST_RUNS} runs are not enough",
        "" if found.units else f"{MOST_UNITS_FACTOR} times the units are not enough",
        "" if found.references or not references_count else f"{MOST_REFERENCES:,} references are not enough",
    )
