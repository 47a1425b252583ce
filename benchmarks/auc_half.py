"""The usual certificate against ours: reverse BPR, stopped where its AUC against Gold is one half.

    python -m benchmarks.auc_half

Runs reverse BPR for 1, 2, ... passes and prints AUC, level, pattern, spread and verdict of each, then the one whose
AUC is closest to .5. Exit code 1 if that one PASSes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from auditkit.flow import audit
from auditkit.plan import Method
from auditkit.record import Finding, SystemEntry
from auditkit.talk import Talk
from auditkit.unlearners.reverse_bpr import ReverseBPR
from benchmarks.common import parser, plan_of


def _primary(system: SystemEntry) -> Finding:
    return next(f for f in system.findings if f.primary)


def main() -> None:
    """Print the path and judge the point where the usual test certifies."""
    options = parser(__doc__)
    options.add_argument("--passes", type=int, default=8)
    options.add_argument("--learning-rate", type=float, default=2e-3)
    options.add_argument("--forget-weight", type=float, default=1.0)
    options.add_argument("--forget-batch", type=int, default=512)
    chosen = options.parse_args()
    methods = [
        Method(
            ReverseBPR(k + 1, chosen.learning_rate, chosen.forget_weight, forget_batch=chosen.forget_batch),
            label=f"{k + 1} passes",
        )
        for k in range(chosen.passes)
    ]
    with Talk() as talk:
        record = audit(plan_of(chosen, methods), store=Path(chosen.store), progress=talk)
    systems = [s for s in record.systems if s.role == "unlearned"]
    print(f"{'':12} {'AUC':>6} {'level':>7} {'pattern':>8} {'spread':>7} {'R@20':>6}  verdict")
    for s in systems:
        estimates = (_primary(s).auc, s.residual_dose, s.pattern, s.spread, s.utility["recall@20"])
        shown = " ".join(f"{e.value:7.3f}" if e.value is not None else "      -" for e in estimates)
        print(f"{s.name:12} {shown}  {s.verdict}")
    closest = min(systems, key=lambda s: abs((_primary(s).auc.value or 0.0) - 0.5))
    print(f"closest to AUC .5: {closest.name}, verdict {closest.verdict}; {closest.reasons[0]}")
    sys.exit(1 if closest.verdict == "PASS" else 0)


if __name__ == "__main__":
    main()
