from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from auditkit.attacks.pair_signals import answers, mean_over, outside_points, points_of, references
from auditkit.deletion import Regime
from auditkit.errors import NotApplicableError
from auditkit.evidence import Evidence
from auditkit.probes import Pairs
from auditkit.testing.examples import small_evidence


def evidence_of(regime: Regime) -> Evidence:
    found = small_evidence((Pairs(),), regime)
    assert found is not None
    return found


def test_references_and_what_they_held_point_by_point() -> None:
    evidence = evidence_of("user")
    reading, rows = evidence.readings[Pairs()], evidence.rows("reference")
    values, held = references(evidence, "margin")
    for k, row in enumerate(rows):
        for point in (0, 17, 200):
            assert values[k, point] == reading.values["margin"][row, point]
            assert held[k, point] == evidence.held[row, reading.unit[point]]


def test_an_infinite_signal_is_no_answer() -> None:
    reading = evidence_of("user").readings[Pairs()]
    z = reading.values["z"].copy()
    z[0, :3] = np.inf, -np.inf, np.nan
    found = answers(type(reading)(reading.points, {"z": z}, reading.n_units), "z")
    assert np.isnan(found[0, :3]).all()
    assert_array_equal(found[:, 3:], z[:, 3:])


def test_pairs_outside_training_are_the_test_pairs() -> None:
    evidence = evidence_of("interaction")
    reading = evidence.readings[Pairs()]
    outside = outside_points(evidence, reading)
    assert (evidence.units["group"].to_numpy()[reading.unit[outside]] == "outside").all()
    assert outside.sum() == (evidence.units["group"] == "outside").sum()


@pytest.mark.parametrize("regime", ["user", "item"])
def test_whole_users_and_items_have_retained_pairs_alone(regime: Regime) -> None:
    evidence = evidence_of(regime)
    reading = evidence.readings[Pairs()]
    assert points_of(evidence, reading, "retain").any()
    with pytest.raises(NotApplicableError, match="nobody was trained on"):
        outside_points(evidence, reading)


def test_means_are_over_usable_points() -> None:
    reading = evidence_of("user").readings[Pairs()]
    values = reading.values["z"].copy()
    usable = np.arange(len(reading.points)) % 3 > 0
    usable[reading.unit == 2] = False
    values[:, np.flatnonzero(usable & (reading.unit == 1))[0]] = np.nan
    values[:, np.flatnonzero(~usable & (reading.unit == 3))[0]] = np.nan
    found = mean_over(reading, values, usable)
    for unit in range(reading.n_units):
        mine = values[:, usable & (reading.unit == unit)]
        expected = mine.mean(1) if unit != 2 else np.full(len(values), np.nan)
        np.testing.assert_allclose(found[:, unit], expected)
    assert np.isnan(found[:, 1]).all()
    assert np.isfinite(found[:, 3]).all()
