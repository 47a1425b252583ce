from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from auditkit.backbones.bpr_mf import BPRMF
from auditkit.contracts import Backbone, Task
from auditkit.errors import ConfigurationError
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_request
from auditkit.testing.unlearners import forget_margin
from auditkit.unlearners.alteraser import AltEraser, blocks, newton_step
from auditkit.unlearners.gold import Gold
from auditkit.unlearners.influence import Selection
from auditkit.unlearners.sampling import retained_batches


class TestAltEraser(UnlearnerTests):
    unlearner = AltEraser(rounds=2)
    utility_band = (0.9, 1.2)

    def loss_of(self, model: Backbone, task: Task) -> Callable[[], Tensor]:
        ((users, positives, negatives),) = retained_batches(task, 10**6).epoch(np.random.default_rng(0))
        ids = [torch.from_numpy(column) for column in (users, positives, negatives)]
        return lambda: model.loss(*ids, l2=0.01)

    @pytest.mark.parametrize("name", ["user_table", "item_table"])
    @pytest.mark.parametrize("damping", [0.0, 0.5])
    def test_a_block_step_is_the_dense_solve(self, name: str, damping: float) -> None:
        """H and g by autograd's own dense functions, in float64, on a part of the rows."""
        task = self.task(small_request("interaction"))
        model = self.parent(task).double()
        loss, parameter, rows = self.loss_of(model, task), model.get_parameter(name), torch.arange(6)
        start = parameter.detach().clone()

        def of_rows(values: Tensor) -> Tensor:
            return _with(model, name, start.index_copy(0, rows, values), loss)

        gradient = torch.autograd.functional.jacobian(of_rows, start[rows]).reshape(-1)  # type: ignore[no-untyped-call]
        hessian = torch.autograd.functional.hessian(of_rows, start[rows])  # type: ignore[no-untyped-call]
        hessian = hessian.reshape(len(gradient), -1)
        curvature = gradient @ hessian @ gradient / (gradient @ gradient)
        shift = damping * curvature * torch.eye(len(gradient), dtype=torch.float64)
        expected = start[rows] - torch.linalg.solve(hessian + shift, gradient).view(6, -1)
        newton_step(Selection({name: parameter}, {name: rows}), loss, damping=damping, steps=400)
        torch.testing.assert_close(parameter.detach()[rows], expected, rtol=1e-4, atol=1e-6)
        assert torch.equal(parameter.detach()[6:], start[6:])

    def test_newton_steps_reach_the_minimum_of_a_convex_block(self) -> None:
        task = self.task(small_request("interaction"))
        model = self.parent(task).double()
        loss, table = self.loss_of(model, task), {"user_table": model.get_parameter("user_table")}
        for _ in range(8):
            newton_step(Selection(table), loss, damping=0.0, steps=200)
        assert float(Selection(table).gradient(loss()).norm()) < 1e-6

    def test_it_comes_nearer_to_retraining_with_every_round(self) -> None:
        task = self.task(small_request("interaction"))
        few, many = (forget_margin(self.run(task, unlearner=AltEraser(rounds=n)), task) for n in (1, 8))
        retrained, parent = (
            forget_margin(self.run(task, unlearner=Gold()), task),
            forget_margin(self.parent(task), task),
        )
        assert abs(many - retrained) < abs(few - retrained) < abs(parent - retrained)

    def test_forgotten_pairs_are_not_trained_on(self) -> None:
        task = self.task(small_request("user"))
        other = replace(task, forget=self.task(small_request("item")).forget)
        assert torch.equal(self.run(task).score(np.arange(60)), self.run(other).score(np.arange(60)))

    def test_users_of_no_retained_pair_stay(self) -> None:
        task = self.task(small_request("user"))
        parent, served = self.parent(task), self.run(task)
        assert isinstance(served, BPRMF)
        moved = (served.user_table != parent.get_parameter("user_table")).any(1).numpy()
        assert np.array_equal(np.flatnonzero(~moved), np.sort(small_request("user").users))

    def test_a_round_may_take_a_part_of_the_pairs(self) -> None:
        """Ten pairs have ten users at most, and twenty items."""
        task = self.task(small_request("interaction"))
        parent, served = self.parent(task), self.run(task, unlearner=AltEraser(rounds=1, batch=10))
        assert isinstance(served, BPRMF)
        users, items = (
            int((served.get_parameter(name) != parent.get_parameter(name)).any(1).sum())
            for name in ("user_table", "item_table")
        )
        assert 1 <= users <= 10
        assert 1 <= items <= 20

    def test_a_step_that_lowers_nothing_is_left_out(self) -> None:
        """A loss without a lower value anywhere near: its own minimum."""
        task = self.task(small_request("interaction"))
        model = self.parent(task)
        start = model.get_parameter("user_table").detach().clone()
        table = model.get_parameter("user_table")
        newton_step(Selection({"u": table}), lambda: (table - start).square().sum(), damping=0.0, steps=5)
        assert torch.equal(table, start)


def _with(model: Backbone, name: str, values: Tensor, loss: Callable[[], Tensor]) -> Tensor:
    """The loss with other values in a parameter's place, differentiable by them."""
    kept = model._parameters[name]
    model._parameters[name] = values  # type: ignore[assignment]
    try:
        return loss()
    finally:
        model._parameters[name] = kept


class TestAltEraserOfLightGCN(UnlearnerTests):
    unlearner = AltEraser(rounds=1, steps=3)
    backbone = "lightgcn"
    config = {"factors": 8, "layers": 2}  # noqa: RUF012
    fit = {"epochs": 3, "learning_rate": 0.02}  # noqa: RUF012
    utility_band = None

    def test_no_step_raises_the_loss(self) -> None:
        """Not convex: the solver may end on negative curvature."""
        task = self.task(small_request("interaction"))
        model = self.parent(task).on(task.retain)
        loss = TestAltEraser().loss_of(model, task)
        values = [float(loss().detach())]
        for block in [*blocks(model)] * 3:
            newton_step(Selection(block), loss, damping=0.1, steps=5)
            values.append(float(loss().detach()))
        assert all(after < before for before, after in pairwise(values))


class TestAltEraserOfMGCN(UnlearnerTests):
    unlearner = AltEraser(rounds=1, steps=2)
    backbone = "mgcn"
    config = {"factors": 4, "neighbours": 3}  # noqa: RUF012
    fit = {"epochs": 2, "learning_rate": 0.01, "batch": 256}  # noqa: RUF012
    utility_band = None

    def test_blocks_are_users_items_and_the_rest(self) -> None:
        model = self.parent(self.task(small_request("interaction")))
        of_users, of_items, rest = (set(block) for block in blocks(model))
        assert of_users == {"user_table"}
        assert of_items == {"item_table", "item_features_text"}
        assert rest == set(model.trained) - of_users - of_items
        assert "text_projection.weight" in rest


@pytest.mark.parametrize("options", [{"rounds": 0}, {"steps": 0}, {"damping": -0.1}, {"batch": 0}])
def test_domains(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(ConfigurationError, match=f"{name} must be"):
        AltEraser(**options)  # type: ignore[arg-type]
