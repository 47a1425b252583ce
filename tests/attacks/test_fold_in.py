from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from auditkit.attacks.fold_in import FoldIn, FoldInAttack
from auditkit.attacks.halves import MOST_DECOYS
from auditkit.contracts import Backbone
from auditkit.crossing import cross_score
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case, Evidence
from auditkit.testing import AttackTests, ProbeTests
from auditkit.testing.examples import small_case, small_evidence, small_systems


class TestFoldInAttack(AttackTests):
    attack = FoldInAttack()


class TestFoldInProbe(ProbeTests):
    probe = FoldIn()
    regimes = ("user", "item")

    def test_requests_of_either_side_have_decoys(self) -> None:
        assert all(self.points(small_case(regime))["decoy"].any() for regime in self.regimes)

    def test_interaction_requests_name_no_account(self) -> None:
        with pytest.raises(NotApplicableError, match="whole users or items"):
            self.points(small_case("interaction"))

    def test_either_half_of_each_unit_is_told_and_the_other_asked(self) -> None:
        for case, _, _ in self.examples():
            points, pairs = self.points(case), case.pairs()
            points = points[case.forget[points["unit"]]]
            sizes = pairs[case.forget[pairs["unit"]]].groupby("unit").size()
            assert set(points["unit"]) == set(sizes[sizes >= 4].index)
            by_account = points.groupby(["unit", "account"])["told"].sum().groupby("unit")
            assert (by_account.size() == 2).all()
            assert (by_account.min() == sizes[by_account.min().index] // 2).all()
            assert (by_account.sum() == sizes[by_account.sum().index]).all()
            each = points.groupby(["user", "item"])["told"]
            assert (each.size() == 2).all()
            assert (each.sum() == 1).all()

    def test_decoys_are_test_pairs_of_retained_accounts(self) -> None:
        for case, _, _ in self.examples():
            points, by = _decoyed_points(case), case.request.regime
            forgotten = case.forget[points["unit"]]
            assert not points["decoy"][forgotten].any()
            compared = points[~forgotten]
            assert (compared["decoy"] == ~compared["told"]).all()
            assert set(case.units["group"][compared["unit"]]) == {"retain"}
            data, other = case.data, "item" if by == "user" else "user"
            test = {"user": data.test.users, "item": data.test.items}
            kept = {"user": case.retain.train.users, "item": case.retain.train.items}
            named = set(case.request.users if by == "user" else case.request.items)
            expected = 0
            for account in set(test[by]) - named:
                trained, mine = set(kept[other][kept[by] == account]), compared[compared[by] == account]
                assert len(mine) == 0 or mine["told"].sum() == len(trained) // 2 >= 2
                assert set(mine[other][mine["told"]]) <= trained
                assert len(mine) == 0 or sorted(mine[other][mine["decoy"]]) == sorted(test[other][test[by] == account])
                expected += len(trained) >= 4
            assert compared[by].nunique() == min(expected, MOST_DECOYS) > 20
            assert not set(compared[by]) & named

    def test_covariates_against_counts(self) -> None:
        for case, _, _ in self.examples():
            points, by = _decoyed_points(case), case.request.regime
            kept = case.retain.train.items if by == "user" else case.retain.train.users
            asked = points["item" if by == "user" else "user"]
            told = points.groupby("account")["told"].sum()
            assert list(points["degree"]) == [(kept == one).sum() for one in asked]
            assert list(points["length"]) == [told[one] for one in points["account"]]

    def test_without_test_pairs_there_are_no_decoys(self) -> None:
        for case, _, _ in self.examples():
            bare = Case(replace(case.data, test=case.data.test.take(np.empty(0, np.int64))), case.request, case.units)
            points, full = _decoyed_points(bare), _decoyed_points(case)
            assert not points["decoy"].any()
            columns = ["unit", "user", "item", "told"]
            pd.testing.assert_frame_equal(points[columns], full[columns][: len(points)])

    def test_decoys_carry_no_weight(self) -> None:
        for case in [small_case("user")]:
            evidence = small_evidence(FoldInAttack().probes, case.request.regime)
            assert evidence is not None
            plain = _without_decoys(evidence)
            with_decoys, without = (cross_score(FoldInAttack(), e) for e in (evidence, plain))
            assert not np.isfinite(with_decoys.level[:, ~case.forget]).any()
            assert with_decoys.n_points == without.n_points
            assert_allclose(with_decoys.level, without.level, rtol=1e-9)
            assert with_decoys.pattern is not None
            assert without.pattern is not None
            assert_allclose(with_decoys.pattern, without.pattern, rtol=1e-9)

    def test_told_points_read_nan_and_asked_ones_do_not(self) -> None:
        for case, original, _ in self.examples():
            points = self.points(case)
            assert np.array_equal(np.isnan(self.read(original, case)["z"]), points["told"].to_numpy())

    def test_user_side_against_a_loop(self) -> None:
        case, model = small_case("user"), _original("user")
        points = self.points(case)
        found = self.read(model, case)["z"]
        accounts = points["account"].unique()
        histories = [points.loc[(points["account"] == a) & points["told"], "item"].to_numpy() for a in accounts]
        rows = model.fold_in(histories).double().numpy()
        for k, account in enumerate(accounts):
            mine = (points["account"] == account) & ~points["told"]
            row = rows[k]
            assert_allclose(found[mine], (row[points["item"][mine]] - row.mean()) / row.std(), rtol=1e-9)

    def test_item_side_against_a_loop(self) -> None:
        case, model = small_case("item"), _original("item")
        points = self.points(case)
        found = self.read(model, case)
        accounts = points["account"].unique()
        histories = [points.loc[(points["account"] == a) & points["told"], "user"].to_numpy() for a in accounts]
        fresh = model.fold_in(histories, side="item").double().numpy()
        rows = model.score(np.arange(model.n_users)).double().numpy()
        others = np.delete(rows, case.request.items, axis=1)
        for k, account in enumerate(accounts):
            mine = (points["account"] == account) & ~points["told"]
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


def _decoyed_points(case: Case) -> pd.DataFrame:
    return FoldIn().points(case, rng=np.random.default_rng(3))


def _without_decoys(evidence: Evidence) -> Evidence:
    units = np.asarray(evidence.units["group"] == "forget")
    return replace(evidence, readings={p: r.of_units(units) for p, r in evidence.readings.items()})


def _original(regime: str) -> Backbone:
    model = small_systems(regime)[0][1]
    assert isinstance(model, Backbone)
    return model
