"""A gate's checks as JUnit XML, which every build server reads: a suite for the audit and one for each system."""

from __future__ import annotations

import re

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from auditkit.gate import Check, GateResult
from auditkit.record import Record

# What XML 1.0 can hold (section 2.2, production Char), less the controls that are allowed but discouraged.
_NO_XML = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

AUDIT = "the audit"


def render(result: GateResult, record: Record) -> str:
    """JUnit XML.

    A demand that is not met is a `failure`; one that the audit can carry no answer to is an `error`. What passed with a
    remark has the remark as its output.

    Args:
        result: the checks.
        record: the report that was gated; its time of creation is the suites'.

    Returns:
        One XML document, the same for the same arguments. Characters that XML cannot hold are `?`.
    """
    root = JUnitXml("auditkit gate")
    for subject in dict.fromkeys(check.system for check in result.checks):
        root.add_testsuite(_suite(subject, [c for c in result.checks if c.system == subject], record))
    root.update_statistics()  # type: ignore[no-untyped-call]
    written: bytes = root.tostring()  # type: ignore[no-untyped-call]
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{written.decode("utf-8")}\n'


def _clean(text: str) -> str:
    return _NO_XML.sub("?", text)


def _suite(subject: str, checks: list[Check], record: Record) -> TestSuite:
    suite = TestSuite(_clean(subject) or AUDIT)
    suite.timestamp = _clean(record.created)
    suite.add_property("config_digest", _clean(record.config_digest))
    suite.add_testcases([_case(check) for check in checks])
    return suite


def _case(check: Check) -> TestCase:
    measure = f" ({check.measure})" if check.measure else ""
    case = TestCase(
        _clean(f"{check.rule} {check.title}{measure}"), f"auditkit.gate.{_clean(check.system) or 'audit'}", 0
    )
    told = _clean(check.message)
    if not check.passed:
        case.result = [Failure(told, check.rule) if check.outcome == "FAIL" else Error(told, check.rule)]
    elif check.level == "warning":
        case.system_out = told
    return case
