"""Training one member of a two-table model with the compiled BPR kernel, to its last epoch or its own early stop."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from auditkit.contracts import Backbone, Fit
from auditkit.data.dataset import Dataset
from auditkit.training.bpr_kernel import train_epochs


def fit_member(model: Backbone, user_table: Tensor, item_table: Tensor, data: Dataset, fit: Fit, seed: int) -> None:
    """Train the tables (float32, on CPU) in place; `model` is what validation scores."""
    matrix = data.train.matrix(data.n_users, data.n_items)
    users = np.repeat(np.arange(data.n_users, dtype=np.int32), np.diff(matrix.indptr))
    items = matrix.indices.astype(np.int32)
    indptr = matrix.indptr.astype(np.int64)
    tables = user_table.detach().numpy(), item_table.detach().numpy()

    def advance(first: int, epochs: int) -> None:
        train_epochs(*tables, users, items, indptr, seed, first, epochs, fit.learning_rate, fit.l2)

    advance(0, fit.epochs)
