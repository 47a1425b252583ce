"""Every unlearning method on one backbone and data set: how deep it forgets, what it costs in quality and time.

    python -m benchmarks.unlearners --backbone bpr-mf --store FOLDER --out FOLDER
    python -m benchmarks.unlearners --backbone lightgcn --methods gold sisa ifru --regimes user
    python -m benchmarks.unlearners --data-name tiktok --backbone mgcn --epochs 5 --learning-rate .005 --profile quick

Methods whose training is plain are audited together; each sharded one apart, by Golds of its own procedure. Utility
and speedup are against plain Golds throughout. `--ablations` adds `tru` with one of its interventions left out at a
time. Systems lie in the store and reports under --out: what was done by the same sources is not done again.
`--table-only` prints the reports that are there.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before torch is loaded

from auditkit.api import audit_plan
from auditkit.builds import Workshop
from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset
from auditkit.deletion import DeletionRequest, Regime, select
from auditkit.errors import ConfigurationError
from auditkit.plan import Method, Plan, Settings, audited_systems, make_plan
from auditkit.plan_checks import refusal
from auditkit.plugins import unlearners
from auditkit.record import Estimate, Record, SystemEntry
from auditkit.store import Store
from auditkit.talk import Talk
from auditkit.unlearners.tru import TRU
from benchmarks.common import data_folder, read_implicit, recipe_of
from benchmarks.memory import keep_freed_memory

COLUMNS = (
    "request", "method", "label", "verdict", "depth", "level", "pattern", "spread", "Recall@20", "to Gold",
    "NDCG@20", "to Gold", "s a request", "speedup", "s to train",
)  # fmt: skip

ABLATIONS = {"gate": TRU(gate=False), "scaling": TRU(scaling=False), "isolation": TRU(isolation=False)}


def _options() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data-name", default="ml-100k", help="folder under AUDITKIT_DATA")
    made.add_argument("--backbone", default="bpr-mf")
    made.add_argument("--epochs", type=int, help="a fixed number of passes (default: the benchmarks' recipe)")
    made.add_argument("--learning-rate", type=float, help="of the training (default: the benchmarks' recipe)")
    made.add_argument("--methods", nargs="*", help="default: all but the controls")
    made.add_argument("--ablations", action="store_true", help="also tru without each of its interventions")
    made.add_argument("--regimes", nargs="*", default=["interaction", "user", "item"])
    made.add_argument("--share", type=float, default=0.05, help="of the candidates that a request names")
    made.add_argument("--runs", type=int, default=1, help="of each method; 3 where no spread is shown")
    made.add_argument("--profile", default="standard", choices=["quick", "standard", "certify"])
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--device", default="cpu")
    made.add_argument("--store", default=".auditkit", help="trained systems; runs are resumable")
    made.add_argument("--out", default=".auditkit/unlearners", help="folder for the reports")
    made.add_argument("--table-only", action="store_true", help="print the reports that are there, audit nothing")
    return made.parse_args()


def _methods(options: argparse.Namespace) -> list[Method]:
    known = unlearners()
    chosen = options.methods or [name for name in known if known[name].label != "control"]
    made = [Method(known[name](), options.runs) for name in chosen]
    if options.ablations:
        made += [Method(tru, options.runs, f"tru without {part}") for part, tru in ABLATIONS.items()]
    return made


def _recipe(options: argparse.Namespace) -> Recipe:
    plain = recipe_of(options.backbone)
    asked = {"epochs": options.epochs, "learning_rate": options.learning_rate}
    fit = {name: value for name, value in asked.items() if value is not None}
    return Recipe.of(options.backbone, plain.config, {**vars(plain.fit), **fit})


def _request(data: Dataset, regime: Regime, options: argparse.Namespace) -> DeletionRequest:
    """Items go with their content."""
    withdrawn = data.modalities if regime == "item" else ()
    return select(data, regime, share=options.share, seed=options.seed, modalities=withdrawn)


def _groups(methods: list[Method]) -> Iterator[tuple[str, list[Method]]]:
    """What is audited together: the plain methods, and each sharded one alone."""
    plain = [m for m in methods if not m.unlearner.trains]
    if plain:
        yield "plain", plain
    yield from ((m.name, [m]) for m in methods if m.unlearner.trains)


def _plan(data: Dataset, regime: Regime, methods: list[Method], options: argparse.Namespace) -> Plan | None:
    """The audit of those that can do it; the others say why not."""
    request, recipe = _request(data, regime, options), _recipe(options)
    able = []
    for method in methods:
        reason = refusal(method.unlearner, recipe, request)
        if reason:
            print(f"{regime}: {method.name} {reason}", flush=True)
        else:
            able.append(method)
    settings = Settings(profile=options.profile, seed=options.seed, device=options.device)
    return make_plan(data, request, recipe, able, settings=settings) if able else None


def _folder(options: argparse.Namespace, regime: str, group: str) -> Path:
    what = f"{options.data_name}-{options.backbone}-{options.profile}-{options.share:g}-seed{options.seed}"
    return Path(options.out) / what / regime / group


def _is_done(report: Path, plan: Plan, store: Path) -> bool:
    """Whether the report is of this configuration and of systems made by the present sources."""
    if not report.is_file():
        return False
    record, shop = Record.read(report), Workshop(plan.data, plan.request, Store(store), plan.settings.device)
    wanted = {name: [shop.address(s.build) for s in runs] for name, runs in audited_systems(plan).items()}
    found = {s.name: s.digests for s in record.systems if s.role == "unlearned"}
    return record.config_digest == plan.digest and found == wanted


def audit(data: Dataset, regime: Regime, group: str, methods: list[Method], options: argparse.Namespace) -> None:
    """One audit, or nothing where its report is there."""
    plan, folder = _plan(data, regime, methods, options), _folder(options, regime, group)
    if plan is None or _is_done(folder / "report.json", plan, Path(options.store)):
        return
    start = time.perf_counter()
    with Talk() as talk:
        record = audit_plan(plan, out=folder, store=Path(options.store), progress=talk)
    seconds = time.perf_counter() - start
    print(f"{regime}, {group}: attainable margin {record.attainable_margin}; {seconds:.0f} s", flush=True)


def _number(value: float | None, digits: int = 3) -> str:
    if value is None:
        return "-"
    written = f"{value:.{digits}f}"
    return written.replace("0.", ".", 1) if abs(value) < 1 else written


def _with_ends(estimate: Estimate, digits: int = 3) -> str:
    if estimate.low is None or estimate.high is None:
        return _number(estimate.value, digits)
    return f"{_number(estimate.value, digits)} [{_number(estimate.low, digits)}, {_number(estimate.high, digits)}]"


def _row(regime: str, system: SystemEntry, trained: float | None) -> str:
    quality: list[str] = []
    for name in ("recall@20", "ndcg@20"):
        measured = system.utility[name]
        quality += [_number(measured.value, 4), _signed(measured.delta_vs_gold.value)]
    cells = [
        regime, f"`{system.name}`", system.label, system.verdict or "", _with_ends(system.depth),
        _number(system.residual_dose.value), _number(system.pattern.value), _number(system.spread.value), *quality,
        _number(system.cost.unlearn_s, 2), _with_ends(system.speedup_vs_gold, 1), _number(trained, 2),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def table(options: argparse.Namespace, groups: list[str]) -> Iterator[str]:
    """The reports that are there as lines of a Markdown table, the deepest method first in each regime."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{'---|' * len(COLUMNS)}"
    for regime in options.regimes:
        rows: list[tuple[float, str]] = []
        for group in groups:
            report = _folder(options, regime, group) / "report.json"
            if report.is_file():
                rows += _rows(regime, Record.read(report), group != "plain")
        yield from (line for _, line in sorted(rows, key=lambda row: -row[0]))


def _rows(regime: str, record: Record, sharded: bool) -> list[tuple[float, str]]:
    """Depth and line of each audited system; training time of the procedure: Gold's own where it is plain."""
    source = "original" if sharded else "Golds"
    trained = next(s.cost.train_s for s in record.systems if s.name == source)
    audited = [s for s in record.systems if s.role == "unlearned"]
    return [(s.depth.value if s.depth.value is not None else -99.0, _row(regime, s, trained)) for s in audited]


def main() -> None:
    """Audit what is missing and print the table."""
    options = _options()
    keep_freed_memory()
    groups = list(_groups(_methods(options)))
    if not options.table_only:
        data = read_implicit(data_folder(None, options.data_name))
        for regime in options.regimes:
            for group, methods in groups:
                try:
                    audit(data, cast(Regime, regime), group, methods, options)
                except ConfigurationError as error:
                    sys.exit(f"{regime}, {group}: {error}")
    print(f"{options.backbone}, {options.data_name}, {options.profile}, requests of {options.share:g}")
    print("\n".join(table(options, [group for group, _ in groups])))


if __name__ == "__main__":
    main()
