from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor
from torch.nn.functional import softplus

from auditkit.contracts import Backbone, Task
from auditkit.data.dataset import Bools, Dataset, Interactions
from auditkit.errors import ConfigurationError
from auditkit.plugins import backbones
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import recipe_of, small_data, small_request, small_task
from auditkit.unlearners.ifru import IFRU, lost_samples, stationary_weight
from auditkit.unlearners.ifru_margins import bend, margins_of, slope
from auditkit.unlearners.ifru_rows import counted, rows_of
from auditkit.unlearners.ifru_samples import Sampler, Triples
from auditkit.unlearners.influence import GaussNewton, Selection, dense, exact
from auditkit.unlearners.pruning import Nodes, changed, importance, kept

_GRAPH = {"factors": 8, "layers": 2}
_FEW_EPOCHS = {"epochs": 5, "learning_rate": 0.02}


def some_nodes() -> Nodes:
    return Nodes(np.arange(60) % 5 == 0, np.arange(40) % 4 == 0)


def all_triples(task: Task) -> Triples:
    return Sampler(task, np.random.default_rng(0)).with_negatives(task.data.train, 2)


def bpr(model: Backbone, triples: Triples) -> Tensor:
    """The weighted loss, by the model's own scores and autograd."""
    users, positives, negatives = triples.ids(model.device)
    margins = model.logits(users, positives) - model.logits(users, negatives)
    return (torch.from_numpy(triples.weights) * softplus(-margins)).sum()


class TestIFRU(UnlearnerTests):
    unlearner = IFRU()
    one_step = IFRU()
    utility_band = (0.9, 1.1)

    def test_rows_that_the_request_does_not_reach_stay(self) -> None:
        task = self.task(small_request("interaction"), np.arange(3))
        parent, served = self.parent(task), self.served_backbone(task)
        for name, ids in (("user_table", task.forget.users), ("item_table", task.forget.items)):
            moved = (served.get_parameter(name) != parent.get_parameter(name)).any(1).numpy()
            assert_array_equal(np.flatnonzero(moved), np.unique(ids))

    def served_backbone(self, task: Task, method: IFRU | None = None) -> Backbone:
        served = self.run(task, unlearner=method)
        assert isinstance(served, Backbone)
        return served

    def moved(self, task: Task, name: str, method: IFRU) -> float:
        """How far a table went from the parent's."""
        before = self.parent(task).get_parameter(name).detach()
        return float((self.served_backbone(task, method).get_parameter(name).detach() - before).norm())

    def test_more_damping_moves_less(self) -> None:
        task = self.task(small_request("user"))
        near, far = (self.moved(task, "item_table", IFRU(damping=d)) for d in (50.0, 0.5))
        assert 0 < near < 0.2 * far

    def test_the_step_solves_the_dense_system(self) -> None:
        """With many steps of either solver: (H + damping c N)^-1 g, all of it written out with autograd."""
        task = _without_validation(self.task(small_request("interaction"), np.arange(3)))
        model = self.parent(task)
        method = IFRU(steps=200, damping=2.0)
        sampler = Sampler(task, np.random.default_rng(5))
        nodes = method.nodes(task, graph=False)
        chosen = Selection(model.trained, {"user_table": _at(nodes.users), "item_table": _at(nodes.items)})
        theta, held = chosen.values(), counted(model, chosen, sampler.counts())
        bending = sampler.bending(nodes, method.samples)
        users, positives, negatives = bending.ids(model.device)
        scores = model.logits(users.repeat(2), torch.cat([positives, negatives]))
        weights, n = torch.from_numpy(bending.weights), len(bending)
        newton = GaussNewton(chosen, scores, lambda s: (weights * softplus(s[n:] - s[:n])).sum())
        c = -float(chosen.gradient(bpr(model, bending)).dot(theta) / (held * theta * theta).sum())
        lost = lost_samples(sampler)
        g = chosen.gradient(bpr(model, lost)) + c * counted(model, chosen, lost.counts(60, 40)) * theta
        wanted = exact(lambda v: newton.times(v) + 2.0 * c * held * v, g).value
        for solver in (method, replace(method, solver="adam", steps=1500, learning_rate=0.02)):
            served = self.served_backbone(task, solver)
            found = Selection(served.trained, chosen.rows).values() - theta
            assert float((found - wanted).norm()) < 0.02 * float(wanted.norm())

    def test_a_user_or_item_that_keeps_nothing_starts_again(self) -> None:
        for regime, name in (("user", "user_table"), ("item", "item_table")):
            task = self.task(small_request(regime))
            ids = task.request.users if regime == "user" else task.request.items
            fresh = self.served_backbone(task).get_parameter(name)[torch.tensor(ids)].detach()
            trained = self.parent(task).get_parameter(name)[torch.tensor(ids)].detach()
            # A start has the scale of the configuration, .1, and nothing of the trained rows.
            assert 0.08 < float(fresh.std()) < 0.12
            assert abs(float(torch.cosine_similarity(fresh, trained).mean())) < 0.2

    def test_adam_stops_on_validation_where_there_is_some(self) -> None:
        """The better of what was tried, or many more steps without a validation part."""
        task = self.task(small_request("interaction"))
        assert len(task.retain.valid)
        unwatched = _without_validation(task)
        method = IFRU(solver="adam", steps=300, learning_rate=0.01)
        watched, free = (self.moved(t, "user_table", method) for t in (task, unwatched))
        assert 0 < watched < free

    def test_a_closed_form_is_refused(self) -> None:
        recipe = recipe_of(backbones()["ease"], {}, {})
        assert "no loss" in (self.unlearner.refuses(recipe, small_request("user")) or "")


class TestIFRUOfLightGCN(UnlearnerTests):
    unlearner = IFRU()
    backbone = "lightgcn"
    config = _GRAPH
    fit = _FEW_EPOCHS
    utility_band = None

    def test_spillover_is_what_the_lost_edges_change(self) -> None:
        """Gradients of the retained samples nearby over both graphs, by autograd; 0 where no graph is read."""
        task = self.task(small_request("user"))
        model = self.parent(task)
        served = model.on(task.retain)
        near = IFRU().near(Sampler(task, np.random.default_rng(0)))
        chosen = rows_of(model, some_nodes())
        found = slope(margins_of(model, chosen)(near)) - slope(margins_of(served, chosen)(near))
        wanted = chosen.gradient(bpr(model, near)) - chosen.gradient(bpr(served, near))
        assert float(wanted.norm()) > 0
        assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-3, atol=1e-4)
        flat = backbones()["bpr-mf"](task.data, backbones()["bpr-mf"].Config(), rng=np.random.default_rng(0))
        chosen = rows_of(flat, some_nodes())
        assert torch.equal(slope(margins_of(flat, chosen)(near)), slope(margins_of(flat.on(task.retain), chosen)(near)))

    def test_without_near_samples_the_step_is_another(self) -> None:
        task = self.task(small_request("user"))
        with_spill, without = (
            self.run(task, unlearner=IFRU(changed=ratio)).score(np.arange(60)) for ratio in (0.01, 0.999)
        )
        assert float((with_spill - without).norm()) > 0


class TestIFRUOfMGCN(UnlearnerTests):
    unlearner = IFRU(steps=2)
    backbone = "mgcn"
    config = {"factors": 8}  # noqa: RUF012
    fit = _FEW_EPOCHS
    utility_band = None

    def test_shared_matrices_stay_and_trained_features_move(self) -> None:
        task = self.task(small_request("user"))
        parent, served = self.parent(task), self.served(task)
        assert isinstance(served, Backbone)
        moved = {name for name, p in served.named_parameters() if not torch.equal(p, parent.get_parameter(name))}
        assert moved == {"user_table", "item_table", "item_features_text"}


class TestMargins:
    @pytest.mark.parametrize("backbone", ["bpr-mf", "lightgcn", "neumf", "vbpr", "mmgcn"])
    def test_slope_and_bend_are_those_of_autograd(self, backbone: str) -> None:
        """Compiled sums where scores are products of vectors, and autograd in NeuMF, which has none."""
        options = {"factors": 8} if backbone != "neumf" else {}
        recipe = recipe_of(backbones()[backbone], options, {"epochs": 1})
        task = small_task(small_data(), small_request("interaction"), recipe)
        model = recipe.model(task.data, 1).eval()
        chosen, triples = rows_of(model, some_nodes()), all_triples(task)
        margins = margins_of(model, chosen)(triples)
        scale = float(chosen.gradient(bpr(model, triples)).abs().max())
        assert_allclose(slope(margins), chosen.gradient(bpr(model, triples)), rtol=1e-3, atol=1e-5 * scale)
        users, positives, negatives = triples.ids(model.device)
        scores, n = model.logits(users.repeat(2), torch.cat([positives, negatives])), len(triples)
        weights = torch.from_numpy(triples.weights)
        newton = GaussNewton(chosen, scores, lambda s: (weights * softplus(s[n:] - s[:n])).sum())
        v = torch.from_numpy(np.random.default_rng(0).standard_normal(chosen.size).astype(np.float32))
        wanted = newton.times(v)
        assert_allclose(bend(margins)(v), wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))

    def test_curvature_has_no_negative_direction(self) -> None:
        recipe = recipe_of(backbones()["lightgcn"], {"factors": 2, "layers": 1}, {})
        task = small_task(small_data(), small_request("interaction"), recipe)
        model = recipe.model(task.data, 1)
        chosen = rows_of(model, some_nodes())
        matrix = dense(bend(margins_of(model, chosen)(all_triples(task))), chosen.values())
        assert_allclose(matrix, matrix.T, atol=1e-4)
        assert float(torch.linalg.eigvalsh(matrix).min()) > -1e-4

    def test_other_devices_sum_by_torch_alike(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The path that accelerators take, on the CPU."""
        recipe = recipe_of(backbones()["bpr-mf"], {"factors": 8}, {})
        task = small_task(small_data(), small_request("interaction"), recipe)
        model = recipe.model(task.data, 1)
        chosen = rows_of(model, some_nodes())
        margins = margins_of(model, chosen)(all_triples(task))
        found = slope(margins), bend(margins)(chosen.values())
        monkeypatch.setattr("auditkit.unlearners.ifru_margins._COMPILED", ())
        again = margins_of(model, chosen)(all_triples(task))
        for one, other in zip(found, (slope(again), bend(again)(chosen.values())), strict=True):
            assert_allclose(one, other, rtol=1e-3, atol=1e-4)


class TestStationaryWeight:
    def test_a_converged_model_gives_the_weight_that_it_was_trained_with(self) -> None:
        data, l2 = small_data(), 0.05
        recipe = recipe_of(backbones()["bpr-mf"], {"factors": 2}, {"epochs": 400, "l2": l2, "learning_rate": 0.02})
        task = small_task(data, small_request("interaction"), recipe)
        model = recipe.architecture().fit([(task.data, 0)], recipe, device="cpu")[0]
        everything = Nodes(np.ones(60, np.bool_), np.ones(40, np.bool_))
        chosen, sampler = rows_of(model, everything), Sampler(task, np.random.default_rng(0))
        margins = margins_of(model, chosen)(sampler.with_negatives(task.data.train, 20))
        found = stationary_weight(margins, counted(model, chosen, sampler.counts()), chosen.values())
        assert found == pytest.approx(l2, rel=0.1)

    def test_parameters_of_zero_need_none(self) -> None:
        task = small_task(small_data(), small_request("interaction"), recipe_of(backbones()["bpr-mf"], {}, {}))
        model = task.recipe.model(task.data, 0)
        chosen = rows_of(model, some_nodes())
        chosen.put(torch.zeros(chosen.size))
        assert stationary_weight(margins_of(model, chosen)(all_triples(task)), chosen.values(), chosen.values()) == 0


def star() -> Dataset:
    """User 0 has items 0 and 1, user 1 has items 1 and 2, user 2 has item 2."""
    return Dataset("star", 3, 3, Interactions(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 2, 2])))


class TestPruning:
    def test_importance_by_hand(self) -> None:
        gone = Interactions(np.array([0]), np.array([1]))
        users, items = importance(star(), gone, 0)
        assert_allclose(users, [1 / 3, 0, 0])
        assert_allclose(items, [0, 1 / 3, 0])
        users, items = importance(star(), gone, 1)
        assert_allclose(users, [2 / 9, 1 / 9, 0])
        assert_allclose(items, [1 / 6, 2 / 9, 0])

    def test_the_share_is_of_those_reached(self) -> None:
        users, items = np.array([0, 0, 0.5, 0.1]), np.array([0.2, 0.3, 0.4, 0, 0, 0])
        assert_array_equal(np.flatnonzero(kept(users, items, 0.6).users), [2])
        assert_array_equal(np.flatnonzero(kept(users, items, 0.6).items), [1, 2])
        everything = kept(users, items, 1.0)
        assert (everything.users.sum(), everything.items.sum()) == (2, 3)
        assert not kept(np.zeros(3), np.zeros(3), 0.6).users.any()

    def test_changed_nodes_lost_more_than_the_share(self) -> None:
        after = replace(star(), train=star().train.take(np.array([0, 2, 3, 4])))
        assert_array_equal(changed(star(), after, 0.01).users, [True, False, False])
        assert_array_equal(changed(star(), after, 0.01).items, [False, True, False])
        assert not changed(star(), after, 0.5).users.any()

    def test_a_graph_is_told_by_the_backbone(self) -> None:
        task = small_task(small_data(), small_request("user"), recipe_of(backbones()["bpr-mf"], {}, {}))
        flat, graph = (IFRU().nodes(task, graph=g) for g in (False, True))
        assert_array_equal(np.flatnonzero(flat.users), np.sort(task.request.users))
        assert graph.users.sum() > flat.users.sum()


class TestSamples:
    def sampler(self, **fit: object) -> Sampler:
        recipe = recipe_of(backbones()["lightgcn"], {}, fit)
        return Sampler(small_task(small_data(), small_request("interaction"), recipe), np.random.default_rng(0))

    def test_negatives_are_none_that_the_user_was_trained_on(self) -> None:
        sampler = self.sampler()
        triples = sampler.with_negatives(sampler.task.data.train, 3)
        assert sampler.free(triples.users, triples.negatives).all()
        assert not sampler.free(triples.users, triples.positives).any()
        assert triples.weights.sum() == pytest.approx(len(sampler.task.data.train))

    def test_a_part_stands_for_all(self) -> None:
        sampler = self.sampler()
        part = sampler.at_most(sampler.task.data.train, 100)
        assert len(part) == 100
        assert part.weights.sum() == pytest.approx(len(sampler.task.data.train))

    def test_bending_samples_touch_the_nodes_as_often_as_expected(self) -> None:
        """Against the same nodes' samples among all of the training's."""
        sampler, nodes = self.sampler(), Nodes(np.zeros(60, np.bool_), np.arange(40) < 6)
        everything = sampler.with_negatives(sampler.task.data.train, 50).counts(60, 40)[1]
        found = np.mean([sampler.bending(nodes, 10**6).counts(60, 40)[1] for _ in range(50)], axis=0)
        assert_allclose(found[:6], everything[:6], rtol=0.1)

    def test_counts_are_the_expected_ones(self) -> None:
        """But for held items, which are drawn by fewer users than counted."""
        sampler = self.sampler()
        users, items = sampler.counts()
        assert_array_equal(users, np.bincount(sampler.task.data.train.users, minlength=60).clip(1))
        assert items.sum() == pytest.approx(2 * len(sampler.task.data.train))

    def test_a_freed_item_is_drawn_beside_its_users_retained_pairs(self) -> None:
        sampler = self.sampler()
        task, freed = sampler.task, sampler.freed(5)
        retained = task.retain.train.matrix(60, 40).toarray()
        assert (retained[freed.users, freed.positives] == 1).all()
        assert_array_equal(np.unique(freed.users * 40 + freed.negatives), np.sort(task.forget.codes(40)))
        user = int(freed.users[0])
        degree, gone = retained[user].sum(), (task.forget.users == user).sum()
        assert freed.weights[freed.users == user].sum() == pytest.approx(gone * degree / (40 - degree))

    def test_only_trained_items_are_drawn_where_the_parent_did_so(self) -> None:
        items = self.sampler(negatives="trained").negatives(np.zeros(500, np.int64))
        assert np.isin(items, small_data().train.items).all()


def _without_validation(task: Task) -> Task:
    return replace(task, retain=replace(task.retain, valid=Interactions.empty()))


def _at(mask: Bools) -> Tensor:
    return torch.from_numpy(np.flatnonzero(mask))


@pytest.mark.parametrize(
    "options",
    [
        {"hops": -1}, {"keep": 0.0}, {"keep": 1.1}, {"changed": 1.0}, {"damping": -1.0}, {"solver": "newton"},
        {"steps": 0}, {"learning_rate": 0.0}, {"samples": 0},
    ],
)  # fmt: skip
def test_domains(options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(options))} must be"):
        IFRU(**options)  # type: ignore[arg-type]


def test_all_problems_at_once() -> None:
    with pytest.raises(ConfigurationError, match="2 problems"):
        IFRU(keep=0.0, steps=0)
