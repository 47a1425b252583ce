"""How forgotten pairs rank as served, as rows of text that every report shows alike."""

from __future__ import annotations

from collections.abc import Iterator

from auditkit.record import Exposure, Record
from auditkit.reports import numbers, words

COLUMNS = ("System", "Pairs", "How many", "Mean percentile rank", "Among the 20 best of all items", "Shown in lists")
CAPTION = (
    "Where pairs rank as each system is served, without any comparison: a percentile rank of 1 is the top, .5 the "
    "middle. Pairs outside were never trained on"
)
_GROUPS = {"forget": "to be forgotten", "retain": "retained", "outside": "outside"}


def rows(record: Record) -> Iterator[tuple[str, ...]]:
    """One row for each system and group of pairs, in `COLUMNS`."""
    for system in words.ordered(record.systems):
        for exposure in system.exposure:
            yield system.name, *_cells(exposure)


def _cells(exposure: Exposure) -> tuple[str, ...]:
    listed = ", ".join(f"{numbers.percent(share)} in top {k}" for k, share in exposure.listed.items())
    return (
        _GROUPS[exposure.group], numbers.count(exposure.n_pairs), numbers.number(exposure.percentile),
        numbers.percent(exposure.top_20), listed or numbers.NOT_MEASURED,
    )  # fmt: skip
