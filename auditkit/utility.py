"""How good the recommendations are: recall, NDCG, precision, hit rate and MRR of full rankings, per user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from auditkit.contracts import Recommender
from auditkit.data.dataset import Bools, Floats, Interactions, Ints
from auditkit.errors import ConfigurationError, NotApplicableError

# 64 MB of float32 scores: small enough for any machine, large enough that the work per block does not count.
_SCORES_PER_BLOCK = 2**24


@dataclass(frozen=True, eq=False)
class Utility:
    """Ranking quality of one system, per user.

    Attributes:
        users: int64 [n_evaluated], ascending: those with at least one truth pair.
        values: metric (`recall@20`, `ndcg@20`, `precision@20`, `hit_rate@20`, `mrr@20`, ...) -> float64
            [n_evaluated], each in [0, 1].
    """

    users: Ints
    values: Mapping[str, Floats]

    def mean(self) -> dict[str, float]:
        """Mean over users of every metric.

        Raises:
            NotApplicableError: no user was evaluated.
        """
        if not len(self.users):
            raise NotApplicableError("no user has a truth pair: utility is undefined; evaluate another part")
        return {name: float(values.mean()) for name, values in self.values.items()}


def evaluate(
    model: Recommender,
    truth: Interactions,
    masked: Interactions | Sequence[Interactions],
    *,
    ks: Sequence[int] = (10, 20),
    users: Ints | None = None,
) -> Utility:
    """Rank all items for every user with truth pairs and compare with the truth.

    With T the user's truth items and r the 1-based ranks of those among the best K: recall |r| / |T|,
    precision |r| / K, hit rate 1 if there is any, MRR 1 / min(r), and NDCG for binary relevance (Järvelin and
    Kekäläinen 2002), sum(1 / log2(r + 1)) over the same sum for the ranks 1..min(|T|, K). Equal scores rank
    the lower item id first (see `top_k`).

    Args:
        model: asked for scores in blocks of users of at most 64 MB.
        truth: the pairs that should be found; users without any are not evaluated.
        masked: pairs that are taken out of the ranking (train, or train and valid). They are never hits,
            though they count in |T| where `truth` names them; so do items whose score is NaN.
        ks: lengths K of the lists, each 1 or more; beyond `n_items` the rest of a list is empty.
        users: int64 [n], evaluate only these (those of them with truth pairs); None evaluates all.

    Returns:
        All metrics at every K, per user.

    Raises:
        ConfigurationError: no K, a K below 1, or an id outside the model's id spaces.
    """
    parts = (masked,) if isinstance(masked, Interactions) else tuple(masked)
    _check(model, (truth, *parts), ks)
    if users is not None:
        truth = truth.take(np.isin(truth.users, users))
    asked, n_truth = np.unique(truth.users, return_counts=True)
    hits = _hits(model, asked, truth, parts, max(ks))
    return Utility(asked, _metrics(hits, n_truth, ks))


def top_k(scores: Tensor, k: int) -> Tensor:
    """The k best items of each row, best first; equal scores rank the lower item id first.

    The order is that of a stable sort by falling score, on every device, at the cost of a selection.

    Args:
        scores: float [n, n_items]; NaN marks an item that is not offered.
        k: length of the lists, 1 or more.

    Returns:
        int64 [n, k] item ids on the device of `scores`, -1 where fewer than k items are offered.
    """
    kept = min(k, scores.shape[1])
    # Ascending order of the negated scores puts NaN last by itself: torch treats it as the greatest value.
    cost = scores.detach().neg()
    best, items = torch.topk(cost, min(kept + 1, scores.shape[1]), dim=1, largest=False)
    if best.shape[1] > kept:
        crossing = best[:, kept - 1] == best[:, kept]
        items = items[:, :kept]
        if crossing.any():
            items[crossing] = _lowest_ids(cost[crossing], best[crossing, kept - 1 : kept], kept)
    items = items.sort(dim=1).values
    best, order = cost.gather(1, items).sort(dim=1, stable=True)
    items = items.gather(1, order).masked_fill(best.isnan(), -1)
    return torch.nn.functional.pad(items, (0, k - kept), value=-1)


def _lowest_ids(cost: Tensor, last: Tensor, k: int) -> Tensor:
    """Of every row the items below `last`, then the lowest ids equal to it: int64 [n, k], ids ascending."""
    better, equal = cost < last, cost == last
    room = k - better.sum(dim=1, keepdim=True)
    chosen = better | (equal & (equal.cumsum(dim=1) <= room))
    return chosen.nonzero()[:, 1].view(-1, k)


def _check(model: Recommender, parts: Sequence[Interactions], ks: Sequence[int]) -> None:
    problems = []
    if not ks or min(ks) < 1:
        problems.append(f"ks must hold list lengths of 1 or more, got {tuple(ks)}")
    for kind, limit in (("users", model.n_users), ("items", model.n_items)):
        highest = max((int(getattr(p, kind).max()) for p in parts if len(p)), default=-1)
        if highest >= limit:
            problems.append(f"{kind} must be below {limit}, the model's number, got {highest}; pass its data")
    if problems:
        raise ConfigurationError(problems)


def _hits(model: Recommender, users: Ints, truth: Interactions, masked: Sequence[Interactions], k: int) -> Bools:
    """Whether the item at each rank is a truth item, bool [n_users, k]."""
    wanted = np.sort(truth.codes(model.n_items))
    found = np.zeros((len(users), k), np.bool_)
    for rows, scores in _masked_blocks(model, users, masked):
        items = top_k(scores, k).cpu().numpy()
        found[rows] = (items >= 0) & _contains(wanted, users[rows, None] * model.n_items + items)
    return found


def _masked_blocks(model: Recommender, users: Ints, masked: Sequence[Interactions]) -> Iterator[tuple[slice, Tensor]]:
    """Scores block by block, NaN at masked pairs: (rows of `users`, float [n_rows, n_items])."""
    seen = [part.matrix(model.n_users, model.n_items) for part in masked]
    size = max(1, _SCORES_PER_BLOCK // model.n_items)
    for start in range(0, len(users), size):
        rows = slice(start, min(start + size, len(users)))
        # A model may hand out its own table, so what is masked is a copy.
        scores = model.score(users[rows]).detach().clone()
        for part in seen:
            at = torch.as_tensor(np.stack(part[users[rows]].nonzero()).astype(np.int64), device=scores.device)
            scores[at[0], at[1]] = torch.nan
        yield rows, scores


def _contains(ordered: Ints, values: Ints) -> Bools:
    """Whether each value is in the ascending, non-empty array; bool of the shape of `values`."""
    place = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.asarray(ordered[place] == values, np.bool_)


def _metrics(hits: Bools, n_truth: Ints, ks: Sequence[int]) -> dict[str, Floats]:
    values: dict[str, Floats] = {}
    for k in sorted(set(ks)):
        top = hits[:, :k].astype(np.float64)
        n_hits, hit = top.sum(axis=1), top.max(axis=1)
        discount = 1 / np.log2(np.arange(2.0, k + 2))
        ideal = np.cumsum(discount)[np.minimum(n_truth, k) - 1]
        values[f"recall@{k}"] = n_hits / n_truth
        values[f"ndcg@{k}"] = top @ discount / ideal
        values[f"precision@{k}"] = n_hits / k
        values[f"hit_rate@{k}"] = hit
        values[f"mrr@{k}"] = hit / (top.argmax(axis=1) + 1)
    return values
