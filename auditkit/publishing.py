"""The publishable form of an audit: ids, seeds and digests under a key, the request as a commitment to its units.

An audit's own report tells a small request to whoever can list all users: its digests are functions of the request, and
its per-unit table holds ids. Here no name of the request can be computed without the key. What the numbers themselves
tell cannot be hidden without making them worthless; the published record's `limits` say what that is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from auditkit.commitment import UNTIED_COMMITMENT, Commitment, own_ids, pseudonym, units_of
from auditkit.data.dataset import Bools, Dataset, Ints
from auditkit.deciles import quantile_groups
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError, DataError
from auditkit.plan import seed_of
from auditkit.record import SCHEMA_VERSION, CommittedUnits, Finding, Record, Retained, SystemEntry, UnitGroup
from auditkit.redaction import WITHHELD, Redaction, about
from auditkit.requests import Names

ANY = "any"
# Seeds of single systems follow from the audit's, so this one must not be found by counting up.
GUESSABLE_SEED = 2**32

# Not functions of the request, and what reports of different keys can be compared by.
_OPEN = (
    "schema_version", "generator", "created", "verdict", "exit_code", "dataset", "backbone", "protocol", "environment"
)  # fmt: skip
_CASE = ("unit", "user", "item", "group", "activity", "popularity", "cluster", "split")
_MEASURED = ("original_score", "gold_score", "score:", "deviation:", "p:", "q:", "side:")
_Group = TypeVar("_Group", bound=UnitGroup)


@dataclass(frozen=True, eq=False)
class Audited:
    """What an audit was of, as its configuration says.

    Attributes:
        data, request: as audited.
        names: the data files' own ids.
        seed: of the audit.
    """

    data: Dataset
    request: DeletionRequest
    names: Names
    seed: int

    def check(self, record: Record) -> None:
        """See that a report is of this audit, and not published yet.

        Raises:
            ConfigurationError: it is not; all differences at once.
        """
        if record.request.commitment is not None:
            raise ConfigurationError("the report is published already; name the audit's own report")
        if problems := [*self._differences(record)]:
            raise ConfigurationError(problems)

    def _differences(self, record: Record) -> Iterator[str]:
        remedy = "name the configuration that the audit was run with, and the data as they were"
        if record.dataset.digest != self.data.digest:
            yield f"the report is of another data set than the configuration; {remedy}"
        if record.request.digest != self.request.digest:
            yield f"the report is of another request than the configuration; {remedy}"
        originals = [system.seeds[0] for system in record.systems if system.role == "original" and system.seeds]
        if originals and originals[0] != seed_of(self.seed, "original", 0):
            yield f"the report is of another audit.seed than the configuration's {self.seed}; {remedy}"

    def commitment(self, key: bytes) -> Commitment:
        """To the request's units, by the data files' own ids.

        Raises:
            ConfigurationError: the request is empty, or the key is too short.
        """
        return Commitment.of(key, units_of(self.request, self.names))


def publish(record: Record, units: pd.DataFrame, audited: Audited, key: bytes) -> tuple[Record, pd.DataFrame]:
    """The publishable record and per-unit table of an audit.

    Args:
        record, units: the audit's own.
        audited: what it was of.
        key: secret, 32 bytes or more; one for each request.

    Returns:
        The record, whose `units` is None until its table is written; and the table, see `published_units`.

    Raises:
        ConfigurationError: the report is published already or of another audit, or the key is too short.
        DataError: the table is not as this auditkit writes it.
    """
    audited.check(record)
    commitment, ranges = audited.commitment(key), _degree_ranges(audited.data)
    redaction = Redaction.of(key, record)
    told = {n: v if n in _OPEN else redaction.json(v, n) for n, v in record.model_dump(mode="json").items()}
    made = Record.model_validate(told)
    pairs = made.request.n_interactions
    request = {
        "commitment": CommittedUnits(root=commitment.root, n_units=commitment.n_units), "selection": WITHHELD,
        "n_interactions": about(pairs) if redaction.counts else pairs,
    }  # fmt: skip
    final = made.model_copy(
        update={
            "schema_version": SCHEMA_VERSION, "units": None, "request": made.request.model_copy(update=request),
            "systems": [_system(system, ranges, redaction.counts) for system in made.systems],
            "retained": {method: _retained(found, ranges) for method, found in made.retained.items()},
            "limits": [*made.limits, *limits(commitment, audited.seed)],
        }
    )  # fmt: skip
    # Columns are called after methods, so they are redacted as the methods' names are.
    return final, published_units(units, audited, key).rename(columns=redaction.text)


def limits(commitment: Commitment, seed: int) -> list[str]:
    """What a published report does and does not hide, for its list of limits.

    Args:
        commitment: to the request's units.
        seed: of the audit.
    """
    repeated = (
        "The audit's seed can be guessed: whoever holds the training data can train again for every candidate and see "
        "whose numbers agree to the last digit."
        if seed < GUESSABLE_SEED
        else "Whoever holds the training data can train for every candidate and see whose numbers come close; with the "
        "audit's seed, which must stay secret, they would agree to the last digit."
    )
    return [
        "Published under a key: ids are pseudonyms, seeds and digests of the request are keyed. The request is "
        f"committed to by the Merkle root {commitment.root}; units: {commitment.n_units}.",
        UNTIED_COMMITMENT,
        "Not hidden: how many units were to be forgotten, which rows of the per-unit table share a user or an item, "
        "ranges of activity and popularity, and every score, rate and figure. In a small request, or of units that are "
        "rare in these, they may tell who it is to whoever holds the data.",
        repeated,
    ]


@dataclass(frozen=True, eq=False)
class _Ranges:
    """Ranges of a degree over a data set, each with about a tenth of its users (or items)."""

    lows: Ints
    highs: Ints

    @classmethod
    def of(cls, ids: Ints, n: int) -> _Ranges:
        degrees = np.bincount(ids, minlength=n)
        groups = quantile_groups(degrees)
        parts = [degrees[groups == group] for group in range(groups.max() + 1)]
        return cls(np.array([part.min() for part in parts]), np.array([part.max() for part in parts]))

    def around(self, degrees: Ints) -> tuple[Ints, Ints]:
        """Both ends of the range that each degree lies in."""
        place = np.maximum(np.searchsorted(self.lows, degrees, side="right") - 1, 0)
        return self.lows[place], self.highs[place]

    def texts(self, degrees: Ints, named: Bools) -> list[str]:
        lows, highs = self.around(degrees)
        return [f"{low} to {high}" if told else ANY for low, high, told in zip(lows, highs, named, strict=True)]


def _degree_ranges(data: Dataset) -> dict[str, _Ranges]:
    return {
        "activity": _Ranges.of(data.train.users, data.n_users),
        "popularity": _Ranges.of(data.train.items, data.n_items),
    }


def _system(system: SystemEntry, ranges: Mapping[str, _Ranges], counts: bool) -> SystemEntry:
    findings = [_finding(finding) for finding in system.findings] if counts else system.findings
    deciles = [_group(decile, ranges) for decile in system.deciles]
    exposure = [e.model_copy(update={"n_pairs": about(e.n_pairs)}) for e in system.exposure]
    shown = exposure if counts else system.exposure
    return system.model_copy(update={"findings": findings, "deciles": deciles, "exposure": shown})


def _finding(finding: Finding) -> Finding:
    update = {"n_points": about(finding.n_points)}
    # The direct check of what a system is served over counts pairs as its units.
    if finding.attack == "served-data":
        update["n_units"] = about(finding.n_units)
    return finding.model_copy(update=update)


def _group(group: _Group, ranges: Mapping[str, _Ranges]) -> _Group:
    lows, highs = ranges[group.by].around(np.array([group.low, group.high]))
    return group.model_copy(update={"low": int(lows[0]), "high": int(highs[1])})


def _retained(found: Retained, ranges: Mapping[str, _Ranges]) -> Retained:
    return found.model_copy(update={"worst": found.worst and _group(found.worst, ranges)})


def published_units(units: pd.DataFrame, audited: Audited, key: bytes) -> pd.DataFrame:
    """The per-unit table under pseudonyms, its rows sorted by them and numbered anew.

    Args:
        units: as `auditkit.unit_table` makes it.
        audited: what the audit was of.
        key: secret.

    Returns:
        The same columns. `user`, `item` and `cluster` are pseudonyms of the data files' own ids, text, and `any` where
        the unit names none; `activity` and `popularity` are ranges that hold about a tenth of the data set's users or
        items each, such as `4 to 7`.

    Raises:
        DataError: a column is missing, or one is unknown, so that whether it may be published is unknown too.
    """
    _check_columns([str(name) for name in units.columns])
    users, items = units["user"].to_numpy(), units["item"].to_numpy()
    named = {
        "user": _pseudonyms(key, "user", own_ids(users, audited.names.user)),
        "item": _pseudonyms(key, "item", own_ids(items, audited.names.item)),
    }
    ranges = _degree_ranges(audited.data)
    # Of arrays, so that what else the file's reader attached to the old table stays there.
    columns: dict[str, Any] = {str(name): units[name].to_numpy() for name in units.columns} | named
    columns["cluster"] = [item if user == ANY else user for user, item in zip(*named.values(), strict=True)]
    for degree, ids in (("activity", users), ("popularity", items)):
        columns[degree] = ranges[degree].texts(columns[degree], ids >= 0)
    table = pd.DataFrame(columns).sort_values(["user", "item"], kind="stable", ignore_index=True)
    return table.assign(unit=np.arange(len(table)))


def _check_columns(names: list[str]) -> None:
    problems = [f"it lacks {name!r}" for name in _CASE if name not in names]
    problems += [f"{n!r} is unknown" for n in names if n not in _CASE and not n.startswith(_MEASURED)]
    if problems:
        raise DataError(f"the per-unit table is not of this auditkit: {', '.join(problems)}; audit again")


def _pseudonyms(key: bytes, kind: str, ids: list[str | None]) -> list[str]:
    made = {one: ANY if one is None else pseudonym(key, kind, one) for one in set(ids)}
    return [made[one] for one in ids]
