"""What each study must show, and which rows do not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Target:
    """A bound on columns of a study.

    Attributes:
        columns: that it holds for.
        low, high: bounds, either may be absent.
        where: only rows whose world has (or, with a leading `not `, has not) this text.
    """

    columns: tuple[str, ...]
    low: float | None = None
    high: float | None = None
    where: str = ""

    def rows(self, table: pd.DataFrame) -> pd.Series:
        """Which rows it speaks of."""
        negated = self.where.startswith("not ")
        named = table["world"].str.contains(self.where.removeprefix("not "), regex=False)
        return ~named if negated else named

    def missed(self, table: pd.DataFrame) -> list[str]:
        """One line for every value outside the bounds; a value that could not be measured is not outside."""
        found = []
        for column in (c for c in self.columns if c in table):
            values = table.loc[self.rows(table), column].dropna()
            low, high = -np.inf if self.low is None else self.low, np.inf if self.high is None else self.high
            beyond = ~values.between(low, high)
            for index in values.index[beyond]:
                row = table.loc[index]
                key = ", ".join(str(row[k]) for k in ("world", "profile", "group", "Golds") if k in row and k != column)
                found.append(f"{key}: {column} {row[column]:.3f}")
        return found

    def __str__(self) -> str:
        bounds = [
            f"at least {self.low:g}" if self.low is not None else "",
            f"at most {self.high:g}" if self.high is not None else "",
        ]
        place = f" ({self.where})" if self.where else ""
        return f"{', '.join(self.columns)} {' and '.join(b for b in bounds if b)}{place}"
