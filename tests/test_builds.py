"""Builds: what an address depends on, what is read back, and that nothing is made twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch

from auditkit.backbones.bpr_mf import BPRMF
from auditkit.builds import Build, Given, System, Train, Unlearn, Workshop, _warmed, build, make, missing, read, silent
from auditkit.contracts import Backbone, Recipe, Recommender, Task, Unlearner
from auditkit.data.dataset import Dataset
from auditkit.deletion import EVERYBODY, NOBODY, DeletionRequest, Share, select
from auditkit.errors import ConfigurationError, NotApplicableError, StoreError
from auditkit.outside.source import in_memory
from auditkit.plugins import register, registry
from auditkit.store import Store
from auditkit.unlearners.controls import Masked, NoOp, OutputMask, RowReinit
from auditkit.unlearners.finetune import Finetune
from auditkit.unlearners.gold import Gold
from auditkit.unlearners.reverse_bpr import ReverseBPR

TRAINED: list[int] = []
SEEN: list[Task] = []


class Counted(BPRMF):
    """BPR-MF that notes the seed of every training."""

    name: ClassVar[str] = "test-builds-counted"

    @classmethod
    def fit(cls, members: Sequence[tuple[Dataset, int]], recipe: Recipe, *, device: str) -> list[Self]:
        # The warm-up trains on a toy of eight users.
        TRAINED.extend(seed for data, seed in members if data.n_users > 8)
        return super().fit(members, recipe, device=device)


@dataclass(frozen=True)
class Vandal(Unlearner):
    """Notes its task and overwrites every weight of the model it was handed."""

    value: float = 7.0
    name: ClassVar[str] = "test-builds-vandal"

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        SEEN.append(task)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(self.value)
        return model.on(task.retain)


@dataclass(frozen=True)
class Stranger(Unlearner):
    """Serves something that is no backbone and does not say how it is stored."""

    name: ClassVar[str] = "test-builds-stranger"

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Recommender:
        return Masked(model, np.empty((0, 2), np.int64))


@pytest.fixture
def counted() -> Iterator[Recipe]:
    TRAINED.clear()
    register("backbones", Counted)
    yield Recipe.of("test-builds-counted", {"factors": 8}, {"epochs": 3})
    registry("backbones").registered.pop("test-builds-counted")


def original(recipe: Recipe, seed: int = 1) -> Train:
    return Train(recipe, NOBODY, seed)


def served(one: Build, shop: Workshop) -> Recommender:
    make([System("x", "unlearned", one)], shop, silent)
    return read(one, shop)[0]


def weights(model: Recommender) -> Mapping[str, bytes]:
    assert isinstance(model, Backbone)
    return {name: p.detach().numpy().tobytes() for name, p in model.named_parameters()}


def held_pairs(model: Recommender, shop: Workshop) -> int:
    """How many forgotten pairs the model is served over."""
    assert isinstance(model, Backbone)
    forget = shop.request.forget_set(shop.data).codes(shop.data.n_items)
    return int(np.isin(forget, model.data.train.codes(shop.data.n_items)).sum())


def test_addresses_tell_builds_apart(shop: Workshop, tiny_recipe: Recipe) -> None:
    parent = original(tiny_recipe)
    half = Share(0, 0.5, 3)
    builds: list[Build] = [
        parent, replace(parent, seed=2), replace(parent, erased=EVERYBODY), replace(parent, erased=half),
        replace(parent, recipe=Recipe.of("bpr-mf", {"factors": 9}, {"epochs": 10})),
        replace(parent, recipe=Recipe.of("bpr-mf", {"factors": 8}, {"epochs": 11})),
        replace(parent, recipe=replace(tiny_recipe, trainer=NoOp())),
        Unlearn(parent, NoOp(), EVERYBODY, 1), Unlearn(parent, NoOp(), EVERYBODY, 2), Unlearn(parent, NoOp(), half, 1),
        Unlearn(parent, Gold(), EVERYBODY, 1), Unlearn(parent, ReverseBPR(), EVERYBODY, 1),
        Unlearn(parent, ReverseBPR(epochs=3), EVERYBODY, 1), Unlearn(replace(parent, seed=2), NoOp(), EVERYBODY, 1),
        Unlearn(Unlearn(parent, NoOp(), half, 1), NoOp(), EVERYBODY, 1),
        Given("ours", "d1"), Given("ours", "d2"), Given("theirs", "d1"),
    ]  # fmt: skip
    addresses = [shop.address(b) for b in builds]
    assert len(set(addresses)) == len(builds)
    assert addresses == [shop.address(b) for b in builds]


def test_addresses_depend_on_data_and_units_but_an_original_not_on_the_request(
    shop: Workshop, tiny_recipe: Recipe, tiny: Dataset
) -> None:
    other = replace(shop, request=select(tiny, "interaction", share=0.1, seed=5))
    moved = replace(shop, data=Dataset.synthetic(n_users=120, n_items=100, n_interactions=4000, seed=9))
    renamed = replace(shop, data=replace(tiny, name="renamed"), store=Store(Path("elsewhere")))
    parent, gold = original(tiny_recipe), Train(tiny_recipe, EVERYBODY, 1)
    assert other.address(parent) == shop.address(parent)
    for one in (gold, Unlearn(parent, NoOp(), EVERYBODY, 1)):
        assert other.address(one) != shop.address(one)
        assert renamed.address(one) == shop.address(one)
    assert moved.address(parent) != shop.address(parent)


def test_seen_and_held_follow_the_chain(shop: Workshop, tiny_recipe: Recipe) -> None:
    request = shop.request
    first, second = Share(0, 0.25), Share(0.25, 0.5)
    chain = Unlearn(Unlearn(original(tiny_recipe), NoOp(), first, 1), NoOp(), second, 2)
    assert chain.seen(request).all()
    assert (chain.held(request) == ~request.units(Share(0, 0.5))).all()
    reference = Unlearn(Train(tiny_recipe, first, 1), NoOp(), EVERYBODY, 1)
    assert (reference.seen(request) == ~request.units(first)).all()
    assert not reference.held(request).any()
    assert Given("x", "d").held(request).all()
    assert not Given("x", "d", EVERYBODY).seen(request).any()


@pytest.mark.parametrize("backbone", ["bpr-mf", "lightgcn", "ease"])
def test_what_is_read_is_what_was_trained(shop: Workshop, backbone: str) -> None:
    fit: dict[str, Any] = {} if backbone == "ease" else {"epochs": 2}
    recipe = Recipe.of(backbone, {} if backbone == "ease" else {"factors": 8}, fit)
    one = Train(recipe, Share(0, 0.5, 2), 5)
    data = shop.without(one.held(shop.request))
    trained = recipe.architecture().fit([(data, 5)], recipe, device="cpu")[0]
    back = served(one, shop)
    assert weights(back) == weights(trained)
    users = np.arange(shop.data.n_users)
    assert torch.equal(back.score(users), trained.score(users))
    assert held_pairs(back, shop) == int(one.held(shop.request).sum())


def test_a_lightgcn_that_forgot_nothing_is_not_healed_by_the_store(shop: Workshop) -> None:
    recipe = Recipe.of("lightgcn", {"factors": 8}, {"epochs": 2})
    parent = original(recipe)
    users = np.arange(shop.data.n_users)
    lazy = served(Unlearn(parent, NoOp(), EVERYBODY, 1), shop)
    scores = read(parent, shop)[0].score(users)
    assert torch.equal(lazy.score(users), scores)
    assert held_pairs(lazy, shop) == shop.request.n_units
    assert isinstance(lazy, Backbone)
    healed = lazy.on(shop.without(np.zeros(shop.request.n_units, np.bool_)))
    assert not torch.allclose(healed.score(users), scores), "the graph must matter, or nothing is shown"
    tuned = served(Unlearn(parent, Finetune(), EVERYBODY, 1), shop)
    assert held_pairs(tuned, shop) == 0


def test_present_features_are_stored_as_served(shop: Workshop, tiny: Dataset, tiny_recipe: Recipe) -> None:
    items = np.array([3, 50])
    request = DeletionRequest("item", np.full(2, -1), items, ("image",))
    own = replace(shop, request=request)
    gold = served(Train(tiny_recipe, EVERYBODY, 1), own)
    assert isinstance(gold, Backbone)
    assert np.flatnonzero(~gold.data.features["image"].present).tolist() == items.tolist()
    whole = served(Unlearn(original(tiny_recipe), NoOp(), EVERYBODY, 1), own)
    assert isinstance(whole, Backbone)
    assert whole.data.features["image"].present.all()
    assert whole.data.features["image"].digest == tiny.features["image"].digest


def test_eight_at_once_are_the_bytes_of_eight_alone(shop: Workshop, tiny_recipe: Recipe, tmp_path: Path) -> None:
    builds = [Train(tiny_recipe, Share(0, k / 8, k), 100 + k) for k in range(8)]
    make([System(f"s{k}", "reference", b) for k, b in enumerate(builds)], shop, silent)
    alone = replace(shop, store=Store(tmp_path / "alone"))
    for one in builds:
        make([System("s", "gold", one, timed=True)], alone, silent)
        address = shop.address(one)
        together, apart = (s.store.folder(address) / "arrays.safetensors" for s in (shop, alone))
        assert together.read_bytes() == apart.read_bytes()
        assert not shop.store.meta(address)["cost"]["solo"]
        assert alone.store.meta(address)["cost"]["solo"]


def test_nothing_is_trained_twice(shop: Workshop, counted: Recipe) -> None:
    parent = original(counted)
    systems = [
        System("original", "original", parent), System("twin", "original", parent),
        System("gold", "gold", Train(counted, EVERYBODY, 2), timed=True),
        *(System(f"r{k}", "reference", Train(counted, Share(0, 0.5, k), 10 + k)) for k in range(10)),
        System("unlearned", "unlearned", Unlearn(parent, NoOp(), EVERYBODY, 1), timed=True),
    ]  # fmt: skip
    assert len(missing(systems, shop)) == 13
    names = [system.name for system, _, _ in build(systems, shop, silent)]
    assert names == [s.name for s in systems]
    assert sorted(TRAINED) == [1, 2, *range(10, 20)]
    assert missing(systems, shop) == []
    make(systems, shop, silent)
    # Another request on the same data shares the original.
    other = replace(shop, request=select(shop.data, "user", count=3))
    make([System("original", "original", parent), System("gold", "gold", Train(counted, EVERYBODY, 2))], other, silent)
    assert sorted(TRAINED) == [1, 2, 2, *range(10, 20)]


def test_an_absent_parent_is_trained_once_for_all_its_children(shop: Workshop, counted: Recipe) -> None:
    children = [System(f"u{k}", "unlearned", Unlearn(original(counted), NoOp(), EVERYBODY, k)) for k in range(3)]
    make(children, shop, silent)
    assert TRAINED == [1]


def test_an_unlearner_gets_a_private_copy_and_no_test_data(shop: Workshop, tiny_recipe: Recipe) -> None:
    SEEN.clear()
    parent = original(tiny_recipe)
    before = weights(served(parent, shop))
    one = Unlearn(parent, Vandal(), Share(0, 0.5, 4), 1)
    spoilt = served(one, shop)
    assert weights(read(parent, shop)[0]) == before
    assert set(np.frombuffer(weights(spoilt)["user_table"], np.float32)) == {7.0}
    (task,) = SEEN
    request = shop.request
    assert (len(task.data.test), len(task.retain.test)) == (0, 0)
    assert len(shop.data.test)
    assert (task.units == request.units(one.erased)).all()
    codes = [set(p.codes(shop.data.n_items).tolist()) for p in (task.data.train, task.retain.train, task.forget)]
    assert codes[0] == set(shop.data.train.codes(shop.data.n_items).tolist())
    assert codes[1] == codes[0] - codes[2]
    assert len(codes[2]) == int(task.units.sum())
    assert task.data.valid.codes(1000).tolist() == shop.data.valid.codes(1000).tolist()
    assert (task.recipe, task.request, task.device) == (tiny_recipe, request, "cpu")


def test_a_chain_of_requests_erases_only_what_is_new(shop: Workshop, tiny_recipe: Recipe) -> None:
    SEEN.clear()
    first = Unlearn(original(tiny_recipe), Vandal(1.0), Share(0, 0.5), 1)
    # The second request covers the first again: what is gone is not handed out a second time.
    second = Unlearn(first, Vandal(2.0), EVERYBODY, 2)
    # Listed child first, as a caller may.
    make([System("second", "unlearned", second), System("first", "unlearned", first)], shop, silent)
    one, two = SEEN
    assert (two.units == ~one.units).all()
    assert two.data.train.codes(1000).tolist() == one.retain.train.codes(1000).tolist()
    assert not len(shop.request.forget_set(two.retain))
    assert held_pairs(read(first, shop)[0], shop) == int((~one.units).sum())
    assert held_pairs(read(second, shop)[0], shop) == 0
    assert set(np.frombuffer(weights(read(second, shop)[0])["item_table"], np.float32)) == {2.0}


def test_an_output_mask_survives_the_store(shop: Workshop, tiny_recipe: Recipe) -> None:
    parent = original(tiny_recipe)
    one = Unlearn(parent, OutputMask(), EVERYBODY, 1)
    masked = served(one, shop)
    assert isinstance(masked, Masked)
    assert weights(masked.backbones[0]) == weights(read(parent, shop)[0])
    users = np.arange(shop.data.n_users)
    scores, plain = masked.score(users), read(parent, shop)[0].score(users)
    hidden = np.zeros(scores.shape, np.bool_)
    hidden[shop.request.users, shop.request.items] = True
    assert (torch.isnan(scores).numpy() == hidden).all()
    assert torch.equal(scores[~torch.from_numpy(hidden)], plain[~torch.from_numpy(hidden)])
    with pytest.raises(StoreError, match="its parent is no backbone, so no-op has no weights to start from"):
        served(Unlearn(one, NoOp(), EVERYBODY, 1), shop)


def test_a_method_that_cannot_be_stored_says_what_to_override(shop: Workshop, tiny_recipe: Recipe) -> None:
    one = Unlearn(original(tiny_recipe), Stranger(), EVERYBODY, 1)
    with pytest.raises(NotApplicableError, match="serves a Masked; override dump and load"):
        served(one, shop)
    assert not shop.store.has(shop.address(one))


@pytest.mark.parametrize("unlearner", [Gold(), ReverseBPR(epochs=1), RowReinit(), Finetune()])
def test_the_same_seed_gives_the_same_bytes(
    shop: Workshop, tiny_recipe: Recipe, tmp_path: Path, unlearner: Unlearner
) -> None:
    one = Unlearn(original(tiny_recipe), unlearner, EVERYBODY, 3)
    again = replace(shop, store=Store(tmp_path / "again"))
    assert weights(served(one, shop)) == weights(served(one, again))
    assert weights(served(replace(one, seed=4), shop)) != weights(served(one, shop))


def test_given_systems_are_served_as_they_are(shop: Workshop, tiny_recipe: Recipe) -> None:
    model = served(original(tiny_recipe), shop)
    own = replace(shop, given={"ours": in_memory(model)})
    (row,) = build([System("ours", "unlearned", Given("ours", "d"))], own, silent)
    assert row[1] is model
    assert row[2] is None
    assert System("ours", "unlearned", Given("ours", "d")).procedure == "d"


def test_an_altered_build_stops_the_audit(shop: Workshop, tiny_recipe: Recipe) -> None:
    one = original(tiny_recipe)
    served(one, shop)
    path = shop.store.folder(shop.address(one)) / "arrays.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="does not match its digest"):
        served(one, shop)


def test_weights_of_another_shape_are_refused(shop: Workshop, tiny_recipe: Recipe) -> None:
    one = original(tiny_recipe)
    served(one, shop)
    arrays, meta = shop.store.read(shop.address(one))
    arrays["0.weights.user_table"] = arrays["0.weights.user_table"][:, :4]
    other = replace(shop, store=Store(shop.store.root / "other"))
    other.store.write(shop.address(one), arrays, meta)
    with pytest.raises(StoreError, match="does not fit its backbone"):
        read(one, other)


def test_recipes_are_checked_as_a_whole() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Recipe.of("bpr-mf", {"factor": 3}, {"epochs": "many"})
    assert caught.value.problems == (
        "backbone 'bpr-mf' has no option 'factor'; did you mean 'factors'?",
        "recipe.fit: epochs must be int, got 'many'",
    )
    assert Recipe.of("bpr-mf", {"factors": 64}).digest == Recipe.of("bpr-mf").digest


@pytest.mark.parametrize("name", ["bpr-mf", "lightgcn", "ease"])
def test_every_backbone_can_be_warmed_up(name: str) -> None:
    recipe = Recipe.of(name)
    _warmed(recipe.backbone, recipe.fit.engine, "cpu")
