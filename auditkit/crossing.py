"""Scoring every system alike: no target is ever in its own background, and each is read on its own scale."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from auditkit.contracts import Access, Attack, Scores
from auditkit.data.dataset import Bools, Floats, Ints
from auditkit.deletion import Regime
from auditkit.errors import NotApplicableError
from auditkit.evidence import Evidence, Targets
from auditkit.record import Role
from auditkit.statistics.dose import DoseLine, LinearScale, SpreadScale, fit_line

# Systems that attacks learn from and that are never targets.
_SUPPORT: tuple[Role, ...] = ("reference", "unlearned reference")


def check_needs(attack: Attack, evidence: Evidence, allowed: Access, regime: Regime) -> None:
    """Refuse an attack whose minimum background or access is not there.

    Raises:
        NotApplicableError: with what is missing and how much there is.
    """
    beyond = attack.access_in(regime) & ~allowed
    if beyond:
        raise NotApplicableError(f"it needs access to {beyond.name}, which this audit was not given")
    if attack.needs.before and not len(evidence.rows("original")):
        raise NotApplicableError("it needs the model before unlearning, and this audit has no original")
    have = {
        "references": len(evidence.rows("reference")), "golds": max(len(evidence.rows("gold")) - 1, 0),
        "unlearned references": len(evidence.rows("unlearned reference")),
    }  # fmt: skip
    needs = attack.needs
    wanted_of = {
        "references": needs.references, "golds": needs.golds, "unlearned references": needs.unlearned_references
    }  # fmt: skip
    for what, wanted in wanted_of.items():
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
    roles = (*_SUPPORT, "gold") if attack.needs.golds else _SUPPORT
    # Answers to other attacks' probes would only be copied.
    own = replace(evidence, readings={probe: evidence.readings[probe] for probe in attack.probes})
    return own.take(np.setdiff1d(evidence.rows(*roles), left_out))


def _targets(attack: Attack, evidence: Evidence, rows: Ints, before: Evidence) -> Targets:
    """The answers of some systems, with the first original's beside each where the attack reads what was before."""
    readings = {probe: evidence.readings[probe].take(rows) for probe in attack.probes}
    if not attack.needs.before:
        return Targets(readings)
    parent = np.repeat(before.rows("original")[:1], len(rows))
    return Targets(readings, {probe: before.readings[probe].take(parent) for probe in attack.probes})


def _score(attack: Attack, evidence: Evidence, rows: Ints, background: Evidence) -> Scores:
    return attack.score(_targets(attack, evidence, rows, evidence), background)


def score_targets(attack: Attack, targets: Evidence, background: Evidence) -> Scores:
    """Score systems that are not in the background, which gives its references (and Golds, where needed)."""
    mine = _targets(attack, targets, np.arange(len(targets.systems)), background)
    return attack.score(mine, _background(attack, background, np.empty(0, np.int64)))


def cross_score(attack: Attack, evidence: Evidence) -> Scores:
    """Score every system that is no reference, float64 [n_systems, n_units]; NaN in the rows of references.

    The background is all references, unlearned ones among them (and, where the attack needs them, all Golds). A Gold is
    then scored against the other Golds.
    """
    golds, references = evidence.rows("gold"), evidence.rows(*_SUPPORT)
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
        spread, spread_dose, spread_error: ratio of variances, share of squared gains that it holds, standard error of
            the ratio; NaN without a pattern, for then scores are not signed.
    """

    name: str
    units: float
    level: float
    level_dose: float
    level_error: float
    pattern: float = float("nan")
    pattern_dose: float = float("nan")
    pattern_error: float = float("nan")
    spread: float = float("nan")
    spread_dose: float = float("nan")
    spread_error: float = float("nan")


@dataclass(frozen=True)
class Lines:
    """Calibration of level, pattern and spread, each from left-out references."""

    level: DoseLine
    pattern: DoseLine
    spread: DoseLine


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
        if scores.pattern is not None:
            values |= _spread_of(scores.level, judged, len(originals), held)
        found.append(LadderReading(**values))
    return found


def _spread_of(level: Floats, judged: Bools, n_originals: int, held: Bools) -> dict[str, float]:
    """Spread of the reference in the first row; originals and Golds follow."""
    usable = judged & np.isfinite(level).all(0)
    own = level[:, usable]
    scale = SpreadScale(own[1 + n_originals :], own[1 : 1 + n_originals])
    reading = scale.read(own[:1])
    return {
        "spread": reading.value, "spread_dose": scale.effective(held[usable].astype(np.float64)),
        "spread_error": reading.error * float(np.exp(reading.log_variance)) / scale.width,
    }  # fmt: skip


def lines(ladder: list[LadderReading], n_golds: int) -> Lines:
    """Calibration lines from the left-out references; their errors are known from `n_golds`."""

    def fitted(statistic: str) -> DoseLine:
        columns = (statistic, f"{statistic}_dose", f"{statistic}_error")
        read, doses, errors = np.array([[getattr(x, c) for c in columns] for x in ladder]).reshape(-1, 3).T
        return fit_line(read, doses, errors, n_golds - 1)

    return Lines(fitted("level"), fitted("pattern"), fitted("spread"))
