"""One attack on one world: drawn audits, and what the attack says of originals and Golds that were not drawn."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from auditkit.battery import access_words
from auditkit.contracts import Access, Attack
from auditkit.digests import canonical
from auditkit.errors import NotApplicableError
from auditkit.evidence import Evidence
from auditkit.findings import Judged, finding, read_system
from auditkit.plan import ALL_ACCESS, MARGINS, SIZES
from auditkit.statistics.dose import Reading
from auditkit.statistics.multiplicity import holm
from auditkit.statistics.power import attainable_margin
from auditkit.yardstick import Rules, Yardstick, calibrate
from benchmarks.attack_catalogue.pools import Pool, drawn

REPEATS: Mapping[str, int] = {"quick": 4, "standard": 3, "certify": 1}
# Fresh Golds that one drawn audit looks at.
_GOLDS = 8


def label(attack: Attack) -> str:
    """Name of an attack with the parameters that are not the defaults."""
    told = [
        f"{getattr(attack, f.name)}"
        for f in fields(attack)
        if f.name != "name" and getattr(attack, f.name) != f.default
    ]
    return f"{attack.name} ({', '.join(told)})" if told else attack.name


def rules_of(attack: Attack, pool: Pool, profile: str) -> Rules:
    """The default rules of the world's regime with this attack as the primary one."""
    regime = pool.world.regime
    margin = MARGINS[regime][list(SIZES).index(profile)]
    return Rules(regime, margin, 0.05, attack.name, ALL_ACCESS | Access.SNAPSHOTS, 0)


def attainable(yardstick: Yardstick) -> float:
    """Smallest margin at which 90% of Golds would PASS: on level, pattern and spread, or what the attack has of them.

    NaN where the original does not stand out in what there is.
    """
    if yardstick.attainable is not None:
        return yardstick.attainable
    if not yardstick.power or yardstick.scores.pattern is not None:
        return float("nan")
    level = yardstick.scale(yardstick.scores.level, yardstick.judged).gold_doses
    return attainable_margin(level, None, None, alpha=yardstick.rules.alpha, rng=np.random.default_rng(0))


def _share(told: Sequence[bool]) -> float:
    return float(np.mean(told)) if told else float("nan")


def _fails(judged: Judged, yardstick: Yardstick) -> bool:
    """As a primary attack would say it: beyond the margin, Holm over what applies, decoys excusing what they share."""
    p_values = np.array(list(judged.p_values(yardstick.rules.margin).values()))
    return bool(holm(p_values).min() < yardstick.rules.alpha / 2)


def _farthest(judged: Judged) -> float:
    """The larger of |level| and |pattern|."""
    return max(abs(reading.value) for reading in (judged.level, judged.pattern) if reading is not None)


def _rejects(reading: Reading) -> bool:
    low, high = reading.bounds(0.025)
    return not low <= 0 <= high


def _audit(attack: Attack, pool: Pool, evidence: Evidence, profile: str, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, list(SIZES).index(profile)])
    background, golds, originals = drawn(evidence, *SIZES[profile], rng)
    start = time.perf_counter()
    yardstick = calibrate(attack, background, rules_of(attack, pool, profile))
    margin = attainable(yardstick)
    spent = time.perf_counter() - start
    told, original = finding(yardstick, evidence.take(originals[:1]))
    null, _ = finding(yardstick, evidence.take(golds[:1]))
    able = yardstick.power
    fresh = [read_system(yardstick, evidence.take([row])) for row in golds[:_GOLDS]] if able else []
    honest = [read_system(yardstick, evidence.take([row])) for row in evidence.rows("control")] if able else []
    rate = told.tpr_at_fpr.get("0.01")
    return {
        "profile": profile, "AUC original": told.auc.value, "TPR@1%": rate.value if rate else None,
        "AUC Gold": null.auc.value, "margin": margin, "dose original": original.level.value,
        "rejected": _share([_rejects(j.level) for j in fresh]),
        "FAIL Gold": _share([_fails(j, yardstick) for j in fresh]),
        "FAIL other epochs": _share([_fails(j, yardstick) for j in honest]),
        "dose other epochs": max((_farthest(j) for j in honest), default=float("nan")), "seconds": spent,
        "units": int(yardstick.judged.sum()),
    }  # fmt: skip


def measure(attack: Attack, pool: Pool) -> dict[str, Any]:
    """The attack's line of the world's table: medians over drawn audits.

    Returns:
        With key `reason` alone where it does not apply.
    """
    try:
        evidence, probing = pool.evidence(attack.probes)
        rows = [
            _audit(attack, pool, evidence, profile, seed)
            for profile in pool.world.profiles
            for seed in range(REPEATS[profile])
        ]
    except NotApplicableError as reason:
        return {"attack": label(attack), "name": attack.name, "reason": str(reason)}
    table = pd.DataFrame(rows)
    line: dict[str, Any] = {
        "attack": label(attack), "name": attack.name, "access": access_words(attack.access),
        "parameters": canonical(attack), "may be primary": pool.world.regime in attack.primary_for,
    }  # fmt: skip
    for name in (
        "AUC original",
        "TPR@1%",
        "AUC Gold",
        "rejected",
        "FAIL Gold",
        "FAIL other epochs",
        "dose other epochs",
    ):
        line[name] = float(pd.to_numeric(table[name]).mean())
    for profile in pool.world.profiles:
        line[f"margin {profile}"] = _typical(table.loc[table["profile"] == profile, "margin"])
    return {**line, "probe s": probing, "score s": float(table["seconds"].max()), "units": int(table["units"].max())}


def _typical(margins: pd.Series[float]) -> float:
    """The median, NaN where in half of the audits there was none."""
    found = pd.to_numeric(margins)
    return float(found.median()) if found.notna().mean() > 0.5 else float("nan")
