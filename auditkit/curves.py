"""What the figures draw: dose ladder, ROC against Gold, histograms, rank shift, distances of retained units."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from auditkit.data.dataset import Bools, Floats
from auditkit.evidence import Evidence
from auditkit.findings import Yardstick
from auditkit.flow import Outcome
from auditkit.probes import Pairs
from auditkit.record import Curves, Estimate, Histogram, RankShift, RocCurve, Rung
from auditkit.statistics.dose import standard_error
from auditkit.statistics.intervals import t_quantile
from auditkit.statistics.roc import roc_curve

_BINS = 40
_ROC_POINTS = 200
_QUANTILES = np.linspace(0, 1, 41)
# In standard deviations of a score row: below this two systems answer alike.
_NO_SCATTER = 1e-9


def _primary(outcome: Outcome) -> Yardstick | None:
    return next((y for a, y in outcome.yardsticks.items() if a.name == outcome.plan.rules.primary), None)


def rungs(outcome: Outcome) -> list[Rung]:
    """Every system of known dose and every audited one, as the primary attack reads it."""
    yardstick = _primary(outcome)
    if yardstick is None:
        return []
    line, _ = yardstick.lines
    scale = yardstick.scale(yardstick.scores.level, yardstick.judged)
    half = (line.residual_sd or scale.sd_golds) * t_quantile(
        max(len(yardstick.ladder) - 1, 1), 1 - 2 * outcome.plan.rules.alpha
    )
    found = [
        Rung(
            name=x.name,
            role="reference",
            dose_true=x.level_dose,
            dose_units=x.units,
            dose_read=read,
            low=read - half,
            high=read + half,
        )
        for x in yardstick.ladder
        for read in [line.dose(x.level)]
    ]
    for role, true, doses in (
        ("gold", 0.0, scale.gold_doses),
        ("original", 1.0, scale.dose(scale.originals)),
    ):
        found += [
            Rung(
                name=f"{role}-{k + 1}",
                role=role,
                dose_true=true,
                dose_units=true,
                dose_read=line.dose(float(d)),
            )
            for k, d in enumerate(doses)
        ]
    for audited in outcome.audited:
        if audited.primary is not None:
            low, high = audited.primary.level.bounds(outcome.plan.rules.alpha)
            found.append(
                Rung(
                    name=audited.method,
                    role="unlearned",
                    dose_true=None,
                    dose_read=audited.primary.level.value,
                    low=low,
                    high=high,
                )
            )
    return found


def curves(outcome: Outcome) -> Curves:
    """ROC and histograms of the primary attack's unit scores, rank shift of the forgotten pairs."""
    yardstick = _primary(outcome)
    if yardstick is None:
        return Curves(rank_shift=_rank_shift(outcome))
    golds = yardstick.rows(yardstick.scores.level, "gold", yardstick.judged)
    originals = yardstick.rows(yardstick.scores.level, "original", yardstick.judged)
    systems: dict[str, Floats] = {"original": originals}
    systems |= {a.method: a.primary.runs for a in outcome.audited if a.primary is not None}
    return Curves(
        roc=[_roc(name, scores.mean(0), golds.ravel()) for name, scores in systems.items()],
        histograms=_histograms({"Golds": golds, **systems}),
        rank_shift=_rank_shift(outcome),
    )


def _roc(name: str, positive: Floats, negative: Floats) -> RocCurve:
    curve = roc_curve(positive, negative).thin(_ROC_POINTS)
    return RocCurve(
        system=name,
        fpr=curve.fpr.tolist(),
        tpr=curve.tpr.tolist(),
        n_positive=len(positive),
        n_negative=len(negative),
    )


def _histograms(systems: dict[str, Floats]) -> list[Histogram]:
    """Densities on common bins between the 2% and 98% quantiles; what lies beyond counts in the end bins."""
    everything = np.concatenate([s.ravel() for s in systems.values()])
    low, high = np.quantile(everything, [0.02, 0.98])
    edges = np.linspace(low, high if high > low else low + 1.0, _BINS + 1)
    return [
        Histogram(
            system=name, edges=edges.tolist(),
            density=np.histogram(scores.ravel().clip(edges[0], edges[-1]), edges, density=True)[0].tolist(),
        )
        for name, scores in systems.items()
    ]  # fmt: skip


def _ranks(evidence: Evidence, role: str, forget: Bools) -> Floats:
    reading = evidence.readings[Pairs()]
    ranks = expit(reading.values["rank"][evidence.rows(role)][:, forget[reading.unit]])
    return np.asarray(ranks[np.isfinite(ranks)])


def _rank_shift(outcome: Outcome) -> list[RankShift]:
    sources = [
        ("Golds", outcome.background.evidence, "gold"),
        ("original", outcome.background.evidence, "original"),
    ]
    sources += [(a.method, a.observed.evidence, "unlearned") for a in outcome.audited]
    found = []
    for name, evidence, role in sources:
        if Pairs() in evidence.readings and len(ranks := _ranks(evidence, role, outcome.case.forget)):
            found.append(
                RankShift(system=name, quantiles=_QUANTILES.tolist(), rank=np.quantile(ranks, _QUANTILES).tolist())
            )
    return found


def retained(outcome: Outcome) -> dict[str, Estimate]:
    """Root mean square distance of retained units' z to the mean Gold, in units of a Gold left out.

    1 is what a Gold shows; more says that unlearning moved what was to stay. Undefined where the Golds do not differ.
    """
    background = outcome.background.evidence
    if Pairs() not in background.readings:
        return {}
    reading = background.readings[Pairs()]
    kept = np.asarray(outcome.case.units["group"] == "retain")[reading.unit]
    golds = reading.values["z"][background.rows("gold")][:, kept]
    if not np.isfinite(golds).any():
        return {}
    n, mean = len(golds), golds.mean(0)
    left_out = _rms(golds - mean) * np.sqrt(n / (n - 1))
    found = {}
    for audited in outcome.audited:
        if Pairs() in audited.observed.evidence.readings:
            values = audited.observed.evidence.readings[Pairs()].values["z"][:, kept]
            found[audited.method] = _ratio(_rms(values - mean) * np.sqrt(n / (n + 1)), left_out)
    return found


def _rms(deviations: Floats) -> Floats:
    """Root mean square of each row over what is known, float64 [n]; NaN where nothing is."""
    known = np.isfinite(deviations)
    total = np.where(known, deviations, 0.0) ** 2
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(total.sum(1) / known.sum(1)))


def _ratio(runs: Floats, golds: Floats) -> Estimate:
    if not np.isfinite(runs).all():
        return Estimate(note="the system answers nothing there")
    if not (golds > _NO_SCATTER).all():
        return Estimate(note="the Golds do not differ (a deterministic procedure), so there is no unit to measure in")
    logs, theirs = np.log(np.maximum(runs, _NO_SCATTER)), np.log(golds)
    error, degrees = standard_error(max(float(theirs.std(ddof=1)), _NO_SCATTER), len(theirs), logs)
    middle, half = float(logs.mean() - theirs.mean()), t_quantile(degrees, 0.95) * error
    return Estimate(
        value=float(np.exp(middle)), low=float(np.exp(middle - half)), high=float(np.exp(middle + half)),
        confidence=0.95, method="ratio to a left-out Gold, t interval on the log scale", n_systems=len(logs),
    )  # fmt: skip
