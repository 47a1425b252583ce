from __future__ import annotations

import numpy as np

from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_request
from auditkit.unlearners.gold import Gold


class TestGold(UnlearnerTests):
    unlearner = Gold()

    def test_it_is_training_on_the_retain_set(self) -> None:
        task = self.task(small_request("user"))
        served = self.run(task, seed=5)
        seed = int(np.random.default_rng(5).integers(2**31))
        again = task.recipe.architecture().fit([(task.retain, seed)], task.recipe, device="cpu")[0]
        users = np.arange(served.n_users)
        assert np.array_equal(served.score(users).numpy(), again.score(users).numpy())


class TestGoldOfLightGCN(UnlearnerTests):
    unlearner = Gold()
    backbone = "lightgcn"
    config = {"factors": 8, "layers": 2}  # noqa: RUF012
    fit = {"epochs": 3, "learning_rate": 0.02}  # noqa: RUF012
    utility_band = None
