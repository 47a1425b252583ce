"""Privacy bounds against statsmodels, numerical integration, naive scans and mechanisms of known epsilon."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, stats
from statsmodels.stats.proportion import proportion_confint

from auditkit.errors import ConfigurationError, DataError
from auditkit.statistics.epsilon import (
    EpsilonBound,
    epsilon_held_out,
    epsilon_lower,
    epsilon_max_uncorrected,
    epsilon_scan,
    epsilon_split,
    simultaneous_upper,
)
from auditkit.statistics.gaussian_privacy import delta_of, epsilon_of, gaussian_dp_lower
from auditkit.statistics.intervals import upper_rate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

counts = st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
scores = st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 1.0, 2.0, np.inf]), min_size=1, max_size=15).map(np.array)


def value(bound: EpsilonBound) -> float:
    assert bound.value is not None
    return bound.value


def highs(false: int, n: int, missed: int, m: int, tail: float) -> tuple[float, float]:
    """Upper bounds of both error rates as statsmodels has them."""
    return (
        float(proportion_confint(false, n, 2 * tail, method="beta")[1]),
        float(proportion_confint(missed, m, 2 * tail, method="beta")[1]),
    )


def shown(fpr: float, fnr: float, delta: float) -> float:
    return max([0.0, *(math.log(x) for x in ((1 - fnr - delta) / fpr, (1 - fpr - delta) / fnr) if x > 0)])


@given(counts, counts, st.sampled_from([0.0, 1e-5, 0.1]), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_bound_is_the_formula_on_independent_clopper_pearson(
    members: tuple[int, int], others: tuple[int, int], delta: float, confidence: float
) -> None:
    (true, m), (false, n) = members, others
    found = epsilon_lower(true, m, false, n, delta=delta, confidence=confidence)
    fpr, fnr = highs(false, n, m - true, m, (1 - confidence) / 2)
    assert value(found) == pytest.approx(shown(fpr, fnr, delta), abs=1e-10)
    assert found.resolution == pytest.approx(shown(*highs(0, n, 0, m, (1 - confidence) / 2), delta), abs=1e-10)
    assert found.resolution is not None
    assert value(found) <= found.resolution
    assert (found.true_positives, found.n_positive, found.false_positives, found.n_negative) == (true, m, false, n)


@given(counts, counts)
def test_bound_only_falls_with_delta_confidence_and_errors(members: tuple[int, int], others: tuple[int, int]) -> None:
    (true, m), (false, n) = members, others
    here = value(epsilon_lower(true, m, false, n))
    assert value(epsilon_lower(true, m, false, n, delta=0.05)) <= here
    assert value(epsilon_lower(true, m, false, n, confidence=0.99)) <= here
    # Telling members from others is telling others from members.
    assert value(epsilon_lower(n - false, n, m - true, m)) == pytest.approx(here, abs=1e-12)


def test_bound_outside_its_domain() -> None:
    for empty in (epsilon_lower(0, 0, 1, 3), epsilon_lower(1, 3, 0, 0)):
        assert (empty.value, empty.resolution) == (None, None)
        assert "no guesses" in empty.note
    for arguments in ((-1, 3, 0, 3), (4, 3, 0, 3), (0, 3, 4, 3), (0, 3, -1, 3)):
        with pytest.raises(ConfigurationError, match="positives"):
            epsilon_lower(*arguments)
        with pytest.raises(ConfigurationError, match="positives"):
            gaussian_dp_lower(*arguments)
    with pytest.raises(ConfigurationError, match="delta"):
        epsilon_lower(1, 2, 1, 2, delta=1.0)
    with pytest.raises(ConfigurationError, match="confidence"):
        epsilon_lower(1, 2, 1, 2, confidence=1.0)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0, 4.0])
def test_bound_covers_randomized_response(epsilon: float) -> None:
    """A guesser who is right with odds e^epsilon is exactly epsilon-private: the bound must not exceed it too often."""
    rng, n, runs = np.random.default_rng(1), 400, 3000
    honest = 1 / (1 + math.exp(-epsilon))
    true, false = rng.binomial(n, honest, runs), rng.binomial(n, 1 - honest, runs)
    found = np.array([value(epsilon_lower(t, n, f, n)) for t, f in zip(true, false, strict=True)])
    assert (found > epsilon).mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    # Not by saying nothing: the bound comes near what holds.
    assert np.median(found) >= 0.6 * epsilon


def test_bound_at_delta_covers_a_gaussian_shift() -> None:
    rng, n, runs, mu = np.random.default_rng(2), 500, 2000, 1.5
    true, false = rng.binomial(n, stats.norm.sf(0.75 - mu), runs), rng.binomial(n, stats.norm.sf(0.75), runs)
    for delta in (1e-3, 0.05):
        truth = epsilon_of(mu, delta)
        found = np.array([value(epsilon_lower(t, n, f, n, delta=delta)) for t, f in zip(true, false, strict=True)])
        assert (found > truth).mean() <= 0.065


@given(counts, counts, st.sampled_from([0.8, 0.95]))
def test_gaussian_bound_is_the_formula(members: tuple[int, int], others: tuple[int, int], confidence: float) -> None:
    (true, m), (false, n) = members, others
    found = gaussian_dp_lower(true, m, false, n, confidence=confidence)
    fpr, fnr = highs(false, n, m - true, m, (1 - confidence) / 2)
    assert found.value == pytest.approx(max(0.0, stats.norm.isf(fpr) - stats.norm.ppf(fnr)), abs=1e-9)
    assert found.resolution is not None
    assert found.value is not None
    assert found.value <= found.resolution
    assert found.epsilon(1e-3) == epsilon_of(found.value, 1e-3)


@pytest.mark.parametrize("mu", [0.0, 0.5, 2.0])
def test_gaussian_bound_covers_the_shift(mu: float) -> None:
    rng, n, runs, cut = np.random.default_rng(3), 500, 2000, mu / 2
    true, false = rng.binomial(n, stats.norm.sf(cut - mu), runs), rng.binomial(n, stats.norm.sf(cut), runs)
    bounds = [gaussian_dp_lower(t, n, f, n).value for t, f in zip(true, false, strict=True)]
    found = np.array(bounds, float)
    assert (found > mu).mean() <= 0.065
    assert np.median(found) >= mu - 0.3
    assert gaussian_dp_lower(0, 0, 0, 5).value is None
    assert gaussian_dp_lower(0, 0, 0, 5).epsilon(0.1) is None


def test_gaussian_curve_equals_the_integral_of_what_exceeds() -> None:
    for mu in (0.3, 1.0, 3.0):
        for epsilon in (0.0, 0.5, 2.0, 6.0):
            start = epsilon / mu + mu / 2
            exceeding = integrate.quad(
                lambda x, mu=mu, epsilon=epsilon: stats.norm.pdf(x, mu) - math.exp(epsilon) * stats.norm.pdf(x),
                start,
                start + 40,
                epsabs=1e-14,
                epsrel=1e-12,
            )[0]
            assert delta_of(mu, epsilon) == pytest.approx(exceeding, rel=1e-7, abs=1e-13)
    for mu in (0.0, 0.7, 4.0):
        assert delta_of(mu, 0.0) == pytest.approx(2 * stats.norm.cdf(mu / 2) - 1, abs=1e-15)
    # Far tails keep their digits: the first term alone bounds delta from above, and no difference of equals is left.
    assert 0 < delta_of(0.5, 8.0) < stats.norm.cdf(-8 / 0.5 + 0.25)


@given(st.floats(1e-3, 50), st.floats(1e-12, 0.9))
def test_epsilon_of_inverts_delta_of(mu: float, delta: float) -> None:
    epsilon = epsilon_of(mu, delta)
    if epsilon == 0:
        assert delta_of(mu, 0.0) <= delta
    else:
        assert delta_of(mu, epsilon) == pytest.approx(delta, rel=1e-6)
        assert epsilon_of(mu * 1.1, delta) > epsilon


def test_gaussian_curve_outside_its_domain() -> None:
    assert delta_of(0.0, 1.0) == epsilon_of(0.0, 0.1) == 0.0
    for mu, epsilon in ((-1.0, 0.0), (1.0, math.nan), (math.inf, 1.0)):
        with pytest.raises(ConfigurationError, match="finite"):
            delta_of(mu, epsilon)
    with pytest.raises(ConfigurationError, match="mu"):
        epsilon_of(math.inf, 0.1)
    with pytest.raises(ConfigurationError, match="delta"):
        epsilon_of(1.0, 0.0)


def naive_scan(positive: Floats, negative: Floats, bound: Callable[[int, int], float], delta: float) -> float:
    """Every threshold at a score, guessed on either side of it, one at a time."""
    best, m, n = 0.0, len(positive), len(negative)
    for cut in np.concatenate([positive, negative]):
        for guess in (np.greater_equal, np.less_equal):
            false, missed = int(guess(negative, cut).sum()), m - int(guess(positive, cut).sum())
            best = max(best, shown(bound(false, n), bound(missed, m), delta))
    return best


def next_bounded(k: int, n: int, tail: float) -> float:
    """Bonferroni over growing counts, by a loop: a count takes the bound of the next count on the ladder."""
    ladder = sorted({math.ceil(1.1**j) - 1 for j in range(200) if math.ceil(1.1**j) - 1 < n} | {n - 1})
    above = [c for c in ladder if c >= k]
    return float(stats.beta.ppf(1 - tail / len(ladder), above[0] + 1, n - above[0])) if above else 1.0


@given(scores, scores, st.sampled_from([0.0, 0.05]))
def test_scans_equal_a_naive_scan_under_ties(positive: Floats, negative: Floats, delta: float) -> None:
    plain = naive_scan(positive, negative, lambda k, n: float(upper_rate(k, n, 0.25)), delta)
    assert value(epsilon_max_uncorrected(positive, negative, delta=delta, confidence=0.5)) == pytest.approx(
        plain, abs=1e-10
    )
    corrected = naive_scan(positive, negative, lambda k, n: next_bounded(k, n, 0.125), delta)
    found = epsilon_scan(positive, negative, delta=delta, confidence=0.5)
    assert value(found) == pytest.approx(corrected, abs=1e-9)
    assert value(found) <= plain + 1e-12
    assert found.threshold is not None
    guess = np.greater_equal if found.direction == "high" else np.less_equal
    assert found.true_positives == guess(positive, found.threshold).sum()
    assert found.false_positives == guess(negative, found.threshold).sum()


def test_scan_reads_either_direction_and_any_rising_scale() -> None:
    rng = np.random.default_rng(4)
    positive, negative = rng.normal(2, 1, 300), rng.normal(size=400)
    high, low = epsilon_scan(positive, negative), epsilon_scan(-positive, -negative)
    assert high.value == low.value
    assert (high.direction, low.direction) == ("high", "low")
    assert high.threshold == -(low.threshold or 0.0)
    assert epsilon_scan(np.exp(positive), np.exp(negative)).value == high.value
    assert 1 < value(high) < (high.resolution or 0)


def table(n: int, bound: Callable[[Ints, int], Floats]) -> Floats:
    return bound(np.arange(n + 1), n)


def test_simultaneous_bounds_hold_where_the_maximum_of_single_ones_breaks() -> None:
    """Two classes of one distribution, 20,000 units each: how often is epsilon said to exceed 0?"""
    rng, n, runs, alarms = np.random.default_rng(5), 20_000, 200, np.zeros(2)
    tables = (
        table(n, lambda k, n: upper_rate(k, n, 0.025)),
        table(n, lambda k, n: simultaneous_upper(k, n, 0.0125)),
    )
    for _ in range(runs):
        true = np.cumsum(rng.permutation(2 * n) < n)
        false = np.arange(1, 2 * n + 1) - true
        for k, high in enumerate(tables):
            # (1 - FNR_hi) / FPR_hi > 1 in either direction, at any threshold.
            alarms[k] += (high[n - true] + high[false] < 1).any() or (high[true] + high[n - false] < 1).any()
    uncorrected, corrected = alarms / runs
    assert uncorrected >= 0.15
    assert corrected <= 0.05


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_scan_and_split_cover_a_laplace_mechanism(epsilon: float) -> None:
    """Its likelihood ratio is e^epsilon over a whole tail, so that many thresholds tempt at once."""
    rng, n, runs = np.random.default_rng(6), 300, 300
    scan, split = np.empty(runs), np.empty(runs)
    for run in range(runs):
        positive, negative = rng.laplace(epsilon, 1, n), rng.laplace(0, 1, n)
        scan[run] = value(epsilon_scan(positive, negative))
        split[run] = value(epsilon_split(positive, negative, seed=run))
    for found in (scan, split):
        assert (found > epsilon).mean() <= 0.05
    if epsilon:
        assert min(scan.mean(), split.mean()) > 0.2


def test_band_over_all_thresholds_holds_jointly_at_its_level() -> None:
    """Uniform scores: the bound at the k-th largest must exceed its true tail for all k at once."""
    rng, n, runs = np.random.default_rng(7), 100, 4000
    high = table(n, lambda k, n: simultaneous_upper(k, n, 0.2))
    for draws in (rng.random((runs, n)), np.ceil(20 * rng.random((runs, n))) / 20):
        cuts = np.linspace(0.0005, 0.9995, 500)
        beyond = np.stack([(draws >= 1 - cut).sum(1) for cut in cuts])
        rates = cuts if draws.max() < 1 else np.floor(20 * cuts + 1 + 1e-9) / 20
        failed = (high[beyond] < rates[:, None]).any(0)
        assert failed.mean() <= 0.2


def test_split_takes_its_bound_on_units_that_did_not_choose() -> None:
    rng = np.random.default_rng(8)
    positive, negative = rng.normal(2, 1, 600), rng.normal(size=501)
    found = epsilon_split(positive, negative, seed=3)
    assert (found.n_positive, found.n_negative) == (300, 250)
    assert found == epsilon_split(positive, negative, seed=3)
    assert found != epsilon_split(positive, negative, seed=4)
    by_hand = epsilon_lower(found.true_positives, 300, found.false_positives, 250)
    assert (found.value, found.resolution) == (by_hand.value, by_hand.resolution)
    assert value(found) > 1
    turned = epsilon_split(-positive, -negative, seed=3)
    assert (turned.value, turned.direction, found.direction) == (found.value, "low", "high")
    assert turned.threshold == -(found.threshold or 0.0)


def test_held_out_bound_uses_the_threshold_of_the_choosing_units_alone() -> None:
    rng = np.random.default_rng(12)
    choosing = rng.normal(2, 1, 300), np.append(rng.normal(size=300), np.nan)
    positive, negative = rng.normal(2, 1, 250), rng.normal(size=200)
    found = epsilon_held_out(*choosing, positive, negative, seed=0)
    assert (found.n_positive, found.n_negative, found.direction) == (250, 200, "high")
    assert found.threshold in np.concatenate(choosing)
    assert found.true_positives == (positive >= (found.threshold or 0.0)).sum()
    assert found.value == epsilon_lower(found.true_positives, 250, found.false_positives, 200).value
    assert found.note == "choosing: 1 NaN dropped from negative"
    # What the counted units look like moves the bound, never the threshold.
    swapped = epsilon_held_out(*choosing, negative, positive, seed=0)
    assert (swapped.threshold, swapped.value) == (found.threshold, 0.0)
    clustered = epsilon_held_out(
        *choosing,
        positive,
        negative,
        clusters_positive=np.arange(250) // 5,
        clusters_negative=np.arange(200) // 5,
        seed=0,
    )
    assert (clustered.n_positive, clustered.n_negative) == (50, 40)
    assert "no positive" in epsilon_held_out([], [1.0], positive, negative, seed=0).note
    assert "no negative" in epsilon_held_out(*choosing, positive, [], seed=0).note


def test_split_keeps_clusters_whole_and_counts_one_unit_of_each() -> None:
    rng = np.random.default_rng(9)
    users = np.arange(80).repeat(5)
    member = np.tile([True, True, False, True, False], 80)
    values = rng.normal(size=400) + 3 * member
    found = epsilon_split(
        values[member], values[~member], clusters_positive=users[member], clusters_negative=users[~member], seed=0
    )
    assert (found.n_positive, found.n_negative) == (40, 40)
    names = np.array([f"user {k}" for k in range(80)])
    named = epsilon_split(
        values[member],
        values[~member],
        clusters_positive=names[users[member]],
        clusters_negative=names[users[~member]],
        seed=0,
    )
    assert named == found
    # Three users hold all the members: at most two are left to judge with.
    few = epsilon_split(values[:3], values[3:], clusters_positive=[0, 1, 2], clusters_negative=users[3:] + 3, seed=0)
    assert few.n_positive == 1


def test_split_with_clusters_holds_where_units_taken_as_independent_break() -> None:
    rng, runs, alarms = np.random.default_rng(10), 300, np.zeros(2)
    users = np.arange(60).repeat(20)
    member = users % 2 == 0
    for run in range(runs):
        values = rng.normal(size=60).repeat(20) + 0.3 * rng.normal(size=1200)
        positive, negative = values[member], values[~member]
        clusters = {"clusters_positive": users[member], "clusters_negative": users[~member]}
        alarms += [
            value(epsilon_split(positive, negative, seed=run)) > 0,
            value(epsilon_split(positive, negative, seed=run, **clusters)) > 0,
        ]
    iid, clustered = alarms / runs
    assert iid > 0.15
    assert clustered <= 0.05


@pytest.mark.parametrize("bound", [epsilon_scan, epsilon_max_uncorrected, lambda p, n: epsilon_split(p, n, seed=0)])
def test_constant_missing_and_infinite_scores(bound: Callable[[Floats, Floats], EpsilonBound]) -> None:
    constant = bound(np.ones(40), np.ones(50))
    assert constant.value == 0.0
    gaps = bound(np.append(np.full(60, np.inf), np.nan), np.append(np.full(50, -np.inf), [np.nan, np.nan]))
    assert "1 NaN dropped from positive" in gaps.note
    assert "2 NaN dropped from negative" in gaps.note
    assert gaps.value == gaps.resolution
    for positive, negative in (([], [1.0, 2.0]), ([1.0, 2.0], [math.nan])):
        empty = bound(np.array(positive), np.array(negative))
        assert (empty.value, empty.resolution) == (None, None)
        assert "no " in empty.note


def test_split_without_enough_units_or_with_half_the_labels() -> None:
    single = epsilon_split([1.0], [0.0, 0.1, 0.2], seed=0)
    assert single.value is None
    assert "a part has no positive scores" in single.note
    with pytest.raises(ConfigurationError, match="both or neither"):
        epsilon_split([1.0, 2.0], [0.0, 1.0], clusters_positive=[0, 1], seed=0)
    with pytest.raises(DataError, match="positive_clusters"):
        epsilon_split([1.0, 2.0], [0.0, 1.0], clusters_positive=[0], clusters_negative=[1, 2], seed=0)
    with pytest.raises(ConfigurationError, match="delta"):
        epsilon_split([1.0], [0.0], seed=0, delta=-0.1)
