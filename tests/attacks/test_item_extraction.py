from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import ClassVar

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics.pairwise import cosine_similarity

from auditkit.attacks.item_extraction import ItemExtraction
from auditkit.attacks.item_paths import (
    BranchItemLists,
    ItemLists,
    ReinsertedItems,
    TwinNeighbours,
    nearest,
    reinserted,
    twins_of,
)
from auditkit.backbones.multimodal import MultimodalBackbone
from auditkit.contracts import Access, Recipe
from auditkit.data.dataset import Floats
from auditkit.deletion import Regime
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case, make_case
from auditkit.testing import AttackTests, ProbeTests
from auditkit.testing.examples import OffersNothing, small_case, small_data, small_request, small_systems
from auditkit.unlearners.controls import Masked

_RECIPES: dict[str, Recipe] = {
    "vbpr": Recipe.of("vbpr", {"factors": 8}, {"epochs": 20, "learning_rate": 0.02, "batch": 256}),
    "mgcn": Recipe.of("mgcn", {"factors": 8, "layers": 1}, {"epochs": 4, "learning_rate": 0.02, "batch": 512}),
}


@cache
def multimodal(backbone: str) -> tuple[MultimodalBackbone, MultimodalBackbone]:
    """An original and a Gold of the small item request."""
    recipe, data, request = _RECIPES[backbone], small_data(), small_request("item")
    retain = request.erase(data, np.ones(request.n_units, np.bool_))
    models = recipe.architecture().fit([(data, 0), (retain, 1)], recipe, device="cpu")
    assert isinstance(models[0], MultimodalBackbone)
    assert isinstance(models[1], MultimodalBackbone)
    return models[0], models[1]


def naive_hits(scores: Floats, case: Case, k: int) -> Floats:
    """User by user: sort what she does not keep, and count."""
    shown = np.zeros(case.data.n_items)
    kept = set(zip(case.retain.train.users.tolist(), case.retain.train.items.tolist(), strict=True))
    for user, row in enumerate(scores):
        free = [i for i in range(case.data.n_items) if (user, i) not in kept]
        shown[sorted(free, key=lambda i: -row[i])[:k]] += 1
    return shown / len(scores)


class TestItemLists(ProbeTests):
    probe = ItemLists(k=5)
    silence = 0.0
    regimes: ClassVar[tuple[Regime, ...]] = ("item",)

    def test_it_is_a_count_over_lists(self) -> None:
        for case, original, _ in self.examples():
            points = self.points(case)
            expected = naive_hits(original.score(np.arange(60)).double().numpy(), case, 5)
            assert_allclose(self.read(original, case, points)["hits"], expected[points["item"]])

    @pytest.mark.parametrize("regime", ["interaction", "user"])
    def test_other_requests_name_no_items(self, regime: Regime) -> None:
        with pytest.raises(NotApplicableError, match="extracted in item requests"):
            self.points(small_case(regime))


class _BeneathTests(ProbeTests):
    regimes: ClassVar[tuple[Regime, ...]] = ("item",)

    def test_a_system_that_offers_nothing(self) -> None:
        """The kit's silent system has no weights, which is said; it is not read as silence."""
        case = small_case("item")
        with pytest.raises(NotApplicableError, match="stands on 0 trained models"):
            self.read(OffersNothing(60, 40), case)

    def test_beneath_a_mask_lies_the_same_model(self) -> None:
        case, model = small_case("item"), small_systems("item")[0][1]
        masked = Masked(model, np.stack([case.request.users, case.request.items], axis=1))  # type: ignore[arg-type]
        assert_array_equal(self.read(masked, case)["hits"], self.read(model, case)["hits"])


class TestBranchItemLists(_BeneathTests):
    probe = BranchItemLists("id", k=5)

    @pytest.mark.parametrize("backbone", ["vbpr", "mgcn"])
    @pytest.mark.parametrize("branch", ["id", "text"])
    def test_it_counts_over_the_branch_alone(self, backbone: str, branch: str) -> None:
        case, model = small_case("item"), multimodal(backbone)[0]
        probe = BranchItemLists(branch, k=5)
        points = probe.points(case, rng=np.random.default_rng(0))
        users, items = (table.detach().double().numpy() for table in model.embed(branch))
        expected = naive_hits(users @ items.T, case, 5)
        found = probe.read(model, points, case, rng=np.random.default_rng(0))["hits"]
        # Float32 scores order what lies closer than their rounding by chance.
        assert_allclose(found, expected[points["item"]], atol=2 / 60)

    def test_a_branch_that_is_not_there_is_said(self) -> None:
        with pytest.raises(NotApplicableError, match="no branch 'visual'"):
            BranchItemLists("visual").read(
                multimodal("vbpr")[0], self.points(small_case("item")), small_case("item"), rng=np.random.default_rng(0)
            )


class TestTwinNeighbours(_BeneathTests):
    probe = TwinNeighbours(twins=4, k=5)

    def test_against_a_loop(self) -> None:
        for case, original, _ in self.examples():
            points = self.points(case)
            vectors = original.embed()[1].detach().double().numpy()
            near, content = cosine_similarity(vectors), cosine_similarity(case.data.features["text"].values)
            for k, item in enumerate(points["item"]):
                others = [i for i in range(40) if i != item and i not in case.request.items and content[item, i] > 0]
                twins = sorted(others, key=lambda i: -content[item, i])[:4]
                lists = {t: [j for j in np.argsort(-near[t], kind="stable") if j != t][:5] for t in twins}
                found = [item in lists[t] for t in twins]
                assert_allclose(self.read(original, case, points)["hits"][k], np.mean(found) if twins else np.nan)

    def test_without_content_twins_are_held_by_the_same_users(self) -> None:
        data = replace(small_data(), features={})
        case = make_case(data, small_request("item"), seed=1)
        matrix = data.train.matrix(60, 40).toarray()
        near = cosine_similarity(matrix.T)
        near[:, case.request.items] = 0
        np.fill_diagonal(near, 0)
        found = twins_of(case, np.arange(40), 3)
        for item in range(40):
            assert_allclose(near[item, found[item]], np.sort(near[item])[::-1][:3], rtol=1e-6)

    def test_who_shares_nothing_is_no_twin(self) -> None:
        vectors = np.array([[1.0, 0], [0, 1], [0.6, 0.8], [-1, 0]])
        found = nearest(vectors, np.array([0, 3]), np.array([2]), 2, above=0.0)
        assert_array_equal(found, [[-1, -1], [-1, -1]])
        assert_array_equal(nearest(vectors, np.array([0]), np.empty(0, np.int64), 2), [[2, 1]])

    def test_models_without_item_vectors_are_refused(self) -> None:
        recipe = Recipe.of("ease")
        model = recipe.architecture().fit([(small_data(), 0)], recipe, device="cpu")[0]
        with pytest.raises(NotApplicableError, match="no user and item vectors"):
            self.read(model, small_case("item"))


class TestReinsertedItems:
    probe = ReinsertedItems(k=5)

    @pytest.mark.parametrize("backbone", ["vbpr", "mgcn"])
    def test_nothing_learned_about_the_items_is_left(self, backbone: str) -> None:
        """Whatever the items' own rows were, the item offered again is the same; the model itself is not touched."""
        case, model = small_case("item"), multimodal(backbone)[0]
        state = {name: value.clone() for name, value in model.state_dict().items()}
        expected = reinserted(model, case).score(np.arange(60))
        other = reinserted(model, case)
        changed = reinserted(model, case)
        gone = torch.from_numpy(case.request.items.copy())
        with torch.no_grad():
            for name, table in changed.named_parameters():
                if name.startswith("item") and len(table) == 40:
                    table[gone] = 7.0
        assert torch.equal(other.score(np.arange(60)), expected)
        assert torch.equal(reinserted(changed, case).score(np.arange(60)), expected)
        assert not torch.equal(changed.score(np.arange(60)), expected)
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())

    def test_vbpr_by_hand(self) -> None:
        case, model = small_case("item"), multimodal("vbpr")[0]
        named = dict(model.named_parameters())
        rows = named["item_table"].detach().double().numpy().copy()
        rows[case.request.items] = np.delete(rows, case.request.items, axis=0).mean(0)
        weight, bias = (named[f"projection.{n}"].detach().double().numpy() for n in ("weight", "bias"))
        items = np.hstack([rows, small_data().features["text"].values @ weight.T + bias])
        scores = named["user_table"].detach().double().numpy() @ items.T
        assert_allclose(reinserted(model, case).score(np.arange(60)).numpy(), scores, atol=1e-5)
        points = self.probe.points(case, rng=np.random.default_rng(0))
        found = self.probe.read(model, points, case, rng=np.random.default_rng(0))["hits"]
        assert_allclose(found, naive_hits(scores, case, 5)[points["item"]], atol=2 / 60)

    def test_trained_features_become_the_given_ones(self) -> None:
        recipe = Recipe.of("vbpr", {"factors": 8, "trainable_features": True}, {"epochs": 2, "batch": 256})
        model = recipe.architecture().fit([(small_data(), 0)], recipe, device="cpu")[0]
        assert isinstance(model, MultimodalBackbone)
        case, given = small_case("item"), small_data().features["text"].values
        learned = dict(model.named_parameters())["item_features_text"].detach().numpy()
        made = dict(reinserted(model, case).named_parameters())["item_features_text"].detach().numpy()
        others = np.setdiff1d(np.arange(40), case.request.items)
        assert not np.allclose(learned[case.request.items], given[case.request.items], atol=1e-4)
        assert_array_equal(made[case.request.items], given[case.request.items])
        assert_array_equal(made[others], learned[others])

    def test_it_needs_content_in_data_and_model(self) -> None:
        bare = make_case(replace(small_data(), features={}), small_request("item"), seed=1)
        with pytest.raises(NotApplicableError, match="no item features"):
            self.probe.points(bare, rng=np.random.default_rng(0))
        case = small_case("item")
        points = self.probe.points(case, rng=np.random.default_rng(0))
        with pytest.raises(NotApplicableError, match="bpr-mf reads no content"):
            self.probe.read(small_systems("item")[0][1], points, case, rng=np.random.default_rng(0))
        with pytest.raises(NotApplicableError, match="extracted in item requests"):
            self.probe.points(small_case("user"), rng=np.random.default_rng(0))


class TestItemExtraction(AttackTests):
    attack = ItemExtraction(k=5)
    regimes: ClassVar[tuple[Regime, ...]] = ("item",)


class TestItemExtractionByBranch(AttackTests):
    attack = ItemExtraction("id", k=5)
    regimes: ClassVar[tuple[Regime, ...]] = ("item",)


class TestItemExtractionByTwins(AttackTests):
    attack = ItemExtraction("twins", k=5)
    regimes: ClassVar[tuple[Regime, ...]] = ("item",)


def test_every_path_has_its_probe_and_says_what_it_needs() -> None:
    access = {attack.path: attack.access for attack in ItemExtraction.variants()}  # type: ignore[attr-defined]
    assert access["full"] == Access.LISTS
    assert access["twins"] == access["reinsert"] == Access.WEIGHTS
    assert access["text"] == access["id"] == Access.SCORES | Access.WEIGHTS
    assert ItemExtraction("audio").probes == (BranchItemLists("audio"),)


def test_it_is_a_note_that_counts_above_gold_alone() -> None:
    assert ItemExtraction.one_sided
    assert not ItemExtraction.fails_in
