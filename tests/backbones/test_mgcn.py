from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from auditkit.backbones.graph import Propagation
from auditkit.backbones.layers import info_nce
from auditkit.backbones.mgcn import MGCN
from auditkit.data.dataset import Dataset, Features
from auditkit.errors import ConfigurationError
from auditkit.testing.multimodal import MultimodalTests
from auditkit.training.stacked import union
from tests.backbones.small import gaussian_features as random_data

MODALITIES = [("image",), ("image", "text"), ("audio", "image", "text")]
USERS, POSITIVES, NEGATIVES = (torch.tensor(ids) for ids in ([0, 4, 4, 2, 0], [1, 2, 3, 2, 1], [8, 7, 8, 5, 6]))
TRIPLES = USERS, POSITIVES, NEGATIVES


class TestMGCN(MultimodalTests):
    backbone = MGCN
    config = {"factors": 8, "neighbours": 5}  # noqa: RUF012
    fit = {"epochs": 8, "learning_rate": 0.02, "batch": 256}  # noqa: RUF012
    separate = ("image", "text", "id")


def model(data: Dataset, seed: int = 0, **config: Any) -> MGCN:
    chosen = MGCN.Config(**{"factors": 3, "neighbours": 3, **config})
    return MGCN(data, chosen, rng=np.random.default_rng(seed)).double()


def dense_adjacency(data: Dataset) -> Tensor:
    """D^-1/2 A D^-1/2 from the formula, rounded as the operator stores it."""
    n = data.n_users + data.n_items
    made = torch.zeros(n, n, dtype=torch.float64)
    for user, item in zip(data.train.users.tolist(), data.train.items.tolist(), strict=True):
        made[user, data.n_users + item] = made[data.n_users + item, user] = 1
    scale = made.sum(1).clamp_min(1).rsqrt()
    return (scale[:, None] * made * scale).float().double()


def item_graph(made: MGCN, modality: str) -> Tensor:
    """The operator as it is, dense."""
    operator = made.get_submodule(f"{modality}_graph")
    assert isinstance(operator, Propagation)
    return operator.matrix().to_dense()


def dense_neighbours(features: Features, k: int) -> Tensor:
    """w_ij / sqrt(r_i r_j) from the formula: w the k largest cosines of present items, r their row sums."""
    n = len(features.present)
    made, present = np.zeros((n, n)), np.flatnonzero(features.present)
    x = features.values.astype(np.float64)
    for a in present:
        cosines = {b: x[a] @ x[b] / np.linalg.norm(x[a]) / np.linalg.norm(x[b]) for b in present}
        for b in sorted(present, key=lambda b: -cosines[b])[:k]:
            made[a, b] = cosines[b]
    sums = made.sum(1)
    made[present] /= np.sqrt(sums[present])[:, None]
    made[:, present] /= np.sqrt(sums[present])
    return torch.from_numpy(made)


def dense_features(made: MGCN, modality: str) -> Tensor:
    """Raw or trained features, absent rows as the mean of the present ones."""
    present = torch.tensor(made.data.features[modality].present)
    if made.config.trainable_features:
        values = made.get_parameter(f"item_features_{modality}").detach().clone()
    else:
        values = torch.tensor(made.data.features[modality].values).double()
    values[~present] = values[present].mean(0)
    return values


def dense_views(made: MGCN) -> tuple[Tensor, list[Tensor], Tensor]:
    """C, the content views and the side view of users and items below one another, from the equations."""
    weights = {name: p.detach() for name, p in made.named_parameters()}

    def layer(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    a = dense_adjacency(made.data)
    e_0 = torch.cat([weights["user_table"], weights["item_table"]])
    behaviour = (e_0 + a @ e_0 + a @ a @ e_0) / 3
    contents, scores = [], []
    for m in made.modalities:
        graph = item_graph(made, m)
        gate = torch.sigmoid(layer(f"{m}_purifier", layer(f"{m}_projection", dense_features(made, m))))
        items = graph @ (weights["item_table"] * gate)
        contents.append(torch.cat([a[:7, 7:] @ items, items]))
        scores.append(torch.tanh(layer("attention", contents[-1])) @ weights["query.weight"][0])
    shares = torch.stack([score.exp() for score in scores])
    shares = shares / shares.sum(0)
    common = sum((s[:, None] * m for s, m in zip(shares, contents, strict=True)), torch.zeros_like(behaviour))
    side = common.clone()
    for m, content in zip(made.modalities, contents, strict=True):
        side += (content - common) * torch.sigmoid(layer(f"{m}_preference", behaviour))
    return behaviour, contents, side / (len(contents) + 1)


def slow_info_nce(one: Tensor, other: Tensor, temperature: float) -> float:
    """With repeated rows as they come; a vector of zeros has cosine 0."""
    total = 0.0
    for k in range(len(one)):
        cosines = [float(one[k] @ b / (one[k].norm() * b.norm()).clamp_min(1e-12)) for b in other]
        total -= math.log(math.exp(cosines[k] / temperature) / sum(math.exp(c / temperature) for c in cosines))
    return total / len(one)


def dense_loss(made: MGCN, l2: float, weights: list[float]) -> float:
    behaviour, _, side = dense_views(made)
    e, items = behaviour + side, POSITIVES + 7
    total = 0.0
    for weight, u, i, j in zip(weights, USERS.tolist(), items.tolist(), (NEGATIVES + 7).tolist(), strict=True):
        norms = float(sum(e[k].square().sum() for k in (u, i, j)))
        total += weight * (math.log1p(math.exp(float(e[u] @ e[j] - e[u] @ e[i]))) + l2 / 2 * norms)
    contrast = sum(slow_info_nce(side[ids], behaviour[ids], made.config.temperature) for ids in (USERS, items))
    return total + float(made.config.contrastive_weight) * contrast


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("modalities", MODALITIES)
def test_equals_the_equations(modalities: tuple[str, ...], trained: bool) -> None:
    made = model(random_data(modalities), trainable_features=trained, contrastive_weight=0.3)
    behaviour, contents, side = dense_views(made)
    e = behaviour + side
    branches = (None, "id", *modalities)
    for branch, table in zip(branches, (e, behaviour, *contents), strict=True):
        found = torch.cat(made.embed(branch)).detach()
        torch.testing.assert_close(found, table, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(made.score(np.arange(7)), e[:7] @ e[7:].T, rtol=1e-8, atol=1e-10)
    assert made.loss(*TRIPLES, l2=0.7).item() == pytest.approx(dense_loss(made, 0.7, [1 / 5] * 5), rel=1e-8)
    weights = [0.1, 0.5, 0.2, 0.0, 0.2]
    weighted = made.loss(*TRIPLES, l2=0.7, weights=torch.tensor(weights, dtype=torch.float64)).item()
    assert weighted == pytest.approx(dense_loss(made, 0.7, weights), rel=1e-8)


def test_item_graphs_equal_the_formula() -> None:
    data = random_data()
    made = model(data)
    for modality in data.modalities:
        found = item_graph(made, modality)
        torch.testing.assert_close(found, dense_neighbours(data.features[modality], 3), rtol=1e-5, atol=1e-6)


def test_item_graphs_do_not_follow_trained_features() -> None:
    made = model(random_data())
    before = item_graph(made, "image")
    with torch.no_grad():
        made.get_parameter("item_features_image").neg_().add_(torch.arange(4))
    assert torch.equal(item_graph(made.on(made.data).double(), "image"), before)


def test_more_steps_over_items() -> None:
    one, two = (model(random_data(), item_layers=n) for n in (1, 2))
    graph = item_graph(one, "text")
    torch.testing.assert_close(two.embed("text")[1], graph @ one.embed("text")[1])


def test_one_modality_serves_half_its_content_view_as_side_view() -> None:
    made = model(random_data(("image",)))
    for whole, behaviour, content in zip(made.embed(), made.embed("id"), made.embed("image"), strict=True):
        torch.testing.assert_close(whole - behaviour, content / 2)


def test_withdrawn_content_is_nobodys() -> None:
    made = model(random_data())
    _, items = made.embed("image")
    assert not items[3].any()
    with torch.no_grad():
        before = torch.cat(made.embed())
        made.get_parameter("item_features_image")[3] = 100.0
    assert torch.equal(before, torch.cat(made.embed()))


def test_served_over_less_equals_a_model_built_there() -> None:
    data = random_data()
    fewer = replace(data, train=data.train.take(np.arange(len(data.train) // 2)))
    made, fresh = model(data), model(fewer, seed=1)
    fresh.load_state_dict(made.state_dict())
    moved = made.on(fewer).double()
    assert torch.equal(moved.score(np.arange(7)), fresh.score(np.arange(7)))
    assert moved.loss(*TRIPLES, l2=0.1).item() == fresh.loss(*TRIPLES, l2=0.1).item()
    assert not torch.equal(moved.score(np.arange(7)), made.score(np.arange(7)))


def test_loss_of_stacked_members_is_the_sum_of_theirs() -> None:
    parts = [model(random_data(seed=s), seed=s) for s in (0, 1)]
    both = MGCN(union([p.data for p in parts]), parts[0].config, rng=np.random.default_rng(0), members=2).double()
    with torch.no_grad():
        for name, parameter in both.named_parameters():
            parameter.copy_(torch.cat([part.get_parameter(name) for part in parts]))
    alone = parts[0].loss(*TRIPLES, l2=0.5) + parts[1].loss(*(ids[:3] for ids in TRIPLES), l2=0.5)
    triples = [torch.cat([ids, ids[:3] + n]) for ids, n in zip(TRIPLES, (7, 9, 9), strict=True)]
    weights = torch.tensor([1 / 5] * 5 + [1 / 3] * 3, dtype=torch.float64)
    assert both.loss(*triples, l2=0.5, weights=weights).item() == pytest.approx(alone.item(), rel=1e-12)


def test_counts_stand_for_repeated_rows() -> None:
    draw = torch.Generator().manual_seed(0)
    one, other = (torch.randn(4, 3, dtype=torch.float64, generator=draw) for _ in range(2))
    counts = torch.tensor([1, 3, 1, 2])
    repeated, likewise = (table.repeat_interleave(counts, 0) for table in (one, other))
    found = info_nce(one, other, 0.2, counts).item()
    assert found == pytest.approx(info_nce(repeated, likewise, 0.2).item(), rel=1e-12)
    assert found == pytest.approx(slow_info_nce(repeated, likewise, 0.2), rel=1e-12)


def test_without_contrast_the_ranking_is_left() -> None:
    made = model(random_data(), contrastive_weight=0.0)
    users, items = made.embed()
    gaps = (users[USERS] * (items[POSITIVES] - items[NEGATIVES])).sum(-1)
    assert made.loss(*TRIPLES, l2=0.0).item() == pytest.approx(-gaps.sigmoid().log().mean().item(), rel=1e-12)


def test_config_names_every_problem() -> None:
    with pytest.raises(ConfigurationError) as caught:
        MGCN.Config(factors=0, layers=-1, item_layers=0, neighbours=0, contrastive_weight=-1.0, temperature=0.0)
    assert len(caught.value.problems) == 6
