"""Item-item graphs from content: nearest neighbours by cosine, among the items whose features are present."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.sparse import block_diag, csr_array

from auditkit.data.dataset import Features
from auditkit.errors import ConfigurationError
from auditkit.utility import top_k

# Rows of similarities held at once.
_BLOCK = 1024


def nearest_neighbours(features: Features, k: int) -> csr_array:
    """The k most similar items of every item by cosine, itself included; float64 [n_items, n_items].

    Absent items have no row and no column: withdrawn content is nobody's neighbour. Similarities of 0 and below are
    kept, as the published codes do. Equal similarities keep the lower id.

    Args:
        features: values and which rows are present. A row of zeros is similar to nothing (0).
        k: neighbours, 1 or more; all present items where they are fewer.

    Raises:
        ConfigurationError: k is below 1.
    """
    if k < 1:
        raise ConfigurationError(f"neighbours must be 1 or more, got {k}")
    return _cached(_Keyed(features), k)


class _Keyed:
    """Features that equal others of the same content: graphs are found again by what they are made of."""

    def __init__(self, features: Features) -> None:
        self.features = features
        self.key = (features.digest, features.present.tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=16)
def _cached(keyed: _Keyed, k: int) -> csr_array:
    return search(keyed.features, k)


def search(features: Features, k: int) -> csr_array:
    """`nearest_neighbours` of features that will not be asked for again (projections in training), not remembered."""
    ids = np.flatnonzero(features.present)
    n = len(features.present)
    if not len(ids):
        return csr_array((n, n), dtype=np.float64)
    vectors = features.values[ids].astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    k = min(k, len(ids))
    columns, values = [], []
    for start in range(0, len(ids), _BLOCK):
        similar = torch.from_numpy(vectors[start : start + _BLOCK] @ vectors.T)
        best = top_k(similar, k)
        columns.append(ids[best.numpy()])
        values.append(similar.gather(1, best).numpy().astype(np.float64))
    rows = np.repeat(ids, k)
    made = csr_array((np.concatenate(values).ravel(), (rows, np.concatenate(columns).ravel())), shape=(n, n))
    return made.sorted_indices()


def members_apart(parts: list[csr_array]) -> csr_array:
    """The graphs of stacked members as one, block by block: [sum of n_items] square."""
    return parts[0] if len(parts) == 1 else csr_array(block_diag(parts, format="csr"))


def of_members(features: Features, members: int) -> list[Features]:
    """The features of stacked members, equally many rows each, taken apart again."""
    if members == 1:
        return [features]
    values, present = np.split(features.values, members), np.split(features.present, members)
    return [Features(v, p) for v, p in zip(values, present, strict=True)]


def binary(graph: csr_array) -> csr_array:
    """The same places with value 1."""
    return csr_array((np.ones_like(graph.data), graph.indices, graph.indptr), shape=graph.shape)
