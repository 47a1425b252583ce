"""Dishonest systems made from the answers of trained ones: what a provider does who shifts scores after the fact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from auditkit.builds import Given, System
from auditkit.contracts import Probe
from auditkit.data.dataset import Floats, Ints
from auditkit.deletion import EVERYBODY
from auditkit.evidence import Evidence, Reading
from auditkit.statistics.likelihood import fit_in_out
from benchmarks.calibration.pools import Pool
from benchmarks.calibration.worlds import PASSES

# Answers of one signal [n_systems, n_points], its weights, the mean Gold -> answers of the derived systems.
Shift = Callable[[Floats, Floats, Floats], Floats]
# Places in lists do not follow from shifted scores: a derived system leaves these unanswered.
_LISTED = ("hit", "hits")


def to_level(target: float) -> Shift:
    """A common shift of all forgotten scores that makes the level `target` (0: tuned to Gold)."""

    def shifted(values: Floats, weights: Floats, gold: Floats) -> Floats:
        known = np.where(np.isfinite(values - gold), values - gold, 0.0)
        shift = (known @ weights) / weights.sum() - target
        # What carries no weight is not forgotten: decoys stay where they are.
        return np.asarray(values - shift[:, None] * (weights != 0))

    return shifted


def averaged(values: Floats, weights: Floats, gold: Floats) -> Floats:
    """The mean of the systems: an ensemble, one row."""
    return np.asarray(values.mean(0, keepdims=True))


def _weights(pool: Pool, probe: Probe, signal: str) -> Floats:
    """The attack's weights as a provider knows them who trains as many references as there are in the pool."""
    reading, rows = pool.evidence.readings[probe], pool.group("reference")
    return fit_in_out(reading.values[signal][rows], pool.evidence.held[rows][:, reading.unit]).weights()


def _append(pool: Pool, group: str, rows: Ints, shifts: list[Shift]) -> Pool:
    evidence, readings, count = pool.evidence, {}, 0
    for probe, reading in evidence.readings.items():
        values = {}
        for signal, answers in reading.values.items():
            made = answers[rows]
            gold = answers[pool.group("gold")].mean(0)
            for shift in shifts:
                made = shift(made, _weights(pool, probe, signal), gold)
            if shifts and signal in _LISTED:
                made = np.full(made.shape, np.nan)
            values[signal], count = np.concatenate([answers, made]), len(made)
        readings[probe] = Reading(reading.points, values, reading.n_units)
    systems = [
        System(f"{group} {k}", "unlearned", Given(group, f"{group} {k}", EVERYBODY), group) for k in range(count)
    ]
    held = np.zeros((count, len(evidence.units)), np.bool_)
    return replace(
        pool,
        evidence=Evidence(
            (*evidence.systems, *systems), evidence.units, np.concatenate([evidence.seen, ~held]),
            np.concatenate([evidence.held, held]), readings,
        ),
    )  # fmt: skip


def _nearest(pool: Pool) -> Ints:
    """For each parent, the reverse-BPR snapshot whose primary level is nearest to Gold's."""
    probe = next(
        p for p in pool.evidence.readings if p.name == ("pairs" if pool.world.regime == "interaction" else "fold-in")
    )
    values, weights = pool.evidence.readings[probe].values["z"], _weights(pool, probe, "z")
    gold = values[pool.group("gold")].mean(0)
    rows = np.stack([pool.group(f"reverse-bpr {n}") for n in PASSES])
    deviations = np.where(np.isfinite(values - gold), values - gold, 0.0)[rows.ravel()] @ weights
    nearest: Ints = rows[np.abs(deviations).reshape(rows.shape).argmin(0), np.arange(rows.shape[1])]
    return nearest


def with_derived(pool: Pool) -> Pool:
    """The pool with the dishonest systems added to it."""
    pool = _append(pool, "original - constant", pool.group("original"), [to_level(0.0)])
    if not len(pool.group(f"reverse-bpr {PASSES[0]}")):
        return pool
    tuned = _nearest(pool)
    pool = _append(pool, "tuned", tuned, [])
    pool = _append(pool, "tuned - constant", tuned, [to_level(0.0)])
    pool = _append(pool, "tuned ensemble", tuned, [averaged])
    return _append(pool, "finetune 10 - constant", pool.group("finetune 10"), [to_level(0.0)])
