"""Reading what a service answers: strict JSON, and numbers and ids that are what the contract says.

No text of an answer is repeated in a message: a service may send back anything, a secret too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from types import NoneType
from typing import Any, NoReturn

import numpy as np

from auditkit.data.dataset import Floats, Ints

_KINDS = {
    dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a whole number", float: "a number",
    NoneType: "null",
}  # fmt: skip
_NUMBERS = {float, int, NoneType}


class AnswerError(ValueError):
    """Why an answer cannot be used; whoever asked adds whose answer it was."""


def _no_constant(name: str) -> NoReturn:
    raise AnswerError(f"it holds {name}, which JSON does not have; send null for an item that is not offered")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise AnswerError("a key stands twice in one object, and readers differ in which one counts; send it once")
    return found


def read_json(content: bytes) -> dict[str, Any]:
    """The object that an answer is, by RFC 8259 to the letter.

    Raises:
        AnswerError: no UTF-8, no JSON (NaN and Infinity are none), a key twice, nested too deeply, or no object.
    """
    try:
        found = json.loads(content.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise AnswerError("it is nested too deeply; an answer has no more than three levels") from None
    except AnswerError:
        raise
    except ValueError:
        raise AnswerError("it is not JSON in UTF-8; the service must answer with what the contract says") from None
    if not isinstance(found, dict):
        raise AnswerError(f"it must be an object, got {kind_of(found)}")
    return found


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    return _KINDS[type(value)]


def fields_of(found: dict[str, Any], needed: Iterable[str], optional: Iterable[str] = ()) -> list[Any]:
    """The values of `needed` and then of `optional` (None where absent).

    Raises:
        AnswerError: a needed key is missing, or there are others: a misspelt option would go unheard.
    """
    needed, optional = tuple(needed), tuple(optional)
    missing = [name for name in needed if name not in found]
    if missing:
        raise AnswerError(f"it lacks {', '.join(map(repr, missing))}")
    unknown = len(found.keys() - {*needed, *optional})
    if unknown:
        raise AnswerError(f"{unknown} of its keys are unknown; the contract has {', '.join((*needed, *optional))}")
    return [found.get(name) for name in (*needed, *optional)]


def rows_of(found: Any, n_rows: int, name: str) -> list[list[Any]]:
    """A list of `n_rows` lists.

    Raises:
        AnswerError: it is not.
    """
    if type(found) is not list:
        raise AnswerError(f"{name} must be a list of rows, got {kind_of(found)}")
    if len(found) != n_rows:
        raise AnswerError(f"{name} must have {n_rows} rows, one for each asked, got {len(found)}")
    for k, row in enumerate(found):
        if type(row) is not list:
            raise AnswerError(f"{name}[{k}] must be a list, got {kind_of(row)}")
    return found


def table_of(found: Any, n_rows: int, width: int, name: str = "scores") -> Floats:
    """A table of finite numbers, float64 [n_rows, width], NaN for null.

    Raises:
        AnswerError: other sizes, anything but numbers and null, or a number beyond the range of float64.
    """
    rows = rows_of(found, n_rows, name)
    for k, row in enumerate(rows):
        if len(row) != width:
            raise AnswerError(f"{name}[{k}] must have {width} entries, got {len(row)}; send full rows")
        odd = set(map(type, row)) - _NUMBERS
        if odd:
            kinds = ", ".join(sorted(_KINDS[kind] for kind in odd))
            raise AnswerError(f"{name}[{k}] must hold numbers or null, got {kinds}")
    try:
        values = np.array(rows, np.float64)
    except OverflowError:
        values = np.array([[np.inf]])
    if np.isinf(values).any():
        raise AnswerError(f"{name} holds a number beyond the range of float64; send null for an item not offered")
    return values


def ids_of(row: Sequence[Any], size: int, name: str) -> Ints:
    """Distinct 0-based ids, int64 [n].

    Raises:
        AnswerError: something else than whole numbers below `size`, or one of them twice.
    """
    odd = sorted(_KINDS[kind] for kind in set(map(type, row)) - {int})
    if odd:
        raise AnswerError(f"{name} must hold whole numbers, got {', '.join(odd)}")
    if row and not 0 <= min(row) <= max(row) < size:
        raise AnswerError(f"{name} must hold ids from 0 to {size - 1}; one lies outside")
    return distinct(np.array(row, np.int64), name)


def distinct(ids: Ints, name: str) -> Ints:
    """The ids themselves.

    Raises:
        AnswerError: one stands twice.
    """
    if len(np.unique(ids)) < len(ids):
        raise AnswerError(f"{name} holds an id twice; a list names an item once")
    return ids


def size_of(value: Any, name: str) -> int:
    """A whole number of 1 or more.

    Raises:
        AnswerError: it is not.
    """
    if type(value) is not int:
        raise AnswerError(f"{name} must be a whole number, got {kind_of(value)}")
    if not 1 <= value < 2**31:
        raise AnswerError(f"{name} must lie between 1 and {2**31 - 1}")
    return value
