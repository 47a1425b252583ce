from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from auditkit.contracts import Backbone
from auditkit.errors import ConfigurationError, NotApplicableError
from auditkit.plugins import backbones
from auditkit.testing.examples import recipe_of, small_data
from auditkit.unlearners.influence import (
    GaussNewton,
    Hessian,
    Jacobian,
    Selection,
    adam,
    conjugate_gradients,
    dense,
    exact,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def two_parameters() -> dict[str, nn.Parameter]:
    return {"table": nn.Parameter(normal(6, 3)), "bias": nn.Parameter(normal(3, seed=1))}


def definite(size: int = 12) -> tuple[Tensor, Tensor]:
    """A symmetric matrix with eigenvalues from 1 up, and a right-hand side."""
    root = normal(size, size)
    return root @ root.T + torch.eye(size, dtype=torch.float64), normal(size, seed=1)


class Logistic:
    """Mean log loss of w.x with an L2 term; `keep` says which samples count, `n` what they are divided by."""

    def __init__(self, copies: int) -> None:
        self.x = normal(40, 3).repeat(copies, 1)
        self.y = (normal(40, seed=1) + self.x[:40, 0] > 0).double().repeat(copies)
        self.w = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.chosen = Selection({"w": self.w})

    def loss(self, keep: Tensor) -> Tensor:
        signs = 2 * self.y - 1
        return (softplus(-signs * (self.x @ self.w)) * keep).sum() / len(keep) + 0.05 * self.w.square().sum()

    def trained(self, keep: Tensor) -> Tensor:
        """Newton's method to the minimum."""
        self.chosen.put(torch.zeros(3, dtype=torch.float64))
        for _ in range(20):
            hessian = Hessian(self.chosen, self.loss(keep))
            self.chosen.add(-exact(hessian.times, hessian.gradient).value)
        return self.chosen.values()

    def error(self) -> float:
        """Distance between retraining without 4 samples and the influence of them."""
        everything = torch.ones(len(self.x), dtype=torch.float64)
        retained = everything.clone()
        retained[:4] = 0
        gold = self.trained(retained)
        self.trained(everything)
        gone = self.chosen.gradient(self.loss(everything) - self.loss(retained))
        self.chosen.add(exact(Hessian(self.chosen, self.loss(everything)).times, gone).value)
        return float((self.chosen.values() - gold).norm())


class TestFirstOrder:
    def test_logistic_regression_without_some_samples_to_second_order_in_one_over_n(self) -> None:
        errors = [Logistic(copies).error() for copies in (8, 16, 32)]
        assert 3.6 < errors[0] / errors[1] < 4.4
        assert 3.8 < errors[1] / errors[2] < 4.2

    def test_a_quadratic_loss_exactly_with_the_hessian_of_what_stays(self) -> None:
        x, y = normal(30, 4), normal(30, seed=1)
        w = nn.Parameter(torch.zeros(4, dtype=torch.float64))
        chosen = Selection({"w": w})

        def loss(first: int) -> Tensor:
            return 0.5 * (x[first:] @ w - y[first:]).square().sum() + 0.5 * w.square().sum()

        def minimum(first: int) -> Tensor:
            design = x[first:]
            made: Tensor = torch.linalg.solve(
                design.T @ design + torch.eye(4, dtype=torch.float64), design.T @ y[first:]
            )
            return made

        chosen.put(minimum(0))
        gone = chosen.gradient(loss(0) - loss(7))
        change = exact(Hessian(chosen, loss(7)).times, gone).value
        torch.testing.assert_close(chosen.values() + change, minimum(7), rtol=1e-12, atol=1e-12)
        # With the Hessian of all samples it is only close.
        first_order = exact(Hessian(chosen, loss(0)).times, gone).value
        assert 1e-4 < float((chosen.values() + first_order - minimum(7)).norm()) < float(change.norm())


class TestSelection:
    def test_rows_of_a_table_and_a_whole_tensor(self) -> None:
        parameters = two_parameters()
        chosen = Selection(parameters, {"table": torch.tensor([4, 1])})
        assert chosen.size == 9
        expected = torch.cat([parameters["table"][[4, 1]].reshape(-1), parameters["bias"]])
        assert torch.equal(chosen.values(), expected)

    def test_add_and_put_change_what_is_selected_alone(self) -> None:
        parameters = two_parameters()
        before = parameters["table"].detach().clone()
        chosen = Selection(parameters, {"table": torch.tensor([4, 1])})
        start = chosen.values()
        chosen.add(torch.ones(9, dtype=torch.float64))
        assert torch.equal(chosen.values(), start + 1)
        assert torch.equal(parameters["table"][[0, 2, 3, 5]], before[[0, 2, 3, 5]])
        chosen.put(start)
        assert torch.equal(parameters["table"], before)

    def test_values_are_a_copy(self) -> None:
        parameters = two_parameters()
        chosen = Selection(parameters)
        start = chosen.values()
        chosen.add(torch.ones(chosen.size))
        assert not torch.equal(start, chosen.values())

    def test_gradient_of_a_loss_that_reads_one_tensor_or_none(self) -> None:
        parameters = two_parameters()
        chosen = Selection(parameters)
        found = chosen.gradient(parameters["bias"].square().sum())
        assert torch.equal(found, torch.cat([torch.zeros(18, dtype=torch.float64), 2 * parameters["bias"].detach()]))
        assert not chosen.gradient(torch.tensor(1.0)).any()

    def test_no_rows_is_an_empty_vector(self) -> None:
        parameters = {"table": two_parameters()["table"]}
        chosen = Selection(parameters, {"table": torch.empty(0, dtype=torch.int64)})
        assert chosen.size == 0
        assert chosen.gradient(parameters["table"].sum()).shape == (0,)

    @pytest.mark.parametrize("rows", [{"other": [0]}, {"table": [6]}, {"table": [-1]}, {"table": [1, 1]}])
    def test_domains(self, rows: dict[str, list[int]]) -> None:
        with pytest.raises(ConfigurationError, match="rows"):
            Selection(two_parameters(), {name: torch.tensor(ids) for name, ids in rows.items()})

    def test_all_problems_at_once(self) -> None:
        with pytest.raises(ConfigurationError, match="2 problems"):
            Selection(two_parameters(), {"other": torch.tensor([0]), "table": torch.tensor([9])})


def lightgcn() -> Backbone:
    recipe = recipe_of(backbones()["lightgcn"], {"factors": 4, "layers": 2}, {"epochs": 1})
    model = recipe.model(small_data(), 3).double()
    for name, buffer in list(model.named_buffers()):
        assert buffer.dtype != torch.float32, name
    return model


def batch() -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(0)
    users, positives, negatives = (torch.from_numpy(rng.integers(n, size=200)) for n in (60, 40, 40))
    return users, positives, negatives


class TestProducts:
    def test_hessian_is_the_difference_of_gradients_through_lightgcn(self) -> None:
        model = lightgcn()
        chosen = Selection(model.trained, {"user_table": torch.arange(0, 60, 2)})
        vector, step = normal(chosen.size), 1e-5
        product = Hessian(chosen, model.loss(*batch(), l2=0.1)).times(vector)
        gradients = []
        for sign in (1, -2):
            chosen.add(sign * step * vector)
            gradients.append(chosen.gradient(model.loss(*batch(), l2=0.1)))
        torch.testing.assert_close(product, (gradients[0] - gradients[1]) / (2 * step), rtol=1e-6, atol=1e-9)

    def test_jacobian_is_the_difference_of_outputs_and_back_its_adjoint(self) -> None:
        model = lightgcn()
        chosen = Selection(model.trained, {"item_table": torch.arange(7)})
        users, items, _ = batch()
        vector, cotangent, step = normal(chosen.size), normal(200, seed=1), 1e-6
        jacobian = Jacobian(chosen, model.logits(users, items))
        moved = jacobian.times(vector)
        outputs = []
        for sign in (1, -2):
            chosen.add(sign * step * vector)
            outputs.append(model.logits(users, items).detach())
        torch.testing.assert_close(moved, (outputs[0] - outputs[1]) / (2 * step), rtol=1e-6, atol=1e-8)
        chosen.add(step * vector)
        back = Jacobian(chosen, model.logits(users, items)).back(cotangent)
        torch.testing.assert_close(back.dot(vector), cotangent.dot(moved))

    def test_gauss_newton_is_the_hessian_of_linear_outputs(self) -> None:
        weights, x = nn.Parameter(normal(5)), normal(20, 5, seed=1)
        chosen, v = Selection({"w": weights}), normal(5, seed=2)
        found = GaussNewton(chosen, x @ weights, lambda o: softplus(o).sum()).times(v)
        torch.testing.assert_close(found, Hessian(chosen, softplus(x @ weights).sum()).times(v))

    def test_gauss_newton_of_products_is_semi_definite_where_the_hessian_is_not(self) -> None:
        model = lightgcn()
        chosen = Selection(model.trained, {"user_table": torch.arange(5), "item_table": torch.arange(5)})
        users, items, _ = batch()
        newton = GaussNewton(chosen, model.logits(users, items), lambda s: softplus(-s).sum())
        hessian = Hessian(chosen, softplus(-model.logits(users, items)).sum())
        found = [torch.linalg.eigvalsh(dense(m.times, hessian.gradient)) for m in (newton, hessian)]
        assert found[0].min() > -1e-10
        assert found[1].min() < -1e-3

    def test_of_a_loss_that_does_not_depend_on_the_selection(self) -> None:
        parameters = two_parameters()
        chosen = Selection({"bias": parameters["bias"]})
        v = torch.ones(3, dtype=torch.float64)
        assert not Hessian(chosen, parameters["table"].square().sum()).times(v).any()
        assert not GaussNewton(chosen, parameters["table"][0], lambda o: o.square().sum()).times(v).any()


class TestSolvers:
    def test_conjugate_gradients_equal_the_dense_solution(self) -> None:
        matrix, g = definite()
        wanted = exact(matrix.matmul, g, damping=0.5)
        found = conjugate_gradients(matrix.matmul, g, damping=0.5, tolerance=1e-12)
        assert (wanted.ending, found.ending) == ("exact", "tolerance")
        torch.testing.assert_close(found.value, wanted.value)
        torch.testing.assert_close(wanted.value, torch.linalg.solve(matrix + 0.5 * torch.eye(12), g))

    def test_a_damping_of_each_entry(self) -> None:
        matrix, g = definite()
        damping = torch.arange(12.0, dtype=torch.float64)
        found = conjugate_gradients(matrix.matmul, g, damping=damping, tolerance=1e-12).value
        torch.testing.assert_close(found, torch.linalg.solve(matrix + damping.diag(), g))

    def test_the_diagonal_saves_steps_where_scales_differ(self) -> None:
        matrix, g = definite()
        scale = torch.logspace(-3, 3, 12, dtype=torch.float64)
        matrix = scale[:, None] * matrix * scale
        plain, helped = (
            conjugate_gradients(matrix.matmul, g, tolerance=1e-10, steps=500, diagonal=d)
            for d in (None, matrix.diagonal())
        )
        torch.testing.assert_close(helped.value, torch.linalg.solve(matrix, g), rtol=1e-6, atol=1e-9)
        assert helped.steps < plain.steps

    def test_negative_curvature_stops_with_what_there_is(self) -> None:
        matrix = torch.diag(torch.tensor([1.0, -1.0]))
        first = conjugate_gradients(matrix.matmul, torch.tensor([0.0, 1.0]))
        assert (first.ending, first.steps) == ("negative curvature", 1)
        assert not first.value.any()
        second = conjugate_gradients(matrix.matmul, torch.tensor([2.0, 1.0]))
        assert second.ending == "negative curvature"
        assert second.value.any()

    def test_few_steps_and_a_zero_right_hand_side(self) -> None:
        matrix, g = definite()
        assert conjugate_gradients(matrix.matmul, g, steps=2).ending == "steps"
        nothing = conjugate_gradients(matrix.matmul, 0 * g)
        assert (nothing.ending, nothing.steps) == ("tolerance", 0)

    def test_adam_reaches_the_solution(self) -> None:
        matrix, g = definite()
        found = adam(matrix.matmul, g, learning_rate=0.01, steps=6000, damping=0.5)
        torch.testing.assert_close(found.value, exact(matrix.matmul, g, damping=0.5).value, rtol=1e-3, atol=1e-4)

    def test_adam_returns_the_best_that_was_seen(self) -> None:
        matrix, g = definite()
        seen: list[Tensor] = []

        def quality(p: Tensor) -> float:
            seen.append(p.clone())
            return -abs(len(seen) - 4)

        found = adam(matrix.matmul, g, learning_rate=0.01, steps=100, quality=quality, patience=3)
        assert (found.ending, found.steps) == ("patience", 7)
        assert torch.equal(found.value, seen[3])

    def test_a_singular_or_large_dense_system_says_so(self) -> None:
        with pytest.raises(NotApplicableError, match="singular"):
            exact(torch.zeros(3, 3).matmul, torch.ones(3))
        with pytest.raises(NotApplicableError, match="too large"):
            exact(lambda v: v, torch.ones(10_000))

    def test_a_singular_system_with_damping(self) -> None:
        assert torch.equal(exact(torch.zeros(3, 3).matmul, torch.ones(3), damping=2.0).value, torch.full((3,), 0.5))

    def test_of_nothing(self) -> None:
        empty = torch.zeros(0)
        assert exact(lambda v: v, empty).value.shape == (0,)
        assert conjugate_gradients(lambda v: v, empty).value.shape == (0,)
