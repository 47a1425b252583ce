"""How what was to be forgotten ranks as the system is served: no yardstick, so nothing here is a dose."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit

from auditkit.data.dataset import Bools, Floats
from auditkit.evidence import Evidence, Reading
from auditkit.probes import Pairs
from auditkit.record import Exposure

# In the order of the report.
GROUPS = ("forget", "retain", "outside")
_SHOWN = 20


def exposures(evidence: Evidence, n_items: int) -> list[Exposure]:
    """Ranks and listings of the pairs behind the units, by group; means over systems and pairs.

    Ranks need scores and are among all items, those that the user keeps too. Lists leave out what the user keeps, so
    retained pairs are in none and are left out here.

    Args:
        evidence: of systems that were all asked the same.
        n_items: of the catalogue.

    Returns:
        One entry for each group with pairs that were answered; empty where nothing of the kind was asked.
    """
    found = []
    for group in GROUPS:
        wanted = np.asarray(evidence.units["group"] == group)
        told = _ranked(evidence, wanted, n_items) | ({} if group == "retain" else _listed(evidence, wanted))
        if told:
            found.append(Exposure.model_validate({"group": group, **told}))
    return found


def _ranked(evidence: Evidence, wanted: Bools, n_items: int) -> dict[str, Any]:
    if Pairs() not in evidence.readings:
        return {}
    asked, answers = _answers(evidence.readings[Pairs()], "rank", wanted)
    if not answers.size:
        return {}
    top = expit(answers)
    # The logit is of (r - .5) / N counted from below.
    place = (1 - top) * n_items + 0.5
    return {"n_pairs": asked, "percentile": float(top.mean()), "top_20": float((place <= _SHOWN).mean())}


def _listed(evidence: Evidence, wanted: Bools) -> dict[str, Any]:
    listed: dict[str, float] = {}
    asked = 0
    for probe, reading in evidence.readings.items():
        if "hit" in reading.values and hasattr(probe, "k"):
            asked, answers = _answers(reading, "hit", wanted)
            if answers.size:
                listed[str(probe.k)] = float((answers > 0).mean())
    return {"n_pairs": asked, "listed": listed} if listed else {}


def _answers(reading: Reading, signal: str, wanted: Bools) -> tuple[int, Floats]:
    """How many pairs were asked about, and what was answered."""
    mine = wanted[reading.unit]
    values = reading.values[signal][:, mine]
    return int(mine.sum()), values[np.isfinite(values)]
