from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from auditkit.contracts import Backbone, Recipe
from auditkit.data.dataset import Interactions, Ints
from auditkit.errors import ConfigurationError
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_data, small_request
from auditkit.unlearners.partitions import capacity_of
from auditkit.unlearners.receraser import RecEraser
from auditkit.unlearners.shard_attention import (
    AttentionFit,
    AttentiveShards,
    ShardAttention,
    as_plain,
    attention_loss,
    fit_attention,
    shard_tables,
)

_SMALL: dict[str, Any] = {"shards": 3, "rounds": 5, "attention": 4, "epochs": 3}
_GCN: dict[str, Any] = {"factors": 8, "layers": 2}


class TestRecEraser(UnlearnerTests):
    unlearner = RecEraser(**_SMALL)

    def test_pairs_fit_into_their_shards(self) -> None:
        parts = self.unlearner.parts(small_data(), self.recipe, device="cpu", rng=np.random.default_rng(0))
        assert np.bincount(parts, minlength=3).max() <= capacity_of(len(small_data().train), 3, 1.2)

    def test_a_request_for_nothing_keeps_the_aggregator(self) -> None:
        task = self.task(small_request("user"), np.empty(0, np.int64))
        parent, served = self.parent(task), self.run(task)
        assert np.array_equal(parent.score(np.arange(60)).numpy(), served.score(np.arange(60)).numpy())

    def test_the_aggregator_is_fitted_anew_on_what_is_left(self) -> None:
        task = self.task(small_request("user"))
        served = self.run(task)
        assert isinstance(served, AttentiveShards)
        rng = np.random.default_rng(5)
        rng.integers(2**31, size=3)
        again = fit_attention(
            shard_tables(served.backbones), task.retain.train, AttentionFit(4, 3, 0.005, 4096), rng=rng
        )
        for name, weight in served.attention.named_parameters():
            assert torch.equal(weight, again.get_parameter(name))

    def test_a_fresh_account_meets_the_combined_tables(self) -> None:
        task = self.task(small_request("user"))
        served = self.run(task)
        assert isinstance(served, AttentiveShards)
        users, items = shard_tables(served.backbones)
        combined = served.attention(users, "user"), served.attention(items, "item")
        plain = as_plain(served.backbones[0], *combined)
        torch.testing.assert_close(served.score(np.arange(60)), combined[0] @ combined[1].T)
        for side in ("user", "item"):
            assert torch.equal(
                served.fold_in([np.array([1, 2])], side=side), plain.fold_in([np.array([1, 2])], side=side)
            )


class TestRecEraserOfUsers(UnlearnerTests):
    unlearner = RecEraser(partition="user", **_SMALL)

    def test_shards_are_of_whole_users(self) -> None:
        _check_whole(self.unlearner, self.recipe, small_data().train.users)


class TestRecEraserOfItems(UnlearnerTests):
    unlearner = RecEraser(partition="item", **_SMALL)
    utility_band = None

    def test_shards_are_of_whole_items(self) -> None:
        _check_whole(self.unlearner, self.recipe, small_data().train.items)


class TestRecEraserOfLightGCN(UnlearnerTests):
    unlearner = RecEraser(**_SMALL, pretrain_epochs=2)
    backbone = "lightgcn"
    config = _GCN
    fit = {"epochs": 3, "learning_rate": 0.02}  # noqa: RUF012
    utility_band = None


def _check_whole(method: Any, recipe: Recipe, ids: Ints) -> None:
    parts = method.parts(small_data(), recipe, device="cpu", rng=np.random.default_rng(0))
    shards = [np.unique(parts[ids == one]) for one in np.unique(ids)]
    assert all(len(found) == 1 for found in shards)
    assert np.bincount(np.concatenate(shards), minlength=3).max() <= capacity_of(len(shards), 3, 1.2)


def _attention(n_shards: int = 3, width: int = 5, hidden: int = 4) -> ShardAttention:
    """With every parameter away from its start, so that none is idle."""
    model, rng = (
        ShardAttention(n_shards, width, hidden, rng=np.random.default_rng(0)).double(),
        np.random.default_rng(1),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(rng.standard_normal(tuple(parameter.shape))))
    return model


def _tables(n_shards: int = 3, width: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(2)
    users, items = (torch.from_numpy(rng.standard_normal((n_shards, n, width))) for n in (6, 8))
    return users, items


@pytest.mark.parametrize("side", ["user", "item"])
def test_attention_is_the_formula(side: Any) -> None:
    model, vectors = _attention(), _tables()[0]
    value = {name: p.detach().numpy() for name, p in model.named_parameters()}
    found = model(vectors, side).detach().numpy()
    for k in range(vectors.shape[1]):
        moved = [
            e[k] @ w + b for e, w, b in zip(vectors.numpy(), value["transfer"], value["transfer_bias"], strict=True)
        ]
        logit = [
            np.maximum(t @ value[f"{side}_hidden"] + value[f"{side}_bias"], 0) @ value[f"{side}_context"] for t in moved
        ]
        weight = np.exp(logit) / np.exp(logit).sum()
        np.testing.assert_allclose(found[k], sum(a * t for a, t in zip(weight, moved, strict=True)), rtol=1e-10)


def test_the_loss_is_bpr_over_combined_vectors_with_a_penalty() -> None:
    model, (users, items) = _attention(), _tables()
    batch = (np.array([0, 5, 0, 3]), np.array([1, 1, 7, 2]), np.array([4, 0, 4, 1]))
    u, i = model(users, "user"), model(items, "item")
    margin = torch.stack([u[a] @ (i[b] - i[c]) for a, b, c in zip(*batch, strict=True)])
    squares = (model.transfer**2).sum() + (model.transfer_bias**2).sum()
    naive = -torch.log(torch.sigmoid(margin)).mean() + 1e-5 * squares / 2
    torch.testing.assert_close(attention_loss(model, (users, items), batch), naive)


def test_gradients_of_the_loss_are_finite_differences() -> None:
    model, tables = _attention(), _tables()
    batch = (np.array([0, 5, 0, 3]), np.array([1, 1, 7, 2]), np.array([4, 0, 4, 1]))
    attention_loss(model, tables, batch).backward()  # type: ignore[no-untyped-call]
    rng = np.random.default_rng(3)
    for parameter in model.parameters():
        assert parameter.grad is not None
        flat, place, step = parameter.data.view(-1), int(rng.integers(parameter.numel())), 1e-6
        values = []
        for shift in (step, -2 * step):
            flat[place] += shift
            values.append(attention_loss(model, tables, batch).item())
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(
            float(parameter.grad.view(-1)[place]), rel=1e-4, abs=1e-8
        )


def test_fitting_learns_which_shard_to_hear() -> None:
    """Shard 0 knows who likes what, the others are noise."""
    rng = np.random.default_rng(0)
    users, items = rng.standard_normal((20, 6)), rng.standard_normal((30, 6))
    liked = np.argsort(-users @ items.T, axis=1)[:, :6]
    pairs = Interactions(np.repeat(np.arange(20), 6), liked.ravel())
    noise = rng.standard_normal((2, 50, 6))
    tables = [np.concatenate([t[None], n], 0) for t, n in ((users, noise[:, :20]), (items, noise[:, 20:]))]
    both = torch.from_numpy(tables[0]).float(), torch.from_numpy(tables[1]).float()
    found = [fit_attention(both, pairs, AttentionFit(4, n, 0.02, 64), rng=np.random.default_rng(1)) for n in (0, 40)]
    hits = []
    for model in found:
        best = (model(both[0], "user") @ model(both[1], "item").T).topk(6).indices.numpy()
        hits.append(np.mean([np.isin(mine, own).mean() for mine, own in zip(best, liked, strict=True)]))
    assert hits[0] < 0.5
    assert hits[1] > 0.7


def test_nothing_to_fit_on_leaves_the_aggregator_as_drawn() -> None:
    users, items = (table.float() for table in _tables())
    fitted = fit_attention(
        (users, items), Interactions.empty(), AttentionFit(4, 5, 0.1, 8), rng=np.random.default_rng(7)
    )
    drawn = ShardAttention(3, 5, 4, rng=np.random.default_rng(7))
    for name, weight in drawn.named_parameters():
        assert torch.equal(weight, fitted.get_parameter(name))


@pytest.mark.parametrize(("backbone", "config"), [("bpr-mf", {"factors": 8}), ("lightgcn", _GCN)])
def test_plain_tables_are_served_without_propagation(backbone: str, config: dict[str, Any]) -> None:
    like = Recipe.of(backbone, config).model(small_data(), 0)
    assert isinstance(like, Backbone)
    users, items = torch.randn(60, 8), torch.randn(40, 8)
    torch.testing.assert_close(as_plain(like, users, items).score(np.arange(60)), users @ items.T)


def test_backbones_without_tables_are_refused() -> None:
    reason = RecEraser().refuses(Recipe.of("vbpr"), small_request("user"))
    assert reason is not None
    assert "vbpr" in reason


def test_domains() -> None:
    with pytest.raises(ConfigurationError, match="9 problems"):
        RecEraser(0, "pair", 0.9, 0, 0, 0, 0, 0.0, 0)  # type: ignore[arg-type]
