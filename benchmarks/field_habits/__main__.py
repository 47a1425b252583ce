"""Run the study and print its tables: see the package."""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

from auditkit.talk import Talk
from benchmarks.common import parser, plan_of
from benchmarks.field_habits import __doc__ as about
from benchmarks.field_habits.cast import Cast, assemble
from benchmarks.field_habits.report import (
    show_alarms,
    show_epsilons,
    show_half,
    show_honest,
    show_non_members,
    show_quality,
)


def _cast(options: argparse.Namespace, regime: str, talk: Talk) -> Cast:
    chosen = copy.copy(options)
    chosen.regime = regime
    passes = options.passes if regime == options.regime else 0
    return assemble(plan_of(chosen), Path(options.store), golds=options.golds, passes=passes, talk=talk)


def main() -> None:
    """Print what each habit says, and what the audit says of the same systems."""
    options = parser(about)
    options.add_argument("--golds", type=int, default=60, help="fresh ones, in no pool; at least 20")
    options.add_argument("--passes", type=int, default=6, help="of reverse BPR, a snapshot after each; 0 for none")
    options.add_argument("--runs", type=int, default=20, help="systems a side for forget quality; 2 to half the Golds")
    chosen = options.parse_args()
    if not 2 <= chosen.runs <= chosen.golds // 2:
        options.error(f"--runs must be 2 to half of --golds = {chosen.golds}, got {chosen.runs}")
    if chosen.golds < 20:
        options.error(f"--golds must be at least 20 (rates of false alarms are counted on them), got {chosen.golds}")
    start = time.perf_counter()
    with Talk() as talk:
        casts = {regime: _cast(chosen, regime, talk) for regime in dict.fromkeys([chosen.regime, "user"])}
    main_cast = casts[chosen.regime]
    show_non_members(main_cast)
    show_alarms(casts)
    show_epsilons(casts)
    show_half(main_cast)
    show_honest(casts)
    show_quality(main_cast, chosen.runs)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
