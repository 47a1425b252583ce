"""Attacks calibrated on systems whose truth is known: what every reading of an audited system is laid on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from auditkit.contracts import Access, Attack, Scores
from auditkit.crossing import LadderReading, Lines, check_needs, cross_score, lines, read_ladder
from auditkit.data.dataset import Bools, Floats
from auditkit.decoys import Decoys
from auditkit.deletion import Regime
from auditkit.errors import NotApplicableError
from auditkit.evidence import Evidence
from auditkit.reported import finite
from auditkit.statistics.dose import MIN_POINTS_PATTERN, MIN_UNITS_SPREAD, LinearScale, SpreadScale
from auditkit.statistics.power import attainable_margin


@dataclass(frozen=True)
class Rules:
    """What a verdict is judged by, fixed before the unlearned systems are probed.

    Attributes:
        regime: of the request.
        margin: largest |L|, |P| and rho that still counts as forgotten, on the dose scale.
        alpha: of the one-sided bounds.
        primary: name of the attack that alone can PASS a system.
        allowed: what the auditor can reach.
        seed: of the simulation of the attainable margin.
        min_power: smallest acceptable power to find a system that holds half of the units; below it nothing can PASS.
    """

    regime: Regime
    margin: float
    alpha: float
    primary: str
    allowed: Access
    seed: int
    min_power: float = 0.8


@dataclass(frozen=True, eq=False)
class Yardstick:
    """One attack, calibrated on systems whose truth is known.

    Attributes:
        attack: what is calibrated.
        rules: what it will be judged by.
        background: originals, Golds, references and controls.
        judged: bool [n_units], forget units of the judge split that every Gold and original answered.
        scores: of the background, references left NaN.
        ladder: references, each read without itself.
        decoys: how the signals follow from decoys; None where there are too few of them.
        unshared: the same attack, calibrated on the signals without what decoys share.
    """

    attack: Attack
    rules: Rules
    background: Evidence
    judged: Bools
    scores: Scores
    ladder: list[LadderReading]
    decoys: Decoys | None = None
    unshared: Yardstick | None = None

    @cached_property
    def lines(self) -> Lines:
        """Calibration of level, pattern and spread."""
        return lines(self.ladder, len(self.background.rows("gold")))

    def rows(self, values: Floats, role: str, units: Bools) -> Floats:
        """Unit scores of the systems in a role."""
        return values[self.background.rows(role)][:, units]

    def scale(self, values: Floats, units: Bools) -> LinearScale:
        """The linear scale on some units; `values` are the scores' level or pattern."""
        if units is self.judged:
            return self._level if values is self.scores.level else self._pattern
        return self._make(values, units)

    def _make(self, values: Floats, units: Bools) -> LinearScale:
        return LinearScale(self.rows(values, "gold", units), self.rows(values, "original", units))

    @cached_property
    def _level(self) -> LinearScale:
        return self._make(self.scores.level, self.judged)

    @cached_property
    def _pattern(self) -> LinearScale:
        assert self.scores.pattern is not None
        return self._make(self.scores.pattern, self.judged)

    def spread_scale(self, units: Bools) -> SpreadScale:
        """The spread scale on some units."""
        return self._spread if units is self.judged else self._make_spread(units)

    def _make_spread(self, units: Bools) -> SpreadScale:
        golds, originals = (self.rows(self.scores.level, role, units) for role in ("gold", "original"))
        return SpreadScale(golds, originals, self.lines.spread)

    @cached_property
    def _spread(self) -> SpreadScale:
        return self._make_spread(self.judged)

    @property
    def has_pattern(self) -> bool:
        """The pattern applies: the attack has one, enough points carry weight, and the original stands out in it."""
        return not self.without_pattern

    @cached_property
    def without_pattern(self) -> str:
        """Why there is no pattern to read, empty where there is one."""
        if self.scores.pattern is None:
            return "the attack has no pattern"
        if self.scores.n_points < MIN_POINTS_PATTERN:
            return f"it needs {MIN_POINTS_PATTERN} points and the request has {self.scores.n_points}"
        if not self.scale(self.scores.pattern, self.judged).power.bounds(self.rules.alpha)[0] > 0:
            return "the original's pattern does not stand out from the Golds'"
        return ""

    @property
    def has_spread(self) -> bool:
        """The spread applies: a signed linear score, enough units, and the original stands out in it."""
        return not self.without_spread

    @cached_property
    def without_spread(self) -> str:
        """Why there is no spread to read, empty where there is one."""
        if self.scores.pattern is None:
            return "not a linear score"
        if self.judged.sum() < MIN_UNITS_SPREAD:
            return f"needs {MIN_UNITS_SPREAD} units"
        if not self._spread.shown(self.rules.alpha):
            return "the original spreads no wider than the Golds"
        return ""

    @cached_property
    def power(self) -> bool:
        """The original stands above the Golds beyond their scatter."""
        return (
            bool(self.judged.any()) and self.scale(self.scores.level, self.judged).power.bounds(self.rules.alpha)[0] > 0
        )

    @cached_property
    def null_readings(self) -> tuple[Floats, Floats, SpreadScale | None] | None:
        """Level and pattern of the Golds, float64 [S] each, and the spread's scale; None where no system can PASS."""
        if not self.power or self.scores.pattern is None or not self.has_pattern:
            return None
        level = self.scale(self.scores.level, self.judged).gold_doses * self.lines.level.slope(0.0)
        pattern = self.scale(self.scores.pattern, self.judged).gold_doses * self.lines.pattern.slope(0.0)
        return level, pattern, self.spread_scale(self.judged) if self.has_spread else None

    @property
    def bridges(self) -> tuple[float, float]:
        """Of the lines of level and of pattern."""
        return self.lines.level.bridge, self.lines.pattern.bridge

    @cached_property
    def coarse(self) -> bool:
        """Fresh accounts are read without decoys, on a scale on which not even a Gold is told within one dose.

        What another length of training does to fresh accounts is then as large as what the original remembers, and
        nothing says which of the two a reading shows. Nothing FAILs by it.
        """
        asked = self.attack.access_in(self.rules.regime) & (Access.NEW_USERS | Access.NEW_ITEMS)
        alone = bool(asked) and self.decoys is None
        return alone and (self.attainable is None or self.attainable > 1)

    @cached_property
    def attainable(self) -> float | None:
        """Smallest margin at which 90% of fresh Golds would PASS; None where none can."""
        if self.null_readings is None:
            return None
        rng = np.random.default_rng(self.rules.seed)
        return finite(attainable_margin(*self.null_readings, alpha=self.rules.alpha, rng=rng, bridges=self.bridges))


def calibrate(attack: Attack, background: Evidence, rules: Rules) -> Yardstick:
    """Score what is known of, and read the ladder.

    Raises:
        NotApplicableError: the attack's needs are not met, or no unit was answered by every Gold and original.
    """
    check_needs(attack, background, rules.allowed, rules.regime)
    plain = _calibrated(attack, background, rules)
    decoys = Decoys.of(background, attack.probes)
    if decoys is None:
        return plain
    freed = decoys.free(background, background.rows("gold"))
    return replace(plain, decoys=decoys, unshared=_calibrated(attack, freed, rules))


def _calibrated(attack: Attack, background: Evidence, rules: Rules) -> Yardstick:
    scores = cross_score(attack, background)
    known = scores.level[background.rows("gold", "original")]
    units = background.units
    judged = np.asarray((units["group"] == "forget") & (units["split"] == "judge")) & np.isfinite(known).all(0)
    if not judged.any():
        raise NotApplicableError("no unit of the request was answered by every Gold and original")
    return Yardstick(attack, rules, background, judged, scores, read_ladder(attack, background, judged))
