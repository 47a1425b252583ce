import numpy as np
import pytest
import torch
from auditkit_example_unlearner import RowShrink

from auditkit.contracts import Backbone, Recipe
from auditkit.errors import ConfigurationError
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_request


class TestRowShrink(UnlearnerTests):
    unlearner = RowShrink(epochs=2)
    # Its first step is the shrinking.
    one_step = RowShrink(epochs=0)

    def test_rows_move_by_the_share_of_their_pairs_that_go(self) -> None:
        task = self.task(small_request("interaction"))
        parent, served = self.parent(task), self.run(task, unlearner=RowShrink(epochs=0))
        assert isinstance(served, Backbone)
        before, after = parent.get_parameter("user_table"), served.get_parameter("user_table")
        for user in range(parent.n_users):
            share = np.mean(np.isin(task.data.train.codes(40), task.forget.codes(40))[task.data.train.users == user])
            expected = (1 - share) * before[user] + share * before.mean(0)
            torch.testing.assert_close(after[user], expected, check_dtype=False)

    def test_an_erased_user_gets_the_mean_row(self) -> None:
        task = self.task(small_request("user"))
        parent, served = self.parent(task), self.run(task, unlearner=RowShrink(epochs=0))
        assert isinstance(served, Backbone)
        rows = served.get_parameter("user_table")[task.request.users.copy()]
        mean = parent.get_parameter("user_table").mean(0)
        torch.testing.assert_close(rows, mean.expand_as(rows))

    def test_a_closed_form_is_refused(self) -> None:
        reason = self.unlearner.refuses(Recipe.of("ease"), small_request("user"))
        assert "not trained by gradient steps" in (reason or "")


class TestRowShrinkOfLightGCN(UnlearnerTests):
    unlearner = RowShrink(epochs=1)
    backbone = "lightgcn"
    config = {"factors": 8, "layers": 2}  # noqa: RUF012
    fit = {"epochs": 3, "learning_rate": 0.02}  # noqa: RUF012
    utility_band = None


@pytest.mark.parametrize("options", [{"epochs": -1}, {"batch": 0}, {"learning_rate": 0.0}])
def test_domains(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="learning_rate above 0"):
        RowShrink(**options)  # type: ignore[arg-type]
