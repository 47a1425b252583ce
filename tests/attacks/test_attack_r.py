from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import percentileofscore

from auditkit.attacks.attack_r import AttackR
from auditkit.crossing import cross_score
from auditkit.evidence import Targets
from auditkit.testing import AttackTests


class TestAttackR(AttackTests):
    attack = AttackR()

    def test_against_scipy_point_by_point(self) -> None:
        for case, evidence in self.examples():
            reading = evidence.readings[self.attack.probes[0]]
            z, refs = reading.values["z"], evidence.rows("reference")
            level = cross_score(self.attack, evidence).level[0]
            for unit in np.flatnonzero(case.forget)[:20]:
                found = []
                for point in np.flatnonzero(reading.unit == unit):
                    out = [z[r, point] for r in refs if not evidence.held[r, unit]]
                    assert len(out) == len(refs) / 2
                    below = len(out) * percentileofscore(out, z[0, point], kind="mean") / 100
                    found.append(np.log((below + 0.5) / (len(out) + 0.5 - below)))
                assert_allclose(level[unit], np.mean(found), atol=1e-12)

    def test_units_that_every_reference_held_read_nan(self) -> None:
        for case, evidence in self.examples():
            level = cross_score(self.attack, evidence).level[0]
            retained = np.asarray(case.units["group"] == "retain")
            assert np.isnan(level[retained]).all()


class TestAttackROnSoftmax(AttackTests):
    attack = AttackR("softmax")


@pytest.mark.parametrize(("shift", "share"), [(-1.0, 1 / 4), (0.0, 1 / 2), (1.0, 3 / 4), (1e9, 3 / 4)])
def test_one_out_reference_reads_below_tie_or_above(shift: float, share: float) -> None:
    kit, attack = TestAttackR(), AttackR()
    case, evidence = next(kit.examples())
    probe, pair = attack.probes[0], evidence.rows("reference")[:2]
    reading = evidence.readings[probe]
    held = evidence.held[pair][:, reading.unit]
    assert (held.sum(0)[case.forget[reading.unit]] == 1).all()
    target = np.where(held[0], reading.values["z"][pair[1]], reading.values["z"][pair[0]])[None] + shift
    kept = {name: v[:1] for name, v in reading.values.items()} | {"z": target}
    mine = type(reading)(reading.points, kept, reading.n_units)
    level = attack.score(Targets({probe: mine}), evidence.take(pair)).level[0]
    assert_allclose(level[case.forget], np.log(share / (1 - share)))


def test_silent_references_do_not_count_and_infinite_targets_are_no_answer() -> None:
    kit = TestAttackR()
    case, evidence = next(kit.examples())
    probe = kit.attack.probes[0]
    reading, refs = evidence.readings[probe], evidence.rows("reference")
    z = reading.values["z"].copy()
    out = refs[~evidence.held[refs, 0]]
    z[out[0], 0], z[out[1], 0] = np.nan, np.inf
    z[out, 1] = np.nan
    z[0, 0], z[0, 2] = z[out[2:], 0].max() + 1, -np.inf
    out_of_1 = refs[~evidence.held[refs, 1]]
    z[out_of_1, 1] = np.nan
    changed = type(evidence)(
        evidence.systems, evidence.units, evidence.seen, evidence.held,
        {probe: type(reading)(reading.points, {**reading.values, "z": z}, reading.n_units)},
    )  # fmt: skip
    level = cross_score(kit.attack, changed).level[0]
    n = len(out) - 2
    assert_allclose(level[0], np.log((n + 0.5) / 0.5))
    assert np.isnan(level[[1, 2]]).all()
    assert np.isfinite(level[case.forget][3:]).all()
