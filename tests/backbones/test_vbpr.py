from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from auditkit.backbones.vbpr import VBPR
from auditkit.data.dataset import Dataset, Features, Interactions
from auditkit.errors import ConfigurationError
from auditkit.testing import MultimodalTests

_ABSENT = np.array([1, 6])


class TestVBPR(MultimodalTests):
    backbone = VBPR
    config = {"factors": 8}  # noqa: RUF012
    fit = {"epochs": 15, "learning_rate": 0.02, "batch": 256, "l2": 0.01}  # noqa: RUF012


def random_data() -> Dataset:
    """Two modalities of unequal width, users and items without pairs, absent rows of NaN in one modality.

    Features are integers and eight of ten rows are present, so that their mean is exact in single precision too.
    """
    rng, n_users, n_items = np.random.default_rng(0), 7, 10
    mask = rng.random((n_users, n_items)) < 0.4
    mask[2] = mask[:, 4] = False
    audio, image = (rng.integers(-3, 4, size=(n_items, width)).astype(np.float32) for width in (3, 5))
    present = ~np.isin(np.arange(n_items), _ABSENT)
    audio[_ABSENT] = np.nan
    features = {"audio": Features(audio, present), "image": Features(image, np.ones(n_items, np.bool_))}
    return Dataset("random", n_users, n_items, Interactions.unique(*np.nonzero(mask))[0], features=features)


def made(data: Dataset, *, trained: bool = False) -> VBPR:
    """A small model in double precision; the bias, which starts at 0, is drawn."""
    config = VBPR.Config(factors=4, trainable_features=trained)
    model = VBPR(data, config, rng=np.random.default_rng(5)).double()
    torch.nn.init.normal_(model.get_parameter("projection.bias").data, generator=torch.Generator().manual_seed(1))
    return model


def reference(model: VBPR, data: Dataset) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """User vectors, item vectors and each modality's part of the projection, item by item, from the formula."""
    state = {name: p.detach().numpy() for name, p in model.named_parameters()}
    weight, bias = state["projection.weight"], state["projection.bias"]
    content = {}
    for modality, columns in (("audio", slice(0, 3)), ("image", slice(3, 8))):
        given = data.features[modality]
        values = state.get(f"item_features_{modality}", given.values.astype(np.float64))
        rows = [values[i] if given.present[i] else values[given.present].mean(0) for i in range(data.n_items)]
        content[modality] = np.stack([weight[:, columns] @ row for row in rows])
    items = [
        np.concatenate([state["item_table"][i], content["audio"][i] + content["image"][i] + bias])
        for i in range(data.n_items)
    ]
    return state["user_table"], np.stack(items), content


@pytest.mark.parametrize("trained", [False, True])
def test_scores_from_the_formula(trained: bool) -> None:
    data = random_data()
    model = made(data, trained=trained)
    users, items, content = reference(model, data)
    everyone = np.arange(data.n_users)
    assert_allclose(model.score(everyone).numpy(), users @ items.T, atol=1e-8)
    for modality in ("audio", "image"):
        found = model.score(everyone, branch=modality).numpy()
        assert_allclose(found, users[:, 4:] @ content[modality].T, atol=1e-8)
    assert_allclose(model.score(everyone, branch="id").numpy(), users[:, :4] @ items[:, :4].T, atol=1e-8)


def test_branches_and_the_bias_add_up_to_the_score() -> None:
    data = random_data()
    model = made(data)
    everyone = np.arange(data.n_users)
    parts = sum(model.score(everyone, branch=branch) for branch in model.branches)
    bias = model.user_table.detach()[:, 4:] @ model.get_parameter("projection.bias").detach()
    assert_allclose((parts + bias[:, None]).numpy(), model.score(everyone).numpy(), atol=1e-12)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_from_the_formula(trained: bool, weighted: bool) -> None:
    data = random_data()
    model = made(data, trained=trained)
    users, items, _ = reference(model, data)
    u, i, j = np.array([0, 4, 4, 2]), np.array([1, 2, 6, 1]), np.array([8, 7, 1, 4])
    counts = np.array([0.1, 0.2, 0.3, 0.4]) if weighted else np.full(4, 0.25)
    gaps = [users[a] @ items[b] - users[a] @ items[c] for a, b, c in zip(u, i, j, strict=True)]
    ranking = sum(w * math.log1p(math.exp(-gap)) for w, gap in zip(counts, gaps, strict=True))
    norms = sum(math.sqrt((table**2).sum()) for table in (users[u], items[i], items[j])) / 4
    ids = (torch.from_numpy(a) for a in (u, i, j))
    given = torch.from_numpy(counts) if weighted else None
    found = float(model.loss(*ids, l2=0.3, weights=given).detach())
    assert found == pytest.approx(ranking + 0.3 * norms, abs=1e-8)


def test_start_follows_the_published_one() -> None:
    text = Features(np.ones((500, 400), np.float32), np.ones(500, np.bool_))
    wide = Dataset("wide", 300, 500, Interactions.empty(), features={"text": text})
    model = VBPR(wide, VBPR.Config(), rng=np.random.default_rng(0))
    for name, rows, width in (("user_table", 300, 128), ("item_table", 500, 64)):
        table = model.get_parameter(name).detach()
        bound = math.sqrt(6 / (rows + width))
        assert table.shape == (rows, width)
        assert 0.99 * bound < float(table.abs().max()) <= bound
    weight = model.get_parameter("projection.weight").detach()
    assert float(weight.std()) == pytest.approx(math.sqrt(2 / 464), rel=0.02)
    assert not model.get_parameter("projection.bias").detach().any()


def test_frozen_features_are_no_parameters_and_trained_ones_learn() -> None:
    data = random_data()
    assert set(made(data).trained) == {"user_table", "item_table", "projection.weight", "projection.bias"}
    model = made(data, trained=True)
    model.loss(*(torch.tensor(ids) for ids in ([0, 1], [1, 2], [3, 3])), l2=0.0).backward()  # type: ignore[no-untyped-call]
    image, audio = (model.get_parameter(f"item_features_{m}").grad for m in ("image", "audio"))
    assert image is not None
    assert audio is not None
    assert torch.nonzero(image.abs().sum(1)).flatten().tolist() == [1, 2, 3]
    # Item 1 has no sound: it reads, and so moves, the mean of the items that have.
    assert not audio[torch.from_numpy(_ABSENT)].any()
    assert bool(audio[[0, 4]].any())


def test_an_item_that_loses_all_content_keeps_its_id_half() -> None:
    data = random_data()
    gone = replace(data, features={m: Features(f.values, np.zeros(10, np.bool_)) for m, f in data.features.items()})
    model = made(data)
    everyone = np.arange(data.n_users)
    bias = model.user_table.detach()[:, 4:] @ model.get_parameter("projection.bias").detach()
    expected = model.score(everyone, branch="id") + bias[:, None]
    assert_allclose(model.on(gone).double().score(everyone).numpy(), expected.numpy(), atol=1e-12)


def test_factors_have_a_domain() -> None:
    with pytest.raises(ConfigurationError, match="factors must be 1 or more, got 0"):
        VBPR.Config(factors=0)
