"""The systems that habits and audit are both asked about: fresh Golds, originals, and snapshots of reverse BPR."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from auditkit.builds import System
from auditkit.data.dataset import Floats
from auditkit.plan import Plan
from auditkit.talk import Talk
from benchmarks.field_habits.half import against_golds, against_test, reverse_bpr, tuned
from benchmarks.field_habits.study import Ours, Study

# Of the passes of reverse BPR that are tuned to an AUC of one half by their learning rate.
TUNED_PASSES = 4
TARGETS: Mapping[str, Callable[[Study, System], float]] = {
    "AUC .5 against Golds": against_golds,
    "AUC .5 against test pairs": against_test,
}


@dataclass(frozen=True, eq=False)
class Group:
    """Systems with what the audit says of each, and their answers at the habits' pairs.

    Attributes:
        systems, ours: in one order.
        answers: signal -> float64 [n_systems, n_pairs].
    """

    systems: list[System]
    ours: list[Ours]
    answers: Mapping[str, Floats]


@dataclass(frozen=True, eq=False)
class Cast:
    """One request with its groups of systems.

    Attributes:
        study: the audit.
        golds: fresh ones, in no pool.
        originals: those of the audit.
        snapshots: the first original after 1, 2, ... passes of reverse BPR, then the tuned ones; may be empty.
        rates: learning rate of the tuned ones by name; None where no rate reaches one half.
    """

    study: Study
    golds: Group
    originals: Group
    snapshots: Group | None = None
    rates: Mapping[str, float | None] = field(default_factory=dict)

    def many(self, runs: int) -> dict[str, Group]:
        """So many originals, and so many runs of each tuned unlearner, each with its own seed."""
        study = self.study
        found = {"original": group(study, study.trained("original", runs, original=True))}
        for name, rate in self.rates.items():
            if rate is not None:
                systems = [reverse_bpr(study, f"{name} {k + 1}", TUNED_PASSES, rate, run=k) for k in range(runs)]
                found[name] = group(study, systems)
        return found


def group(study: Study, systems: list[System]) -> Group:
    """Ask and judge some systems."""
    return Group(systems, study.judge(systems), study.answers(systems))


def _snapshots(study: Study, passes: int) -> tuple[list[System], dict[str, float | None]]:
    plain = [reverse_bpr(study, f"reverse BPR, {k + 1} passes", k + 1) for k in range(passes)]
    rates = {name: tuned(study, area, TUNED_PASSES) for name, area in TARGETS.items()}
    found = [reverse_bpr(study, name, TUNED_PASSES, rate) for name, rate in rates.items() if rate is not None]
    return plain + found, rates


def assemble(plan: Plan, store: Path, *, golds: int, passes: int, talk: Talk) -> Cast:
    """Train, ask and judge everybody.

    Args:
        plan: of the audit.
        store: where systems lie; what is there is not trained again.
        golds: how many fresh ones.
        passes: of reverse BPR, 0 for no snapshots.
        talk: progress.
    """
    study = Study(plan, store, talk)
    fresh = group(study, study.trained("fresh gold", golds))
    originals = group(study, [s for s in study.background.systems if s.role == "original"])
    if not passes:
        return Cast(study, fresh, originals)
    systems, rates = _snapshots(study, passes)
    return Cast(study, fresh, originals, group(study, systems), rates)
