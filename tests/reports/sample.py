"""Sample records with believable numbers, for tests of what renders them."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from auditkit.record import (
    EXIT_CODES,
    BackboneEntry,
    Control,
    CostEntry,
    Curves,
    DatasetEntry,
    Depth,
    Environment,
    Estimate,
    Finding,
    Histogram,
    Policy,
    Protocol,
    RankShift,
    Record,
    RequestEntry,
    RocCurve,
    Role,
    Rung,
    Section,
    Speedup,
    SystemEntry,
    UnitsFile,
    UtilityEstimate,
    Verdict,
    worst,
)

from .beneath import deciles, retained, unit_tests

N_UNITS = 4000
METRICS = {"recall@20": 0.2313, "ndcg@20": 0.1987, "recall@10": 0.1502, "precision@20": 0.0824, "mrr": 0.3121}
Methods = tuple[tuple[str, Verdict, float, float, float], ...]
METHODS: Methods = (
    ("sisa", "PASS", 0.021, 0.034, 0.012),
    ("finetune", "FAIL", 0.642, 0.588, 0.391),
    ("reverse-bpr", "FAIL", 0.006, 0.921, 0.477),
    ("row-reinit", "INCONCLUSIVE", 0.081, 0.062, -0.004),
)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def around(value: float, half: float = 0.05, **more: Any) -> Estimate:
    return Estimate(
        value=value,
        low=value - half,
        high=value + half,
        confidence=0.95,
        method="Student t over left-out Golds",
        n_units=N_UNITS,
        n_systems=8,
        seed=7,
        **more,
    )


def utility(shift: float) -> dict[str, UtilityEstimate]:
    return {
        name: UtilityEstimate(
            value=mean * (1 + shift),
            low=mean * (1 + shift) - 0.006,
            high=mean * (1 + shift) + 0.006,
            confidence=0.95,
            method="bootstrap over users",
            n_units=943,
            delta_vs_gold=around(mean * shift, 0.004),
        )
        for name, mean in METRICS.items()
    }


def findings(level: float, pattern: float, spread: float, section: Section) -> list[Finding]:
    primary = Finding(
        attack="lira-linear",
        parameters={"signal": "z"},
        access=["SCORES"],
        primary=True,
        counts=True,
        section=section,
        residual_dose=around(level),
        pattern=around(pattern, 0.06),
        spread=around(spread, 0.03),
        auc=around(0.5 + 0.3 * min(max(level, 0), 1), 0.012),
        tpr_at_fpr={
            "0.01": Estimate(value=0.01 + 0.2 * min(max(level, 0), 1), low=0.007, high=0.31),
            "0.001": Estimate(note="fewer than 3 expected"),
        },
        epsilon_low=around(0.4),
        n_units=N_UNITS,
        n_points=N_UNITS,
        n_golds=8,
        n_references=32,
        attainable_margin=0.082,
        p_value=0.0004 if section == "leak" else 0.71,
        coverage=1.0,
    )
    ranks = Finding(
        attack="rank-probe",
        access=["LISTS"],
        counts=True,
        section="inconclusive",
        residual_dose=around(level, 0.2),
        auc=around(0.5 + 0.1 * min(max(level, 0), 1), 0.02),
        n_units=N_UNITS,
        n_points=N_UNITS,
        n_golds=8,
        p_value=0.2,
        coverage=0.93,
    )
    absent = Finding(
        attack="lira",
        section="not_applicable",
        note="needs 16 references of this procedure, 0 were made",
        residual_dose=Estimate(note="no references"),
        pattern=Estimate(note="no references"),
    )
    return [primary, ranks, absent]


def system(
    name: str,
    role: Role,
    verdict: Verdict | None,
    level: float,
    pattern: float,
    spread: float,
    place: int = 0,
) -> SystemEntry:
    section: Section = {"PASS": "clean", "FAIL": "leak"}.get(verdict or "", "inconclusive")  # type: ignore[assignment]
    reasons = {
        "PASS": ["level, pattern and spread lie within 0.10 of Gold"],
        "FAIL": ["pattern lies beyond the margin (Holm-adjusted p < 0.001)", "lira-linear: leak"],
        "INCONCLUSIVE": ["upper bound on level 0.131 exceeds the margin 0.10; about 14 more Golds would settle it"],
    }
    deepest = max((abs(level), "level"), (abs(pattern), "pattern"), (max(spread, 0.0), "spread"))
    return SystemEntry(
        name=name,
        role=role,
        method=name,
        label="published" if role == "unlearned" else "baseline",
        parameters={"epochs": 5, "learning_rate": 0.05} if role == "unlearned" else {},
        seeds=[11 + place, 12 + place, 13 + place],
        procedure=_digest("procedure"),
        digests=[_digest(name)],
        verdict=verdict,
        reasons=reasons.get(verdict or "", []),
        depth=Depth(
            value=1 - deepest[0],
            low=0.9 - deepest[0],
            high=min(1.0, 1.06 - deepest[0]),
            confidence=0.95,
            attack="lira-linear",
            statistic=deepest[1],
        ),
        residual_dose=around(level),
        pattern=around(pattern, 0.06),
        spread=around(spread, 0.03),
        utility=utility(-0.02 * place),
        cost=CostEntry(
            train_s=41.3,
            unlearn_s=None if role != "unlearned" else 3.4 + place,
            cpu_s=80.2,
            peak_bytes=1_482_184_000,
            machine="8 cores",
            solo=place != 1,
        ),
        speedup_vs_gold=Speedup(value=12.1 - place, low=11.0 - place, high=13.4 - place, break_even_requests=2.0)
        if place != 1
        else Speedup(note="it shared the machine with another job"),
        findings=findings(level, pattern, spread, section) if role in ("unlearned", "original") else [],
        unit_tests=unit_tests(level) if role == "unlearned" else None,
        deciles=deciles(level) if role == "unlearned" else [],
    )


def systems(methods: Methods) -> list[SystemEntry]:
    gold = system("Gold", "gold", None, 0.0, 0.0, 0.0)
    original = system("original", "original", None, 1.0, 1.0, 1.0)
    made = [
        system(name, "unlearned", verdict, level, pattern, spread, place)
        for place, (name, verdict, level, pattern, spread) in enumerate(methods)
    ]
    return [gold, original, *made]


def ladder(rng: np.random.Generator, names: list[tuple[str, float]]) -> list[Rung]:
    def rung(name: str, role: str, true: float | None, read: float) -> Rung:
        return Rung(
            name=name,
            role=role,
            dose_true=true,
            dose_units=true,
            dose_read=read,
            low=read - 0.05,
            high=read + 0.05,
        )

    golds = [rung(f"Gold {k}", "gold", 0.0, float(rng.normal(0, 0.025))) for k in range(8)]
    references = [
        rung(f"reference {k}", "reference", true, true + 0.05 * true * (1 - true) + float(rng.normal(0, 0.025)))
        for k, true in enumerate(((2 * np.arange(16) + 1) / 32).tolist())
    ]
    half = rung("half-forgotten", "control", 0.5, 0.52)
    original = rung("original", "original", 1.0, 1.0)
    return [
        *golds,
        *references,
        half,
        original,
        *(rung(name, "unlearned", None, level) for name, level in names),
    ]


def roc(name: str, scores: np.ndarray[Any, Any], null: np.ndarray[Any, Any]) -> RocCurve:
    cuts = np.quantile(np.concatenate([scores, null]), np.linspace(1, 0, 400))
    fpr = [0.0, *((null[:, None] >= cuts).mean(axis=0)).tolist()]
    tpr = [0.0, *((scores[:, None] >= cuts).mean(axis=0)).tolist()]
    return RocCurve(system=name, fpr=fpr, tpr=tpr, n_positive=len(scores), n_negative=len(null))


def curves(rng: np.random.Generator, named: list[tuple[str, float]]) -> Curves:
    null = rng.normal(0, 1, N_UNITS)
    drawn = {name: rng.normal(1.6 * level, 1 + 0.15 * abs(level), N_UNITS) for name, level in named}
    edges, quantiles = np.linspace(-4, 6, 31), np.linspace(0, 1, 21)

    def histogram(name: str, values: np.ndarray[Any, Any]) -> Histogram:
        return Histogram(
            system=name, edges=edges.tolist(), density=np.histogram(values, edges, density=True)[0].tolist()
        )

    def shift(name: str, values: np.ndarray[Any, Any]) -> RankShift:
        ranks = 1 / (1 + np.exp(-np.quantile(values, quantiles)))
        return RankShift(system=name, quantiles=quantiles.tolist(), rank=ranks.tolist())

    pooled = {"Golds": null, **drawn}
    return Curves(
        roc=[roc(name, values, null) for name, values in drawn.items()],
        histograms=[histogram(name, values) for name, values in pooled.items()],
        rank_shift=[shift(name, values) for name, values in pooled.items()],
    )


def controls(*, ok: bool = True) -> list[Control]:
    return [
        Control(
            name="a Gold that was not among the Golds",
            expected="not FAIL",
            observed="PASS" if ok else "FAIL: level 0.31",
            ok=ok,
            consequence="the audit is INVALID",
        ),
        Control(
            name="the original",
            expected="found",
            observed="level 1.00 [0.95, 1.05]",
            ok=True,
            consequence="INCONCLUSIVE, no power",
        ),
        Control(
            name="half-forgotten",
            expected="found",
            observed="level 0.52 [0.47, 0.57]",
            ok=True,
            consequence="INCONCLUSIVE, no power",
        ),
    ]


def record(methods: Methods = METHODS, *, dataset: str = "ml-100k", **changes: Any) -> Record:
    """A whole report: Golds, the original and one audited system per method (name, verdict, L, P, rho)."""
    rng = np.random.default_rng(5)
    named = [(name, level) for name, _, level, _, _ in methods]
    verdict = worst([method[1] for method in methods])
    whole: dict[str, Any] = {
        "generator": "auditkit 0.1.0",
        "created": "2025-11-21T09:30:00Z",
        "config_digest": _digest("config"),
        "verdict": verdict,
        "reasons": [f"{name}: {v}" for name, v, *_ in methods],
        "exit_code": EXIT_CODES[verdict],
        "policy": Policy(
            profile="standard",
            margin=0.1,
            alpha=0.05,
            primary="lira-linear",
            golds=8,
            references=32,
            digest=_digest("policy"),
            min_power=0.8,
            power=0.997,
        ),
        "dataset": DatasetEntry(name=dataset, n_users=943, n_items=1682, n_interactions=80_000, digest=_digest("data")),
        "request": RequestEntry(
            regime="interaction",
            selection="random, 0.05 of the interactions, seed 0",
            n_units=N_UNITS,
            n_interactions=N_UNITS,
            n_units_judged=N_UNITS,
            digest=_digest("request"),
        ),
        "backbone": BackboneEntry(
            name="bpr-mf",
            hyperparameters={"dimension": 64, "bias": True},
            fit={"engine": "sgd", "epochs": 60},
        ),
        "protocol": Protocol(
            split="given",
            masked="retain train",
            selection_metric="none",
            selection_split="none; never test",
            negatives="all items",
            epoch="last of 60",
            l2="per sample",
        ),
        "attainable_margin": 0.082,
        "systems": systems(methods),
        "controls": controls(),
        "retained": {method[0]: retained(method[0]) for method in methods},
        "ladder": ladder(rng, named),
        "curves": curves(rng, [("original", 1.0), *named]),
        "units": UnitsFile(path="units.parquet", digest=_digest("units")),
        "limits": [
            "behaviour only: a dishonest provider who trains Golds and subtracts the expected trace passes "
            "any such test",
            "the unit of erasure is one interaction; nothing is said about users",
        ],
        "environment": Environment(
            python="3.11.9", packages={"torch": "2.4.0", "numpy": "1.26.4"}, device="cpu", git=None
        ),
    }
    return Record(**{**whole, **changes})


def invalid() -> Record:
    """An audit whose extra Gold was taken for a leak."""
    return record(
        (("sisa", "INVALID", 0.021, 0.034, 0.012),),
        exit_code=4,
        controls=controls(ok=False),
        reasons=["the extra Gold reads FAIL: the null band is too narrow"],
    )


def crowded(n: int = 12) -> Record:
    """An audit of many systems."""
    verdicts: tuple[Verdict, ...] = ("PASS", "FAIL", "INCONCLUSIVE")
    levels = np.linspace(-0.2, 1.9, n).round(3).tolist()
    return record(
        tuple(
            (f"method-{k:02d}-with-a-long-name", verdicts[k % 3], level, level / 2, level / 3)
            for k, level in enumerate(levels)
        )
    )


def hostile() -> Record:
    """Names that try to break out of markup, figures, attributes and terminals."""
    names = (
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(2)>',
        "$x_{1",
        "[bold red]hm[/] \x1b[31m\x00",
        "模型 😀 ü]]>",
    )
    return record(
        tuple((name, "FAIL", 0.3, 0.2, 0.1) for name in names),
        dataset="</title><script>alert(3)</script>",
        limits=["<b onclick=alert(4)>limit</b>"],
        reasons=["{{ 7 * 7 }} <svg onload=alert(5)>"],
    )


def minimal() -> Record:
    """Everything that may be absent is absent."""
    bare = SystemEntry(name="given", role="unlearned", method="given", seeds=[], procedure="")
    return record(
        (),
        dataset="bare",
        systems=[bare],
        **{name: [] for name in ("controls", "ladder", "limits", "reasons")},
        **dict.fromkeys(("units", "attainable_margin")),
        retained={},
        curves=Curves(),
        request=RequestEntry(regime="user", selection="given", n_units=1, n_interactions=0, digest=""),
        environment=Environment(python="3.11.9", packages={}, device="cpu"),
    )
