from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor

from auditkit.backbones.bm3 import BM3
from auditkit.contracts import Backbone
from auditkit.data.dataset import Dataset, Features, Interactions
from auditkit.errors import ConfigurationError
from auditkit.testing import MultimodalTests
from auditkit.testing.multimodal import without

_ABSENT = np.array([1, 6])
_TRIPLES = (torch.tensor([0, 3, 3, 2]), torch.tensor([1, 0, 8, 4]), torch.tensor([5, 6, 7, 3]))


class TestBM3(MultimodalTests):
    backbone = BM3
    config = {"factors": 8}  # noqa: RUF012
    fit = {"epochs": 15, "learning_rate": 0.02, "batch": 256, "l2": 0.01}  # noqa: RUF012

    def loss_of(self, model: Backbone) -> Tensor:
        """With the targets of a model's first call: where gradients stop, a loss is no function of the parameters."""
        held: list[Tensor] = list(getattr(model, "held_targets", ()))
        first = not held

        def target(x: Tensor, sizes: list[int]) -> Tensor:
            if first:
                held.append(x.detach().clone())
                return held[-1]
            return held.pop(0)

        with mock.patch.object(model, "_target", target):
            loss = super().loss_of(model)
        if first:
            model.held_targets = held  # type: ignore[assignment]
        return loss

    def test_features_matter(self) -> None:
        """In training and in their own branch; the score reads none, as published."""
        model = self.trained
        served = model.on(without(self.data, "image", np.arange(self.data.n_items), 0.0))
        assert_array_equal(self.scores(model), self.scores(served))
        users = np.arange(self.data.n_users)
        assert not torch.equal(model.score(users, branch="image"), served.score(users, branch="image"))
        other = self.fitted((without(self.data, "image", np.arange(self.data.n_items), 0.0), 3))[0]
        assert not np.array_equal(self.scores(model), self.scores(other))


def random_data(n_users: int = 7, n_items: int = 10) -> Dataset:
    """Two modalities of unequal width, users and items without pairs, absent rows of NaN in one modality.

    The features are eighths, and 8 rows are present, so that their mean is exact in single precision too.
    """
    rng = np.random.default_rng(0)
    mask = rng.random((n_users, n_items)) < 0.4
    mask[2] = mask[:, 4] = False
    audio, image = ((rng.integers(-9, 9, size=(n_items, width)) / 8).astype(np.float32) for width in (3, 5))
    present = ~np.isin(np.arange(n_items), _ABSENT)
    audio[_ABSENT] = np.nan
    features = {"audio": Features(audio, present), "image": Features(image, np.ones(n_items, np.bool_))}
    return Dataset("random", n_users, n_items, Interactions.unique(*np.nonzero(mask))[0], features=features)


def made(data: Dataset, *, trained: bool = True, layers: int = 2) -> BM3:
    """A small model in double precision; biases, which start at 0, are drawn."""
    config = BM3.Config(factors=4, layers=layers, trainable_features=trained)
    model = BM3(data, config, rng=np.random.default_rng(5)).double()
    draw = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter.data, generator=draw)
    return model


def online(model: BM3, data: Dataset) -> tuple[Tensor, Tensor]:
    """Propagated vectors from a dense graph."""
    held = torch.from_numpy(data.train.matrix(data.n_users, data.n_items).toarray().astype(np.float64))
    scale = (held.sum(1, keepdim=True) * held.sum(0)).clamp_min(1).sqrt()
    users: list[Tensor] = [model.user_table]
    items: list[Tensor] = [model.item_table]
    for _ in range(model.config.layers):
        users, items = [*users, held / scale @ items[-1]], [*items, (held / scale).T @ users[-1]]
    return torch.stack(users).mean(0), torch.stack(items).mean(0) + model.item_table


def content(model: BM3, data: Dataset, modality: str) -> Tensor:
    """W f + b, item by item."""
    given = data.features[modality]
    values = torch.from_numpy(given.values.astype(np.float64))
    if model.config.trainable_features:
        values = model.get_parameter(f"item_features_{modality}")
    present = torch.from_numpy(given.present.copy())
    weight, bias = (model.get_parameter(f"{modality}_projection.{part}") for part in ("weight", "bias"))
    rows = [values[i] if present[i] else values[present].mean(0) for i in range(data.n_items)]
    return torch.stack([weight @ row + bias for row in rows])


def predicted(model: BM3, x: Tensor) -> Tensor:
    weight, bias = (model.get_parameter(f"predictor.{part}") for part in ("weight", "bias"))
    return torch.nn.functional.linear(x, weight, bias)


def reference_loss(model: BM3, data: Dataset, l2: float, rng: np.random.Generator | None) -> list[Tensor]:
    """The terms of the triples, one by one from the equations, and the L2 term last."""
    users, positives, _ = _TRIPLES
    hu, hi = online(model, data)

    def target(x: Tensor) -> Tensor:
        if rng is None:
            return x.detach()
        kept = rng.random(tuple(x.shape), np.float32) >= model.config.dropout
        return torch.div(x.detach() * torch.from_numpy(kept), 1 - model.config.dropout)

    item_target, user_target = target(hi[positives]), target(hu[users])
    terms = []
    contents = {m: content(model, data, m)[positives] for m in ("audio", "image")}
    content_targets = {m: target(c) for m, c in contents.items()}
    for k in range(len(users)):
        term = 2 - cosine(predicted(model, hu[users[k]]), item_target[k])
        term = term - cosine(predicted(model, hi[positives[k]]), user_target[k])
        for m in ("audio", "image"):
            own = predicted(model, contents[m][k])
            aligned = 2 - cosine(own, item_target[k]) - cosine(own, content_targets[m][k])
            term = term + model.config.content_weight * aligned
        terms.append(term)
    return [*terms, l2 * (hu.square().sum().sqrt() + hi.square().sum().sqrt()) / data.n_items]


def cosine(one: Tensor, other: Tensor) -> Tensor:
    lengths = one.norm() * other.norm()
    return one @ other / lengths if lengths.item() > 0 else one.sum() * 0


@pytest.mark.parametrize("trained", [False, True])
def test_vectors_from_the_equations(trained: bool) -> None:
    data = random_data()
    model = made(data, trained=trained)
    users, items = (predicted(model, x) for x in online(model, data))
    for branch in (None, "id"):
        for found, expected in zip(model.embed(branch), (users, items), strict=True):
            assert_allclose(found.detach(), expected.detach(), rtol=0, atol=1e-8)
    for modality in ("audio", "image"):
        expected = predicted(model, content(model, data, modality))
        assert_allclose(model.embed(modality)[0].detach(), users.detach(), rtol=0, atol=1e-8)
        assert_allclose(model.embed(modality)[1].detach(), expected.detach(), rtol=0, atol=1e-8)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("dropped", [False, True])
def test_loss_and_gradients_from_the_equations(trained: bool, dropped: bool) -> None:
    data = random_data()
    model = made(data, trained=trained)
    model.start_epoch([np.random.default_rng(8)] if dropped else [])
    expected = reference_loss(model, data, 0.3, np.random.default_rng(8) if dropped else None)
    loss, total = model.loss(*_TRIPLES, l2=0.3), torch.stack(expected[:-1]).mean() + expected[-1]
    assert loss.item() == pytest.approx(total.item(), abs=1e-8)
    trained_parameters = list(model.trained.values())
    gradients = [torch.autograd.grad(value, trained_parameters) for value in (loss, total)]
    for found, wanted in zip(*gradients, strict=True):
        assert_allclose(found, wanted, rtol=0, atol=1e-8)


def test_weights_and_what_is_not_read() -> None:
    data = random_data()
    model = made(data).eval()
    model.start_epoch([np.random.default_rng(8)])
    terms = reference_loss(model, data, 0.3, None)
    weights = torch.tensor([0.5, 0.0, 0.25, 2.0])
    found = model.loss(_TRIPLES[0], _TRIPLES[1], _TRIPLES[2].flip(0), l2=0.3, weights=weights)
    expected = sum(float(w) * t.item() for w, t in zip(weights, terms, strict=False)) + terms[-1].item()
    assert found.item() == pytest.approx(expected, abs=1e-8), "dropout in evaluation, or negatives were read"


def test_no_gradient_flows_into_targets() -> None:
    """A user is moved by the term that predicts from the user, and not by the one that the user is the target of."""
    data = random_data()
    model = made(data, layers=0)
    online_gradient = torch.autograd.grad(model.loss(*_TRIPLES, l2=0.0), model.user_table)[0]
    moved = torch.tensor(0.0, dtype=torch.float64)
    for user, item in zip(_TRIPLES[0], _TRIPLES[1], strict=True):
        moved = moved - cosine(predicted(model, model.user_table[user]), 2 * model.item_table[item].detach()) / 4
    assert_allclose(online_gradient, torch.autograd.grad(moved, model.user_table)[0], rtol=0, atol=1e-8)


def test_content_of_zeros_has_finite_derivatives() -> None:
    data = random_data()
    features = {"image": Features(np.zeros((10, 5), np.float32), np.ones(10, np.bool_))}
    empty = Dataset("zeros", 7, 10, data.train, features=features)
    model = BM3(empty, BM3.Config(factors=4, trainable_features=False), rng=np.random.default_rng(5))
    gradients = torch.autograd.grad(model.loss(*_TRIPLES, l2=0.1), list(model.trained.values()), create_graph=True)
    squares = torch.stack([g.square().sum() for g in gradients]).sum()
    twice = torch.autograd.grad(squares, list(model.trained.values()))
    assert all(bool(torch.isfinite(g).all()) for g in (*gradients, *twice))


def test_config_names_every_problem() -> None:
    with pytest.raises(ConfigurationError) as caught:
        BM3.Config(factors=0, layers=-1, dropout=1.0, content_weight=-1.0)
    assert len(caught.value.problems) == 4
