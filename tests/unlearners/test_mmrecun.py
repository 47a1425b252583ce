from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from auditkit.contracts import Backbone, Recipe, Task
from auditkit.data.dataset import Dataset, Interactions
from auditkit.deletion import Regime
from auditkit.errors import ConfigurationError
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_data, small_request
from auditkit.unlearners.mmrecun import MMRecUn
from auditkit.unlearners.never_trained import Watch, wins
from auditkit.unlearners.reversal import Reversal, branch_logits, turned_round

# A batch that holds every pair makes one epoch one step.
ONE_STEP: dict[str, Any] = {"epochs": 1, "batch": 10**6, "forget_batch": 10**6, "forget_weight": 1.0}
_ALL_REGIMES: tuple[Regime, ...] = ("interaction", "user", "item", "modality")


class TestMMRecUn(UnlearnerTests):
    unlearner = MMRecUn(epochs=2, batch=256, forget_batch=64)
    one_step = MMRecUn(**ONE_STEP)
    utility_band = (0.6, 1.2)

    def test_a_heavier_reverse_term_goes_lower_in_as_many_steps(self) -> None:
        task = self.task(small_request("interaction"))
        with _never_done():
            margins = [
                _margin(self.run(task, unlearner=MMRecUn(epochs=1, batch=64, forget_weight=w)), task)
                for w in (0.0, 0.5, 4.0)
            ]
        assert margins[0] > margins[1] > margins[2]

    def test_both_forms_lower_the_forgotten_pairs(self) -> None:
        task = self.task(small_request("interaction"))
        negated = self.run(task, unlearner=MMRecUn(**ONE_STEP, form="negated"))
        swapped = self.run(task, unlearner=self.one_step)
        before = _margin(self.parent(task), task)
        assert _margin(negated, task) < before
        assert _margin(swapped, task) < before
        assert not np.array_equal(_scores(negated), _scores(swapped))

    def test_it_stops_at_the_rank_of_what_was_never_trained(self) -> None:
        """The last look says that the target is reached, a look before the steps that it was not."""
        for regime in ("user", "item"):
            task = self.task(small_request(regime))
            method = MMRecUn(epochs=100, batch=256, learning_rate=0.02, forget_weight=1.0, every=1)
            served = self.run(task, unlearner=method)
            assert isinstance(served, Backbone)
            watch = Watch.of(task, task.forget, np.random.default_rng(3))
            at = torch.device("cpu")
            assert watch.remembered(self.parent(task).logits, at)
            # Other comparisons than the method's own: about as often as the target, not exactly.
            assert abs(watch.share(served.logits, at) - 0.5) < 0.15

    def test_a_model_that_remembers_nothing_is_left_as_it_is(self) -> None:
        task = self.task(small_request("user"))
        parent = self.parent(task)
        with torch.no_grad():
            parent.get_parameter("user_table")[task.request.users.copy()] = 0
        before = parent.score(np.arange(60)).clone()
        served = MMRecUn().unlearn(parent, task, rng=np.random.default_rng(0))
        assert torch.equal(served.score(np.arange(60)), before)

    def test_withdrawn_content_scores_lower_through_its_branch(self) -> None:
        """VBPR with frozen features: the weights of the served system, over the features that were withdrawn."""
        task = self.task(small_request("modality"))
        pairs = turned_round(task)
        assert np.isin(pairs.items, task.request.items).all()
        with _never_done():
            served = self.run(task, unlearner=MMRecUn(**ONE_STEP))
        assert isinstance(served, Backbone)
        users, items = torch.from_numpy(pairs.users.copy()), torch.from_numpy(pairs.items.copy())
        before, after = (_branch_margin(m.on(task.data), users, items) for m in (self.parent(task), served))
        assert after < before

    def test_closed_forms_are_refused(self) -> None:
        reason = MMRecUn().refuses(Recipe.of("ease"), small_request("user"))
        assert reason is not None
        assert "no loss" in reason

    def test_withdrawn_content_that_nobody_reads_is_refused(self) -> None:
        reason = MMRecUn().refuses(Recipe.of("bpr-mf"), small_request("modality"))
        assert reason is not None
        assert "reads no features" in reason

    def test_the_parents_learning_rate_where_adam_trained_it(self) -> None:
        task = self.task(small_request("user"))
        assert task.recipe.fit.engine == "sgd"
        assert MMRecUn().rate(task) == 5e-3
        assert MMRecUn(learning_rate=0.5).rate(task) == 0.5
        adam = replace(task, recipe=Recipe.of("lightgcn", fit={"learning_rate": 0.03}))
        assert MMRecUn().rate(adam) == 0.03

    def test_with_negatives_among_trained_items_erased_items_are_none(self) -> None:
        task = self.task(small_request("item"))
        task = replace(task, recipe=Recipe.of("vbpr", {"factors": 8}))
        parent = task.recipe.model(task.data, 0)
        found = Reversal.of(parent, task, batch=64, forget_batch=64, form="swapped")
        drawn = np.concatenate(
            [batch[2] for pair in found.batches(np.random.default_rng(0)) for batch in pair if batch is not None]
        )
        assert not np.isin(drawn, task.request.items).any()


class TestMMRecUnOfLightGCN(UnlearnerTests):
    unlearner = MMRecUn(epochs=1)
    one_step = MMRecUn(**ONE_STEP)
    backbone = "lightgcn"
    config = {"factors": 8, "layers": 2}  # noqa: RUF012
    fit = {"epochs": 3, "learning_rate": 0.02}  # noqa: RUF012
    utility_band = None


class TestMMRecUnOfMGCN(UnlearnerTests):
    unlearner = MMRecUn(epochs=1)
    one_step = MMRecUn(**ONE_STEP)
    backbone = "mgcn"
    config = {"factors": 8, "neighbours": 5}  # noqa: RUF012
    fit = {"epochs": 3, "learning_rate": 0.02, "batch": 256}  # noqa: RUF012
    utility_band = None

    def test_auxiliary_terms_never_see_a_forgotten_pair(self) -> None:
        """MGCN's loss has InfoNCE beside BPR: whatever it is asked about is retained, and the graph is too."""
        for regime in ("interaction", "user", "item"):
            task = self.task(small_request(regime))
            with _loss_watched() as seen:
                self.run(task, unlearner=MMRecUn(epochs=2, batch=128))
            assert seen
            forgotten = task.forget.codes(task.data.n_items)
            for model, users, positives, negatives in seen:
                assert model.data.digest == task.retain.digest
                for items in (positives, negatives):
                    assert not np.isin((users * task.data.n_items + items).numpy(), forgotten).any()

    def test_trained_rows_of_withdrawn_features_are_overwritten(self) -> None:
        task = self.task(small_request("modality"))
        served, parent = self.run(task), self.parent(task)
        assert isinstance(served, Backbone)
        gone = task.request.items.copy()
        table = served.get_parameter("item_features_text").detach()
        kept = np.setdiff1d(np.arange(40), gone)
        assert not torch.equal(table[gone], parent.get_parameter("item_features_text")[gone])
        torch.testing.assert_close(table[gone], table[kept].mean(0).expand(len(gone), -1))


@pytest.mark.parametrize("backbone", ["vbpr", "neumf", "bm3", "freedom", "mig-gt", "grcn", "mmgcn", "lattice"])
def test_every_backbone_with_a_loss(backbone: str) -> None:
    """One step lowers the forgotten pairs: also where the loss has no negatives (BM3) or samples edges (FREEDOM)."""

    class On(UnlearnerTests):
        unlearner = MMRecUn(**ONE_STEP)
        config = {"factors": 4}  # noqa: RUF012
        fit = {"epochs": 1, "learning_rate": 0.02, "batch": 512}  # noqa: RUF012

    On.backbone = backbone
    case = On()
    task = case.task(small_request("interaction"))
    with _never_done():
        served = case.run(task)
    start = case.parent(task).on(task.retain)
    assert _margin(served, task) < _margin(start, task)


def test_branches_add_up_over_withdrawn_modalities() -> None:
    data = Dataset.synthetic(n_users=20, n_items=15, n_interactions=100, features=("image", "text"), width=4, seed=1)
    model = Recipe.of("vbpr", {"factors": 4}).model(data, 0)
    users, items = torch.tensor([0, 3, 3]), torch.tensor([1, 1, 14])
    both = branch_logits(model, ("image", "text"), users, items)
    alone = [model.score(np.arange(20), branch=m)[users, items] for m in ("image", "text")]
    torch.testing.assert_close(both.detach(), alone[0] + alone[1])


class TestWatch:
    """The rule that stops: what is compared, and with what."""

    def task(self, regime: Regime, *, valid: bool) -> Task:
        task = TestMMRecUn().task(small_request(regime))
        nothing = Interactions.empty()
        return (
            task
            if valid
            else replace(task, data=replace(task.data, valid=nothing), retain=replace(task.retain, valid=nothing))
        )

    @pytest.mark.parametrize("regime", ["interaction", "modality"])
    def test_validation_pairs_of_the_same_users(self, regime: Regime) -> None:
        task = self.task(regime, valid=False)
        free = task.data.train.matrix(60, 40).toarray() == 0
        liked_by = {user: int(np.flatnonzero(free[user])[0]) for user in range(0, 60, 2)}
        liked = Interactions(np.array(list(liked_by)), np.array(list(liked_by.values())))
        task = replace(task, retain=replace(task.retain, valid=liked))
        pairs = turned_round(task)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("auditkit.unlearners.never_trained._FEWEST", 20)
            watch = Watch.of(task, pairs, np.random.default_rng(0))
        assert watch.target == 0.5
        assert len(watch.users) == (pairs.users % 2 == 0).sum()
        assert all((row == liked_by[user]).all() for user, row in zip(watch.users, watch.others, strict=True))

    @pytest.mark.parametrize("regime", _ALL_REGIMES)
    def test_else_items_that_the_user_does_not_hold(self, regime: Regime) -> None:
        task = self.task(regime, valid=False)
        pairs = turned_round(task)
        watch = Watch.of(task, pairs, np.random.default_rng(0))
        assert len(watch.users) == len(pairs)
        assert not np.isin(watch.users[:, None] * 40 + watch.others, task.data.train.codes(40)).any()
        if regime == "item":
            assert not np.isin(watch.others, task.request.items).any()
        assert (watch.target == 0.5) == (regime in ("user", "item"))

    def test_items_are_compared_with_items_as_popular(self) -> None:
        task = self.task("user", valid=False)
        degree = np.bincount(task.retain.train.items, minlength=40)
        watch = Watch.of(task, task.forget, np.random.default_rng(0))
        apart = np.abs(degree[watch.others].mean(1) - degree[watch.items])
        shuffled = np.abs(degree[watch.others].mean(1) - np.random.default_rng(1).permutation(degree[watch.items]))
        assert apart.mean() < 0.6 * shuffled.mean()

    @pytest.mark.parametrize("regime", ["interaction", "modality"])
    def test_the_neighbourhoods_target_is_that_of_dense_cosines(self, regime: Regime) -> None:
        """The user is taken out of the cosines, and the item out of the user's items."""
        task = self.task(regime, valid=False)
        watch = Watch.of(task, turned_round(task), np.random.default_rng(0))
        x = task.retain.train.matrix(60, 40).toarray().astype(np.float64)
        lengths = np.linalg.norm(x, axis=0).clip(1)

        def score(user: int, item: int) -> float:
            others, items = np.delete(x, user, axis=0), x[user].copy()
            items[item] = 0
            return float(items @ (others.T @ others[:, item] / (lengths * lengths[item])))

        own = np.array([score(u, i) for u, i in zip(watch.users, watch.items, strict=True)])
        apart = own[:, None] - [[score(u, j) for j in row] for u, row in zip(watch.users, watch.others, strict=True)]
        assert watch.target == pytest.approx((apart > 1e-9).mean() + (np.abs(apart) <= 1e-9).mean() / 2, abs=1e-3)

    @pytest.mark.parametrize("regime", _ALL_REGIMES)
    def test_test_pairs_change_nothing(self, regime: Regime) -> None:
        task = self.task(regime, valid=False)
        told = replace(
            task,
            data=replace(task.data, test=small_data().test),
            retain=replace(task.retain, test=small_data().test),
        )
        one, other = (Watch.of(t, turned_round(t), np.random.default_rng(0)) for t in (task, told))
        assert np.array_equal(one.others, other.others)
        assert one.target == other.target

    def test_nothing_to_forget_is_forgotten(self) -> None:
        task = TestMMRecUn().task(small_request("user"), np.empty(0, np.int64))
        watch = Watch.of(task, task.forget, np.random.default_rng(0))
        assert not watch.remembered(lambda users, items: users.float(), torch.device("cpu"))

    def test_a_tie_is_half_a_win(self) -> None:
        assert wins(np.array([1.0, 0.0]), np.array([[0.0, 1.0], [0.0, 2.0]])) == pytest.approx((1 + 0.5 + 0.5 + 0) / 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be 1 or more"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"forget_weight": -0.1}, "forget_weight must be 0 or more"),
        ({"batch": 0}, "batch must be 1 or more"),
        ({"forget_batch": 0}, "forget_batch must be 1 or more"),
        ({"form": "both"}, "form must be one of swapped, negated"),
        ({"every": 0}, "every must be 1 or more"),
    ],
)
def test_domains(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MMRecUn(**options)


def test_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError, match="2 problems"):
        MMRecUn(epochs=0, every=0)


def _scores(model: Any) -> np.ndarray:
    return np.asarray(model.score(np.arange(model.n_users)).detach().numpy())


def _margin(model: Any, task: Task) -> float:
    scores = _scores(model)[task.forget.users]
    return float((scores[np.arange(len(task.forget)), task.forget.items] - scores.mean(1)).mean())


def _branch_margin(model: Backbone, users: torch.Tensor, items: torch.Tensor) -> float:
    scores = model.score(users.numpy(), branch="text")
    return float((scores[torch.arange(len(users)), items] - scores.mean(1)).mean())


@contextmanager
def _never_done() -> Iterator[None]:
    """The stopping rule left out, so that steps can be counted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watch, "remembered", lambda self, scores, device: True)
        yield


@contextmanager
def _loss_watched() -> Iterator[list[tuple[Backbone, torch.Tensor, torch.Tensor, torch.Tensor]]]:
    """What MGCN's own loss is asked about."""
    from auditkit.backbones.mgcn import MGCN

    seen: list[tuple[Backbone, torch.Tensor, torch.Tensor, torch.Tensor]] = []
    real = MGCN.loss

    def loss(self: MGCN, users: Any, positives: Any, negatives: Any, **options: Any) -> torch.Tensor:
        seen.append((self, users, positives, negatives))
        return real(self, users, positives, negatives, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MGCN, "loss", loss)
        yield seen
