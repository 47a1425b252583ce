"""Ranking quality of a system within an audit: what it is asked, and what is left out for every system alike."""

from __future__ import annotations

from dataclasses import dataclass

from auditkit.contracts import Recommender
from auditkit.data.dataset import Interactions
from auditkit.evidence import Case
from auditkit.protocol import Protocol
from auditkit.utility import evaluate

KS = (10, 20)


@dataclass(frozen=True)
class Usefulness:
    """Means over users.

    Attributes:
        metrics: recall, NDCG, ... on the test pairs that the request does not cover.
        forget_recall: Recall@20 of the forgotten training pairs; None where there are none.
    """

    metrics: dict[str, float]
    forget_recall: float | None


def uncovered_test(case: Case) -> Interactions:
    """Test pairs of users and items that the request leaves."""
    if case.request.regime == "interaction":
        return case.data.test
    return case.data.test.take(case.request.unit_of(case.data.test, case.data.n_items) < 0)


def measure_usefulness(model: Recommender, case: Case, protocol: Protocol) -> Usefulness:
    """Full ranking; the protocol says which retained pairs are masked, the same for all systems."""
    masked = protocol.mask(case.retain)
    truth, forget = uncovered_test(case), case.request.forget_set(case.data)
    metrics = dict(evaluate(model, truth, masked, ks=KS).mean()) if len(truth) else {}
    forgotten = evaluate(model, forget, masked, ks=(20,)).mean() if len(forget) else {}
    return Usefulness({name: float(value) for name, value in metrics.items()}, forgotten.get("recall@20"))
