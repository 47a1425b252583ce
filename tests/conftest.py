"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of real data sets: $AUDITKIT_DATA, or `../shared/data` beside the repository."""
    root = Path(os.environ.get("AUDITKIT_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no real data: {root} does not exist; set AUDITKIT_DATA")
    return root
