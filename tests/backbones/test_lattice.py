from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from auditkit.backbones.lattice import LATTICE
from auditkit.data.dataset import Dataset, Features, Interactions
from auditkit.errors import ConfigurationError
from auditkit.testing import MultimodalTests

# The values of a graph are in single precision, whatever the model is in.
_ROUNDING = 1e-7
_TRIPLES = (torch.tensor([0, 3, 3, 2]), torch.tensor([1, 0, 8, 4]), torch.tensor([5, 6, 7, 3]))


class TestLATTICE(MultimodalTests):
    backbone = LATTICE
    config = {"factors": 8, "content_factors": 6, "neighbours": 5}  # noqa: RUF012
    fit = {"epochs": 10, "learning_rate": 0.03, "batch": 256}  # noqa: RUF012


def random_data(n_users: int = 7, n_items: int = 10) -> Dataset:
    """Two modalities of unequal width, users and items without pairs, absent rows of NaN, one item absent in both.

    The features are eighths, and 8 rows of each are present, so that their mean is exact in single precision too.
    """
    rng = np.random.default_rng(0)
    mask = rng.random((n_users, n_items)) < 0.4
    mask[2] = mask[:, 4] = False
    features = {}
    for modality, width, absent in (("audio", 3, [1, 6]), ("image", 5, [1, 8])):
        values = (rng.integers(-9, 9, size=(n_items, width)) / 8).astype(np.float32)
        values[absent] = np.nan
        features[modality] = Features(values, ~np.isin(np.arange(n_items), absent))
    return Dataset("random", n_users, n_items, Interactions.unique(*np.nonzero(mask))[0], features=features)


def made(data: Dataset, **config: float) -> LATTICE:
    """A small model in double precision with unequal modality weights."""
    given = {"factors": 4, "content_factors": 3, "neighbours": 3, "item_layers": 2, "skip": 0.6, **config}
    model = LATTICE(data, LATTICE.Config(**given), rng=np.random.default_rng(5)).double()  # type: ignore[arg-type]
    with torch.no_grad():
        model.modality_weights.copy_(torch.tensor([0.2, 0.9]))
    return model


def nearest(vectors: np.ndarray, present: np.ndarray, k: int) -> np.ndarray:
    """Places of the k most similar present items of every present item, [n, n]."""
    places = np.zeros((len(vectors), len(vectors)))
    for i in np.flatnonzero(present):
        cosines = {
            j: vectors[i] @ vectors[j] / np.linalg.norm(vectors[i]) / np.linalg.norm(vectors[j])
            for j in np.flatnonzero(present)
        }
        places[i, sorted(cosines, key=lambda j: (-cosines[j], j))[:k]] = 1
    return places


def cosines(x: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=2)


def laplacian(graph: Tensor) -> Tensor:
    """D^-1/2 S D^-1/2 entry by entry; 0 where a degree is not above 0."""
    degrees = graph.sum(1)
    rows = []
    for i in range(len(graph)):
        row = [
            graph[i, j] / (degrees[i] * degrees[j]).sqrt()
            if degrees[i].item() > 0 and degrees[j].item() > 0
            else graph[i, j] * 0
            for j in range(len(graph))
        ]
        rows.append(torch.stack(row))
    return torch.stack(rows)


def projected(model: LATTICE, data: Dataset, modality: str) -> Tensor:
    given = data.features[modality]
    values = torch.from_numpy(given.values.astype(np.float64))
    if model.config.trainable_features:
        values = model.get_parameter(f"item_features_{modality}")
    present = torch.from_numpy(given.present.copy())
    rows = [values[i] if present[i] else values[present].mean(0) for i in range(data.n_items)]
    weight, bias = (model.get_parameter(f"{modality}_projection.{part}") for part in ("weight", "bias"))
    return torch.nn.functional.linear(torch.stack(rows), weight, bias)


def reference(
    model: LATTICE, data: Dataset, branch: str | None, places_of: LATTICE | None = None
) -> tuple[Tensor, ...]:
    """Served vectors with dense graphs; the neighbours are those of `places_of`'s weights."""
    held = torch.from_numpy(data.train.matrix(data.n_users, data.n_items).toarray().astype(np.float64))
    n, k = data.n_users + data.n_items, model.config.neighbours
    joint = torch.eye(n, dtype=torch.float64)
    joint[: data.n_users, data.n_users :], joint[data.n_users :, : data.n_users] = held, held.T
    layers = [torch.cat([model.user_table, model.item_table])]
    for _ in range(model.config.layers):
        layers.append(joint / joint.sum(1, keepdim=True) @ layers[-1])
    users, items = torch.stack(layers).mean(0)[: data.n_users], torch.stack(layers).mean(0)[data.n_users :]
    if branch == "id":
        return users, items
    weights = dict(zip(("audio", "image"), model.modality_weights.softmax(0), strict=True))
    if branch is not None:
        weights = {branch: torch.tensor(1.0, dtype=torch.float64)}
    raw, learned = torch.zeros(10, 10, dtype=torch.float64), torch.zeros(10, 10, dtype=torch.float64)
    for modality, weight in weights.items():
        values, present = data.features[modality].values.astype(np.float64), data.features[modality].present
        original = torch.nan_to_num(cosines(torch.from_numpy(values))) * torch.from_numpy(nearest(values, present, k))
        raw = raw + weight * laplacian(original)
        found = projected(places_of or model, data, modality).detach().numpy()
        places = torch.from_numpy(nearest(found, present, k))
        learned = learned + weight * cosines(projected(model, data, modality)) * places
    graph = (1 - model.config.skip) * laplacian(learned) + model.config.skip * raw
    content: Tensor = model.item_table
    for _ in range(model.config.item_layers):
        content = graph @ content
    content = torch.stack([row / row.norm() if row.norm().item() > 0 else row for row in content])
    return users, content if branch is not None else items + content


def reference_terms(model: LATTICE, data: Dataset, l2: float, places_of: LATTICE | None = None) -> Tensor:
    users, items = reference(model, data, None, places_of)
    terms = []
    for u, i, j in zip(*_TRIPLES, strict=True):
        gap = users[u] @ items[i] - users[u] @ items[j]
        norms = users[u].square().sum() + items[i].square().sum() + items[j].square().sum()
        terms.append(torch.log1p(torch.exp(-gap)) + 0.5 * l2 * norms)
    return torch.stack(terms)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("branch", [None, "id", "audio", "image"])
def test_vectors_from_the_equations(trained: bool, branch: str | None) -> None:
    data = random_data()
    model = made(data, trainable_features=trained)
    for found, expected in zip(model.embed(branch), reference(model, data, branch), strict=True):
        assert_allclose(found.detach(), expected.detach(), rtol=0, atol=_ROUNDING)


@pytest.mark.parametrize("trained", [False, True])
def test_loss_and_gradients_from_the_equations(trained: bool) -> None:
    data = random_data()
    model = made(data, trainable_features=trained)
    loss, terms = model.loss(*_TRIPLES, l2=0.3), reference_terms(model, data, 0.3)
    assert loss.item() == pytest.approx(terms.mean().item(), abs=_ROUNDING)
    parameters = list(model.trained.values())
    for found, wanted in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(terms.mean(), parameters), strict=True
    ):
        assert_allclose(found, wanted, rtol=0, atol=_ROUNDING)
    weights = torch.tensor([0.5, 0.0, 0.25, 2.0])
    weighted = model.loss(*_TRIPLES, l2=0.3, weights=weights)
    assert weighted.item() == pytest.approx((terms * weights).sum().item(), abs=1e-6)


def test_neighbours_are_kept_through_an_epoch_and_found_anew_in_serving() -> None:
    data = random_data()
    model, before = made(data), made(data)
    model.start_epoch([np.random.default_rng(0)])
    with torch.no_grad():
        model.get_parameter("image_projection.weight").mul_(torch.tensor([[1.0], [-3.0], [2.0]]))
        model.get_parameter("audio_projection.weight").add_(torch.eye(3))
    kept, anew = (reference_terms(model, data, 0.0, places).mean().item() for places in (before, None))
    assert abs(kept - anew) > 1e-4, "the change must matter for the test to tell"
    assert model.loss(*_TRIPLES, l2=0.0).item() == pytest.approx(kept, abs=_ROUNDING)
    assert_allclose(model.embed()[1].detach(), reference(model, data, None)[1].detach(), rtol=0, atol=_ROUNDING)
    model.start_epoch([np.random.default_rng(0)])
    assert model.loss(*_TRIPLES, l2=0.0).item() == pytest.approx(anew, abs=_ROUNDING)


def test_loss_outside_of_training_keeps_the_neighbours_of_its_first_call() -> None:
    data = random_data()
    model, before = made(data), made(data)
    model.loss(*_TRIPLES, l2=0.0)
    with torch.no_grad():
        model.get_parameter("image_projection.weight").mul_(torch.tensor([[1.0], [-3.0], [2.0]]))
    model.embed()
    kept = reference_terms(model, data, 0.0, before).mean().item()
    assert model.loss(*_TRIPLES, l2=0.0).item() == pytest.approx(kept, abs=_ROUNDING)
    for renewed in (model.on(data), model):
        renewed.start_epoch(())
        anew = reference_terms(model, data, 0.0).mean().item()
        assert renewed.loss(*_TRIPLES, l2=0.0).item() == pytest.approx(anew, abs=_ROUNDING)


def test_an_item_without_content_has_no_content_vector_and_finite_derivatives() -> None:
    data = random_data()
    model = made(data)
    assert not model.embed("image")[1][8].any()
    assert_allclose(model.embed()[1][1].detach(), model.embed("id")[1][1].detach(), atol=0)
    parameters = list(model.trained.values())
    gradients = torch.autograd.grad(model.loss(*_TRIPLES, l2=0.1), parameters, create_graph=True)
    squares = torch.stack([g.square().sum() for g in gradients]).sum()
    twice = torch.autograd.grad(squares, parameters)
    assert all(bool(torch.isfinite(g).all()) for g in (*gradients, *twice))
    assert gradients[list(model.trained).index("modality_weights")].abs().min() > 0


def test_config_names_every_problem() -> None:
    with pytest.raises(ConfigurationError) as caught:
        LATTICE.Config(factors=0, layers=-1, item_layers=0, content_factors=0, neighbours=0, skip=1.5)
    assert len(caught.value.problems) == 6
