from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.interpolate import interp1d
from scipy.optimize import brentq

from auditkit.errors import DataError
from auditkit.statistics.relearning import anamnesis_index, steps_to_reach

STEPS = np.array([0.0, 1.0, 2.0, 4.0, 8.0])


def test_crossings_against_a_root_finder() -> None:
    rng = np.random.default_rng(0)
    curves = np.cumsum(rng.random((20, 5)), axis=1) * np.linspace(0.2, 2, 20)[:, None]
    found = steps_to_reach(curves, STEPS, 1.5)
    for curve, step in zip(curves, found, strict=True):
        if curve[0] >= 1.5:
            assert step == 0
        elif curve[-1] < 1.5:
            assert np.isinf(step)
        else:
            line = interp1d(STEPS, curve)
            assert_allclose(step, brentq(lambda t, line=line: float(line(t)) - 1.5, 0, 8))
    assert np.isinf(found).any()
    assert (found == 0).any()
    assert ((found > 0) & np.isfinite(found)).sum() > 3


def test_the_first_of_several_crossings_counts() -> None:
    assert steps_to_reach(np.array([[0.0, 2.0, 0.0, 2.0, 2.0]]), STEPS, 1.0)[0] == 0.5


def test_named_edges() -> None:
    curves = np.array([[1.0, 1, 1, 1, 1], [0.0, 0, 0, 0, 1], [0.0, 0, 0, 0, 0], [0.0, np.nan, 1, 1, 1]])
    assert_allclose(steps_to_reach(curves, STEPS, 1.0), [0.0, 8.0, np.inf, np.nan])


@pytest.mark.parametrize("steps", [[0.0, 1, 1, 2, 3], [0.0, 1, 2]])
def test_steps_must_rise_and_fit(steps: list[float]) -> None:
    with pytest.raises(DataError, match="rising steps"):
        steps_to_reach(np.zeros((1, 5)), np.array(steps), 0.0)


def test_index_of_known_systems() -> None:
    """Gold reads 1, what never forgot reads 0, what comes back in half the steps reads .5."""
    gold = np.array([[0.0, 1.0, 2.0, 4.0, 8.0]])
    original = np.full((1, 5), 5.0)
    fast = 2 * gold
    never = np.zeros((1, 5))
    found = anamnesis_index(np.concatenate([gold, original, fast, never]), original, gold, STEPS, share=0.8)
    assert_allclose(found, [1.0, 0.0, 0.5, np.inf])


def test_index_is_nan_where_gold_does_not_recover_or_nothing_was_known() -> None:
    gold, high = np.array([[0.0, 1.0, 1.0, 1.0, 1.0]]), np.full((1, 5), 9.0)
    assert np.isnan(anamnesis_index(gold, high, gold, STEPS)).all()
    assert np.isnan(anamnesis_index(gold, gold - 1, gold, STEPS)).all()
    assert np.isnan(anamnesis_index(np.full((1, 5), np.nan), np.full((1, 5), 0.5), gold, STEPS)).all()
