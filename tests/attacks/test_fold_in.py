from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from auditkit.attacks.fold_in import FoldIn, FoldInAttack
from auditkit.contracts import Backbone
from auditkit.errors import NotApplicableError
from auditkit.testing import AttackTests, ProbeTests
from auditkit.testing.examples import small_case, small_systems


class TestFoldInAttack(AttackTests):
    attack = FoldInAttack()


class TestFoldInProbe(ProbeTests):
    probe = FoldIn()
    regimes = ("user", "item")

    def test_interaction_requests_name_no_account(self) -> None:
        with pytest.raises(NotApplicableError, match="whole users or items"):
            self.points(small_case("interaction"))

    def test_half_of_each_unit_is_told(self) -> None:
        for case, _, _ in self.examples():
            points, pairs = self.points(case), case.pairs()
            sizes = pairs[case.forget[pairs["unit"]]].groupby("unit").size()
            assert set(points["unit"]) == set(sizes[sizes >= 4].index)
            told = points.groupby("unit")["told"].sum()
            assert (told == sizes[told.index] // 2).all()

    def test_told_points_read_nan_and_asked_ones_do_not(self) -> None:
        for case, original, _ in self.examples():
            points = self.points(case)
            assert np.array_equal(np.isnan(self.read(original, case)["z"]), points["told"].to_numpy())

    def test_user_side_against_a_loop(self) -> None:
        case, model = small_case("user"), _original("user")
        points = self.points(case)
        found = self.read(model, case)["z"]
        units = points["unit"].unique()
        histories = [points.loc[(points["unit"] == u) & points["told"], "item"].to_numpy() for u in units]
        rows = model.fold_in(histories).double().numpy()
        for k, unit in enumerate(units):
            mine = (points["unit"] == unit) & ~points["told"]
            row = rows[k]
            assert_allclose(found[mine], (row[points["item"][mine]] - row.mean()) / row.std(), rtol=1e-9)

    def test_item_side_against_a_loop(self) -> None:
        case, model = small_case("item"), _original("item")
        points = self.points(case)
        found = self.read(model, case)
        units = points["unit"].unique()
        histories = [points.loc[(points["unit"] == u) & points["told"], "user"].to_numpy() for u in units]
        fresh = model.fold_in(histories, side="item").double().numpy()
        rows = model.score(np.arange(model.n_users)).double().numpy()
        others = np.delete(rows, case.request.items, axis=1)
        for k, unit in enumerate(units):
            mine = (points["unit"] == unit) & ~points["told"]
            users = points["user"][mine].to_numpy()
            column = (fresh[k, users] - fresh[k].mean()) / fresh[k].std()
            row = (fresh[k, users] - others[users].mean(1)) / others[users].std(1)
            assert_allclose(found["z"][mine], column, rtol=1e-9)
            assert_allclose(found["row"][mine], row, rtol=1e-9)

    def test_a_system_without_fresh_accounts_is_refused(self) -> None:
        class Scores:
            n_users, n_items = 60, 40
            score = staticmethod(_original("user").score)

        case = small_case("user")
        with pytest.raises(NotApplicableError, match="no fold_in"):
            self.read(Scores(), case)


def _original(regime: str) -> Backbone:
    model = small_systems(regime)[0][1]
    assert isinstance(model, Backbone)
    return model
