from __future__ import annotations

import pytest

from auditkit.errors import ConfigurationError
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_request
from auditkit.testing.unlearners import forget_margin
from auditkit.unlearners.reverse_bpr import ReverseBPR

# A batch that holds every pair makes one epoch one step.
_ONE_STEP = ReverseBPR(epochs=1, batch=10**6, forget_batch=10**6)


class TestReverseBPR(UnlearnerTests):
    unlearner = ReverseBPR(epochs=2, batch=256, forget_batch=64)
    one_step = _ONE_STEP
    utility_band = (0.6, 1.2)

    def test_a_heavier_reverse_term_pushes_farther(self) -> None:
        task = self.task(small_request("interaction"))
        margins = [
            forget_margin(self.run(task, unlearner=ReverseBPR(epochs=5, batch=256, forget_weight=w)), task)
            for w in (0.0, 1.0, 4.0)
        ]
        assert margins[0] > margins[1] > margins[2]


class TestReverseBPROfLightGCN(UnlearnerTests):
    unlearner = ReverseBPR(epochs=1)
    one_step = _ONE_STEP
    backbone = "lightgcn"
    config = {"factors": 8, "layers": 2}  # noqa: RUF012
    fit = {"epochs": 3, "learning_rate": 0.02}  # noqa: RUF012
    utility_band = None


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"batch": 0}, {"forget_batch": 0}, {"learning_rate": -1.0}, {"forget_weight": -0.1}]
)
def test_domains(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="learning_rate above 0"):
        ReverseBPR(**options)  # type: ignore[arg-type]
