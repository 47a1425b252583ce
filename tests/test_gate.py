"""The gate: what each demand lets through, what it stops, and with which exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from auditkit.errors import ConfigurationError
from auditkit.gate import RULES, Check, GateResult, decide
from auditkit.gate_policy import EXAMPLE, GatePolicy, load_policy, parse_policy
from auditkit.record import Control, Depth, Record, Verdict

from .reports.sample import Methods, controls, invalid, minimal, record

GOOD: Methods = (("sisa", "PASS", 0.021, 0.034, 0.012),)
BAD: Methods = (("finetune", "FAIL", 0.642, 0.588, 0.391),)
VAGUE: Methods = (("row-reinit", "INCONCLUSIVE", 0.081, 0.062, -0.004),)


def only(result: GateResult, rule: str) -> Check:
    (check,) = [check for check in result.checks if check.rule == rule]
    return check


def changed(whole: Record, **fields: Any) -> Record:
    """The same record with other fields in its audited systems."""
    systems = [s.model_copy(update=fields) if s.role == "unlearned" else s for s in whole.systems]
    return whole.model_copy(update={"systems": systems})


@pytest.mark.parametrize(
    ("whole", "verdict", "code"),
    [
        (record(GOOD), "PASS", 0),
        (record(BAD), "FAIL", 1),
        (record(VAGUE), "INCONCLUSIVE", 4),
        (invalid(), "INVALID", 4),
        (record(GOOD + BAD), "FAIL", 1),
        (minimal(), "INCONCLUSIVE", 4),
    ],
    ids=["good", "bad", "vague", "invalid", "one of two", "bare"],
)
def test_the_default_policy_follows_the_audit(whole: Record, verdict: Verdict, code: int) -> None:
    result = decide(whole, GatePolicy())
    assert (result.verdict, result.exit_code) == (verdict, code)
    assert all(check.passed == (check.outcome == "PASS") == (check.level != "error") for check in result.checks)


def test_every_check_names_a_known_rule_and_ids_are_stable() -> None:
    assert [rule.id for rule in RULES] == [f"AUD{k:03}" for k in range(1, len(RULES) + 1)]
    # Alerts in other people's dashboards are matched by these: a name may be added, never moved.
    assert [rule.name for rule in RULES] == [
        "verdict", "audited-system", "control", "margin", "attainable-margin", "power", "forgetting-depth", "utility",
        "speedup", "baseline", "regression",
    ]  # fmt: skip


def test_inconclusive_passes_only_where_it_is_said_and_then_with_a_warning() -> None:
    check = only(decide(record(VAGUE), GatePolicy(verdicts=("PASS", "INCONCLUSIVE"))), "AUD001")
    assert (check.passed, check.level) == (True, "warning")
    assert "exceeds the margin" in check.message


def test_a_control_that_must_be_found_may_be_demanded_to_fail() -> None:
    must_fail = GatePolicy(verdicts=("FAIL",))
    assert decide(record(BAD), must_fail).exit_code == 0
    found = decide(record(GOOD), must_fail)
    assert found.exit_code == 1
    assert only(found, "AUD001").message == "PASS, where the policy accepts FAIL"


def test_a_system_that_was_not_judged_is_inconclusive() -> None:
    check = only(decide(minimal(), GatePolicy()), "AUD001")
    assert (check.outcome, check.message) == ("INCONCLUSIVE", "INCONCLUSIVE: it was not judged")


def test_reasons_are_few_and_counted() -> None:
    whole = changed(record(BAD), reasons=[f"reason {k}" for k in range(5)])
    assert only(decide(whole, GatePolicy()), "AUD001").message == (
        "FAIL: reason 0; reason 1; reason 2; and 2 more in the report"
    )


def test_named_systems_alone_are_gated() -> None:
    result = decide(record(GOOD + BAD), GatePolicy(systems=("sisa", "sisa")))
    assert result.exit_code == 0
    assert {check.system for check in result.checks} == {"", "sisa"}


@pytest.mark.parametrize("name", ["typo", "original", "Gold"])
def test_a_named_system_that_was_not_audited_fails(name: str) -> None:
    result = decide(record(GOOD), GatePolicy(systems=(name,)))
    assert result.exit_code == 1
    assert (only(result, "AUD002").system, only(result, "AUD002").outcome) == (name, "FAIL")


def test_a_report_without_audited_systems_fails() -> None:
    result = decide(record(()), GatePolicy())
    assert result.exit_code == 1
    assert only(result, "AUD002").message == "the report audits no system"


@pytest.mark.parametrize(
    ("consequence", "policy", "outcome"),
    [
        ("INVALID: the yardstick is off", GatePolicy(), "INVALID"),
        ("INCONCLUSIVE: no power", GatePolicy(), "INCONCLUSIVE"),
        ("", GatePolicy(), "INVALID"),
        ("AUCs would measure popularity; verdicts stand", GatePolicy(), "PASS"),
        ("AUCs would measure popularity; verdicts stand", GatePolicy(controls="all"), "INVALID"),
    ],
)
def test_a_broken_control_has_its_consequence(consequence: str, policy: GatePolicy, outcome: Verdict) -> None:
    broken = Control(name="a control", expected="this", observed="that", ok=False, consequence=consequence)
    check = only(decide(record(GOOD, controls=[broken]), policy), "AUD003")
    assert check.outcome == outcome
    assert check.level == ("warning" if outcome == "PASS" else "error")
    assert check.message.startswith("that; expected: this")


def test_a_report_without_controls_shows_nothing() -> None:
    assert only(decide(record(GOOD, controls=[]), GatePolicy()), "AUD003").outcome == "INCONCLUSIVE"


@pytest.mark.parametrize(("most", "outcome"), [(0.1, "PASS"), (0.0999, "INCONCLUSIVE")])
def test_the_margin_of_the_audit_is_bounded(most: float, outcome: Verdict) -> None:
    assert only(decide(record(GOOD), GatePolicy(max_margin=most)), "AUD004").outcome == outcome


@pytest.mark.parametrize(("attainable", "outcome"), [(0.08, "PASS"), (0.081, "INCONCLUSIVE"), (None, "INCONCLUSIVE")])
def test_the_attainable_margin_is_bounded_and_must_be_known(attainable: float | None, outcome: Verdict) -> None:
    whole = record(GOOD, attainable_margin=attainable)
    assert only(decide(whole, GatePolicy(max_attainable_margin=0.08)), "AUD005").outcome == outcome


@pytest.mark.parametrize(("power", "outcome"), [(0.8, "PASS"), (0.79, "INCONCLUSIVE"), (None, "INCONCLUSIVE")])
def test_power_is_bounded_and_must_be_known(power: float | None, outcome: Verdict) -> None:
    whole = record(GOOD, policy=record().policy.model_copy(update={"power": power}))
    assert only(decide(whole, GatePolicy()), "AUD006").outcome == outcome


@pytest.mark.parametrize(
    ("floor", "passes"), [(0.866, True), (0.8661, False)]
)  # the bound decides: the point estimate of the sample is .966
def test_depth_is_held_by_its_lower_bound(floor: float, passes: bool) -> None:
    whole = changed(record(GOOD), depth=Depth(value=0.966, low=0.866, high=1.0))
    check = only(decide(whole, GatePolicy(min_depth=floor)), "AUD007")
    assert check.passed == passes
    assert "0.866" in check.message


@pytest.mark.parametrize(
    "low", [None, float("nan"), float("-inf"), float("inf")], ids=["none", "nan", "minus infinity", "infinity"]
)
def test_a_missing_bound_fails_with_its_reason_and_is_no_zero(low: float | None) -> None:
    whole = changed(record(GOOD), depth=Depth(value=0.97, low=low, note="two Golds only"))
    check = only(decide(whole, GatePolicy(min_depth=-100.0)), "AUD007")
    assert (check.outcome, check.level) == ("FAIL", "error")
    assert (
        check.message
        == "the lower bound of forgetting depth was not measured: two Golds only; at least -100 is asked for"
    )


def test_utility_is_held_by_the_lower_bound_of_the_difference_to_gold() -> None:
    whole = record(GOOD)  # recall@20: 0 [-.004, .004]
    policy = GatePolicy(min_delta_vs_gold={"recall@20": -0.003, "ndcg@20": -0.005, "hit@5": -1.0})
    checks = {check.measure: check for check in decide(whole, policy).checks if check.rule == "AUD008"}
    assert {name: check.outcome for name, check in checks.items()} == {
        "recall@20": "FAIL", "ndcg@20": "PASS", "hit@5": "FAIL"
    }  # fmt: skip
    assert "not measured: the report has depth, speedup, mrr, ndcg@20" in checks["hit@5"].message


def test_speedup_is_held_by_its_lower_bound_and_says_why_it_is_missing() -> None:
    policy = GatePolicy(min_speedup=9.5)
    checks = [check for check in decide(record(), policy).checks if check.rule == "AUD009"]
    assert [check.outcome for check in checks] == ["PASS", "FAIL", "FAIL", "FAIL"]
    assert "it shared the machine with another job" in checks[1].message


def baseline(**fields: Any) -> Record:
    return changed(record(GOOD), **fields)


def test_the_same_report_is_no_regression() -> None:
    result = decide(record(GOOD), GatePolicy(), record(GOOD))
    assert result.exit_code == 0
    assert [c.measure for c in result.checks if c.rule == "AUD011"] == ["depth", "recall@20", "ndcg@20"]


@pytest.mark.parametrize(
    ("old", "new", "outcome"),
    [
        ((0.90, 0.95), (0.80, 0.89), "FAIL"),
        ((0.90, 0.95), (0.80, 0.90), "PASS"),
        ((0.80, 0.89), (0.90, 0.95), "PASS"),
        ((0.90, 0.95), (0.10, 0.99), "PASS"),
    ],
    ids=["below", "touching", "better", "vague"],
)
def test_worse_is_an_interval_wholly_below(
    old: tuple[float, float], new: tuple[float, float], outcome: Verdict
) -> None:
    then, now = (
        changed(record(GOOD), depth=Depth(value=sum(ends) / 2, low=ends[0], high=ends[1])) for ends in (old, new)
    )
    assert only(decide(now, GatePolicy(regression=("depth",)), then), "AUD011").outcome == outcome


def test_what_the_baseline_measured_must_be_measured_again() -> None:
    lost = changed(record(GOOD), depth=Depth(note="no references"))
    check = only(decide(lost, GatePolicy(regression=("depth",)), record(GOOD)), "AUD011")
    assert (check.outcome, check.message) == (
        "FAIL", "the interval of forgetting depth was not measured: no references"
    )  # fmt: skip
    back = only(decide(record(GOOD), GatePolicy(regression=("depth",)), lost), "AUD011")
    assert (back.outcome, back.level) == ("PASS", "warning")


def test_a_measure_that_no_report_has_fails() -> None:
    check = only(decide(record(GOOD), GatePolicy(regression=("dpeth",)), record(GOOD)), "AUD011")
    assert check.outcome == "FAIL"
    assert "the report has depth, speedup" in check.message


def test_systems_that_came_or_went_since_the_baseline() -> None:
    new = decide(record(GOOD), GatePolicy(), record(()))
    assert only(new, "AUD011").level == "warning"
    gone = decide(record(GOOD), GatePolicy(), record(GOOD + BAD))
    assert (only(gone, "AUD002").system, gone.exit_code) == ("finetune", 1)
    assert decide(record(GOOD), GatePolicy(systems=("sisa",)), record(GOOD + BAD)).exit_code == 0


def test_another_request_is_no_baseline() -> None:
    other = record(GOOD, request=record().request.model_copy(update={"digest": "0" * 64}))
    result = decide(record(GOOD), GatePolicy(), other)
    assert only(result, "AUD010").message == "the baseline has another request"
    assert result.exit_code == 4
    assert not [check for check in result.checks if check.rule == "AUD011"]


def test_the_example_is_the_default_and_its_comments_are_valid(tmp_path: Path) -> None:
    path = tmp_path / "gate.toml"
    path.write_text(EXAMPLE, encoding="utf-8")
    assert load_policy(path) == GatePolicy()
    keys = ("# systems", "# max_", "# min_", "# [", '# "')
    lines = [line[2:] if line.startswith(keys) else line for line in EXAMPLE.splitlines()]
    path.write_text("\n".join(lines), encoding="utf-8")
    full = load_policy(path)
    assert (full.systems, full.min_depth, full.min_delta_vs_gold["ndcg@20"]) == (("sisa",), 0.85, -0.01)
    assert full.model_fields_set == set(GatePolicy.model_fields)


def test_all_problems_of_a_policy_are_said_at_once() -> None:
    wrong = {
        "min_dept": 0.9, "min_depth": 1.5, "min_power": True, "verdicts": ["INVALID"], "min_speedup": float("nan"),
        "min_delta_vs_gold": {"recall@20": -2}, "max_margin": "0.1", "controls": "some",
    }  # fmt: skip
    with pytest.raises(ConfigurationError) as raised:
        parse_policy(wrong, "gate.toml")
    assert len(raised.value.problems) == len(wrong)
    assert "gate.toml: min_dept: unknown key; remove it or see `auditkit gate --example`" in raised.value.problems[-1]


@pytest.mark.parametrize(("text", "said"), [("= 1", "not valid TOML"), ("verdicts = []", "no verdict would pass")])
def test_broken_policies(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "gate.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=said):
        load_policy(path)
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_policy(tmp_path / "absent.toml")


def test_estimates_without_a_note_say_no_reason() -> None:
    whole = changed(record(GOOD), depth=Depth())
    assert only(decide(whole, GatePolicy(min_depth=0.5)), "AUD007").message == (
        "the lower bound of forgetting depth was not measured; at least 0.5 is asked for"
    )


def test_controls_are_in_the_result_by_name() -> None:
    result = decide(record(GOOD, controls=controls()), GatePolicy())
    assert [check.measure for check in result.checks if check.rule == "AUD003"] == [c.name for c in controls()]
