"""The five steps of an audit, in one direction: build, probe, attack, judge, render."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from auditkit.builds import Progress, System, Workshop, build, make, silent
from auditkit.contracts import Attack, Probe, Recommender
from auditkit.controls import check_controls
from auditkit.costs import Cost
from auditkit.disclosure import epsilon_low
from auditkit.evidence import Case, Evidence, fix_points, make_case, observe
from auditkit.findings import Judged, attempt, calibrate_all
from auditkit.judge import Ruling, rule
from auditkit.plan import (
    Plan,
    Settings,
    audited_systems,
    background_systems,
    earlier_steps,
    plain_golds,
    their_original,
    unlearned_references,
)
from auditkit.record import Control, Finding, Record, Settle
from auditkit.release import release_findings
from auditkit.resolution import power_at_half, settle
from auditkit.serving import Serving, inspect_serving, served_finding
from auditkit.statistics.units import UnitTests
from auditkit.store import Store
from auditkit.unit_table import unit_table, unit_tests
from auditkit.usefulness import Usefulness, measure_usefulness
from auditkit.yardstick import Rules, Yardstick


class Terms(Protocol):
    """What judging needs of a plan; evidence that was kept says as much."""

    @property
    def battery(self) -> tuple[Attack, ...]:
        """The attacks."""

    @property
    def rules(self) -> Rules:
        """What is judged by."""

    @property
    def settings(self) -> Settings:
        """Of which seed and tuned share are read."""


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
    """One method under test with everything found of it.

    Attributes:
        method: its name.
        systems: one per run.
        observed: of the systems, and of those that a chain of requests went through before.
        along: evidence of these earlier systems; empty where the request came at once.
        findings, primary, ruling: what was concluded; `primary` None without a primary reading.
        tests: of its units, None without a primary reading.
        learned: evidence of the references that the method unlearned, where an attack asks for them.
    """

    method: str
    systems: tuple[System, ...]
    along: Evidence
    observed: Observations
    findings: list[Finding]
    primary: Judged | None
    tests: UnitTests | None
    ruling: Ruling
    learned: Evidence | None = None


@dataclass(frozen=True, eq=False)
class Bench:
    """What every audited system is laid on, complete before the first of them is probed.

    Attributes:
        yardsticks: attack -> calibrated on the units that are judged.
        refusals: attacks that do not apply, with the finding that says why.
        primary: yardstick of the primary attack, None where it does not apply.
        controls: checks of the audit itself.
        broken: control -> what it means for verdicts.
        settled_by: what would make the margin attainable in one run; None where it is, or where nothing can be said.
        tuned: the background's answers about the units that choices are tuned on; None with nothing tuned.
        background: its answers about the units that are judged.
        learned: evidence of the references that the method itself unlearned; None on the bench that methods share.
    """

    yardsticks: dict[Attack, Yardstick]
    refusals: dict[Attack, Finding]
    primary: Yardstick | None
    controls: list[Control]
    broken: dict[str, str]
    settled_by: Settle | None
    tuned: Evidence | None
    background: Evidence
    learned: Evidence | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """All that an audit found, before it is written as a Record; `plain` is None where the procedure is plain."""

    plan: Plan
    case: Case
    background: Observations
    bench: Bench
    audited: list[Audited]
    plain: Observations | None = None

    @property
    def plain_golds(self) -> Observations:
        """What utility and speedup are measured against: the plain Golds, which are the background's if it is plain."""
        return self.background if self.plain is None else self.plain

    def units(self) -> pd.DataFrame:
        """The per-unit table."""
        measured = {
            a.method: (a.primary, a.tests) for a in self.audited if a.primary is not None and a.tests is not None
        }
        return unit_table(self.case.units, self.bench.primary, measured)


def _observe(
    systems: Sequence[System],
    questions: Mapping[Probe, pd.DataFrame],
    case: Case,
    shop: Workshop,
    plan: Plan,
    progress: Progress,
) -> Observations:
    found = Observations()
    make(systems, shop, progress)

    def stream() -> Iterator[tuple[System, Recommender]]:
        for k, (system, model, cost) in enumerate(build(systems, shop, silent)):
            progress(f"probing {system.name}", k, len(systems))
            if cost is not None:
                found.costs[system.name] = cost
            if system.role not in ("reference", "unlearned reference"):
                found.usefulness[system.name] = measure_usefulness(model, case, plan.protocol)
                found.serving[system.name] = inspect_serving(model, case, plan.settings.access)
            yield system, model

    found.evidence = observe(stream(), questions, case, seed=plan.settings.seed)
    return found


def lay_bench(terms: Terms, case: Case | None, background: Evidence) -> Bench:
    """A yardstick for every attack that applies, the finding of every one that does not, and the controls."""
    judged_part = background.of_split("judge")
    shared = [a for a in terms.battery if not (a.needs.unlearned_references or a.release)]
    yardsticks, refusals = calibrate_all(shared, judged_part, terms.rules)
    controls, broken = check_controls(case, judged_part, yardsticks, terms.rules)
    primary = next((y for attack, y in yardsticks.items() if attack.name == terms.rules.primary), None)
    tuned = background.of_split("tune") if terms.settings.tune else None
    return Bench(
        yardsticks, refusals, primary, controls, broken, settle(primary) if primary else None, tuned, judged_part
    )


def _imitated(
    plan: Plan, bench: Bench, background: Observations, case: Case, questions: Mapping[Probe, pd.DataFrame],
    shop: Workshop, progress: Progress,
) -> Bench:  # fmt: skip
    """The bench with the check of its yardstick: that it imitates the owner's original, or that there is none."""
    if plan.yardstick == "none":
        return checked(bench, NO_YARDSTICK)
    if plan.yardstick != "here" or not plan.given.audited:
        return bench
    systems = their_original(plan)
    if not systems:
        return checked(bench, UNCHECKED)
    from auditkit.imitation import check_imitation  # it reads what this module observes

    theirs = _observe(systems, questions, case, shop, plan, progress)
    return checked(bench, check_imitation(theirs, background, bench.primary, case, plan.rules).control)


def checked(bench: Bench, yardstick: Control | None) -> Bench:
    """The bench with a check of the yardstick itself among its controls; None is no check."""
    if yardstick is None:
        return bench
    broken = {} if yardstick.ok else {yardstick.name: yardstick.consequence}
    return replace(bench, controls=[*bench.controls, yardstick], broken=bench.broken | broken)


NO_YARDSTICK = Control(
    name="yardstick", expected="there are systems whose truth is known to compare with", observed="there are none",
    ok=False, consequence="INCONCLUSIVE: there is no Gold to compare with, so nothing can be said of a dose; give the "
    "owner's own systems (auditkit plan-golds says which), or a recipe that imitates how theirs were trained",
)  # fmt: skip
UNCHECKED = Control(
    name="imitation", expected="the owner's original reads like the originals trained here",
    observed="the owner's original was not given", ok=False,
    consequence="INCONCLUSIVE: the Golds were trained here for a system made elsewhere, and nothing shows that they "
    "are trained as that was; give the original it started from (role original)",
)  # fmt: skip


def _own_bench(
    method: str, plan: Plan, background: Evidence, bench: Bench, questions: Mapping[Probe, pd.DataFrame], case: Case,
    shop: Workshop, progress: Progress,
) -> Bench:  # fmt: skip
    """The bench with the attacks that learn from systems which `method` itself unlearned."""
    own = [attack for attack in plan.battery if attack.needs.unlearned_references]
    chosen = next((m for m in plan.methods if m.name == method), None)
    learned = None
    if own and chosen is not None:
        asked = {probe: questions[probe] for attack in own for probe in attack.probes if probe in questions}
        count = max(attack.needs.unlearned_references for attack in own)
        learned = _observe(unlearned_references(plan, chosen, count), asked, case, shop, plan, progress).evidence
    return extend_bench(plan, bench, background, learned)


def extend_bench(terms: Terms, bench: Bench, background: Evidence, learned: Evidence | None) -> Bench:
    """The bench with the attacks that learn from systems which one method itself unlearned."""
    own = [attack for attack in terms.battery if attack.needs.unlearned_references]
    if not own:
        return bench
    known = background if learned is None else background.joined(learned)
    yardsticks, refusals = calibrate_all(own, known.of_split("judge"), terms.rules)
    return replace(bench, yardsticks=bench.yardsticks | yardsticks, refusals=bench.refusals | refusals, learned=learned)


def judge_method(
    method: str,
    systems: Sequence[System],
    observed: Observations,
    terms: Terms,
    bench: Bench,
) -> Audited:
    """Findings and verdict of one method, from what was observed of its systems."""
    findings, primary = list(bench.refusals.values()), None
    final = [k for k, s in enumerate(observed.evidence.systems) if s in systems]
    along = np.setdiff1d(np.arange(len(observed.evidence.systems)), final)
    evidence = observed.evidence.take(final)
    judged_part = evidence.of_split("judge")
    for attack, yardstick in bench.yardsticks.items():
        found, judged = attempt(attack, yardstick, judged_part, terms.rules)
        if judged is not None:
            bound = epsilon_low(yardstick, judged, evidence, bench.tuned, seed=terms.settings.seed)
            found = found.model_copy(update={"epsilon_low": bound})
        findings.append(found)
        primary = judged if found.primary else primary
    findings += release_findings(terms.battery, judged_part, bench.background, terms.rules)
    served = served_finding([observed.serving[s.name] for s in systems])
    findings = sorted([*findings, served], key=lambda f: not f.primary)
    direct = [f"{served.attack}: {served.note}"] if served.section == "leak" else []
    settled_by = bench.settled_by
    if bench.primary is not None and len(systems) > 1:
        settled_by = settle(bench.primary, len(systems))
    ruling = rule(findings, primary, bench.primary, terms.rules, len(systems), bench.broken, direct, settled_by)
    tests = unit_tests(bench.primary, primary) if bench.primary is not None and primary is not None else None
    earlier = observed.evidence.take(along).of_split("judge")
    return Audited(method, tuple(systems), earlier, observed, findings, primary, tests, ruling, bench.learned)


def run(plan: Plan, store: Store, *, progress: Progress = silent) -> Outcome:
    """Do the audit up to the judgement.

    The unlearned systems are probed last: by then data, margins, attacks and the attainable margin are fixed.
    """
    settings = plan.settings
    case = make_case(plan.data, plan.request, seed=settings.seed, tune=settings.tune)
    shop = Workshop(plan.data, plan.request, store, settings.device, plan.sources)
    questions = fix_points(plan.granted_probes, case, seed=settings.seed)
    known = [] if plan.yardstick == "none" else background_systems(plan)
    background = _observe(known, questions, case, shop, plan, progress)
    golds = plain_golds(plan)
    plain = _observe(golds, {}, case, shop, plan, progress) if golds else None
    bench = lay_bench(plan, case, background.evidence)
    bench = _imitated(plan, bench, background, case, questions, shop, progress)
    progress(announcement(plan, bench.primary), 1, 1)
    audited = []
    for method, systems in audited_systems(plan).items():
        chained = [step for system in systems for step in earlier_steps(system)]
        own = _own_bench(method, plan, background.evidence, bench, questions, case, shop, progress)
        observed = _observe([*chained, *systems], questions, case, shop, plan, progress)
        audited.append(judge_method(method, systems, observed, plan, own))
    return Outcome(plan, case, background, bench, audited, plain)


def announcement(plan: Plan, primary: Yardstick | None) -> str:
    """What is fixed before an unlearned system is probed, and how much the audit can see."""
    attainable = None if primary is None else primary.attainable
    shown = "none" if attainable is None else f"{attainable:.3f}"
    found = "none" if primary is None else f"{power_at_half(primary):.2f}"
    return (
        f"fixed before probing: configuration {plan.digest[:16]}, margin {plan.rules.margin:g}, attainable {shown}, "
        f"power to find half of the units {found} (at least {plan.rules.min_power:g})"
    )


def audit(
    plan: Plan, *, out: Path | None = None, store: Path = Path(".auditkit"), progress: Progress = silent
) -> Record:
    """Audit and conclude.

    Args:
        plan: from `make_plan` or a configuration file.
        out: folder for report.json, report.html, units.parquet and evidence.npz; None writes nothing.
        store: where builds lie; an interrupted audit goes on from there.
        progress: called with a text and how much of how much is done.
    """
    from auditkit.evidence_files import write_evidence
    from auditkit.rederive import kept_of
    from auditkit.summary import summarise
    from auditkit.writing import EVIDENCE, write_outputs

    outcome = run(plan, Store(store), progress=progress)
    record = summarise(outcome)
    if out is None:
        return record
    write_evidence(kept_of(outcome), out / EVIDENCE)
    return write_outputs(record, outcome.units(), out)
