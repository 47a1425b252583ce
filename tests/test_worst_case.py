"""Worst-case requests against naive loops, and that they find what was made to stand out."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from auditkit.canaries import plant
from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset, Interactions
from auditkit.deletion import Regime, candidates, select
from auditkit.errors import ConfigurationError
from auditkit.memorised import Pool
from auditkit.testing.examples import small_data
from auditkit.worst_case import Choice, choose, left_out_cosine, oddity, unexplained, unpopularity

REGIMES: tuple[Regime, ...] = ("interaction", "user", "item")
N_USERS, N_ITEMS = 7, 6
ALL_PAIRS = [(u, i) for u in range(N_USERS) for i in range(N_ITEMS)]


def of_pairs(rows: list[tuple[int, int]], n_users: int = N_USERS, n_items: int = N_ITEMS) -> Dataset:
    users, items = (np.array([row[k] for row in rows], np.int64) for k in (0, 1))
    return Dataset("drawn", n_users, n_items, Interactions(users, items))


def naive_cosine(rows: list[tuple[int, int]], pair: tuple[int, int]) -> float:
    """The mean cosine of an item and the user's others, in data without the pair, from sets."""
    left = [row for row in rows if row != pair]
    takers = {i: {u for u, j in left if j == i} for i in range(N_ITEMS)}
    others = [j for u, j in left if u == pair[0]]
    mine = takers[pair[1]]
    if not mine or not others:
        return 0.0
    return float(np.mean([len(mine & takers[j]) / np.sqrt(len(mine) * len(takers[j])) for j in others]))


@given(st.lists(st.sampled_from(ALL_PAIRS), unique=True, min_size=1))
def test_the_left_out_cosine_is_that_of_data_without_the_pair(rows: list[tuple[int, int]]) -> None:
    found = left_out_cosine(of_pairs(rows).train, N_USERS, N_ITEMS)
    assert_allclose(found, [naive_cosine(rows, pair) for pair in rows], atol=1e-11)


def test_the_left_out_cosine_reads_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_data()
    whole = left_out_cosine(data.train, data.n_users, data.n_items)
    monkeypatch.setattr("auditkit.worst_case._BLOCK", 7)
    assert_allclose(left_out_cosine(data.train, data.n_users, data.n_items), whole)
    assert len(left_out_cosine(Interactions.empty(), 3, 3)) == 0


def test_unexplained_rows_agree_with_a_dense_decomposition() -> None:
    data = small_data()
    rows = np.asarray(data.train.matrix(data.n_users, data.n_items).toarray(), np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    left, sizes, right = np.linalg.svd(rows, full_matrices=False)
    rebuilt = (left[:, :20] * sizes[:20]) @ right[:20]
    expected = np.square(rows - rebuilt).sum(1)
    # Twenty directions are half of what 60 x 40 allows; the randomised decomposition is close, not exact.
    assert_allclose(unexplained(data), expected, atol=0.02)
    assert np.corrcoef(unexplained(data), expected)[0, 1] > 0.995


def test_rows_without_pairs_and_data_of_one_pair() -> None:
    lone = of_pairs([(0, 0)])
    assert unexplained(lone)[0] == pytest.approx(0.0, abs=1e-9)
    assert np.isnan(unexplained(lone)[1:]).all()
    assert choose(lone, "interaction", "outlier", count=1).n_units == 1


def two_groups() -> Dataset:
    """Users 0-29 take items 0-9 and users 30-59 items 10-19; user 60 takes of both, item 20 is taken by both."""
    rng = np.random.default_rng(0)
    rows = [(u, i + 10 * (u >= 30)) for u in range(60) for i in rng.permutation(10)[:7].tolist()]
    rows += [(60, i) for i in (0, 1, 2, 3, 10, 11, 12, 13)] + [(u, 20) for u in (3, 7, 40, 44)]
    return of_pairs([*rows, (5, 15)], 61, 21)


def test_what_was_made_to_stand_out_is_chosen() -> None:
    data = two_groups()
    found = choose(data, "interaction", "outlier", count=1)
    assert (found.users.tolist(), found.items.tolist()) == ([5], [15])
    assert set(choose(data, "interaction", "tail", count=2).items.tolist()) == {20}


def test_planted_strangers_are_outliers() -> None:
    """Nobody has their tastes, so the directions of all others explain them least."""
    data, planted = plant(Dataset.synthetic(n_users=300, n_items=200, n_interactions=9000), "user", 5, length=30)
    tenth = choose(data, "user", "outlier", share=0.1)
    assert np.isin(planted.users, tenth.users).mean() >= 0.8


@pytest.mark.parametrize("how", ["tail", "outlier"])
def test_users_and_items_keep_half_of_their_pairs(how: Choice) -> None:
    data = small_data()
    request = choose(data, "interaction", how, share=0.2)
    for ids, gone in ((data.train.users, request.users), (data.train.items, request.items)):
        assert (2 * np.bincount(gone, minlength=60) <= np.bincount(ids, minlength=60)).all()
    # What is spared comes last, in the same order; a request of everything names everything.
    assert choose(data, "interaction", how, share=1.0).n_units == len(data.train)


def test_tail_takes_the_rarest_first_and_half_of_each() -> None:
    data = small_data()
    popularity = np.bincount(data.train.items, minlength=data.n_items)
    rare = np.argsort(popularity, kind="stable")[:8]
    wanted = int((popularity[rare] // 2).sum())
    found = choose(data, "interaction", "tail", count=wanted).items
    assert popularity[found].mean() < np.quantile(popularity[data.train.items], 0.2)
    assert popularity[found].max() <= np.sort(popularity)[12]


def test_tail_against_loops() -> None:
    data = small_data()
    popularity = np.bincount(data.train.items, minlength=data.n_items)
    assert unpopularity(data, "interaction").tolist() == [-popularity[i] for i in data.train.items]
    users, _, _ = candidates(data, "user")
    mean = [-popularity[data.train.items[data.train.users == u]].mean() for u in users]
    assert_allclose(unpopularity(data, "user"), mean)
    request = choose(data, "user", "tail", count=6)
    order = np.argsort(mean)
    assert set(request.users.tolist()) == {int(users[k]) for k in order[-6:]}
    # For items there is no other rarity than their own.
    assert choose(data, "item", "tail", count=5).digest == select(data, "item", "edge", count=5).digest


def test_oddity_has_a_value_for_every_candidate() -> None:
    data = small_data()
    for regime in get_args(Regime):
        found = oddity(data, regime)
        assert found.shape == candidates(data, regime)[0].shape
        assert np.isfinite(found).all()
    assert_allclose(oddity(data, "modality"), oddity(data, "item"))


@given(st.sampled_from(REGIMES), st.sampled_from(["tail", "outlier"]), st.integers(0, 99))
def test_choices_are_seeded_distinct_and_have_training_data(regime: Regime, how: Choice, seed: int) -> None:
    data = two_groups()
    request = choose(data, regime, how, share=0.2, seed=seed)
    assert request.n_units == max(1, round(0.2 * len(candidates(data, regime)[0])))
    assert request.check(data) == 0
    assert request.digest == choose(data, regime, how, share=0.2, seed=seed).digest
    assert request.selection == f"{how}, 0.2 of the {regime}s, seed {seed}"


@pytest.mark.parametrize("how", ["random", "core", "edge"])
def test_the_other_choices_are_those_of_select(how: Any) -> None:
    for regime in REGIMES:
        chosen = choose(small_data(), regime, how, share=0.1, seed=3)
        assert chosen.digest == select(small_data(), regime, how, share=0.1, seed=3).digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"how": "tail"}, "give either share .* or count"),
        ({"how": "outlier", "share": 1.5}, r"share must be in \(0, 1\], got 1.5"),
        ({"how": "tail", "count": 61}, r"count must be in 1..60 \(the users with training data\), got 61"),
        ({"how": "middle", "count": 1}, "one of random, core, edge, tail, outlier, memorised, got 'middle'"),
        ({"how": "memorised", "count": 1}, "'memorised' trains systems of the recipe: give a pool"),
    ],
)  # fmt: skip
def test_choices_refuse_with_a_reason(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        choose(small_data(), "user", **options)


def test_nothing_is_trained_for_a_share_that_cannot_be() -> None:
    def trained(text: str, done: int, total: int) -> None:
        raise AssertionError(text)

    pool = Pool(Recipe.of("bpr-mf"), progress=trained)
    with pytest.raises(ConfigurationError, match="share must be in"):
        choose(small_data(), "user", "memorised", share=2.0, pool=pool)


def test_every_choice_is_one_of_the_configuration() -> None:
    from auditkit.config import RequestTable

    annotation = RequestTable.model_fields["select"].annotation
    assert set(get_args(Choice)) == set(get_args(get_args(annotation)[0]))
