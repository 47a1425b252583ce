"""Checks of the audit itself: an extra Gold, the original, a half-erased system, and an attacker who sees no model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from auditkit.contracts import Attack
from auditkit.data.dataset import Ints
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case, Evidence
from auditkit.findings import attempt, read_system
from auditkit.judge import rule
from auditkit.record import Control
from auditkit.statistics.intervals import Interval
from auditkit.statistics.roc import auc_clustered
from auditkit.yardstick import Rules, Yardstick

_BLIND_BAND = (0.45, 0.55)
# Of a request that names one person nobody can hold a half, and of a few units a random half may be nearly nothing.
_LEAST_HALF = 0.25


def check_controls(
    case: Case, background: Evidence, yardsticks: Mapping[Attack, Yardstick], rules: Rules
) -> tuple[list[Control], dict[str, str]]:
    """Run the controls.

    Returns:
        The controls, and what each broken one means for verdicts (`INVALID: ...`, `INCONCLUSIVE: ...`).
    """
    controls = [_blind(case)] if case.request.regime == "interaction" and "outside" in set(case.units["group"]) else []
    primary = next((y for a, y in yardsticks.items() if a.name == rules.primary), None)
    if primary is not None:
        controls = [
            _control_gold(primary, background, yardsticks, rules), _original(primary),
            _half(primary, background), *controls
        ]  # fmt: skip
    broken = {
        c.name: c.consequence for c in controls if not c.ok and c.consequence.startswith(("INVALID", "INCONCLUSIVE"))
    }
    return controls, broken


def _named(background: Evidence, name: str) -> Evidence:
    rows: Ints = np.array([k for k, s in enumerate(background.systems) if s.name == name], np.int64)
    return background.take(rows)


def _control_gold(
    primary: Yardstick, background: Evidence, yardsticks: Mapping[Attack, Yardstick], rules: Rules
) -> Control:
    extra = _named(background, "control gold")
    read = {attack: attempt(attack, yardstick, extra, rules) for attack, yardstick in yardsticks.items()}
    judged = next((judged for attack, (_, judged) in read.items() if attack.name == rules.primary), None)
    ruling = rule([found for found, _ in read.values()], judged, primary, rules, len(extra.systems), {})
    level = f", level {judged.level.value:.3f}" if judged else ""
    return Control(
        name="extra Gold", expected="a Gold that is in no pool does not FAIL",
        observed=f"{ruling.verdict}{level}", ok=ruling.verdict != "FAIL",
        consequence="INVALID: an independent Gold FAILs, so the yardstick is off (confounded data, too few Golds)",
    )  # fmt: skip


def _original(primary: Yardstick) -> Control:
    low = primary.scale(primary.scores.level, primary.judged).power.bounds(primary.rules.alpha)[0]
    return Control(
        name="original", expected="the system that forgot nothing is found: lower bound of its level above 0",
        observed=f"lower bound {low:.3f}" if np.isfinite(low) else "no gap between Golds and original",
        ok=primary.power,
        consequence="INCONCLUSIVE: the original is not found, so the audit has no power on this request",
    )  # fmt: skip


def _half(primary: Yardstick, background: Evidence) -> Control:
    consequence = (
        "INCONCLUSIVE: a system that holds half of the units is not found, so the audit has no power on this request"
    )
    expected = "a system that still holds a random half is found: lower bound of its level above 0"
    half = _named(background, "half-erased")
    scale = primary.scale(primary.scores.level, primary.judged)
    dose = scale.effective(half.held[0, primary.judged].astype(np.float64))
    if primary.power and dose < _LEAST_HALF:
        n = int(primary.judged.sum())
        observed = f"not applicable: the half of {n} unit{'s' if n > 1 else ''} holds {dose:.2f} of the dose"
        return Control(name="half-erased", expected=expected, observed=observed, ok=True, consequence=consequence)
    try:
        reading = read_system(primary, half).level
    except NotApplicableError as reason:
        return Control(name="half-erased", expected=expected, observed=str(reason), ok=False, consequence=consequence)
    low = reading.bounds(primary.rules.alpha)[0]
    return Control(
        name="half-erased", expected=expected, observed=f"level {reading.value:.3f}, lower bound {low:.3f}",
        ok=low > 0 and primary.power, consequence=consequence,
    )  # fmt: skip


def blind_auc(case: Case) -> Interval:
    """AUC of forget against outside pairs from activity and popularity alone, users kept together.

    A logistic regression on the logarithms and their product, predicted out of fold by user; interval by cluster.
    """
    units = case.units[case.judged & case.units["group"].isin(["forget", "outside"])]
    # Degrees in the retain set: a forgotten pair would count itself, and a test pair would not.
    kept = case.retain.train
    activity = np.bincount(kept.users, minlength=case.data.n_users)[units["user"].to_numpy()]
    popularity = np.bincount(kept.items, minlength=case.data.n_items)[units["item"].to_numpy()]
    logs = np.log1p(np.stack([activity, popularity], axis=1))
    inputs = np.column_stack([logs, logs.prod(axis=1)])
    forget, clusters = np.asarray(units["group"] == "forget"), units["cluster"].to_numpy()
    folds = min(5, len(np.unique(clusters)))
    if folds < 2 or forget.all() or not forget.any():
        return Interval(None, None, None, 0.95, "", "too few users or no outside pairs")
    model = make_pipeline(StandardScaler(), LogisticRegression())
    scores = cross_val_predict(model, inputs, forget, groups=clusters, cv=GroupKFold(folds), method="decision_function")
    return auc_clustered(scores[forget], scores[~forget], clusters[forget], clusters[~forget], 0.95)


def _blind(case: Case) -> Control:
    area = blind_auc(case)
    low, high = area.low if area.low is not None else 0.5, area.high if area.high is not None else 0.5
    shown = f"AUC {area.value:.3f} [{low:.3f}, {high:.3f}]" if area.value is not None else area.note
    return Control(
        name="blind metadata attack",
        expected=f"popularity and activity do not tell forgotten from test pairs: interval meets {list(_BLIND_BAND)}",
        observed=shown, ok=low <= _BLIND_BAND[1] and high >= _BLIND_BAND[0],
        consequence="any AUC or TPR of forgotten against test pairs would measure popularity, not memory; "
        "verdicts here compare with Gold and stand",
    )  # fmt: skip
