from __future__ import annotations

import numpy as np
import pytest

from auditkit.attacks.withdrawn_branch import BranchPairs, WithdrawnBranch
from auditkit.contracts import Backbone
from auditkit.errors import NotApplicableError
from auditkit.testing import AttackTests, ProbeTests
from auditkit.testing.examples import OffersNothing, small_case, small_systems


class TestBranchPairs(ProbeTests):
    probe = BranchPairs()
    regimes = ("modality",)

    def test_against_numpy(self) -> None:
        case, model = small_case("modality"), small_systems("modality")[0][1]
        assert isinstance(model, Backbone)
        points = self.points(case)
        scores = model.score(np.arange(model.n_users), branch="text").double().numpy()
        users, items = points["user"].to_numpy(), points["item"].to_numpy()
        expected = (scores[users, items] - scores.mean(1)[users]) / scores.std(1)[users]
        np.testing.assert_allclose(self.read(model, case)["z"], expected, rtol=1e-9)

    def test_other_requests_have_no_withdrawn_branch(self) -> None:
        with pytest.raises(NotApplicableError, match="withdraws no modality"):
            self.points(small_case("item"))

    def test_a_system_that_offers_nothing(self) -> None:
        """The kit's silent system has no branches, which is said; it is not read as silence."""
        case = small_case("modality")
        with pytest.raises(NotApplicableError, match="no branch for: text"):
            self.read(OffersNothing(60, 40), case)


class TestWithdrawnBranch(AttackTests):
    attack = WithdrawnBranch()
    regimes = ("modality",)
