from __future__ import annotations

from xml.etree import ElementTree

import pytest
from junitparser import Error, Failure, JUnitXml, TestSuite

from auditkit.gate import GateResult, decide
from auditkit.gate_policy import GatePolicy
from auditkit.record import Record
from auditkit.reports import junit

from .sample import crowded, hostile, minimal, record

POLICY = GatePolicy(min_depth=0.85, min_speedup=2.0)


def gated(whole: Record, policy: GatePolicy = POLICY) -> tuple[GateResult, str]:
    result = decide(whole, policy)
    return result, junit.render(result, whole)


@pytest.mark.parametrize("whole", [record(), crowded(), minimal(), hostile()], ids=["four", "many", "bare", "hostile"])
def test_counts_are_those_of_the_checks(whole: Record) -> None:
    result, text = gated(whole)
    root = JUnitXml.fromstring(text.encode())
    outcomes = [check.outcome for check in result.checks]
    assert (root.tests, root.failures) == (len(outcomes), outcomes.count("FAIL"))
    assert root.errors == len(outcomes) - outcomes.count("FAIL") - outcomes.count("PASS")
    tree = ElementTree.fromstring(text)
    assert len(tree.findall("./testsuite/testcase")) == len(outcomes)
    assert len(tree.findall("./testsuite")) == len({check.system for check in result.checks})


def test_failures_errors_and_remarks() -> None:
    _, text = gated(record(), POLICY.model_copy(update={"verdicts": ("PASS", "FAIL")}))
    suites: dict[str, TestSuite] = {suite.name: suite for suite in JUnitXml.fromstring(text.encode())}
    assert set(suites) == {junit.AUDIT, "sisa", "finetune", "reverse-bpr", "row-reinit"}
    cases = {name: {case.name[:6]: case for case in suite} for name, suite in suites.items()}
    (error,) = cases["row-reinit"]["AUD001"].result
    assert isinstance(error, Error)
    assert "exceeds the margin" in error.message
    (failure,) = cases["finetune"]["AUD009"].result
    assert isinstance(failure, Failure)
    assert (failure.type, "shared the machine" in failure.message) == ("AUD009", True)
    assert cases["finetune"]["AUD001"].is_passed
    assert cases["finetune"]["AUD001"].system_out.startswith("FAIL: pattern")
    assert cases["sisa"]["AUD001"].system_out is None


def test_names_come_back_as_they_are_but_for_what_xml_cannot_hold() -> None:
    whole = hostile()
    root = ElementTree.fromstring(gated(whole)[1])
    names = [suite.get("name") for suite in root.findall("testsuite")]
    assert names == [
        "<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "$x_{1", "[bold red]hm[/] ?[31m?",
        "模型 😀 ü]]>", junit.AUDIT,
    ]  # fmt: skip


@pytest.mark.parametrize("code", [0x0, 0xB, 0x1B, 0x7F, 0x85, 0xFFFE, 0xFFFF])
def test_characters_outside_xml_are_replaced(code: int) -> None:
    whole = record((("a" + chr(code) + "b", "PASS", 0.0, 0.0, 0.0),))
    names = [suite.get("name") for suite in ElementTree.fromstring(gated(whole)[1]).findall("testsuite")]
    assert "a?b" in names


def test_same_checks_same_bytes() -> None:
    assert gated(record()) == gated(record())
    assert gated(record())[1].startswith('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="auditkit gate"')
