from __future__ import annotations

import numpy as np
import pytest
import torch

from auditkit.contracts import Backbone, Recommender, Task
from auditkit.data.dataset import Bools
from auditkit.errors import NotApplicableError
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_request
from auditkit.testing.unlearners import forget_margin
from auditkit.unlearners.controls import Masked, NoOp, OutputMask, RowReinit, SignFlipped

_EVERYBODY = np.arange(60)


class TestNoOp(UnlearnerTests):
    unlearner = NoOp()
    serves_retain = False

    def test_the_parent_is_returned_with_its_forgotten_edges(self) -> None:
        task = self.task(small_request("user"))
        parent = self.parent(task)
        served = self.unlearner.unlearn(parent, task, rng=np.random.default_rng(0))
        assert served is parent
        assert isinstance(parent, Backbone)
        assert parent.data.digest == task.data.digest


class TestSignFlipped(UnlearnerTests):
    unlearner = SignFlipped(epochs=2, batch=256, forget_batch=64)

    def test_one_step_raises_the_forgotten_pairs(self) -> None:
        for regime in self.regimes:
            task = self.task(small_request(regime))
            served = self.run(task, unlearner=SignFlipped(epochs=1, batch=10**6, forget_batch=10**6))
            assert forget_margin(served, task) > forget_margin(self.parent(task), task)


class TestOutputMask(UnlearnerTests):
    unlearner = OutputMask()
    serves_retain = False

    def test_hidden_pairs_and_no_others_read_nan(self) -> None:
        for regime in self.regimes:
            task = self.task(small_request(regime))
            served, parent = self.run(task), self.parent(task)
            hidden = _covered(task)
            scores = served.score(_EVERYBODY).numpy()
            assert np.array_equal(np.isnan(scores), hidden)
            assert np.array_equal(scores[~hidden], parent.score(_EVERYBODY).numpy()[~hidden])

    def test_users_may_come_in_any_order_and_twice(self) -> None:
        for regime in self.regimes:
            task = self.task(small_request(regime))
            users = np.array([31, 5, 31, *task.request.users[:2].clip(0), 0])
            served = self.run(task)
            # NaN must agree with NaN; a product over fewer rows rounds differently.
            np.testing.assert_allclose(served.score(users), served.score(_EVERYBODY)[users], rtol=1e-4, atol=1e-5)

    def test_a_fresh_account_sees_all_but_hidden_items(self) -> None:
        for regime in self.regimes:
            task = self.task(small_request(regime))
            served = self.run(task)
            assert isinstance(served, Masked)
            found = torch.isnan(served.fold_in([np.array([1, 2])]))[0].numpy()
            hidden = np.zeros(40, np.bool_)
            if regime == "item":
                hidden[task.request.items] = True
            assert np.array_equal(found, hidden)
            assert not torch.isnan(served.fold_in([np.array([1, 2])], side="item")).any()

    def test_the_backbone_beneath_is_untouched(self) -> None:
        task = self.task(small_request("interaction"))
        parent = self.parent(task)
        before = parent.score(_EVERYBODY).clone()
        served = self.unlearner.unlearn(parent, task, rng=np.random.default_rng(0))
        served.score(_EVERYBODY)
        assert torch.equal(parent.score(_EVERYBODY), before)


def _covered(task: Task) -> Bools:
    """Pair by pair: the mask an output filter must apply."""
    found = np.zeros((60, 40), np.bool_)
    for user, item in zip(task.request.users, task.request.items, strict=True):
        for u in range(60):
            for i in range(40):
                found[u, i] |= user in (-1, u) and item in (-1, i)
    return found


class TestRowReinit(UnlearnerTests):
    unlearner = RowReinit()
    # A tenth of all pairs touches nearly every user, whose row is then lost.
    utility_band = (0.0, 0.6)

    def test_exactly_the_named_rows_change(self) -> None:
        for regime in self.regimes:
            task = self.task(small_request(regime))
            named = {"user_table": task.request.users, "item_table": task.request.items}
            if regime == "interaction":
                named["item_table"] = np.empty(0, np.int64)
            changed = _changed(self.parent(task), self.run(task))
            for table, rows in changed.items():
                expected = np.unique(named[table][named[table] >= 0])
                assert np.array_equal(np.flatnonzero(rows), expected)

    def test_fresh_rows_look_untrained(self) -> None:
        task = self.task(small_request("user"))
        served, parent = self.run(task), self.parent(task)
        assert isinstance(served, Backbone)
        rows = task.request.users.copy()
        fresh = served.get_parameter("user_table")[rows]
        assert float(fresh.detach().std()) == pytest.approx(0.1, rel=0.2)
        assert float(parent.get_parameter("user_table")[rows].detach().std()) > 0.13

    def test_only_the_units_of_the_task(self) -> None:
        task = self.task(small_request("user"), np.array([0, 2]))
        changed = _changed(self.parent(task), self.run(task))["user_table"]
        assert np.array_equal(np.flatnonzero(changed), np.sort(task.request.users[[0, 2]]))

    def test_a_backbone_without_rows_is_refused(self) -> None:
        class OnEase(TestRowReinit):
            backbone = "ease"
            config = {}  # noqa: RUF012
            fit = {}  # noqa: RUF012

        task = OnEase().task(small_request("user"))
        assert "no rows of its own" in (self.unlearner.refuses(task.recipe, task.request) or "")
        with pytest.raises(NotApplicableError, match="no rows of its own"):
            OnEase().run(task)


def _changed(parent: Backbone, served: Recommender) -> dict[str, Bools]:
    assert isinstance(served, Backbone)
    return {n: (p != served.get_parameter(n)).any(1).numpy() for n, p in parent.named_parameters()}


def test_only_no_op_and_mask_keep_the_weights() -> None:
    for case in (TestNoOp(), TestOutputMask()):
        task = case.task(small_request("user"))
        (beneath,), _ = case.unlearner.dump(case.run(task))
        assert not any(rows.any() for rows in _changed(case.parent(task), beneath).values())
