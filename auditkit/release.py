"""What publishing a model before and after unlearning gives away: forgotten against retained units of one system."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from auditkit.contracts import Attack
from auditkit.crossing import check_needs, score_targets
from auditkit.data.dataset import Floats
from auditkit.errors import DataError, NotApplicableError
from auditkit.evidence import Evidence
from auditkit.findings import blank_finding
from auditkit.record import Finding
from auditkit.reported import reported_interval
from auditkit.statistics.intervals import Interval
from auditkit.statistics.roc import auc_clustered, tpr_at_fpr
from auditkit.yardstick import Rules


@dataclass(frozen=True)
class Release:
    """How well the forgotten units of one system can be told from its retained ones.

    Attributes:
        auc: chance that a forgotten unit scores above a retained one; .5 says nothing is given away.
        tpr: share of forgotten units found where at most `fpr` of the retained ones are.
        fpr: in [0, 1].
        n_forget, n_retain: units with a score.
    """

    auc: Interval
    tpr: Interval
    fpr: float
    n_forget: int
    n_retain: int


def release_auc(
    level: ArrayLike,
    forget: ArrayLike,
    retain: ArrayLike,
    clusters: ArrayLike,
    *,
    fpr: float = 0.01,
    confidence: float = 0.95,
) -> tuple[Release, ...]:
    """Read the scores of an attack with `release`: higher = more like deleted in between.

    A finding on releasing both models, not on the method: a model that was honestly retrained is found as well.

    Args:
        level: float [n_targets, n_units]; NaN, where the attack cannot tell, is left out and counted in the notes.
        forget, retain: bool [n_units]; a unit is in one of them or in neither.
        clusters: [n_units], labels such as users; units of one cluster are dependent.
        fpr: in [0, 1]; the rate is refused where fewer than 3 / fpr retained units have a score.
        confidence: in (0, 1).

    Returns:
        One per target. The AUC has no interval with fewer than 2 clusters of a class and no value with an empty class;
        the notes say so.

    Raises:
        DataError: the arrays are not about the same units, or a unit is both forgotten and retained.
    """
    scores, labels = np.asarray(level, np.float64), np.asarray(clusters)
    gone, kept = np.asarray(forget, np.bool_), np.asarray(retain, np.bool_)
    if scores.ndim != 2 or not scores.shape[1] == gone.size == kept.size == labels.size:
        shapes = scores.shape, gone.shape, kept.shape, labels.shape
        raise DataError(f"level must be [n_targets, n_units], the others [n_units], got {shapes}")
    if (gone & kept).any():
        raise DataError(f"{int((gone & kept).sum())} units are both forgotten and retained")

    def read() -> Iterator[Release]:
        for row in scores:
            above, below = row[gone], row[kept]
            yield Release(
                auc_clustered(above, below, labels[gone], labels[kept], confidence),
                tpr_at_fpr(above, below, fpr, confidence=confidence),
                fpr,
                int((~np.isnan(above)).sum()),
                int((~np.isnan(below)).sum()),
            )

    return tuple(read())


def release_findings(
    attacks: Sequence[Attack], evidence: Evidence, background: Evidence, rules: Rules
) -> list[Finding]:
    """What each attack with `release` finds of a method's systems, and what it finds of Golds beside them.

    Args:
        attacks: of the battery; the others are passed over.
        evidence: of the method's runs.
        background: of originals, Golds and references.
        rules: of the audit. No verdict depends on these findings.
    """
    return [_finding(attack, evidence, background, rules) for attack in attacks if attack.release]


def _finding(attack: Attack, evidence: Evidence, background: Evidence, rules: Rules) -> Finding:
    try:
        check_needs(attack, background, rules.allowed, rules.regime)
        if any(probe not in evidence.readings for probe in attack.probes):
            raise NotApplicableError("the system cannot be asked its probe")
        mine = _read(attack, evidence, background, 1 - 2 * rules.alpha)
        golds = _read(attack, background.take(background.rows("gold")), background, 1 - 2 * rules.alpha)
    except NotApplicableError as reason:
        return blank_finding(attack, rules, section="not_applicable", note=str(reason))
    except Exception as error:  # an attack is a plug-in: whatever it raises becomes its finding and bars a PASS
        return blank_finding(attack, rules, section="error", note=f"{type(error).__name__}: {error}")
    first, known = mine[0], [gold.auc.value for gold in golds if gold.auc.value is not None]
    beside = f"Golds read {np.mean(known):.3f} ({min(known):.3f} to {max(known):.3f})" if known else "no Gold was read"
    runs = f"the first of {len(mine)} runs; " if len(mine) > 1 else ""
    note = (
        f"{runs}forgotten against retained units of the same system; {beside}, so this is about releasing both models"
    )
    return blank_finding(attack, rules, section="release", note=note).model_copy(
        update={
            "auc": reported_interval(first.auc, n_units=first.n_forget),
            "tpr_at_fpr": {f"{first.fpr:g}": reported_interval(first.tpr)},
            "n_units": first.n_forget, "n_golds": len(golds),
        }
    )  # fmt: skip


def _read(attack: Attack, evidence: Evidence, background: Evidence, confidence: float) -> tuple[Release, ...]:
    level: Floats = score_targets(attack, evidence, background).level
    units = background.units
    asked = np.asarray(units["split"] == "judge")
    forget, retain = (asked & np.asarray(units["group"] == group) for group in ("forget", "retain"))
    return release_auc(level, forget, retain, units["cluster"].to_numpy(), confidence=confidence)
