from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor

from auditkit.backbones.mig_gt import MIGGT
from auditkit.data.dataset import Dataset, Features, Interactions
from auditkit.errors import ConfigurationError
from auditkit.testing import MultimodalTests
from auditkit.training.stacked import union

# The values of a graph are in single precision, whatever the model is in.
_ROUNDING = 1e-7
_TRIPLES = (torch.tensor([0, 3, 3, 2]), torch.tensor([1, 0, 8, 4]), torch.tensor([5, 6, 7, 3]))


class TestMIGGT(MultimodalTests):
    backbone = MIGGT
    config = {"factors": 8, "hidden": 12, "samples": 4}  # noqa: RUF012
    fit = {"epochs": 10, "learning_rate": 0.03, "batch": 256}  # noqa: RUF012


def random_data(n_users: int = 7, n_items: int = 10) -> Dataset:
    """Two modalities of unequal width, users and items without pairs, absent rows of NaN in one modality.

    The features are eighths, and 8 rows are present, so that their mean is exact in single precision too.
    """
    rng = np.random.default_rng(0)
    mask = rng.random((n_users, n_items)) < 0.4
    mask[2] = mask[:, 4] = False
    audio, image = ((rng.integers(-9, 9, size=(n_items, width)) / 8).astype(np.float32) for width in (3, 5))
    absent = np.isin(np.arange(n_items), [1, 6])
    audio[absent] = np.nan
    features = {"audio": Features(audio, ~absent), "image": Features(image, np.ones(n_items, np.bool_))}
    return Dataset("random", n_users, n_items, Interactions.unique(*np.nonzero(mask))[0], features=features)


def made(data: Dataset, **config: object) -> MIGGT:
    """A small model in double precision; what starts at a constant is drawn."""
    given = {"factors": 4, "hidden": 6, "samples": 3, "attention": 2, "residual": 0.7, "project_wide": False, **config}
    model = MIGGT(data, MIGGT.Config(**given), rng=np.random.default_rng(5)).double()  # type: ignore[arg-type]
    draw = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith(("scale", "shift", "slope", "bias")):
            torch.nn.init.normal_(parameter.data, generator=draw)
    return model


def layer(model: MIGGT, name: str, x: Tensor) -> Tensor:
    """Linear, batch norm with the biased variance over rows and 1e-5, PReLU; written out."""
    weight, scale, shift, slope = (
        model.get_parameter(f"{name}.{part}") for part in ("linear.weight", "scale", "shift", "slope")
    )
    y = torch.stack([weight @ row for row in x])
    centred = y - y.mean(0)
    y = centred / (centred.square().mean(0) + 1e-5).sqrt() * scale + shift
    return torch.where(y > 0, y, slope * y)


def encoded(model: MIGGT, data: Dataset, modality: str) -> Tensor:
    given = data.features[modality]
    values = torch.from_numpy(given.values.astype(np.float64))
    if model.config.trainable_features:
        values = model.get_parameter(f"item_features_{modality}")
    present = torch.from_numpy(given.present.copy())
    rows = torch.stack([values[i] if present[i] else values[present].mean(0) for i in range(data.n_items)])
    if modality == "image" and model.config.project_wide:
        rows = rows @ model.get_buffer("narrowing_image")
    return layer(model, f"{modality}_encoder", layer(model, f"{modality}_hidden", rows))


def branch_vectors(model: MIGGT, data: Dataset, branch: str) -> Tensor:
    """MGDCF with a dense graph, users above items."""
    held = torch.from_numpy(data.train.matrix(data.n_users, data.n_items).toarray().astype(np.float64))
    n = data.n_users + data.n_items
    graph = torch.eye(n, dtype=torch.float64)
    graph[: data.n_users, data.n_users :], graph[data.n_users :, : data.n_users] = held, held.T
    graph = graph / (graph.sum(1, keepdim=True) * graph.sum(1)).sqrt()
    if branch == "id":
        start = torch.cat([model.user_table, torch.zeros(data.n_items, 4, dtype=torch.float64)])
    else:
        start = torch.cat([torch.zeros(data.n_users, 4, dtype=torch.float64), encoded(model, data, branch)])
    depth = {"id": model.config.layers, "audio": 1, "image": model.config.modality_layers["image"]}[branch]
    alpha, beta = model.config.alpha, model.config.beta
    h = start
    for _ in range(depth):
        h = beta * graph @ h + alpha * start
    total = beta**depth + alpha * sum(beta**k for k in range(depth))
    return torch.div(h, total)


def attended(model: MIGGT, asking: Tensor, members: Tensor) -> Tensor:
    """One vector's mix of itself and of what it attends to among `members`."""
    parts = [[model.get_parameter(f"{name}.{part}") for part in ("weight", "bias")] for name in ("query", "key")]
    query = parts[0][0] @ asking + parts[0][1]
    shares = torch.stack([query @ (parts[1][0] @ m + parts[1][1]) for m in members]) / np.sqrt(model.config.attention)
    found = (shares.softmax(0).unsqueeze(1) * members).sum(0)
    return torch.lerp(found, asking, model.config.residual)


def reference(model: MIGGT, data: Dataset) -> tuple[Tensor, list[Tensor]]:
    """Final vectors of all nodes, and for every node the set it attends to, itself first."""
    h = torch.stack([branch_vectors(model, data, branch) for branch in ("id", "audio", "image")]).sum(0)
    samples = model.sampled.columns.view(len(h), -1).long() + data.n_users
    sets = [torch.cat([h[k : k + 1], h[samples[k]]]) for k in range(len(h))]
    return torch.stack([attended(model, members[0], members) for members in sets]), sets


def reference_loss(model: MIGGT, data: Dataset, l2: float) -> tuple[Tensor, Tensor]:
    """Terms of the triples, float [n], and the L2 term."""
    z, sets = reference(model, data)
    terms = []
    for u, i, j in zip(*_TRIPLES, strict=True):
        user, members = z[u], sets[int(i) + data.n_users]
        gap = user @ z[i + data.n_users] - user @ z[j + data.n_users]
        logits = torch.stack([user @ attended(model, one, members) for one in members])
        terms.append(torch.log1p(torch.exp(-gap)) - logits.log_softmax(0)[0])
    return torch.stack(terms), 0.5 * l2 * z.square().sum() / len(terms)


CASES = [
    {},
    {"trainable_features": True},
    {"project_wide": True},
    {"project_wide": True, "trainable_features": True},
    {"layers": 0, "modality_layers": {"image": 3}},
]


@pytest.mark.parametrize("config", CASES)
def test_vectors_from_the_equations(config: dict[str, object]) -> None:
    data = random_data()
    model = made(data, **config)
    assert_allclose(torch.cat(model.embed()).detach(), reference(model, data)[0].detach(), rtol=0, atol=_ROUNDING)
    for branch in ("id", "audio", "image"):
        found, expected = torch.cat(model.embed(branch)), branch_vectors(model, data, branch)
        assert_allclose(found.detach(), expected.detach(), rtol=0, atol=_ROUNDING)


@pytest.mark.parametrize("config", CASES)
def test_loss_and_gradients_from_the_equations(config: dict[str, object]) -> None:
    data = random_data()
    model = made(data, **config)
    terms, penalty = reference_loss(model, data, 0.3)
    loss, total = model.loss(*_TRIPLES, l2=0.3), terms.mean() + penalty
    assert loss.item() == pytest.approx(total.item(), abs=_ROUNDING)
    parameters = list(model.trained.values())
    gradients = [torch.autograd.grad(value, parameters) for value in (loss, total)]
    for found, expected in zip(*gradients, strict=True):
        assert_allclose(found, expected, rtol=0, atol=10 * _ROUNDING)
    weights = torch.tensor([0.5, 0.0, 0.25, 2.0])
    weighted = model.loss(*_TRIPLES, l2=0.3, weights=weights)
    assert weighted.item() == pytest.approx(((terms * weights).sum() + penalty).item(), abs=1e-6)


def test_served_samples_follow_from_the_config_alone() -> None:
    data = random_data()
    fewer = replace(data, train=data.train.take(np.arange(len(data.train) // 2)))
    columns = made(data).sampled.columns
    assert int(columns.max()) < data.n_items
    assert any(len(set(row)) < 3 for row in columns.view(-1, 3).tolist()), "no item is there twice: a weaker test"
    other_start = MIGGT(fewer, MIGGT.Config(samples=3), rng=np.random.default_rng(6))
    for same in (other_start, made(data).on(fewer)):
        assert_array_equal(same.sampled.columns, columns)
    assert not torch.equal(made(data, seed=1).sampled.columns, columns)
    both = MIGGT(union([data, data]), MIGGT.Config(samples=3), rng=np.random.default_rng(0), members=2)
    found = both.sampled.columns.view(-1, 3)
    for member in range(2):
        own = torch.cat([found[:14].chunk(2)[member], found[14:].chunk(2)[member]]) - member * data.n_items
        assert_array_equal(own.flatten(), columns)


def test_training_samples_and_drops_anew_and_serving_never_does() -> None:
    data = random_data()
    model = made(data)
    served = torch.cat(model.embed())
    quiet = model.loss(*_TRIPLES, l2=0.0).item()
    model.start_epoch([np.random.default_rng(3)])
    losses = [model.loss(*_TRIPLES, l2=0.0).item() for _ in range(3)]
    assert len({quiet, *losses}) == 4
    model.start_epoch([np.random.default_rng(3)])
    assert model.loss(*_TRIPLES, l2=0.0).item() == losses[0]
    assert torch.equal(torch.cat(model.embed()), served)
    assert model.eval().loss(*_TRIPLES, l2=0.0).item() == quiet


def test_sampling_alone_is_random_without_dropout() -> None:
    still = {"feature_dropout": 0.0, "start_dropout": 0.0, "edge_dropout": 0.0, "output_dropout": 0.0}
    data = random_data()
    model = made(data, **still)
    model.start_epoch([np.random.default_rng(3)])
    found = model.loss(*_TRIPLES, l2=0.3).item()
    model.sampled = model._sample([np.random.default_rng(3)])
    terms, penalty = reference_loss(model, data, 0.3)
    assert found == pytest.approx((terms.mean() + penalty).item(), abs=_ROUNDING)


def test_dropped_edges_keep_their_mean() -> None:
    model = made(random_data(60, 80), edge_dropout=0.25)
    values = torch.stack([model._dropped_edges([np.random.default_rng(seed)]) for seed in range(50)])
    kept = values != 0
    assert_allclose(kept.double().mean().item(), 0.75, atol=0.005)
    expected = (model.graph.values / 0.75).expand_as(values)
    assert_allclose(values[kept], expected[kept], rtol=1e-12)


def test_members_drop_their_own_edges_as_if_alone() -> None:
    data = random_data()
    fewer = replace(data, train=data.train.take(np.arange(len(data.train) // 2)))
    config = MIGGT.Config(samples=3)
    both = MIGGT(union([data, fewer]), config, rng=np.random.default_rng(0), members=2)
    dropped = both.graph.matrix().to_dense()
    dropped[both.graph.rows(), both.graph.columns.long()] = both._dropped_edges(
        [np.random.default_rng(7), np.random.default_rng(8)]
    )
    for member, part in enumerate((data, fewer)):
        alone = MIGGT(part, config, rng=np.random.default_rng(0))
        expected = alone.graph.matrix().to_dense()
        expected[alone.graph.rows(), alone.graph.columns.long()] = alone._dropped_edges(
            [np.random.default_rng(7 + member)]
        )
        nodes = torch.cat([torch.arange(7) + 7 * member, torch.arange(10) + 14 + 10 * member])
        assert_array_equal(dropped[nodes][:, nodes], expected)


def test_wide_features_are_narrowed_by_what_the_config_says() -> None:
    data = random_data()
    first, second = made(data, project_wide=True), made(data, project_wide=True, trainable_features=True)
    assert first.get_parameter("image_hidden.linear.weight").shape == (6, 3)
    assert torch.equal(first.get_buffer("narrowing_image"), second.get_buffer("narrowing_image"))
    assert_allclose(torch.cat(first.embed()).detach(), torch.cat(second.embed()).detach(), atol=1e-5)
    assert "narrowing_audio" not in dict(first.named_buffers())


def test_one_item_cannot_be_normalised() -> None:
    train = Interactions.unique(np.array([0, 1]), np.array([0, 0]))[0]
    features = {"image": Features(np.ones((1, 2), np.float32), np.ones(1, np.bool_))}
    with pytest.raises(ConfigurationError, match="2 or more, got 1"):
        made(Dataset("tiny", 2, 1, train, features=features))


def test_config_names_every_problem() -> None:
    with pytest.raises(ConfigurationError) as caught:
        MIGGT.Config(
            factors=0,
            hidden=0,
            layers=-1,
            modality_layers={"image": -1},
            alpha=0.0,
            beta=0.0,
            samples=0,
            attention=0,
            residual=2.0,
            feature_dropout=1.0,
            start_dropout=-0.1,
            edge_dropout=1.0,
            output_dropout=1.0,
            seed=-1,
        )
    assert len(caught.value.problems) == 14
