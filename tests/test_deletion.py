"""Shares, requests and erasing, against naive loops over sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.data.dataset import Dataset, Features, Interactions
from auditkit.deletion import EVERYBODY, NOBODY, DeletionRequest, Regime, Share, select
from auditkit.errors import ConfigurationError, DataError
from auditkit.plan import reference_shares

N_USERS, N_ITEMS = 6, 5
ALL_PAIRS = [(u, i) for u in range(N_USERS) for i in range(N_ITEMS)]
SEEDS = st.none() | st.integers(0, 2**32 - 1)
REGIMES: tuple[Regime, ...] = ("interaction", "user", "item", "modality")


def pairs(rows: list[tuple[int, int]]) -> Interactions:
    return Interactions(np.array([u for u, _ in rows], np.int64), np.array([i for _, i in rows], np.int64))


def as_set(part: Interactions) -> set[tuple[int, int]]:
    return set(zip(part.users.tolist(), part.items.tolist(), strict=True))


@st.composite
def datasets(draw: st.DrawFn) -> Dataset:
    rows = draw(st.lists(st.sampled_from(ALL_PAIRS), unique=True, min_size=1))
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), min_size=2, max_size=2)))
    parts = (pairs(rows[: cuts[0]]), pairs(rows[cuts[0] : cuts[1]]), pairs(rows[cuts[1] :]))
    present = np.array(draw(st.lists(st.booleans(), min_size=N_ITEMS, max_size=N_ITEMS)))
    image = Features(np.arange(N_ITEMS, dtype=np.float32)[:, None], present)
    text = Features(np.ones((N_ITEMS, 2), np.float32), np.ones(N_ITEMS, np.bool_))
    return Dataset("drawn", N_USERS, N_ITEMS, *parts, features={"image": image, "text": text})


@st.composite
def requests(draw: st.DrawFn) -> DeletionRequest:
    regime = draw(st.sampled_from(REGIMES))
    if regime == "interaction":
        chosen = draw(st.lists(st.sampled_from(ALL_PAIRS), unique=True, max_size=12))
        users, items = [u for u, _ in chosen], [i for _, i in chosen]
    else:
        limit = N_USERS if regime == "user" else N_ITEMS
        ids = draw(st.lists(st.integers(0, limit - 1), unique=True, max_size=limit))
        anyone = [-1] * len(ids)
        users, items = (ids, anyone) if regime == "user" else (anyone, ids)
    modalities = {"user": (), "modality": ("image",)}.get(regime) or draw(st.sampled_from([(), ("image",)]))
    if regime == "user":
        modalities = ()
    return DeletionRequest(regime, np.array(users, np.int64), np.array(items, np.int64), modalities)


@st.composite
def masked_requests(draw: st.DrawFn) -> tuple[DeletionRequest, np.ndarray[Any, np.dtype[np.bool_]]]:
    request = draw(requests())
    mask = draw(st.lists(st.booleans(), min_size=request.n_units, max_size=request.n_units))
    return request, np.array(mask, np.bool_)


def covers(request: DeletionRequest, unit: int, pair: tuple[int, int]) -> bool:
    if request.regime == "modality":
        return False
    pattern = (int(request.users[unit]), int(request.items[unit]))
    return all(named in (-1, given_id) for named, given_id in zip(pattern, pair, strict=True))


@given(st.integers(0, 300), st.floats(0, 1), SEEDS)
def test_complementary_shares_partition_the_units(n: int, q: float, seed: int | None) -> None:
    first, second = Share(0, q, seed).of(n), Share(q, 1, seed).of(n)
    assert (first ^ second).all()
    assert abs(int(first.sum()) - q * n) <= 0.5


@given(st.integers(0, 200), st.floats(0, 1), st.floats(0, 1), SEEDS)
def test_prefixes_nest(n: int, a: float, b: float, seed: int | None) -> None:
    shorter, longer = Share(0, min(a, b), seed).of(n), Share(0, max(a, b), seed).of(n)
    assert not (shorter & ~longer).any()


@given(st.integers(1, 200), st.integers(2, 20), st.integers(0, 2**31))
def test_every_unit_is_held_by_exactly_half_of_the_references(n: int, half: int, seed: int) -> None:
    shares = reference_shares(2 * half, seed)
    held = np.stack([~share.of(n) for share in shares])
    assert len(shares) == 2 * half
    assert (held.sum(axis=0) == half).all()
    # Doses lie on the grid (2j + 1) / K, up to rounding to whole units.
    doses = np.sort(held.mean(axis=1))
    grid = np.sort([d for j in range(half) for d in ((2 * j + 1) / (2 * half), 1 - (2 * j + 1) / (2 * half))])
    assert np.abs(doses - grid).max() <= 0.5 / n + 1e-12


def test_named_shares_and_order_of_arrival() -> None:
    assert not NOBODY.of(7).any()
    assert EVERYBODY.of(7).all()
    assert Share(0.25, 0.5).of(8).tolist() == [False, False, True, True, False, False, False, False]
    assert (Share(0, 0.5, 1).of(50) != Share(0, 0.5, 2).of(50)).any()


@pytest.mark.parametrize(("lo", "hi"), [(-0.1, 1), (0, 1.1), (0.6, 0.5), (float("nan"), 1), (0, float("nan"))])
def test_shares_outside_their_domain_are_refused(lo: float, hi: float) -> None:
    with pytest.raises(ConfigurationError, match="a share needs 0 <= lo <= hi <= 1, got lo="):
        Share(lo, hi)


@given(requests(), datasets())
def test_unit_of_agrees_with_a_naive_loop(request: DeletionRequest, data: Dataset) -> None:
    expected = [
        next((k for k in range(request.n_units) if covers(request, k, pair)), -1)
        for pair in zip(data.train.users.tolist(), data.train.items.tolist(), strict=True)
    ]
    assert request.unit_of(data.train, N_ITEMS).tolist() == expected


@given(masked_requests(), datasets())
def test_erase_removes_exactly_what_the_units_cover(asked: tuple[DeletionRequest, Any], data: Dataset) -> None:
    request, mask = asked
    left = request.erase(data, mask)

    def kept(part: Interactions) -> set[tuple[int, int]]:
        return {p for p in as_set(part) if not any(mask[k] and covers(request, k, p) for k in range(request.n_units))}

    assert as_set(left.train) == kept(data.train)
    assert as_set(left.valid) == kept(data.valid)
    assert as_set(left.test) == as_set(data.test)
    assert as_set(request.forget_set(data, mask)) == as_set(data.train) - as_set(left.train)
    # Never renumbered: the id spaces and the order of what stays are those of before.
    assert (left.n_users, left.n_items) == (N_USERS, N_ITEMS)
    codes = data.train.codes(N_ITEMS)
    assert left.train.codes(N_ITEMS).tolist() == [c for c in codes if c in set(left.train.codes(N_ITEMS).tolist())]


@given(masked_requests(), datasets())
def test_erase_withdraws_features_of_the_named_items_only(asked: tuple[DeletionRequest, Any], data: Dataset) -> None:
    request, mask = asked
    left = request.erase(data, mask)
    expected = data.features["image"].present.copy()
    if request.modalities:
        expected[request.items[mask]] = False
    assert left.features["image"].present.tolist() == expected.tolist()
    assert left.features["text"] is data.features["text"]
    assert (left.features["image"].values == data.features["image"].values).all()


@given(masked_requests(), datasets())
def test_erase_is_idempotent_and_leaves_its_input_alone(asked: tuple[DeletionRequest, Any], data: Dataset) -> None:
    request, mask = asked
    before = data.digest
    once = request.erase(data, mask)
    assert request.erase(once, mask).digest == once.digest
    assert data.digest == before
    assert (once is data) == (not mask.any())
    # Erasing in two halves is erasing at once.
    half = mask & (np.arange(len(mask)) % 2 == 0)
    assert request.erase(request.erase(data, half), mask & ~half).digest == once.digest


@given(requests(), datasets())
def test_check_counts_the_units_without_training_data(request: DeletionRequest, data: Dataset) -> None:
    bare = [
        k for k in range(request.n_units)
        if not any(covers(request, k, pair) for pair in as_set(data.train))
    ]  # fmt: skip
    if request.regime == "modality":
        assert request.check(data) == 0
    elif len(bare) == request.n_units:
        with pytest.raises(DataError, match=f"none of the {request.n_units} units of the request covers"):
            request.check(data)
    else:
        assert request.check(data) == len(bare)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("row", [0], [0]), "regime must be one of interaction, user, item, modality, got 'row'"),
        (("interaction", [0, 1], [0]), r"equally long, got \(2,\), \(1,\)"),
        (("user", [[0]], [[-1]]), "must be one-dimensional"),
        (("interaction", [0], [-1]), "items must name an id .* of a interaction request, got a negative one"),
        (("user", [-1], [-1]), "users must name an id .* of a user request"),
        (("user", [0], [3]), r"items must be -1 \(any\) in a user request"),
        (("item", [2], [3]), r"users must be -1 \(any\) in a item request"),
        (("modality", [-1], [0]), "needs the names of the modalities"),
        (("interaction", [1, 1], [2, 2]), "a unit is named twice in the request; list every unit once"),
        (("user", [4, 4], [-1, -1]), "a unit is named twice"),
        (("user", [0], [-1], ("image",)), "modalities belong to items; a user request names none"),
        (("user", [0.5], [-1]), r"users must be whole numbers, got 0\.5"),
    ],
)
def test_requests_refuse_with_a_reason(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises((ConfigurationError, DataError), match=message):
        DeletionRequest(*arguments)


def test_all_problems_of_a_request_come_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        DeletionRequest("modality", np.array([5, 5]), np.array([-1, -1]))
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [([6], [0], r"names user 6, but 'd' has 6 users"), ([0], [5], r"names item 5, but 'd' has 5 items")],
)
def test_check_refuses_ids_outside_the_data(users: list[int], items: list[int], message: str) -> None:
    data = Dataset("d", N_USERS, N_ITEMS, pairs([(0, 0)]))
    with pytest.raises(DataError, match=message):
        DeletionRequest("interaction", np.array(users), np.array(items)).check(data)


def test_unknown_modality_is_named_with_those_there_are() -> None:
    data = Dataset("d", N_USERS, N_ITEMS, pairs([(0, 0)]))
    request = DeletionRequest("modality", np.array([-1]), np.array([0]), ("sound",))
    with pytest.raises(ConfigurationError, match="modality 'sound' is not in 'd', which has: none"):
        request.erase(data, np.array([True]))


def test_digest_is_of_units_not_of_how_they_were_chosen() -> None:
    base = DeletionRequest("item", np.array([-1, -1]), np.array([1, 2]))
    assert base.digest == DeletionRequest("item", base.users, base.items, selection="core").digest
    others = [
        DeletionRequest("item", base.users, np.array([2, 1])),
        DeletionRequest("item", base.users, np.array([1, 3])),
        DeletionRequest("item", base.users, base.items, ("image",)),
        DeletionRequest("user", base.items, base.users),
    ]
    assert len({base.digest, *(o.digest for o in others)}) == 5


def skewed() -> Dataset:
    """User u has u + 1 of the items, item 0 is the most popular; user 5 and item 4 appear in test only."""
    rows = [(u, i) for u in range(4) for i in range(u + 1)]
    return Dataset("skewed", N_USERS, N_ITEMS, pairs(rows), test=pairs([(5, 4)]))


def test_core_and_edge_are_the_most_and_the_least_active() -> None:
    data = skewed()
    assert sorted(select(data, "user", "core", count=2).users) == [2, 3]
    assert sorted(select(data, "user", "edge", count=2).users) == [0, 1]
    assert sorted(select(data, "item", "core", count=2).items) == [0, 1]
    # Activity 4 x popularity 4 beats every other pair; (3, 3) and (0, 0) are the least: 4 x 1 and 1 x 4.
    core, edge = select(data, "interaction", "core", count=1), select(data, "interaction", "edge", count=2)
    assert (core.users.tolist(), core.items.tolist()) == ([3], [0])
    assert set(zip(edge.users.tolist(), edge.items.tolist(), strict=True)) == {(3, 3), (0, 0)}


@given(st.sampled_from(REGIMES[:3]), st.sampled_from(["random", "core", "edge"]), st.integers(0, 99))
def test_selection_is_seeded_distinct_and_has_training_data(regime: Any, how: Any, seed: int) -> None:
    data = skewed()
    request = select(data, regime, how, share=0.5, seed=seed)
    candidates = len(data.train) if regime == "interaction" else 4
    assert request.n_units == round(0.5 * candidates)
    assert request.check(data) == 0
    assert request.digest == select(data, regime, how, share=0.5, seed=seed).digest
    assert f"seed {seed}" in request.selection


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either share .* or count"),
        ({"share": 0.5, "count": 1}, "not both"),
        ({"share": 0.0}, r"share must be in \(0, 1\], got 0.0"),
        ({"share": 1.5}, r"share must be in \(0, 1\], got 1.5"),
        ({"share": float("nan")}, r"share must be in \(0, 1\], got nan"),
        ({"count": 0}, r"count must be in 1..4 \(the users with training data\), got 0"),
        ({"count": 5}, r"count must be in 1..4 .*, got 5"),
        ({"count": 1, "how": "middle"}, "select must be one of random, core, edge, got 'middle'"),
    ],
)
def test_selection_refuses_with_a_reason(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        select(skewed(), "user", **options)


def test_a_tiny_share_is_at_least_one_unit() -> None:
    assert select(skewed(), "item", share=1e-9).n_units == 1
    assert select(skewed(), "user", share=1.0).n_units == 4
