from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator

from auditkit.gate import RULES, decide
from auditkit.gate_policy import GatePolicy
from auditkit.record import Record
from auditkit.reports import sarif

from .sample import METHODS, crowded, hostile, invalid, minimal, record

# The whole schema of SARIF 2.1.0; schemas/README.md says whence and under which licence.
SCHEMA = json.loads((Path(__file__).parent / "schemas" / "sarif-2.1.0-rtm.5.json").read_text("utf-8"))
VALID = Draft4Validator(SCHEMA)
POLICY = GatePolicy(min_depth=0.85, min_speedup=2.0, min_delta_vs_gold={"recall@20": -0.01})


def log(whole: Record, policy: GatePolicy = POLICY, location: str = "gate.toml") -> dict[str, Any]:
    made: dict[str, Any] = json.loads(sarif.render(decide(whole, policy, whole), whole, location))
    return made


def results(whole: Record, policy: GatePolicy = POLICY) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = log(whole, policy)["runs"][0]["results"]
    return found


WHOLE = {
    "four": record(), "many": crowded(), "invalid": invalid(), "bare": minimal(), "hostile": hostile(),
    "none": record(()),
}  # fmt: skip


@pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("policy", [GatePolicy(), POLICY], ids=["default", "full"])
def test_logs_follow_the_schema(whole: Record, policy: GatePolicy) -> None:
    VALID.validate(log(whole, policy))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), "2.0.0"),
        (("runs", 0, "results", 0, "level"), "fatal"),
        (("runs", 0, "results", 0, "message"), {}),
        (("runs", 0, "results", 0, "locations", 0, "physicalLocation", "region", "startLine"), 0),
        (("runs", 0, "results", 0, "partialFingerprints", "auditkitCheck/v1"), 7),
        (("runs", 0, "tool", "driver", "rules", 0), {"name": "no id"}),
        (("runs", 0, "surprise"), 1),
    ],
)
def test_the_schema_would_have_noticed(path: tuple[str | int, ...], value: Any) -> None:
    made = log(record())
    at: Any = made
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    assert not VALID.is_valid(made)


def test_results_are_the_broken_checks_with_their_rules() -> None:
    run = log(record())["runs"][0]
    broken = decide(record(), POLICY, record()).broken
    assert [(it["ruleId"], it["level"]) for it in run["results"]] == [(check.rule, "error") for check in broken]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [rule.id for rule in RULES]
    assert all(rules[it["ruleIndex"]]["id"] == it["ruleId"] for it in run["results"])
    assert run["properties"]["checks"] - run["properties"]["passed"] == len(broken)
    assert run["tool"]["driver"]["version"] == "0.1.0"


def test_a_remark_is_a_warning_and_what_passed_is_no_result() -> None:
    accepting = GatePolicy(systems=("sisa", "row-reinit"), verdicts=("PASS", "INCONCLUSIVE"))
    (it,) = results(record(), accepting)
    assert (it["ruleId"], it["level"], it["message"]["text"].split(":")[0]) == ("AUD001", "warning", "row-reinit")


def test_results_do_not_grow_with_the_request() -> None:
    small, large = record(), record(request=record().request.model_copy(update={"n_units": 10**6}))
    assert len(results(small)) == len(results(large)) < 20


def test_fingerprints_tell_alerts_apart_and_outlive_numbers() -> None:
    def prints(whole: Record) -> list[str]:
        return [it["partialFingerprints"]["primaryLocationLineHash"] for it in results(whole)]

    first = prints(record())
    assert len(set(first)) == len(first)
    moved = tuple((name, verdict, level + 0.01, pattern, spread) for name, verdict, level, pattern, spread in METHODS)
    later = record(moved, created="2026-01-01T00:00:00Z", config_digest="0" * 64)
    assert prints(later) == first
    other = record(dataset="ml-1m")
    assert not set(prints(other)) & set(first)


def test_names_whose_parts_join_alike_have_different_fingerprints() -> None:
    whole = record((("a", "FAIL", 0.6, 0.5, 0.4), ("a b", "FAIL", 0.6, 0.5, 0.4)))
    assert len({it["partialFingerprints"]["auditkitCheck/v1"] for it in results(whole)}) == len(results(whole))


def test_the_location_is_a_relative_uri() -> None:
    made = log(record(), location="ci/gate 100%.toml")
    places = [it["locations"][0]["physicalLocation"]["artifactLocation"] for it in made["runs"][0]["results"]]
    assert {place["uri"] for place in places} == {"ci/gate%20100%25.toml"}
    assert {place["uriBaseId"] for place in places} <= made["runs"][0]["originalUriBaseIds"].keys()


def test_hostile_names_make_no_links_placeholders_or_categories() -> None:
    whole = record((("[x](http://evil) {0} \x1b[31m\n", "FAIL", 0.6, 0.5, 0.4),), dataset="a/b c")
    made = log(whole)
    text = made["runs"][0]["results"][0]["message"]["text"]
    assert text.startswith("[x] (http://evil) {{0}} ?[31m")
    assert made["runs"][0]["automationDetails"]["id"] == "auditkit-gate/a%2Fb%20c/bpr-mf/interaction/"
