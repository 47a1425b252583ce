"""How long the statistics of 10 million probe scores take on one core: 20 Golds and one system, 500,000 units each.

    python -m benchmarks.statistics_speed

Ten million scores are split into members and others for the ROC, and are 20 Golds for level, pattern, spread and the
unit tests. Prints a line per statistic, its seconds of processor and of wall time and its share, then AUC beside
scikit-learn and scipy on the same scores. All statistics are on one core; the wall is longer where others use it too.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from scipy import stats
from sklearn.metrics import roc_auc_score

from auditkit.data.dataset import Floats
from auditkit.statistics.dose import LinearScale, SpreadScale
from auditkit.statistics.roc import auc, auc_clustered, roc_curve, tpr_at_fpr
from auditkit.statistics.scores import in_order
from auditkit.statistics.units import unit_p_values

Result = TypeVar("Result")


class Stopwatch:
    """Runs things once and remembers how long they took."""

    def __init__(self) -> None:
        self.seconds: dict[str, tuple[float, float]] = {}

    def __call__(self, name: str, made: Callable[[], Result]) -> Result:
        """The result of `made`, its processor and wall seconds kept under `name`."""
        wall, used = time.perf_counter(), time.process_time()
        result = made()
        self.seconds[name] = time.process_time() - used, time.perf_counter() - wall
        return result

    def total(self) -> tuple[float, float]:
        """Seconds of processor and of wall time in all."""
        used, wall = zip(*self.seconds.values(), strict=True)
        return sum(used), sum(wall)

    def table(self) -> None:
        """A line per thing."""
        total = self.total()
        print(f"{'':34} {'cpu s':>7} {'wall s':>7} {'share':>6}")
        for name, (used, wall) in self.seconds.items():
            print(f"{name:34} {used:7.2f} {wall:7.2f} {used / total[0]:6.0%}")
        print(f"{'all':34} {total[0]:7.2f} {total[1]:7.2f}")


def roc_statistics(watch: Stopwatch, members: Floats, others: Floats, users: int) -> float:
    """Sorted once; every statistic after that reads in order. The AUC."""
    mine, theirs = (np.arange(len(side)) % users for side in (members, others))
    members, of_members = watch("sort members with their users", lambda: in_order(members, mine))
    others, of_others = watch("sort others with their users", lambda: in_order(others, theirs))
    area = watch("auc", lambda: auc(members, others))
    watch("roc_curve", lambda: roc_curve(members, others))
    for fpr in (0.001, 0.01):
        watch(f"tpr_at_fpr {fpr:g}", lambda fpr=fpr: tpr_at_fpr(members, others, fpr))  # type: ignore[misc]
    clustered = watch("auc_clustered", lambda: auc_clustered(members, others, of_members, of_others))
    assert clustered.value == area
    return float(area or 0.0)


def seed_statistics(watch: Stopwatch, run: Floats, golds: Floats, originals: Floats) -> None:
    """Level and pattern (a linear scale each), spread, and a test per unit."""
    for name in ("level", "pattern"):
        watch(name, lambda: LinearScale(golds, originals).read(run))
    watch("spread", lambda: SpreadScale(golds, originals).read(run).value)
    watch("unit_p_values", lambda: unit_p_values(run, golds))


def main() -> None:
    """Time everything once."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--units", type=int, default=500_000)
    options.add_argument("--golds", type=int, default=20)
    options.add_argument("--users", type=int, default=25_000)
    chosen = options.parse_args()
    rng = np.random.default_rng(0)
    golds = rng.normal(size=(chosen.golds, chosen.units))
    originals, run = rng.normal(1, 1, (2, chosen.units)), rng.normal(0.05, 1, (1, chosen.units))
    half = golds.size // 2
    members, others = golds.ravel()[:half] + 0.2, golds.ravel()[half:].copy()
    print(f"{golds.size:,} scores: {chosen.golds} Golds of {chosen.units:,} units; {half:,} members, the rest others")
    watch = Stopwatch()
    area = roc_statistics(watch, members, others, chosen.users)
    seed_statistics(watch, run, golds, originals)
    watch.table()
    compare(area, members, others)


def compare(area: float, members: Floats, others: Floats) -> None:
    """AUC of unsorted scores beside the ones of scikit-learn and scipy."""
    labels, scores = np.repeat([1, 0], [len(members), len(others)]), np.concatenate([members, others])
    peers = Stopwatch()
    ours = peers("auc, unsorted scores", lambda: auc(members, others))
    theirs = peers("sklearn.metrics.roc_auc_score", lambda: float(roc_auc_score(labels, scores)))
    test = peers("scipy.stats.mannwhitneyu", lambda: stats.mannwhitneyu(members, others, method="asymptotic"))
    pairs = len(members) * len(others)
    print("\nAUC beside others, ratio of processor seconds:")
    base = peers.seconds["auc, unsorted scores"][0]
    for name, (used, _) in peers.seconds.items():
        print(f"{name:34} {used:7.2f} {used / base:6.1f}x")
    apart = [abs(area - other) for other in (ours or 0.0, theirs, float(test.statistic) / pairs)]
    print(f"largest difference {max(apart):.1e}")


if __name__ == "__main__":
    main()
