from __future__ import annotations

import numpy as np
import pytest
import torch

from auditkit.contracts import Backbone
from auditkit.errors import ConfigurationError
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_data, small_request
from auditkit.unlearners.finetune import Finetune


class TestFinetune(UnlearnerTests):
    unlearner = Finetune(epochs=2)

    def test_only_rows_of_the_retain_set_and_its_negatives_move(self) -> None:
        """The users of a user request are in no retained pair, so their rows stay as they were."""
        task = self.task(small_request("user"))
        parent, served = self.parent(task), self.run(task)
        assert isinstance(served, Backbone)
        moved = (served.get_parameter("user_table") != parent.get_parameter("user_table")).any(1).numpy()
        assert not moved[small_request("user").users].any()
        assert moved[np.unique(task.retain.train.users)].all()

    def test_what_it_is_given_is_not_what_it_trains_on(self) -> None:
        """The forgotten pairs come up as negatives at most: another forget set changes nothing."""
        task = self.task(small_request("interaction"))
        other = self.task(small_request("interaction"))
        object.__setattr__(other, "forget", small_data().test)
        assert torch.equal(self.run(task).score(np.arange(60)), self.run(other).score(np.arange(60)))

    def test_more_epochs_go_farther(self) -> None:
        task = self.task(small_request("interaction"))
        parent = self.parent(task).score(np.arange(60))
        near, far = (self.run(task, unlearner=Finetune(epochs=n)).score(np.arange(60)) for n in (1, 10))
        assert (far - parent).norm() > (near - parent).norm() > 0


class TestFinetuneOfLightGCN(UnlearnerTests):
    unlearner = Finetune(epochs=1)
    backbone = "lightgcn"
    config = {"factors": 8, "layers": 2}  # noqa: RUF012
    fit = {"epochs": 3, "learning_rate": 0.02}  # noqa: RUF012
    utility_band = None


@pytest.mark.parametrize("options", [{"epochs": 0}, {"batch": 0}, {"learning_rate": 0.0}])
def test_domains(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="must be 1 or more"):
        Finetune(**options)  # type: ignore[arg-type]
