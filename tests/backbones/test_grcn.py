from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from auditkit.backbones.grcn import GRCN
from auditkit.data.dataset import Dataset, Interactions
from auditkit.errors import ConfigurationError
from auditkit.testing.multimodal import MultimodalTests
from auditkit.training.stacked import union
from tests.backbones.small import assert_same_with_gradients
from tests.backbones.small import exact_features as random_data

SMALL = {"factors": 4, "latent": 5, "routing": 3}
TRIPLES = torch.tensor([[0, 3, 3, 5], [1, 2, 4, 8], [8, 7, 0, 2]])


class TestGRCN(MultimodalTests):
    backbone = GRCN
    config: ClassVar[Mapping[str, Any]] = {"factors": 8, "latent": 6, "routing": 1}
    fit: ClassVar[Mapping[str, Any]] = {"epochs": 5, "learning_rate": 0.005, "batch": 256}


def model(data: Dataset, seed: int = 0, **config: Any) -> GRCN:
    made = GRCN(data, GRCN.Config(**{**SMALL, **config}), rng=np.random.default_rng(seed)).double()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            # Biases start at 0, which would hide a missing one, and confidences so small that the graph hardly counts.
            if name.endswith(("bias", "confidence")):
                parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype))
    return made


def unit(x: Tensor) -> Tensor:
    return x / x.square().sum(-1, keepdim=True).sqrt()


def content(made: GRCN, data: Dataset, modality: str) -> Tensor:
    given = data.features[modality]
    values = torch.tensor(given.values, dtype=torch.float64)
    if made.config.trainable_features:
        values = made.get_parameter(f"item_features_{modality}")
    present = torch.tensor(given.present)
    rows = [row if there else values[present].mean(0) for row, there in zip(values, present, strict=True)]
    weight, bias = (made.get_parameter(f"{modality}_content.{name}") for name in ("weight", "bias"))
    projected = torch.stack(rows) @ weight.T + bias
    return unit(torch.where(projected > 0, projected, 0.01 * projected))


def attention(held: Tensor, told: Tensor, near: Tensor) -> Tensor:
    """Softmax over each row's neighbours of told . near, row by row, [rows, columns]; 0 at the others."""
    made = torch.zeros_like(held)
    for row in range(len(held)):
        ids = held[row].nonzero()[:, 0]
        if len(ids):
            made = made.index_put((torch.tensor(row), ids), torch.softmax(near[ids] @ told[row], 0))
    return made


def parts(made: GRCN, data: Dataset) -> list[tuple[Tensor, Tensor]]:
    """Id part and content parts, from dense matrices."""
    held = torch.tensor(data.train.matrix(7, 9).toarray(), dtype=torch.float64)
    contents, to_users, to_items = [], [], []
    for m, modality in enumerate(data.modalities):
        items, users = content(made, data, modality), unit(made.get_parameter(f"user_preferences_{modality}"))
        for _ in range(made.config.routing):
            users = unit(users + attention(held, users, items) @ items)
        by_user, by_item = attention(held, users, items), attention(held.T, items, users)
        contents.append((users + by_user @ items, items + by_item @ users))
        to_users.append(by_user * made.item_confidence[:, m])
        to_items.append(by_item * made.user_confidence[:, m])
    weight_users, weight_items = (torch.stack(w).amax(0).clamp_min(0) for w in (to_users, to_items))
    users, items = total_users, total_items = unit(made.user_id), unit(made.item_id)
    for _ in range(made.config.layers):
        users, items = weight_users @ items, weight_items @ users
        total_users, total_items = total_users + users, total_items + items
    return [(total_users, total_items), *contents]


def loss(made: GRCN, data: Dataset, triples: Tensor, l2: float) -> Tensor:
    """As the published code writes it: two rows a triple, means over all components."""
    users, items = triples[0].repeat_interleave(2), triples[1:].T.flatten()
    user_vectors, item_vectors = (torch.cat(side, 1) for side in zip(*parts(made, data), strict=True))
    scores = (user_vectors[users] * item_vectors[items]).sum(1).view(-1, 2)
    squares = (made.user_id[users] ** 2 + made.item_id[items] ** 2).mean()
    for modality in data.modalities:
        preferences = made.get_parameter(f"user_preferences_{modality}")
        squares = squares + (preferences[users] ** 2).mean()
        if modality == made.config.l2_table:
            squares = squares + (preferences**2).mean()
    return -torch.log(torch.sigmoid(scores[:, 0] - scores[:, 1])).mean() + l2 * squares


@pytest.mark.parametrize("modalities", [("image", "text"), ("audio",), ("audio", "image", "text")])
@pytest.mark.parametrize("trainable_features", [False, True])
@pytest.mark.parametrize(("routing", "layers"), [(3, 2), (0, 0), (1, 3)])
def test_equals_the_equations(modalities: Sequence[str], trainable_features: bool, routing: int, layers: int) -> None:
    data = random_data(modalities)
    made = model(data, routing=routing, layers=layers, trainable_features=trainable_features)
    expected = parts(made, data)
    for branch, (users, items) in zip(("id", *data.modalities), expected, strict=True):
        found = made.embed(branch)
        torch.testing.assert_close(found[0], users, rtol=0, atol=1e-10)
        torch.testing.assert_close(found[1], items, rtol=0, atol=1e-10)
    scores = sum((users @ items.T for users, items in expected), torch.zeros(7, 9))
    torch.testing.assert_close(made.score(np.arange(7)), scores, rtol=0, atol=1e-10)


@pytest.mark.parametrize("modalities", [("image", "text"), ("audio",)])
@pytest.mark.parametrize("routing", [0, 3])
def test_loss_and_gradients_equal_the_equations(modalities: Sequence[str], routing: int) -> None:
    data = random_data(modalities)
    made = model(data, routing=routing, trainable_features=True)
    found, expected = made.loss(*TRIPLES, l2=0.3), loss(made, data, TRIPLES, 0.3)
    assert_same_with_gradients(found, expected, list(made.trained.values()))


def test_weights_count_triples() -> None:
    made = model(random_data(), l2_table="none")
    each = [made.loss(*TRIPLES[:, [k]], l2=0.3) for k in range(4)]
    weights = torch.tensor([0.5, 0.25, 0.25, 0.0], dtype=torch.float64)
    expected = (torch.stack(each) * weights).sum()
    torch.testing.assert_close(made.loss(*TRIPLES, l2=0.3, weights=weights), expected)


def test_a_stack_is_its_members() -> None:
    datas = [random_data(seed=0), random_data(seed=1)]
    alone = [model(data, seed=k, trainable_features=True) for k, data in enumerate(datas)]
    both = GRCN(union(datas), alone[0].config, rng=np.random.default_rng(0), members=2).double()
    with torch.no_grad():
        for name, parameter in both.named_parameters():
            parameter.copy_(torch.cat([made.get_parameter(name) for made in alone]))
    mine, other = TRIPLES, TRIPLES[:, [2, 0, 3]]
    expected = alone[0].loss(*mine, l2=0.3) + alone[1].loss(*other, l2=0.3)
    triples = torch.cat([mine, other + torch.tensor([[7], [9], [9]])], 1)
    weights = torch.tensor([1 / 4] * 4 + [1 / 3] * 3, dtype=torch.float64)
    torch.testing.assert_close(both.loss(*triples, l2=0.3, weights=weights), expected, rtol=0, atol=1e-10)
    for side, tables in enumerate(zip(*(made.embed() for made in alone), strict=True)):
        torch.testing.assert_close(both.embed()[side], torch.cat(tables), rtol=0, atol=1e-10)


def test_edges_of_no_confidence_are_pruned() -> None:
    """Where every confidence is negative nothing is passed on: the id part is the vectors alone."""
    made = model(random_data())
    with torch.no_grad():
        made.user_confidence.fill_(-1)
        made.item_confidence.fill_(-1)
    users, items = made.embed("id")
    torch.testing.assert_close(users, unit(made.user_id))
    torch.testing.assert_close(items, unit(made.item_id))
    with torch.no_grad():
        made.item_confidence[4, 1] = 1
    moved = (made.embed("id")[0] - unit(made.user_id)).abs().sum(1) > 1e-6
    held = np.isin(np.arange(7), made.data.train.users[made.data.train.items == 4])
    assert held.any()
    assert moved.tolist() == held.tolist()


def test_routing_moves_preferences_towards_the_items_held() -> None:
    data = random_data()
    start, routed = (model(data, routing=routing).embed("text")[0] for routing in (0, 3))
    users = sorted(set(data.train.users.tolist()))
    assert (start[users] - routed[users]).abs().sum(1).min() > 1e-3
    torch.testing.assert_close(routed[6], unit(model(data).get_parameter("user_preferences_text"))[6])  # without pairs


def test_scores_are_those_of_the_current_weights() -> None:
    """The published codes serve what the last training step computed; loading weights would not change it."""
    data = random_data()
    made, other = model(data), model(data, seed=1)
    made.loss(*TRIPLES, l2=0.0)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.copy_(other.get_parameter(name))
    assert torch.equal(made.score(np.arange(7)), other.score(np.arange(7)))


def test_branches_hold_all_parameters_once() -> None:
    made = model(random_data(), trainable_features=True)
    names = [name for branch in made.branches.values() for name in branch]
    assert sorted(names) == sorted(name for name, _ in made.named_parameters())
    assert made.user_confidence.shape == (7, 2)
    assert made.item_confidence.shape == (9, 2)


def test_without_pairs_the_vectors_stand_alone() -> None:
    alone = replace(random_data(), train=Interactions.empty())
    made = model(alone)
    users, items = made.embed("image")
    torch.testing.assert_close(users, unit(made.get_parameter("user_preferences_image")))
    torch.testing.assert_close(items, content(made, alone, "image"))
    assert torch.isfinite(made.loss(*TRIPLES, l2=0.1))


def test_config_names_every_problem() -> None:
    with pytest.raises(ConfigurationError) as caught:
        GRCN.Config(factors=0, latent=0, routing=-1, layers=-1)
    assert len(caught.value.problems) == 4
