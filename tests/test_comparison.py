from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from auditkit.comparison import DEPTH, QUANTITIES, RECALL, SPEEDUP, Comparison, Rank, Row, compare, rank
from auditkit.errors import ConfigurationError
from auditkit.record import Depth, Estimate, Record, Speedup, SystemEntry, UtilityEstimate

from .reports.sample import METHODS, invalid, minimal, record

SPANS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)).map(lambda it: (it[0], it[0] + it[1])), max_size=4)


def spans(*ends: tuple[float | None, float | None]) -> list[Estimate]:
    return [Estimate(value=0.0, low=low, high=high) for low, high in ends]


def possible(ends: list[tuple[int, int]], mine: int) -> set[int]:
    """Every place of one value, over all ways to put each value somewhere within its interval; ties go either way."""
    found: set[int] = set()
    for values in itertools.product(*(range(low, high + 1) for low, high in ends)):
        better = sum(value > values[mine] for value in values)
        found |= set(range(1 + better, 1 + sum(value >= values[mine] for value in values)))
    return found


@given(SPANS)
def test_places_are_those_that_some_truth_within_the_intervals_gives(ends: list[tuple[int, int]]) -> None:
    for mine, found in enumerate(rank(spans(*ends))):
        assert set(range(found.best, found.worst + 1)) == possible(ends, mine)
        assert found.of == len(ends)


def test_touching_intervals_do_not_separate_and_a_missing_end_separates_from_nothing() -> None:
    assert rank(spans((0.5, 1.0), (0.0, 0.5))) == [Rank(1, 2, 2), Rank(1, 2, 2)]
    assert rank(spans((0.51, 1.0), (0.0, 0.5))) == [Rank(1, 1, 2), Rank(2, 2, 2)]
    assert rank(spans((2.0, 3.0), (0.0, 1.0), (None, None))) == [Rank(1, 2, 3), Rank(2, 3, 3), Rank(1, 3, 3)]
    assert rank(spans((2.0, None), (0.0, 1.0))) == [Rank(1, 1, 2), Rank(2, 2, 2)]


def together(*records: Record) -> Comparison:
    return compare(records, [f"report {place}" for place in range(1, len(records) + 1)])


def ranks(comparison: Comparison, quantity: str = DEPTH, group: int = 0) -> dict[str, Rank | None]:
    return {row.name: row.ranks[quantity] for row in comparison.groups[group].rows}


def changed(whole: Record, name: str, **changes: Any) -> Record:
    """The record with changes to one system."""
    systems = [s.model_copy(update=changes) if s.name == name else s for s in whole.systems]
    return whole.model_copy(update={"systems": systems})


def only(*names: str, **changes: Any) -> Record:
    return record(tuple(method for method in METHODS if method[0] in names), **changes)


def test_rows_stand_by_depth_and_share_places_where_intervals_overlap() -> None:
    found = ranks(together(record()))
    assert found == {
        "sisa": Rank(1, 2, 4),
        "row-reinit": Rank(1, 2, 4),
        "finetune": Rank(3, 3, 4),
        "reverse-bpr": Rank(4, 4, 4),
    }
    assert list(found) == ["sisa", "row-reinit", "finetune", "reverse-bpr"]


def test_only_audited_systems_are_rows_and_values_are_those_of_the_report() -> None:
    (group,) = together(record()).groups
    assert {row.name for row in group.rows} == {method[0] for method in METHODS}
    system = next(s for s in record().systems if s.name == "finetune")
    (row,) = [row for row in group.rows if row.name == "finetune"]
    delta = system.utility["recall@20"].delta_vs_gold
    assert (row.values[DEPTH].value, row.values[DEPTH].low) == (system.depth.value, system.depth.low)
    assert row.values[RECALL] == delta
    assert (row.backbone, row.verdict, row.parameters) == ("bpr-mf", "FAIL", system.parameters)


def test_two_audits_of_one_request_are_ranked_together_whatever_their_order() -> None:
    one, two = only("sisa", "finetune"), only("reverse-bpr", "row-reinit")
    both, turned = together(one, two), together(two, one)
    assert len(both.groups) == 1
    assert ranks(both) == ranks(turned) == ranks(together(record()))
    assert [row.source for row in both.groups[0].rows] == [1, 2, 1, 2]
    assert not both.notes


ODD: dict[str, dict[str, Any]] = {
    "schema versions": {"schema_version": "2.0"},
    "data sets": {"dataset": record().dataset.model_copy(update={"digest": "another"})},
    "deletion requests": {"request": record().request.model_copy(update={"digest": "another"})},
    "primary attacks": {"policy": record().policy.model_copy(update={"primary": "fold-in"})},
    "utility protocols": {"protocol": record().protocol.model_copy(update={"masked": "nothing"})},
}


@pytest.mark.parametrize("reason", ODD)
def test_what_cannot_be_compared_is_apart_and_said(reason: str) -> None:
    found = together(record(), record().model_copy(update=ODD[reason]))
    assert [len(group.rows) for group in found.groups] == [4, 4]
    assert all(it is not None and it.of == 4 for k in (0, 1) for it in ranks(found, group=k).values())
    assert found.notes == (f"2 groups that cannot be compared with one another: their {reason} differ",)


def test_minor_schema_versions_and_backbones_are_compared() -> None:
    other = record().backbone.model_copy(update={"name": "lightgcn"})
    found = together(record(), record(schema_version="1.99", backbone=other))
    (group,) = found.groups
    assert {row.backbone for row in group.rows} == {"bpr-mf", "lightgcn"}
    assert all(it.of == 8 for row in group.rows for it in [row.ranks[DEPTH]] if it)


def test_digests_decide_not_names() -> None:
    found = together(record(), record(dataset="another name", created="later"))
    assert [group.setting.dataset for group in found.groups] == ["ml-100k"]


def test_a_digest_that_is_not_recorded_equals_no_other() -> None:
    bare = record().request.model_copy(update={"digest": ""})
    found = together(record(request=bare), record(request=bare, created="later"))
    assert [group.setting.request_digest for group in found.groups] == [
        "not recorded (report 1)",
        "not recorded (report 2)",
    ]


def test_a_report_given_twice_counts_once() -> None:
    found = together(record(), only("sisa"), record())
    assert found.notes == ("report 3 is the same report as report 1 and counts once",)
    assert [source.place for source in found.sources] == [1, 2]
    assert len(found.groups[0].rows) == 5


def test_invalid_audits_are_shown_and_take_no_place() -> None:
    found = together(record(), invalid())
    (group,) = found.groups
    bad = next(row for row in group.rows if row.source == 2)
    assert set(bad.ranks.values()) == {None}
    assert bad.unranked == "its audit is INVALID"
    assert bad.values[DEPTH].value is not None
    assert group.rows[-1] is bad
    others = {row.name: row.ranks for row in group.rows if row.source == 1}
    assert others == {row.name: row.ranks for row in together(record()).groups[0].rows}


def test_missing_values_are_missing_with_their_reason_and_take_no_place() -> None:
    whole = changed(record(), "finetune", depth=Depth(note="masked"), utility={}, speedup_vs_gold=Speedup())
    (group,) = together(whole).groups
    row = next(row for row in group.rows if row.name == "finetune")
    assert set(row.ranks.values()) == {None}
    assert row.values[DEPTH] == Estimate(note="masked")
    assert row.values[RECALL].note == "recall@20 was not measured"
    assert row.values[SPEEDUP].value is None
    assert group.rows[-1] is row
    assert [it.of for r in group.rows for it in [r.ranks[DEPTH]] if it] == [3, 3, 3]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_no_numbers(value: float) -> None:
    whole = changed(record(), "finetune", depth=Depth(value=value, low=0.0, high=1.0))
    whole = changed(whole, "sisa", depth=Depth(value=0.9, low=-value, high=0.95))
    rows: dict[str, Row] = {row.name: row for row in together(whole).groups[0].rows}
    assert rows["finetune"].values[DEPTH] == Estimate(note="the reported value is not finite")
    assert rows["sisa"].values[DEPTH].low is None
    assert rows["sisa"].ranks[DEPTH] == Rank(1, 3, 3)


def test_a_ratio_of_times_is_above_nought() -> None:
    whole = changed(record(), "sisa", speedup_vs_gold=Speedup(value=0.0, low=0.0, high=0.0))
    (row,) = [row for row in together(whole).groups[0].rows if row.name == "sisa"]
    assert row.values[SPEEDUP] == Estimate(note="a ratio of times must be above 0")


def test_differences_within_a_group_are_noted() -> None:
    wide = record().policy.model_copy(update={"margin": 0.2, "profile": "quick"})
    (group,) = together(record(), record(policy=wide)).groups
    assert group.notes == ("margins differ: 0.1, 0.2", "profiles differ: standard, quick")
    assert together(minimal().model_copy(update={"systems": []})).groups[0].notes == (
        "no unlearned system was audited",
    )


def gold(values: np.ndarray[Any, Any]) -> SystemEntry:
    """A Gold entry as an audit writes it: mean over runs with a t interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    mean = float(values.mean())
    recall = UtilityEstimate(value=mean, low=mean - half, high=mean + half, confidence=0.95, n_systems=len(values))
    return SystemEntry(
        name="Golds", role="gold", method="gold", seeds=[], procedure="p", utility={"recall@20": recall}
    )  # fmt: skip


def band(values: np.ndarray[Any, Any]) -> Estimate:
    return together(minimal().model_copy(update={"systems": [gold(values)]})).groups[0].yardsticks[0].gold_recall


def test_golds_band_holds_ninety_five_percent_of_further_golds() -> None:
    values = np.random.default_rng(3).normal(0.3, 0.01, 8)
    found = band(values)
    expected = stats.t.ppf(0.975, 7) * values.std(ddof=1) * np.sqrt(1 + 1 / 8)
    assert found.low == pytest.approx(-expected)
    assert found.high == pytest.approx(expected)
    rng = np.random.default_rng(4)
    draws = rng.normal(0, 1, (20_000, 9))
    halves = stats.t.ppf(0.975, 7) * draws[:, :8].std(axis=1, ddof=1) / np.sqrt(8) * np.sqrt(9)
    inside = np.abs(draws[:, 8] - draws[:, :8].mean(axis=1)) <= halves
    assert inside.mean() == pytest.approx(0.95, abs=0.006)


def test_without_a_scatter_there_is_no_band() -> None:
    one = gold(np.array([0.3, 0.3])).utility["recall@20"].model_copy(update={"n_systems": 1})
    lone = gold(np.array([0.3, 0.3])).model_copy(update={"utility": {"recall@20": one}})
    (group,) = together(minimal().model_copy(update={"systems": [lone]})).groups
    assert group.yardsticks[0].gold_recall == Estimate(value=0.0, note="the Golds' scatter is not in the report")
    assert together(minimal()).groups[0].yardsticks[0].gold_recall.value is None


def test_a_comparison_is_json() -> None:
    found = together(record(), minimal())
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    first = again["groups"][0]["rows"][0]
    assert first["name"] == "sisa"
    assert first["ranks"]["depth"] == {"best": 1, "worst": 2, "of": 4}
    assert set(first["values"]) == set(QUANTITIES)
    assert again["groups"][1]["rows"][0]["values"]["depth"]["value"] is None


def test_reports_and_names_must_match() -> None:
    with pytest.raises(ConfigurationError, match="got 0 and 0"):
        compare([], [])
    with pytest.raises(ConfigurationError, match="got 1 and 2"):
        compare([minimal()], ["a", "b"])
