"""One compiled kernel: per-sample SGD on the BPR loss. Members run in threads side by side; the kernel holds no lock.

BPR-Opt and its update: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009, figure 4.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Table = NDArray[np.float32]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@njit(inline="always")
def _mixed(state: np.uint64) -> np.uint64:
    """Output function of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    z = (state ^ (state >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@njit(inline="always")
def _below(word: np.uint64, n: int) -> np.int64:
    """An integer in [0, n) from the upper half of a random word; n < 2**31."""
    return np.int64(((word >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(inline="always")
def _holds(row: NDArray[np.int32], item: np.int64) -> bool:
    low, high = 0, len(row)
    while low < high:
        middle = (low + high) >> 1
        if row[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low < len(row) and row[low] == item


@njit(inline="always")
def _place(user: np.int64, item: np.int64, n_items: int, shift: np.uint64) -> np.uint64:
    """Where the pair stands in the filter: the upper bits of a product (Fibonacci hashing)."""
    return ((np.uint64(user) * np.uint64(n_items) + np.uint64(item)) * _GOLDEN) >> shift


@njit(nogil=True, cache=True)
def _filter(users, items, n_items):  # type: ignore[no-untyped-def]
    """Bits that are set for every held pair and for about one other in sixteen, and the shift that finds a pair's bit.

    A clear bit settles most draws with one look; a search through the user's row for each would take half of the time.
    """
    width = 6
    while (1 << width) < 16 * len(users):
        width += 1
    bits, shift = np.zeros(1 << (width - 6), np.uint64), np.uint64(64 - width)
    for k in range(len(users)):
        place = _place(users[k], items[k], n_items, shift)
        bits[place >> np.uint64(6)] |= np.uint64(1) << (place & np.uint64(63))
    return bits, shift


@njit(inline="always")
def _may_hold(bits: NDArray[np.uint64], place: np.uint64) -> bool:
    return bool((bits[place >> np.uint64(6)] >> (place & np.uint64(63))) & np.uint64(1))


@njit(nogil=True, fastmath=True, cache=True)
def train_epochs(  # type: ignore[no-untyped-def]
    user_table, item_table, users, items, indptr, seed, first_epoch, n_epochs, learning_rate, l2
):
    """Train one member in place for some epochs.

    Every epoch visits each pair once, in an order and with negatives drawn from (seed, epoch) alone, so a run may be
    cut into pieces. Negatives are uniform over the items that the user does not hold; users who hold every item are
    passed over.

    Args:
        user_table, item_table: float32 [n_users, d], [n_items, d]; updated in place.
        users, items: int32 [n], the pairs sorted by user, then item.
        indptr: int64 [n_users + 1], where each user's pairs begin.
        seed: non-negative integer.
        first_epoch, n_epochs: which epochs of the member's stream to run.
        learning_rate, l2: of the per-sample step; l2 is the weight decay of the three vectors touched.
    """
    n, d, n_items = len(users), user_table.shape[1], item_table.shape[0]
    rate, decay = np.float32(learning_rate), np.float32(learning_rate * l2)
    order = np.empty(n, np.int32)
    bits, shift = _filter(users, items, n_items)
    for epoch in range(first_epoch, first_epoch + n_epochs):
        state = _mixed(np.uint64(seed) * _GOLDEN + _mixed(np.uint64(epoch + 1) * _GOLDEN))
        for place in range(n):
            order[place] = place
        for place in range(n):
            state += _GOLDEN
            other = place + _below(_mixed(state), n - place)
            order[place], order[other] = order[other], order[place]
            user, positive = users[order[place]], items[order[place]]
            row = items[indptr[user] : indptr[user + 1]]
            if len(row) == n_items:
                continue
            state += _GOLDEN
            negative = _below(_mixed(state), n_items)
            while _may_hold(bits, _place(user, negative, n_items, shift)) and _holds(row, negative):
                state += _GOLDEN
                negative = _below(_mixed(state), n_items)
            p, q, r = user_table[user], item_table[positive], item_table[negative]
            margin = np.float32(0.0)
            for f in range(d):
                margin += p[f] * (q[f] - r[f])
            step = rate / (np.float32(1.0) + np.exp(margin))
            for f in range(d):
                pf, qf, rf = p[f], q[f], r[f]
                p[f] = pf + step * (qf - rf) - decay * pf
                q[f] = qf + step * pf - decay * qf
                r[f] = rf - step * pf - decay * rf
