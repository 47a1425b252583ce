from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss
from torch.nn.functional import cross_entropy, linear

from auditkit.backbones.layers import (
    Dense,
    bpr,
    drawn,
    drawn_together,
    embedding_norms,
    info_nce,
    triple_squares,
    unit_rows,
    weighted_mean,
)


@pytest.mark.parametrize(
    ("start", "expected"),
    [("xavier-uniform", 2 / 600), ("xavier-normal", 2 / 600), ("normal", 0.01), ("torch", 1 / 300)],
)
def test_starts_have_their_variance(start: str, expected: float) -> None:
    values = drawn(np.random.default_rng(0), (500, 100), start).detach().numpy()  # type: ignore[arg-type]
    assert values.dtype == np.float32
    assert values.mean() == pytest.approx(0, abs=4 * np.sqrt(expected / values.size))
    assert values.var() == pytest.approx(expected, rel=0.03)
    if start in ("xavier-uniform", "torch"):
        assert np.abs(values).max() <= np.sqrt(3 * expected) * 1.0001


def test_equal_generators_draw_alike() -> None:
    one, other = (Dense(4, 3, rng=np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(one.weight, other.weight)
    assert one.bias is not None
    assert other.bias is not None
    assert torch.equal(one.bias, other.bias)


def test_xavier_layers_start_without_bias() -> None:
    layer = Dense(4, 3, rng=np.random.default_rng(0), start="xavier-normal")
    assert layer.bias is not None
    assert not layer.bias.any()
    assert Dense(4, 3, rng=np.random.default_rng(0), bias=False).bias is None


@pytest.mark.parametrize("bias", [True, False])
def test_stacked_layers_are_the_members_own(bias: bool) -> None:
    layers = [Dense(4, 3, rng=np.random.default_rng(k), bias=bias) for k in range(3)]
    stacked = Dense(4, 3, rng=np.random.default_rng(9), members=3, bias=bias)
    with torch.no_grad():
        for name, parameter in stacked.named_parameters():
            parameter.copy_(torch.cat([layer.get_parameter(name) for layer in layers]))
    equal, unequal = torch.randn(3, 5, 4), [torch.randn(n, 4) for n in (2, 0, 6)]
    apart = torch.cat([layer(x) for layer, x in zip(layers, equal, strict=True)])
    torch.testing.assert_close(stacked(equal.reshape(15, 4)), apart)
    apart = torch.cat([layer(x) for layer, x in zip(layers, unequal, strict=True)])
    torch.testing.assert_close(stacked(torch.cat(unequal), [2, 0, 6]), apart)


def test_one_member_is_a_linear_layer() -> None:
    layer, x = Dense(4, 3, rng=np.random.default_rng(0)), torch.randn(7, 4)
    torch.testing.assert_close(layer(x), linear(x, layer.weight, layer.bias))


@given(st.integers(0, 1000), st.integers(1, 30))
def test_bpr_is_the_log_loss_of_the_difference(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    positive, negative = rng.normal(size=(2, n)) * 3
    chances = 1 / (1 + np.exp(negative - positive))
    expected = log_loss(np.ones(n), np.column_stack([1 - chances, chances]), labels=[0, 1])
    tensors = torch.from_numpy(positive), torch.from_numpy(negative)
    assert float(bpr(*tensors, None)) == pytest.approx(expected, abs=1e-10)
    assert float(bpr(*tensors, torch.full((n,), 1 / n, dtype=torch.float64))) == pytest.approx(expected, abs=1e-10)


def test_bpr_of_huge_differences_is_finite() -> None:
    assert float(bpr(torch.tensor([-1e4]), torch.tensor([1e4]), None)) == pytest.approx(2e4)


def test_members_means_are_added() -> None:
    terms = torch.arange(6.0)
    weights = torch.tensor([1 / 2, 1 / 2, 1 / 4, 1 / 4, 1 / 4, 1 / 4])
    assert float(weighted_mean(terms, weights)) == pytest.approx(0.5 + 3.5)
    assert float(weighted_mean(terms, None)) == pytest.approx(2.5)


def test_embedding_norms_are_not_squared() -> None:
    one, other = torch.randn(5, 3), torch.randn(5, 3)
    expected = sum(np.linalg.norm(t[:2].numpy()) for t in (one, other)) / 2
    expected += sum(np.linalg.norm(t[2:].numpy()) for t in (one, other)) / 3
    assert float(embedding_norms([one, other], [2, 3])) == pytest.approx(expected, rel=1e-6)


@given(st.integers(0, 1000), st.integers(1, 12), st.floats(0.05, 2))
def test_info_nce_is_the_cross_entropy_of_cosines(seed: int, n: int, temperature: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    one, other = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    cosines = torch.nn.functional.cosine_similarity(one[:, None], other[None], dim=-1)
    expected = cross_entropy(cosines / temperature, torch.arange(n))
    torch.testing.assert_close(info_nce(one, other, temperature), expected, rtol=1e-10, atol=1e-10)


def test_tables_drawn_together_start_as_one() -> None:
    one = drawn(np.random.default_rng(5), (7, 3), "xavier-normal")
    users, items = drawn_together(np.random.default_rng(5), (4, 3), 3, "xavier-normal")
    assert torch.equal(torch.cat([users, items]), one)
    assert users.is_leaf
    assert users.untyped_storage().data_ptr() != items.untyped_storage().data_ptr()


def test_unit_rows_equal_normalize_and_keep_zeros() -> None:
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    torch.testing.assert_close(unit_rows(x), torch.nn.functional.normalize(x), rtol=0, atol=1e-14)
    assert torch.autograd.gradcheck(unit_rows, (x,))
    assert torch.autograd.gradgradcheck(unit_rows, (x,))
    assert torch.equal(unit_rows(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_triple_squares_equal_the_mean_over_components_of_repeated_users() -> None:
    draw = torch.Generator().manual_seed(0)
    tables = torch.randn(4, 3, generator=draw), torch.randn(5, 3, generator=draw)
    users, positives, negatives = torch.tensor([0, 3, 3]), torch.tensor([1, 2, 1]), torch.tensor([4, 0, 0])
    items = torch.stack([positives, negatives], 1).flatten()
    expected = (tables[0][users.repeat_interleave(2)] ** 2 + tables[1][items] ** 2).mean()
    torch.testing.assert_close(triple_squares(tables, users, positives, negatives).mean(), expected)
