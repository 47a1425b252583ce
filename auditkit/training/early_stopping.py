"""Stopping on validation Recall@20, never on test, with the best state of every member kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Generic, TypeVar

import numpy as np

from auditkit.contracts import Fit, Recommender
from auditkit.data.dataset import Bools, Dataset, Floats, Ints
from auditkit.errors import ConfigurationError
from auditkit.utility import evaluate

State = TypeVar("State")


class EarlyStopping(Generic[State]):
    """Keeps the best state of every member and says which members have stopped.

    A member stops after `patience` evaluations in a row without a better value. What a stopped member is told
    later is ignored, so its result does not depend on how long its companions go on.

    Attributes:
        best: the kept state of each member; None before its first evaluation.
        values: float64 [n_members], the value of that state; -inf before the first evaluation.
        stopped: bool [n_members].
    """

    def __init__(self, n_members: int, patience: int) -> None:
        """Start with no evaluation.

        Args:
            n_members: how many are trained side by side, 1 or more.
            patience: evaluations without a better value before stopping, 1 or more.

        Raises:
            ConfigurationError: `patience` is below 1.
        """
        if patience < 1:
            raise ConfigurationError(f"fit.patience must be 1 or more, or null, got {patience}")
        self.patience = patience
        self.best: list[State | None] = [None] * n_members
        self.values = np.full(n_members, -np.inf)
        self._misses = np.zeros(n_members, np.int64)

    @property
    def stopped(self) -> Bools:
        """Which members have run out of patience, bool [n_members]."""
        return np.asarray(self._misses >= self.patience, np.bool_)

    @property
    def done(self) -> bool:
        """Whether every member has stopped."""
        return bool(self.stopped.all())

    def update(self, member: int, value: float, snapshot: Callable[[], State]) -> None:
        """Tell the value of one evaluation.

        Args:
            member: 0-based.
            value: higher is better; equal is not better.
            snapshot: makes the state to keep; called only where `value` is the best so far.
        """
        if self.stopped[member]:
            return
        if value > self.values[member]:
            self.best[member], self.values[member], self._misses[member] = snapshot(), value, 0
        else:
            self._misses[member] += 1


def is_due(fit: Fit, epoch: int) -> bool:
    """Whether validation follows the `epoch`-th pass (from 1): every `fit.every` and after the last."""
    return fit.patience is not None and (epoch % fit.every == 0 or epoch == fit.epochs)


def validation_recall(model: Recommender, data: Dataset) -> float:
    """Recall@20 on the validation part with the training pairs masked, in [0, 1]."""
    return evaluate(model, data.valid, data.train, ks=(20,)).mean()["recall@20"]


def with_validation(data: Dataset, fit: Fit) -> Dataset:
    """What is trained and validated on: `data` itself, or with a held-out validation part where it has none.

    Raises:
        ConfigurationError: `fit.patience` is set, but there is nothing to validate on.
    """
    if fit.patience is None or len(data.valid):
        return data
    if not 0 < fit.valid < 1:
        raise ConfigurationError(
            f"fit.patience needs validation pairs, but {data.name!r} has no validation part and fit.valid "
            f"is {fit.valid:g}: set fit.valid to a share in (0, 1), or fit.patience to null"
        )
    held = holdout_by_pair_hash(data, fit.valid)
    if not len(held.valid):
        raise ConfigurationError(
            f"fit.valid = {fit.valid:g} holds out none of the {len(data.train)} training pairs; raise it"
        )
    return held


def holdout_by_pair_hash(data: Dataset, share: float) -> Dataset:
    """Move about `share` of the training pairs to validation, each by a fixed hash of the pair alone.

    Erasing pairs moves no other pair between the parts, which a random draw would do. The hash is the
    SplitMix64 output function (Steele, Lea and Flood, OOPSLA 2014) of the pair's code.

    Args:
        data: without a validation part.
        share: expected share of the training pairs, in [0, 1].

    Raises:
        ConfigurationError: `share` is outside [0, 1], or `data` has a validation part already.
    """
    if not 0 <= share <= 1:
        raise ConfigurationError(f"fit.valid must be in [0, 1], got {share}")
    if len(data.valid):
        raise ConfigurationError(f"{data.name!r} has a validation part already; nothing is held out of train")
    held = _unit_hash(data.train.codes(data.n_items)) < share
    return replace(data, train=data.train.take(~held), valid=data.train.take(held))


_GOLDEN, _MIX_1, _MIX_2 = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _unit_hash(codes: Ints) -> Floats:
    """A number in [0, 1) for each code; unsigned arithmetic wraps."""
    z = (codes.astype(np.uint64) + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    # The top 53 bits are what a float64 holds exactly.
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) / 2.0**53
