"""What systems cost, and how that compares with retraining: total work, pieces, requests, break-even."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from auditkit.builds import System
from auditkit.costs import Cost
from auditkit.flow import Audited, Outcome
from auditkit.plan import earlier_steps
from auditkit.record import CostEntry, Speedup
from auditkit.statistics.intervals import ratio_interval


def _bill(system: System, costs: Mapping[str, Cost]) -> list[Cost]:
    """Costs of all requests of a chain, the last one last; empty where one of them is not known."""
    names = [s.name for s in (*earlier_steps(system), system)]
    return [costs[name] for name in names] if all(name in costs for name in names) else []


def _per_request(bill: Sequence[Cost]) -> float:
    return float(np.mean([cost.wall_s for cost in bill]))


def cost_entry(systems: Sequence[System], costs: Mapping[str, Cost]) -> CostEntry:
    """Means over runs. Solo costs are comparable, so they stand for the entry wherever there are any.

    Args:
        systems: runs of one method, or systems of one role.
        costs: system name -> cost, those of earlier steps of a chain of requests among them.
    """
    bills = [bill for bill in (_bill(s, costs) for s in systems) if bill]
    chosen = [b for b in bills if all(c.solo for c in b)] or bills
    if not chosen:
        return CostEntry()
    wall = float(np.mean([_per_request(b) for b in chosen]))
    unlearned, every = systems[0].role == "unlearned", list(chain(*chosen))
    pieces = [c.pieces for c in every if c.pieces]
    return CostEntry(
        train_s=None if unlearned else wall, unlearn_s=wall if unlearned else None, machine=every[0].machine,
        cpu_s=float(np.mean([c.cpu_s for c in every])), peak_bytes=max(c.peak_bytes for c in every),
        solo=all(c.solo for c in every), requests=len(chosen[0]), total_s=wall * len(chosen[0]),
        n_pieces=round(float(np.mean([len(p) for p in pieces]))) if pieces else 0,
        slowest_piece_s=float(np.mean([max(p) for p in pieces])) if pieces else None,
        mean_piece_s=float(np.mean([np.mean(p) for p in pieces])) if pieces else None,
    )  # fmt: skip


def speedup(found: Audited, outcome: Outcome) -> Speedup:
    """Time of the plain Golds over the method's time per request, all of its work included.

    For shards that is the work of all of them one after another, never one shard's time.
    """
    plain = outcome.plain_golds
    golds = [plain.costs[s.name] for s in plain.evidence.systems if s.role == "gold" and s.name in plain.costs]
    bills = [bill for bill in (_bill(s, found.observed.costs) for s in found.systems) if bill]
    mine = list(chain(*bills))
    solo = [c for c in golds if c.solo]
    if not mine:
        return Speedup(note="made elsewhere: its cost is not known")
    if not solo or not all(c.solo for c in mine):
        return Speedup(note="Golds or the method were not built alone on the machine, so their times cannot be divided")
    if {c.machine for c in solo} != {c.machine for c in mine}:
        return Speedup(note="Golds and the method were built on different machines")
    gold_s, per_request = [c.wall_s for c in solo], [_per_request(b) for b in bills]
    ratio = ratio_interval(gold_s, per_request, 0.95)
    even, why = _break_even(outcome, float(np.mean(gold_s)), float(np.mean(per_request)))
    return Speedup(
        value=ratio.value, low=ratio.low, high=ratio.high, confidence=ratio.confidence, method=ratio.method,
        n_systems=len(bills), note="; ".join(filter(None, (ratio.note, why))), break_even_requests=even,
    )  # fmt: skip


def _break_even(outcome: Outcome, gold_s: float, request_s: float) -> tuple[float | None, str]:
    """Requests after which a training that is not plain has paid for itself, and why there is no such number."""
    originals = [s for s in outcome.background.evidence.systems if s.role == "original"]
    costs = [outcome.background.costs[s.name] for s in originals if s.name in outcome.background.costs]
    trained = [c.wall_s for c in costs if c.solo]
    if outcome.plain is None or not trained:
        return None, ""
    extra = float(np.mean(trained)) - gold_s
    if extra <= 0:
        return 0.0, ""
    if request_s >= gold_s:
        return None, "a request takes as long as retraining does, so the costlier training never pays off"
    return extra / (gold_s - request_s), ""
