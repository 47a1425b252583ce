from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm

from auditkit.attacks.lira import Lira
from auditkit.crossing import cross_score
from auditkit.data.dataset import Bools, Floats
from auditkit.evidence import Evidence, Targets
from auditkit.findings import blank_finding
from auditkit.linear import fit_references, summed
from auditkit.testing import AttackTests
from tests.gaussian import rules


def naive(evidence: Evidence, forget: Bools, form: str, variance: str) -> Floats:
    """The first system's score of every forget unit, point by point with scipy."""
    probe = Lira().probes[0]
    reading, refs = evidence.readings[probe], evidence.rows("reference")
    z, points = reading.values["z"], np.flatnonzero(forget[reading.unit])
    sides: dict[str, tuple[Floats, Floats]] = {}
    for name, of_side in (("in", True), ("out", False)):
        columns = [z[[r for r in refs if evidence.held[r, unit] == of_side], x] for x, unit in enumerate(reading.unit)]
        # Online the pooled variance is over points with both sides; offline, pairs outside training count too.
        pool = [columns[x] for x in (points if form == "online" else range(len(columns)))]
        freedom = sum(max(len(g) - 1, 0) for g in pool)
        pooled = sum(((g - g.mean()) ** 2).sum() for g in pool if len(g)) / freedom if freedom else np.nan
        own = [g.var(ddof=1) if variance == "point" else pooled for g in (columns[x] for x in points)]
        sides[name] = np.array([columns[x].mean() for x in points]), np.sqrt(own)
    if form == "online":
        found = norm.logpdf(z[0, points], *sides["in"]) - norm.logpdf(z[0, points], *sides["out"])
    else:
        found = norm.logcdf(z[0, points], *sides["out"])
    units = reading.unit[points]
    return np.array([np.asarray(found)[units == unit].sum() for unit in range(int(forget.sum()))])


class _AgainstScipy(AttackTests):
    def test_against_scipy_point_by_point(self) -> None:
        attack = self.attack
        assert isinstance(attack, Lira)
        for case, evidence in self.examples():
            expected = naive(evidence, case.forget, attack.form, attack.variance)
            assert_allclose(cross_score(attack, evidence).level[0, case.forget], expected, rtol=1e-9)


class TestLira(_AgainstScipy):
    attack = Lira()

    def test_units_that_no_reference_lacks_read_nan(self) -> None:
        for case, evidence in self.examples():
            level = cross_score(self.attack, evidence).level[evidence.rows("original")]
            assert np.isnan(level[:, ~case.forget]).all()

    def test_the_default_is_the_pooled_ratio_to_the_last_bit(self) -> None:
        for _, evidence in self.examples():
            background = evidence.take(evidence.rows("reference"))
            known = background.readings[self.attack.probes[0]]
            fitted, usable = fit_references(known, known.values["z"], background)
            reading = evidence.readings[self.attack.probes[0]].take(self.targets(evidence))
            scores = self.attack.score(Targets({self.attack.probes[0]: reading}), background)
            assert_array_equal(scores.level, summed(reading, fitted.log_ratio(reading.values["z"]), usable))


class TestLiraPerPoint(_AgainstScipy):
    attack = Lira(variance="point")
    # Four references a side estimate a point's variance too badly to claim anything.
    separates = False


class TestLiraOffline(_AgainstScipy):
    attack = Lira(form="offline")

    def test_scores_are_log_probabilities(self) -> None:
        for _, evidence in self.examples():
            level = cross_score(self.attack, evidence).level
            assert np.nanmax(level) <= 0

    def test_far_below_the_others_is_not_remembered(self) -> None:
        """Unlike a density: what lies far from OUT on the lower side reads low, on the upper side near 0."""
        _, evidence = next(self.examples())
        rows = self.targets(evidence)[:1]
        z = evidence.readings[self.attack.probes[0]].values["z"][rows]
        low, high = (self.score(evidence, rows, z=z + shift).level[0] for shift in (-50.0, 50.0))
        forget = np.asarray(evidence.units["group"] == "forget")
        assert (low[forget] < -100).all()
        assert_allclose(high[forget], 0.0, atol=1e-12)


class TestLiraOfflinePerPoint(_AgainstScipy):
    attack = Lira(form="offline", variance="point")
    separates = False


class TestLiraOnRanks(AttackTests):
    attack = Lira("rank")


def test_what_honest_deletions_move_does_not_count() -> None:
    assert all(Lira(signal).counts_in("interaction") for signal in ("z", "rank", "softmax"))
    assert Lira(variance="point").counts_in("user")
    assert not Lira("margin").counts_in("interaction")
    assert not Lira(form="offline").counts_in("interaction")
    assert not Lira().counts_in("item")
    found = blank_finding(Lira(form="offline"), rules(0.1), section="error", note="")
    assert not found.counts
    assert blank_finding(Lira(), rules(0.1), section="error", note="").counts


@pytest.mark.parametrize("signal", ["margin", "softmax"])
def test_every_signal_separates_original_from_golds(signal: str) -> None:
    class Case(AttackTests):
        attack = Lira(signal)  # type: ignore[arg-type]

    Case().test_higher_means_more_remembered()


class _Few(AttackTests):
    attack: ClassVar[Lira] = Lira()

    def level(self, count: int, form: Literal["online", "offline"], variance: Literal["pooled", "point"]) -> Floats:
        """The original's scores of forgotten pairs by the first references alone."""
        case, evidence = next(self.examples())
        attack = Lira("z", form, variance)
        probe = attack.probes[0]
        mine = Targets({probe: evidence.readings[probe].take(np.array([0]))})
        background = evidence.take(evidence.rows("reference")[:count])
        level: Floats = attack.score(mine, background).level[0, case.forget]
        return level


@pytest.mark.parametrize("form", ["online", "offline"])
def test_one_reference_on_a_side_has_no_variance_of_its_own(form: Literal["online", "offline"]) -> None:
    """Two references, one on either side everywhere: nothing scatters, the variance is 1 in both forms."""
    pooled, point = (_Few().level(2, form, variance) for variance in ("pooled", "point"))
    assert_array_equal(pooled, point)
    assert np.isfinite(pooled).all()


def test_references_that_agree_at_a_point_take_the_pooled_variance() -> None:
    kit = TestLiraPerPoint()
    _, evidence = next(kit.examples())
    probe, refs = kit.attack.probes[0], evidence.rows("reference")
    reading = evidence.readings[probe]
    z = reading.values["z"].copy()
    z[refs, 0] = np.where(evidence.held[refs, 0], 2.0, 1.0)
    parts = {probe: type(reading)(reading.points, {**reading.values, "z": z}, reading.n_units)}
    changed = type(evidence)(evidence.systems, evidence.units, evidence.seen, evidence.held, parts)
    own, pooled = (cross_score(Lira(variance=v), changed).level[0] for v in ("point", "pooled"))
    assert_allclose(own[0], pooled[0])
    assert (own[1:95] != pooled[1:95]).all()


def test_the_default_alone_runs_unless_named() -> None:
    assert Lira.battery() == (Lira("z", "online", "pooled"),)
    assert len(set(Lira.variants())) == 4
    assert Lira.variants()[0] == Lira()
