"""Texts and numbers of a record with what the request could be found from replaced: digests, seeds, errors, counts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from auditkit.commitment import keyed_digest, pseudonym
from auditkit.record import Record

WITHHELD = "withheld from publication"

# Eight digits are the shortest head of a digest that a message shows.
_HEX = re.compile(r"[0-9a-f]{8,}", re.IGNORECASE)
# As long as this, letters and digits mixed, it is taken for a digest even where it is none of the report's.
_LONG = 12
_PAIRS_LEFT = re.compile(r"(\d+) of (\d+)(?= forgotten pairs)")
_POINTS = re.compile(r"(?<=the request has )\d+")
_UNSCORED = "no scores of the tuned units: "


def about(count: int) -> int:
    """A count rounded to a power of two, which says how large and not who; 0 stays."""
    return int(2 ** round(math.log2(count))) if count else 0


@dataclass(frozen=True, eq=False)
class Redaction:
    """What is replaced in a record, and by what.

    Attributes:
        key: secret.
        secret: digests that are functions of the request.
        public: digests that are not; they stay.
        errors: text of an error, which may name anything -> what stands instead.
        counts: whether counts of interactions are rounded: in a request of users or items they tell activity.
    """

    key: bytes
    secret: frozenset[str]
    public: frozenset[str]
    errors: Mapping[str, str]
    counts: bool

    @classmethod
    def of(cls, key: bytes, record: Record) -> Redaction:
        """What must be replaced in this record."""
        builds = {digest for system in record.systems for digest in system.digests}
        return cls(
            key, frozenset({record.request.digest, record.config_digest, record.policy.digest, *builds} - {""}),
            frozenset({record.dataset.digest, *(s.procedure for s in record.systems)} - {""}), dict(_errors(record)),
            record.request.regime != "interaction",
        )  # fmt: skip

    def json(self, value: Any, name: str = "") -> Any:
        """Any JSON value with its texts replaced, names of fields too; `seed` and `seeds` hold seeds.

        Args:
            value: what `json.loads` gives.
            name: of the field that holds it.
        """
        if isinstance(value, dict):
            return {self.text(field): self.json(inner, field) for field, inner in value.items()}
        if isinstance(value, list):
            return [self.json(inner, name) for inner in value]
        if isinstance(value, str):
            return self.text(value)
        return self._seed(value) if name in ("seed", "seeds") and isinstance(value, int) else value

    def text(self, text: str) -> str:
        """One text: errors withheld, digests and their heads keyed, counts of forgotten pairs rounded."""
        for error in sorted(self.errors, key=len, reverse=True):
            text = text.replace(error, self.errors[error])
        text = _HEX.sub(self._digest, text)
        if self.counts:
            text = _PAIRS_LEFT.sub(lambda found: f"{int(found[1]) / max(int(found[2]), 1):.0%} of", text)
            text = _POINTS.sub(lambda found: f"about {about(int(found[0]))}", text)
        return text

    def _digest(self, found: re.Match[str]) -> str:
        run = found[0].lower()
        if any(digest.startswith(run) for digest in self.public):
            return found[0]
        whole = next((digest for digest in self.secret if digest.startswith(run)), None)
        mixed = len(run) >= _LONG and not run.isdecimal() and not run.isalpha()
        return keyed_digest(self.key, whole or run)[: len(run)] if whole or mixed else found[0]

    def _seed(self, seed: int) -> int:
        # 31 bits, like the seeds of systems.
        return int(pseudonym(self.key, "seed", seed)[:8], 16) & 0x7FFFFFFF


def _errors(record: Record) -> Iterator[tuple[str, str]]:
    for finding in (finding for system in record.systems for finding in system.findings):
        if finding.section == "error" and finding.note:
            yield finding.note, _kind(finding.note)
        bound = finding.epsilon_low.note
        if bound.startswith(_UNSCORED):
            yield bound, _UNSCORED + _kind(bound.removeprefix(_UNSCORED))


def _kind(error: str) -> str:
    kind, told, _ = error.partition(": ")
    return f"{kind if told and kind.isidentifier() else 'an error'}: {WITHHELD}"
