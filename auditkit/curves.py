"""What the figures draw: dose ladder, ROC against Gold, histograms, rank shift."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from auditkit.data.dataset import Bools, Floats
from auditkit.errors import NotApplicableError
from auditkit.evidence import Evidence
from auditkit.findings import read_system
from auditkit.flow import Audited, Outcome
from auditkit.probes import Pairs
from auditkit.record import Curves, Histogram, RankShift, RocCurve, Rung
from auditkit.statistics.intervals import t_quantile
from auditkit.statistics.roc import roc_curve
from auditkit.yardstick import Yardstick

_BINS = 40
_ROC_POINTS = 200
_QUANTILES = np.linspace(0, 1, 41)


def rungs(outcome: Outcome) -> list[Rung]:
    """Every system of known dose and every audited one, as the primary attack reads it."""
    yardstick = outcome.bench.primary
    if yardstick is None:
        return []
    line = yardstick.lines.level
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
        found += _steps(audited, yardstick)
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


def _steps(audited: Audited, yardstick: Yardstick) -> list[Rung]:
    """The systems that a chain of requests went through, beside the dose that each was still entitled to."""
    found = []
    for k, system in enumerate(audited.along.systems):
        try:
            judged = read_system(yardstick, audited.along.take([k]))
        except NotApplicableError:
            continue
        held = audited.along.held[k][judged.units]
        scale = yardstick.scale(yardstick.scores.level, judged.units)
        low, high = judged.level.bounds(yardstick.rules.alpha)
        found.append(
            Rung(
                name=system.name, role="step", dose_true=scale.effective(held.astype(np.float64)),
                dose_units=float(held.mean()), dose_read=judged.level.value, low=low, high=high,
            )
        )  # fmt: skip
    return found


def curves(outcome: Outcome) -> Curves:
    """ROC and histograms of the primary attack's unit scores, rank shift of the forgotten pairs."""
    yardstick = outcome.bench.primary
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


def _ranks(evidence: Evidence, role: str, units: Bools) -> Floats:
    reading = evidence.readings[Pairs()]
    ranks = expit(reading.values["rank"][evidence.rows(role)][:, units[reading.unit]])
    return np.asarray(ranks[np.isfinite(ranks)])


def _rank_shift(outcome: Outcome) -> list[RankShift]:
    sources = [
        ("Golds", outcome.background.evidence, "gold"),
        ("original", outcome.background.evidence, "original"),
    ]
    sources += [(a.method, a.observed.evidence, "unlearned") for a in outcome.audited]
    judged = outcome.case.forget & outcome.case.judged
    found = []
    for name, evidence, role in sources:
        if Pairs() in evidence.readings and len(ranks := _ranks(evidence, role, judged)):
            found.append(
                RankShift(system=name, quantiles=_QUANTILES.tolist(), rank=np.quantile(ranks, _QUANTILES).tolist())
            )
    return found
