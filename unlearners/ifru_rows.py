"""The rows of users and items among a backbone's parameters: selecting, counting, drawing again."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from auditkit.contracts import Backbone, Task
from auditkit.data.dataset import Floats
from auditkit.errors import NotApplicableError
from auditkit.unlearners.influence import Selection
from auditkit.unlearners.pruning import Nodes, degrees
from auditkit.unlearners.rows import side_of


def rows_of(model: Backbone, nodes: Nodes) -> Selection:
    """The trained rows of the nodes; of a backbone that trains no rows, all its parameters.

    Raises:
        NotApplicableError: it trains nothing.
    """
    if not model.trained:
        raise NotApplicableError(f"{model.name} trains no parameter that could be moved; choose an exact method")
    sides = {name: side_of(model, name) for name in model.trained}
    tables = {name: side for name, side in sides.items() if side is not None}
    ids = {"user": np.flatnonzero(nodes.users), "item": np.flatnonzero(nodes.items)}
    rows = {name: torch.from_numpy(ids[side]).to(model.device) for name, side in tables.items()}
    return Selection({name: p for name, p in model.trained.items() if name in (tables or sides)}, rows)


def counted(model: Backbone, selection: Selection, counts: tuple[Floats, Floats]) -> Tensor:
    """How many samples each entry of the selection takes part in, float [size].

    Args:
        model: whose rows are meant.
        selection: of `rows_of`.
        counts: samples of each user and of each item, float64 [n_users] and [n_items]; a whole tensor is in all.
    """
    by_side = {"user": counts[0], "item": counts[1]}
    spread = []
    for name, parameter in selection.parameters.items():
        side = side_of(model, name) if name in selection.rows else None
        values = np.full(len(parameter), counts[0].sum()) if side is None else by_side[side]
        each = torch.as_tensor(values).to(parameter).view(-1, *[1] * (parameter.dim() - 1))
        spread.append(each.expand(parameter.shape))
    return selection.flat(spread)


def draw_again(model: Backbone, task: Task, rng: np.random.Generator) -> None:
    """Put the rows of users and items whose pairs all go back to a fresh start, in place, as retraining has them."""
    sizes = task.data.n_users, task.data.n_items
    had, has = degrees(task.data.train, *sizes), degrees(task.retain.train, *sizes)
    left = {
        side: np.flatnonzero((then > 0) & (now == 0))
        for side, then, now in zip(("user", "item"), had, has, strict=True)
    }
    if not any(len(ids) for ids in left.values()):
        return
    fresh = dict(_started(model, rng).named_parameters())
    with torch.no_grad():
        for name, parameter in model.trained.items():
            side = side_of(model, name)
            if side is not None:
                ids = torch.from_numpy(left[side])
                parameter[ids.to(parameter.device)] = fresh[name][ids].to(parameter.device)


def _started(model: Backbone, rng: np.random.Generator) -> Backbone:
    """The same backbone with fresh parameters; its buffers, which take long to build, are shared."""
    made = copy.copy(model)
    made.__dict__ = {
        **model.__dict__,
        "_parameters": dict(model._parameters),
        "_modules": dict(model._modules),
        "_buffers": dict(model._buffers),
    }
    made.start(rng)
    return made
