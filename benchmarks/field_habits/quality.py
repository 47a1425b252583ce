"""Forget quality as other works print it, on systems whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from auditkit.data.dataset import Floats
from auditkit.statistics.forget_quality import klom, klom_gaussian, ks_forget_quality, neurips_epsilon
from auditkit.statistics.membership_oracle import MemberFeatures, membership_inference_oracle
from benchmarks.field_habits.pairs import SIGNALS, Pairs
from benchmarks.field_habits.tables import number


@dataclass(frozen=True)
class Quality:
    """The numbers of one group of systems; NaN where one is undefined.

    Attributes:
        log10_p: median over systems of the Kolmogorov-Smirnov p against one Gold (TOFU), as a decimal logarithm.
        divergence: KLoM, mean over pairs by histograms.
        divergence_normal: the same with margins taken as normal.
        score: of the NeurIPS 2023 competition, in [0, 1], 1 best.
        infinite: share of pairs whose epsilon there is infinite.
        resolution: largest finite epsilon there.
    """

    log10_p: float
    divergence: float
    divergence_normal: float
    score: float
    infinite: float
    resolution: float


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def quality(unlearned: Floats, golds: Floats) -> Quality:
    """Forget quality of some systems against as many Golds.

    Args:
        unlearned: float64 [R, n_pairs], z at the forgotten pairs.
        golds: float64 [R, n_pairs].
    """
    each = [_or_nan(ks_forget_quality(a, b).log10_p) for a, b in zip(unlearned, golds, strict=True)]
    competition = neurips_epsilon(unlearned, golds)
    return Quality(
        float(np.median(each)),
        _or_nan(klom(unlearned, golds).mean),
        _or_nan(klom_gaussian(unlearned, golds).mean),
        _or_nan(competition.score),
        _or_nan(competition.share_infinite),
        _or_nan(competition.resolution),
    )


def _features(answer: dict[str, Floats], pairs: Pairs) -> MemberFeatures:
    table = np.stack([answer[name] for name in SIGNALS], axis=1)
    return MemberFeatures(
        table[pairs.rows("forget")], table[pairs.rows("test")], pairs.forget_users, pairs.test_users
    )  # fmt: skip


def oracle(before: dict[str, Floats], after: dict[str, Floats], pairs: Pairs) -> str:
    """Accuracy of the membership inference oracle (SCIF) on forgotten and test pairs: before -> after (chance).

    Args:
        before, after: signal -> float64 [n_pairs] of the original and of the unlearned system.
        pairs: what they were read at.
    """
    found = membership_inference_oracle(_features(before, pairs), _features(after, pairs))
    first, second = (number(_or_nan(accuracy.value)) for accuracy in (found.before, found.after))
    return f"{first} -> {second} ({number(_or_nan(found.chance_after))})"
