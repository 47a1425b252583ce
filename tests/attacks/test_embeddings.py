from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group
from torch import nn

from auditkit.attacks.divergence import Divergence
from auditkit.attacks.embeddings import ParameterRows, ServedVectors, backbone_of
from auditkit.contracts import Backbone, Recipe
from auditkit.crossing import cross_score
from auditkit.data.dataset import Floats, Ints
from auditkit.errors import NotApplicableError
from auditkit.evidence import Evidence, Reading, Targets
from auditkit.statistics.similarity import linear_cka
from auditkit.testing import AttackTests, ProbeTests
from auditkit.testing.examples import REGIMES, OffersNothing, small_case, small_data, small_evidence, small_systems
from auditkit.unlearners.controls import Masked
from auditkit.unlearners.sharding import Sharded


class _RowTests(ProbeTests):
    def test_points_are_what_units_name_and_what_retained_pairs_name_besides(self) -> None:
        for case, _, _ in self.examples():
            points = self.points(case)
            own = points[points["own"]]
            named = case.units.loc[own["unit"]].reset_index(drop=True)
            for side in ("user", "item"):
                asked = own[side].to_numpy() >= 0
                assert_array_equal(own.loc[asked, side], named.loc[asked, side])
            assert ((points["user"] < 0) != (points["item"] < 0)).all()
            assert (case.units["group"][points.loc[~points["own"], "unit"]] == "retain").all()
            assert len(own) == (case.units[["user", "item"]] >= 0).sum().sum()
            assert not points.duplicated(["unit", "user", "item"]).any()

    def test_a_system_that_offers_nothing(self) -> None:
        for case, _, _ in self.examples():
            with pytest.raises(NotApplicableError, match="without weights"):
                self.read(OffersNothing(60, 40), case)

    def test_shards_have_no_one_table(self) -> None:
        case, one, other = next(self.examples())
        with pytest.raises(NotApplicableError, match="2 sub-models"):
            self.read(Sharded([one, other]), case)

    def test_a_mask_hides_nothing(self) -> None:
        case, original, _ = next(self.examples())
        hidden = np.stack([case.request.users, case.request.items], axis=1)
        beneath, masked = self.read(original, case), self.read(Masked(original, hidden), case)
        for name, values in beneath.items():
            assert_array_equal(masked[name], values)


class TestServedVectors(_RowTests):
    probe = ServedVectors()
    regimes = (*REGIMES, "modality")

    def test_the_rows_of_both_tables(self) -> None:
        for case, original, _ in self.examples():
            points, vectors = self.points(case), self.read(original, case)["vector"]
            users, items = (table.detach().double().numpy() for table in original.embed())
            expected = np.where((points["user"] >= 0).to_numpy()[:, None], users[points["user"]], items[points["item"]])
            assert_array_equal(vectors, expected)

    def test_groups_are_capped_own_rows_first_and_units_whole(self) -> None:
        for regime in REGIMES:
            case = small_case(regime)
            points = ServedVectors(most=4).points(case, rng=np.random.default_rng(0))
            groups = case.units["group"].to_numpy()[points["unit"]]
            assert max(np.unique(groups, return_counts=True)[1]) == 4
            assert points["own"].all()
            if regime == "interaction":
                assert (points.groupby("unit").size() == 2).all()

    def test_a_score_that_is_no_product_is_refused(self) -> None:
        case, model = small_case("interaction"), _ease()
        with pytest.raises(NotApplicableError, match="no user and item vectors"):
            self.read(model, case)


def _ease(factor: float = 1.0) -> Backbone:
    recipe = Recipe.of("ease", {"regularization": 100.0 * factor})
    return recipe.architecture().fit([(small_data(), 0)], recipe, device="cpu")[0]


class TestParameterRows(_RowTests):
    probe = ParameterRows()

    def test_tables_of_a_side_lie_side_by_side(self) -> None:
        case, original, _ = next(self.examples())
        wider = original.on(original.data)
        wider.register_parameter("user_further", nn.Parameter(torch.arange(60.0)[:, None].expand(60, 3).contiguous()))
        points, rows = self.points(case), self.read(wider, case)["row"]
        users = points["user"].to_numpy()
        by_user = users >= 0
        table = dict(original.named_parameters())["user_table"].detach().double().numpy()
        assert rows.shape == (len(points), 11)
        assert_array_equal(rows[by_user, :8], table[users[by_user]])
        assert_array_equal(rows[by_user, 8:], np.repeat(users[by_user, None].astype(np.float64), 3, axis=1))
        assert_array_equal(rows[~by_user, 8:], np.zeros((int((~by_user).sum()), 3)))

    def test_a_side_without_parameters_is_not_answered(self) -> None:
        case, model = small_case("interaction"), _ease()
        points, rows = self.points(case), self.read(model, case)["row"]
        assert np.isnan(rows[points["user"] >= 0]).all()
        table = dict(model.named_parameters())["item_weights"].detach().numpy()
        assert_array_equal(rows[points["item"] >= 0], table[points["item"][points["item"] >= 0]])

    def test_wide_rows_keep_their_distances(self) -> None:
        """40 weights on 20 directions: squared distances within a third, one by one, and near in the mean."""
        case, narrow = small_case("item"), ParameterRows(width=20)
        models = _ease(), _ease(factor=2.0)
        points = self.points(case)
        points = points[points["item"] >= 0].drop_duplicates("item").reset_index(drop=True)
        apart = {}
        for probe in (self.probe, narrow):
            one, other = (probe.read(m, points, case, rng=np.random.default_rng(0))["row"] for m in models)
            apart[probe] = np.square(one - other).sum(1)
            assert one.shape[1] == (40 if probe == self.probe else 20)
        ratio = apart[narrow] / apart[self.probe]
        assert ratio.std() == pytest.approx(np.sqrt(2 / 20), rel=0.4)
        assert ratio.mean() == pytest.approx(1.0, abs=0.2)

    def test_nothing_per_user_or_item(self) -> None:
        class Bare(Backbone):
            name = "bare"

            def start(self, rng: np.random.Generator) -> None:
                self.scale = nn.Parameter(torch.ones(1))

            def embed(self, branch: str | None = None) -> tuple[torch.Tensor, torch.Tensor]:
                return self.scale.expand(self.n_users, 1), self.scale.expand(self.n_items, 1)

        bare = Bare(small_data(), None, rng=np.random.default_rng(0))
        with pytest.raises(NotApplicableError, match="no parameter with a row"):
            self.read(bare, small_case("user"))


class TestParameterDivergence(AttackTests):
    attack = Divergence("parameters")

    def test_against_a_loop(self) -> None:
        for _, evidence in self.examples():
            reading, golds = evidence.readings[self.attack.probes[0]], evidence.rows("gold")
            rows, target = reading.values["row"], int(evidence.rows("original")[0])
            level = cross_score(self.attack, evidence).level
            for unit in (0, 2):
                mine = np.flatnonzero((reading.unit == unit) & reading.points["own"].to_numpy())
                norm = np.linalg.norm
                apart = [norm(rows[target, k] - rows[g, k]) / norm(rows[g, k]) for k in mine for g in golds]
                assert_allclose(level[target, unit], np.mean(apart), rtol=1e-9)

    def test_a_gold_row_of_zeros_has_no_relative_distance(self) -> None:
        evidence = small_evidence(self.attack.probes, "user")
        assert evidence is not None
        reading = evidence.readings[self.attack.probes[0]]
        rows = reading.values["row"].copy()
        rows[evidence.rows("gold")[0], reading.unit == 0] = 0.0
        silent = Evidence(
            evidence.systems, evidence.units, evidence.seen, evidence.held,
            {self.attack.probes[0]: Reading(reading.points, {"row": rows}, reading.n_units)},
        )  # fmt: skip
        level = self.score(silent, self.targets(silent)).level
        assert np.isnan(level[:, 0]).all()
        assert np.isfinite(level[:, 1]).all()


class _VectorTests(AttackTests):
    def test_rotating_moving_and_scaling_all_vectors_changes_nothing(self) -> None:
        for case, evidence in self.examples():
            rows = self.targets(evidence)
            vectors = evidence.readings[self.attack.probes[0]].take(rows).values["vector"]
            turned = 2.5 * vectors @ ortho_group.rvs(8, random_state=1) + 0.3
            was, moved = self.score(evidence, rows).level, self.score(evidence, rows, vector=turned).level
            assert_allclose(moved[:, case.forget], was[:, case.forget], rtol=1e-6)


class TestProcrustesDivergence(_VectorTests):
    attack = Divergence("procrustes")

    def test_against_scipy(self) -> None:
        for case, evidence in self.examples():
            reading, golds = evidence.readings[self.attack.probes[0]], evidence.rows("gold")
            vectors, target = reading.values["vector"], int(evidence.rows("original")[0])
            retained = reading.points[(case.units["group"] == "retain").to_numpy()[reading.unit]]
            anchors = retained.drop_duplicates(["user", "item"]).index.to_numpy()
            level = cross_score(self.attack, evidence).level
            for unit in (0, 2):
                mine = np.flatnonzero((reading.unit == unit) & reading.points["own"].to_numpy())
                squares = []
                for gold in golds:
                    a, b = (self._standard(vectors[k], anchors) for k in (target, gold))
                    rotation, _ = orthogonal_procrustes(a[anchors], b[anchors])
                    squares.append(((a[mine] @ rotation - b[mine]) ** 2).sum(1))
                assert_allclose(level[target, unit], np.sqrt(np.mean(squares)), rtol=1e-9)

    @staticmethod
    def _standard(table: Floats, anchors: Ints) -> Floats:
        centred = table - table[anchors].mean(0)
        return np.asarray(centred / np.sqrt((centred[anchors] ** 2).sum(1).mean()))

    def test_fewer_retained_rows_than_columns(self) -> None:
        _, evidence = next(self.examples())
        units = evidence.units.assign(
            group=np.where(evidence.units["group"] == "retain", "outside", evidence.units["group"])
        )
        alone = Evidence(evidence.systems, units, evidence.seen, evidence.held, evidence.readings)
        with pytest.raises(NotApplicableError, match="needs as many retained rows, there are 0"):
            self.score(alone, self.targets(alone))


class TestCkaDivergence(_VectorTests):
    attack = Divergence("cka")

    def test_one_value_a_group(self) -> None:
        for case, evidence in self.examples():
            reading, golds = evidence.readings[self.attack.probes[0]], evidence.rows("gold")
            target, level = int(evidence.rows("original")[0]), cross_score(self.attack, evidence).level
            for group in case.units["group"].unique():
                members = (case.units["group"] == group).to_numpy()
                rows = reading.points[reading.points["own"] & members[reading.unit]]
                rows = rows.drop_duplicates(["user", "item"]).index.to_numpy()
                tables = reading.values["vector"][:, rows]
                expected = 1 - np.mean([linear_cka(tables[target], tables[g]) for g in golds])
                assert_allclose(level[target, members], expected, rtol=1e-9)

    def test_an_unanswered_point_hides_its_unit_alone(self) -> None:
        """The others keep a number: that of the group without the unit's rows."""
        for case, evidence in self.examples():
            rows, unit = self.targets(evidence), int(np.flatnonzero(case.forget)[1])
            reading = evidence.readings[self.attack.probes[0]].take(rows)
            vectors = reading.values["vector"].copy()
            vectors[:, reading.unit == unit] = np.nan
            whole, partly = self.score(evidence, rows).level, self.score(evidence, rows, vector=vectors).level
            others = np.arange(len(case.units)) != unit
            assert np.isnan(partly[:, unit]).all()
            assert np.isfinite(partly[:, case.forget & others]).all()
            assert_array_equal(partly[:, ~case.forget], whole[:, ~case.forget])

    def test_a_single_row_has_no_alignment(self) -> None:
        evidence = small_evidence(self.attack.probes, "user")
        assert evidence is not None
        reading = evidence.readings[self.attack.probes[0]]
        kept = (reading.unit == 0) | (evidence.units["group"] != "forget").to_numpy()[reading.unit]
        points = reading.points[kept].reset_index(drop=True)
        one = Evidence(
            evidence.systems, evidence.units, evidence.seen, evidence.held,
            {self.attack.probes[0]: Reading(points, {"vector": reading.values["vector"][:, kept]}, reading.n_units)},
        )  # fmt: skip
        assert np.isnan(self.score(one, self.targets(one)).level[:, :6]).all()


def test_an_exact_copy_of_the_only_gold_lies_at_0() -> None:
    for measure in ("cka", "procrustes", "parameters"):
        attack = Divergence(measure)
        evidence = small_evidence(attack.probes, "interaction")
        assert evidence is not None
        gold = evidence.rows("gold")[:1]
        level = attack.score(
            Targets({p: r.take(gold) for p, r in evidence.readings.items()}), evidence.take(gold)
        ).level
        assert_allclose(level[np.isfinite(level)], 0, atol=1e-7)
        assert np.isfinite(level).any()


def test_the_backbone_beneath() -> None:
    _, model = small_systems("interaction")[0]
    assert isinstance(model, Backbone)
    assert backbone_of(model) is model
    assert backbone_of(Masked(model, np.array([[0, 1]]))) is model
