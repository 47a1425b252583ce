"""Judging again from the evidence alone: the same code reaches the report's verdicts, or what differs is named."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel

from auditkit.deciles import deciles
from auditkit.errors import DataError
from auditkit.evidence_files import Kept, KeptMethod
from auditkit.flow import (
    NO_YARDSTICK,
    UNCHECKED,
    Audited,
    Bench,
    Observations,
    Outcome,
    checked,
    extend_bench,
    judge_method,
    lay_bench,
)
from auditkit.record import Finding, Record
from auditkit.resolution import power_at_half
from auditkit.summary import all_reasons
from auditkit.unit_table import summarise_units, unit_table

# Numbers agree up to this, on their own scale above 1: machines add up in another order.
TOLERANCE = 1e-6
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_ABSENT = "absent"


@dataclass(frozen=True)
class Difference:
    """One thing that the report says and the evidence does not.

    Attributes:
        where: name of the system, or `the audit`.
        field: what of it, such as `depth.value`.
        reported, derived: both sides.
    """

    where: str
    field: str
    reported: Any
    derived: Any

    def __str__(self) -> str:
        said, derived = (
            textwrap.shorten(repr(side), 120, placeholder=" ...") for side in (self.reported, self.derived)
        )
        return f"{self.where}: {self.field}: the report says {said}, the evidence gives {derived}"


@dataclass(frozen=True, eq=False)
class Rederived:
    """What the evidence alone leads to."""

    kept: Kept
    bench: Bench
    audited: list[Audited]

    @property
    def n_findings(self) -> int:
        """Of all systems."""
        return sum(len(found.findings) for found in self.audited)

    def units(self) -> pd.DataFrame:
        """The per-unit table."""
        measured = {
            a.method: (a.primary, a.tests) for a in self.audited if a.primary is not None and a.tests is not None
        }
        return unit_table(self.kept.background.units, self.bench.primary, measured)


def kept_of(outcome: Outcome) -> Kept:
    """What must be kept of an audit, so that its verdicts can be derived again."""
    plan = outcome.plan
    methods = [
        KeptMethod(
            found.method,
            found.observed.evidence.take([found.observed.evidence.systems.index(s) for s in found.systems]),
            tuple(found.observed.serving[s.name] for s in found.systems), found.learned,
        )
        for found in outcome.audited
    ]  # fmt: skip
    names = (UNCHECKED.name, NO_YARDSTICK.name)
    checked_by = next((c for c in outcome.bench.controls if c.name in names), None)
    return Kept(plan.battery, plan.rules, plan.settings, outcome.background.evidence, tuple(methods), checked_by)


def rederive(kept: Kept) -> Rederived:
    """Calibrate and judge, from what was kept alone.

    Raises:
        DataError: what was kept cannot be judged; says why.
    """
    try:
        bench = checked(lay_bench(kept, None, kept.background), kept.yardstick)
        return Rederived(kept, bench, [_judged(kept, bench, method) for method in kept.methods])
    except Exception as error:  # whatever a stranger's arrays lead to, it is the file that is at fault
        raise DataError(f"the evidence cannot be judged: {type(error).__name__}: {error}") from error


def _judged(kept: Kept, bench: Bench, method: KeptMethod) -> Audited:
    bench = extend_bench(kept, bench, kept.background, method.learned)
    systems = method.evidence.systems
    observed = Observations(serving={s.name: told for s, told in zip(systems, method.serving, strict=True)})
    observed.evidence = method.evidence
    return judge_method(method.name, systems, observed, kept, bench)


def differences(record: Record, found: Rederived, units: pd.DataFrame | None = None) -> list[Difference]:
    """Whatever the report says otherwise than the evidence; empty where all of it follows.

    Compared are rules, power, attainable margin, what would settle it, controls (but for the blind ones, which read the
    data), all findings, verdicts, reasons and depths, tests of units, deciles, and the per-unit table.

    Args:
        record: the report.
        found: from its evidence.
        units: its per-unit table; None is not compared.
    """
    said, derived = _of_record(record, found), _of_evidence(found)
    listed = [*_differ("the audit", "", said["the audit"], derived["the audit"])]
    for name in dict.fromkeys([*said["systems"], *derived["systems"]]):
        listed += _differ(name, "", said["systems"].get(name, _ABSENT), derived["systems"].get(name, _ABSENT))
    return listed if units is None else [*listed, *_of_units(units, found.units())]


def _plain(model: BaseModel | None) -> Any:
    return None if model is None else json.loads(model.model_dump_json())


def _key(finding: Finding) -> str:
    chosen = ", ".join(f"{name}={value}" for name, value in finding.parameters.items())
    return f"{finding.attack}({chosen})" if chosen else finding.attack


def _of_record(record: Record, found: Rederived) -> dict[str, Any]:
    policy, request = record.policy, record.request
    known = {control.name for control in found.bench.controls}
    audit = {
        "margin": policy.margin, "alpha": policy.alpha, "primary": policy.primary, "power": policy.power,
        "least power": policy.min_power, "tune": policy.tune, "regime": request.regime, "n_units": request.n_units,
        "n_units_judged": request.n_units_judged, "n_units_tune": request.n_units_tune, "reasons": record.reasons,
        "attainable_margin": record.attainable_margin, "settle": _plain(record.settle),
        "controls": {c.name: _plain(c) for c in record.controls if c.name in known},
    }  # fmt: skip
    kept = ("verdict", "reasons", "depth", "residual_dose", "pattern", "spread", "unit_tests", "deciles")
    systems = {
        s.name: {
            **{name: value for name, value in _plain(s).items() if name in kept},
            "findings": {_key(f): _plain(f) for f in s.findings},
        }
        for s in record.systems
        if s.role == "unlearned"
    }
    return {"the audit": audit, "systems": systems}


def _of_evidence(found: Rederived) -> dict[str, Any]:
    rules, bench, units = found.kept.rules, found.bench, found.kept.background.units
    forget, primary = np.asarray(units["group"] == "forget"), found.bench.primary
    audit = {
        "margin": rules.margin, "alpha": rules.alpha, "primary": rules.primary,
        "power": power_at_half(primary) if primary else None, "least power": rules.min_power,
        "tune": found.kept.settings.tune, "regime": rules.regime, "n_units": int(forget.sum()),
        "n_units_judged": int(primary.judged.sum()) if primary else 0,
        "n_units_tune": int((forget & np.asarray(units["split"] != "judge")).sum()),
        "reasons": all_reasons(found.audited), "attainable_margin": primary.attainable if primary else None,
        "settle": _plain(bench.settled_by), "controls": {c.name: _plain(c) for c in bench.controls},
    }  # fmt: skip
    return {"the audit": audit, "systems": {a.method: _of_system(a, bench) for a in found.audited}}


def _of_system(found: Audited, bench: Bench) -> dict[str, Any]:
    primary = next((f for f in found.findings if f.primary), None)
    read = {name: _plain(getattr(primary, name)) for name in ("residual_dose", "pattern", "spread") if primary}
    told: dict[str, Any] = {"unit_tests": None, "deciles": []}
    if bench.primary is not None and found.primary is not None and found.tests is not None:
        n_golds = len(bench.primary.background.rows("gold"))
        told["unit_tests"] = _plain(summarise_units(found.tests, n_golds))
        told["deciles"] = [_plain(decile) for decile in deciles(bench.primary, found.primary)]
    return {
        "verdict": found.ruling.verdict, "reasons": found.ruling.reasons, "depth": _plain(found.ruling.depth), **read,
        **told, "findings": {_key(f): _plain(f) for f in found.findings},
    }  # fmt: skip


def _differ(where: str, field: str, said: Any, derived: Any) -> Iterator[Difference]:
    if isinstance(said, Mapping) and isinstance(derived, Mapping):
        for name in dict.fromkeys([*said, *derived]):
            inner = f"{field}.{name}" if field else str(name)
            yield from _differ(where, inner, said.get(name, _ABSENT), derived.get(name, _ABSENT))
    elif isinstance(said, Sequence) and isinstance(derived, Sequence) and not isinstance(said, str):
        for place in range(max(len(said), len(derived))):
            pair = (side[place] if place < len(side) else _ABSENT for side in (said, derived))
            yield from _differ(where, f"{field}[{place}]", *pair)
    elif not _alike(said, derived):
        yield Difference(where, field or "system", said, derived)


def _alike(said: Any, derived: Any) -> bool:
    if isinstance(said, str) and isinstance(derived, str):
        return _same_text(said, derived)
    if isinstance(said, int | float) and isinstance(derived, int | float) and not isinstance(said, bool):
        return math.isclose(said, derived, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(said == derived)


def _same_text(said: str, derived: str) -> bool:
    """Equal but for the last printed digit of its numbers, which may be rounded the other way."""
    if said == derived:
        return True
    numbers = list(zip(_NUMBER.findall(said), _NUMBER.findall(derived), strict=False))
    close = all(abs(float(a) - float(b)) <= 1.01 * max(_last_digit(a), _last_digit(b)) for a, b in numbers)
    return _NUMBER.sub("#", said) == _NUMBER.sub("#", derived) and close


def _last_digit(number: str) -> float:
    digits, _, power = number.partition("e")
    # What is printed without a point is a count, and counts do not round.
    places = len(digits.partition(".")[2])
    return float(10.0 ** (int(power or 0) - places)) if places or power else 0.0


def _of_units(said: pd.DataFrame, derived: pd.DataFrame) -> Iterator[Difference]:
    if len(said) != len(derived):
        yield Difference("the per-unit table", "rows", len(said), len(derived))
        return
    for name in dict.fromkeys([*said.columns, *derived.columns]):
        if name not in said.columns or name not in derived.columns:
            yield Difference("the per-unit table", f"column {name}", name in said.columns, name in derived.columns)
            continue
        mine, other = said[name].to_numpy(), derived[name].to_numpy()
        numeric = mine.dtype.kind in "iuf" and other.dtype.kind in "iuf"
        same = np.isclose(mine, other, TOLERANCE, TOLERANCE, equal_nan=True) if numeric else mine == other
        if not np.all(same):
            row = int(np.flatnonzero(~np.asarray(same))[0])
            yield Difference("the per-unit table", f"{name} of unit {row}", mine[row], other[row])
