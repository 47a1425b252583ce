from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from auditkit.backbones.multimodal import imputed


@given(st.integers(0, 1000), st.integers(1, 3), st.integers(1, 6))
def test_absent_rows_read_their_members_mean(seed: int, members: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    values, present = rng.normal(size=(members * n, 2)), rng.random(members * n) < 0.6
    values[~present] = np.nan
    found = imputed(torch.from_numpy(values), torch.from_numpy(present), members).numpy()
    for member in range(members):
        rows = slice(member * n, member * n + n)
        kept = values[rows][present[rows]]
        mean = kept.mean(0) if len(kept) else np.zeros(2)
        expected = np.where(present[rows, None], values[rows], mean)
        np.testing.assert_allclose(found[rows], expected, atol=1e-12)


def test_with_every_row_present_nothing_is_copied() -> None:
    values = torch.randn(4, 2)
    assert imputed(values, torch.ones(4, dtype=torch.bool)) is values


def test_absent_rows_get_no_gradient_and_present_ones_share_the_mean() -> None:
    values = torch.tensor([[1.0], [3.0], [torch.nan]], requires_grad=True)
    imputed(values, torch.tensor([True, True, False]))[2].sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert values.grad.flatten().tolist() == [0.5, 0.5, 0.0]
