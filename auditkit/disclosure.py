"""How much a system's answers disclose of single units: a lower bound on epsilon from each attack's unit scores."""

from __future__ import annotations

from auditkit.contracts import Attack
from auditkit.crossing import cross_score, score_targets
from auditkit.data.dataset import Floats
from auditkit.evidence import Evidence
from auditkit.findings import Judged
from auditkit.record import Estimate
from auditkit.statistics.epsilon import EpsilonBound, epsilon_held_out, epsilon_split
from auditkit.yardstick import Yardstick


def epsilon_low(
    yardstick: Yardstick, judged: Judged, evidence: Evidence, tuned: Evidence | None, *, seed: int
) -> Estimate:
    """Lower bound on epsilon: how surely the unit scores of one run are told from those of one Gold.

    The system's first run against the first Gold on the same units: means over runs or Golds would scatter less than
    one system and show a difference where there is none. Threshold and direction are chosen on units that the bound
    does not count: on those of the split `tune` where there are any, else on a random half of the clusters. The bound
    counts one unit a cluster. It treats units of one system as independent given the system, and so ignores what the
    units of different clusters share through the training seed.

    Args:
        yardstick: of the attack, on the units that are judged.
        judged: its readings of the system.
        evidence: all that was read of the system, tuned units included.
        tuned: the background's answers about the tuned units; None with nothing tuned.
        seed: of the audit.

    Returns:
        An estimate without an interval: the value is itself the one-sided 95% bound. None, with a note, for an attack
        whose scores have no direction, and where a class is empty.
    """
    attack = yardstick.attack
    if not (attack.fails_in or attack.primary_for):
        return Estimate(note="its scores are distances without a direction, which bound no epsilon")
    clusters = yardstick.background.units["cluster"].to_numpy()
    positive, negative = judged.runs[0], yardstick.rows(yardstick.scores.level, "gold", judged.units)[0]
    own = clusters[judged.units]
    if tuned is None:
        bound = epsilon_split(positive, negative, clusters_positive=own, clusters_negative=own, seed=seed)
        return _said(bound, "a random half of the clusters")
    try:
        choosing = _tuned_scores(attack, evidence.of_split("tune"), tuned)
    except Exception as error:  # an attack is a plug-in: whatever it raises bounds nothing
        return Estimate(note=f"no scores of the tuned units: {type(error).__name__}: {error}")
    bound = epsilon_held_out(*choosing, positive, negative, clusters_positive=own, clusters_negative=own, seed=seed)
    return _said(bound, "the units tuned on")


def _tuned_scores(attack: Attack, target: Evidence, background: Evidence) -> tuple[Floats, Floats]:
    """Scores of the first run and of the first Gold on the tuned units; NaN elsewhere."""
    mine = score_targets(attack, target, background).level[0]
    # Where an attack needs Golds, each is scored against the others; else one scoring does for all.
    gold = int(background.rows("gold")[0])
    if attack.needs.golds:
        return mine, cross_score(attack, background).level[gold]
    return mine, score_targets(attack, background.take([gold]), background).level[0]


def _said(bound: EpsilonBound, where: str) -> Estimate:
    if bound.value is None:
        return Estimate(note=f"no epsilon: {bound.note}")
    return Estimate(
        value=bound.value, n_units=bound.n_positive, n_systems=1, note=bound.note,
        method=f"one-sided {bound.confidence:.0%} lower bound of the first run against one Gold; threshold chosen on "
        f"{where}; Clopper-Pearson on one unit a cluster, taken as independent; {bound.resolution:.2f} at the most",
    )  # fmt: skip
