"""docs/calibration.md: every study as a table with its target and what misses it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.calibration.targets import Target


@dataclass(frozen=True, eq=False)
class Study:
    """One section of the page.

    Attributes:
        title, text: what was asked.
        table: what was measured.
        targets: what it must show; none where a table is for reading only.
    """

    title: str
    text: str
    table: pd.DataFrame
    targets: tuple[Target, ...] = ()

    @property
    def missed(self) -> list[str]:
        """Values that miss a target."""
        return [line for target in self.targets for line in target.missed(self.table)]


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if np.isnan(value):
        return ""
    return f"{value:.0f}" if value.is_integer() and abs(value) > 1 else f"{value:.3f}"


def markdown(table: pd.DataFrame) -> str:
    """A table, columns without any value left out."""
    shown = table.dropna(axis=1, how="all")
    lines = [[str(c) for c in shown.columns], ["---"] * len(shown.columns)]
    lines += [[_cell(v) for v in row] for row in shown.itertuples(index=False, name=None)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _section(study: Study) -> str:
    parts = [f"## {study.title}", study.text]
    if study.targets:
        parts.append("Target: " + "; ".join(str(t) for t in study.targets) + ".")
        missed = study.missed
        parts.append("Met everywhere." if not missed else "**Not met:**\n\n" + "\n".join(f"- {m}" for m in missed))
    return "\n\n".join([*parts, markdown(study.table)])


def page(studies: list[Study], command: str, intro: str) -> str:
    """The whole page."""
    measured = [s for s in studies if s.targets]
    summary = pd.DataFrame(
        {
            "study": [s.title for s in measured],
            "values that miss the target": [str(len(s.missed)) for s in measured],
        }
    )
    head = f"# Calibration\n\n{intro}\n\nThis page is written by `{command}`.\n\n{markdown(summary)}"
    return "\n\n".join([head, *(_section(s) for s in studies)]) + "\n"
