"""How alike items are in content."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.preprocessing import normalize

from auditkit.data.dataset import Bools, Dataset, Floats


@dataclass(frozen=True, eq=False)
class Content:
    """What items are made of.

    Attributes:
        vectors: float64 [n_items, width], unit length, 0 for items without content; products are cosines.
        present: bool [n_items], the item has content in some modality.
    """

    vectors: Floats
    present: Bools


def content_of(data: Dataset) -> Content | None:
    """Features of all modalities side by side, each at unit length and 0 where it is absent; None without features."""
    if not data.features:
        return None
    parts, present = [], np.zeros(data.n_items, np.bool_)
    for modality in data.modalities:
        features = data.features[modality]
        parts.append(normalize(np.where(features.present[:, None], features.values, 0.0).astype(np.float64)))
        present |= features.present
    return Content(np.asarray(normalize(np.hstack(parts)), np.float64), present)
