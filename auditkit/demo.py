"""The demonstration: good and bad unlearners on a synthetic data set, with the verdict that each must get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from auditkit.api import audit_plan
from auditkit.builds import Progress
from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset
from auditkit.deletion import Regime, select
from auditkit.plan import Method, Settings, make_plan
from auditkit.plugins import unlearners
from auditkit.record import Record, SystemEntry

_SHARE = 0.05
# What each method must not get. Retraining is honest; every other one keeps, reinforces or merely hides what it knew.
FORBIDDEN: Mapping[str, str] = {
    "gold": "FAIL", "finetune": "PASS", "reverse-bpr": "PASS", "no-op": "PASS", "sign-flipped": "PASS",
    "output-mask": "PASS", "row-reinit": "PASS",
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One row of the demonstration's table."""

    regime: str
    system: SystemEntry

    @property
    def as_expected(self) -> bool:
        """The verdict is not the one it must not be, and a retrained system or a control gets a verdict at all."""
        return self.system.verdict not in (FORBIDDEN[self.system.name], "INVALID")

    def text(self) -> str:
        """The row."""
        depth = "-" if self.system.depth.value is None else f"{self.system.depth.value:.3f}"
        recall = self.system.utility["recall@20"].value
        mark = "as expected" if self.as_expected else f"UNEXPECTED: must not be {FORBIDDEN[self.system.name]}"
        head = f"{self.regime:12} {self.system.name:13} {self.system.verdict:13}"
        return f"{head} depth {depth:>7}  Recall@20 {recall:.3f}  {mark}"


def run_demo(out: Path, *, quick: bool, progress: Progress) -> tuple[str, bool]:
    """Audit all methods: one interaction request (`quick`), or all three regimes at the standard profile.

    Args:
        out: folder; with one request the report lies in it, else in a folder per regime.
        quick: the small demonstration.
        progress: called with a text and how much is done.

    Returns:
        The table with where the reports are, and whether every verdict is the expected one.
    """
    regimes: tuple[Regime, ...] = ("interaction",) if quick else ("interaction", "user", "item")
    data = Dataset.synthetic(n_users=900, n_items=800, n_interactions=80_000)
    lines: list[Line] = []
    places = []
    for regime in regimes:
        folder = out if quick else out / regime
        record = _audit_one(data, regime, quick, folder, out / ".auditkit", progress)
        places.append(str(folder / "report.html"))
        lines += [Line(regime, s) for s in record.systems if s.role == "unlearned"]
    table = "\n".join([line.text() for line in lines] + [f"report: {place}" for place in places])
    return table, all(line.as_expected for line in lines)


def _audit_one(data: Dataset, regime: Regime, quick: bool, folder: Path, store: Path, progress: Progress) -> Record:
    methods = [Method(unlearners()[name]()) for name in FORBIDDEN]
    plan = make_plan(
        data, select(data, regime, share=_SHARE), Recipe.of("bpr-mf"), methods,
        settings=Settings(profile="quick" if quick else "standard"), split="random per user, drawn with the data",
    )  # fmt: skip
    return audit_plan(plan, out=folder, store=store, progress=progress)
