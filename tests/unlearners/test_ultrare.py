from __future__ import annotations

import numpy as np
import pytest

from auditkit.contracts import Recipe
from auditkit.data.dataset import Ints
from auditkit.errors import ConfigurationError
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_data, small_request
from auditkit.unlearners.partitions import Side, random_parts
from auditkit.unlearners.sharding import pretrained
from auditkit.unlearners.ultrare import UltraRE


class TestUltraRE(UnlearnerTests):
    unlearner = UltraRE(shards=3)

    def test_shards_are_of_whole_users_and_equal(self) -> None:
        data = small_data()
        parts = UltraRE(shards=7).parts(data, self.recipe, device="cpu", rng=np.random.default_rng(0))
        of_user = [np.unique(parts[data.train.users == user]) for user in np.unique(data.train.users)]
        assert all(len(shards) == 1 for shards in of_user)
        assert np.bincount(np.concatenate(of_user), minlength=7).max() <= -(-len(of_user) // 7)

    def test_users_of_a_shard_are_more_alike_than_at_random(self) -> None:
        data, recipe = small_data(), Recipe.of("bpr-mf", {"factors": 16}, {"epochs": 60})
        vectors, _ = pretrained(data, recipe, 60, device="cpu", seed=0)
        method = UltraRE(shards=4, pretrain_epochs=60)
        parts = method.parts(data, recipe, device="cpu", rng=np.random.default_rng(0))
        users, first = np.unique(data.train.users, return_index=True)

        def within(groups: Ints) -> float:
            side = Side(vectors, users)
            return float(side.distances(side.means(groups, np.zeros((4, 16))))[np.arange(len(users)), groups].sum())

        chance = [within(random_parts(len(users), 4, np.random.default_rng(s))) for s in range(20)]
        assert within(parts[first]) < min(chance)

    def test_each_user_is_scored_by_her_own_shard(self) -> None:
        model = self.unlearner.train(small_data(), self.recipe, device="cpu", seed=0)
        for part in model.backbones:
            users = np.unique(part.data.train.users)
            np.testing.assert_allclose(model.score(users), part.score(users), rtol=1e-4, atol=1e-6)


class TestUltraREOfLightGCN(UnlearnerTests):
    unlearner = UltraRE(shards=3, rounds=3, pretrain_epochs=2)
    backbone = "lightgcn"
    config = {"factors": 8, "layers": 2}  # noqa: RUF012
    fit = {"epochs": 3, "learning_rate": 0.02}  # noqa: RUF012
    utility_band = None


def test_backbones_without_user_tables_are_refused() -> None:
    reason = UltraRE().refuses(Recipe.of("neumf"), small_request("user"))
    assert reason is not None
    assert "neumf is not of that kind" in reason


def test_domains() -> None:
    with pytest.raises(ConfigurationError, match="3 problems"):
        UltraRE(shards=0, rounds=0, pretrain_epochs=0)
