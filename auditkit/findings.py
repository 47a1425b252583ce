"""Readings to findings: what the statistics conclude of an audited system from an attack's scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from auditkit.contracts import Attack, Scores
from auditkit.crossing import score_targets
from auditkit.data.dataset import Bools, Floats
from auditkit.decoys import confirmed, left_standing
from auditkit.digests import canonical
from auditkit.divergences import gold_bands
from auditkit.errors import NotApplicableError
from auditkit.evidence import Evidence
from auditkit.record import Estimate, Finding, Section
from auditkit.reported import dose_estimate, reported_interval, separation
from auditkit.statistics.dose import DoseLine, Reading, SpreadReading
from auditkit.statistics.multiplicity import holm
from auditkit.yardstick import Rules, Yardstick, calibrate


def calibrate_all(
    attacks: Sequence[Attack], background: Evidence, rules: Rules
) -> tuple[dict[Attack, Yardstick], dict[Attack, Finding]]:
    """A yardstick for every attack that applies, and the finding of every one that does not."""
    yardsticks: dict[Attack, Yardstick] = {}
    refusals: dict[Attack, Finding] = {}
    for attack in attacks:
        try:
            yardsticks[attack] = calibrate(attack, background, rules)
        except NotApplicableError as reason:
            refusals[attack] = blank_finding(attack, rules, section="not_applicable", note=str(reason))
        except Exception as error:  # an attack is a plug-in: whatever it raises becomes its finding and bars a PASS
            refusals[attack] = blank_finding(attack, rules, section="error", note=f"{type(error).__name__}: {error}")
    return yardsticks, refusals


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
        unshared: the readings without what decoys share; None where there are too few decoys, or these moved too far.
        accounts: the decoys are fresh accounts, not pairs.
        coarse: the scale is too coarse to FAIL anything by (`Yardstick.coarse`).
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
    accounts: bool = False
    coarse: bool = False

    def inside(self, margin: float, alpha: float) -> bool:
        """Every bound of every statistic that applies is inside the margin."""
        two_sided = [r for r in (self.level, self.pattern) if r is not None]
        good = all(-margin < r.bounds(alpha)[0] and r.bounds(alpha)[1] < margin for r in two_sided)
        return good and (self.spread is None or self.spread.bounds(alpha)[1] < margin)

    def p_values(self, margin: float) -> dict[str, float]:
        """p-values of not being beyond the margin, by statistic; also without what decoys share, if there are any."""
        if self.coarse:
            return dict.fromkeys(self._beyond(margin), 1.0)
        free = {} if self.unshared is None else self.unshared._beyond(margin)
        if self.accounts:
            return left_standing(self._beyond(margin), free)
        return confirmed(self._beyond(margin), free)

    def _beyond(self, margin: float) -> dict[str, tuple[float, float]]:
        """Reading and p-value of each statistic that applies."""
        read = {"level": self.fail_level, "pattern": self.fail_pattern, "spread": self.spread}
        return {name: (r.value, r.p_beyond(margin)) for name, r in read.items() if r is not None}

    def excused(self, margin: float, alpha: float) -> list[str]:
        """Statistics beyond the margin that do not count, since decoys moved alike."""
        if self.coarse:
            return []
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
    return read_scores(yardstick, *_asked(yardstick, evidence))


def _asked(yardstick: Yardstick, evidence: Evidence) -> tuple[Scores, Scores | None]:
    probes = yardstick.attack.probes
    if any(probe not in evidence.readings for probe in probes):
        raise NotApplicableError(f"the system cannot be asked its probe {', '.join(p.name for p in probes)}")
    return score_system(yardstick, evidence)


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
    plain = replace(_read(yardstick, scores), coarse=yardstick.coarse)
    if unshared is None or yardstick.unshared is None or not yardstick.unshared.power:
        return plain
    if not np.isfinite(unshared.level).all(0).any():
        return plain
    accounts = yardstick.decoys is not None and yardstick.decoys.accounts
    return replace(plain, unshared=_read(yardstick.unshared, unshared), accounts=accounts)


def _read(yardstick: Yardstick, scores: Scores) -> Judged:
    answered = yardstick.judged & np.isfinite(scores.level).all(0)
    if answered.sum() == yardstick.judged.sum():
        answered = yardstick.judged
    if not answered.any():
        raise NotApplicableError("the system answered none of the questions (its output is masked there)")
    level_line, pattern_line = yardstick.lines.level, yardstick.lines.pattern
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
    scores = _asked(yardstick, evidence)
    judged = read_scores(yardstick, *scores)
    golds = yardstick.rows(yardstick.scores.level, "gold", judged.units)
    clusters = np.asarray(yardstick.background.units["cluster"])[judged.units]
    told = separation(judged.runs, golds, clusters, 1 - 2 * yardstick.rules.alpha)
    if yardstick.attack.needs.golds:
        told["bands"] = _bands(yardstick, scores[0])
    return conclude(yardstick, judged).model_copy(update=told), judged


def _bands(yardstick: Yardstick, scores: Scores) -> dict[str, Estimate]:
    """Of an attack that measures distance to Golds: by group of units, in units of the Golds' own scatter."""
    golds = yardstick.scores.level[yardstick.background.rows("gold")]
    mean = scores.level.mean(0, keepdims=True)
    groups = yardstick.background.units["group"].to_numpy()
    confidence = 1 - 2 * yardstick.rules.alpha
    # Only distances to the mean Gold know this; all others are means of distances.
    to_mean = bool(getattr(yardstick.attack, "to_mean_gold", False))
    (bands,) = gold_bands(mean, golds, groups, to_mean_gold=to_mean, confidence=confidence)
    return {band.group: reported_interval(band.distance, n_units=band.n_units) for band in bands if band.n_units}


_COARSE = "not even a Gold is told from the original within one dose, and no decoys stand beside it: it cannot FAIL"
_NO_POWER = "the original does not stand out from the Golds: no power"


def conclude(yardstick: Yardstick, judged: Judged) -> Finding:
    """The finding that a verdict rests on: doses with their intervals, section and p-value."""
    rules, runs, p = yardstick.rules, len(judged.runs), _p_value(yardstick, judged)
    base = blank_finding(yardstick.attack, rules, section=_section(yardstick, judged, p), note=_note(yardstick, judged))
    t_method = f"t interval over {len(yardstick.background.rows('gold'))} Golds, {runs} run{'s' if runs > 1 else ''}"
    # Without a gap there is no scale to read on, and a number on it would be taken for a reading.
    level = judged.level if yardstick.power else None
    return base.model_copy(
        update={
            "residual_dose": dose_estimate(level, rules.alpha, runs, t_method, _NO_POWER),
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
        attack=attack.name, parameters=described, access=[flag.name or "" for flag in attack.access_in(rules.regime)],
        primary=attack.name == rules.primary, counts=attack.counts_in(rules.regime) or attack.name == rules.primary,
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
        notes.append(_NO_POWER)
    if judged.coverage < 1:
        notes.append(f"only {judged.coverage:.1%} of the units were answered")
    if judged.spread is not None and judged.spread.value < 0:
        notes.append("spread below Gold's, which is no evidence either way")
    excused = judged.excused(yardstick.rules.margin, yardstick.rules.alpha)
    if judged.coarse:
        notes.append(_COARSE)
    if excused:
        notes.append(f"pairs that nobody was trained on moved alike, so {' and '.join(excused)} cannot FAIL it")
    return "; ".join(notes)
