"""Scoring every system alike: no target is ever in its own background, and each is read on its own scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from auditkit.contracts import Access, Attack, Scores
from auditkit.data.dataset import Bools, Floats, Ints
from auditkit.errors import NotApplicableError
from auditkit.evidence import Evidence, Targets
from auditkit.statistics.dose import DoseLine, LinearScale, fit_line


def check_needs(attack: Attack, evidence: Evidence, allowed: Access) -> None:
    """Refuse an attack whose minimum background or access is not there.

    Raises:
        NotApplicableError: with what is missing and how much there is.
    """
    beyond = attack.access & ~allowed
    if beyond:
        raise NotApplicableError(f"it needs access to {beyond.name}, which this audit was not given")
    if attack.needs.before or attack.needs.unlearned_references:
        raise NotApplicableError(
            "it needs the parent before unlearning or unlearned references, which this version does not collect"
        )
    have = {"references": len(evidence.rows("reference")), "golds": max(len(evidence.rows("gold")) - 1, 0)}
    for what, wanted in (("references", attack.needs.references), ("golds", attack.needs.golds)):
        if have[what] < wanted:
            raise NotApplicableError(
                f"it needs {wanted} {what} in the background of every target, this audit has {have[what]}"
            )
    absent = [probe.name for probe in attack.probes if probe not in evidence.readings]
    if absent:
        raise NotApplicableError(
            f"the request does not call for its probe, or a system did not answer it: {', '.join(absent)}"
        )


def _background(attack: Attack, evidence: Evidence, left_out: Ints) -> Evidence:
    roles = ("reference", "gold") if attack.needs.golds else ("reference",)
    return evidence.take(np.setdiff1d(evidence.rows(*roles), left_out))


def _score(attack: Attack, evidence: Evidence, rows: Ints, background: Evidence) -> Scores:
    return attack.score(Targets({probe: evidence.readings[probe].take(rows) for probe in attack.probes}), background)


def score_targets(attack: Attack, targets: Evidence, background: Evidence) -> Scores:
    """Score systems that are not in the background, which gives its references (and Golds, where needed)."""
    readings = {probe: targets.readings[probe] for probe in attack.probes}
    return attack.score(Targets(readings), _background(attack, background, np.empty(0, np.int64)))


def cross_score(attack: Attack, evidence: Evidence) -> Scores:
    """Score every system that is no reference, float64 [n_systems, n_units]; NaN in the rows of references.

    The background is all references (and, where the attack needs them, all Golds). A Gold is then scored against the
    other Golds.
    """
    golds, references = evidence.rows("gold"), evidence.rows("reference")
    together = np.setdiff1d(np.arange(len(evidence.systems)), references)
    parts = [np.array([g]) for g in golds] if attack.needs.golds else []
    if attack.needs.golds:
        together = np.setdiff1d(together, golds)
    level = np.full((len(evidence.systems), len(evidence.units)), np.nan)
    pattern: Floats | None = None
    n_points = 0
    for rows in (together, *parts):
        scores = _score(attack, evidence, rows, _background(attack, evidence, rows))
        level[rows], n_points = scores.level, scores.n_points
        if scores.pattern is not None:
            pattern = np.full_like(level, np.nan) if pattern is None else pattern
            pattern[rows] = scores.pattern
    return Scores(level, pattern, n_points)


@dataclass(frozen=True)
class LadderReading:
    """One reference, read by weights fitted without it on the scale of original and Golds under the same weights.

    Attributes:
        name: of the system.
        units: share of the units it holds.
        level, level_dose, level_error: reading on the straight line, effective dose, and standard error of the reading
            over training seeds.
        pattern, pattern_dose, pattern_error: the same for the pattern; NaN without one.
    """

    name: str
    units: float
    level: float
    level_dose: float
    level_error: float
    pattern: float = float("nan")
    pattern_dose: float = float("nan")
    pattern_error: float = float("nan")


def read_ladder(attack: Attack, evidence: Evidence, judged: Bools) -> list[LadderReading]:
    """Read every reference; empty for attacks with Golds in the background, which have no dose of their own.

    Args:
        attack: with references in its needs.
        evidence: originals, Golds and references.
        judged: bool [n_units], the units that count.
    """
    if attack.needs.golds or not attack.needs.references:
        return []
    originals, golds = evidence.rows("original"), evidence.rows("gold")
    found = []
    for r in evidence.rows("reference"):
        rows = np.concatenate([[r], originals, golds])
        scores = _score(attack, evidence, rows, _background(attack, evidence, np.array([r])))
        held = evidence.held[r]
        values = {"name": evidence.systems[r].name, "units": float(held[judged].mean())}
        for statistic, unit_scores in (("level", scores.level), ("pattern", scores.pattern)):
            if unit_scores is not None:
                usable = judged & np.isfinite(unit_scores).all(0)
                own = unit_scores[:, usable]
                scale = LinearScale(own[1 + len(originals) :], own[1 : 1 + len(originals)])
                reading = scale.read(own[:1])
                values[statistic], values[f"{statistic}_error"] = reading.value, reading.error
                values[f"{statistic}_dose"] = scale.effective(held[usable].astype(np.float64))
        found.append(LadderReading(**values))
    return found


def lines(ladder: list[LadderReading], n_golds: int) -> tuple[DoseLine, DoseLine]:
    """Calibration lines of level and pattern from the left-out references; their errors are known from `n_golds`."""
    levels = np.array([[x.level, x.level_dose, x.level_error] for x in ladder]).reshape(-1, 3)
    patterns = np.array([[x.pattern, x.pattern_dose, x.pattern_error] for x in ladder]).reshape(-1, 3)
    read, doses, errors = levels.T
    level = fit_line(read, doses, errors, n_golds - 1)
    read, doses, errors = patterns.T
    return level, fit_line(read, doses, errors, n_golds - 1)
