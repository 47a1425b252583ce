"""One audit up to its judgement, and what it says of any further system: the same rules that the kit judges by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from auditkit.builds import System, Train, Unlearn, Workshop, build
from auditkit.contracts import Attack, Unlearner
from auditkit.controls import check_controls
from auditkit.data.dataset import Floats
from auditkit.deletion import EVERYBODY, NOBODY
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case, Evidence, fix_points, make_case, observe
from auditkit.findings import Judged, attempt
from auditkit.judge import rule
from auditkit.plan import Plan, background_systems, seed_of
from auditkit.record import Verdict
from auditkit.statistics.multiplicity import holm
from auditkit.statistics.roc import auc
from auditkit.store import Store
from auditkit.talk import Talk
from auditkit.yardstick import Rules, Yardstick, calibrate
from benchmarks.field_habits.pairs import Pairs, answers, choose_pairs


@dataclass(frozen=True)
class Ours:
    """What the audit says of one system.

    Attributes:
        name: of the system.
        verdict: by the rule.
        auc: of its unit scores against the Golds' under the primary attack.
        judged: readings of the primary attack.
        beyond: its statistics that lie beyond the margin for certain, as the judge corrects them.
    """

    name: str
    verdict: Verdict
    auc: float
    judged: Judged
    beyond: tuple[str, ...]

    @property
    def values(self) -> tuple[float, float, float]:
        """Level, pattern and spread on the dose scale; NaN where one does not apply."""
        pattern, spread = self.judged.pattern, self.judged.spread
        return (
            self.judged.level.value,
            pattern.value if pattern else float("nan"),
            spread.value if spread else float("nan"),
        )

    @property
    def excluded(self) -> bool:
        """The two-sided 95% interval of the level excludes Gold."""
        low, high = self.judged.level.bounds(0.025)
        return low > 0 or high < 0


def _beyond(judged: Judged, rules: Rules) -> tuple[str, ...]:
    p_values = judged.p_values(rules.margin)
    corrected = holm(np.array(list(p_values.values())))
    return tuple(name for name, p in zip(p_values, corrected, strict=True) if p < rules.alpha / 2)


def _judging(plan: Plan) -> list[Attack]:
    """The attacks that can PASS or FAIL a system; notes are left out."""
    return [a for a in plan.battery if a.name == plan.rules.primary or plan.request.regime in a.fails_in]


def _yardsticks(plan: Plan, background: Evidence) -> dict[Attack, Yardstick]:
    found = {}
    for attack in _judging(plan):
        try:
            found[attack] = calibrate(attack, background, plan.rules)
        except NotApplicableError:
            continue
    return found


class Study:
    """An audit with its background trained, probed and calibrated.

    Attributes:
        plan, case, shop: what is audited and where systems are built.
        pairs: what the habits ask about.
        yardsticks: of the primary attack and of all that can FAIL a system.
        primary: the yardstick that alone can PASS.
        broken: controls that failed, as the judge takes them.
        talk: progress.
    """

    def __init__(self, plan: Plan, store: Path, talk: Talk) -> None:
        self.plan, self.talk, seed = plan, talk, plan.settings.seed
        self.case: Case = make_case(plan.data, plan.request, seed=seed)
        self.shop = Workshop(plan.data, plan.request, Store(store), plan.settings.device)
        self.pairs: Pairs = choose_pairs(plan.data, plan.request, seed=seed)
        self._questions = fix_points([p for attack in _judging(plan) for p in attack.probes], self.case, seed=seed)
        self.background = self.observe(background_systems(plan))
        self.yardsticks = _yardsticks(plan, self.background)
        self.primary = next(y for a, y in self.yardsticks.items() if a.name == plan.rules.primary)
        self.broken = check_controls(self.case, self.background, self.yardsticks, plan.rules)[1]

    def observe(self, systems: Sequence[System]) -> Evidence:
        """Build and probe systems."""
        stream = ((system, model) for system, model, _ in build(systems, self.shop, self.talk))
        return observe(stream, self._questions, self.case, seed=self.plan.settings.seed)

    def answers(self, systems: Sequence[System]) -> dict[str, Floats]:
        """Signals at the habits' pairs, float64 [n_systems, n_pairs] each."""
        return answers(systems, self.shop, self.pairs, self.talk)

    def judge(self, systems: Sequence[System]) -> list[Ours]:
        """What the audit says of each system, one run each."""
        evidence = self.observe(systems)
        return [self._judge(system.name, evidence.take([k])) for k, system in enumerate(systems)]

    def _judge(self, name: str, evidence: Evidence) -> Ours:
        rules = self.plan.rules
        read = {a: attempt(a, y, evidence, rules) for a, y in self.yardsticks.items()}
        judged = read[self.primary.attack][1]
        assert judged is not None
        findings = [found for found, _ in read.values()]
        ruling = rule(findings, judged, self.primary, rules, len(evidence.systems), self.broken)
        golds = self.primary.rows(self.primary.scores.level, "gold", judged.units)
        area = auc(judged.runs.mean(0), golds.ravel())
        return Ours(name, ruling.verdict, float("nan") if area is None else area, judged, _beyond(judged, rules))

    def trained(self, name: str, count: int, *, original: bool = False) -> list[System]:
        """Further Golds (or originals) with seeds of their own, in no pool."""
        seeds = [seed_of(self.plan.settings.seed, f"habits {name}", k) for k in range(count)]
        erased = NOBODY if original else EVERYBODY
        return [
            System(f"{name} {k + 1}", "control", Train(self.plan.trained, erased, seed)) for k, seed in enumerate(seeds)
        ]

    def unlearned(self, name: str, unlearner: Unlearner, run: int = 0) -> System:
        """The first original after unlearning; equal runs draw alike, so that more passes go on from fewer."""
        parent = Train(self.plan.trained, NOBODY, seed_of(self.plan.settings.seed, "original", 0))
        return System(
            name, "unlearned", Unlearn(parent, unlearner, EVERYBODY, seed_of(self.plan.settings.seed, "habits", run))
        )


def verdict_counts(ours: Sequence[Ours]) -> str:
    """Such as `57 PASS, 3 INCONCLUSIVE`."""
    names, counts = np.unique([one.verdict for one in ours], return_counts=True)
    return ", ".join(f"{count} {name}" for name, count in sorted(zip(names, counts, strict=True), key=lambda x: -x[1]))
