"""Habit 4: an AUC of one half as the rule for PASS, met by an unlearner that is stopped where it holds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import optimize

from auditkit.builds import System
from auditkit.data.dataset import Bools, Floats
from auditkit.unlearners.reverse_bpr import ReverseBPR
from benchmarks.field_habits.non_members import areas
from benchmarks.field_habits.study import Study

# An AUC within this of .5 is what the habit certifies.
TOLERANCE = 0.01
RATE = 2e-3
FORGET_BATCH = 512
_DOUBLINGS = 8


def certified(area: float | Floats) -> Bools:
    """The habit passes it: |AUC - .5| below .01."""
    return np.asarray(np.abs(np.asarray(area) - 0.5) < TOLERANCE)


def reverse_bpr(study: Study, name: str, passes: int, rate: float = RATE, run: int = 0) -> System:
    """The original after some passes of reverse BPR."""
    return study.unlearned(name, ReverseBPR(passes, rate, forget_batch=FORGET_BATCH), run)


def against_golds(study: Study, system: System) -> float:
    """AUC of the primary attack's unit scores against the Golds'."""
    return study.judge([system])[0].auc


def against_test(study: Study, system: System) -> float:
    """AUC of z at forgotten pairs against test pairs within the system."""
    return float(areas(study.answers([system])["z"], study.pairs)["test"][0])


def root_of(area: Callable[[float], float], start: float) -> float | None:
    """The learning rate at which a falling AUC is .5, to about .001 of AUC; None where it never falls that far.

    Args:
        area: learning rate -> AUC, falling.
        start: a learning rate, above 0; doubled (or halved) at most eight times until .5 lies between.
    """
    factor = 2.0 if area(start) > 0.5 else 0.5
    near = start
    for _ in range(_DOUBLINGS):
        far = near * factor
        if (area(far) > 0.5) != (factor > 1):
            low, high = sorted((near, far))
            return float(optimize.brentq(lambda rate: area(rate) - 0.5, low, high, xtol=start * 2e-3))
        near = far
    return None


def tuned(study: Study, area: Callable[[Study, System], float], passes: int) -> float | None:
    """The learning rate at which so many passes of reverse BPR end at an AUC of .5; None where none does."""
    return root_of(lambda rate: area(study, reverse_bpr(study, "tuning", passes, rate)), RATE)
