"""Halving what was forgotten: one half is told to the system and the other asked, then the other way round."""

from __future__ import annotations

import numpy as np
import pandas as pd

from auditkit.data.dataset import Bools
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case

# Fewer pairs cannot be halved into something to tell and something to ask.
MIN_PAIRS = 4
# Of accounts. With fifty the shift that they show is known too badly, and every tenth FAIL of what holds half is lost
# (LightGCN, MovieLens-100K); with 300 none, and more would only cost time.
MOST_DECOYS = 300


def half_of_each(pairs: pd.DataFrame, by: str, rng: np.random.Generator) -> Bools:
    """A random half, rounded down, of the pairs that share a value of the column `by`: bool [n_pairs]."""
    place = pairs.assign(draw=rng.random(len(pairs))).groupby(by)["draw"].rank(method="first")
    size = pairs.groupby(by)[by].transform("size")
    return np.asarray(place <= size // 2, np.bool_)


def _halved(pairs: pd.DataFrame, by: str, rng: np.random.Generator) -> pd.DataFrame:
    """Pairs whose value of the column `by` has at least 4, half of each value's marked in the column `told`."""
    enough = pairs[pairs.groupby(by)[by].transform("size") >= MIN_PAIRS].reset_index(drop=True)
    found: pd.DataFrame = enough.assign(told=half_of_each(enough, by, rng))
    return found


def halved_histories(case: Case, rng: np.random.Generator) -> pd.DataFrame:
    """Pairs of the forget units that have at least 4, each twice: told to one fresh account, asked of another.

    A random half of a unit's pairs, rounded down, is told to its first account and asked of its second, the other half
    the other way round. Asked once of either half, a level would hang on the seed's noise at half of the pairs.

    Columns beside unit, user and item: `told`, and `account`, int 0, 1, ... for each fresh account.

    Raises:
        NotApplicableError: the request names no whole users or items, or none of them has 4 pairs.
    """
    if case.request.regime not in ("user", "item"):
        raise NotApplicableError("fold-in asks about whole users or items; this request names interactions")
    pairs = case.pairs()
    found = _halved(pairs[case.forget[pairs["unit"].to_numpy()]], "unit", rng)
    if found.empty:
        raise NotApplicableError(f"no unit of the request has {MIN_PAIRS} training pairs to halve")
    unit, _ = pd.factorize(found["unit"])
    both = [found.assign(account=2 * unit), found.assign(told=~found["told"], account=2 * unit + 1)]
    return pd.concat(both, ignore_index=True)


def decoy_histories(case: Case, rng: np.random.Generator) -> pd.DataFrame:
    """Accounts to compare with: half of a retained user's (item's) training pairs is told, its test pairs are asked.

    No system was trained on what is asked, and all were trained alike on what is told. At most 300 users (items) are
    drawn. Their points hang on one retained unit, whichever account they are of: all systems hold it, so it carries no
    weight in a score. Each has one account. Columns as those of `halved_histories`; empty where there is no such unit,
    or nobody with 4 training pairs and a test pair.
    """
    by, unit = case.request.regime, np.flatnonzero(case.units["group"] == "retain")[:1]
    named = case.request.users if by == "user" else case.request.items
    trained, tests = (
        pd.DataFrame({"unit": 0, "user": part.users, "item": part.items})
        for part in (case.retain.train, case.data.test)
    )
    trained = trained[trained[by].isin(tests[by]) & ~trained[by].isin(named)]
    halved = _halved(trained, by, rng)
    chosen = rng.permutation(np.unique(halved[by]))[: MOST_DECOYS if len(unit) else 0]
    found: pd.DataFrame = pd.concat([halved[halved["told"]], tests.assign(told=False)], ignore_index=True)
    found = found[found[by].isin(chosen)].reset_index(drop=True)
    return found.assign(unit=unit[0] if len(unit) else 0, account=pd.factorize(found[by])[0])
