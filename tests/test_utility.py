from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import ranx
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from auditkit import utility
from auditkit.data.dataset import Interactions, Ints
from auditkit.errors import ConfigurationError, NotApplicableError
from auditkit.utility import evaluate, top_k


@dataclass
class Table:
    """A recommender that serves a table of scores."""

    scores: Tensor

    def __post_init__(self) -> None:
        self.n_users, self.n_items = self.scores.shape

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        return self.scores[torch.as_tensor(users)]


def pairs(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Interactions:
    return Interactions.unique(*np.nonzero(mask))[0]


@dataclass
class Problem:
    model: Table
    truth: Interactions
    train: Interactions
    valid: Interactions


def problem(seed: int, n_users: int = 12, n_items: int = 40, levels: int = 5) -> Problem:
    """Random scores with many ties, NaN columns, and disjoint parts; some users have no truth."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(levels, size=(n_users, n_items)).astype(np.float32)
    scores[:, rng.random(n_items) < 0.1] = np.nan
    part = rng.integers(8, size=(n_users, n_items))
    part[rng.random(n_users) < 0.2] = 7
    return Problem(Table(torch.from_numpy(scores)), pairs(part == 0), pairs(part == 1), pairs(part == 2))


def ranking(case: Problem, user: int, masked: Sequence[Interactions]) -> list[int]:
    """Items in the order of the documented rule, by plain sorting."""
    hidden = {int(i) for part in masked for i in part.items[part.users == user]}
    scores = case.model.scores[user].tolist()
    offered = [i for i, s in enumerate(scores) if not math.isnan(s) and i not in hidden]
    return sorted(offered, key=lambda i: (-scores[i], i))


def naive(case: Problem, user: int, masked: Sequence[Interactions], k: int) -> dict[str, float]:
    truth = {int(i) for i in case.truth.items[case.truth.users == user]}
    ranks = [r for r, item in enumerate(ranking(case, user, masked)[:k], start=1) if item in truth]
    ideal = sum(1 / math.log2(r + 1) for r in range(1, min(len(truth), k) + 1))
    return {
        f"recall@{k}": len(ranks) / len(truth),
        f"ndcg@{k}": sum(1 / math.log2(r + 1) for r in ranks) / ideal,
        f"precision@{k}": len(ranks) / k,
        f"hit_rate@{k}": float(bool(ranks)),
        f"mrr@{k}": 1 / ranks[0] if ranks else 0.0,
    }


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 50), st.integers(1, 6))
def test_agrees_with_the_definitions(seed: int, k: int, levels: int) -> None:
    case = problem(seed, levels=levels)
    found = evaluate(case.model, case.truth, [case.train, case.valid], ks=(k,))
    assert found.users.tolist() == sorted(set(case.truth.users.tolist()))
    for place, user in enumerate(found.users):
        expected = naive(case, int(user), [case.train, case.valid], k)
        assert {name: values[place] for name, values in found.values.items()} == pytest.approx(expected, abs=1e-12)


@pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaWarning")
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_ranx(seed: int) -> None:
    """The oracle's own sort is not stable, so it is given distinct scores in the order of the documented rule."""
    case, ks = problem(seed, n_users=30), (1, 5, 10, 20)
    found = evaluate(case.model, case.truth, case.train, ks=ks)
    users = found.users.tolist()
    qrels = {str(u): {str(i): 1 for i in case.truth.items[case.truth.users == u]} for u in users}
    run = {str(u): {str(i): -float(r) for r, i in enumerate(ranking(case, u, [case.train]))} for u in users}
    oracle = ranx.evaluate(
        ranx.Qrels(qrels), ranx.Run(run), list(found.values), return_mean=False, make_comparable=True
    )
    order = [sorted(map(str, users)).index(str(u)) for u in users]
    for name, values in found.values.items():
        np.testing.assert_allclose(values, np.asarray(oracle[name])[order], rtol=0, atol=1e-9, err_msg=name)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    case = problem(3, n_users=50)
    whole = evaluate(case.model, case.truth, case.train)
    monkeypatch.setattr(utility, "_SCORES_PER_BLOCK", 3 * case.model.n_items)
    blocked = evaluate(case.model, case.truth, case.train)
    for name, values in whole.values.items():
        np.testing.assert_array_equal(values, blocked.values[name])


def test_masked_and_unoffered_items_are_never_hits() -> None:
    scores = torch.tensor([[9.0, torch.nan, 1.0, 2.0]])
    truth = pairs(np.array([[True, True, True, False]]))
    found = evaluate(Table(scores), truth, pairs(np.array([[True]])), ks=(4,))
    assert found.values["recall@4"].tolist() == [1 / 3]
    assert found.values["mrr@4"].tolist() == [1 / 2]
    assert not torch.isnan(scores[0, 0]), "the model's own table was written to"


def test_only_the_given_users_with_truth() -> None:
    case = problem(1)
    with_truth = sorted(set(case.truth.users.tolist()))
    without = next(u for u in range(case.model.n_users) if u not in with_truth)
    found = evaluate(case.model, case.truth, case.train, users=np.array([without, with_truth[-1], with_truth[0]]))
    assert found.users.tolist() == [with_truth[0], with_truth[-1]]
    everyone = evaluate(case.model, case.truth, case.train)
    assert found.values["ndcg@10"][1] == everyone.values["ndcg@10"][-1]


def test_mean_and_its_absence() -> None:
    case = problem(2)
    found = evaluate(case.model, case.truth, case.train, ks=(10,))
    assert found.mean()["recall@10"] == pytest.approx(found.values["recall@10"].mean())
    nobody = evaluate(case.model, Interactions.empty(), case.train)
    assert not len(nobody.users)
    with pytest.raises(NotApplicableError, match="no user has a truth pair"):
        nobody.mean()


def test_problems_are_told_at_once() -> None:
    case = problem(2)
    with pytest.raises(ConfigurationError) as caught:
        evaluate(case.model, Interactions(np.array([99]), np.array([77])), case.train, ks=(0,))
    assert len(caught.value.problems) == 3


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 14), st.integers(1, 12), st.integers(1, 5))
def test_top_k_is_a_stable_sort(seed: int, k: int, n_items: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.array([-np.inf, 0.0, 1.0, np.inf, np.nan])[rng.integers(levels, size=(4, n_items))]
    found = top_k(torch.from_numpy(values), k)
    assert found.shape == (4, k)
    for row, items in zip(values, found.tolist(), strict=True):
        offered = sorted((i for i in range(n_items) if not np.isnan(row[i])), key=lambda i: (-row[i], i))
        assert items == (offered + [-1] * k)[:k]


def test_top_k_of_nothing() -> None:
    assert top_k(torch.empty(0, 5), 3).shape == (0, 3)
    assert top_k(torch.empty(2, 0), 3).tolist() == [[-1] * 3] * 2


def test_speed_at_the_size_of_ml_100k() -> None:
    """Best of many runs in CPU time, so that other work on the machine does not count."""
    rng = np.random.default_rng(0)
    part = rng.random((943, 1682))
    truth, train = pairs(part < 0.0125), pairs(part > 0.95)
    model = Table(torch.from_numpy(rng.standard_normal((943, 1682)).astype(np.float32)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        took = []
        for _ in range(8):
            began = time.process_time()
            evaluate(model, truth, train)
            took.append(time.process_time() - began)
    finally:
        torch.set_num_threads(threads)
    assert min(took) < 0.25, f"{min(took) * 1e3:.0f} ms of CPU time"
