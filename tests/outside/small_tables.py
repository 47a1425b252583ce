"""Embedding tables of a few users and items, written as their owner would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auditkit.outside.source import Ids

N_USERS, N_ITEMS, WIDTH = 6, 5, 3
IDS = Ids(N_USERS, N_ITEMS)


def tables(seed: int = 0, **extra: Any) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    found = {
        "users": rng.standard_normal((N_USERS, WIDTH)).astype(np.float32),
        "items": rng.standard_normal((N_ITEMS, WIDTH)).astype(np.float32),
    }
    return {**found, **extra}


def write(folder: Path, arrays: dict[str, NDArray[Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values, allow_pickle=values.dtype == object)
    return folder


def tensors(arrays: dict[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in arrays.items()}
