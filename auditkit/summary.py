"""From an outcome to the Record: nothing is decided here, only put into words and fields."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from auditkit.bills import cost_entry, speedup
from auditkit.builds import Build, Given, System, Unlearn, Workshop
from auditkit.curves import curves, rungs
from auditkit.deciles import deciles
from auditkit.digests import canonical
from auditkit.exposed import exposures
from auditkit.flow import Audited, Observations, Outcome
from auditkit.plan import Plan
from auditkit.record import (
    EXIT_CODES,
    BackboneEntry,
    DatasetEntry,
    Environment,
    Estimate,
    Policy,
    Protocol,
    Record,
    RequestEntry,
    Role,
    SystemEntry,
    UtilityEstimate,
    worst,
)
from auditkit.resolution import power_at_half
from auditkit.retained import retained
from auditkit.statistics.dose import standard_error
from auditkit.statistics.intervals import t_quantile
from auditkit.store import Store
from auditkit.unit_table import summarise_units
from auditkit.yardstick import Yardstick

LIMITS = (
    "Behaviour was compared with systems retrained without the data; nothing here proves that no trace exists, "
    "only how large one could be.",
    "A dishonest provider who trains Golds and subtracts the whole memory pattern passes any test of behaviour.",
    "An exact Gold itself reveals the deletion to whoever holds the models before and after; that is not judged.",
    "Intervals are over training seeds for this data set, request and recipe; they say nothing about other requests.",
    "Copies of the data outside the audited model (backups, logs, other models) were not looked at.",
)
_PACKAGES = ("auditkit", "torch", "numpy", "scipy", "pandas", "numba", "scikit-learn")


def summarise(outcome: Outcome) -> Record:
    """The Record of an audit."""
    plan = outcome.plan
    verdict = worst([a.ruling.verdict for a in outcome.audited])
    primary = outcome.bench.primary
    return Record(
        generator=f"auditkit {_version('auditkit')}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        config_digest=plan.digest,
        verdict=verdict,
        reasons=all_reasons(outcome.audited),
        exit_code=EXIT_CODES[verdict],
        policy=_policy(plan, primary),
        dataset=_dataset(plan),
        request=_request(outcome, int(primary.judged.sum()) if primary else 0),
        backbone=_backbone(plan),
        yardstick=plan.yardstick,
        protocol=Protocol(**plan.protocol.words()),
        attainable_margin=primary.attainable if primary else None,
        systems=_systems(outcome),
        controls=outcome.bench.controls,
        settle=outcome.bench.settled_by,
        retained=retained(
            outcome.case, outcome.background.evidence, {a.method: a.observed.evidence for a in outcome.audited}
        ),
        ladder=rungs(outcome),
        curves=curves(outcome),
        limits=[*LIMITS, *_other_training(plan, primary), *_made_elsewhere(plan), _unit_limit(plan)],
        environment=_environment(plan),
    )


def _backbone(plan: Plan) -> BackboneEntry:
    recipe = plan.recipe
    if recipe is None:
        return BackboneEntry(name="made elsewhere", hyperparameters={})
    return BackboneEntry(name=recipe.backbone, hyperparameters=dict(recipe.config), fit=asdict(recipe.fit))


def all_reasons(audited: Sequence[Audited]) -> list[str]:
    """The reasons of all verdicts, those of the worst first."""
    worst_first = sorted(audited, key=lambda a: ("FAIL", "INVALID", "INCONCLUSIVE", "PASS").index(a.ruling.verdict))
    return [f"{a.method}: {a.ruling.verdict} - {reason}" for a in worst_first for reason in a.ruling.reasons]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _policy(plan: Plan, primary: Yardstick | None) -> Policy:
    s = plan.settings
    return Policy(
        profile=s.profile, margin=plan.rules.margin, alpha=plan.rules.alpha, primary=plan.rules.primary,
        golds=0 if plan.yardstick == "none" else s.golds or 0,
        references=0 if plan.yardstick == "none" else s.references or 0, digest=plan.digest,
        min_power=plan.rules.min_power,
        power=power_at_half(primary) if primary else None, tune=s.tune,
    )  # fmt: skip


def _dataset(plan: Plan) -> DatasetEntry:
    data = plan.data
    return DatasetEntry(
        name=data.name, n_users=data.n_users, n_items=data.n_items, digest=data.digest,
        modalities=list(data.modalities),
        n_interactions=len(data.train) + len(data.valid) + len(data.test),
    )  # fmt: skip


def _request(outcome: Outcome, n_judged: int) -> RequestEntry:
    request, data = outcome.plan.request, outcome.plan.data
    return RequestEntry(
        regime=request.regime, selection=request.selection, n_units=request.n_units, digest=request.digest,
        n_interactions=len(request.forget_set(data)), n_units_without_data=request.check(data), n_units_judged=n_judged,
        n_units_tune=int((outcome.case.forget & ~outcome.case.judged).sum()),
    )  # fmt: skip


def _other_training(plan: Plan, primary: Yardstick | None) -> list[str]:
    """Decoys excuse what pairs that nobody was trained on share; user and item requests may have too few of them."""
    if plan.request.regime not in ("user", "item") or (primary is not None and primary.decoys is not None):
        return []
    return [
        "Golds are trained for as long as the recipe says. This audit has no decoys (test pairs of retained users or "
        "items, asked of fresh accounts) that would show what another length of training moves. A method that honestly "
        "retrains for longer or shorter may read far from Gold, above all with graph backbones; a FAIL may say "
        "that it trains otherwise than the Golds did, not that it remembers. Train Golds as the method trains."
    ]


_WHOSE = {
    "owner": "Originals, Golds, references and controls were made by the owner of the audited systems. That each was "
    "trained on the data it was asked to be trained on, and on no more, is the owner's word.",
    "none": "There is no Gold to compare with, so nothing here says how much is left of what was to be forgotten; what "
    "is shown is how it ranks as served.",
    "here": "The Golds were trained here by a recipe that imitates how the owner's systems were trained; the control "
    "`imitation` says how near it comes.",
}


def _made_elsewhere(plan: Plan) -> list[str]:
    if not plan.given.audited:
        return []
    return [
        _WHOSE[plan.yardstick],
        "Systems made elsewhere are what was given: nothing shows that the same systems are served to users.",
    ]


def _unit_limit(plan: Plan) -> str:
    kinds = {
        "interaction": "single interactions",
        "user": "whole users",
        "item": "whole items",
        "modality": "features of items",
    }
    reach = ", ".join(sorted((flag.name or "").lower().replace("_", " ") for flag in plan.rules.allowed))
    return f"Unit of erasure: {kinds[plan.request.regime]}. Access of the auditor: {reach}."


def _environment(plan: Plan) -> Environment:
    return Environment(
        python=platform.python_version(), packages={name: _version(name) for name in _PACKAGES},
        device=plan.settings.device, git=_git(),
    )  # fmt: skip


def _git() -> str | None:
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() or None


def _entry(
    name: str, role: Role, systems: Sequence[System], observed: Observations, outcome: Outcome
) -> dict[str, Any]:
    builds = [s.build for s in systems]
    shop = Workshop(outcome.plan.data, outcome.plan.request, Store(Path()), outcome.plan.settings.device)
    evidence = observed.evidence.take([observed.evidence.systems.index(s) for s in systems])
    return {
        "name": name, "role": role, "method": systems[0].method, "seeds": [getattr(b, "seed", 0) for b in builds],
        "procedure": systems[0].procedure, "digests": [shop.address(b) for b in builds],
        "utility": _utility(systems, observed, outcome), "cost": cost_entry(systems, observed.costs),
        "source": _source(builds, outcome.plan), "exposure": exposures(evidence, outcome.plan.data.n_items),
    }  # fmt: skip


def _source(builds: Sequence[Build], plan: Plan) -> str:
    """Where the first of some systems made elsewhere came from, and how many more did."""
    texts = [plan.sources[b.source].text for b in builds if isinstance(b, Given) and b.source in plan.sources]
    return "" if not texts else texts[0] if len(texts) == 1 else f"{texts[0]} and {len(texts) - 1} more"


def _systems(outcome: Outcome) -> list[SystemEntry]:
    background = outcome.background
    entries = [_audited_entry(a, outcome) for a in outcome.audited]
    roles: tuple[tuple[str, Role], ...] = (("original", "original"), ("Golds", "gold"))
    for name, role in roles:
        members = [s for s in background.evidence.systems if s.role == role]
        if not members:
            continue
        entries.append(SystemEntry(**_entry(name, role, members, background, outcome)))
    if outcome.plain is not None:
        entries.append(
            SystemEntry(**_entry("plain Golds", "plain gold", outcome.plain.evidence.systems, outcome.plain, outcome))
        )
    return entries


def _audited_entry(found: Audited, outcome: Outcome) -> SystemEntry:
    first = found.systems[0].build
    unlearner = first.unlearner if isinstance(first, Unlearn) else None
    primary = next((f for f in found.findings if f.primary), None)
    parameters = canonical(unlearner) if unlearner else {}
    parameters.pop("name", None)
    shown = (
        {"residual_dose": primary.residual_dose, "pattern": primary.pattern, "spread": primary.spread}
        if primary
        else {}
    )
    return SystemEntry(
        **_entry(found.method, "unlearned", found.systems, found.observed, outcome),
        label=unlearner.label if unlearner else "made elsewhere", parameters=parameters, verdict=found.ruling.verdict,
        reasons=found.ruling.reasons, depth=found.ruling.depth, findings=found.findings,
        speedup_vs_gold=speedup(found, outcome), **shown, **_beneath(found, outcome.bench.primary),
    )  # fmt: skip


def _beneath(found: Audited, primary: Yardstick | None) -> dict[str, Any]:
    """What lies beneath the average: units one by one, and in groups."""
    if primary is None or found.primary is None or found.tests is None:
        return {}
    n_golds = len(primary.background.rows("gold"))
    return {"unit_tests": summarise_units(found.tests, n_golds), "deciles": deciles(primary, found.primary)}


def _per_run(systems: Sequence[System], observed: Observations) -> dict[str, list[float]]:
    rows = [observed.usefulness[s.name] for s in systems if s.name in observed.usefulness]
    found = {name: [row.metrics[name] for row in rows] for name in (rows[0].metrics if rows else {})}
    forgotten = [row.forget_recall for row in rows if row.forget_recall is not None]
    return {**found, "forget_recall@20": forgotten} if forgotten else found


def _utility(systems: Sequence[System], observed: Observations, outcome: Outcome) -> dict[str, UtilityEstimate]:
    """Means over runs; intervals and differences over training seeds, from the scatter of the Golds."""
    plain = outcome.plain_golds
    yardstick = _per_run([s for s in plain.evidence.systems if s.role == "gold"], plain)
    found = {}
    for name, values in _per_run(systems, observed).items():
        mine = np.array(values)
        if not yardstick:
            found[name] = UtilityEstimate(value=float(mine.mean()), n_systems=len(mine), note="there is no Gold")
            continue
        theirs = np.array(yardstick[name])
        sd = max(float(theirs.std(ddof=1)), 1e-12)
        delta = Estimate(note="the Golds themselves")
        if observed is not plain or systems[0].role != "gold":
            error, degrees = standard_error(sd, len(theirs), mine)
            half, difference = t_quantile(degrees, 0.95) * error, float(mine.mean() - theirs.mean())
            delta = Estimate(
                value=difference, low=difference - half, high=difference + half, confidence=0.95,
                method="t interval over training seeds", n_systems=len(mine),
            )  # fmt: skip
        half = t_quantile(len(theirs) - 1, 0.95) * sd / np.sqrt(len(mine))
        mean = float(mine.mean())
        found[name] = UtilityEstimate(
            value=mean, low=mean - half, high=mean + half, confidence=0.95, n_systems=len(mine),
            method="mean over runs; t interval with the Golds' seed scatter", delta_vs_gold=delta,
        )  # fmt: skip
    return found
