"""A gate's broken checks as SARIF 2.1.0 (OASIS Standard, 2020), for code scanning.

One result for each check of a system or of the audit, never one for each unit: an alert is about a release, and a
list of users has no place in it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

from auditkit.gate import RULES, Check, GateResult, Rule
from auditkit.record import Record
from auditkit.reports.words import printable

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def render(result: GateResult, record: Record, location: str) -> str:
    """A SARIF log with one run, as indented JSON with a final newline.

    Results are the checks that did not pass (level error) and those that passed with a remark (level warning); how many
    passed is a property of the run. All rules are listed, broken or not.

    Args:
        result: the checks.
        record: the report that was gated.
        location: what alerts point at: the audit configuration or the policy, relative to the root of the repository,
            with `/` between folders.
    """
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(result, record, location)]}
    return json.dumps(log, indent=2, allow_nan=False) + "\n"


def _run(result: GateResult, record: Record, location: str) -> dict[str, Any]:
    scope = (record.dataset.name, record.backbone.name, record.request.regime)
    shown = [check for check in result.checks if check.level != "note"]
    name, _, version = record.generator.partition(" ")
    return {
        "tool": {"driver": {
            "name": printable(name) or "auditkit", "version": printable(version) or "unknown",
            "rules": [_rule(rule) for rule in RULES],
        }},
        # A trailing slash: what stands before it is a category, and its runs follow one another.
        "automationDetails": {"id": "/".join(["auditkit-gate", *(quote(part, safe="") for part in scope)]) + "/"},
        "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "The root of the repository."}}},
        "results": [_result(check, scope, location) for check in shown],
        "properties": {
            "verdict": result.verdict, "checks": len(result.checks), "passed": len(result.checks) - len(result.broken),
            "configDigest": printable(record.config_digest),
        },
    }  # fmt: skip


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.text},
        "help": {"text": rule.text},
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": ["machine-unlearning", "privacy"]},
    }


def _result(check: Check, scope: tuple[str, ...], location: str) -> dict[str, Any]:
    subject = " ".join(part for part in (check.system, check.measure) if part)
    place = {"uri": quote(location), "uriBaseId": "%SRCROOT%"}
    return {
        "ruleId": check.rule,
        "ruleIndex": [rule.id for rule in RULES].index(check.rule),
        "level": check.level,
        "message": {"text": _message(f"{subject}: {check.message}" if subject else check.message)},
        "locations": [{"physicalLocation": {"artifactLocation": place, "region": {"startLine": 1}}}],
        "partialFingerprints": _fingerprints(check, scope),
    }


def _fingerprints(check: Check, scope: tuple[str, ...]) -> dict[str, str]:
    # Neither numbers nor digests: the alert of one system must be the same alert in the next release. JSON, since plain
    # joins of names can coincide.
    about = json.dumps([*scope, check.rule, check.system, check.measure])
    digest = hashlib.sha256(about.encode()).hexdigest()
    # GitHub matches by the second alone. Left out, it hashes line 1 of the file, the same for all systems.
    return {"auditkitCheck/v1": digest, "primaryLocationLineHash": f"{digest[:16]}:1"}


def _message(text: str) -> str:
    """Text in which nothing is a placeholder or a link (sections 3.11.5 and 3.11.6 of the standard)."""
    return printable(text).replace("{", "{{").replace("}", "}}").replace("](", "] (")
