"""The five steps of an audit, in one direction: build, probe, attack, judge, render."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from auditkit.builds import Progress, System, Workshop, build, make
from auditkit.contracts import Attack, Probe, Recommender
from auditkit.controls import check_controls
from auditkit.costs import Cost
from auditkit.data.dataset import Floats
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case, Evidence, fix_points, make_case, observe
from auditkit.findings import Judged, Yardstick, attempt, blank_finding, calibrate
from auditkit.judge import Ruling, rule
from auditkit.plan import Plan, audited_systems, background_systems
from auditkit.record import Control, Finding, Record
from auditkit.serving import Serving, inspect_serving, served_finding
from auditkit.store import Store
from auditkit.usefulness import Usefulness, measure_usefulness


def silent(text: str, done: int, total: int) -> None:
    """Progress that says nothing."""


@dataclass(eq=False)
class Observations:
    """What was read of systems in one pass over the live models.

    Attributes:
        evidence: answers to all probes.
        usefulness: system name -> ranking quality.
        serving: system name -> what it is served over.
        costs: system name -> cost.
    """

    usefulness: dict[str, Usefulness] = field(default_factory=dict)
    serving: dict[str, Serving] = field(default_factory=dict)
    costs: dict[str, Cost] = field(default_factory=dict)
    evidence: Evidence = field(init=False)


@dataclass(frozen=True, eq=False)
class Audited:
    """One method under test with everything found of it."""

    method: str
    systems: tuple[System, ...]
    observed: Observations
    findings: list[Finding]
    primary: Judged | None
    ruling: Ruling


@dataclass(frozen=True, eq=False)
class Outcome:
    """All that an audit found, before it is written as a Record."""

    plan: Plan
    case: Case
    background: Observations
    yardsticks: dict[Attack, Yardstick]
    refusals: dict[Attack, Finding]
    controls: list[Control]
    audited: list[Audited]


def _observe(
    systems: Sequence[System],
    questions: dict[Probe, pd.DataFrame],
    case: Case,
    shop: Workshop,
    seed: int,
    progress: Progress,
) -> Observations:
    found = Observations()
    make(systems, shop, progress)

    def stream() -> Iterator[tuple[System, Recommender]]:
        for k, (system, model, cost) in enumerate(build(systems, shop, silent)):
            progress(f"probing {system.name}", k, len(systems))
            if cost is not None:
                found.costs[system.name] = cost
            if system.role != "reference":
                found.usefulness[system.name] = measure_usefulness(model, case)
                found.serving[system.name] = inspect_serving(model, case)
            yield system, model

    found.evidence = observe(stream(), questions, case, seed=seed)
    return found


def _calibrate(plan: Plan, background: Evidence) -> tuple[dict[Attack, Yardstick], dict[Attack, Finding]]:
    """A yardstick for every attack that applies, and the finding of every one that does not."""
    yardsticks: dict[Attack, Yardstick] = {}
    refusals: dict[Attack, Finding] = {}
    for attack in plan.battery:
        try:
            yardsticks[attack] = calibrate(attack, background, plan.rules)
        except NotApplicableError as reason:
            refusals[attack] = blank_finding(attack, plan.rules, section="not_applicable", note=str(reason))
        except Exception as error:  # an attack is a plug-in: whatever it raises becomes its finding and bars a PASS
            refusals[attack] = blank_finding(
                attack, plan.rules, section="error", note=f"{type(error).__name__}: {error}"
            )
    return yardsticks, refusals


def _judge(
    method: str,
    systems: Sequence[System],
    observed: Observations,
    plan: Plan,
    yardsticks: dict[Attack, Yardstick],
    refusals: dict[Attack, Finding],
    broken: dict[str, str],
) -> Audited:
    findings, primary, primary_yardstick = list(refusals.values()), None, None
    for attack, yardstick in yardsticks.items():
        found, judged = attempt(attack, yardstick, observed.evidence, plan.rules)
        findings.append(found)
        if found.primary:
            primary, primary_yardstick = judged, yardstick
    served = served_finding([observed.serving[s.name] for s in systems])
    findings = sorted([*findings, served], key=lambda f: not f.primary)
    direct = [f"{served.attack}: {served.note}"] if served.section == "leak" else []
    ruling = rule(findings, primary, primary_yardstick, plan.rules, len(systems), broken, direct)
    return Audited(method, tuple(systems), observed, findings, primary, ruling)


def run(plan: Plan, store: Store, *, progress: Progress = silent) -> Outcome:
    """Do the audit up to the judgement.

    The unlearned systems are probed last: by then data, margins, attacks and the attainable margin are fixed.
    """
    seed = plan.settings.seed
    case = make_case(plan.data, plan.request, seed=seed)
    shop = Workshop(plan.data, plan.request, store, plan.settings.device, plan.given)
    questions = fix_points([probe for attack in plan.battery for probe in attack.probes], case, seed=seed)
    background = _observe(background_systems(plan), questions, case, shop, seed, progress)
    yardsticks, refusals = _calibrate(plan, background.evidence)
    controls, broken = check_controls(case, background.evidence, yardsticks, plan.rules)
    _announce(plan, yardsticks, progress)
    audited = []
    for method, systems in audited_systems(plan).items():
        observed = _observe(systems, questions, case, shop, seed, progress)
        audited.append(_judge(method, systems, observed, plan, yardsticks, refusals, broken))
    return Outcome(plan, case, background, yardsticks, refusals, controls, audited)


def _announce(plan: Plan, yardsticks: dict[Attack, Yardstick], progress: Progress) -> None:
    attainable = next((y.attainable for a, y in yardsticks.items() if a.name == plan.rules.primary), None)
    shown = "none" if attainable is None else f"{attainable:.3f}"
    progress(
        f"fixed before probing: configuration {plan.digest[:16]}, margin {plan.rules.margin:g}, attainable {shown}",
        1,
        1,
    )


def unit_table(outcome: Outcome) -> pd.DataFrame:
    """One row a unit of the case, with the primary attack's score of every system under test (mean over runs)."""
    table = outcome.case.units.copy()
    table.insert(0, "unit", np.arange(len(table)))
    primary = next((y for a, y in outcome.yardsticks.items() if a.name == outcome.plan.rules.primary), None)
    if primary is not None:
        background = primary.background
        for role in ("original", "gold"):
            table[f"score:{role}"] = primary.scores.level[background.rows(role)].mean(0)
    for found in outcome.audited:
        if found.primary is not None:
            column: Floats = np.full(len(table), np.nan)
            column[found.primary.units] = found.primary.runs.mean(0)
            table[f"score:{found.method}"] = column
    return table


def audit(
    plan: Plan, *, out: Path | None = None, store: Path = Path(".auditkit"), progress: Progress = silent
) -> Record:
    """Audit and conclude.

    Args:
        plan: from `make_plan` or a configuration file.
        out: folder for report.json, report.html and units.parquet; None writes nothing.
        store: where builds lie; an interrupted audit goes on from there.
        progress: called with a text and how much of how much is done.
    """
    from auditkit.summary import summarise
    from auditkit.writing import write_outputs

    outcome = run(plan, Store(store), progress=progress)
    record = summarise(outcome)
    return record if out is None else write_outputs(record, unit_table(outcome), out)
