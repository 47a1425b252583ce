"""The ROC band against single points, scikit-learn's curve and simulated truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics

from auditkit.errors import ConfigurationError, DataError, NotApplicableError
from auditkit.statistics.roc import tpr_at_fpr
from auditkit.statistics.roc_band import DEFAULT_FPRS, roc_band

Floats = NDArray[np.float64]

scores = st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 1.0, np.inf]), min_size=1, max_size=40).map(np.array)
rates = st.lists(st.floats(1e-4, 1), min_size=1, max_size=8, unique=True).map(lambda x: np.sort(np.array(x)))


@given(scores, scores, rates)
def test_every_point_is_that_of_a_single_threshold(positive: Floats, negative: Floats, fprs: Floats) -> None:
    band, n = roc_band(positive, negative, fprs=fprs), len(negative)
    for k, fpr in enumerate(fprs):
        alone = tpr_at_fpr(positive, negative, float(fpr))
        assert band.measurable[k] == (fpr >= 1 / n)
        assert math.isnan(band.low[k]) == math.isnan(band.high[k]) == (alone.value is None)
        assert math.isnan(band.tpr[k]) == (fpr < 1 / n)
        if alone.value is not None:
            assert band.tpr[k] == alone.value
            assert (band.low[k], band.high[k]) == pytest.approx((alone.low, alone.high), abs=1e-12)
            assert f"realised FPR {round(band.realised[k] * n)}/{n}" in alone.note


@given(scores, scores, rates)
def test_realised_rates_are_never_exceeded_and_tpr_is_the_highest_below(
    positive: Floats, negative: Floats, fprs: Floats
) -> None:
    band = roc_band(positive, negative, fprs=fprs)
    assert (band.realised <= fprs).all()
    assert (np.diff(band.realised) >= 0).all()
    # Ranks order like the scores and are finite, as scikit-learn wants them.
    ranks = stats.rankdata(np.concatenate([positive, negative]), method="dense")
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    fpr, tpr, _ = metrics.roc_curve(labels, ranks, drop_intermediate=False)
    for k in np.flatnonzero(band.measurable):
        assert band.tpr[k] == pytest.approx(tpr[fpr <= fprs[k]].max(), abs=1e-12)


def test_the_default_grid_says_where_nothing_can_be_measured() -> None:
    rng = np.random.default_rng(0)
    band = roc_band(np.append(rng.normal(1, 1, 500), np.nan), rng.normal(size=2000))
    np.testing.assert_array_equal(band.fpr, DEFAULT_FPRS)
    assert not np.shares_memory(band.fpr, DEFAULT_FPRS)
    assert (band.fpr[0], band.fpr[-1]) == (pytest.approx(1e-5), 1.0)
    assert not band.measurable[band.fpr < 1 / 2000].any()
    assert band.measurable[band.fpr >= 1 / 2000].all()
    assert np.isfinite(band.low[band.fpr >= 3 / 2000]).all()
    assert np.isnan(band.low[band.fpr < 3 / 2000]).all()
    assert band.tpr[-1] == band.high[-1] == 1.0
    assert (band.n_positive, band.n_negative, band.note) == (500, 2000, "1 NaN dropped from positive")


def test_constant_scores_have_one_step() -> None:
    band = roc_band(np.ones(50), np.ones(60), fprs=[0.5, 1.0])
    assert band.tpr.tolist() == [0.0, 1.0]
    assert band.realised.tolist() == [0.0, 1.0]


def test_band_outside_its_domain() -> None:
    for bad in ([0.0, 0.5], [0.5, 1.5], [math.nan]):
        with pytest.raises(ConfigurationError, match="fprs"):
            roc_band([1.0], [0.0], fprs=bad)
    with pytest.raises(DataError, match="ascend"):
        roc_band([1.0], [0.0], fprs=[0.5, 0.1])
    with pytest.raises(ConfigurationError, match="confidence"):
        roc_band([1.0], [0.0], confidence=1.0)
    with pytest.raises(NotApplicableError, match="no negative"):
        roc_band([1.0], [])


def test_band_covers_the_tpr_of_its_threshold() -> None:
    """Given the negatives the threshold is fixed, and the interval is about the positives beyond it."""
    rng, hits, runs, fprs = np.random.default_rng(1), np.zeros(3), 1500, np.array([0.01, 0.05, 0.3])
    for _ in range(runs):
        positive, negative = rng.normal(1, 1, 80), rng.normal(size=400)
        band = roc_band(positive, negative, fprs=fprs)
        cuts = np.sort(negative)[::-1][(fprs * 400).astype(int)]
        truth = stats.norm.sf(cuts - 1)
        hits += (band.low <= truth) & (truth <= band.high)
    assert (hits / runs >= 0.945).all()
    assert (hits / runs <= 0.99).all()
