"""Distances in units of the Golds' own: a Gold shows 0, and its interval covers 0 as often as it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from auditkit.data.dataset import Floats
from auditkit.divergences import GROUPS, gold_bands
from auditkit.errors import DataError

GROUP = np.array(["forget"] * 50 + ["retain"] * 30 + ["outside"] * 20)


def worlds(rng: np.random.Generator, n: int, *, own: float) -> Floats:
    """Answers of n systems, [n, 100]; `own` is how much some systems scatter more than others."""
    scatter = np.exp(own * rng.standard_normal(n))
    return np.asarray(rng.standard_normal((n, len(GROUP))) * scatter[:, None])


def pairwise(target: Floats, golds: Floats) -> Floats:
    return np.asarray(np.abs(target - golds).mean(0))


def to_mean(target: Floats, golds: Floats) -> Floats:
    return np.asarray(np.abs(target - golds.mean(0)))


@pytest.mark.parametrize("distance", [pairwise, to_mean])
@pytest.mark.parametrize(("n_golds", "own"), [(3, 0.2), (4, 0.0), (8, 0.2)])
def test_a_fresh_gold_is_covered_as_promised(distance: object, n_golds: int, own: float) -> None:
    assert callable(distance)
    rng, outside, naive = np.random.default_rng(n_golds), [], []
    for _ in range(600):
        systems = worlds(rng, n_golds + 1, own=own)
        golds, fresh = systems[1:], distance(systems[0], systems[1:])
        left_out = np.stack([distance(golds[k], np.delete(golds, k, axis=0)) for k in range(n_golds)])
        band = gold_bands(fresh[None], left_out, GROUP, to_mean_gold=distance is to_mean)[0][0].distance
        assert band.value is not None
        assert band.low is not None
        assert band.high is not None
        outside.append(not band.low <= 0 <= band.high)
        naive.append(abs(band.value) > (band.high - band.low) / 2 * (n_golds - 2) / (n_golds - 1))
    assert 0.005 <= np.mean(outside) <= 0.075
    if distance is pairwise:
        assert np.mean(naive) > 0.065, "without the pull of left-out Golds on one another it is too narrow"


def test_formula() -> None:
    rng = np.random.default_rng(1)
    golds, systems = rng.random((5, 100)), rng.random((2, 100)) + 1
    found = gold_bands(systems, golds, GROUP, confidence=0.9)
    assert [[band.group for band in bands] for bands in found] == [list(GROUPS)] * 2
    for own, bands in zip(systems, found, strict=True):
        for band in bands:
            means = golds[:, band.group == GROUP].mean(1)
            sd = means.std(ddof=1) * 4 / 3
            value = (own[band.group == GROUP].mean() - means.mean()) / sd
            half = stats.t.ppf(0.95, 4) * np.sqrt(1 + 1 / 5)
            assert band.distance.value == pytest.approx(value, rel=1e-12)
            assert band.distance.low == pytest.approx(value - half, rel=1e-9)
            assert band.distance.high == pytest.approx(value + half, rel=1e-9)
            assert (band.n_golds, band.n_units) == (5, int(np.sum(band.group == GROUP)))
            assert band.golds_mean == pytest.approx(means.mean())


def test_the_size_of_the_background_is_corrected_for_a_mean_gold() -> None:
    golds, system = np.random.default_rng(2).random((4, 100)), np.ones((1, 100))
    plain, corrected = (gold_bands(system, golds, GROUP, to_mean_gold=to)[0][0] for to in (False, True))
    assert plain.mean == 1
    assert corrected.mean == pytest.approx(4 / np.sqrt(15))


def test_units_that_somebody_did_not_answer_count_for_nobody() -> None:
    rng = np.random.default_rng(3)
    golds, system = rng.random((4, 100)), rng.random((1, 100))
    fewer = gold_bands(system[:, 10:], golds[:, 10:], GROUP[10:])
    golds[0, :5], system[0, 5:10] = np.nan, np.inf
    found = gold_bands(system, golds, GROUP)
    assert found == fewer
    assert found[0][0].n_units == 40


@pytest.mark.parametrize(
    ("n_golds", "reason"),
    [(0, "no Golds"), (1, "needs 3 Golds, there is 1"), (2, "needs 3 Golds, there are 2"), (4, "do not differ")],
)
def test_where_there_is_no_band(n_golds: int, reason: str) -> None:
    band = gold_bands(np.ones((1, 100)), np.full((n_golds, 100), 0.1), GROUP)[0][0]
    assert (band.distance.value, band.distance.low) == (None, None)
    assert reason in band.distance.note


def test_rounding_is_no_scatter() -> None:
    golds = np.full((4, 100), 0.3) + 1e-14 * np.arange(4)[:, None]
    assert gold_bands(np.ones((1, 100)), golds, GROUP)[0][0].distance.value is None


def test_a_group_that_nobody_asked_or_answered() -> None:
    golds = np.random.default_rng(4).random((4, 50))
    forget, retain, outside = gold_bands(np.full((1, 50), np.nan), golds, GROUP[:50])[0]
    for band in (forget, retain, outside):
        assert band.distance.value is None
        assert band.mean is None
        assert "no unit of this group" in band.distance.note


def test_other_units_are_refused() -> None:
    for distances, golds in ((np.ones((1, 9)), np.ones((4, 100))), (np.ones(100), np.ones((4, 100)))):
        with pytest.raises(DataError, match="same units as groups"):
            gold_bands(distances, golds, GROUP)
