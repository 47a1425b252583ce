from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor

from auditkit import probes
from auditkit.data.dataset import Floats, Ints
from auditkit.deletion import Regime
from auditkit.evidence import Case
from auditkit.probes import Lists, Pairs
from auditkit.testing import ProbeTests
from auditkit.testing.examples import REGIMES, small_case


class TestPairs(ProbeTests):
    probe = Pairs()


class TestLists(ProbeTests):
    probe = Lists()
    silence = -1.0


class Table:
    """A recommender that serves a table of scores made elsewhere."""

    def __init__(self, scores: Floats) -> None:
        self.scores = torch.from_numpy(scores)
        self.n_users, self.n_items = scores.shape
        self.asked: list[Ints] = []

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        self.asked.append(np.array(users))
        return self.scores[torch.tensor(users)]


def awkward(seed: int, n_users: int = 60, n_items: int = 40) -> Floats:
    """Scores with ties, items that are not offered, constant rows, and a row of one item."""
    rng = np.random.default_rng(seed)
    scores = np.round(rng.standard_normal((n_users, n_items)) * 2, 0 if seed % 2 else 6)
    scores[rng.random(scores.shape) < 0.05] = np.nan
    scores[rng.random(scores.shape) < 0.03] = -np.inf
    scores[3], scores[4] = 1.7, np.nan
    scores[5, 1:] = np.nan
    scores[6] *= 1e6
    return scores


def naive(row: Floats, item: int, negatives: Ints) -> dict[str, float]:
    """The four signals of one pair, from their definitions."""
    known = row[np.isfinite(row)]
    value = row[item]
    if not np.isfinite(value):
        return dict.fromkeys(("z", "rank", "margin", "softmax"), np.nan)
    n = len(known)
    constant = np.ptp(known) == 0
    place = (known < value).sum() + ((known == value).sum() + 1) / 2  # middle rank from below, 1..n
    share = (place - 0.5) / n
    share = min(max(share, 0.5 / n), 1 - 0.5 / n)
    others = np.delete(row, item)
    others = others[np.isfinite(others)]
    drawn = row[negatives]
    drawn = drawn[np.isfinite(drawn)]
    top = others.max() if len(others) else 0.0
    return {
        "z": np.nan if constant else (value - known.mean()) / known.std(),
        "rank": np.log(share / (1 - share)) if n > 1 else 0.0,
        "margin": value - drawn.mean() if len(drawn) else np.nan,
        "softmax": value - top - np.log(np.exp(others - top).sum()) if len(others) else np.nan,
    }


def negatives_of(case: Case, users: Ints, count: int, seed: int) -> dict[int, Ints]:
    """Fixed uniform negatives of each user, those that the user holds dropped."""
    draws = np.random.default_rng(seed).integers(case.data.n_items, size=(len(users), count))
    held = set(case.data.train.codes(case.data.n_items).tolist())
    return {
        int(u): np.array([i for i in row if u * case.data.n_items + i not in held], np.int64)
        for u, row in zip(users, draws, strict=True)
    }


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("seed", [0, 1])
def test_signals_against_definitions(regime: Regime, seed: int) -> None:
    case, scores, probe = small_case(regime), awkward(seed), Pairs(negatives=9)
    points = probe.points(case, rng=np.random.default_rng(0))
    found = probe.read(Table(scores), points, case, rng=np.random.default_rng(4))
    drawn = negatives_of(case, np.unique(points["user"]), 9, 4)
    for k, (user, item) in enumerate(zip(points["user"], points["item"], strict=True)):
        expected = naive(scores[user], item, drawn[user])
        for signal in ("z", "rank", "margin"):
            assert_allclose(found[signal][k], expected[signal], rtol=1e-7, atol=1e-7, err_msg=f"{signal} {user} {item}")
        # A certain item has a logit without bound; the reading stays finite there.
        if np.isfinite(expected["softmax"]) and expected["softmax"] < 20:
            assert_allclose(found["softmax"][k], expected["softmax"], rtol=1e-4, atol=1e-4)
        elif np.isnan(scores[user, item]):
            assert np.isnan(found["softmax"][k])


def test_points_are_fixed_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    case = small_case("interaction")
    for probe in (Pairs(), Lists(k=7)):
        points = probe.points(case, rng=np.random.default_rng(0))
        whole, parts = Table(awkward(2)), Table(awkward(2))
        expected = probe.read(whole, points, case, rng=np.random.default_rng(1))
        monkeypatch.setattr(probes, "_BLOCK_BYTES", 8 * 40 * 7)
        found = probe.read(parts, points, case, rng=np.random.default_rng(1))
        monkeypatch.undo()
        assert len(whole.asked) == 1
        assert max(map(len, parts.asked)) == 7
        assert_array_equal(np.concatenate(parts.asked), whole.asked[0])
        for name in expected:
            assert_array_equal(found[name], expected[name])


def test_z_and_rank_do_not_depend_on_a_users_scale() -> None:
    """A system may serve any increasing linear transform of a row."""
    case, rng = small_case("interaction"), np.random.default_rng(3)
    scores = rng.standard_normal((60, 40))
    moved = scores * rng.uniform(0.1, 10, (60, 1)) + rng.standard_normal((60, 1))
    points = Pairs().points(case, rng=rng)
    one, other = (Pairs().read(Table(s), points, case, rng=np.random.default_rng(0)) for s in (scores, moved))
    for signal in ("z", "rank"):
        assert_allclose(one[signal], other[signal], atol=1e-9)


def test_float32_scores_are_read_in_double_precision() -> None:
    case = small_case("user")
    table = Table(np.random.default_rng(0).standard_normal((60, 40)))
    table.scores = table.scores.float()
    points = Pairs().points(case, rng=np.random.default_rng(0))
    exact = Table(table.scores.double().numpy())
    one, other = (Pairs().read(t, points, case, rng=np.random.default_rng(0)) for t in (table, exact))
    assert_array_equal(one["z"], other["z"])


# --- lists -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("k", [5, 60])
def test_lists_against_a_loop(regime: Regime, k: int) -> None:
    case, scores = small_case(regime), awkward(1)
    probe = Lists(k=k)
    points = probe.points(case, rng=np.random.default_rng(0))
    found = probe.read(Table(scores), points, case, rng=np.random.default_rng(1))["items"]
    kept = set(case.retain.train.codes(40).tolist())
    for row, user in zip(found, points["user"], strict=True):
        offered = [i for i in range(40) if np.isfinite(scores[user, i]) and user * 40 + i not in kept]
        best = sorted(offered, key=lambda i: (-scores[user, i], i))[:k]
        assert_array_equal(row, np.r_[best, np.full(k - len(best), -1)])


def test_forgotten_items_may_come_back_into_lists() -> None:
    case = small_case("interaction")
    scores = np.zeros((60, 40))
    scores[case.request.users, case.request.items] = 1.0
    points = Lists(k=1).points(case, rng=np.random.default_rng(0))
    found = Lists(k=1).read(Table(scores), points, case, rng=np.random.default_rng(0))["items"][:, 0]
    forgotten = set(zip(case.request.users, case.request.items, strict=True))
    shown = set(zip(points["user"], found.astype(int), strict=True))
    assert {u for u, _ in forgotten} == {u for u, i in shown if (u, i) in forgotten}


def test_lists_ask_at_most_so_many_users() -> None:
    case = small_case("item")
    points = Lists(most=11).points(case, rng=np.random.default_rng(0))
    assert points["user"].nunique() == 11
    everyone = Lists().points(case, rng=np.random.default_rng(0))
    assert set(points["user"]) < set(everyone["user"])
    assert not everyone.duplicated(["unit", "user"]).any()


def _rows(parts: Sequence[Ints]) -> int:
    return sum(map(len, parts))


def test_a_dense_matrix_is_never_asked_for() -> None:
    """Only users behind the points are scored, each once."""
    case = small_case("user")
    table = Table(np.random.default_rng(0).standard_normal((60, 40)))
    points = Pairs().points(case, rng=np.random.default_rng(0))
    points = points[case.forget[points["unit"]]]
    Pairs().read(table, points, case, rng=np.random.default_rng(0))
    assert _rows(table.asked) == points["user"].nunique() == case.request.n_units
