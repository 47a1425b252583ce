"""Attackers who see no model: what the data alone give away about which pairs were forgotten."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.utils.extmath import randomized_svd

from auditkit.data.dataset import Dataset, Features, Floats
from auditkit.evidence import Case
from auditkit.record import Control
from auditkit.statistics.intervals import Interval
from auditkit.statistics.roc import auc_clustered

_BAND = (0.45, 0.55)
_COMPONENTS = 8


def blind_controls(case: Case) -> list[Control]:
    """Popularity and activity, and where items have features their content, against the test pairs.

    Empty where there are no pairs to compare with: requests other than interactions, data without a test part.
    """
    if case.request.regime != "interaction" or "outside" not in set(case.units["group"]):
        return []
    found = [_control("blind metadata attack", "popularity and activity", "popularity", blind_auc(case))]
    if case.data.features:
        found.append(_control("blind content attack", "the items' content", "content", blind_content_auc(case)))
    return found


def blind_auc(case: Case) -> Interval:
    """AUC of forget against outside pairs from activity and popularity alone, users kept together.

    A logistic regression on the logarithms and their product, predicted out of fold by user; interval by cluster.
    """
    units = _compared(case)
    # Degrees in the retain set: a forgotten pair would count itself, and a test pair would not.
    kept = case.retain.train
    activity = np.bincount(kept.users, minlength=case.data.n_users)[units["user"].to_numpy()]
    popularity = np.bincount(kept.items, minlength=case.data.n_items)[units["item"].to_numpy()]
    logs = np.log1p(np.stack([activity, popularity], axis=1))
    return _auc(np.column_stack([logs, logs.prod(axis=1)]), units)


def blind_content_auc(case: Case) -> Interval:
    """AUC of forget against outside pairs from the items' features alone, users kept together.

    Inputs of the logistic regression, for each modality: whether the item has features; the cosine of its features and
    the mean of those in the user's retained history, 0 where either has none; its first principal components (up to
    8), the mean where it has no features.
    """
    units, kept = _compared(case), case.retain
    inputs = [_content(case.data.features[name], kept, units) for name in case.data.modalities]
    return _auc(np.concatenate(inputs, axis=1), units)


def _compared(case: Case) -> pd.DataFrame:
    return case.units[case.judged & case.units["group"].isin(["forget", "outside"])]


def _content(features: Features, retain: Dataset, units: pd.DataFrame) -> Floats:
    users, items = units["user"].to_numpy(), units["item"].to_numpy()
    values = np.where(features.present[:, None], features.values, 0.0).astype(np.float64)
    rows = normalize(values)
    # The sum of a history has the direction of its mean.
    histories = normalize(retain.train.matrix(retain.n_users, retain.n_items) @ rows)
    cosine = np.einsum("nk,nk->n", histories[users], rows[items])
    return np.column_stack([features.present[items], cosine, _components(features)[items]])


def _components(features: Features) -> Floats:
    """First principal components of the present rows, float64 [n_items, up to 8]; 0, the mean, in absent ones."""
    known = features.values[features.present].astype(np.float64)
    most = min(_COMPONENTS, *known.shape)
    found = np.zeros((len(features.present), most))
    if most:
        centred = known - known.mean(0)
        found[features.present] = centred @ randomized_svd(centred, most, random_state=0)[2].T
    return found


def _auc(inputs: Floats, units: pd.DataFrame) -> Interval:
    forget, clusters = np.asarray(units["group"] == "forget"), units["cluster"].to_numpy()
    folds = min(5, len(np.unique(clusters)))
    if folds < 2 or forget.all() or not forget.any():
        return Interval(None, None, None, 0.95, "", "too few users or no outside pairs")
    model = make_pipeline(StandardScaler(), LogisticRegression())
    scores = cross_val_predict(model, inputs, forget, groups=clusters, cv=GroupKFold(folds), method="decision_function")
    return auc_clustered(scores[forget], scores[~forget], clusters[forget], clusters[~forget], 0.95)


def _control(name: str, known: str, measured: str, area: Interval) -> Control:
    low, high = area.low if area.low is not None else 0.5, area.high if area.high is not None else 0.5
    shown = f"AUC {area.value:.3f} [{low:.3f}, {high:.3f}]" if area.value is not None else area.note
    return Control(
        name=name, expected=f"{known} do not tell forgotten from test pairs: interval meets {list(_BAND)}",
        observed=shown, ok=low <= _BAND[1] and high >= _BAND[0],
        consequence=f"any AUC or TPR of forgotten against test pairs would measure {measured}, not memory; "
        "verdicts here compare with Gold and stand",
    )  # fmt: skip
