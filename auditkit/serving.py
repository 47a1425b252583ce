"""What a system is served over: data that still holds forgotten pairs has forgotten nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from auditkit.contracts import Backbone, Recommender
from auditkit.evidence import Case
from auditkit.record import Finding


@dataclass(frozen=True)
class Serving:
    """What the direct check saw.

    Attributes:
        known: the serving data could be inspected.
        used: the model scores through it (graph, history).
        left: forgotten pairs found in it, and withdrawn features that are still served.
        total: forgotten pairs and withdrawn features of the request.
        withdrawn: whether there are features among them.
    """

    known: bool
    used: bool
    left: int
    total: int
    withdrawn: bool = False


def inspect_serving(model: Recommender, case: Case) -> Serving:
    """Look for forgotten pairs in the data a backbone is served over, beneath an output mask too."""
    beneath = model if isinstance(model, Backbone) else getattr(model, "backbone", None)
    forget, request = case.request.forget_set(case.data), case.request
    if not isinstance(beneath, Backbone):
        return Serving(False, False, 0, len(forget))
    codes = beneath.data.train.codes(case.data.n_items)
    left = int(np.isin(forget.codes(case.data.n_items), codes).sum())
    withdrawn = [beneath.data.features[m].present for m in request.modalities] if beneath.needs_features else []
    left += sum(int(present[request.items].sum()) for present in withdrawn)
    total = len(forget) + len(withdrawn) * request.n_units
    return Serving(True, any(True for _ in beneath.buffers()), left, total, bool(withdrawn))


def served_finding(runs: Sequence[Serving]) -> Finding:
    """The finding over a method's runs: a leak where the model scores through forgotten pairs."""
    if not all(s.known for s in runs):
        return Finding(
            attack="served-data",
            section="not_applicable",
            note="the serving data cannot be inspected",
            access=["WEIGHTS"],
        )
    left, total = max(s.left for s in runs), runs[0].total
    used = any(s.used for s in runs)
    what = "forgotten pairs or withdrawn features" if runs[0].withdrawn else "forgotten pairs"
    if left and used:
        section, note = (
            "leak",
            f"{left} of {total} {what} are still in what the system scores through",
        )
    elif left:
        section, note = (
            "clean",
            f"{left} of {total} forgotten pairs are kept in a history the scores do not use",
        )
    else:
        section, note = "clean", "no forgotten pair is in what the system is served over"
    return Finding.model_validate(
        {
            "attack": "served-data",
            "access": ["WEIGHTS"],
            "counts": used,
            "section": section,
            "note": note,
            "n_units": total,
        }
    )
