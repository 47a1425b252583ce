"""Which interactions count: a filter on ratings or times, and the k-core. Both only say which rows stay."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from auditkit.data.dataset import Bools, Interactions, Ints
from auditkit.errors import ConfigurationError, DataError

_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_CONDITION = re.compile(r"\s*(rating|timestamp)\s*(>=|<=|==|!=|>|<)\s*([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*")


@dataclass(frozen=True)
class Positive:
    """What makes an interaction positive, such as `rating >= 4`.

    Attributes:
        column: "rating" or "timestamp".
        comparison: one of >=, >, ==, !=, <=, <.
        value: a finite number.
    """

    column: str
    comparison: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Positive:
        """Read an expression `column comparison number`.

        Raises:
            ConfigurationError: it is not of that form.
        """
        match = _CONDITION.fullmatch(text)
        if match is None or not np.isfinite(float(match[3])):
            raise ConfigurationError(
                f"positive must read `column comparison number`, such as 'rating >= 4', with column "
                f"rating or timestamp and comparison one of {', '.join(_COMPARISONS)}; got {text!r}"
            )
        return cls(match[1], match[2], float(match[3]))

    def __str__(self) -> str:
        return f"{self.column} {self.comparison} {self.value:g}"

    def holds(self, interactions: Interactions) -> Bools:
        """Mask of the positive interactions, bool [n].

        Raises:
            DataError: there is no such column.
        """
        values = interactions.ratings if self.column == "rating" else interactions.times
        if values is None:
            raise DataError(f"positive = {str(self)!r} needs a {self.column} column, and there is none; leave it out")
        return cast(Bools, _COMPARISONS[self.comparison](values, self.value))


def k_core(users: Ints, items: Ints, k: int) -> Bools:
    """The largest set of pairs in which every user and every item that occurs has at least `k` pairs.

    Args:
        users: 0-based user of each of n distinct pairs, int64 [n].
        items: 0-based item of each, int64 [n].
        k: at least 0; 0 and 1 keep everything.

    Returns:
        Mask of the pairs that stay, bool [n].

    Raises:
        ConfigurationError: `k` is negative.
    """
    if k < 0:
        raise ConfigurationError(f"k_core must be 0 (off) or above, got {k}")
    rows = np.arange(len(users))
    while k > 1:
        u, i = users[rows], items[rows]
        stays = (np.bincount(u)[u] >= k) & (np.bincount(i)[i] >= k)
        if stays.all():
            break
        rows = rows[stays]
    kept = np.zeros(len(users), np.bool_)
    kept[rows] = True
    return kept
