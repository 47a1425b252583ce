"""What a top-K list says of a pair, and the linear score of such signals, which are 0 for most pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from auditkit.data.dataset import Bools, Floats, Ints
from auditkit.evidence import Evidence
from auditkit.linear import LinearAttack
from auditkit.probes import row_moments
from auditkit.statistics.likelihood import InOut
from auditkit.utility import top_k


def list_signals(scores: Tensor, rows: Ints, items: Ints, k: int) -> dict[str, Floats]:
    """Where items stand in the lists of the k best of each row.

    With p the 1-based place in the list: `log` is log((k + 1) / p), `reciprocal` 1 / p, `hit` 1; each is 0 where the
    list does not show the item, for such a list is an answer. NaN where there is no list.

    Args:
        scores: float [n_rows, n_items]; NaN marks what cannot be listed. A row of equal scores ranks nothing and has no
            list.
        rows, items: int64 [n], which row and which item is asked about.
        k: length of the lists, 1 or more.

    Returns:
        Float64 [n] each.
    """
    lists = top_k(scores, min(k, scores.shape[1])).cpu().numpy()
    listed = lists[rows] == items[:, None]
    shown = listed.any(1)
    place = listed.argmax(1) + 1.0
    ranked = np.isfinite(row_moments(scores)[1].cpu().numpy())[rows]
    signals = {"log": np.log((k + 1) / place), "reciprocal": 1 / place, "hit": np.ones(len(rows))}
    return {name: np.where(ranked, shown * values, np.nan) for name, values in signals.items()}


def shown_by_some(fitted: InOut) -> Bools:
    """Points that at least one reference shows, bool [n_points]."""
    return np.asarray(fitted.usable & ((fitted.mean_in != 0) | (fitted.mean_out != 0)))


def moderated(fitted: InOut) -> InOut:
    """The fit with every variance half its own and half the mean over the points that any reference shows.

    A pair that no reference lists has no variance, nor has one that all references with it list alike and no other
    does: the first has no contrast and so no weight, the second would get a weight without bound. Half of the mean
    bounds it. No such point: the fit as it is.
    """
    shown = shown_by_some(fitted)
    if not shown.any():
        return fitted
    return replace(fitted, within=(fitted.within + fitted.within[shown].mean()) / 2)


def steadied(fitted: InOut) -> InOut:
    """The fit with contrasts drawn towards their mean over shown points, by as much as noise explains their scatter.

    A contrast has the sampling variance v (1/n_in + 1/n_out), v the variance within; what contrasts scatter beyond that
    is taken as real (James and Stein). Faint contrasts become one, and the score a count of what is listed; strong ones
    stay as they are. Points that no reference shows keep a contrast of 0.
    """
    shown = shown_by_some(fitted)
    if not shown.any():
        return fitted
    contrast = (fitted.mean_in - fitted.mean_out)[shown]
    noise = (fitted.within[shown] * (1 / fitted.inside.n[shown] + 1 / fitted.outside.n[shown])).mean()
    scatter = contrast.var()
    share = max(0.0, 1 - noise / scatter) if scatter > 0 else 0.0
    moved = np.zeros(len(shown))
    moved[shown] = (1 - share) * (contrast.mean() - contrast) / 2
    inside, outside = fitted.inside, fitted.outside
    return replace(
        fitted, inside=replace(inside, mean=inside.mean + moved), outside=replace(outside, mean=outside.mean - moved)
    )


class RareLinearAttack(LinearAttack):
    """A linear attack on a signal that is 0 at most points of most systems, and tells little at each."""

    def fit(self, background: Evidence) -> tuple[InOut, Bools]:
        """As in `LinearAttack`, with moderated variances and steadied contrasts."""
        fitted, usable = super().fit(background)
        return steadied(moderated(fitted)), usable
