"""Halving what was forgotten: one half is told to the system, the other is asked."""

from __future__ import annotations

import numpy as np
import pandas as pd

from auditkit.data.dataset import Bools
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case

# Fewer pairs cannot be halved into something to tell and something to ask.
MIN_PAIRS = 4


def half_of_each(pairs: pd.DataFrame, by: str, rng: np.random.Generator) -> Bools:
    """A random half, rounded down, of the pairs that share a value of the column `by`: bool [n_pairs]."""
    place = pairs.assign(draw=rng.random(len(pairs))).groupby(by)["draw"].rank(method="first")
    size = pairs.groupby(by)[by].transform("size")
    return np.asarray(place <= size // 2, np.bool_)


def halved_histories(case: Case, rng: np.random.Generator) -> pd.DataFrame:
    """Pairs of the forget units that have at least 4, half of each unit's marked in the column `told`.

    Raises:
        NotApplicableError: the request names no whole users or items, or none of them has 4 pairs.
    """
    if case.request.regime not in ("user", "item"):
        raise NotApplicableError("fold-in asks about whole users or items; this request names interactions")
    pairs = case.pairs()
    pairs = pairs[case.forget[pairs["unit"].to_numpy()]]
    sizes = pairs.groupby("unit")["unit"].transform("size")
    pairs = pairs[sizes >= MIN_PAIRS].reset_index(drop=True)
    if pairs.empty:
        raise NotApplicableError(f"no unit of the request has {MIN_PAIRS} training pairs to halve")
    found: pd.DataFrame = pairs.assign(told=half_of_each(pairs, "unit", rng))
    return found
