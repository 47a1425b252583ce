"""Whether an object made elsewhere answers as a recommender must, before any audit asks it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from auditkit.contracts import Recommender
from auditkit.data.dataset import Ints
from auditkit.errors import DataError
from auditkit.outside.source import Ids

# Users asked: enough that all of them are unserved only where next to nobody is served.
_ASKED = 8
# Of the spread of a row. Sums in another order move scores by far less, dropout by far more.
_NOISE = 0.01
# Roundings of a number that another order of summing may change.
_ROUNDINGS = 4


def check_users(n_users: int) -> Ints:
    """The users whom the checks ask, int64 [8] or fewer, spread over all."""
    return np.unique(np.linspace(0, n_users - 1, _ASKED).astype(np.int64))


def check_form(model: Any, ids: Ids, what: str) -> None:
    """Look at an object without asking it anything.

    Args:
        model: the object.
        ids: of the audited data set.
        what: what it is, for messages.

    Raises:
        DataError: it lacks what a recommender has, or its sizes are not the data set's; all at once.
    """
    problems = list(_form_problems(model, ids))
    if problems:
        raise DataError("; ".join(f"{what} {problem}" for problem in problems))


def check_answers(model: Recommender, ids: Ids, what: str) -> Tensor:
    """Ask a few users in several ways.

    Args:
        model: what `check_form` accepts.
        ids: of the audited data set.
        what: what it is, for messages.

    Returns:
        Scores of `check_users`, float [n_asked, n_items]: by them the same system can be known again.

    Raises:
        DataError: its scores are not of the right shape and kind, or depend on anything but the user.
    """
    users = check_users(ids.n_users)
    scores = _ask(model, users, ids.n_items, what)
    if not torch.isfinite(scores).any():
        raise DataError(
            f"{what}: score gave no finite number for the users {users.tolist()}; NaN is for items that are not offered"
        )
    for name, again in _other_ways(model, users, ids.n_items, what):
        if not same_scores(scores[: len(again)], again):
            raise DataError(f"{what}: scores of a user must depend on nothing but the user, but {name}")
    return scores


def same_scores(scores: Tensor, others: Tensor) -> bool:
    """Whether two answers to one question are one but for rounding.

    Args:
        scores, others: float [n, n_items], NaN where an item is not offered.
    """
    known = torch.isfinite(scores)
    if not torch.equal(known, torch.isfinite(others)):
        return False
    rounding = _ROUNDINGS * torch.finfo(scores.dtype).eps
    first, second = (torch.where(known, part.double(), 0.0) for part in (scores, others))
    mean = first.sum(1) / known.sum(1).clamp(min=1)
    spread = torch.where(known, (first - mean[:, None]).abs(), 0.0).amax(1)
    allowed = _NOISE * spread + rounding * first.abs().amax(1)
    return bool(((first - second).abs() <= allowed[:, None]).all())


def _form_problems(model: Any, ids: Ids) -> Iterator[str]:
    kind = type(model).__name__
    missing = [name for name in ("n_users", "n_items", "score") if not hasattr(model, name)]
    if missing:
        yield (
            f"is a {kind} without {', '.join(missing)}; a recommender has n_users, n_items and "
            "score(users, *, branch=None) -> float tensor [n_users_asked, n_items]"
        )
    elif isinstance(model, type):
        yield f"is the class {model.__name__}, not an object of it; return {model.__name__}(...)"
    elif not callable(model.score):
        yield f"is a {kind} whose score is no method; write score(users, *, branch=None)"
    else:
        yield from _size_problems(model, ids)


def _size_problems(model: Recommender, ids: Ids) -> Iterator[str]:
    for name, size in (("n_users", ids.n_users), ("n_items", ids.n_items)):
        said: Any = getattr(model, name)
        if isinstance(said, bool) or not isinstance(said, int | np.integer):
            yield f"has {name} {said!r}, which must be a whole number"
        elif said != size:
            yield f"has {name} {said}, the data set has {size}; ids must mean the same in both"


def _ask(model: Recommender, users: Ints, n_items: int, what: str) -> Tensor:
    try:
        # A copy: whoever answers may write into the question.
        found: Any = model.score(users.copy())
    # It is somebody else's code, which can raise anything.
    except Exception as error:
        raise DataError(
            f"{what}: score raised {type(error).__name__}: {error}; it is asked with 0-based ids as a NumPy int64 array"
        ) from error
    if not isinstance(found, Tensor):
        raise DataError(f"{what}: score must return a tensor or NumPy array of numbers, got a {type(found).__name__}")
    if not found.is_floating_point():
        raise DataError(f"{what}: score must return floating-point numbers, got {found.dtype}; return scores.float()")
    if found.shape != (len(users), n_items):
        raise DataError(
            f"{what}: score must return [{len(users)}, {n_items}] for {len(users)} users, got {list(found.shape)}"
        )
    return found.detach().cpu()


def _other_ways(model: Recommender, users: Ints, n_items: int, what: str) -> Iterator[tuple[str, Tensor]]:
    yield (
        "asked twice it answered differently; call .eval() on a torch module, and draw nothing at random",
        _ask(model, users, n_items, what),
    )
    yield (
        "asked in another order it answered differently; row k must belong to users[k]",
        _ask(model, users[::-1], n_items, what).flip(0),
    )
    yield (
        "asked alone it answered differently; nothing may be normalised over the users who are asked together "
        "(call .eval() on a torch module)",
        _ask(model, users[:1], n_items, what),
    )
