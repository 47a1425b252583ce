from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from auditkit.attacks.fold_in import FoldInAttack
from auditkit.attacks.lira_linear import LiraLinear
from auditkit.contracts import Backbone, Recipe
from auditkit.deletion import Regime
from auditkit.errors import ConfigurationError
from auditkit.evidence import Targets
from auditkit.linear import LinearAttack
from auditkit.probes import Pairs
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_evidence, small_request, small_systems
from auditkit.unlearners.controls_ladder import Level, Questions, TunedToLevel

_SMALL = TunedToLevel(learning_rate=0.02, batch=256, forget_batch=64, golds=4, references=16)


class TestTunedToLevel(UnlearnerTests):
    unlearner = _SMALL
    utility_band = (0.1, 1.1)

    def test_its_own_ladder_reads_level_0_where_the_parent_reads_1(self) -> None:
        for task in self.tasks():
            rng = np.random.default_rng(5)
            questions = Questions.of(task, rng)
            level = _SMALL.level(self.parent(task), task, questions, rng)
            served = self.run(task, seed=5)
            assert isinstance(served, Backbone)
            assert level.read(self.parent(task)) == pytest.approx(1)
            assert level.read(served) == pytest.approx(0, abs=0.01)

    def test_only_the_two_sides_of_a_ladder_are_what_it_holds(self) -> None:
        """Complementary references: every unit is held by half of them."""
        task = self.task(small_request("interaction"))
        held = _SMALL.held(task, np.random.default_rng(0))
        assert (held.sum(0) == _SMALL.references // 2).all()

    def test_a_backbone_without_a_loss_is_refused(self) -> None:
        assert "no loss" in (self.unlearner.refuses(Recipe.of("ease"), small_request("user")) or "")


class TestTunedToLevelOfLightGCN(UnlearnerTests):
    unlearner = TunedToLevel(passes=2, golds=2, references=4)
    backbone = "lightgcn"
    config = {"factors": 8, "layers": 2}  # noqa: RUF012
    fit = {"epochs": 3, "learning_rate": 0.02}  # noqa: RUF012
    utility_band = None


def test_questions_of_interactions_are_all_forgotten_pairs_and_read_as_the_audits_probe_reads_them() -> None:
    task = TestTunedToLevel().task(small_request("interaction"))
    questions = Questions.of(task, np.random.default_rng(0))
    evidence = small_evidence((Pairs(),), "interaction")
    assert evidence is not None
    reading = evidence.readings[Pairs()]
    of_unit = dict(zip(reading.unit, reading.values["z"][0], strict=True))
    model = small_systems("interaction")[0][1]
    assert isinstance(model, Backbone)
    assert np.array_equal(np.sort(questions.unit), np.arange(task.request.n_units))
    np.testing.assert_allclose(questions.z(model), [of_unit[k] for k in questions.unit], rtol=1e-5)


@pytest.mark.parametrize("regime", ["user", "item"])
def test_fresh_accounts_are_told_either_half_and_asked_for_the_other(regime: Regime) -> None:
    task = TestTunedToLevel().task(small_request(regime))
    questions = Questions.of(task, np.random.default_rng(0))
    units = task.request.users if regime == "user" else task.request.items
    mine, others = (
        (task.forget.users, task.forget.items) if regime == "user" else (task.forget.items, task.forget.users)
    )
    rows = [k for k in range(len(units)) if (mine == units[k]).sum() >= 4]
    assert len(questions.histories) == 2 * len(rows)
    for place, unit in enumerate(np.unique(questions.unit)):
        history = others[mine == units[unit]]
        for row in (place, place + len(rows)):
            told, asked = questions.histories[row], questions.column[questions.row == row]
            assert np.array_equal(np.sort(np.concatenate([told, asked])), np.sort(history))
        assert len(questions.histories[place]) == len(history) // 2
        assert np.array_equal(
            np.sort(questions.histories[place + len(rows)]), np.sort(questions.column[questions.row == place])
        )


@pytest.mark.parametrize("attack", [LiraLinear(), FoldInAttack()])
def test_the_level_is_that_of_the_audits_primary_attack(attack: LinearAttack) -> None:
    """The same systems and questions: its own formula gives what the attack and the scale give."""
    regime: Regime = "interaction" if attack.name == "lira-linear" else "user"
    evidence = small_evidence(tuple(attack.probes), regime)
    assert evidence is not None
    models = [model for _, model in small_systems(regime)]
    questions = _as_asked(attack, regime)
    references = evidence.rows("reference")
    level = Level.on(
        questions, _model(models[0]), [_model(models[k]) for k in evidence.rows("gold")],
        [_model(models[k]) for k in references], evidence.held[references],
    )  # fmt: skip
    scores = np.nansum(attack.score(Targets(evidence.readings), evidence).level[:, : small_request(regime).n_units], 1)
    zero = scores[evidence.rows("gold")].mean()
    for k in (0, 3, 8, 14):
        expected = (scores[k] - zero) / (scores[0] - zero)
        assert level.read(_model(models[k])) == pytest.approx(expected, abs=1e-4)


def _model(model: object) -> Backbone:
    assert isinstance(model, Backbone)
    return model


def _as_asked(attack: LinearAttack, regime: Regime) -> Questions:
    """The audit's own questions about the request's units."""
    evidence = small_evidence(tuple(attack.probes), regime)
    assert evidence is not None
    points = evidence.readings[attack.probes[0]].points
    points = points[points["unit"] < small_request(regime).n_units].reset_index(drop=True)
    if regime == "interaction":
        points = points.sort_values("user", kind="stable")
        users, row = np.unique(points["user"].to_numpy(), return_inverse=True)
        return Questions(points["unit"].to_numpy(), row, points["item"].to_numpy(), users)
    fresh, accounts = pd.factorize(points["account"])
    told, items = points["told"].to_numpy(), points["item"].to_numpy()
    histories = [items[told & (fresh == k)] for k in range(len(accounts))]
    return Questions(points["unit"].to_numpy()[~told], fresh[~told], items[~told], None, histories)


def test_nothing_moves_where_there_is_nothing_to_ask() -> None:
    case = TestTunedToLevel()
    task = case.task(small_request("user"), np.empty(0, np.int64))
    everybody = np.arange(60)
    assert np.array_equal(case.run(task).score(everybody), case.parent(task).score(everybody))


@pytest.mark.parametrize("options", [{"golds": 1}, {"references": 2}, {"references": 5}])
def test_domains(options: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="references an even number of 4 or more"):
        TunedToLevel(**options)
