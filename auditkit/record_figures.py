"""The parts of the Record that its figures draw."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rung(_Part):
    """One system of known dose and how the primary attack read it."""

    name: str = ""
    role: str
    dose_true: float | None = Field(None, description="effective dose; null for the audited systems")
    dose_units: float | None = Field(None, description="plain share of the units it still holds")
    dose_read: float | None
    low: float | None = None
    high: float | None = None


class RocCurve(_Part):
    """ROC of a system's unit scores against the Golds', every tie block one step, from (0, 0) to (1, 1)."""

    system: str
    fpr: list[float]
    tpr: list[float]
    n_positive: int
    n_negative: int


class Histogram(_Part):
    """Unit scores of the primary attack on common bins; `edges` has one more entry than the counts."""

    system: str
    edges: list[float]
    density: list[float]


class RankShift(_Part):
    """Percentile rank of forgotten pairs: quantiles over units, 1 = top of the list."""

    system: str
    quantiles: list[float]
    rank: list[float]


class Curves(_Part):
    """What the figures draw."""

    roc: list[RocCurve] = []
    histograms: list[Histogram] = []
    rank_shift: list[RankShift] = []
