"""What attacks find that look at the method itself: traces it leaves (`u-lira`), and what releasing both models gives away.

    python -m benchmarks.attack_catalogue.own --store FOLDER [--methods gold finetune reverse-bpr mmrecun] [--profile standard]

Interaction requests, BPR-MF on ml-100k. `u-lira` trains 24 systems a method and lets the method forget a third of the units
in each; `snapshots` and `reconstruction` read the original beside the unlearned system, and an exact Gold is found as well.
"""  # noqa: E501

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before torch is loaded

from auditkit.api import audit_plan
from auditkit.contracts import Access
from auditkit.deletion import select
from auditkit.plan import ALL_ACCESS, Method, Settings, make_plan
from auditkit.plugins import unlearners
from auditkit.record import Estimate, Record
from auditkit.talk import Talk
from benchmarks.attack_catalogue.caught import name_of
from benchmarks.common import data_folder, read_implicit, recipe_of
from benchmarks.memory import keep_freed_memory

_ATTACKS = ("lira-linear", "u-lira", "snapshots", "reconstruction")


def _options() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--store", required=True, help="trained systems; runs are resumable")
    made.add_argument("--methods", nargs="*", default=["gold", "finetune", "reverse-bpr", "mmrecun"])
    made.add_argument("--profile", default="standard", choices=["quick", "standard", "certify"])
    return made.parse_args()


def audit(options: argparse.Namespace) -> Record:
    """One audit of all methods."""
    data = read_implicit(data_folder(None, "ml-100k"))
    settings = Settings(profile=options.profile, attacks=_ATTACKS, access=ALL_ACCESS | Access.SNAPSHOTS)
    methods = [Method(unlearners()[name]()) for name in options.methods]
    plan = make_plan(data, select(data, "interaction", share=0.05), recipe_of("bpr-mf"), methods, settings=settings)
    with Talk() as talk:
        return audit_plan(plan, out=None, store=Path(options.store), progress=talk)


def _shown(estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    ends = "" if estimate.low is None else f" ({estimate.low:.3f} to {estimate.high:.3f})"
    return f"{estimate.value:.3f}{ends}"


def main() -> None:
    """Print one row per method and attack."""
    keep_freed_memory()
    record = audit(_options())
    print("| method | attack | section | dose | attainable margin | AUC | TPR at 1% | note |")
    print("|---|---|---|---|---|---|---|---|")
    for system in (s for s in record.systems if s.role == "unlearned"):
        for found in system.findings:
            if found.attack not in _ATTACKS:
                continue
            margin = "-" if found.attainable_margin is None else f"{found.attainable_margin:.3f}"
            rate = found.tpr_at_fpr.get("0.01", Estimate())
            form = found.parameters.get("form") or found.parameters.get("feature")
            name = f"{name_of(found)} ({form})" if form else name_of(found)
            cells = [system.name, name, found.section, _shown(found.residual_dose), margin, _shown(found.auc)]
            print("| " + " | ".join([*cells, _shown(rate), found.note]) + " |", flush=True)


if __name__ == "__main__":
    main()
