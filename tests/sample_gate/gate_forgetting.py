"""A release gate: each test asks whether one way of deleting data made the recommender forget it."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditkit.pytest_plugin import ForgettingAudit, assert_forgotten
from auditkit.record import Record

HERE = Path(__file__).parent


@pytest.fixture
def record(forgetting_audit: ForgettingAudit) -> Record:
    return forgetting_audit(HERE / "audit.toml", out="report")


def test_retraining_forgets(record: Record) -> None:
    assert_forgotten(record, system="gold", min_recall_delta=-0.05)


def test_doing_nothing_forgets(record: Record) -> None:
    assert_forgotten(record, system="no-op")
