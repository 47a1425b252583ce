from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.metrics import jaccard_score

from auditkit.attacks.neighbour import Neighbour, NeighbourRows, jaccard, nearest_users
from auditkit.attacks.score_rows import z_in_rows
from auditkit.contracts import Recommender
from auditkit.data.dataset import Dataset, Interactions, Ints
from auditkit.deletion import DeletionRequest
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case, make_case
from auditkit.testing import AttackTests, ProbeTests
from auditkit.testing.examples import small_case, small_systems


def naive(case: Case, user: int, item: int, n: int) -> list[int]:
    """Compare the user's history with everybody's, one by one."""
    full, left = ({u: set() for u in range(case.data.n_users)} for _ in range(2))  # type: ignore[var-annotated]
    for part, histories in ((case.data.train, full), (case.retain.train, left)):
        for u, i in zip(part.users.tolist(), part.items.tolist(), strict=True):
            histories[u].add(i)
    erased = set(case.request.users.tolist()) if case.request.regime == "user" else set()
    own = full[user] if user in erased else left[user]
    likes = {
        v: len(own & left[v]) / len(own | left[v])
        for v in range(case.data.n_users)
        if v != user and v not in erased and item not in full[v] and own & left[v]
    }
    return sorted(likes, key=lambda v: (-likes[v], v))[:n]


class TestNeighbourRows(ProbeTests):
    probe = NeighbourRows(neighbours=4)
    regimes = ("interaction", "user")

    def test_neighbours_against_a_loop(self) -> None:
        for case, _, _ in self.examples():
            points = self.points(case)
            near = points[[f"neighbour_{k}" for k in range(4)]].to_numpy()
            for k in range(0, len(points), 13):
                expected = naive(case, int(points["user"][k]), int(points["item"][k]), 4)
                assert near[k][near[k] >= 0].tolist() == expected

    def test_the_signal_against_a_loop(self) -> None:
        for case, original, _ in self.examples():
            points = self.points(case)
            found = self.read(original, case, points)["z"]
            rows = original.score(np.arange(case.data.n_users)).double().numpy()
            z = (rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True)
            near = points[[f"neighbour_{k}" for k in range(4)]].to_numpy()
            for k in range(0, len(points), 13):
                mine = z[near[k][near[k] >= 0], points["item"][k]]
                assert_allclose(found[k], mine.mean() if len(mine) else np.nan, rtol=1e-9)

    def test_rows_of_erased_users_are_not_read(self) -> None:
        case, model = small_case("user"), small_systems("user")[0][1]
        hidden = Hidden(model, case.request.users)
        points = self.points(case)
        mine = case.forget[points["unit"]]
        assert np.isfinite(self.read(model, case, points)["z"][mine]).any()
        assert_array_equal(self.read(hidden, case, points)["z"][mine], self.read(model, case, points)["z"][mine])

    def test_item_requests_are_refused(self) -> None:
        with pytest.raises(NotApplicableError, match="leaves its neighbours' rows too"):
            self.points(small_case("item"))


@dataclass
class Hidden:
    """A recommender that answers NaN to some users."""

    inner: Recommender
    users: Ints

    @property
    def n_users(self) -> int:
        return self.inner.n_users

    @property
    def n_items(self) -> int:
        return self.inner.n_items

    def score(self, users: Ints, *, branch: str | None = None) -> torch.Tensor:
        scores = self.inner.score(users).clone()
        scores[torch.from_numpy(np.isin(users, self.users))] = torch.nan
        return scores


def test_jaccard_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    histories = (rng.random((9, 12)) < 0.3).astype(np.float32)
    histories[0] = 0
    found = jaccard(csr_array(histories[:4]), csr_array(histories))
    for a in range(4):
        for b in range(9):
            assert_allclose(found[a, b], float(jaccard_score(histories[a], histories[b], zero_division=0)))


def test_a_user_who_shares_nothing_has_no_neighbour() -> None:
    pairs = Interactions(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]))
    data = Dataset("islands", 3, 3, pairs)
    case = make_case(data, DeletionRequest("interaction", np.array([1]), np.array([1])), seed=0)
    assert_array_equal(nearest_users(case, np.array([1, 0]), np.array([1, 0]), 2), [[2, -1], [-1, -1]])


def test_z_in_rows_takes_pairs_in_any_order() -> None:
    scores = torch.tensor([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0], [torch.nan, 0.0, 2.0]])
    asked: list[int] = []

    def score(users: Ints) -> torch.Tensor:
        asked.extend(users.tolist())
        return scores[torch.from_numpy(users)]

    users, items = np.array([2, 0, -1, 1, 2, 0, 0]), np.array([2, 2, 0, 0, 0, -1, 0])
    found = z_in_rows(score, users, items, 3)
    spread = float(np.std([1, 2, 6]))
    assert_allclose(found, [1.0, 3 / spread, np.nan, np.nan, np.nan, np.nan, -2 / spread])
    assert asked == [0, 1, 2]
    assert len(z_in_rows(score, np.empty(0, np.int64), np.empty(0, np.int64), 3)) == 0


class TestNeighbour(AttackTests):
    # What 60 users remember of one another's pairs is less than what training seeds scatter.
    attack = Neighbour(neighbours=4)
    separates = False


def test_it_is_a_note_everywhere() -> None:
    assert not Neighbour.fails_in
    assert not Neighbour.primary_for
    assert Neighbour() in Neighbour.variants()
