"""auditkit: after a deletion request, does this recommender still carry what it was told to forget?"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auditkit.api import audit
    from auditkit.canaries import coin_flip_pairs, plant
    from auditkit.contracts import Backbone, Fit, Recipe, Recommender, Task, Unlearner
    from auditkit.data.dataset import Dataset, Features, Interactions
    from auditkit.data.readers import read
    from auditkit.deletion import DeletionRequest, Share, select
    from auditkit.errors import AuditkitError
    from auditkit.plan import Method, Settings
    from auditkit.plugins import register
    from auditkit.record import Record
    from auditkit.worst_case import choose

__version__ = "0.1.0"

# Nothing heavy is imported before it is used: `auditkit --help` must answer at once.
_HOMES = {
    "audit": "auditkit.api",
    "AuditkitError": "auditkit.errors",
    "Backbone": "auditkit.contracts",
    "Dataset": "auditkit.data.dataset",
    "DeletionRequest": "auditkit.deletion",
    "Features": "auditkit.data.dataset",
    "Fit": "auditkit.contracts",
    "Interactions": "auditkit.data.dataset",
    "Method": "auditkit.plan",
    "Recipe": "auditkit.contracts",
    "Recommender": "auditkit.contracts",
    "Record": "auditkit.record",
    "Settings": "auditkit.plan",
    "Share": "auditkit.deletion",
    "Task": "auditkit.contracts",
    "Unlearner": "auditkit.contracts",
    "choose": "auditkit.worst_case",
    "coin_flip_pairs": "auditkit.canaries",
    "plant": "auditkit.canaries",
    "read": "auditkit.data.readers",
    "register": "auditkit.plugins",
    "select": "auditkit.deletion",
}

__all__ = [
    "AuditkitError", "Backbone", "Dataset", "DeletionRequest", "Features", "Fit", "Interactions", "Method", "Recipe",
    "Recommender", "Record", "Settings", "Share", "Task", "Unlearner", "audit", "choose",
    "coin_flip_pairs", "plant", "read", "register", "select",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'auditkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
