from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from auditkit.backbones.mmgcn import MMGCN
from auditkit.data.dataset import Dataset, Interactions
from auditkit.errors import ConfigurationError, NotApplicableError
from auditkit.testing.multimodal import MultimodalTests
from auditkit.training.stacked import union
from tests.backbones.small import assert_same_with_gradients
from tests.backbones.small import exact_features as random_data

SMALL = {"factors": 4, "latent": 5}
TRIPLES = torch.tensor([[0, 3, 3, 5], [1, 2, 4, 8], [8, 7, 0, 2]])


class TestMMGCN(MultimodalTests):
    backbone = MMGCN
    config: ClassVar[Mapping[str, Any]] = {"factors": 8, "latent": 12}
    fit: ClassVar[Mapping[str, Any]] = {"epochs": 5, "learning_rate": 0.005, "batch": 256}


class TestTrainableMMGCN(TestMMGCN):
    config: ClassVar[Mapping[str, Any]] = {
        "factors": 8,
        "latent": 12,
        "vectors": "trainable",
        "trainable_features": True,
    }


def model(data: Dataset, seed: int = 0, **config: Any) -> MMGCN:
    made = MMGCN(data, MMGCN.Config(**{**SMALL, **config}), rng=np.random.default_rng(seed)).double()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("bias"):  # they start at 0, which would hide a missing one
                parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype))
    return made


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.01 * x)


def neighbour_means(data: Dataset, x: Tensor) -> Tensor:
    """The mean over each node's neighbours, users first, node by node; 0 without neighbours."""
    near: list[list[int]] = [[] for _ in x]
    for user, item in zip(data.train.users.tolist(), data.train.items.tolist(), strict=True):
        near[user].append(data.n_users + item)
        near[data.n_users + item].append(user)
    share = [float(np.float32(1 / max(len(ids), 1))) for ids in near]  # as the operator holds it
    return torch.stack([x[ids].sum(0) * part for ids, part in zip(near, share, strict=True)])


def content(made: MMGCN, data: Dataset, modality: str) -> Tensor:
    given = data.features[modality]
    values = torch.tensor(given.values, dtype=torch.float64)
    if made.config.trainable_features:
        values = made.get_parameter(f"item_features_{modality}")
    present = torch.tensor(given.present)
    return torch.stack([row if there else values[present].mean(0) for row, there in zip(values, present, strict=True)])


def network(made: MMGCN, data: Dataset, modality: str) -> Tensor:
    """z of all nodes in one modality, in the shape the paper writes it: users and items in one table."""
    p = dict(made.named_parameters())
    features = content(made, data, modality)
    if modality == made.config.mapped:
        features = features @ p[f"{modality}_map.weight"].T + p[f"{modality}_map.bias"]
    x = torch.cat([p[f"user_preferences_{modality}"], features])
    x = x / x.square().sum(1, keepdim=True).sqrt()
    ids = torch.cat([p["user_id"], p["item_id"]])
    for k in range(made.config.layers):
        w, own, joined = (f"{modality}_layer_{k}.{name}" for name in ("near", "own", "joined"))
        h = leaky(neighbour_means(data, x @ p[f"{w}.weight"].T))
        given = leaky(x @ p[f"{own}.weight"].T + p[f"{own}.bias"]) + ids
        x = leaky(torch.cat([h, given], 1) @ p[f"{joined}.weight"].T + p[f"{joined}.bias"])
    return x


def served(made: MMGCN, data: Dataset) -> Tensor:
    return torch.stack([network(made, data, m) for m in data.modalities]).mean(0)


def loss(made: MMGCN, data: Dataset, triples: Tensor, l2: float) -> Tensor:
    """As the published code writes it: two rows a triple, means over all components."""
    users, items = triples[0].repeat_interleave(2), triples[1:].T.flatten()
    z = served(made, data)
    scores = (z[users] * z[data.n_users + items]).sum(1).view(-1, 2)
    squares = (made.user_id[users] ** 2 + made.item_id[items] ** 2).mean()
    if made.config.mapped in data.modalities:
        squares = squares + (made.get_parameter(f"user_preferences_{made.config.mapped}") ** 2).mean()
    return -torch.log(torch.sigmoid(scores[:, 0] - scores[:, 1])).mean() + l2 * squares


@pytest.mark.parametrize("modalities", [("image", "text"), ("audio",), ("audio", "image", "text")])
@pytest.mark.parametrize("trainable_features", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_equals_the_equations(modalities: Sequence[str], trainable_features: bool, layers: int) -> None:
    data = random_data(modalities)
    made = model(data, layers=layers, trainable_features=trainable_features)
    z = served(made, data)
    users, items = made.embed()
    torch.testing.assert_close(torch.cat([users, items]), z, rtol=0, atol=1e-10)
    for modality in modalities:
        torch.testing.assert_close(torch.cat(made.embed(modality)), network(made, data, modality), rtol=0, atol=1e-10)
    torch.testing.assert_close(made.score(np.arange(7)), z[:7] @ z[7:].T, rtol=0, atol=1e-10)


@pytest.mark.parametrize("modalities", [("image", "text"), ("audio",)])
@pytest.mark.parametrize("vectors", ["frozen", "trainable"])
@pytest.mark.parametrize("layers", [1, 3])
def test_loss_and_gradients_equal_the_equations(modalities: Sequence[str], vectors: str, layers: int) -> None:
    data = random_data(modalities)
    made = model(data, vectors=vectors, layers=layers, trainable_features=True)
    found, expected = made.loss(*TRIPLES, l2=0.3), loss(made, data, TRIPLES, 0.3)
    assert_same_with_gradients(found, expected, list(made.trained.values()))


def test_weights_count_triples() -> None:
    made = model(random_data(), mapped="none")
    each = [made.loss(*TRIPLES[:, [k]], l2=0.3) for k in range(4)]
    weights = torch.tensor([0.5, 0.25, 0.25, 0.0], dtype=torch.float64)
    expected = (torch.stack(each) * weights).sum()
    torch.testing.assert_close(made.loss(*TRIPLES, l2=0.3, weights=weights), expected)


@pytest.mark.parametrize("vectors", ["frozen", "trainable"])
def test_a_stack_is_its_members(vectors: str) -> None:
    parts = [random_data(seed=0), random_data(seed=1)]
    alone = [model(data, seed=k, vectors=vectors, trainable_features=True) for k, data in enumerate(parts)]
    both = MMGCN(union(parts), alone[0].config, rng=np.random.default_rng(0), members=2).double()
    with torch.no_grad():
        for name, parameter in both.named_parameters():
            parameter.copy_(torch.cat([made.get_parameter(name) for made in alone]))
    # The second member has one triple less and another order of users.
    mine, other = TRIPLES, TRIPLES[:, [2, 0, 3]]
    expected = alone[0].loss(*mine, l2=0.3) + alone[1].loss(*other, l2=0.3)
    triples = torch.cat([mine, other + torch.tensor([[7], [9], [9]])], 1)
    weights = torch.tensor([1 / 4] * 4 + [1 / 3] * 3, dtype=torch.float64)
    torch.testing.assert_close(both.loss(*triples, l2=0.3, weights=weights), expected, rtol=0, atol=1e-10)
    for side, tables in enumerate(zip(*(made.embed() for made in alone), strict=True)):
        torch.testing.assert_close(both.embed()[side], torch.cat(tables), rtol=0, atol=1e-10)


def vectors_of(made: MMGCN) -> dict[str, Tensor]:
    names = ("user_id", "item_id", "user_preferences_image", "user_preferences_text")
    return {name: made.get_parameter(name).detach().clone() for name in names}


@pytest.mark.parametrize("vectors", ["frozen", "trainable"])
def test_frozen_vectors_never_move_and_are_stored(vectors: str) -> None:
    tests = TestMMGCN()
    recipe = tests.recipe_with(vectors=vectors)
    start, end = recipe.model(tests.data, 3), MMGCN.fit([(tests.data, 3)], recipe, device="cpu")[0]
    assert isinstance(start, MMGCN)
    moved = [not torch.equal(before, vectors_of(end)[name]) for name, before in vectors_of(start).items()]
    assert moved == [vectors == "trainable"] * 4
    assert set(vectors_of(end)) <= set(end.state_dict())
    assert (set(vectors_of(end)) <= set(end.trained)) == (vectors == "trainable")
    assert not torch.equal(
        start.get_parameter("image_layer_0.near.weight"), end.get_parameter("image_layer_0.near.weight")
    )


@pytest.mark.parametrize("vectors", ["frozen", "trainable"])
def test_l2_moves_nothing_that_is_frozen(vectors: str) -> None:
    tests = TestMMGCN()
    fits = [replace(tests.recipe_with(vectors=vectors).fit, l2=l2, epochs=2) for l2 in (0.0, 10.0)]
    recipes = [replace(tests.recipe_with(vectors=vectors), fit=fit) for fit in fits]
    one, other = (MMGCN.fit([(tests.data, 3)], recipe, device="cpu")[0] for recipe in recipes)
    same = [torch.equal(p, other.get_parameter(name)) for name, p in one.named_parameters()]
    assert all(same) == (vectors == "frozen")


def test_scores_are_those_of_the_current_weights() -> None:
    """The published codes serve what the last training step computed; loading weights would not change it."""
    data = random_data()
    made, other = model(data), model(data, seed=1)
    made.loss(*TRIPLES, l2=0.0)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.copy_(other.get_parameter(name))
    assert torch.equal(made.score(np.arange(7)), other.score(np.arange(7)))


def test_only_the_mapped_modality_is_reduced() -> None:
    made = model(random_data())
    assert made.get_parameter("image_map.weight").shape == (5, 3)
    assert made.get_parameter("user_preferences_image").shape == (7, 5)
    assert made.get_parameter("user_preferences_text").shape == (7, 4)
    assert made.get_parameter("text_layer_0.near.weight").shape == (4, 4)
    assert made.get_parameter("text_layer_1.joined.weight").shape == (4, 8)
    assert not any(name.startswith("text_map") for name, _ in made.named_parameters())
    assert not any("_map" in name for name, _ in model(random_data(), mapped="audio").named_parameters())


def test_branches_hold_all_parameters_and_share_the_ids() -> None:
    made = model(random_data(), trainable_features=True)
    assert set(made.branches) == {"image", "text"}
    assert set().union(*made.branches.values()) == {name for name, _ in made.named_parameters()}
    assert set(made.branches["image"]) & set(made.branches["text"]) == {"user_id", "item_id"}
    with pytest.raises(NotApplicableError, match="no branch 'id'"):
        made.score(np.arange(2), branch="id")


def test_without_pairs_only_the_own_vectors_count() -> None:
    data = random_data()
    alone = replace(data, train=Interactions.empty())
    made = model(alone)
    torch.testing.assert_close(torch.cat(made.embed()), served(made, alone), rtol=0, atol=1e-10)
    assert torch.isfinite(made.loss(*TRIPLES, l2=0.1))


def test_config_names_every_problem() -> None:
    with pytest.raises(ConfigurationError) as caught:
        MMGCN.Config(factors=0, layers=0, latent=0, vectors="thawed")  # type: ignore[arg-type]
    assert len(caught.value.problems) == 4
