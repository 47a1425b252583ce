from __future__ import annotations

import numpy as np
import pytest
import torch

from auditkit.contracts import Recipe
from auditkit.data.dataset import Interactions
from auditkit.testing.examples import small_data
from auditkit.unlearners.steps import (
    Batches,
    bpr_steps,
    drawn_until,
    gradients,
    reversed_bpr,
    training,
)

_PAIRS = Interactions(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 4]))


def test_every_pair_is_in_a_pass_once_and_no_negative_is_held() -> None:
    known = Interactions(np.array([0, 1]), np.array([2, 0]))
    batches = Batches(_PAIRS, 5, 3, excluded=known)
    for seed in range(20):
        found = batches.epoch(np.random.default_rng(seed))
        assert [len(users) for users, _, _ in found] == [3, 1]
        users, positives, negatives = (np.concatenate(column) for column in zip(*found, strict=True))
        assert sorted(users * 5 + positives) == sorted(_PAIRS.codes(5))
        assert not np.isin(users * 5 + negatives, [*_PAIRS.codes(5), *known.codes(5)]).any()


def test_negatives_come_from_the_pool() -> None:
    batches = Batches(_PAIRS, 5, 3, pool=np.array([1, 3]))
    drawn = batches.negatives(np.zeros(50, np.int64), np.random.default_rng(0))
    assert set(drawn) == {3}
    drawn = Batches(_PAIRS, 5, 3, pool=np.empty(0, np.int64)).negatives(np.full(200, 2), np.random.default_rng(0))
    assert set(drawn) == {0, 1, 2, 3}


def test_whoever_holds_everything_gets_what_was_drawn_last() -> None:
    everything = Interactions(np.zeros(5, np.int64), np.arange(5))
    assert len(Batches(everything, 5, 3).negatives(np.zeros(4, np.int64), np.random.default_rng(0))) == 4


def test_nothing_is_held_by_an_empty_set() -> None:
    assert not Batches(Interactions.empty(), 5, 3).holds(np.array([0, 1]), np.array([0, 1])).any()
    assert Batches(Interactions.empty(), 5, 3).epoch(np.random.default_rng(0)) == []


def test_only_what_is_not_fine_is_drawn_again() -> None:
    asked = []

    def draw(places: np.ndarray) -> np.ndarray:
        asked.append(places.tolist())
        return places + 10 * len(asked)

    found = drawn_until(lambda places, items: items > 10 * (places + 1), draw, 3)
    assert asked == [[0, 1, 2], [0, 1, 2], [2]]
    assert found.tolist() == [20, 21, 32]


@pytest.mark.parametrize("gap", [-3.0, 0.0, 3.0])
def test_both_forms_lower_the_pair_and_only_one_is_bounded(gap: float) -> None:
    """The slopes at s_ui - s_uj = gap are sigmoid(gap) and sigmoid(-gap): one fades with forgetting, one grows."""
    for form, slope in (("swapped", torch.sigmoid(torch.tensor(gap))), ("negated", torch.sigmoid(torch.tensor(-gap)))):
        positive, negative = torch.tensor([gap], requires_grad=True), torch.zeros(1)
        reversed_bpr(positive, negative, form).backward()  # type: ignore[arg-type, no-untyped-call]
        assert positive.grad is not None
        torch.testing.assert_close(positive.grad, slope.reshape(1))


def test_gradients_are_zero_where_nothing_depends() -> None:
    one, other = torch.nn.Parameter(torch.tensor([1.0, 2.0])), torch.nn.Parameter(torch.ones(3))
    found = gradients(one.square().sum(), {"one": one, "other": other})
    assert found["one"].tolist() == [2.0, 4.0]
    assert found["other"].tolist() == [0.0, 0.0, 0.0]


def test_what_is_random_in_training_is_so_in_steps_and_not_afterwards() -> None:
    """FREEDOM samples edges for an epoch: steps move by the sampled graph, and serving reads the whole one."""
    model = Recipe.of("freedom", {"factors": 4, "neighbours": 3}, {}).model(small_data(), 0)
    before = model.score(np.arange(5)).clone()
    drawn = []
    start = model.start_epoch
    model.start_epoch = lambda draws: (drawn.append(len(draws)), start(draws))[1]  # type: ignore[method-assign, func-returns-value]
    batches = Batches(small_data().train, 40, 10**6)
    bpr_steps(model, batches, None, epochs=2, learning_rate=0.01, l2=0.0, rng=np.random.default_rng(0))
    assert drawn == [1, 1, 0]
    assert not model.training
    assert model.draws == ()
    assert model.sampled is None
    assert not torch.equal(model.score(np.arange(5)), before)


def test_training_ends_where_the_body_fails() -> None:
    model = Recipe.of("bpr-mf", {"factors": 4}).model(small_data(), 0).eval()

    def fail() -> None:
        with training(model):
            assert model.training
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not model.training
