"""Does the audit read true doses? Independent systems that hold a known share of the forget set, read as if unlearned.

    python -m benchmarks.dose_ladder --backbone bpr-mf --regime interaction

Prints, for each dose, what the systems truly hold (effective dose) and what is read, and how many standard deviations
of a Gold the weakest reading of .05 lies out.
"""

from __future__ import annotations

import time

import numpy as np

from auditkit.findings import read_system
from benchmarks.common import calibrated, parser, partial, plan_of, row

DOSES = (0.05, 0.10, 0.20, 0.40)


def main() -> None:
    """Print the ladder."""
    options = parser(__doc__)
    options.add_argument("--systems", type=int, default=6, help="per dose")
    chosen = options.parse_args()
    start = time.perf_counter()
    plan = plan_of(chosen)
    audit = calibrated(plan, chosen.store)
    scale = audit.yardstick.scale(audit.yardstick.scores.level, audit.yardstick.judged)
    print(f"{plan.data.name}, {plan.trained.backbone}, {plan.request.selection}, {plan.settings.profile}")
    print(f"{'':>10}  true effective dose | read")
    for dose in DOSES:
        evidence = audit.observe([partial(plan, dose, k) for k in range(chosen.systems)])
        read = [read_system(audit.yardstick, evidence.take([k])) for k in range(chosen.systems)]
        held = evidence.held[:, audit.yardstick.judged].astype(float)
        true = np.array([scale.effective(h) for h in held])
        level = np.array([r.level.value for r in read])
        print(
            f"{row(f'{dose:g}', true)} | {row('', level)} | mean error {np.mean(level - true):+.3f}, mean |error| "
            f"{np.abs(level - true).mean():.3f}, weakest {level.min() / scale.sd_golds:.1f} null sd"
        )
    print(f"original {row('', scale.dose(scale.originals))}")
    print(f"Golds    {row('', scale.gold_doses)}   sd {scale.sd_golds:.4f}, 1 is {1 / scale.sd_golds:.0f} of them")
    attainable, line = audit.yardstick.attainable, audit.yardstick.lines.level
    print(f"attainable margin {attainable}, curvature {line.curvature:.3f}, residual sd {line.residual_sd}")
    print(f"{audit.seconds:.1f} s to calibrate, {time.perf_counter() - start:.1f} s in all")


if __name__ == "__main__":
    main()
