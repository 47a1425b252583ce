from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm

from auditkit.attacks.lira import Lira
from auditkit.crossing import cross_score
from auditkit.testing import AttackTests


class TestLira(AttackTests):
    attack = Lira()

    def test_against_scipy_point_by_point(self) -> None:
        for case, evidence in self.examples():
            reading = evidence.readings[self.attack.probes[0]]
            z, refs = reading.values["z"], evidence.rows("reference")
            points = np.flatnonzero(case.forget[reading.unit])
            held = evidence.held[np.ix_(refs, reading.unit[points])]
            values = z[np.ix_(refs, points)]
            mean_in = np.array([values[h, k].mean() for k, h in enumerate(held.T)])
            mean_out = np.array([values[~h, k].mean() for k, h in enumerate(held.T)])
            var_in = ((values - mean_in)[held] ** 2).sum() / (held.sum(0) - 1).sum()
            var_out = ((values - mean_out)[~held] ** 2).sum() / ((~held).sum(0) - 1).sum()
            ratio = np.asarray(
                norm.logpdf(z[0, points], mean_in, var_in**0.5) - norm.logpdf(z[0, points], mean_out, var_out**0.5)
            )
            naive = np.array([ratio[reading.unit[points] == unit].sum() for unit in range(int(case.forget.sum()))])
            assert_allclose(cross_score(self.attack, evidence).level[0, case.forget], naive, rtol=1e-9)

    def test_units_that_no_reference_lacks_read_nan(self) -> None:
        for case, evidence in self.examples():
            level = cross_score(self.attack, evidence).level[evidence.rows("original")]
            assert np.isnan(level[:, ~case.forget]).all()


class TestLiraOnRanks(AttackTests):
    attack = Lira("rank")


@pytest.mark.parametrize("signal", ["margin", "softmax"])
def test_every_signal_separates_original_from_golds(signal: str) -> None:
    class Case(AttackTests):
        attack = Lira(signal)  # type: ignore[arg-type]

    Case().test_higher_means_more_remembered()
