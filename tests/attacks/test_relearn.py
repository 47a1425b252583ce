from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from auditkit.attacks.relearn import STEPS, Relearn, Relearning, private_copy, ranking_loss, unheld
from auditkit.contracts import Backbone, Recipe
from auditkit.data.dataset import Dataset, Interactions
from auditkit.deletion import DeletionRequest
from auditkit.errors import NotApplicableError
from auditkit.evidence import make_case
from auditkit.statistics.relearning import anamnesis_index
from auditkit.testing import AttackTests, ProbeTests
from auditkit.testing.examples import OffersNothing, small_case, small_data, small_evidence, small_systems
from auditkit.unlearners.controls import Masked


def _original(regime: str) -> Backbone:
    model = small_systems(regime)[0][1]
    assert isinstance(model, Backbone)
    return model


class TestRelearning(ProbeTests):
    probe = Relearning()
    regimes = ("interaction", "user")

    def test_half_of_each_users_forgotten_pairs_is_told(self) -> None:
        for case, original, _ in self.examples():
            points = self.points(case)
            assert case.forget[points["unit"]].all()
            groups = points.groupby("user")["told"]
            assert (groups.sum() == groups.size() // 2).all()
            curves = self.read(original, case, points)["z"]
            assert curves.shape == (len(points), len(STEPS))
            assert_array_equal(np.isnan(curves).all(1), points["told"])
            assert_array_equal(np.isnan(curves).any(1), points["told"])

    def test_negatives_are_not_held(self) -> None:
        for case, _, _ in self.examples():
            points = self.points(case)
            held = set(zip(case.data.train.users.tolist(), case.data.train.items.tolist(), strict=True))
            drawn = points[[f"negative_{k}" for k in range(4)]].to_numpy()
            assert not {(u, i) for u, row in zip(points["user"], drawn, strict=True) for i in row} & held

    def test_against_steps_by_hand(self) -> None:
        """Two steps of Adam on BPR-MF with the gradient written out."""
        case, model = small_case("user"), _original("user")
        points = self.points(case)
        told = points[points["told"]]
        users, items = told["user"].to_numpy(), told["item"].to_numpy()
        negatives = told[[f"negative_{k}" for k in range(4)]].to_numpy()
        tables = [t.detach().double().numpy().copy() for t in model.parameters()]
        first, second = ([np.zeros_like(t) for t in tables] for _ in range(2))
        for step in (1, 2):
            p, q = tables
            gradients = [np.zeros_like(p), np.zeros_like(q)]
            for u, i, row in zip(users, items, negatives, strict=True):
                for j in row:
                    pull = 1 / (1 + np.exp(p[u] @ (q[i] - q[j]))) / negatives.size
                    gradients[0][u] -= pull * (q[i] - q[j])
                    gradients[1][i] -= pull * p[u]
                    gradients[1][j] += pull * p[u]
            for table, g, m, v in zip(tables, gradients, first, second, strict=True):
                m += 0.1 * (g - m)
                v += 0.001 * (g**2 - v)
                table -= 0.02 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        rows = tables[0] @ tables[1].T
        z = (rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True)
        asked = points[~points["told"]]
        found = self.read(model, case, points)["z"][~points["told"], STEPS.index(2)]
        assert_allclose(found, z[asked["user"], asked["item"]], atol=2e-3)

    def test_it_learns_what_it_is_told(self) -> None:
        case, gold = small_case("user"), small_systems("user")[2][1]
        points = self.points(case)
        curves = self.read(gold, case, points)["z"]
        assert np.nanmean(curves[:, -1]) > np.nanmean(curves[:, 0]) + 0.2

    def test_the_start_is_what_is_served(self) -> None:
        case, model = small_case("interaction"), _original("interaction")
        points = self.points(case)
        rows = model.score(np.arange(60)).double().numpy()
        z = (rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True)
        asked = points[~points["told"]]
        found = self.read(model, case, points)["z"][~points["told"], 0]
        assert_allclose(found, z[asked["user"], asked["item"]], rtol=1e-9)

    def test_beneath_a_mask_lies_the_same_model(self) -> None:
        case, model = small_case("interaction"), _original("interaction")
        masked = Masked(model, np.stack([case.request.users, case.request.items], axis=1))
        assert_array_equal(self.read(masked, case)["z"], self.read(model, case)["z"])

    def test_a_graph_model_keeps_its_graph(self) -> None:
        case = small_case("interaction")
        recipe = Recipe.of("lightgcn", {"factors": 8, "layers": 2}, {"epochs": 3})
        model = recipe.architecture().fit([(small_data(), 0)], recipe, device="cpu")[0]
        curves = self.read(model, case)["z"]
        scores = model.score(np.arange(60)).double().numpy()
        z = (scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)
        points = self.points(case)
        asked = ~points["told"].to_numpy()
        assert_allclose(curves[asked, 0], z[points["user"][asked], points["item"][asked]], rtol=1e-9)
        assert np.nanmean(curves[:, -1]) > np.nanmean(curves[:, 0])

    def test_closed_forms_have_nothing_to_train(self) -> None:
        recipe = Recipe.of("ease")
        model = recipe.architecture().fit([(small_data(), 0)], recipe, device="cpu")[0]
        with pytest.raises(NotApplicableError, match="closed form"):
            self.read(model, small_case("interaction"))

    def test_a_system_that_offers_nothing(self) -> None:
        """The kit's silent system has no weights, which is said; it is not read as silence."""
        with pytest.raises(NotApplicableError, match="stands on 0 trained models"):
            self.read(OffersNothing(60, 40), small_case("interaction"))

    def test_items_are_not_halved(self) -> None:
        with pytest.raises(NotApplicableError, match="names items"):
            self.points(small_case("item"))

    def test_one_forgotten_pair_a_user_cannot_be_halved(self) -> None:
        data = small_data()
        first = np.unique(data.train.users, return_index=True)[1][:5]
        request = DeletionRequest("interaction", data.train.users[first], data.train.items[first])
        with pytest.raises(NotApplicableError, match="two forgotten pairs"):
            self.points(make_case(data, request, seed=0))


def test_a_user_who_holds_everything_gets_what_she_holds() -> None:
    pairs = Interactions(np.array([0, 0, 1]), np.array([0, 1, 0]))
    case = make_case(Dataset("tiny", 2, 2, pairs), DeletionRequest("user", np.array([0]), np.array([-1])), seed=0)
    drawn = unheld(case, np.array([0, 1]), 6, np.random.default_rng(0))
    assert set(drawn[0]) <= {0, 1}
    assert set(drawn[1]) == {1}


def test_a_private_copy_shares_nothing() -> None:
    model = _original("user")
    copied = private_copy(model)
    before = model.score(np.arange(5)).clone()
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert torch.equal(model.score(np.arange(5)), before)


def test_the_loss_is_the_mean_over_pairs_and_negatives() -> None:
    model = _original("user")
    users, items, negatives = torch.tensor([0, 3]), torch.tensor([1, 2]), torch.tensor([[4, 5], [6, 7]])
    scores = model.score(np.arange(4)).double().numpy()
    terms = [
        np.log1p(np.exp(scores[u, j] - scores[u, i]))
        for u, i, row in zip((0, 3), (1, 2), negatives.tolist(), strict=True)
        for j in row
    ]
    assert_allclose(ranking_loss(model, users, items, negatives).item(), np.mean(terms), rtol=1e-5)


class TestRelearn(AttackTests):
    attack = Relearn()

    def test_the_signal_is_the_end_of_the_curve(self) -> None:
        for _, evidence in self.examples():
            reading = evidence.readings[self.attack.probes[0]]
            assert_array_equal(self.attack.values(reading, evidence), reading.values["z"][:, :, -1])


class TestRelearnByArea(AttackTests):
    # 60 users: how fast a model learns says less than where it starts.
    attack = Relearn("area")
    separates = False

    def test_area_of_curves_by_hand(self) -> None:
        _, evidence = next(self.examples())
        reading = evidence.readings[self.attack.probes[0]]
        curve = np.array([1.0, 2.0, 2.0, 4.0, 6.0])
        values = np.broadcast_to(curve, (1, len(reading.points), 5))
        found = self.attack.values(replace(reading, values={"z": values}), evidence)
        # Trapezia of 0, 1, 1, 3, 5 over 1, 1, 2 and 4 steps: .5 + 1 + 4 + 16.
        assert_allclose(found, 21.5 / 8)

    def test_a_level_shift_of_the_whole_curve_is_no_learning(self) -> None:
        for _, evidence in self.examples():
            reading = evidence.readings[self.attack.probes[0]]
            moved = replace(reading, values={"z": reading.values["z"] + 3.0})
            assert_allclose(self.attack.values(moved, evidence), self.attack.values(reading, evidence), atol=1e-9)


def test_the_index_of_real_systems() -> None:
    """The originals need no step, the mean Gold as many as the mean Gold."""
    probe = Relearning(learning_rate=0.05)
    evidence = small_evidence((probe,), "user")
    assert evidence is not None
    curves = np.nanmean(evidence.readings[probe].values["z"], axis=1)
    originals, golds = curves[evidence.rows("original")], curves[evidence.rows("gold")]
    asked = np.concatenate([originals, golds.mean(0, keepdims=True)])
    index = anamnesis_index(asked, originals, golds, np.array(STEPS, np.float64), share=0.25)
    assert_allclose(index, [0, 0, 1])


def test_it_is_a_note_everywhere() -> None:
    assert not Relearn.fails_in
    assert Relearn() in Relearn.variants()
