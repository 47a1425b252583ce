from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from auditkit.contracts import Backbone, Recipe, Task
from auditkit.data.dataset import Interactions
from auditkit.deletion import Regime
from auditkit.errors import ConfigurationError
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_data, small_request
from auditkit.unlearners.branch_scaling import branch_scales, parameter_scales
from auditkit.unlearners.gate import Gate
from auditkit.unlearners.isolation import Isolation, table_side
from auditkit.unlearners.mmrecun import MMRecUn
from auditkit.unlearners.reversal import Reversal
from auditkit.unlearners.tru import TRU

_ONE_STEP: dict[str, Any] = {"epochs": 1, "batch": 10**6, "forget_batch": 10**6, "forget_weight": 1.0}
_OFF: dict[str, Any] = {"gate": False, "scaling": False, "isolation": False}
_MGCN = "mgcn", {"factors": 8, "neighbours": 5}, {"epochs": 3, "learning_rate": 0.02, "batch": 256}
_ALL_REGIMES: tuple[Regime, ...] = ("interaction", "user", "item", "modality")


class TestTRU(UnlearnerTests):
    unlearner = TRU(epochs=2, batch=256, forget_batch=64, gate_steps=5)
    one_step = TRU(**_ONE_STEP, gate_steps=1)
    utility_band = (0.6, 1.2)

    def test_each_switch_lowers_the_forgotten_pairs_alone(self) -> None:
        task = self.task(small_request("interaction"))
        before = _margin(self.parent(task), task)
        for switch in _OFF:
            method = TRU(**_ONE_STEP, **{**_OFF, switch: True}, gate_steps=1)
            assert _margin(self.run(task, unlearner=method), task) < before

    def test_one_branch_leaves_nothing_to_scale(self) -> None:
        task = self.task(small_request("item"))
        scaled = self.run(task, unlearner=TRU(epochs=2, **{**_OFF, "scaling": True}))
        assert _equal(scaled, self.run(task, unlearner=MMRecUn(epochs=2)))

    def test_what_mmrecun_refuses(self) -> None:
        assert TRU().refuses(Recipe.of("ease"), small_request("user"))
        assert TRU().refuses(Recipe.of("bpr-mf"), small_request("modality"))


class TestTRUOfLightGCN(UnlearnerTests):
    unlearner = TRU(epochs=1, gate_steps=2)
    one_step = TRU(**_ONE_STEP, gate_steps=1)
    backbone = "lightgcn"
    config = {"factors": 8, "layers": 2}  # noqa: RUF012
    fit = {"epochs": 3, "learning_rate": 0.02}  # noqa: RUF012
    utility_band = None


class TestTRUOfMGCN(UnlearnerTests):
    unlearner = TRU(epochs=1, gate_steps=2)
    one_step = TRU(**_ONE_STEP, gate_steps=1)
    backbone, config, fit = _MGCN
    utility_band = None

    @pytest.mark.parametrize("regime", _ALL_REGIMES)
    def test_all_off_is_mmrecun_to_the_last_bit(self, regime: Regime) -> None:
        task = self.task(small_request(regime))
        options: dict[str, Any] = {"epochs": 2, "batch": 256, "forget_batch": 32}
        assert _equal(self.run(task, unlearner=TRU(**options, **_OFF)), self.run(task, unlearner=MMRecUn(**options)))

    @pytest.mark.parametrize("switch", sorted(_OFF))
    def test_each_switch_changes_what_is_served(self, switch: str) -> None:
        """Measured where steps are taken at all: a user request of a model that remembers."""
        task = self.task(small_request("user"))
        plain = self.run(task, unlearner=MMRecUn(**_ONE_STEP))
        switched = self.run(task, unlearner=TRU(**_ONE_STEP, **{**_OFF, switch: True}))
        assert not _equal(plain, switched)

    def test_a_modality_request_has_no_gate(self) -> None:
        task = self.task(small_request("modality"))
        gated = self.run(task, unlearner=TRU(**_ONE_STEP, **{**_OFF, "gate": True}))
        assert _equal(gated, self.run(task, unlearner=MMRecUn(**_ONE_STEP)))


class TestGate:
    """A factor for each row, and nothing but the rows."""

    def learned(self, regime: Regime) -> tuple[Task, Backbone, Backbone, Gate, torch.Tensor]:
        case = TestTRU()
        task = case.task(small_request(regime))
        parent = case.parent(task)
        reversal = Reversal.of(case.parent(task), task, batch=32, forget_batch=64, form="swapped")
        gate = Gate.of(reversal.served, task)
        batches = reversal.batches(np.random.default_rng(0))
        q = gate.learn(reversal, batches, learning_rate=0.2, forget_weight=1.0)
        return task, parent, reversal.served, gate, q

    @pytest.mark.parametrize(("regime", "table"), [("user", "user_table"), ("item", "item_table")])
    def test_it_is_folded_into_the_rows_that_the_request_names(self, regime: Regime, table: str) -> None:
        task, parent, served, gate, q = self.learned(regime)
        named = np.unique(task.forget.users if regime == "user" else task.forget.items)
        assert gate.rows.tolist() == named.tolist()
        assert ((q > 0) & (q < 1)).all()
        for name, before in parent.trained.items():
            after = served.get_parameter(name)
            expected = before.detach().clone()
            if name == table:
                expected[gate.rows] *= q[:, None]
            assert torch.equal(after.detach(), expected)

    def test_where_only_forgetting_speaks_gates_close(self) -> None:
        """No retained pair has an erased user: nothing holds the gates open, and the forgotten pairs sink."""
        task, parent, served, _, q = self.learned("user")
        assert q.mean() < 0.9
        assert _margin(served, task) < _margin(parent, task)

    def test_the_slope_is_that_of_finite_differences(self) -> None:
        """One step of Adam moves every gate by the learning rate against the sign of its slope."""
        case = TestTRU()
        task = case.task(small_request("item"))
        reversal = Reversal.of(case.parent(task).double(), task, batch=10**6, forget_batch=10**6, form="swapped")
        gate = Gate.of(reversal.served, task)
        (batch,) = reversal.batches(np.random.default_rng(0))
        start = reversal.served.get_parameter("item_table").detach().clone()
        slopes = [
            (_loss(reversal, gate, start, k, batch, 1e-4) - _loss(reversal, gate, start, k, batch, -1e-4))
            for k in range(4)
        ]
        with torch.no_grad():
            reversal.served.get_parameter("item_table").copy_(start)
        q = gate.learn(reversal, [batch], learning_rate=0.1, forget_weight=1.0)
        moved = q[:4] - torch.sigmoid(torch.tensor(4.0))
        assert torch.equal(torch.sign(moved), -torch.sign(torch.tensor(slopes)).to(moved))

    @pytest.mark.parametrize("backbone", ["mig-gt", "mmgcn"])
    def test_without_id_rows_of_items_nothing_is_gated(self, backbone: str) -> None:
        recipe = Recipe.of(backbone, {"factors": 4})
        model = recipe.model(small_data(), 0)
        task = replace(TestTRU().task(small_request("item")), recipe=recipe)
        assert not Gate.of(model, task).tables


def _loss(reversal: Reversal, gate: Gate, start: torch.Tensor, k: int, batch: Any, change: float) -> float:
    """Both terms with one gate's logit moved, all others at their start."""
    from auditkit.unlearners.steps import reversed_bpr, tensors

    openness = torch.full((len(gate.rows),), 4.0, dtype=torch.float64)
    openness[k] += change
    table, model = reversal.served.get_parameter("item_table"), reversal.served
    with torch.no_grad():
        table.copy_(start)
        table[gate.rows] = torch.sigmoid(openness)[:, None] * start[gate.rows]
        users, positives, negatives = tensors(batch[1], model.device)
        reverse = reversed_bpr(model.logits(users, positives), model.logits(users, negatives), "swapped")
        return float(reverse + model.loss(*tensors(batch[0], model.device), l2=reversal.l2))


class TestBranchScales:
    """alpha_m = min(1, rho_m / mean of rho) with rho the ratio of norms."""

    def test_by_hand(self) -> None:
        forward = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([1.0]), "c": torch.tensor([2.0])}
        reverse = {"a": torch.tensor([0.0, 5.0]), "b": torch.tensor([3.0]), "c": torch.tensor([7.0])}
        branches = {"id": ("a",), "text": ("b", "not trained")}
        # rho: 1 and 3, mean 2.
        assert branch_scales(forward, reverse, branches) == pytest.approx({"id": 0.5, "text": 1.0})
        assert parameter_scales(forward, reverse, branches) == pytest.approx({"a": 0.5, "b": 1.0, "c": 1.0})

    def test_a_shared_parameter_takes_the_mean_of_its_branches(self) -> None:
        forward = {"a": torch.ones(1), "b": torch.ones(1), "both": torch.zeros(1)}
        reverse = {"a": torch.ones(1), "b": 3 * torch.ones(1), "both": torch.zeros(1)}
        found = parameter_scales(forward, reverse, {"id": ("a", "both"), "text": ("b", "both")})
        assert found == pytest.approx({"a": 0.5, "b": 1.0, "both": 0.75})

    def test_an_only_branch_and_no_branch_and_no_gradient(self) -> None:
        ones, zeros = {"a": torch.ones(2) / 3}, {"a": torch.zeros(2)}
        assert parameter_scales(ones, {"a": torch.ones(2) * 0.7}, {"id": ("a",)}) == {"a": 1.0}
        assert parameter_scales(ones, ones, {}) == {"a": 1.0}
        assert parameter_scales(ones, zeros, {"id": ("a",), "text": ()}) == {"a": 1.0}


class TestIsolation:
    """Rows that forgotten pairs name, and whole layers, by sensitivity."""

    pairs = Interactions(np.array([1, 2]), np.array([5, 5]))

    def model(self) -> Backbone:
        return Recipe.of("vbpr", {"factors": 2}).model(small_data(), 0)

    def test_tables_are_told_by_name_and_length(self) -> None:
        model = self.model()
        assert {name: table_side(model, name) for name in model.trained} == {
            "user_table": "user", "item_table": "item", "projection.weight": None, "projection.bias": None,
        }  # fmt: skip

    def test_the_most_sensitive_parts_that_fit(self) -> None:
        model = self.model()
        forward = {name: torch.ones_like(p) for name, p in model.trained.items()}
        reverse = {name: torch.zeros_like(p) for name, p in model.trained.items()}
        reverse["user_table"][1], reverse["user_table"][2], reverse["item_table"][5] = 3.0, 1.0, 2.0
        reverse["user_table"][7] = 100.0
        total = sum(p.numel() for p in model.trained.values())
        # A user's row has 4 entries and an item's 2: room for the first two of three.
        isolation = Isolation(model, self.pairs, 6.5 / total)
        isolation.see(forward, reverse)
        isolation.choose()
        kept = isolation.isolated(reverse)
        assert kept["user_table"].any(1).nonzero().flatten().tolist() == [1]
        assert kept["item_table"].any(1).nonzero().flatten().tolist() == [5]
        assert kept["projection.weight"].abs().sum() == 0

    def test_all_that_is_named_within_full_capacity_and_the_first_in_any_case(self) -> None:
        model = self.model()
        ones = {name: torch.ones_like(p) for name, p in model.trained.items()}
        for capacity, expected in ((1.0, {1, 2}), (1e-9, {1})):
            isolation = Isolation(model, self.pairs, capacity)
            isolation.see(ones, {**ones, "user_table": 2 * ones["user_table"]})
            isolation.choose()
            assert set(isolation.isolated(ones)["user_table"].nonzero()[:, 0].tolist()) == expected

    def test_every_step_counts(self) -> None:
        """A row that the last batches did not hold is not forgotten."""
        model = self.model()
        ones = {name: torch.ones_like(p) for name, p in model.trained.items()}
        none = {name: torch.zeros_like(p) for name, p in model.trained.items()}
        first = {name: g.clone() for name, g in none.items()}
        first["user_table"][2] = 5.0
        isolation = Isolation(model, self.pairs, 1e-9)
        isolation.see(ones, first)
        isolation.see(ones, none)
        isolation.choose()
        assert isolation.isolated(ones)["user_table"].any(1).nonzero().flatten().tolist() == [2]

    def test_the_reverse_update_stays_within_and_the_forward_does_not(self) -> None:
        case = TestTRU()
        task = case.task(small_request("user"))
        isolated = TRU(**_ONE_STEP, **{**_OFF, "isolation": True}, capacity=1e-9)
        served, parent = case.run(task, unlearner=isolated), case.parent(task)
        assert isinstance(served, Backbone)
        moved = (served.get_parameter("user_table") != parent.get_parameter("user_table")).any(1).numpy()
        # One erased user's row is all the capacity there is; forward steps move all others' rows.
        assert moved[task.request.users].sum() == 1
        assert moved[np.unique(task.retain.train.users)].all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate_steps": 0}, "gate_steps must be 1 or more"),
        ({"gate_learning_rate": 0.0}, "gate_learning_rate must be above 0"),
        ({"capacity": 0.0}, r"capacity must be in \(0, 1\]"),
        ({"capacity": 1.1}, r"capacity must be in \(0, 1\]"),
        ({"refresh": 0}, "refresh must be 1 or more"),
        ({"epochs": 0}, "epochs must be 1 or more"),
    ],
)
def test_domains(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TRU(**options)


def _equal(one: Any, other: Any) -> bool:
    """Whether two backbones have the same weights, bit by bit."""
    weights = dict(other.named_parameters())
    return all(torch.equal(parameter, weights[name]) for name, parameter in one.named_parameters())


def _margin(model: Any, task: Task) -> float:
    scores = model.score(task.forget.users).detach().numpy()
    return float((scores[np.arange(len(task.forget)), task.forget.items] - scores.mean(1)).mean())
