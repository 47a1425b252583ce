"""Torch modules of others as recommenders: both ways of calling, in blocks, in evaluation mode, without gradients."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auditkit.errors import ConfigurationError, DataError, NotApplicableError
from auditkit.outside import torch_module
from auditkit.outside.checks import check_answers, check_form
from auditkit.outside.source import Ids
from auditkit.outside.torch_module import TorchRecommender

N_USERS, N_ITEMS = 30, 7


class Rows(nn.Module):
    """All items of a user at once; dropout tells whether it is being trained."""

    def __init__(self) -> None:
        super().__init__()
        drawn = torch.Generator().manual_seed(0)
        self.users = nn.Parameter(torch.randn(N_USERS, 4, generator=drawn))
        self.items = nn.Parameter(torch.randn(N_ITEMS, 4, generator=drawn))
        self.drop = nn.Dropout(0.5)
        self.calls: list[int] = []

    def forward(self, users: Tensor) -> Tensor:
        self.calls.append(len(users))
        found: Tensor = self.drop(self.users[users]) @ self.items.T
        return found


class Pairs(Rows):
    """A score of each pair."""

    def __init__(self, column: bool = False) -> None:
        super().__init__()
        self.column = column

    def forward(self, users: Tensor, items: Tensor) -> Tensor:  # type: ignore[override]
        self.calls.append(len(users))
        found: Tensor = (self.drop(self.users[users]) * self.items[items]).sum(-1)
        return found[:, None] if self.column else found


def made(kind: str) -> TorchRecommender:
    module = Rows() if kind == "rows" else Pairs(column=kind == "column")
    return TorchRecommender(module, N_USERS, N_ITEMS, call="rows" if kind == "rows" else "pairs")


@pytest.mark.parametrize("kind", ["rows", "pairs", "column"])
def test_scores_are_the_modules_own(kind: str) -> None:
    model = made(kind)
    users = np.array([29, 3, 3, 0])
    scores = model.score(users)
    module: Any = model.module
    torch.testing.assert_close(scores, (module.users[users] @ module.items.T).detach())
    assert not scores.requires_grad
    check_form(model, Ids(N_USERS, N_ITEMS), kind)
    check_answers(model, Ids(N_USERS, N_ITEMS), kind)
    # Training goes on elsewhere; what is served is still in evaluation mode.
    module.train()
    torch.testing.assert_close(model.score(users), scores)


@pytest.mark.parametrize(("kind", "limit", "size"), [("rows", "_ROWS", 4), ("pairs", "_PAIRS", 5)])
def test_blocks_change_nothing(kind: str, limit: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made(kind).score(np.arange(N_USERS))
    monkeypatch.setattr(torch_module, limit, size)
    model = made(kind)
    torch.testing.assert_close(model.score(np.arange(N_USERS)), whole)
    calls: Any = model.module.calls
    assert max(calls) == size
    assert sum(calls) == N_USERS * (1 if kind == "rows" else N_ITEMS)


class Constant(nn.Module):
    """Answers with one value, whoever is asked."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self, *ids: Tensor) -> Any:
        return self.value


@pytest.mark.parametrize(
    ("call", "value", "message"),
    [
        (
            "rows",
            torch.zeros(2),
            r"forward must return a floating-point tensor \[2, 7\], got \[2\] of torch\.float32; see",
        ),
        ("rows", torch.zeros(7, 2), r"tensor \[2, 7\], got \[7, 2\]"),
        ("rows", torch.zeros(2, 7, dtype=torch.int64), r"tensor \[2, 7\], got \[2, 7\] of torch\.int64"),
        ("rows", (torch.zeros(2, 7), None), r"tensor \[2, 7\], got a tuple"),
        ("pairs", torch.zeros(2, 7), r"tensor \[14\], got \[2, 7\] of torch\.float32; see the argument call"),
        ("pairs", np.zeros(14), r"tensor \[14\], got a ndarray"),
        ("pairs", torch.zeros(()), r"tensor \[14\], got \[\]"),
    ],
)
def test_answers_of_another_shape_or_kind(call: Literal["rows", "pairs"], value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TorchRecommender(Constant(value), N_USERS, N_ITEMS, call).score(np.array([0, 1]))


def test_arguments_out_of_their_domain_are_named_at_once() -> None:
    arguments: Any = ("a module", 0, 2.5, "all")
    with pytest.raises(ConfigurationError, match=r"^4 problems:") as caught:
        TorchRecommender(*arguments)
    assert caught.value.problems == (
        "n_users must be a whole number of 1 or more, got 0",
        "n_items must be a whole number of 1 or more, got 2.5",
        "module must be a torch.nn.Module, got a str",
        "call must be one of rows, pairs, got 'all'",
    )


def test_a_module_has_no_branch() -> None:
    with pytest.raises(NotApplicableError, match="a torch module has no branch 'text'"):
        made("rows").score(np.array([0]), branch="text")
