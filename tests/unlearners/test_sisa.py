from __future__ import annotations

import numpy as np
import pytest

from auditkit.contracts import Recipe
from auditkit.errors import ConfigurationError
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_data
from auditkit.unlearners.sharding import shard_seeds
from auditkit.unlearners.sisa import SISA


class TestSISA(UnlearnerTests):
    unlearner = SISA(shards=3)

    def test_one_shard_is_plain_training_with_its_seed(self) -> None:
        data, plain = small_data(), Recipe.of("bpr-mf", self.config, self.fit)
        alone = SISA(shards=1).train(data, plain, device="cpu", seed=4)
        rng = np.random.default_rng(4)
        rng.permutation(len(data.train))
        same = plain.train(data, shard_seeds(rng, 1)[0], device="cpu")
        assert np.array_equal(alone.score(np.arange(60)).numpy(), same.score(np.arange(60)).numpy())

    def test_pairs_are_dealt_out_evenly(self) -> None:
        parts = SISA(shards=7).parts(small_data(), self.recipe, device="cpu", rng=np.random.default_rng(0))
        sizes = np.bincount(parts, minlength=7)
        assert sizes.max() - sizes.min() <= 1


class TestSISAOfUsers(UnlearnerTests):
    unlearner = SISA(shards=3, partition="user")

    def test_each_user_is_in_one_shard_and_scored_by_it(self) -> None:
        model = self.unlearner.train(small_data(), self.recipe, device="cpu", seed=0)
        held = [np.unique(part.data.train.users) for part in model.backbones]
        assert sum(map(len, held)) == len(np.unique(small_data().train.users))
        assert max(map(len, held)) - min(map(len, held)) <= 1
        for part, users in zip(model.backbones, held, strict=True):
            np.testing.assert_allclose(model.score(users), part.score(users), rtol=1e-4, atol=1e-6)


class TestSISAOfLightGCN(UnlearnerTests):
    unlearner = SISA(shards=3)
    backbone = "lightgcn"
    config = {"factors": 8, "layers": 2}  # noqa: RUF012
    fit = {"epochs": 3, "learning_rate": 0.02}  # noqa: RUF012
    utility_band = None


class TestSISAOfFeatures(UnlearnerTests):
    """Any backbone will do: nothing but its scores is used."""

    unlearner = SISA(shards=3)
    backbone = "vbpr"
    config = {"factors": 8}  # noqa: RUF012
    fit = {"epochs": 3, "learning_rate": 0.02}  # noqa: RUF012
    utility_band = None


def test_domains() -> None:
    with pytest.raises(ConfigurationError, match="2 problems") as caught:
        SISA(shards=0, partition="item")  # type: ignore[arg-type]
    assert "partition must be one of interaction, user, got 'item'" in str(caught.value)
