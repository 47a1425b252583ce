"""Batches of the retained and of the forgotten pairs, with negatives as the parent's own training drew them."""

from __future__ import annotations

import numpy as np

from auditkit.contracts import Task
from auditkit.data.dataset import Interactions
from auditkit.unlearners.steps import Batches


def retained_batches(task: Task, size: int) -> Batches:
    """Batches of `size` retained pairs; a user's forgotten items are none of their negatives."""
    return _batches(task, size, task.retain.train, task.retain.train, task.forget)


def forgotten_batches(task: Task, size: int, pairs: Interactions | None = None) -> Batches:
    """Batches of `size` of the forgotten pairs, or of `pairs`; a user's retained items are none of their negatives."""
    return _batches(task, size, task.forget if pairs is None else pairs, task.retain.train, task.retain.train)


def original_batches(task: Task, size: int) -> Batches:
    """Batches of `size` of the pairs that the parent was trained on."""
    return _batches(task, size, task.data.train, task.data.train, None)


def _batches(
    task: Task, size: int, pairs: Interactions, trained: Interactions, excluded: Interactions | None
) -> Batches:
    """Items without training pairs are no negatives where the parent's training had none of them."""
    pool = np.unique(trained.items) if task.recipe.fit.negatives == "trained" else None
    return Batches(pairs, task.data.n_items, size, excluded, pool=pool)
