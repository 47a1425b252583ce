"""Adjusted p-values against statsmodels, scipy and the definitions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from auditkit.errors import DataError
from auditkit.statistics.multiplicity import benjamini_hochberg, benjamini_yekutieli, holm

Floats = NDArray[np.float64]
Adjust = Callable[[ArrayLike], Floats]
METHODS: list[tuple[Adjust, str]] = [
    (holm, "holm"),
    (benjamini_hochberg, "fdr_bh"),
    (benjamini_yekutieli, "fdr_by"),
]
p_values = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.5, 1.0])), min_size=1, max_size=30)


@pytest.mark.parametrize(("adjust", "name"), METHODS)
@settings(max_examples=25, deadline=None)  # statsmodels takes 40 ms for Holm
@given(p=p_values)
def test_equals_statsmodels(adjust: Adjust, name: str, p: list[float]) -> None:
    np.testing.assert_allclose(adjust(p), multipletests(p, method=name)[1], rtol=1e-10, atol=1e-300)


@pytest.mark.parametrize(("adjust", "name"), [(benjamini_hochberg, "bh"), (benjamini_yekutieli, "by")])
@given(p=p_values)
def test_equals_scipy(adjust: Adjust, name: str, p: list[float]) -> None:
    expected = stats.false_discovery_control(p, method="bh" if name == "bh" else "by")
    np.testing.assert_allclose(adjust(p), expected, rtol=1e-10, atol=1e-300)


@given(p=p_values, alpha=st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_rule_rejects(p: list[float], alpha: float) -> None:
    rejected: set[int] = set()
    for step, k in enumerate(sorted(range(len(p)), key=lambda k: p[k])):
        if (len(p) - step) * p[k] > alpha:
            break
        rejected.add(k)
    # Equal p-values stand or fall together; the loop may stop between them.
    stopped = {k for k in range(len(p)) if any(p[k] == p[j] for j in rejected)}
    assert {*np.flatnonzero(holm(p) <= alpha).tolist()} == stopped


@pytest.mark.parametrize(("adjust", "name"), METHODS)
@settings(max_examples=25, deadline=None)
@given(p=p_values, holes=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_nan_stays_nan_and_does_not_count(adjust: Adjust, name: str, p: list[float], holes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(p) + holes)
    mixed = np.append(p, np.full(holes, np.nan))[order]
    expected = np.append(multipletests(p, method=name)[1], np.full(holes, np.nan))[order]
    given_values = mixed.copy()
    np.testing.assert_allclose(adjust(mixed), expected, rtol=1e-10, atol=1e-300)
    np.testing.assert_array_equal(mixed, given_values)


@pytest.mark.parametrize(("adjust", "name"), METHODS)
def test_empty_and_all_nan(adjust: Adjust, name: str) -> None:
    assert adjust([]).shape == (0,)
    assert np.isnan(adjust([np.nan, np.nan])).all()


@pytest.mark.parametrize(("adjust", "name"), METHODS)
@pytest.mark.parametrize("bad", [-0.01, 1.01, np.inf])
def test_values_outside_the_unit_interval_are_refused(adjust: Adjust, name: str, bad: float) -> None:
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        adjust([0.5, bad])


def test_family_wise_and_false_discovery_rates_hold() -> None:
    """2,000 families of 20 tests, 12 of them true nulls."""
    rng = np.random.default_rng(0)
    family, discovery = [], []
    for _ in range(2000):
        shift = np.where(np.arange(20) < 8, 3.0, 0.0)
        p = stats.norm.sf(rng.normal(shift, 1))
        null = shift == 0
        family.append((holm(p)[null] <= 0.05).any())
        found = benjamini_hochberg(p) <= 0.05
        discovery.append(found[null].sum() / max(found.sum(), 1))
    assert np.mean(family) <= 0.05 + 0.01
    assert np.mean(discovery) == pytest.approx(0.05 * 12 / 20, abs=0.006)
