"""The attacks that may decide in a regime; each goes through the same studies on the same systems."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from auditkit.attacks.fold_in import FoldInAttack
from auditkit.attacks.fold_in_lists import FoldInListsAttack
from auditkit.attacks.lira_combined import LiraCombined
from auditkit.attacks.lira_linear import LiraLinear
from auditkit.attacks.listed import Listed
from auditkit.attacks.matched_items import MatchedItems
from auditkit.battery import PRIMARIES, access_words
from auditkit.contracts import Access
from auditkit.deletion import Regime
from auditkit.linear import LinearAttack
from auditkit.plan import ALL_ACCESS


@dataclass(frozen=True)
class Candidate:
    """An attack that decides, and the access of the audits that it decides.

    Attributes:
        attack: the primary one.
        allowed: what the auditor may ask for; diagnostics that need more do not run.
        signal: in its name where it reads another signal than by default.
    """

    attack: LinearAttack
    allowed: Access = ALL_ACCESS
    signal: str = ""

    @property
    def label(self) -> str:
        """Name, signal and access, for files and rows."""
        name = f"{self.attack.name} ({self.signal})" if self.signal else self.attack.name
        return name if self.allowed == ALL_ACCESS else f"{name}, by {access_words(self.allowed)} alone"

    @property
    def slug(self) -> str:
        """Name of its folder."""
        return re.sub(r"[^a-z0-9]+", "-", self.label).strip("-")


CANDIDATES: Mapping[Regime, tuple[Candidate, ...]] = {
    "interaction": (
        Candidate(LiraLinear()),
        Candidate(LiraLinear(signal="rank"), signal="rank"),
        Candidate(LiraLinear(signal="softmax"), signal="softmax"),
        Candidate(LiraCombined()),
        Candidate(MatchedItems()),
        Candidate(Listed(k=100), Access.LISTS),
    ),
    "user": (
        Candidate(FoldInAttack()),
        Candidate(FoldInListsAttack(), Access.LISTS | Access.NEW_USERS),
    ),
    "item": (Candidate(FoldInAttack()),),
}  # fmt: skip


def default(regime: Regime) -> Candidate:
    """The one that decides in an audit with every access."""
    return next(c for c in CANDIDATES[regime] if c.attack.name == PRIMARIES[regime][0])
