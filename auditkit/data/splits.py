"""Ways to divide interactions into train, valid and test; pure functions of interactions, spec and seed.

A spec is text: a kind, and shares of train/valid/test where the kind takes them (default 0.8/0.1/0.1).

| spec | rule |
|---|---|
| `random:0.8/0.1/0.1` | per user at random; of n interactions round(n * share) go to valid, to test |
| `leave-last-out` | per user by time: the last to test, the one before to valid; fewer than 3 stay in train |
| `global-time:0.8/0.1/0.1` | over all users by time: the latest share to test, the share before to valid |

`random` leaves every user at least one train interaction, and users whose rounded shares are zero keep
everything in train (at 0.1, those with fewer than 5). `global-time` looks at no user, so a user or item may
occur in the test part only. Equal times keep the order of arrival, and so does each part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from auditkit.data.dataset import Floats, Interactions, Ints
from auditkit.errors import ConfigurationError, DataError

Parts = tuple[Interactions, Interactions, Interactions]
_TRAIN, _VALID, _TEST = 0, 1, 2
_SHARE = r"(\d*\.?\d+)"
_SPEC = re.compile(rf"([a-z-]+)(?::{_SHARE}/{_SHARE}/{_SHARE})?")


@dataclass(frozen=True)
class Split:
    """A parsed spec.

    Attributes:
        kind: random, leave-last-out or global-time.
        shares: of train, valid and test; they sum to 1.
    """

    kind: str
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)

    @classmethod
    def parse(cls, spec: str) -> Split:
        """Read a spec such as `random:0.8/0/0.2`.

        Raises:
            ConfigurationError: an unknown kind, or shares that are no shares.
        """
        match = _SPEC.fullmatch(spec.strip())
        if match is None or match[1] not in _RULES:
            raise ConfigurationError(
                f"split must be one of {', '.join(_RULES)}, with shares as in 'random:0.8/0.1/0.1'; got {spec!r}"
            )
        if match[2] is None:
            return cls(match[1])
        if match[1] == "leave-last-out":
            raise ConfigurationError(f"leave-last-out takes no shares, got {spec!r}")
        shares = (float(match[2]), float(match[3]), float(match[4]))
        if abs(sum(shares) - 1) > 1e-9 or not shares[0]:
            raise ConfigurationError(f"shares of train/valid/test must sum to 1 with train above 0, got {spec!r}")
        return cls(match[1], shares)

    def __str__(self) -> str:
        shares = "" if self.kind == "leave-last-out" else ":" + "/".join(f"{share:g}" for share in self.shares)
        return self.kind + shares


def split(interactions: Interactions, spec: str | Split, *, n_users: int, seed: int = 0) -> Parts:
    """Divide interactions into train, valid and test.

    Args:
        interactions: to divide.
        spec: see the module.
        n_users: size of the user id space.
        seed: of the random kind; the others draw nothing.

    Returns:
        Three parts that share no row and lose none.

    Raises:
        ConfigurationError: a bad spec.
        DataError: the kind needs times and there are none.
    """
    wanted = Split.parse(spec) if isinstance(spec, str) else spec
    part = _RULES[wanted.kind](interactions, wanted, n_users, np.random.default_rng(seed))
    return parts_of(interactions, part)


def parts_of(interactions: Interactions, part: Ints) -> Parts:
    """The interactions by part number (0 train, 1 valid, 2 test; int64 [n])."""
    return (
        interactions.take(part == _TRAIN),
        interactions.take(part == _VALID),
        interactions.take(part == _TEST),
    )


def _random(interactions: Interactions, spec: Split, n_users: int, rng: np.random.Generator) -> Ints:
    users = interactions.users
    counts = np.bincount(users, minlength=n_users)
    n_test = np.minimum(_rounded(counts, spec.shares[_TEST]), np.maximum(counts - 1, 0))
    n_valid = np.minimum(_rounded(counts, spec.shares[_VALID]), np.maximum(counts - 1 - n_test, 0))
    order = np.lexsort((rng.random(len(users)), users))
    return _last(users, order, counts, n_valid, n_test)


def _leave_last_out(interactions: Interactions, spec: Split, n_users: int, rng: np.random.Generator) -> Ints:
    users = interactions.users
    counts = np.bincount(users, minlength=n_users)
    held_out = (counts >= 3).astype(np.int64)
    order = np.lexsort((_times(interactions, spec), users))
    return _last(users, order, counts, held_out, held_out)


def _global_time(interactions: Interactions, spec: Split, n_users: int, rng: np.random.Generator) -> Ints:
    order = np.argsort(_times(interactions, spec), kind="stable")
    n_test, n_valid = (int(_rounded(np.array(len(order)), spec.shares[k])) for k in (_TEST, _VALID))
    part = np.full(len(order), _TRAIN, np.int64)
    part[order[max(len(order) - n_test - n_valid, 0) :]] = _VALID
    part[order[len(order) - n_test :]] = _TEST
    return part


def _last(users: Ints, order: Ints, counts: Ints, n_valid: Ints, n_test: Ints) -> Ints:
    """Parts of rows: in `order` (by user), a user's last n_test are test, the n_valid before them valid."""
    sorted_users = users[order]
    # Distance of a row from the end of its user's run: 0 is the last.
    ends = np.cumsum(counts)[sorted_users]
    from_end = ends - 1 - np.arange(len(order))
    part = np.full(len(order), _TRAIN, np.int64)
    test = n_test[sorted_users]
    part[order[from_end < test + n_valid[sorted_users]]] = _VALID
    part[order[from_end < test]] = _TEST
    return part


def _rounded(counts: Ints, share: float) -> Ints:
    """Half goes up: NumPy rounds half to even, which would treat 5 and 15 interactions differently at 0.1."""
    wanted: Floats = np.floor(counts * share + 0.5 + 1e-9)
    return wanted.astype(np.int64)


def _times(interactions: Interactions, spec: Split) -> Ints:
    if interactions.times is None:
        raise DataError(
            f"split {spec.kind!r} needs times, and the data has none; use 'random' or add a timestamp column"
        )
    return interactions.times


_RULES: Mapping[str, Callable[[Interactions, Split, int, np.random.Generator], Ints]] = {
    "random": _random,
    "leave-last-out": _leave_last_out,
    "global-time": _global_time,
}
