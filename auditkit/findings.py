"""Scores to findings: every attack is calibrated on known systems and read by the same statistics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from auditkit.contracts import Access, Attack, Scores
from auditkit.crossing import LadderReading, check_needs, cross_score, lines, read_ladder, score_targets
from auditkit.data.dataset import Bools, Floats
from auditkit.decoys import Decoys, confirmed
from auditkit.deletion import Regime
from auditkit.digests import canonical
from auditkit.errors import NotApplicableError
from auditkit.evidence import Evidence
from auditkit.record import Finding, Section
from auditkit.reported import dose_estimate, finite, separation
from auditkit.statistics.dose import (
    MIN_POINTS_PATTERN,
    MIN_UNITS_SPREAD,
    DoseLine,
    LinearScale,
    Reading,
    SpreadReading,
    SpreadScale,
)
from auditkit.statistics.multiplicity import holm
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
    def lines(self) -> tuple[DoseLine, DoseLine]:
        """Calibration of level and of pattern."""
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
        return SpreadScale(self.rows(self.scores.level, "gold", units), self.rows(self.scores.level, "original", units))

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
        """The spread applies: enough units, and the attack is a signed linear score."""
        return self.scores.pattern is not None and int(self.judged.sum()) >= MIN_UNITS_SPREAD

    @property
    def without_spread(self) -> str:
        """Why a reading has no spread, where it has none."""
        if self.scores.pattern is None:
            return "not a linear score"
        return "the original spreads no wider than the Golds" if self.has_spread else f"needs {MIN_UNITS_SPREAD} units"

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
        level = self.scale(self.scores.level, self.judged).gold_doses * self.lines[0].slope(0.0)
        pattern = self.scale(self.scores.pattern, self.judged).gold_doses * self.lines[1].slope(0.0)
        return level, pattern, self.spread_scale(self.judged) if self.has_spread else None

    @property
    def bridges(self) -> tuple[float, float]:
        """Of the lines of level and of pattern."""
        return self.lines[0].bridge, self.lines[1].bridge

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
    check_needs(attack, background, rules.allowed)
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


@dataclass(frozen=True, eq=False)
class Judged:
    """What one attack says of one system: the readings behind a finding.

    Attributes:
        level, pattern: readings on the dose scale; pattern None where it does not apply.
        spread: None where it does not apply.
        fail_level, fail_pattern: the same with the larger of Gold's and the references' scatter, for FAIL.
        coverage: share of the judged units that the system answered.
        runs: unit scores of the system's runs, float64 [R, n_units answered].
        units: which units those are, bool [n_units].
        unshared: the readings without what decoys share; None where there are too few decoys.
    """

    level: Reading
    pattern: Reading | None
    spread: SpreadReading | None
    fail_level: Reading
    fail_pattern: Reading | None
    coverage: float
    runs: Floats
    units: Bools
    unshared: Judged | None = None

    def inside(self, margin: float, alpha: float) -> bool:
        """Every bound of every statistic that applies is inside the margin."""
        two_sided = [r for r in (self.level, self.pattern) if r is not None]
        good = all(-margin < r.bounds(alpha)[0] and r.bounds(alpha)[1] < margin for r in two_sided)
        return good and (self.spread is None or self.spread.bounds(alpha)[1] < margin)

    def p_values(self, margin: float) -> dict[str, float]:
        """p-values of not being beyond the margin, by statistic; also without what decoys share, if there are any."""
        return confirmed(self._beyond(margin), {} if self.unshared is None else self.unshared._beyond(margin))

    def _beyond(self, margin: float) -> dict[str, tuple[float, float]]:
        """Reading and p-value of each statistic that applies."""
        read = {"level": self.fail_level, "pattern": self.fail_pattern, "spread": self.spread}
        return {name: (r.value, r.p_beyond(margin)) for name, r in read.items() if r is not None}

    def excused(self, margin: float, alpha: float) -> list[str]:
        """Statistics beyond the margin that do not count, since decoys moved alike."""
        counted = self.p_values(margin)
        return [name for name, (_, p) in self._beyond(margin).items() if p < alpha / 2 <= counted[name]]

    @property
    def below(self) -> bool:
        """The level or, where the level is near Gold, the pattern lies on the far side of Gold."""
        if self.pattern is not None and abs(self.pattern.value) > abs(self.level.value):
            return self.pattern.value < 0
        return self.level.value < 0


def _for_fail(reading: Reading, line: DoseLine, runs: int, golds: int) -> Reading:
    """The reading with the scatter of the references about the curve, where that is larger than the Golds'."""
    return replace(reading, error=max(reading.error, (line.residual_sd or 0.0) * float(np.sqrt(1 / runs + 1 / golds))))


def read_system(yardstick: Yardstick, evidence: Evidence) -> Judged:
    """Read one system.

    Args:
        yardstick: calibrated on the background.
        evidence: the system's runs only, the same questions.

    Raises:
        NotApplicableError: it answered none of the judged units.
    """
    attack = yardstick.attack
    if any(probe not in evidence.readings for probe in attack.probes):
        raise NotApplicableError(f"the system cannot be asked its probe {', '.join(p.name for p in attack.probes)}")
    return read_scores(yardstick, *score_system(yardstick, evidence))


def score_system(yardstick: Yardstick, evidence: Evidence) -> tuple[Scores, Scores | None]:
    """Scores of systems under the yardstick's background, and those without what their decoys share."""
    plain = score_targets(yardstick.attack, evidence, yardstick.background)
    if yardstick.decoys is None or yardstick.unshared is None:
        return plain, None
    return plain, score_targets(yardstick.attack, yardstick.decoys.free(evidence), yardstick.unshared.background)


def read_scores(yardstick: Yardstick, scores: Scores, unshared: Scores | None = None) -> Judged:
    """Read one system from the scores of its runs, as `score_system` gives them.

    Raises:
        NotApplicableError: it answered none of the judged units.
    """
    plain = _read(yardstick, scores)
    if unshared is None or yardstick.unshared is None or not yardstick.unshared.power:
        return plain
    return replace(plain, unshared=_read(yardstick.unshared, unshared))


def _read(yardstick: Yardstick, scores: Scores) -> Judged:
    answered = yardstick.judged & np.isfinite(scores.level).all(0)
    if answered.sum() == yardstick.judged.sum():
        answered = yardstick.judged
    if not answered.any():
        raise NotApplicableError("the system answered none of the questions (its output is masked there)")
    level_line, pattern_line = yardstick.lines
    runs = scores.level[:, answered]
    sizes = len(runs), len(yardstick.background.rows("gold"))
    level = level_line.map(yardstick.scale(yardstick.scores.level, answered).read(runs))
    pattern = None
    if yardstick.has_pattern and scores.pattern is not None and yardstick.scores.pattern is not None:
        pattern_scale = yardstick.scale(yardstick.scores.pattern, answered)
        pattern = pattern_line.map(pattern_scale.read(scores.pattern[:, answered]))
    spread = yardstick.spread_scale(answered).read(runs) if yardstick.has_spread else None
    if spread is not None and not np.isfinite(spread.value):
        spread = None
    return Judged(
        level, pattern, spread, _for_fail(level, level_line, *sizes),
        pattern and _for_fail(pattern, pattern_line, *sizes),
        float(answered.sum() / yardstick.judged.sum()), runs, answered,
    )  # fmt: skip


def finding(yardstick: Yardstick, evidence: Evidence) -> tuple[Finding, Judged]:
    """What one attack finds of one system, and the readings behind it.

    Raises:
        NotApplicableError: the system answered none of the questions.
    """
    judged = read_system(yardstick, evidence)
    golds = yardstick.rows(yardstick.scores.level, "gold", judged.units)
    clusters = np.asarray(yardstick.background.units["cluster"])[judged.units]
    told = separation(judged.runs, golds, clusters, 1 - 2 * yardstick.rules.alpha)
    return conclude(yardstick, judged).model_copy(update=told), judged


def conclude(yardstick: Yardstick, judged: Judged) -> Finding:
    """The finding that a verdict rests on: doses with their intervals, section and p-value."""
    rules, runs, p = yardstick.rules, len(judged.runs), _p_value(yardstick, judged)
    base = blank_finding(yardstick.attack, rules, section=_section(yardstick, judged, p), note=_note(yardstick, judged))
    t_method = f"t interval over {len(yardstick.background.rows('gold'))} Golds, {runs} run{'s' if runs > 1 else ''}"
    return base.model_copy(
        update={
            "residual_dose": dose_estimate(judged.level, rules.alpha, runs, t_method, ""),
            "pattern": dose_estimate(judged.pattern, rules.alpha, runs, t_method, yardstick.without_pattern),
            "spread": dose_estimate(judged.spread, rules.alpha, runs, f"{t_method}, log", yardstick.without_spread),
            "n_units": int(judged.units.sum()), "n_points": yardstick.scores.n_points,
            "n_golds": len(yardstick.background.rows("gold")),
            "n_references": len(yardstick.background.rows("reference")),
            "attainable_margin": yardstick.attainable, "p_value": p if yardstick.power else None,
            "coverage": judged.coverage,
        }
    )  # fmt: skip


def _p_value(yardstick: Yardstick, judged: Judged) -> float:
    """That the system is within the margin of Gold: Holm over what applies, or of a level above Gold alone."""
    found = judged.p_values(yardstick.rules.margin)
    if yardstick.attack.one_sided:
        return found["level"] if judged.level.value > 0 else 1.0
    return float(np.min(holm(np.array(list(found.values())))))


def attempt(attack: Attack, yardstick: Yardstick, evidence: Evidence, rules: Rules) -> tuple[Finding, Judged | None]:
    """`finding`, or the finding that says why there is none."""
    try:
        return finding(yardstick, evidence)
    except NotApplicableError as reason:
        return blank_finding(attack, rules, section="not_applicable", note=str(reason)), None
    except Exception as error:  # an attack is a plug-in: whatever it raises becomes its finding and bars a PASS
        return blank_finding(attack, rules, section="error", note=f"{type(error).__name__}: {error}"), None


def blank_finding(attack: Attack, rules: Rules, *, section: Section, note: str) -> Finding:
    """A finding without numbers: what was to be measured, and why it is not."""
    described = canonical(attack)
    described.pop("name", None)
    return Finding(
        attack=attack.name, parameters=described, access=[flag.name or "" for flag in attack.access],
        primary=attack.name == rules.primary, counts=rules.regime in attack.fails_in or attack.name == rules.primary,
        section=section, note=note,
    )  # fmt: skip


def _section(yardstick: Yardstick, judged: Judged, p: float) -> Section:
    if not yardstick.power:
        return "inconclusive"
    rules = yardstick.rules
    if p < rules.alpha / 2:
        return "over_forgotten" if judged.below else "leak"
    whole = judged.coverage == 1 and (judged.pattern is not None or yardstick.scores.pattern is None)
    return "clean" if whole and judged.inside(rules.margin, rules.alpha) else "inconclusive"


def _note(yardstick: Yardstick, judged: Judged) -> str:
    notes = []
    if not yardstick.power:
        notes.append("the original does not stand out from the Golds: no power")
    if judged.coverage < 1:
        notes.append(f"only {judged.coverage:.1%} of the units were answered")
    if judged.spread is not None and judged.spread.value < 0:
        notes.append("spread below Gold's, which is no evidence either way")
    excused = judged.excused(yardstick.rules.margin, yardstick.rules.alpha)
    if excused:
        notes.append(f"pairs that nobody was trained on moved alike, so {' and '.join(excused)} cannot FAIL it")
    return "; ".join(notes)
