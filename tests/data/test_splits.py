"""Splits are partitions, seeded, and leave users what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.data.dataset import Interactions
from auditkit.data.splits import Parts, split
from auditkit.errors import ConfigurationError, DataError

SPECS = [
    "random",
    "random:0.8/0/0.2",
    "random:0.1/0.4/0.5",
    "leave-last-out",
    "global-time",
    "global-time:0.5/0.25/0.25",
]
N_USERS, N_ITEMS = 6, 30


@st.composite
def logs(draw: st.DrawFn) -> Interactions:
    codes = draw(st.lists(st.integers(0, N_USERS * N_ITEMS - 1), unique=True, max_size=80))
    times = draw(st.lists(st.integers(0, 9), min_size=len(codes), max_size=len(codes)))
    code = np.array(codes, np.int64)
    return Interactions(code // N_ITEMS, code % N_ITEMS, None, np.array(times, np.int64))


def codes(part: Interactions) -> list[int]:
    return [int(code) for code in part.codes(N_ITEMS)]


def in_order(parts: Parts, whole: Interactions) -> bool:
    place = {code: row for row, code in enumerate(codes(whole))}
    rows = [[place[code] for code in codes(part)] for part in parts]
    return all(part == sorted(part) for part in rows)


@given(logs(), st.sampled_from(SPECS), st.integers(0, 5))
def test_splits_lose_nothing_and_repeat(log: Interactions, spec: str, seed: int) -> None:
    parts = split(log, spec, n_users=N_USERS, seed=seed)
    assert sorted(code for part in parts for code in codes(part)) == sorted(codes(log))
    assert in_order(parts, log)
    again = split(log, spec, n_users=N_USERS, seed=seed)
    assert [codes(part) for part in parts] == [codes(part) for part in again]


@given(logs(), st.integers(0, 5))
def test_random_keeps_the_promised_counts(log: Interactions, seed: int) -> None:
    for spec, valid, test in (("random", 0.1, 0.1), ("random:0.1/0.4/0.5", 0.4, 0.5)):
        parts = split(log, spec, n_users=N_USERS, seed=seed)
        for user in set(log.users.tolist()):
            n = int((log.users == user).sum())
            n_test = min(int(n * test + 0.5 + 1e-9), n - 1)
            n_valid = min(int(n * valid + 0.5 + 1e-9), n - 1 - n_test)
            assert [int((part.users == user).sum()) for part in parts] == [
                n - n_test - n_valid,
                n_valid,
                n_test,
            ]


@given(logs())
def test_leave_last_out_takes_the_latest_of_each_user(log: Interactions) -> None:
    train, valid, test = split(log, "leave-last-out", n_users=N_USERS)
    assert log.times is not None
    for user in range(N_USERS):
        rows = np.flatnonzero(log.users == user)
        # sorted is stable: equal times keep the order of arrival.
        ordered = [codes(log)[row] for row in sorted(rows, key=lambda row: log.times[row])]  # type: ignore[index]
        held = 2 if len(ordered) >= 3 else 0
        mine = [[code for code in codes(part) if code // N_ITEMS == user] for part in (train, valid, test)]
        assert sorted(mine[0]) == sorted(ordered[: len(ordered) - held])
        assert mine[1] + mine[2] == ordered[len(ordered) - held :]


@given(logs())
def test_global_time_never_trains_on_what_is_later_than_test(log: Interactions) -> None:
    train, valid, test = split(log, "global-time:0.5/0.25/0.25", n_users=N_USERS)
    assert log.times is not None
    ordered = [codes(log)[row] for row in np.argsort(log.times, kind="stable")]
    ranks = {code: rank for rank, code in enumerate(ordered)}
    bounds = [[ranks[code] for code in codes(part)] for part in (train, valid, test)]
    for earlier, later in ((0, 1), (1, 2), (0, 2)):
        if bounds[earlier] and bounds[later]:
            assert max(bounds[earlier]) < min(bounds[later])
    assert len(test) == int(len(log) * 0.25 + 0.5)


def test_random_seeds_differ_and_share_out_all_items_alike() -> None:
    users = np.zeros(1000, np.int64)
    log = Interactions(users, np.arange(1000))
    first, second = (codes(split(log, "random", n_users=1, seed=seed)[2]) for seed in (0, 1))
    assert first != second
    # 100 drawn of 0..999: their mean has standard deviation 27.4; five of those.
    assert abs(np.mean(first) - 499.5) < 5 * 27.4


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("half", "split must be one of random, leave-last-out, global-time"),
        ("file", "split must be one of"),
        ("random:0.8/0.2", "split must be one of"),
        ("random:0.8/0.1/0.2", "must sum to 1"),
        ("random:0/0.5/0.5", "with train above 0"),
        ("leave-last-out:0.8/0.1/0.1", "takes no shares"),
    ],
)
def test_bad_specs(spec: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        split(Interactions.empty(), spec, n_users=1)


@pytest.mark.parametrize("spec", ["leave-last-out", "global-time"])
def test_time_is_needed(spec: str) -> None:
    with pytest.raises(DataError, match=f"split '{spec}' needs times"):
        split(Interactions(np.array([0]), np.array([0])), spec, n_users=1)
