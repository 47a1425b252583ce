"""A system in the store: the weights of every backbone in it, what each is served over, and a method's own arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auditkit.contracts import Backbone, Recipe, Recommender, Unlearner
from auditkit.costs import Cost
from auditkit.data.dataset import Dataset, Features, Interactions
from auditkit.errors import StoreError
from auditkit.store import Store

Arrays = dict[str, NDArray[Any]]


def save(
    store: Store, address: str, served: Recommender, recipe: Recipe, by: Unlearner | None, cost: Cost, build: Any
) -> None:
    """Put a system in place, whole or not at all.

    Args:
        store, address: where.
        served: the system.
        recipe: of its training.
        by: the method that made it and says how it is stored; None stores one backbone.
        cost: of making it.
        build: how it came to be, JSON-ready, for the description.
    """  # fmt: skip
    parts, own = by.dump(served) if by is not None else ((_backbone(served),), {})
    arrays: Arrays = {f"own.{name}": np.asarray(array) for name, array in own.items()}
    for k, part in enumerate(parts):
        arrays |= {f"{k}.{name}": array for name, array in _part_arrays(part).items()}
    data = parts[0].data
    meta = {
        "build": build, "cost": asdict(cost), "backbone": recipe.backbone, "config": dict(recipe.config),
        "n_backbones": len(parts), "n_users": data.n_users, "n_items": data.n_items,
        "features": {name: features.digest for name, features in data.features.items()},
    }  # fmt: skip
    store.write(address, arrays, meta)


def _backbone(served: Recommender) -> Backbone:
    assert isinstance(served, Backbone)
    return served


def _part_arrays(model: Backbone) -> Arrays:
    """Weights; pairs and feature presence of what a backbone is served over."""
    arrays: Arrays = {f"weights.{name}": p.detach().cpu().numpy() for name, p in model.named_parameters()}
    train = model.data.train
    arrays |= {"served.users": train.users.astype(np.int32), "served.items": train.items.astype(np.int32)}
    return arrays | {f"served.present.{name}": f.present for name, f in model.data.features.items()}


def load(
    store: Store, address: str, recipe: Recipe, by: Unlearner | None, data: Dataset, device: str
) -> tuple[Recommender, Cost]:
    """The inverse of `save`; `data` lends the feature values, which are not stored.

    Raises:
        StoreError: absent, altered, or not of this backbone.
    """
    arrays, meta = store.read(address)
    parts = [_part(_under(arrays, f"{k}."), meta, recipe, data, address, device) for k in range(meta["n_backbones"])]
    served = by.load(parts, _under(arrays, "own.")) if by is not None else parts[0]
    return served, Cost(**{**meta["cost"], "pieces": tuple(meta["cost"]["pieces"])})


def _under(arrays: Mapping[str, NDArray[Any]], prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _part(
    arrays: Arrays, meta: Mapping[str, Any], recipe: Recipe, data: Dataset, address: str, device: str
) -> Backbone:
    features = {n: Features(data.features[n].values, arrays[f"served.present.{n}"]) for n in meta["features"]}
    pairs = Interactions(arrays["served.users"], arrays["served.items"])
    served = Dataset(data.name, meta["n_users"], meta["n_items"], pairs, features=features)
    model = recipe.model(served, seed=0)
    _load_weights(model, _under(arrays, "weights."), address)
    return model.to(device).eval()


def _load_weights(model: Backbone, weights: Mapping[str, NDArray[Any]], address: str) -> None:
    expected = {name: tuple(p.shape) for name, p in model.named_parameters()}
    if expected != {name: array.shape for name, array in weights.items()}:
        raise StoreError(
            f"build {address} does not fit its backbone: expected {expected}; remove the folder and run again"
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(weights[name]))
