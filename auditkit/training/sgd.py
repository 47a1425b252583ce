"""Training one member of a two-table model with the compiled BPR kernel, to its last epoch or its own early stop."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from auditkit.contracts import Backbone, Fit
from auditkit.data.dataset import Dataset
from auditkit.training.bpr_kernel import train_epochs
from auditkit.training.early_stopping import EarlyStopping, is_due, validation_recall, with_validation

Tables = tuple[NDArray[np.float32], NDArray[np.float32]]


def fit_member(model: Backbone, tables: tuple[torch.Tensor, torch.Tensor], data: Dataset, fit: Fit, seed: int) -> None:
    """Train in place.

    Args:
        model: what validation scores; its parameters are `tables`.
        tables: float32 user and item tables, on the CPU.
        data: train, and valid where the training stops early.
        fit: its engine must be `sgd`.
        seed: of the member's stream.

    Raises:
        ConfigurationError: nothing is there to validate on.
    """
    data = with_validation(data, fit)
    matrix = data.train.matrix(data.n_users, data.n_items)
    users = np.repeat(np.arange(data.n_users, dtype=np.int32), np.diff(matrix.indptr))
    items, indptr = matrix.indices.astype(np.int32), matrix.indptr.astype(np.int64)
    views: Tables = (tables[0].detach().numpy(), tables[1].detach().numpy())

    def advance(first: int, epochs: int) -> None:
        train_epochs(*views, users, items, indptr, seed, first, epochs, fit.learning_rate, fit.l2)

    if fit.patience is None:
        advance(0, fit.epochs)
        return
    stopping = EarlyStopping[Tables](1, fit.patience)
    done = 0
    while done < fit.epochs and not stopping.done:
        step = next(k for k in range(1, fit.epochs - done + 1) if is_due(fit, done + k))
        advance(done, step)
        done += step
        stopping.update(0, validation_recall(model, data), lambda: (views[0].copy(), views[1].copy()))
    best = stopping.best[0]
    if best is not None:
        for view, kept in zip(views, best, strict=True):
            view[:] = kept
