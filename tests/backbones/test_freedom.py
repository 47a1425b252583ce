from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from auditkit.backbones.freedom import FREEDOM
from auditkit.backbones.graph import Propagation
from auditkit.data.dataset import Dataset, Features, Interactions
from auditkit.errors import ConfigurationError
from auditkit.testing.multimodal import MultimodalTests
from auditkit.training.stacked import union
from tests.backbones.small import gaussian_features as random_data

WEIGHTS: list[dict[str, float]] = [
    {"text": 1.0},
    {"image": 1.0},
    {"image": 0.1, "text": 0.9},
    {"audio": 0.5, "text": 0.5},
    {"audio": 0.45, "image": 0.1, "text": 0.45},
]
USERS, POSITIVES, NEGATIVES = (torch.tensor(ids) for ids in ([0, 4, 4, 2, 0], [1, 2, 3, 2, 1], [8, 7, 8, 5, 6]))
TRIPLES = USERS, POSITIVES, NEGATIVES


class TestFREEDOM(MultimodalTests):
    backbone = FREEDOM
    config = {"factors": 8, "neighbours": 5, "dropout": 0.4, "content_weight": 0.1}  # noqa: RUF012
    fit = {"epochs": 8, "learning_rate": 0.02, "batch": 256}  # noqa: RUF012
    separate = ("image", "text", "id")


def model(data: Dataset, seed: int = 0, **config: Any) -> FREEDOM:
    chosen = FREEDOM.Config(**{"factors": 3, "neighbours": 3, **config})
    return FREEDOM(data, chosen, rng=np.random.default_rng(seed)).double()


def draws(*seeds: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in seeds]


def dense_adjacency(data: Dataset) -> Tensor:
    """D^-1/2 A D^-1/2 from the formula, rounded as the operator stores it."""
    n = data.n_users + data.n_items
    made = torch.zeros(n, n, dtype=torch.float64)
    for user, item in zip(data.train.users.tolist(), data.train.items.tolist(), strict=True):
        made[user, data.n_users + item] = made[data.n_users + item, user] = 1
    scale = made.sum(1).clamp_min(1).rsqrt()
    return (scale[:, None] * made * scale).float().double()


def dense_neighbours(features: Features, k: int) -> Tensor:
    """1/k at the k largest cosines of present items."""
    n = len(features.present)
    made, present = torch.zeros(n, n, dtype=torch.float64), np.flatnonzero(features.present)
    x = features.values.astype(np.float64)
    for a in present:
        cosines = {b: x[a] @ x[b] / np.linalg.norm(x[a]) / np.linalg.norm(x[b]) for b in present}
        for b in sorted(present, key=lambda b: -cosines[b])[:k]:
            made[a, b] = 1 / k
    return made


def dense_features(made: FREEDOM, modality: str) -> Tensor:
    """Raw or trained features, absent rows as the mean of the present ones."""
    present = torch.tensor(made.data.features[modality].present)
    if made.config.trainable_features:
        values = made.get_parameter(f"item_features_{modality}").detach().clone()
    else:
        values = torch.tensor(made.data.features[modality].values).double()
    values[~present] = values[present].mean(0)
    return values


def dense_parts(made: FREEDOM, weights: Mapping[str, float]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """g of users and items below one another, h, and S_m e of each modality, from the equations."""
    users, items = made.user_table.detach(), made.item_table.detach()
    a, e_0 = dense_adjacency(made.data), torch.cat([users, items])
    graphs = {m: dense_neighbours(made.data.features[m], made.config.neighbours) for m in weights}
    mixed = sum((w * graphs[m] for m, w in weights.items()), torch.zeros_like(next(iter(graphs.values()))))
    own = {m: graph.float().double() @ items for m, graph in graphs.items()}
    return (e_0 + a @ e_0 + a @ a @ e_0) / 3, mixed.float().double() @ items, own


def ranking(u: Tensor, i: Tensor, j: Tensor) -> float:
    return math.log1p(math.exp(float(u @ j - u @ i)))


def dense_loss(made: FREEDOM, modalities: Mapping[str, float], l2: float, weights: list[float]) -> float:
    g, h, _ = dense_parts(made, modalities)
    users, items = g[:7], g[7:] + h
    contents = []
    for m in modalities:
        layer = made.get_submodule(f"{m}_projection")
        weight, bias = (layer.get_parameter(name).detach() for name in ("weight", "bias"))
        contents.append(dense_features(made, m) @ weight.T + bias)
    total = 0.0
    for weight, u, i, j in zip(weights, *(ids.tolist() for ids in TRIPLES), strict=True):
        norms = made.user_table[u].square().sum() + made.item_table[[i, j]].square().sum()
        content = sum(ranking(users[u], table[i], table[j]) for table in contents)
        main = ranking(users[u], items[i], items[j])
        total += weight * (main + float(made.config.content_weight) * content + l2 / 2 * float(norms.detach()))
    return total


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("modalities", WEIGHTS, ids="+".join)
def test_equals_the_equations(modalities: dict[str, float], trained: bool) -> None:
    made = model(random_data(tuple(modalities)), trainable_features=trained, content_weight=0.3)
    g, h, own = dense_parts(made, modalities)
    items = [g[7:] + h, g[7:], *(own[m] for m in modalities)]
    for branch, table in zip((None, "id", *modalities), items, strict=True):
        found = torch.cat(made.embed(branch)).detach()
        torch.testing.assert_close(found, torch.cat([g[:7], table]), rtol=1e-8, atol=1e-10)
    scores = g[:7] @ (g[7:] + h).T
    torch.testing.assert_close(made.score(np.arange(7)), scores, rtol=1e-8, atol=1e-10)
    found_loss = made.loss(*TRIPLES, l2=0.7).item()
    assert found_loss == pytest.approx(dense_loss(made, modalities, 0.7, [1 / 5] * 5), rel=1e-8)
    weights = [0.1, 0.5, 0.2, 0.0, 0.2]
    weighted = made.loss(*TRIPLES, l2=0.7, weights=torch.tensor(weights, dtype=torch.float64)).item()
    assert weighted == pytest.approx(dense_loss(made, modalities, 0.7, weights), rel=1e-8)


def test_given_weights_are_used_as_they_are() -> None:
    given = {"image": 0.7, "text": 2.0}
    made = model(random_data(), modality_weights=given)
    g, h, _ = dense_parts(made, given)
    torch.testing.assert_close(made.embed()[1].detach(), g[7:] + h, rtol=1e-8, atol=1e-10)
    with pytest.raises(ConfigurationError, match=r"must name .*image, text.*got image, visual"):
        model(random_data(), modality_weights={"image": 0.1, "visual": 0.9})


def test_more_steps_over_items() -> None:
    one, two = (model(random_data(), item_layers=n) for n in (1, 2))
    once, twice = (made.embed("text")[1].detach() for made in (one, two))
    graph = dense_neighbours(one.data.features["text"], 3).float().double()
    torch.testing.assert_close(twice, graph @ once)


def test_withdrawn_content_has_no_neighbours() -> None:
    made = model(random_data())
    assert not made.embed("image")[1][3].any()
    assert made.embed("text")[1][3].any()


def test_scores_read_no_projection_and_no_feature_values() -> None:
    made = model(random_data())
    before = made.score(np.arange(7))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name not in ("user_table", "item_table"):
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    assert torch.equal(made.score(np.arange(7)), before)
    assert torch.equal(made.on(made.data).double().score(np.arange(7)), before)


def edges(made: FREEDOM) -> set[tuple[int, int]]:
    assert isinstance(made.sampled, Propagation)
    rows, columns = made.sampled.rows(), made.sampled.columns
    pairs = {(u, c - made.n_users) for u, c in zip(rows.tolist(), columns.tolist(), strict=True) if u < made.n_users}
    assert made.sampled.values.numel() == 2 * len(pairs)
    return pairs


def test_an_epoch_keeps_its_share_of_the_edges() -> None:
    made = model(random_data(), dropout=0.3)
    train = made.data.train
    known = set(zip(train.users.tolist(), train.items.tolist(), strict=True))
    found = []
    for seed in (0, 1, 0):
        made.start_epoch(draws(seed))
        found.append(edges(made))
        assert found[-1] < known
        assert len(found[-1]) == int(0.7 * len(known))
    assert found[0] == found[2] != found[1]


def test_training_reads_the_sampled_edges_and_serving_all() -> None:
    made = model(random_data(), dropout=0.5)
    everywhere, served = made.loss(*TRIPLES, l2=0.1), made.score(np.arange(7))
    made.train()
    assert made.loss(*TRIPLES, l2=0.1).item() == everywhere.item()
    made.start_epoch(draws(0))
    users, items = (np.array(ids) for ids in zip(*sorted(edges(made)), strict=True))
    over_kept = made.on(replace(made.data, train=Interactions(users, items))).double()
    assert over_kept.sampled is None
    sampled = made.loss(*TRIPLES, l2=0.1).item()
    assert sampled == pytest.approx(over_kept.loss(*TRIPLES, l2=0.1).item(), rel=1e-6)
    assert abs(sampled - everywhere.item()) > 1e-4
    assert torch.equal(made.score(np.arange(7)), served)
    assert made.eval().loss(*TRIPLES, l2=0.1).item() == everywhere.item()
    made.train().start_epoch(())
    assert made.loss(*TRIPLES, l2=0.1).item() == everywhere.item()


def test_without_dropout_an_epoch_reads_all_edges() -> None:
    made = model(random_data(), dropout=0.0).train()
    made.start_epoch(draws(0))
    assert made.sampled is None


def test_edges_are_drawn_one_by_one_in_proportion_to_their_weights() -> None:
    """Of 5 edges 2 are kept; a pair of edges has probability p_a p_b / (1 - p_a) + p_a p_b / (1 - p_b)."""
    pairs = Interactions(np.array([0, 0, 0, 1, 2]), np.array([0, 1, 2, 2, 2]))
    values = np.arange(6, dtype=np.float32).reshape(3, 2) + 1
    data = Dataset("star", 3, 3, pairs, features={"text": Features(values, np.ones(3, np.bool_))})
    made = model(data, dropout=0.5)
    degrees = np.array([3 * 1, 3 * 1, 3 * 3, 1 * 3, 1 * 3])
    p = degrees**-0.5 / (degrees**-0.5).sum()
    rng, n = np.random.default_rng(0), 20_000
    drawn = [tuple(sorted(made._sample([rng]).tolist())) for _ in range(n)]
    for a, b in itertools.combinations(range(5), 2):
        expected = p[a] * p[b] * (1 / (1 - p[a]) + 1 / (1 - p[b]))
        assert drawn.count((a, b)) / n == pytest.approx(expected, abs=4 * math.sqrt(expected / n))


def test_loss_of_stacked_members_is_the_sum_of_theirs() -> None:
    parts = [model(random_data(seed=s), seed=s, dropout=0.5, content_weight=0.3).train() for s in (0, 1)]
    joined = union([part.data for part in parts])
    both = FREEDOM(joined, parts[0].config, rng=np.random.default_rng(0), members=2).double().train()
    with torch.no_grad():
        for name, parameter in both.named_parameters():
            parameter.copy_(torch.cat([part.get_parameter(name) for part in parts]))
    for made, seeds in ((parts[0], (7,)), (parts[1], (8,)), (both, (7, 8))):
        made.start_epoch(draws(*seeds))
    alone = parts[0].loss(*TRIPLES, l2=0.5) + parts[1].loss(*(ids[:3] for ids in TRIPLES), l2=0.5)
    triples = [torch.cat([ids, ids[:3] + n]) for ids, n in zip(TRIPLES, (7, 9, 9), strict=True)]
    weights = torch.tensor([1 / 5] * 5 + [1 / 3] * 3, dtype=torch.float64)
    assert both.loss(*triples, l2=0.5, weights=weights).item() == pytest.approx(alone.item(), rel=1e-12)


def test_config_names_every_problem() -> None:
    with pytest.raises(ConfigurationError) as caught:
        FREEDOM.Config(
            factors=0,
            layers=-1,
            item_layers=0,
            neighbours=0,
            modality_weights={"image": -1.0},
            dropout=1.0,
            content_weight=-1.0,
        )
    assert len(caught.value.problems) == 7
    with pytest.raises(ConfigurationError, match="numbers of 0 or more"):
        FREEDOM.Config(modality_weights={"image": "much"})  # type: ignore[dict-item]
