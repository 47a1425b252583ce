"""docs/measured-attacks.md: a table a world, and which attack would be the best primary for each access."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.attack_catalogue.worlds import World
from benchmarks.calibration.page import markdown

_INTRO = """\
# The attack catalogue, measured

`python -m benchmarks.attack_catalogue --store FOLDER --out docs/measured-attacks.md` writes this page. Audits are drawn
from one pool of trained systems a world (quick 4, standard 3, certify 1 of them): originals, Golds and references of
the profile's size; an original and Golds that were not drawn are then read.

- `AUC original`, `TPR@1%`: unit scores of an original against those of the drawn Golds; `AUC Gold` the same for a Gold.
- `margin quick | standard | certify`: the attainable margin on the dose scale, the smallest at which 90% of true Golds
  would PASS by this attack; without a pattern by its level alone. Empty: the original does not stand out.
- `rejected`: share of fresh Golds whose level differs from Gold's at two-sided 5%; `FAIL Gold`: beyond the margin.
- `FAIL other epochs`: the same for honest deletions, retrained for 2/3 and 3/2 of the epochs; `dose other epochs`: the
  farthest level or pattern among them. An attack that FAILs them may not be primary, however small its margin.
- `probe s`: seconds to ask one system (with reading it from the store); `score s`: to calibrate the attack on the
  largest profile. Another process measured beside, so both are upper bounds.

Below each table: the attacks that do not apply there, with the reason they give."""


def _access_table(lines: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Of the attacks that may be primary, the one with the smallest margin for every set of access."""
    column = f"margin {profile}"
    able = lines[lines["may be primary"] & lines[column].notna()].sort_values(column)
    best = able.drop_duplicates("access")
    return best[["access", "attack", column, "rejected", "FAIL Gold", "FAIL other epochs"]]


def _world(world: World, found: Sequence[Mapping[str, Any]]) -> str:
    lines = pd.DataFrame([line for line in found if "reason" not in line])
    refused: dict[str, list[str]] = {}
    for line in found:
        if "reason" in line:
            refused.setdefault(line["reason"], []).append(line["attack"])
    parts = [f"## {world.name}"]
    if len(lines):
        margins = [f"margin {p}" for p in world.profiles]
        order = lines.sort_values(margins[-1], na_position="last")
        told = ("AUC original", "TPR@1%", "AUC Gold")
        errors = ("rejected", "FAIL Gold", "FAIL other epochs", "dose other epochs")
        shown = ["attack", "access", *told, *margins, *errors, "probe s", "score s", "units"]
        parts.append(markdown(order[shown].replace({None: np.nan})))
        parts.append("Of the attacks that may be primary there, the one with the smallest margin, by access:")
        parts.append(markdown(_access_table(lines, world.profiles[-1])))
    parts += [f"- not applicable: {', '.join(names)}: {reason}" for reason, names in refused.items()]
    return "\n\n".join(parts)


def page(found: Sequence[tuple[World, Sequence[Mapping[str, Any]]]]) -> str:
    """The whole page."""
    return "\n\n".join([_INTRO, *(_world(world, lines) for world, lines in found if lines)]) + "\n"
