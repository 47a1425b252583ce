"""How much of the reverse update each branch gets, by how much deleting concerns it more than keeping does.

Reconstructed for TRU (arXiv 2604.02183), which publishes no formula: rho_m = |g_f,m| / |g_r,m| over the parameters of
branch m, with g_f and g_r the gradients of the reverse and the forward term, and alpha_m = min(1, rho_m / mean of rho).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

_LEAST = 1e-12


def branch_scales(
    forward: Mapping[str, Tensor], reverse: Mapping[str, Tensor], branches: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """The alpha of every branch, in [0, 1]; 1 for an only branch.

    Args:
        forward, reverse: name -> gradient of the two terms.
        branches: branch -> names of its parameters; names without a gradient (not trained) do not count.
    """
    ratios = {m: _norm(reverse, names) / (_norm(forward, names) + _LEAST) for m, names in branches.items()}
    mean = sum(ratios.values()) / max(len(ratios), 1)
    return {m: min(1.0, ratio / mean) if mean > 0 else 1.0 for m, ratio in ratios.items()}


def parameter_scales(
    forward: Mapping[str, Tensor], reverse: Mapping[str, Tensor], branches: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Name -> factor of the reverse gradient: the mean of its branches' alpha; 1 in no branch."""
    scales = branch_scales(forward, reverse, branches)
    found = {}
    for name in reverse:
        own = [scales[m] for m, names in branches.items() if name in names]
        found[name] = sum(own) / len(own) if own else 1.0
    return found


def _norm(gradients: Mapping[str, Tensor], names: Sequence[str]) -> float:
    squares = [float(gradients[name].double().square().sum()) for name in names if name in gradients]
    return math.sqrt(sum(squares))
