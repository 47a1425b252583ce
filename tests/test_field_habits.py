"""The study of the field's habits: its own arithmetic against oracles, and one small run of everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score

from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset
from auditkit.deletion import DeletionRequest
from auditkit.plan import Plan, Settings, make_plan
from auditkit.talk import Talk
from auditkit.testing.examples import small_data, small_request, small_systems
from auditkit.unlearners.gold import Gold
from benchmarks.field_habits import alarms, disclosure, half, non_members, quality, report, tables
from benchmarks.field_habits.cast import Cast, assemble
from benchmarks.field_habits.pairs import NON_MEMBERS, SIGNALS, choose_pairs, signals

Array = NDArray[np.float64]


def drawn(seed: int, systems: int, users: int, each: int, shared: float) -> tuple[Array, NDArray[np.int64]]:
    """Scores that share a part by user: variance 1, of which `shared` is the user's. [n_systems, users * each]."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((systems, users, 1)) * np.sqrt(shared)
    own = rng.standard_normal((systems, users, each)) * np.sqrt(1 - shared)
    return (common + own).reshape(systems, -1), np.repeat(np.arange(users), each)


def test_random_pairs_were_never_seen_and_the_other_groups_are_what_they_say() -> None:
    data, request = small_data(), small_request("interaction")
    pairs = choose_pairs(data, request, seed=3)
    seen = {(u, i) for part in (data.train, data.valid, data.test) for u, i in zip(part.users, part.items, strict=True)}
    for kind in ("random", "same users"):
        rows = pairs.rows(kind)
        assert 0.8 * request.n_units < len(rows) <= request.n_units  # some users have seen every item
        assert not seen & set(zip(pairs.users[rows], pairs.items[rows], strict=True))
    forgotten = set(zip(pairs.users[pairs.rows("forget")], pairs.items[pairs.rows("forget")], strict=True))
    assert forgotten == set(zip(request.users, request.items, strict=True))
    full = np.flatnonzero(np.bincount([u for u, _ in seen], minlength=data.n_users) == data.n_items)
    eligible = pairs.forget_users[~np.isin(pairs.forget_users, full)]
    np.testing.assert_array_equal(pairs.users[pairs.rows("same users")], eligible)
    tested = set(zip(data.test.users, data.test.items, strict=True))
    test = list(zip(pairs.test_users, pairs.items[pairs.rows("test")], strict=True))
    assert set(test) <= tested
    assert len(set(test)) == len(test) > 0
    assert set(pairs.test_users) <= set(request.users)


def test_equal_seeds_choose_equal_pairs() -> None:
    first, again, other = (choose_pairs(small_data(), small_request("user"), seed=s) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.items, again.items)
    assert not np.array_equal(first.items, other.items)


def test_signals_are_the_score_and_its_z_within_the_row() -> None:
    pairs = choose_pairs(small_data(), small_request("interaction"), seed=0)
    model = small_systems("interaction")[0][1]
    found = signals(model, pairs)
    for k in range(0, len(pairs.users), 7):
        row = model.score(np.array([pairs.users[k]]))[0].double().numpy()
        assert found["raw"][k] == pytest.approx(row[pairs.items[k]], abs=1e-6)
        assert found["z"][k] == pytest.approx(stats.zscore(row)[pairs.items[k]], abs=1e-6)


def test_areas_are_those_of_scikit_learn() -> None:
    pairs = choose_pairs(small_data(), small_request("interaction"), seed=0)
    values = np.round(np.random.default_rng(1).standard_normal((3, len(pairs.users))), 1)
    found = non_members.areas(values, pairs)
    for kind in NON_MEMBERS:
        rows = np.concatenate([pairs.rows("forget"), pairs.rows(kind)])
        for k in range(3):
            expected = roc_auc_score(pairs.group[rows] == "forget", values[k, rows])
            assert found[kind][k] == pytest.approx(expected, abs=1e-12)


def test_blind_scores_count_retained_pairs_only() -> None:
    data, request = small_data(), small_request("interaction")
    retain = request.erase(data, np.ones(request.n_units, np.bool_)).train
    pairs = choose_pairs(data, request, seed=0)
    found = non_members.blind_scores(retain, data, pairs)
    for k in range(0, len(pairs.users), 11):
        popularity = sum(retain.items == pairs.items[k])
        assert found["popularity"][0, k] == popularity
        assert found["popularity x activity"][0, k] == popularity * sum(retain.users == pairs.users[k])


def test_the_ring_never_compares_a_system_with_itself() -> None:
    around = alarms.others(np.arange(5.0)[:, None], 4)[:, :, 0]
    for k in range(5):
        assert list(around[k]) == [(k + j) % 5 for j in range(1, 5)]


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(0, 2))
def test_clustered_p_values_are_those_of_statsmodels(seed: int, users: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    clusters = np.concatenate([np.arange(users), rng.integers(users, size=30)])
    values = np.round(rng.standard_normal(len(clusters)), digits) + rng.standard_normal(users)[clusters]
    fitted = sm.OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": True}, use_t=True
    )
    assert alarms.clustered_p(values[None], clusters)[0] == pytest.approx(fitted.pvalues[0], abs=1e-10)


def test_dependent_pairs_break_the_iid_test_and_not_the_clustered_one() -> None:
    for shared, low, high in ((0.0, 0.03, 0.075), (0.5, 0.45, 0.65)):
        values, users = drawn(0, 800, 60, 20, shared)
        iid, clustered = alarms.mean_alarms(values, users)
        assert low < iid.mean() < high
        assert 0.03 < clustered.mean() < 0.075


def test_whole_users_as_members_and_non_members() -> None:
    values, users = drawn(1, 300, 60, 20, 0.6)
    iid, clustered = alarms.halves_alarms(values, users, seed=0)
    assert iid.mean() > 0.4
    assert 0.02 < clustered.mean() < 0.09
    again = alarms.halves_alarms(values, users, seed=0)
    np.testing.assert_array_equal(iid, again[0])


def test_the_interval_over_seeds_is_honest_whatever_pairs_share() -> None:
    # Each system is compared with its own eight: sixteen hundred dependent trials of 5%.
    values, _ = drawn(2, 1602, 20, 10, 0.7)
    assert alarms.over_seeds(values).mean() == pytest.approx(0.05, abs=0.02)
    shifted = values.copy()
    shifted[::9] += 5.0
    assert alarms.over_seeds(shifted)[::9].all()


def test_every_variant_has_an_alarm_for_every_gold() -> None:
    values, users = drawn(3, 12, 40, 4, 0.3)
    found = alarms.false_alarms(values, values[:, ::2] + 10, users, users[::2], seed=0)
    assert all(alarm.shape == (12,) for form in found.values() for alarm in form)
    assert all(alarm.all() for alarm in found["AUC against test pairs (one draw of pairs)"])
    assert [len(form) for form in found.values()] == [2, 2, 2, 1, 2, 2]


def test_equal_scores_raise_no_alarm() -> None:
    values, users = np.tile(drawn(4, 1, 10, 5, 0.3)[0], (10, 1)), np.repeat(np.arange(10), 5)
    iid, clustered = alarms.area_alarms(values, values, users, users)
    assert not iid.any()
    assert not clustered.any()
    assert not alarms.same_distribution(values, values).any()


def test_the_root_is_where_the_area_is_one_half() -> None:
    found = half.root_of(lambda rate: 0.9 - 40 * rate, 2e-3)
    assert found == pytest.approx(0.01, abs=1e-5)
    assert half.root_of(lambda rate: 0.9 - 4000 * rate, 2e-3) == pytest.approx(1e-4, abs=1e-5)
    assert half.root_of(lambda rate: 0.7, 2e-3) is None
    assert half.root_of(lambda rate: 0.3, 2e-3) is None


def test_the_habit_certifies_near_one_half() -> None:
    assert list(half.certified(np.array([0.5, 0.509, 0.511, 0.49, 0.2, np.nan]))) == [1, 1, 0, 0, 0, 0]


def test_halves_hold_whole_users_and_everybody() -> None:
    values, users = drawn(5, 3, 9, 4, 0.2)
    for k, contrast in enumerate(disclosure.halves(values, users, seed=0)):
        assert len(set(contrast.positive_users)) == 4
        assert not set(contrast.positive_users) & set(contrast.negative_users)
        together = np.concatenate([contrast.positive, contrast.negative])
        np.testing.assert_array_equal(np.sort(together), np.sort(values[k]))


def test_the_uncorrected_maximum_claims_what_the_others_do_not() -> None:
    values, users = drawn(6, 60, 20, 50, 0.0)
    found = disclosure.epsilons(disclosure.between_systems(values[:30], values[30:], users))
    assert (found["maximum, uncorrected"] >= found["maximum, corrected"]).all()
    assert (found["maximum, uncorrected"] > 0).mean() > 2 * max((found["split"] > 0).mean(), 0.02)
    apart, of = drawn(7, 4, 100, 5, 0.3)
    told = disclosure.epsilons(disclosure.against_outside(apart[:2] + 4, apart[2:], of, of))
    assert all((bound > 0).all() for bound in told.values())


def test_an_undefined_bound_shows_nothing() -> None:
    nobody = disclosure.Contrast(np.empty(0), np.ones(3), np.empty(0, np.int64), np.arange(3))
    assert {float(bound[0]) for bound in disclosure.epsilons([nobody]).values()} == {0.0}


def test_forget_quality_tells_golds_from_originals_and_nothing_from_nothing() -> None:
    rng = np.random.default_rng(8)
    pairs = choose_pairs(small_data(), small_request("interaction"), seed=0)
    golds, fresh, moved = rng.standard_normal((3, 20, 400))
    same, other = quality.quality(fresh, golds), quality.quality(moved + 2, golds)
    assert same.log10_p > -2 > other.log10_p
    assert same.divergence_normal < other.divergence_normal
    assert same.score > other.score
    assert 0 < same.resolution < 4
    apart, alike = ({name: rng.standard_normal(len(pairs.users)) for name in SIGNALS} for _ in range(2))
    for values in apart.values():
        values[pairs.rows("forget")] += 4
    before, after = (float(x) for x in quality.oracle(apart, alike, pairs).split(" (")[0].split(" -> "))
    assert before > 0.95
    assert after < 0.7


def test_tables_line_up_and_say_what_is_undefined(capsys: pytest.CaptureFixture[str]) -> None:
    assert tables.number(float("nan")) == "-"
    assert tables.spanned([0.25]) == "0.250"
    assert tables.spanned([0.25, 0.75]) == "0.500 (0.250 .. 0.750)"
    assert tables.share([True, False, False, False]) == "0.25"
    tables.show("title", ["", "b"], [["long name", "1"], ["x", "22"]])
    assert capsys.readouterr().out.splitlines() == [
        "",
        "title",
        "",
        "           b",
        "---------  --",
        "long name  1",
        "x          22",
    ]


@pytest.fixture(scope="module")
def plan(tiny: Dataset, tiny_request: DeletionRequest) -> Plan:
    recipe = Recipe.of("bpr-mf", {"factors": 16}, {"epochs": 60})
    return make_plan(tiny, tiny_request, recipe, [Gold()], settings=Settings(profile="quick", golds=8, references=8))


@pytest.fixture(scope="module")
def cast(plan: Plan, tiny_store: Path) -> Cast:
    return assemble(plan, tiny_store, golds=10, passes=1, talk=Talk(quiet=True))


def test_golds_look_remembered_beside_random_pairs_and_not_beside_test_pairs(cast: Cast) -> None:
    found = non_members.areas(cast.golds.answers["z"], cast.study.pairs)
    assert found["random"].min() > 0.6
    assert found["test"].mean() == pytest.approx(0.5, abs=0.06)
    assert "FAIL" not in {one.verdict for one in cast.golds.ours}
    assert {one.verdict for one in cast.originals.ours} == {"FAIL"}


def test_a_system_tuned_to_one_half_is_certified_by_the_habit_alone(cast: Cast) -> None:
    assert cast.snapshots is not None
    tuned = [one for one in cast.snapshots.ours if one.name == "AUC .5 against Golds"]
    assert [half.certified(one.auc).item() for one in tuned] == [True]
    assert tuned[0].verdict == "FAIL"
    assert tuned[0].beyond


def test_all_tables_are_printed(cast: Cast, capsys: pytest.CaptureFixture[str]) -> None:
    report.show_non_members(cast)
    report.show_alarms({"interaction": cast})
    report.show_epsilons({"interaction": cast})
    report.show_half(cast)
    report.show_honest({"interaction": cast})
    out = capsys.readouterr().out
    assert [line[:2] for line in out.splitlines() if line[:1].isdigit() and line[1] in ".b"] == [
        "1.",
        "2.",
        "3.",
        "4.",
        "4b",
    ]
    assert "reverse BPR, 1 passes" in out
    assert "no model: popularity" in out
