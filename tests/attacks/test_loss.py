from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from auditkit.attacks.loss import Loss
from auditkit.crossing import cross_score
from auditkit.testing import AttackTests
from auditkit.testing.examples import small_systems


class TestLoss(AttackTests):
    attack = Loss()

    def test_against_torch_cross_entropy(self) -> None:
        """From the models themselves: minus the softmax cross-entropy of the item among all items."""
        for case, evidence in self.examples():
            regime = case.request.regime
            points = evidence.readings[self.attack.probes[0]].points
            _, model = small_systems(regime)[0]
            rows = model.score(points["user"].to_numpy()).double()
            losses = torch.nn.functional.cross_entropy(rows, torch.tensor(points["item"].to_numpy()), reduction="none")
            naive = points.assign(found=-losses.numpy()).groupby("unit")["found"].mean()
            assert_allclose(cross_score(self.attack, evidence).level[0, naive.index], naive, rtol=1e-6)


class TestBprLoss(AttackTests):
    attack = Loss("margin")

    def test_against_the_formula(self) -> None:
        for _, evidence in self.examples():
            reading = evidence.readings[self.attack.probes[0]]
            margins = reading.values["margin"][0]
            level = cross_score(self.attack, evidence).level[0]
            for unit in (0, 3, int(reading.unit[-1])):
                naive = [np.log(1 / (1 + np.exp(-m))) for m in margins[reading.unit == unit]]
                assert_allclose(level[unit], np.mean(naive))


@pytest.mark.parametrize("signal", ["z", "rank"])
def test_signals_without_a_loss_count_as_they_are(signal: str) -> None:
    kit = TestLoss()
    kit.attack = Loss(signal)  # type: ignore[arg-type, misc]
    for _, evidence in kit.examples():
        reading = evidence.readings[kit.attack.probes[0]]
        expected = reading.per_unit(reading.values[signal])[0]
        assert_allclose(cross_score(kit.attack, evidence).level[0], expected)


def test_infinite_values_are_no_answer_and_large_ones_are() -> None:
    kit = TestLoss()
    _, evidence = next(kit.examples())
    values = np.zeros((1, len(evidence.readings[kit.attack.probes[0]].points)))
    values[0, :3] = np.inf, -np.inf, -1e5
    level = kit.score(evidence, np.array([0]), softmax=values).level[0]
    assert np.isnan(level[:2]).all()
    assert level[2] == -1e5
    assert_allclose(level[3], np.log(0.5))


def test_it_is_a_note_and_runs_when_named() -> None:
    assert Loss.battery() == ()
    assert Loss.variants() == (Loss("softmax"), Loss("margin"))
    assert not Loss.fails_in
