"""Small random data that backbones are compared on with dense references."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from auditkit.data.dataset import Dataset, Features, Interactions


def exact_features(modalities: Sequence[str] = ("image", "text"), seed: int = 0) -> Dataset:
    """7 users and 9 items; the last user and the first item have no pair, item 6 has no features.

    Features are quarters, so that float32 holds the mean of the 8 present rows.
    """
    rng = np.random.default_rng(seed)
    mask = rng.random((7, 9)) < 0.5
    mask[-1], mask[:, 0] = False, False
    present = np.arange(9) != 6
    values = {m: (rng.integers(1, 9, size=(9, 3 + k)) / 4).astype(np.float32) for k, m in enumerate(modalities)}
    features = {m: Features(v, present) for m, v in values.items()}
    return Dataset("random", 7, 9, Interactions.unique(*np.nonzero(mask))[0], features=features)


def gaussian_features(modalities: Sequence[str] = ("image", "text"), seed: int = 0) -> Dataset:
    """7 users, 9 items; the last user and item 0 have no pairs, item 3 has no features of the first modality."""
    rng = np.random.default_rng(seed)
    mask = rng.random((7, 9)) < 0.4
    mask[-1], mask[:, 0] = False, False
    features = {}
    for k, modality in enumerate(modalities):
        values, present = rng.standard_normal((9, 4 + k), np.float32), np.ones(9, np.bool_)
        if k == 0:
            values[3], present[3] = np.nan, False
        features[modality] = Features(values, present)
    return Dataset("random", 7, 9, Interactions.unique(*np.nonzero(mask))[0], features=features)


def assert_same_with_gradients(found: Tensor, expected: Tensor, trained: Sequence[Tensor]) -> None:
    """Two losses are equal, and so are their gradients in all that is trained; to 1e-10."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    gradients = zip(torch.autograd.grad(found, trained), torch.autograd.grad(expected, trained), strict=True)
    for one, other in gradients:
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
