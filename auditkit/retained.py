"""What was to stay: how far retained units lie from the Golds, and how many lie beyond what Golds show."""

from __future__ import annotations

import numpy as np

from auditkit.data.dataset import Bools, Floats, Ints
from auditkit.deciles import Degree, degrees_of, quantile_groups
from auditkit.evidence import Case, Evidence, Reading
from auditkit.probes import Pairs
from auditkit.record import Estimate, Retained, RetainedGroup
from auditkit.statistics.dose import standard_error
from auditkit.statistics.intervals import t_quantile
from auditkit.statistics.units import unit_p_values

# In standard deviations of a score row: below this two systems answer alike.
NO_SCATTER = 1e-9
# Outside the band: an own two-sided p-value up to this.
OUTSIDE = 0.05
# A share of .05 has one unit in twenty.
MIN_UNITS_SHARE = 20
# One Gold left out leaves two, the fewest with a scatter.
MIN_GOLDS_BAND = 3


def retained(case: Case, background: Evidence, audited: dict[str, Evidence]) -> dict[str, Retained]:
    """Distances of the retained units' z to the Golds, for each method that answers.

    The value is the root mean square distance to the mean Gold, in units of a Gold left out: 1 is what a Gold shows,
    more says that unlearning moved what was to stay. `beyond` is the share of units outside the Golds' 95% band (a
    two-sided p of `unit_p_values`): .05 is what a Gold shows. Undefined where the Golds do not differ.

    Args:
        case: only its retained units of the judge split count.
        background: with the Golds.
        audited: method -> evidence of its runs.
    """
    if Pairs() not in background.readings:
        return {}
    reading = background.readings[Pairs()]
    kept = np.asarray(case.units["group"] == "retain") & case.judged
    golds = reading.values["z"][background.rows("gold")]
    if not np.isfinite(golds[:, kept[reading.unit]]).any():
        return {}
    return {
        method: _entry(case, kept, golds, evidence.readings[Pairs()])
        for method, evidence in audited.items()
        if Pairs() in evidence.readings
    }


def _entry(case: Case, kept: Bools, golds: Floats, reading: Reading) -> Retained:
    points, n = kept[reading.unit], len(golds)
    runs, theirs = reading.values["z"][:, points], golds[:, points]
    mean = theirs.mean(0)
    ratio = _ratio(_rms(runs - mean) * np.sqrt(n / (n + 1)), _rms(theirs - mean) * np.sqrt(n / (n - 1)))
    if ratio.value is None:
        return Retained(**ratio.model_dump())
    # Only the retained units: the others would take part in the common variance.
    mine, golds_units = (_finite(reading.per_unit(values))[:, kept] for values in (reading.values["z"], golds))
    beyond, worst = _beyond(case, kept, mine, golds_units)
    return Retained(**ratio.model_dump(), beyond=beyond, worst=worst)


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.nan)


def _rms(deviations: Floats) -> Floats:
    """Root mean square of each row over what is known, float64 [n]; NaN where nothing is."""
    known = np.isfinite(deviations)
    total = np.where(known, deviations, 0.0) ** 2
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(total.sum(1) / known.sum(1)))


def _ratio(runs: Floats, golds: Floats) -> Estimate:
    if not np.isfinite(runs).all():
        return Estimate(note="the system answers nothing there")
    if not (golds > NO_SCATTER).all():
        return Estimate(note="the Golds do not differ (a deterministic procedure), so there is no unit to measure in")
    logs, theirs = np.log(np.maximum(runs, NO_SCATTER)), np.log(golds)
    error, degrees = standard_error(max(float(theirs.std(ddof=1)), NO_SCATTER), len(theirs), logs)
    middle, half = float(logs.mean() - theirs.mean()), t_quantile(degrees, 0.95) * error
    return Estimate(
        value=float(np.exp(middle)), low=float(np.exp(middle - half)), high=float(np.exp(middle + half)),
        confidence=0.95, method="ratio to a left-out Gold, t interval on the log scale", n_systems=len(logs),
    )  # fmt: skip


def _beyond(case: Case, kept: Bools, runs: Floats, golds: Floats) -> tuple[Estimate, RetainedGroup | None]:
    """Share of units outside the band, over all and in the worst tenth by popularity (by activity without items)."""
    if len(golds) < MIN_GOLDS_BAND:
        return Estimate(note=f"a Gold's own share needs {MIN_GOLDS_BAND} Golds, there are {len(golds)}"), None
    mine = unit_p_values(runs, golds).p
    theirs = np.stack([unit_p_values(golds[[k]], np.delete(golds, k, axis=0)).p for k in range(len(golds))])
    whole = _share(mine, theirs, np.ones(len(mine), np.bool_))
    units = case.units[kept]
    degrees: tuple[Degree, ...] = degrees_of(units)
    if not degrees:
        return whole, None
    values = units[degrees[0]].to_numpy()
    return whole, _worst(degrees[0], values, mine, theirs)


def _worst(by: Degree, values: Ints, mine: Floats, theirs: Floats) -> RetainedGroup:
    groups = quantile_groups(values, MIN_UNITS_SHARE)
    shares = [_share(mine, theirs, groups == g) for g in range(groups.max() + 1)]
    farthest = int(np.argmax([-1.0 if s.value is None else s.value for s in shares]))
    chosen = values[groups == farthest]
    return RetainedGroup(
        by=by, low=int(chosen.min()), high=int(chosen.max()), n_units=len(chosen), beyond=shares[farthest]
    )


def _share(mine: Floats, theirs: Floats, chosen: Bools) -> Estimate:
    """Share of p-values up to .05, with the scatter of the left-out Golds' own shares; ends held within [0, 1].

    Several runs are one test per unit, so their share scatters like that of one Gold, not like a mean of shares. Few
    Golds may show equal shares by chance: their scatter is at least that of as many independent units.
    """
    known = np.isfinite(mine) & np.isfinite(theirs).all(0) & chosen
    if not known.any():
        return Estimate(note="no unit was answered by every run and Gold")
    value, golds = float((mine[known] <= OUTSIDE).mean()), (theirs[:, known] <= OUTSIDE).mean(1)
    scatter = max(float(golds.std(ddof=1)), float(np.sqrt(OUTSIDE * (1 - OUTSIDE) / known.sum())))
    half = t_quantile(len(golds) - 1, 0.95) * scatter * np.sqrt(1 + 1 / len(golds))
    return Estimate(
        value=value, low=max(value - half, 0.0), high=min(value + half, 1.0), confidence=0.95,
        method="share with p up to .05; t interval from left-out Golds' own shares",
        n_units=int(known.sum()), note=f"left-out Golds show {golds.mean():.3f}",
    )  # fmt: skip
