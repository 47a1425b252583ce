from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from auditkit.backbones.lightgcn import LightGCN
from auditkit.data.dataset import Dataset, Interactions
from auditkit.errors import ConfigurationError, NotApplicableError


def random_data(seed: int = 0, n_users: int = 7, n_items: int = 9) -> Dataset:
    mask = np.random.default_rng(seed).random((n_users, n_items)) < 0.4
    return Dataset("random", n_users, n_items, Interactions.unique(*np.nonzero(mask))[0])


def model(data: Dataset, seed: int = 0, **config: float) -> LightGCN:
    return LightGCN(data, LightGCN.Config(**{"factors": 4, **config}), rng=np.random.default_rng(seed))  # type: ignore[arg-type]


def test_start_follows_from_the_seed() -> None:
    data = random_data()
    assert torch.equal(model(data).user_table, model(data).user_table)
    assert not torch.equal(model(data).user_table, model(data, seed=1).user_table)
    wide = model(random_data(), factors=4000, init_scale=0.1)
    assert float(wide.item_table.detach().std()) == pytest.approx(0.1, rel=0.02)
    assert wide.item_table.dtype == torch.float32


def test_scores_from_the_formula() -> None:
    data = random_data()
    made = model(data, layers=2)
    held = data.train.matrix(7, 9).toarray()
    by_user, by_item = held.sum(1, keepdims=True).clip(1), held.sum(0, keepdims=True).clip(1)
    weights = held / np.sqrt(by_user * by_item)
    user, item = (t.detach().numpy() for t in (made.user_table, made.item_table))
    user_1, item_1 = weights @ item, weights.T @ user
    user_2, item_2 = weights @ item_1, weights.T @ user_1
    expected = (user + user_1 + user_2) @ (item + item_1 + item_2).T / 9
    np.testing.assert_allclose(made.score(np.arange(7)).numpy(), expected, atol=1e-6)
    pairs = torch.tensor([0, 3]), torch.tensor([8, 2])
    np.testing.assert_allclose(made.logits(*pairs).detach().numpy(), expected[[0, 3], [8, 2]], atol=1e-6)
    assert torch.equal(made.score(np.array([3, 1]), branch="id"), made.score(np.array([3, 1])))
    with pytest.raises(NotApplicableError, match="no branch 'visual'"):
        made.score(np.array([0]), branch="visual")


def test_loss_from_the_formula_and_its_weights() -> None:
    data = random_data()
    made = model(data)
    u, i, j = torch.tensor([0, 4, 4]), torch.tensor([1, 2, 3]), torch.tensor([8, 7, 8])
    gaps = (made.logits(u, i) - made.logits(u, j)).tolist()
    tables = made.user_table.detach(), made.item_table.detach()
    norms = [
        tables[0][a].square().sum() + tables[1][b].square().sum() + tables[1][c].square().sum()
        for a, b, c in zip(u, i, j, strict=True)
    ]
    terms = [math.log1p(math.exp(-g)) + 0.5 * 0.3 * float(n) for g, n in zip(gaps, norms, strict=True)]
    assert made.loss(u, i, j, l2=0.3).item() == pytest.approx(sum(terms) / 3, rel=1e-5)
    weighted = made.loss(u, i, j, l2=0.3, weights=torch.tensor([0.5, 0.0, 2.0]))
    assert weighted.item() == pytest.approx(0.5 * terms[0] + 2 * terms[2], rel=1e-5)


def test_loss_has_a_hessian() -> None:
    made = model(random_data()).double()
    u, i, j = torch.tensor([0, 4]), torch.tensor([1, 2]), torch.tensor([8, 7])
    gradient = torch.autograd.grad(made.loss(u, i, j, l2=0.1), made.item_table, create_graph=True)[0]
    product = torch.autograd.grad(gradient.sum(), made.item_table)[0]
    step = 1e-6
    with torch.no_grad():
        made.item_table.add_(step)
    ahead = torch.autograd.grad(made.loss(u, i, j, l2=0.1), made.item_table)[0]
    torch.testing.assert_close(product, (ahead - gradient.detach()) / step, rtol=1e-4, atol=1e-6)


def test_on_shares_parameters_and_rebuilds_the_graph() -> None:
    data = random_data()
    fewer = replace(data, train=data.train.take(np.arange(len(data.train) // 2)))
    made = model(data)
    before = made.score(np.arange(7))
    moved = made.on(fewer)
    assert moved.user_table is made.user_table
    assert torch.equal(made.score(np.arange(7)), before), "the original's graph was replaced"
    assert torch.equal(moved.score(np.arange(7)), model(fewer).score(np.arange(7)))
    assert not torch.equal(moved.score(np.arange(7)), before)


def test_fold_in_of_one_told_item_scores_like_that_item() -> None:
    made = model(random_data())
    _, items = made.embed()
    torch.testing.assert_close(made.fold_in([np.array([3])])[0], (items[3] @ items.T).detach())


def test_config_names_every_problem() -> None:
    with pytest.raises(ConfigurationError) as caught:
        LightGCN.Config(factors=0, layers=-1, init_scale=0.0)
    assert len(caught.value.problems) == 3


def test_the_xavier_start_is_uniform_within_its_bound() -> None:
    data = random_data(n_users=400, n_items=300)
    model = LightGCN(data, LightGCN.Config(factors=16, init="xavier"), rng=np.random.default_rng(3))
    for table, rows in ((model.user_table, 400), (model.item_table, 300)):
        bound = np.sqrt(6 / (rows + 16))
        assert table.abs().max() <= bound
        np.testing.assert_allclose(table.detach().std().item(), bound / np.sqrt(3), rtol=0.05)
