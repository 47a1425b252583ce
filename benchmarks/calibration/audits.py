"""One resampled audit: systems drawn from a pool, calibrated and judged by the code that judges every audit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from auditkit.battery import in_order
from auditkit.contracts import Attack, Scores
from auditkit.controls import check_controls
from auditkit.data.dataset import Floats, Ints
from auditkit.errors import NotApplicableError
from auditkit.evidence import Evidence
from auditkit.findings import Judged, blank_finding, conclude, read_scores, score_system
from auditkit.judge import rule
from auditkit.plan import MARGINS, SIZES
from auditkit.plugins import attacks
from auditkit.record import Finding
from auditkit.statistics.dose import Reading, SpreadReading
from auditkit.statistics.multiplicity import holm
from auditkit.yardstick import Rules, Yardstick, calibrate
from benchmarks.calibration.candidates import Candidate
from benchmarks.calibration.pools import Pool
from benchmarks.calibration.worlds import CELLS, PASSES

# What never counts against a system (unsigned distances) cannot change a verdict.
_BATTERY = ("lira-linear", "fold-in", "lira", "rank-probe", "exposure")
_ORIGINALS = 2
# Systems of one group that an audit looks at, and fresh Golds among them: more would tell nothing new of this audit.
_PER_GROUP = 2
_GOLDS = 12
# Snapshots that only serve to find the one nearest to Gold's level.
_UNREAD = tuple(f"reverse-bpr {n}" for n in PASSES[1:-1])


def rules_of(pool: Pool, profile: str, primary: Candidate) -> Rules:
    """The default rules of the world's regime, decided by this attack."""
    regime = pool.world.regime
    margin = MARGINS[regime][list(SIZES).index(profile)]
    return Rules(regime=regime, margin=margin, alpha=0.05, primary=primary.attack.name, allowed=primary.allowed, seed=0)


def battery(pool: Pool, primary: Candidate) -> list[Attack]:
    """The attacks that can count with this access, the primary one first."""
    regime = pool.world.regime
    found = [attack for name in _BATTERY for attack in attacks()[name].battery()]
    found = [a for a in found if a.counts_in(regime) and not a.access_in(regime) & ~primary.allowed]
    return in_order([primary.attack, *found], primary.attack.name)


def references(pool: Pool, count: int, rng: np.random.Generator) -> Ints:
    """Rows of `count` references: one complementary pair from each of count/2 strata of the dose grid."""
    rows = pool.group("reference").reshape(pool.world.pairs, CELLS, 2)
    strata = np.arange(CELLS).reshape(count // 2, -1)
    cells = strata[np.arange(len(strata)), rng.integers(strata.shape[1], size=len(strata))]
    return rows[rng.integers(pool.world.pairs, size=len(cells)), cells].ravel()


def _named(evidence: Evidence, names: Sequence[str], role: str) -> Evidence:
    systems = tuple(replace(s, name=n, role=role) for s, n in zip(evidence.systems, names, strict=True))  # type: ignore[arg-type]
    return replace(evidence, systems=systems)


@dataclass(frozen=True, eq=False)
class Drawn:
    """A background drawn from the pool.

    Attributes:
        rows: of originals, Golds and references, then a control Gold and a control that holds .4 of the units.
        background: those systems.
        free: rows of the pool that may be systems under test: no Gold of the background, no reference.
    """

    rows: Ints
    background: Evidence
    free: Ints


def _asked(pool: Pool, battery: Sequence[Attack]) -> Pool:
    """The pool without answers to probes of other attacks, which would only be copied."""
    probes = {probe for attack in battery for probe in attack.probes}
    readings = {probe: reading for probe, reading in pool.evidence.readings.items() if probe in probes}
    return replace(pool, evidence=replace(pool.evidence, readings=readings))


def draw(pool: Pool, profile: str, rng: np.random.Generator) -> Drawn:
    """Draw originals, Golds, references and controls of a profile's size."""
    golds, count = SIZES[profile]
    gold_rows = rng.permutation(pool.group("gold"))
    original_rows = rng.permutation(pool.group("original"))[:_ORIGINALS]
    half = rng.permutation(pool.group("dose 0.4"))[:1]
    rows = np.concatenate(
        [original_rows, gold_rows[:golds], references(pool, count, rng), gold_rows[golds : golds + 1], half]
    )
    background = pool.evidence.take(rows)
    systems = list(background.systems)
    for place, name in ((-2, "control gold"), (-1, "half-erased")):
        systems[place] = replace(systems[place], name=name, role="control")
    used = np.concatenate([rows, pool.group("reference")])
    # The method under test starts from the first original, so that one stays: it is the no-op.
    free = np.setdiff1d(np.arange(len(pool.evidence.systems)), np.setdiff1d(used, original_rows[:1]))
    return Drawn(rows, replace(background, systems=tuple(systems)), free)


def _chosen(pool: Pool, drawn: Drawn, runs: int, rng: np.random.Generator) -> list[tuple[str, Ints]]:
    """Groups with the rows to read."""
    found = []
    for group in (g for g in pool.groups if g not in _UNREAD):
        rows = np.intersect1d(pool.group(group), drawn.free)
        if len(rows):
            found.append((group, rng.permutation(rows)[: (_GOLDS if group == "gold" else _PER_GROUP) * runs]))
    return found


def _effective(yardstick: Yardstick, held: Floats) -> dict[str, float]:
    """What the system truly holds, on each statistic's own scale; NaN where there is no scale."""
    units = yardstick.judged
    level = yardstick.rows(yardstick.scores.level, "original", units).mean(0)
    gain = level - yardstick.rows(yardstick.scores.level, "gold", units).mean(0)
    found = {"dose_level": yardstick.scale(yardstick.scores.level, units).effective(held[units])}
    found["dose_spread"] = float((held[units] * gain**2).sum() / (gain**2).sum())
    if yardstick.scores.pattern is not None:
        found["dose_pattern"] = yardstick.scale(yardstick.scores.pattern, units).effective(held[units])
    return found


def _numbers(name: str, reading: Reading | SpreadReading | None, alpha: float) -> dict[str, float]:
    if reading is None:
        return {}
    (low, high), (low_95, high_95) = reading.bounds(alpha), reading.bounds(0.025)
    return {
        name: reading.value, f"{name}_low": low, f"{name}_high": high, f"{name}_low95": low_95,
        f"{name}_high95": high_95,
    }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A drawn audit, calibrated: one yardstick an attack, and what its controls broke."""

    pool: Pool
    rules: Rules
    drawn: Drawn
    yardsticks: Mapping[Attack, Yardstick]
    broken: Mapping[str, str]

    @property
    def primary(self) -> Yardstick:
        """Of the attack that alone can PASS."""
        return next(y for a, y in self.yardsticks.items() if a.name == self.rules.primary)

    def scores(self, rows: Ints) -> dict[Attack, tuple[Scores, Scores | None]]:
        """Scores of pool systems under every attack, with and without what their decoys share."""
        targets = self.pool.evidence.take(rows)
        return {a: score_system(y, targets) for a, y in self.yardsticks.items()}

    def judge(self, scores: Mapping[Attack, tuple[Scores, Scores | None]], runs: Ints, held: Floats) -> dict[str, Any]:
        """Verdict and readings of one system.

        Args:
            scores: of many systems, by attack.
            runs: positions of the system's runs in them.
            held: what it truly holds, 0 or 1 [n_units].
        """
        findings: list[Finding] = []
        primary: Judged | None = None
        for attack, yardstick in self.yardsticks.items():
            plain, unshared = scores[attack]
            try:
                judged = read_scores(yardstick, _part(plain, runs), unshared and _part(unshared, runs))
            except NotApplicableError as reason:
                findings.append(blank_finding(attack, self.rules, section="not_applicable", note=str(reason)))
                continue
            findings.append(conclude(yardstick, judged))
            primary = judged if attack.name == self.rules.primary else primary
        ruling = rule(findings, primary, self.primary, self.rules, len(runs), self.broken)
        found: dict[str, Any] = {"verdict": ruling.verdict, "runs": len(runs), **_effective(self.primary, held)}
        found["why"] = "; ".join(ruling.reasons) if ruling.verdict in ("FAIL", "INVALID") else ""
        if primary is not None:
            for name, reading in (("level", primary.level), ("pattern", primary.pattern), ("spread", primary.spread)):
                found |= _numbers(name, reading, self.rules.alpha)
            found |= _at_the_boundary(primary, found, self.rules.alpha)
        return found


def _part(scores: Scores, rows: Ints) -> Scores:
    pattern = None if scores.pattern is None else scores.pattern[rows]
    return Scores(scores.level[rows], pattern, scores.n_points)


def _at_the_boundary(judged: Judged, truth: Mapping[str, float], alpha: float) -> dict[str, bool]:
    """What the primary would say if the margin were just what the system holds."""
    shown = {"level": judged.level, "pattern": judged.pattern, "spread": judged.spread}
    margin = max(truth[f"dose_{name}"] for name, reading in shown.items() if reading is not None)
    if not 0 < margin < 1:
        return {}
    p = float(np.min(holm(np.array(list(judged.p_values(margin).values())))))
    return {"passes_at_dose": judged.inside(margin, alpha), "fails_at_dose": p < alpha / 2}


def calibrated(pool: Pool, profile: str, primary: Candidate, rng: np.random.Generator) -> Calibrated:
    """Draw and calibrate."""
    chosen = battery(pool, primary)
    pool = _asked(pool, chosen)
    rules, drawn = rules_of(pool, profile, primary), draw(pool, profile, rng)
    yardsticks = {attack: calibrate(attack, drawn.background, rules) for attack in chosen}
    # The blind controls speak of the request alone and break no verdict.
    _, broken = check_controls(None, drawn.background, yardsticks, rules)
    return Calibrated(pool, rules, drawn, yardsticks, broken)


def _systems(start: int, count: int, runs: int) -> Iterator[Ints]:
    """Positions of the runs of each system: single ones, or as many triples as there are."""
    for k in range(start, start + count - runs + 1, runs):
        yield np.arange(k, k + runs)


def replicate(pool: Pool, profile: str, seed: int, primary: Candidate, *, runs: int = 1) -> pd.DataFrame:
    """One audit of many systems under test.

    Args:
        pool: of the world.
        profile: quick, standard or certify.
        seed: of the draw.
        primary: the attack that decides.
        runs: runs of each system under test (3 where a request is too small for the spread).

    Returns:
        One row a system: group, verdict, readings with their bounds, what it truly holds, and the attainable margin.
    """
    rng = np.random.default_rng([seed, runs])
    audit = calibrated(pool, profile, primary, rng)
    chosen = _chosen(pool, audit.drawn, runs, rng)
    rows = np.concatenate([rows for _, rows in chosen])
    scores, start, found = audit.scores(rows), 0, []
    for group, members in chosen:
        for positions in _systems(start, len(members), runs):
            shares = pool.evidence.held[rows[positions]]
            if (shares != shares[0]).any():
                continue  # runs of one method hold the same units
            held = shares[0].astype(np.float64)
            found.append({"group": group, **audit.judge(scores, positions, held)})
        start += len(members)
    table = pd.DataFrame(found)
    scale = audit.primary.scale(audit.primary.scores.level, audit.primary.judged)
    return table.assign(
        profile=profile, audit=seed, margin=audit.rules.margin, attainable=audit.primary.attainable,
        sd_golds=scale.sd_golds, broken="; ".join(audit.broken),
    )  # fmt: skip
