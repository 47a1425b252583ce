"""Several audits side by side: what may be compared, and ranks only where intervals separate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter

from auditkit.errors import ConfigurationError
from auditkit.record import Estimate, Record, SystemEntry, Verdict

METRICS = ("recall@20", "ndcg@20")
DEPTH, RECALL, SPEEDUP = "depth", "recall@20 delta", "speedup"
UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Rank:
    """The places that a row may have among `of` rows, 1 = best; one place only where its interval separates it."""

    best: int
    worst: int
    of: int


@dataclass(frozen=True)
class Setting:
    """What two systems must share for their numbers to be compared.

    Attributes:
        schema: major version of the report's schema.
        dataset_digest, request_digest: of the data set and of the deletion request.
        primary: attack that the forgetting depth is read by.
        utility: split and masked pairs that recall is measured with.
        dataset, regime, selection: the first report's words for them; words need not agree, since digests must.
    """

    schema: str
    dataset_digest: str
    request_digest: str
    primary: str
    utility: str
    dataset: str = field(compare=False)
    regime: str = field(compare=False)
    selection: str = field(compare=False)


@dataclass(frozen=True)
class Source:
    """A report that was compared; rows name it by its place, counted from 1."""

    place: int
    name: str
    created: str
    generator: str
    config_digest: str
    verdict: Verdict


@dataclass(frozen=True)
class Row:
    """One audited system of one report.

    Attributes:
        source: place of its report.
        name, method, label, parameters, backbone, verdict: as in the report.
        values: quantity -> estimate; one that is missing or not finite has no value and says why.
        ranks: quantity -> places within the group; None where the row is not ranked by it.
        unranked: why the row is ranked by nothing; "" where it is.
    """

    source: int
    name: str
    method: str
    label: str
    parameters: Mapping[str, Any]
    backbone: str
    verdict: Verdict | None
    values: Mapping[str, Estimate]
    ranks: Mapping[str, Rank | None]
    unranked: str = ""


@dataclass(frozen=True)
class Yardstick:
    """What Golds and originals of one report show.

    Attributes:
        source, backbone: whose they are.
        margin: of the policy; a depth of 1 - margin or more lies within it.
        gold_recall: Recall@20 of one more Gold minus the mean Gold: 0 with its 95% prediction interval.
        original_recall: the original's delta.
    """

    source: int
    backbone: str
    margin: float
    gold_recall: Estimate
    original_recall: Estimate


@dataclass(frozen=True)
class Group:
    """Rows that may be compared, best first, with what to keep in mind about them."""

    setting: Setting
    rows: tuple[Row, ...]
    yardsticks: tuple[Yardstick, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Groups in the order in which their first report was given."""

    sources: tuple[Source, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """What `json.dumps(..., allow_nan=False)` accepts."""
        whole: dict[str, Any] = TypeAdapter(Comparison).dump_python(self, mode="json")
        return whole


def _depth(system: SystemEntry) -> Estimate:
    return system.depth


def _speedup(system: SystemEntry) -> Estimate:
    it = system.speedup_vs_gold
    positive = it.value is None or it.value > 0
    return it if positive else Estimate(note="a ratio of times must be above 0")


def _delta(metric: str) -> Callable[[SystemEntry], Estimate]:
    def read(system: SystemEntry) -> Estimate:
        found = system.utility.get(metric)
        return found.delta_vs_gold if found else Estimate(note=f"{metric} was not measured")

    return read


QUANTITIES: Mapping[str, Callable[[SystemEntry], Estimate]] = {
    DEPTH: _depth, **{f"{metric} delta": _delta(metric) for metric in METRICS}, SPEEDUP: _speedup,
}  # fmt: skip
"""Of each row; all are relative to Golds of the row's own backbone, and more is better in all."""


def compare(records: Sequence[Record], names: Sequence[str]) -> Comparison:
    """Put the audited systems of several reports side by side.

    Systems share a group, and ranks, only where data set, request, primary attack, utility protocol and the schema's
    major version agree. A digest that is not recorded equals no other. A report given twice counts once. A system of
    an INVALID audit is shown and not ranked, since its readings carry no verdict.

    Args:
        records: one or more.
        names: what to call each.

    Raises:
        ConfigurationError: there is no report, or not one name for each.
    """
    if not records or len(records) != len(names):
        raise ConfigurationError(
            f"compare needs reports and one name each, got {len(records)} and {len(names)}; name a report.json"
        )
    kept, notes = _without_repeats(records, names)
    settings = {place: _setting(record, place) for place, (record, _) in kept.items()}
    groups = [
        _group(setting, {place: kept[place][0] for place in kept if settings[place] == setting})
        for setting in dict.fromkeys(settings.values())
    ]
    sources = tuple(_source(place, record, name) for place, (record, name) in kept.items())
    return Comparison(sources, tuple(groups), (*notes, *_apart(groups)))


def rank(estimates: Sequence[Estimate]) -> list[Rank]:
    """The places each estimate may have: [1 + number certainly better, number not certainly worse].

    One is certainly better than another where its interval lies wholly above; touching intervals do not separate. A
    missing end is unbounded. Intervals are taken as reported, not widened for the number of comparisons.

    Args:
        estimates: with a value each; more is better.
    """
    spans = [_span(estimate) for estimate in estimates]
    n = len(spans)
    return [
        Rank(1 + sum(other[0] > high for other in spans), n - sum(other[1] < low for other in spans), n)
        for low, high in spans
    ]


def _span(estimate: Estimate) -> tuple[float, float]:
    low = -math.inf if estimate.low is None else estimate.low
    high = math.inf if estimate.high is None else estimate.high
    return min(low, high), max(low, high)


def _without_repeats(
    records: Sequence[Record], names: Sequence[str]
) -> tuple[dict[int, tuple[Record, str]], list[str]]:
    kept: dict[int, tuple[Record, str]] = {}
    known: dict[str, str] = {}
    notes = []
    for place, (record, name) in enumerate(zip(records, names, strict=True), 1):
        content = record.model_dump_json()
        if content in known:
            notes.append(f"{name} is the same report as {known[content]} and counts once")
        else:
            known[content] = name
            kept[place] = (record, name)
    return kept, notes


def _setting(record: Record, place: int) -> Setting:
    alone = f"{UNKNOWN} (report {place})"
    data, request, protocol = record.dataset, record.request, record.protocol
    return Setting(
        schema=record.schema_version.partition(".")[0], dataset=data.name, dataset_digest=data.digest or alone,
        regime=request.regime, selection=request.selection, request_digest=request.digest or alone,
        primary=record.policy.primary, utility=f"split {protocol.split}, masked {protocol.masked}",
    )  # fmt: skip


def _source(place: int, record: Record, name: str) -> Source:
    return Source(place, name, record.created, record.generator, record.config_digest, record.verdict)


def _group(setting: Setting, records: Mapping[int, Record]) -> Group:
    rows = [
        _row(place, record, system)
        for place, record in records.items()
        for system in record.systems
        if system.role == "unlearned"
    ]
    yardsticks = tuple(_yardstick(place, record) for place, record in records.items())
    return Group(setting, tuple(sorted(_ranked(rows), key=_order)), yardsticks, tuple(_notes(records)))


def _row(place: int, record: Record, system: SystemEntry) -> Row:
    return Row(
        source=place, name=system.name, method=system.method, label=system.label, parameters=system.parameters,
        backbone=record.backbone.name, verdict=system.verdict, ranks={},
        values={name: _finite(read(system)) for name, read in QUANTITIES.items()},
        unranked="its audit is INVALID" if "INVALID" in (system.verdict, record.verdict) else "",
    )  # fmt: skip


def _finite(estimate: Estimate) -> Estimate:
    """The estimate with ends that are not finite taken as missing, or none with the reason."""
    if estimate.value is None or not math.isfinite(estimate.value):
        return Estimate(note=estimate.note or ("" if estimate.value is None else "the reported value is not finite"))
    ends = {
        name: end if end is not None and math.isfinite(end) else None
        for name, end in (("low", estimate.low), ("high", estimate.high))
    }
    return Estimate(**{name: getattr(estimate, name) for name in Estimate.model_fields} | ends)


def _ranked(rows: Sequence[Row]) -> list[Row]:
    places: list[dict[str, Rank | None]] = [dict.fromkeys(QUANTITIES) for _ in rows]
    for name in QUANTITIES:
        able = [k for k, row in enumerate(rows) if not row.unranked and row.values[name].value is not None]
        for k, found in zip(able, rank([rows[k].values[name] for k in able]), strict=True):
            places[k][name] = found
    return [replace(row, ranks=found) for row, found in zip(rows, places, strict=True)]


def _order(row: Row) -> tuple[Any, ...]:
    found, value = row.ranks[DEPTH], row.values[DEPTH].value
    places = (found.best, found.worst) if found else (math.inf, math.inf)
    return (*places, math.inf if value is None else -value, row.backbone, row.name, row.source)


def _yardstick(place: int, record: Record) -> Yardstick:
    measured = {s.role: s for s in reversed(record.systems) if METRICS[0] in s.utility}
    # Differences are to the plain Golds, which are listed apart where the audited procedure is another one.
    gold, original = measured.get("plain gold", measured.get("gold")), measured.get("original")
    return Yardstick(
        source=place, backbone=record.backbone.name, margin=record.policy.margin,
        gold_recall=_band(gold) if gold else Estimate(note="no Gold's recall is in the report"),
        original_recall=_finite(original.utility[METRICS[0]].delta_vs_gold) if original else Estimate(),
    )  # fmt: skip


def _band(gold: SystemEntry) -> Estimate:
    """Of one more Gold against the mean of S: t sd sqrt(1 + 1/S), from the interval t sd / sqrt(S) of the mean."""
    mean = _finite(gold.utility[METRICS[0]])
    n_golds = mean.n_systems or len(gold.seeds)
    if mean.value is None or mean.low is None or mean.high is None or n_golds < 2:
        return Estimate(value=0.0, note="the Golds' scatter is not in the report")
    half = (mean.high - mean.low) / 2 * math.sqrt(n_golds + 1)
    return Estimate(
        value=0.0, low=-half, high=half, confidence=mean.confidence, n_systems=n_golds,
        method="prediction interval of one more Gold about the mean Gold",
    )  # fmt: skip


def _notes(records: Mapping[int, Record]) -> list[str]:
    chosen = list(records.values())
    audited = [s for record in chosen for s in record.systems if s.role == "unlearned"]
    varied: Mapping[str, list[Any]] = {
        "margins": [f"{record.policy.margin:g}" for record in chosen],
        "levels": [f"{record.policy.alpha:g}" for record in chosen],
        "profiles": [record.policy.profile for record in chosen],
        "shares of tuned clusters": [f"{record.policy.tune:g}" for record in chosen],
        "machines": [s.cost.machine for s in audited if s.cost.machine],
    }
    unlike = [(name, list(dict.fromkeys(found))) for name, found in varied.items()]
    notes = [f"{name} differ: {', '.join(found)}" for name, found in unlike if len(found) > 1]
    if not audited:
        notes.append("no unlearned system was audited")
    return notes


_TOLD: Mapping[str, str] = {
    "schema": "schema versions", "dataset_digest": "data sets", "request_digest": "deletion requests",
    "primary": "primary attacks", "utility": "utility protocols",
}  # fmt: skip


def _apart(groups: Sequence[Group]) -> list[str]:
    """Why the groups must not be compared with one another."""
    if len(groups) < 2:
        return []
    unlike = [told for name, told in _TOLD.items() if len({getattr(group.setting, name) for group in groups}) > 1]
    return [f"{len(groups)} groups that cannot be compared with one another: their {', '.join(unlike)} differ"]
