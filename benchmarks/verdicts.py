"""What verdict each method gets, in the three regimes: retraining must not FAIL, the bad ones must not PASS.

    python -m benchmarks.verdicts --backbone bpr-mf
    python -m benchmarks.verdicts --backbone lightgcn --profile quick

Exit code 1 if any verdict is one that it must not be.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from auditkit.api import audit_plan
from auditkit.demo import FORBIDDEN
from auditkit.plan import Method
from auditkit.plugins import unlearners
from auditkit.record import SystemEntry
from auditkit.talk import Talk
from benchmarks.common import parser, plan_of


def _line(regime: str, system: SystemEntry) -> str:
    readings = (system.depth, system.residual_dose, system.pattern, system.spread, system.speedup_vs_gold)
    values = " ".join(f"{e.value:9.3f}" if e.value is not None else f"{'-':>9}" for e in readings)
    recall = system.utility["recall@20"].value or 0.0
    wrong = "  <- must not be" if system.verdict == FORBIDDEN[system.name] else ""
    return f"{regime:12} {system.name:13} {system.verdict or '':13} {values} {recall:8.4f}{wrong}"


def main() -> None:
    """Print the table."""
    options = parser(__doc__)
    options.add_argument("--regimes", default="interaction,user,item")
    options.add_argument("--out", help="folder for one report per regime")
    chosen = options.parse_args()
    wrong = 0
    columns = " ".join(f"{name:>9}" for name in ("depth", "level", "pattern", "spread", "speedup"))
    print(f"{'regime':12} {'method':13} {'verdict':13} {columns} {'R@20':>8}")
    for regime in chosen.regimes.split(","):
        start = time.perf_counter()
        chosen.regime = regime
        plan = plan_of(chosen, [Method(unlearners()[name]()) for name in FORBIDDEN])
        folder = Path(chosen.out) / regime if chosen.out else None
        with Talk() as talk:
            record = audit_plan(plan, out=folder, store=Path(chosen.store), progress=talk)
        systems = [s for s in record.systems if s.role == "unlearned"]
        print("\n".join(_line(regime, s) for s in systems))
        wrong += sum(s.verdict == FORBIDDEN[s.name] for s in systems)
        controls = ", ".join(f"{c.name}: {c.observed}" for c in record.controls)
        seconds = time.perf_counter() - start
        print(f"{regime:12} attainable margin {record.attainable_margin}, {controls}; {seconds:.0f} s", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
