"""Is our procedure theirs? Their own original, read as one more system that was trained here.

Where Golds and originals are trained here for a system made elsewhere, the doses of its audit are those of *our*
procedure. Their original says whether it is theirs too: it must read like an original of ours, and what it does to
pairs that nobody was trained on says what a Gold of theirs would read, since to a Gold the forgotten pairs are such.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from auditkit.contracts import Scores
from auditkit.crossing import score_targets
from auditkit.data.dataset import Bools, Floats, Ints
from auditkit.decoys import MIN_DECOYS
from auditkit.errors import ConfigurationError, NotApplicableError
from auditkit.evidence import Case, Evidence, Reading
from auditkit.findings import read_system, score_system
from auditkit.probes import Lists, Pairs
from auditkit.record import Control
from auditkit.statistics.dose import LinearScale
from auditkit.statistics.imitation import Forecast, forecast, next_original, overlaps, square_distances
from auditkit.usefulness import Usefulness
from auditkit.yardstick import Rules, Yardstick

# Of all checks together: how often a system of our own procedure may be refused.
ALPHA = 0.05
# Relative. Seeds move recall by 1%; other lengths of training whose Golds read alike move it by less than a tenth;
# other data, splits or masks by far more. It finds those alone: a LightGCN may rank as well as a BPR-MF.
UTILITY = 0.10
# Relative. On MovieLens-100K other lengths of training stay within it; LightGCN beside BPR-MF is off by 10%, and EASE
# by 8% towards more: it lies nearer to what the seeds of BPR-MF have in common than they do to one another.
OVERLAP = 0.03
MIN_POINTS = 20
METRICS = ("recall@20", "ndcg@20")

_EXPECTED = "their original reads like one more original trained here"
_OTHER = (
    "INVALID: the systems trained here are not of their procedure, so doses would be read on a wrong yardstick; "
    "correct the recipe, or give Golds and originals of their own training"
)
_UNKNOWN = (
    "INCONCLUSIVE: nothing shows that the systems trained here are of their procedure, since their original could not "
    "be compared with them; give an original that answers the questions"
)


class Observed(Protocol):
    """What was read of some systems; `auditkit.flow.Observations` is one."""

    evidence: Evidence
    usefulness: dict[str, Usefulness]


@dataclass(frozen=True)
class Figure:
    """One figure of their original beside ours.

    Attributes:
        theirs, ours: theirs, and what is expected of one more of ours.
        low, high: what is accepted; low None is no bound on that side.
        note: what was left out.
    """

    theirs: float
    ours: float
    low: float | None
    high: float
    note: str = ""

    @property
    def inside(self) -> bool:
        """Accepted."""
        return (self.low is None or self.theirs >= self.low) and self.theirs <= self.high

    def words(self) -> str:
        """Such as `0.288 (0.900 to 1.100)`."""
        span = f"at most {self.high:.3f}" if self.low is None else f"{self.low:.3f} to {self.high:.3f}"
        return f"{self.theirs:.3f} ({span}{', ' + self.note if self.note else ''})"


@dataclass(frozen=True)
class Imitation:
    """Whether the systems trained here can stand for theirs.

    Attributes:
        accepted: every check that could be made was passed, and one of them reads more than ranking quality.
        control: for the record.
        figures: check -> figure.
        skipped: check -> why it could not be made.
    """

    accepted: bool
    control: Control
    figures: Mapping[str, Figure]
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Compared:
    """A figure before its band is known, which depends on how many there are."""

    theirs: float
    ours: Forecast
    tolerance: float
    above_only: bool = False
    note: str = ""

    def figure(self, alpha: float) -> Figure:
        half = max(self.tolerance, self.ours.half(2 * alpha if self.above_only else alpha))
        low = None if self.above_only else self.ours.value - half
        return Figure(self.theirs, self.ours.value, low, self.ours.value + half, self.note)


@dataclass(frozen=True, eq=False)
class _Question:
    """Both sides on the judged units."""

    theirs: Evidence
    ours: Evidence
    case: Case
    rules: Rules

    @property
    def held(self) -> Floats:
        """The share of the request that each of ours holds, float64 [n]."""
        return np.asarray(self.ours.held[:, self.case.forget & self.case.judged].mean(1), np.float64)


_Checks = Iterator[tuple[str, _Compared | str]]


def check_imitation(
    theirs: Observed, background: Observed, primary: Yardstick | None, case: Case, rules: Rules
) -> Imitation:
    """Compare their original with the systems that were trained here.

    A figure is refused where it lies farther from what is expected of one more of ours than the tolerance and than the
    prediction interval, whichever is wider; all intervals together miss a system of our procedure in 5%. The tolerance
    is the margin, on the verdict's own scale; for ranking quality 10%.

    - `dose`, `pattern`: of their original on the primary attack, where ours read 1.
    - `gold level`, `gold pattern`: what a Gold of theirs would read, carried over from pairs nobody was trained on.
    - `retained shift`, `outside shift`: mean z at retained pairs, and at pairs outside training where nothing could be
      carried over, less ours; over the mean gap of z between originals and Golds at the forgotten pairs.
    - `retained spread`, `outside spread`: mean square distance to ours beyond that of one more of ours, on rho's scale.
    - `overlap`: of top-K lists, where no score could be read.
    - `recall@20`, `ndcg@20`.

    Args:
        theirs: of their original, a single system.
        background: of the systems trained here.
        primary: calibrated on the background; None where it does not apply.
        case: data, request and units.
        rules: give the margin.

    Raises:
        ConfigurationError: `theirs` is not a single system.
    """
    if len(theirs.evidence.systems) != 1:
        raise ConfigurationError(
            f"the imitation is checked against one original, got {len(theirs.evidence.systems)}; name one with "
            'role = "original"'
        )
    asked = _Question(theirs.evidence.of_split("judge"), background.evidence.of_split("judge"), case, rules)
    found = dict([*_primary(asked, primary), *_pairs(asked, primary), *_utility(asked, theirs, background)])
    compared = {name: one for name, one in found.items() if isinstance(one, _Compared)}
    figures = {name: one.figure(ALPHA / len(compared)) for name, one in compared.items()}
    skipped = {name: one for name, one in found.items() if isinstance(one, str)}
    known = any(name not in METRICS for name in figures)
    accepted = known and all(figure.inside for figure in figures.values())
    return Imitation(accepted, _control(figures, skipped, known), figures, skipped)


def _primary(asked: _Question, primary: Yardstick | None) -> _Checks:
    if primary is None or not primary.power:
        yield "dose", "the primary attack cannot read it" if primary is None else "the audit has no power"
        return
    try:
        yield from _ends(asked, primary)
    except NotApplicableError as reason:
        yield "dose", str(reason)
    if primary.decoys is not None:
        yield from _carried(asked, primary)


def _ends(asked: _Question, primary: Yardstick) -> _Checks:
    judged, (scores, _) = read_system(primary, asked.theirs), score_system(primary, asked.theirs)
    note = "" if judged.coverage == 1 else f"{judged.coverage:.0%} of the units answered"
    statistics = [("dose", primary.scores.level, scores.level, primary.lines.level)]
    if primary.has_pattern and primary.scores.pattern is not None and scores.pattern is not None:
        statistics.append(("pattern", primary.scores.pattern, scores.pattern, primary.lines.pattern))
    for name, known, own, line in statistics:
        scale: LinearScale = primary.scale(known, judged.units)
        ours = next_original(scale.dose(scale.originals), scale.gold_doses)
        ours = replace(ours, error=ours.error * line.slope(1.0))
        value = line.dose(float(scale.dose(own[:, judged.units])[0]))
        yield name, _Compared(value, ours, asked.rules.margin, note=note)


def _carried(asked: _Question, primary: Yardstick) -> _Checks:
    both = asked.theirs.joined(asked.ours)
    scores = _as_golds(both, primary)
    if scores is None:
        yield "gold level", f"it answered fewer than {MIN_DECOYS} pairs outside training"
        return
    statistics = [("gold level", primary.scores.level, scores.level, primary.lines.level)]
    if primary.has_pattern and primary.scores.pattern is not None and scores.pattern is not None:
        statistics.append(("gold pattern", primary.scores.pattern, scores.pattern, primary.lines.pattern))
    for name, known, own, line in statistics:
        doses = primary.scale(known, primary.judged).dose(own[:, primary.judged]) * line.slope(0.0)
        ours = forecast(doses[1:], asked.held)
        # An original of ours has a Gold of ours, which reads 0 whatever the originals' decoys show.
        yield name, _Compared(doses[0] - ours.value, replace(ours, value=0.0), asked.rules.margin)


def _as_golds(both: Evidence, primary: Yardstick) -> Scores | None:
    """Scores of the mean Gold, moved as each system moved its decoys; None where the first answered too few."""
    assert primary.decoys is not None
    readings = {}
    for probe, signals in primary.decoys.signals.items():
        if probe not in both.readings:
            return None
        reading, moved = both.readings[probe], {}
        for name, shared in signals.items():
            if np.isfinite(reading.values[name][0, shared.decoys]).sum() < MIN_DECOYS:
                return None
            moved[name] = shared.gold + shared.split(reading.values[name])[0]
        readings[probe] = Reading(reading.points, moved, reading.n_units)
    return score_targets(primary.attack, replace(both, readings=readings), primary.background)


def _pairs(asked: _Question, primary: Yardstick | None) -> _Checks:
    if Pairs() not in asked.theirs.readings or Pairs() not in asked.ours.readings:
        yield from _lists(asked)
        return
    reading = asked.ours.readings[Pairs()]
    theirs, ours = asked.theirs.readings[Pairs()].values["z"][0], reading.values["z"]
    groups = np.asarray(asked.case.units["group"])[reading.unit]
    known = np.isfinite(ours).all(0)
    gap, width = _scale(asked.ours, ours[:, known & (groups == "forget")])
    carried = primary is not None and primary.power and primary.decoys is not None
    for group, word in (("retain", "retained"), ("outside", "outside")):
        of_group = known & (groups == group)
        points = of_group & np.isfinite(theirs)
        if points.sum() < MIN_POINTS:
            if of_group.sum() >= MIN_POINTS:
                yield f"{word} shift", f"it answered {points.sum()} of {of_group.sum()} such pairs"
            continue
        share = points.sum() / of_group.sum()
        note = "" if share == 1 else f"{share:.0%} of the pairs answered"
        yield from _group(asked, word, theirs[points], ours[:, points], (gap, width), note, carried=carried)


def _group(
    asked: _Question, word: str, theirs: Floats, ours: Floats, scale: tuple[float, float], note: str, *, carried: bool
) -> _Checks:
    (gap, width), margin = scale, asked.rules.margin
    if not gap > 0:
        yield f"{word} shift", "originals do not stand above Golds there, so there is no scale"
    elif not (carried and word == "outside"):
        expected = forecast(ours.mean(1) / gap, asked.held)
        shift = float(theirs.mean() / gap) - expected.value
        yield f"{word} shift", _Compared(shift, replace(expected, value=0.0), margin, note=note)
    if not width > 0:
        yield f"{word} spread", "originals spread no wider than Golds there, so there is no scale"
        return
    away, own = square_distances(theirs, ours, asked.held)
    expected = forecast(own / width, np.ones(len(own)))
    yield (
        f"{word} spread",
        _Compared(away / width - expected.value, replace(expected, value=0.0), margin, above_only=True, note=note),
    )


def _scale(ours: Evidence, forgotten: Floats) -> tuple[float, float]:
    """Mean gap of z, and V_O - V_G, between originals and Golds at the forgotten pairs, [n, n_points]."""
    originals, golds = forgotten[ours.rows("original")], forgotten[ours.rows("gold")]
    if not forgotten.shape[1] or not len(originals) or len(golds) < 2:
        return float("nan"), float("nan")
    middle, n = golds.mean(0), len(golds)
    squares = ((originals - middle) ** 2).mean() * n / (n + 1) - ((golds - middle) ** 2).mean() * n / (n - 1)
    return float((originals - middle).mean()), float(squares)


def _lists(asked: _Question) -> _Checks:
    lists = next((p for p in asked.ours.readings if isinstance(p, Lists) and p in asked.theirs.readings), None)
    if lists is None:
        yield "retained shift", "neither scores at pairs nor lists could be read"
        return
    reading = asked.ours.readings[lists]
    rows = _one_a_user(reading, np.asarray(asked.case.units["group"] != "forget"))
    theirs = asked.theirs.readings[lists].values["items"][0, rows].astype(np.int64)
    mine, own = overlaps(theirs, reading.values["items"][:, rows].astype(np.int64))
    if not np.isfinite(mine):
        yield "overlap", "no list could be read"
        return
    expected = forecast(own, asked.held)
    yield "overlap", _Compared(mine, expected, OVERLAP * expected.value)


def _one_a_user(reading: Reading, units: Bools) -> Ints:
    """Positions of points of these units, one for each user: a user's list is the same for all of them."""
    rows = np.flatnonzero(units[reading.unit])
    return rows[np.unique(reading.points["user"].to_numpy()[rows], return_index=True)[1]]


def _utility(asked: _Question, theirs: Observed, background: Observed) -> _Checks:
    mine = theirs.usefulness.get(asked.theirs.systems[0].name)
    known = [k for k, s in enumerate(asked.ours.systems) if s.name in background.usefulness]
    for metric in METRICS:
        own = [background.usefulness[asked.ours.systems[k].name].metrics.get(metric, np.nan) for k in known]
        value = np.nan if mine is None else mine.metrics.get(metric, np.nan)
        if len(own) < 3 or not np.isfinite([value, *own]).all():
            yield metric, "it was not measured"
            continue
        expected = forecast(own, asked.held[known])
        yield metric, _Compared(value, expected, UTILITY * abs(expected.value))


def _control(figures: Mapping[str, Figure], skipped: Mapping[str, str], known: bool) -> Control:
    off = {name: figure for name, figure in figures.items() if not figure.inside}
    told = [f"{name} {figure.words()}" for name, figure in (off or figures).items()]
    missing = [f"{name} not compared: {why}" for name, why in skipped.items()]
    if off:
        start = f"refused by {len(off)} of {len(figures)} checks: "
    else:
        start = f"{len(figures)} checks passed: " if known else "nothing but ranking quality could be compared: "
    return Control(
        name="imitation", expected=_EXPECTED, observed=start + "; ".join([*told, *missing]), ok=known and not off,
        consequence=_OTHER if off else _UNKNOWN,
    )  # fmt: skip
