"""What a system is served over: data that still holds forgotten pairs has forgotten nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from auditkit.contracts import Access, Backbone, Recommender
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


def inspect_serving(model: Recommender, case: Case, allowed: Access) -> Serving:
    """Look for forgotten pairs in the data that backbones are served over, beneath a mask and in every shard too.

    Without access to weights it is not known what a system is served over.
    """
    beneath = (model,) if isinstance(model, Backbone) else getattr(model, "backbones", ())
    if Access.WEIGHTS not in allowed:
        beneath = ()
    forget, request = case.request.forget_set(case.data), case.request
    if not beneath or not all(isinstance(part, Backbone) for part in beneath):
        return Serving(False, False, 0, len(forget))
    codes = np.concatenate([part.data.train.codes(case.data.n_items) for part in beneath])
    left = int(np.isin(forget.codes(case.data.n_items), codes).sum())
    reads = [part for part in beneath if part.needs_features]
    present = [np.any([part.data.features[m].present for part in reads], 0) for m in request.modalities if reads]
    left += sum(int(served[request.items].sum()) for served in present)
    total = len(forget) + len(present) * request.n_units
    return Serving(True, any(True for part in beneath for _ in part.buffers()), left, total, bool(present))


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
