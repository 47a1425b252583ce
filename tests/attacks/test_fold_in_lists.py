from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from auditkit.attacks.fold_in_lists import FoldInLists, FoldInListsAttack
from auditkit.contracts import Access
from auditkit.errors import NotApplicableError
from auditkit.testing import AttackTests, ProbeTests
from auditkit.testing.examples import small_case, small_systems


class TestFoldInLists(ProbeTests):
    probe = FoldInLists(k=5)
    regimes = ("user",)

    def test_each_pair_is_told_once_and_asked_once_and_told_ones_read_nan(self) -> None:
        for case, original, _ in self.examples():
            points = self.points(case)
            each = points.groupby(["unit", "item"])["told"]
            assert (each.size() == 2).all()
            assert (each.sum() == 1).all()
            assert (points.groupby("unit")["account"].nunique() == 2).all()
            assert np.array_equal(np.isnan(self.read(original, case)["hit"]), points["told"].to_numpy())

    def test_against_a_sorted_row(self) -> None:
        for case, original, _ in self.examples():
            points = self.points(case)
            found = self.read(original, case, points)
            accounts = points["account"].unique()
            histories = [points["item"][(points["account"] == a) & points["told"]].to_numpy() for a in accounts]
            rows = original.fold_in(histories).double().numpy()
            for account, told, row in zip(accounts, histories, rows, strict=True):
                mine = points[points["account"] == account]
                best = [i for i in np.argsort(-row, kind="stable") if i not in told][:5]
                for at, item in mine["item"][~mine["told"]].items():
                    place = best.index(item) + 1 if item in best else None
                    assert found["hit"][at] == (place is not None)
                    assert_allclose(found["log"][at], 0 if place is None else np.log(6 / place))

    @pytest.mark.parametrize("regime", ["interaction", "item"])
    def test_other_requests_have_no_fresh_user(self, regime: str) -> None:
        with pytest.raises(NotApplicableError, match="lists are made for users"):
            self.points(small_case(regime))

    def test_a_system_without_fresh_accounts_is_refused(self) -> None:
        class Scores:
            n_users, n_items = 60, 40
            score = staticmethod(small_systems("user")[0][1].score)

        with pytest.raises(NotApplicableError, match="no fold_in"):
            self.read(Scores(), small_case("user"))


class TestFoldInListsAttack(AttackTests):
    # Lists of 5 of 40 items that 6 users get differ by chance as much as by memory.
    attack = FoldInListsAttack(k=5)
    separates = False

    def test_lists_and_new_accounts_are_all_it_needs(self) -> None:
        assert self.attack.access == Access.LISTS | Access.NEW_USERS


class TestFoldInListsByPlace(AttackTests):
    attack = FoldInListsAttack(k=10, signal="log")
    separates = False


def test_it_may_be_primary_in_user_requests() -> None:
    assert FoldInListsAttack.primary_for == FoldInListsAttack.fails_in == {"user"}
    assert FoldInListsAttack() in FoldInListsAttack.variants()
