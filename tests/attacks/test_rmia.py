from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from auditkit.attacks.rmia import Rmia
from auditkit.crossing import cross_score
from auditkit.data.dataset import Bools, Floats, Ints
from auditkit.deletion import Regime
from auditkit.errors import ConfigurationError, NotApplicableError
from auditkit.evidence import Evidence, Reading, Targets
from auditkit.testing import AttackTests
from auditkit.testing.examples import small_evidence


def published(target: Floats, refs: Floats, held: Bools, x: Ints, z: Ints, attack: Rmia) -> Floats:
    """The paper's score pair by pair, for probabilities of the target [n] and of references [k, n]."""

    def expected(point: int) -> float:
        if attack.form == "offline":
            out = [refs[k, point] for k in range(len(refs)) if not held[k, point]]
            return float(0.5 * ((1 + attack.a) * np.mean(out) + (1 - attack.a)))
        return float(np.mean([refs[k, point] for k in range(len(refs))]))

    of_z = [target[point] / expected(point) for point in z]
    found = []
    for one in x:
        own = target[one] / expected(one)
        found.append(sum(own / other >= attack.gamma for other in of_z) / len(of_z))
    return np.array(found)


def odds(probabilities: Floats) -> Floats:
    """Logits of probabilities."""
    return np.log(probabilities / (1 - probabilities))


class _AgainstThePaper(AttackTests):
    def test_against_the_published_formula(self) -> None:
        """The design is balanced: every forgotten pair was held by half of the references."""
        for case, evidence in self.examples():
            assert isinstance(self.attack, Rmia)
            reading = evidence.readings[self.attack.probes[0]]
            p, refs = 1 / (1 + np.exp(-reading.values["softmax"])), evidence.rows("reference")
            held = evidence.held[refs][:, reading.unit]
            groups = case.units["group"].to_numpy()[reading.unit]
            z = np.flatnonzero(groups == ("outside" if (groups == "outside").any() else "retain"))
            x = np.flatnonzero(case.forget[reading.unit])
            level = cross_score(self.attack, evidence).level
            for target in evidence.rows("original", "gold")[:3]:
                naive = published(p[target], p[refs], held, x, z, self.attack)
                per_unit = [naive[reading.unit[x] == unit].mean() for unit in np.flatnonzero(case.forget)]
                assert_allclose(level[target, case.forget], per_unit, atol=1e-12)


class TestRmia(_AgainstThePaper):
    attack = Rmia()


class TestRmiaDemandingMore(_AgainstThePaper):
    attack = Rmia(gamma=1.3)


class TestRmiaOffline(_AgainstThePaper):
    attack = Rmia("offline")
    regimes: ClassVar[tuple[Regime, ...]] = ("interaction",)


class TestRmiaOfflineForClassifiers(_AgainstThePaper):
    attack = Rmia("offline", a=0.3)
    regimes: ClassVar[tuple[Regime, ...]] = ("interaction",)


@pytest.mark.parametrize("regime", ["user", "item"])
def test_offline_without_outside_pairs_is_refused(regime: Regime) -> None:
    evidence = small_evidence(Rmia().probes, regime)
    assert evidence is not None
    with pytest.raises(NotApplicableError, match="outside the request"):
        cross_score(Rmia("offline"), evidence)


def test_without_references_there_is_nothing_to_judge_by() -> None:
    evidence = small_evidence(Rmia().probes, "interaction")
    assert evidence is not None
    with pytest.raises(NotApplicableError, match="references can judge"):
        Rmia().score(Targets({Rmia().probes[0]: evidence.readings[Rmia().probes[0]]}), evidence.take([]))


@pytest.mark.parametrize("gamma_a", [(0.0, 1.0), (-1.0, 1.0), (1.0, 1.1), (1.0, -0.1)])
def test_parameters_without_a_meaning_are_refused(gamma_a: tuple[float, float]) -> None:
    with pytest.raises(ConfigurationError, match="gamma must be above 0"):
        Rmia("online", *gamma_a)


def _one_pair(in_p: list[float], out_p: list[float], target: float, attack: Rmia) -> tuple[float, int]:
    """Score of the first forgotten pair with these probabilities; z have ratios 1, 2, ..., n."""
    evidence = small_evidence(attack.probes, "interaction")
    assert evidence is not None
    probe = attack.probes[0]
    reading, refs = evidence.readings[probe], evidence.rows("reference")
    outside = np.flatnonzero(np.asarray(evidence.units["group"] == "outside")[reading.unit])
    p = np.full((len(evidence.systems), len(reading.points)), 1e-4)
    p[0, outside] = 1e-4 * np.arange(1, len(outside) + 1)
    p[0, 0] = target
    held = evidence.held.copy()
    k = len(in_p) + len(out_p)
    held[refs[:k], 0] = np.arange(k) < len(in_p)
    p[refs[:k], 0] = [*in_p, *out_p]
    few = Evidence(
        evidence.systems, evidence.units, evidence.seen, held,
        {probe: Reading(reading.points, {**reading.values, "softmax": odds(p)}, reading.n_units)},
    )  # fmt: skip
    targets = Targets({probe: few.readings[probe].take(np.array([0]))})
    return float(attack.score(targets, few.take(refs[:k])).level[0, 0]), len(outside)


def test_an_unbalanced_design_gives_each_side_its_half() -> None:
    """One IN at .8 and four OUT at .1, .2, .3, .4: p(x) is (.8 + .25)/2 and no 0 of a masked reference is in it."""
    expected = (0.8 + (0.1 + 0.2 + 0.3 + 0.4) / 4) / 2
    for multiple, share in ((0.5, 0), (1.5, 1), (1.86, 1), (1.9, 1)):
        score, n = _one_pair([0.8], [0.1, 0.2, 0.3, 0.4], multiple * expected, Rmia())
        assert score == pytest.approx(share / n)
    # Offline the IN reference is not read at all; a mean with a 0 for it would be .2 instead of .25.
    for multiple, share in ((0.95, 0), (1.2, 1), (2.1, 2), (3.9, 3)):
        score, n = _one_pair([0.8], [0.1, 0.2, 0.3, 0.4], multiple * 0.25, Rmia("offline"))
        assert score == pytest.approx(share / n)


def test_one_reference_a_side_and_one_side_alone() -> None:
    assert _one_pair([0.3], [0.1], 0.2 * 2.5, Rmia())[0] == pytest.approx(2 / 95)
    # Nobody held it: the OUT mean stands alone.
    assert _one_pair([], [0.1, 0.3], 0.2 * 2.5, Rmia())[0] == pytest.approx(2 / 95)
    assert _one_pair([0.1, 0.3], [], 0.2 * 2.5, Rmia())[0] == pytest.approx(2 / 95)


def test_ties_count_and_the_resolution_is_one_over_the_population() -> None:
    # A ratio that equals one of z's by construction: x is z.
    evidence = small_evidence(Rmia().probes, "interaction")
    assert evidence is not None
    level = cross_score(Rmia(), evidence).level[0]
    outside = np.asarray(evidence.units["group"] == "outside")
    assert_allclose(np.sort(level[outside]), np.arange(1, outside.sum() + 1) / outside.sum())
    steps = level[np.isfinite(level)] * outside.sum()
    assert_allclose(steps, np.round(steps), atol=1e-9)
    assert 0 <= np.nanmin(level) <= np.nanmax(level) <= 1


def _target(softmax: Floats) -> Floats:
    kit = TestRmia()
    _, evidence = next(kit.examples())
    level: Floats = kit.score(evidence, np.array([0]), softmax=softmax).level[0]
    return level


def test_probabilities_too_small_for_a_number_and_infinite_signals() -> None:
    evidence = small_evidence(Rmia().probes, "interaction")
    assert evidence is not None
    values = evidence.readings[Rmia().probes[0]].values["softmax"][:1].copy()
    values[0, :4] = -1e4, 800.0, np.inf, -np.inf
    level = _target(values)
    assert level[0] == 0.0
    assert level[1] > 0.5
    assert np.isnan(level[2:4]).all()


def test_a_target_that_answers_no_population_reads_nan() -> None:
    evidence = small_evidence(Rmia().probes, "interaction")
    assert evidence is not None
    reading = evidence.readings[Rmia().probes[0]]
    values = reading.values["softmax"][:1].copy()
    values[:, np.asarray(evidence.units["group"] == "outside")[reading.unit]] = np.nan
    assert np.isnan(_target(values)).all()


def test_a_target_that_reads_as_the_references_do_everywhere_outdoes_every_z() -> None:
    """Constant ratios: all LR are 1, which gamma = 1 counts and any larger one does not."""
    evidence = small_evidence(Rmia().probes, "interaction")
    assert evidence is not None
    probe = Rmia().probes[0]
    reading, refs = evidence.readings[probe], evidence.rows("reference")
    flat = np.full_like(reading.values["softmax"], odds(np.array(0.25)))
    parts = {probe: Reading(reading.points, {**reading.values, "softmax": flat}, reading.n_units)}
    same = Evidence(evidence.systems, evidence.units, evidence.seen, evidence.held, parts)
    targets = Targets({probe: parts[probe].take(np.array([0]))})
    for attack, share in ((Rmia(), 1.0), (Rmia(gamma=1.01), 0.0)):
        assert_array_equal(attack.score(targets, same.take(refs)).level[0], share)
