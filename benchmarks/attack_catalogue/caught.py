"""Which attack catches which bad unlearner, which pairs of attacks suffice, and what top-20 lists alone still catch.

    python -m benchmarks.attack_catalogue.caught --store FOLDER [--backbone bpr-mf] [--regimes interaction user item]

Every attack of the catalogue reads every bad unlearner and honest deletions in one audit a regime: `gold`, retraining for 2/3
and 3/2 of the epochs, and in item requests retraining without the items in the catalogue. An attack catches a system where its own finding lies beyond the margin (leak or
over-forgotten, p < alpha / 2), whether it counts for a verdict or is a note. Attacks that catch an honest deletion are named
and prove nothing. Audits are kept in FOLDER/caught; systems in the store.
"""  # noqa: E501

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import cast

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before torch is loaded

from auditkit.api import audit_plan
from auditkit.contracts import Access, Attack
from auditkit.deletion import Regime, select
from auditkit.digests import digest_of
from auditkit.plan import ALL_ACCESS, Method, Plan, Settings, make_plan
from auditkit.plugins import attacks, unlearners
from auditkit.record import Finding, Record, SystemEntry
from auditkit.sources import source_digest
from auditkit.talk import Talk
from benchmarks.attack_catalogue.worlds import OTHER_EPOCHS
from benchmarks.bad_unlearners import KNOWN, applicable
from benchmarks.calibration.systems import CatalogueDeletion, OtherEpochs
from benchmarks.common import data_folder, read_implicit, recipe_of
from benchmarks.memory import keep_freed_memory

_LISTS = {flag.name for flag in (Access.LISTS, Access.NEW_USERS, Access.NEW_ITEMS)}


def _options() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--store", required=True, help="trained systems and finished audits; runs are resumable")
    made.add_argument("--backbone", default="bpr-mf")
    made.add_argument("--regimes", nargs="*", default=["interaction", "user", "item"])
    made.add_argument("--profile", default="standard", choices=["quick", "standard", "certify"])
    made.add_argument("--seed", type=int, default=0)
    return made.parse_args()


def _battery() -> list[Attack]:
    """One instance of every attack but those with references of their own, and those judged apart."""
    found = []
    for name in attacks():
        first = attacks()[name].variants()[0]
        every = attacks()[name].variants() if name in ("divergence", "item-extraction") else (first,)
        found += [attack for attack in every if not attack.release and not attack.needs.unlearned_references]
    return found


def plan_of(options: argparse.Namespace, regime: Regime) -> Plan:
    """The audit of one regime: all bad unlearners and the honest ones, under every attack."""
    data = read_implicit(data_folder(None, "ml-100k"))
    request = select(data, regime, share=0.05, seed=options.seed)
    recipe, settings = recipe_of(options.backbone), Settings(profile=options.profile, seed=options.seed)
    honest = [Method(unlearners()["gold"]())]
    honest += [Method(OtherEpochs(part), label=f"epochs x{part:.2f}") for part in OTHER_EPOCHS]
    if regime == "item" and options.backbone == "bpr-mf":
        honest.append(Method(CatalogueDeletion()))
    bare = make_plan(data, request, recipe, honest, settings=settings)
    methods = [*applicable(options.backbone, bare), *honest]
    return make_plan(data, request, recipe, methods, settings=settings, battery=_battery())


def _audited(options: argparse.Namespace, regime: Regime) -> Record:
    plan = plan_of(options, regime)
    assert plan.settings.access == ALL_ACCESS
    sources = [source_digest(type(x)) for x in (*(m.unlearner for m in plan.methods), *plan.battery)]
    key = digest_of(plan.digest, sources)[:16]
    folder = Path(options.store) / "caught" / f"{options.backbone}-{regime}-{options.seed}-{key}"
    if not (folder / "report.json").exists():
        with Talk() as talk:
            audit_plan(plan, out=folder, store=Path(options.store), progress=talk)
    return Record.read(folder / "report.json")


def name_of(finding: Finding) -> str:
    """An attack, with the parameter that tells its instances apart."""
    told = [str(finding.parameters[key]) for key in ("measure", "path") if key in finding.parameters]
    return f"{finding.attack} ({', '.join(told)})" if told else finding.attack


def caught_by(system: SystemEntry) -> dict[str, Finding]:
    """Attacks whose finding lies beyond the margin."""
    return {name_of(f): f for f in system.findings if f.section in ("leak", "over_forgotten")}


def smallest_sets(caught: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """The fewest attacks, up to three, that together catch every system; all such sets.

    Args:
        caught: system -> attacks that catch it.
    """
    known = sorted(set().union(*caught.values()))
    for size in (1, 2, 3):
        found = [one for one in combinations(known, size) if all(set(one) & by for by in caught.values())]
        if found:
            return found
    return []


def _table(record: Record, regime: str) -> list[str]:
    systems = [s for s in record.systems if s.role == "unlearned"]
    honest = [s for s in systems if s.method in ("gold", "other-epochs", "catalogue-deletion")]
    false = {name for s in honest for name in caught_by(s)}
    lines = [
        f"### {regime}", "", f"margin {record.policy.margin:g}; attacks that catch an honest deletion: "
        + (", ".join(sorted(false)) or "none") + " (left out of the table)", "",
        "| bad unlearner | verdict | depth | caught by attacks that count | by notes | by lists alone |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    everything: dict[str, set[str]] = {}
    counting: dict[str, set[str]] = {}
    for system in (s for s in systems if s not in honest):
        proof = {n: f for n, f in caught_by(system).items() if n not in false}
        everything[system.name] = set(proof)
        columns = [
            [n for n, f in proof.items() if f.counts], [n for n, f in proof.items() if not f.counts],
            [n for n, f in proof.items() if set(f.access) <= _LISTS],
        ]  # fmt: skip
        if KNOWN.get(system.name, 1.0) >= 1.5 * record.policy.margin:
            counting[system.name] = set(columns[0])
        depth = "-" if system.depth.value is None else f"{system.depth.value:.3f}"
        cells = " | ".join(", ".join(names) or "-" for names in columns)
        lines.append(f"| {system.name} | {system.verdict} | {depth} | {cells} |")
    missed = sorted(name for name, by in everything.items() if not by)
    return [*lines, "", f"Caught by no attack: {', '.join(missed) or 'none'}.", *_sets(counting)]


def _sets(caught: Mapping[str, set[str]]) -> list[str]:
    """What attacks that count catch of those that hold 1.5 margins or more, and how few of them do."""
    missed = sorted(name for name, by in caught.items() if not by)
    found = smallest_sets({name: by for name, by in caught.items() if by})
    shown = "; ".join(" + ".join(one) for one in found[:8]) + (f"; {len(found) - 8} more" if len(found) > 8 else "")
    return [
        f"Of those that hold 1.5 margins or more, caught by no attack that counts: {', '.join(missed) or 'none'}. "
        f"Fewest attacks that count and catch all others: {shown or 'more than three'}."
    ]


def main() -> None:
    """Print one table a regime."""
    keep_freed_memory()
    options = _options()
    made: list[Sequence[str]] = []
    for regime in options.regimes:
        made.append(_table(_audited(options, cast(Regime, regime)), f"{options.backbone}, {regime} requests"))
        print("\n".join(made[-1]), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
