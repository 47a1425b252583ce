"""A torch module of somebody else's as a recommender: called with ids, in blocks, without gradients."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from auditkit.data.dataset import Ints
from auditkit.errors import ConfigurationError, DataError, NotApplicableError

Call = Literal["rows", "pairs"]
# Users of one call. A block of scores of 100,000 items then takes 100 MB.
_ROWS = 256
# Pairs of one call. A layer of 256 single-precision units over them takes 64 MB.
_PAIRS = 2**16


class TorchRecommender:
    """Scores as the module's `forward` gives them. The module is put into evaluation mode and stays there.

    Args:
        module: whose `forward` takes user ids, int64 [n], and returns scores of all items, float [n, n_items]
            (`call="rows"`), or takes user ids and item ids, int64 [n] each, and returns float [n] or [n, 1]
            (`call="pairs"`).
        n_users, n_items: sizes of the id spaces, 1 or more.
        call: which of the two.

    Raises:
        ConfigurationError: an argument is out of its domain; all at once.
    """

    def __init__(self, module: nn.Module, n_users: int, n_items: int, call: Call = "rows") -> None:
        problems = [
            f"{name} must be a whole number of 1 or more, got {size!r}"
            for name, size in (("n_users", n_users), ("n_items", n_items))
            if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1
        ]
        if not isinstance(module, nn.Module):
            problems.append(f"module must be a torch.nn.Module, got a {type(module).__name__}")
        if call not in get_args(Call):
            problems.append(f"call must be one of {', '.join(get_args(Call))}, got {call!r}")
        if problems:
            raise ConfigurationError(problems)
        self.module, self.n_users, self.n_items, self.call = module.eval(), int(n_users), int(n_items), call

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        """Scores of all items, float [n_given_users, n_items], on the module's device.

        Raises:
            NotApplicableError: a branch was asked for.
            DataError: `forward` returned something else than scores of these users.
        """
        if branch is not None:
            raise NotApplicableError(f"a torch module has no branch {branch!r}")
        # It may have been trained on since the last call.
        self.module.eval()
        asked = torch.tensor(np.asarray(users), dtype=torch.int64, device=self._device())
        with torch.no_grad():
            return self._rows(asked) if self.call == "rows" else self._pairs(asked)

    def _device(self) -> torch.device:
        held: list[Tensor] = [*self.module.parameters(), *self.module.buffers()]
        return held[0].device if held else torch.device("cpu")

    def _rows(self, users: Tensor) -> Tensor:
        return torch.cat([_checked(self.module(part), (len(part), self.n_items)) for part in torch.split(users, _ROWS)])

    def _pairs(self, users: Tensor) -> Tensor:
        pairs = torch.arange(len(users) * self.n_items, device=users.device)
        found = [
            self._of_pairs(users[part // self.n_items], part % self.n_items) for part in torch.split(pairs, _PAIRS)
        ]
        return torch.cat(found).reshape(len(users), self.n_items)

    def _of_pairs(self, users: Tensor, items: Tensor) -> Tensor:
        found = self.module(users, items)
        if isinstance(found, Tensor) and found.shape == (len(users), 1):
            found = found[:, 0]
        return _checked(found, (len(users),))


def _checked(found: Any, shape: tuple[int, ...]) -> Tensor:
    if not isinstance(found, Tensor) or not found.is_floating_point() or found.shape != shape:
        got = f"{list(found.shape)} of {found.dtype}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise DataError(f"forward must return a floating-point tensor {list(shape)}, got {got}; see the argument call")
    return found
