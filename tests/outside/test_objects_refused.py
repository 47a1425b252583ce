"""Functions and objects that are refused before any audit, each written as a module and with its message."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auditkit.errors import AuditkitError, ConfigurationError, DataError
from auditkit.outside.objects import source
from auditkit.outside.source import Ids

IDS = Ids(6, 5)
HEAD = """
import asyncio, sys
import numpy as np
import torch

TABLE = torch.arange(30.0).reshape(6, 5).sin()

class Ours:
    n_users, n_items = 6, 5
    def score(self, users, *, branch=None):
        return self.scores(torch.as_tensor(users))
    def scores(self, users):
        return TABLE[users]
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder of a configuration; what is imported from it is forgotten afterwards."""
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before
    sys.modules.pop("their_models", None)


def ours(body: str) -> str:
    """A module whose function returns an object with a body of its own."""
    return f"class Mine(Ours):\n    {body}\ndef load(): return Mine()"


def scored(value: str) -> str:
    """A module whose object answers every question with `value`."""
    return ours(f"def scores(self, users): return {value}")


def folded(body: str) -> str:
    return ours(f"def fold_in(self, histories, *, side='user'): {body}")


NET = """
class Net(torch.nn.Module):
    n_users, n_items = 6, 5
    def __init__(self):
        super().__init__()
        self.layer = LAYER
    def score(self, users, *, branch=None):
        with torch.no_grad():
            return self.layer(TABLE[torch.as_tensor(users)])
def load(): return Net().train()
"""
WHAT = r"^what their_models:load returned"
TWICE = (
    r"scores of a user must depend on nothing but the user, but asked twice it answered differently; call \.eval\(\)"
)
OTHERS = r"but asked alone it answered differently; nothing may be normalised over the users who are asked together"
REFUSED: dict[str, tuple[str, str]] = {
    "no such function": ("", r"^their_models:load: .*their_models\.py has no 'load'; write a function of that name"),
    "an object for a function": ("load = Ours()", r"^their_models:load is a Ours, not a function; write one that retu"),
    "a module that raises": ("1 / 0", r"^their_models cannot be imported: ZeroDivisionError: division by zero"),
    "a module that ends": ("sys.exit('bye')", r"^their_models cannot be imported: SystemExit: bye"),
    "a module that is no Python": ("def load(:", r"^their_models cannot be imported: SyntaxError"),
    "a missing dependency": ("import not_there_at_all", r"ModuleNotFoundError: No module named 'not_there_at_all'; it"),
    "a function that raises": ("def load(): raise OSError('no file')", r"^their_models:load raised OSError: no file"),
    "a function that ends": ("def load(): sys.exit(3)", r"^their_models:load raised SystemExit: 3"),
    "a function of a name": ("def load(system): ...", r"needs the argument system; name the system in the option syst"),
    "a function of two": ("def load(path, seed): ...", r"needs the arguments path, seed; it may take one at most: the"),
    "a named argument": ("def load(*, path): ...", r"needs the arguments path; it may take one at most: the system's"),
    "nothing": ("def load(): ...", WHAT + r" is a NoneType without n_users, n_items, score; a recommender has n_users"),
    "a dictionary": ("def load(): return {}", WHAT + r" is a dict without n_users, n_items, score"),
    "a generator": ("def load(): yield Ours()", WHAT + r" is a generator without n_users"),
    "no sizes": ("class A:\n    def score(self, users): ...\ndef load(): return A()", WHAT + r" is a A without n_user"),
    "no score": ("class A: n_users, n_items = 6, 5\ndef load(): return A()", WHAT + r" is a A without score; a recomm"),
    "a score that is a table": (ours("score = TABLE"), WHAT + r" is a Mine whose score is no method; write score\(use"),
    "the class, not an object": ("def load(): return Ours", WHAT + r" is the class Ours, not an object of it; return"),
    "a user too many": (ours("n_users = 7"), WHAT + r" has n_users 7, the data set has 6; ids must mean the same in b"),
    "both sizes": (ours("n_users, n_items = 5, 6"), r"has n_users 5, the data set has 6.*; .*has n_items 6, the data"),
    "sizes of text": (ours("n_items = '5'"), WHAT + r" has n_items '5', which must be a whole number"),
    "a score that raises": (
        ours("def score(self, users): return {}[9]"),
        WHAT + r": score raised KeyError: 9; it is asked with 0-based ids as a NumPy int64 array",
    ),
    "an embedding asked with an array": (
        "class A(Ours):\n    e = torch.nn.Embedding(6, 5)\n    def score(self, users): return self.e(users)\n"
        "def load(): return A()",
        WHAT + r": score raised TypeError: .*; it is asked with 0-based ids as a NumPy int64 array",
    ),
    "a list of lists": (scored("TABLE[users].tolist()"), WHAT + r": score must return a tensor or NumPy array of numb"),
    "an array of objects": (scored("TABLE[users].numpy().astype(object)"), r"must return a tensor or NumPy array of n"),
    "a function as an answer": (scored("asyncio.sleep"), r"score must return a tensor or NumPy array of numbers, got"),
    "whole numbers": (scored("users[:, None] + torch.arange(5)"), r"must return floating-point numbers, got torch\.in"),
    "whole numbers of NumPy": (scored("np.zeros((len(users), 5), int)"), r"floating-point numbers, got torch\.int64;"),
    "truth values": (scored("TABLE[users] > 0"), r"floating-point numbers, got torch\.bool; return scores\.float\(\)"),
    "complex numbers": (scored("TABLE[users] * 1j"), r"must return floating-point numbers, got torch\.complex64"),
    "one row for all": (scored("TABLE[0]"), r"score must return \[6, 5\] for 6 users, got \[5\]"),
    "all users whoever is asked": (
        scored("torch.cat([TABLE, TABLE])"), r"score must return \[6, 5\] for 6 users, got \[12, 5\]"
    ),
    "an item too few": (scored("TABLE[users, :4]"), r"score must return \[6, 5\] for 6 users, got \[6, 4\]"),
    "transposed": (scored("TABLE[users].T"), r"score must return \[6, 5\] for 6 users, got \[5, 6\]"),
    "the best items, not scores": (scored("TABLE[users].topk(3)"), r"must return a tensor or NumPy array.* got a topk"),
    "nothing but NaN": (scored("TABLE[users] * np.nan"), r"score gave no finite number for the users \[0, 1, 2, 3, 4,"),
    "nothing but infinity": (scored("TABLE[users] / 0"), r"score gave no finite number for the users"),
    "random scores": (scored("TABLE[users] + torch.rand(len(users), 5)"), TWICE),
    "random items not offered": (
        ours("calls = 0\n    def scores(self, users):\n        self.calls += 1\n"
             "        return torch.where(torch.arange(5) == self.calls % 5, torch.nan, TABLE[users])"), TWICE,
    ),
    "dropout in training mode": (NET.replace("LAYER", "torch.nn.Dropout(0.3)"), TWICE),
    "batch norm in training mode": (NET.replace("LAYER", "torch.nn.BatchNorm1d(5)"), r"score raised ValueError: Expec"),
    "normalised over who is asked": (scored("TABLE[users].softmax(0)"), OTHERS),
    "centred over who is asked": (scored("TABLE[users] - TABLE[users].mean(0)"), OTHERS),
    "always in one order": (
        scored("TABLE[users.sort().values]"), r"asked in another order it answered differently; row k must belong to us"
    ),
    "scores by the place in the question": (
        ours("def scores(self, users): return TABLE[users] + torch.arange(len(users))[:, None] * TABLE[0]"),
        r"asked in another order it answered differently",
    ),
    "fold-in that raises": (
        folded("raise IndexError('no')"),
        r"fold_in\(histories, side='user'\) raised IndexError: no; where it cannot take new users it must raise audit",
    ),
    "fold-in without a side": (
        ours("def fold_in(self, histories): return TABLE[:2]"), r"fold_in\(histories, side='user'\) raised TypeError"
    ),
    "fold-in of another shape": (
        folded("return TABLE[:2]"),
        r"fold_in\(histories, side='item'\) must return floating-point numbers \[2, 6\] for two histories, got \[2, 5",
    ),
    "fold-in of lists": (folded("return [[0.0] * 5] * 2"), r"fold_in\(histories, side='user'\) must return.*got a lis"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(home: Path, name: str) -> None:
    text, message = REFUSED[name]
    (home / "their_models.py").write_text(HEAD + text, encoding="utf-8")
    with pytest.raises(AuditkitError, match=message) as caught:
        source("their_models:load", IDS, {}, folder=home)
    assert isinstance(caught.value, ConfigurationError | DataError)


@pytest.mark.parametrize(
    ("place", "options", "message"),
    [
        ("their_models", {}, r'model must be "module:function", got \'their_models\''),
        ("their_models.py:load", {}, r"their_models\.py cannot be imported: ModuleNotFoundError"),
        ("folder/their_models:load", {}, r'model must be "module:function", got \'folder/their_models:load\''),
        ("their_models:load()", {}, r'model must be "module:function"'),
        ("their_models:Ours.score", {}, r'model must be "module:function"'),
        (":load", {}, r'model must be "module:function", got \':load\''),
        ("", {}, r'model must be "module:function", got \'\''),
        ("..their_models:load", {}, r'model must be "module:function"'),
        (
            "not_there_at_all:load",
            {},
            r"not_there_at_all cannot be imported: ModuleNotFoundError: .*; it must be installed",
        ),
        ("their_models:load", {"path": "x"}, r"model 'their_models:load' has no option 'path'; known: system"),
        ("their_models:load", {"system": 3}, r"system must be str, got 3"),
        (
            "their_models:load",
            {"system": "gold-1"},
            r"takes no argument, so it cannot tell 'gold-1' from other systems",
        ),
        ("builtins:dict", {}, r"what builtins:dict returned is a dict without n_users, n_items, score"),
    ],
)
def test_places_and_options_that_are_refused(home: Path, place: str, options: dict[str, Any], message: str) -> None:
    (home / "their_models.py").write_text(HEAD + "def load(): return Ours()", encoding="utf-8")
    with pytest.raises(AuditkitError, match=message):
        source(place, IDS, options, folder=home)
