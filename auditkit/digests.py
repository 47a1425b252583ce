"""Canonical form and digest of configurations: equal meaning, equal digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Flag
from typing import Any

import numpy as np


def canonical(value: Any) -> Any:
    """JSON-ready form of configurations, with sorted keys and plugin objects as name + fields."""
    if is_dataclass(value) and not isinstance(value, type):
        own = {f.name: canonical(getattr(value, f.name)) for f in fields(value)}
        name = getattr(value, "name", None)
        return {"name": name, **own} if isinstance(name, str) else own
    if isinstance(value, Mapping):
        return {str(k): canonical(value[k]) for k in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [canonical(v) for v in value]
    if isinstance(value, Flag):
        return value.name
    return value.item() if isinstance(value, np.generic) else value


def digest_of(*values: Any) -> str:
    """SHA-256 of the canonical JSON of `values`."""
    return hashlib.sha256(json.dumps(canonical(list(values)), sort_keys=True).encode()).hexdigest()
