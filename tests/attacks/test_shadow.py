from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from auditkit.attacks.shadow import SIGNALS, Shadow
from auditkit.crossing import cross_score
from auditkit.data.dataset import Floats
from auditkit.evidence import Case, Evidence
from auditkit.probes import Pairs
from auditkit.testing import AttackTests


class TestShadow(AttackTests):
    attack = Shadow()

    def test_against_scikit_learn(self) -> None:
        for case, evidence in self.examples():
            refs, unit = evidence.rows("reference"), evidence.readings[Pairs()].unit
            samples = [(r, p) for r in refs for p in np.flatnonzero(case.forget[unit]).tolist()]
            labels = [bool(evidence.held[r, unit[p]]) for r, p in samples]
            model = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-8, max_iter=10_000))
            model.fit([_features(case, evidence, r, p) for r, p in samples], labels)
            level = cross_score(self.attack, evidence).level
            target = int(evidence.rows("unlearned")[0])
            for which in (0, 3, len(case.units) - 1):
                asked = [_features(case, evidence, target, p) for p in np.flatnonzero(unit == which).tolist()]
                assert_allclose(level[target, which], model.decision_function(asked).mean(), atol=2e-3)

    def test_the_forgotten_pair_itself_is_not_counted(self) -> None:
        for case, evidence in self.examples():
            if case.request.regime == "interaction":
                fewer = case.units[["activity", "popularity"]].to_numpy() - case.forget[:, None]
                users = np.bincount(case.retain.train.users, minlength=case.data.n_users)
                lonely = [k for k in np.flatnonzero(case.forget) if users[case.units["user"][k]] == fewer[k, 0]]
                assert lonely, "some user lost this pair alone"
                point = int(np.flatnonzero(evidence.readings[Pairs()].unit == lonely[0])[0])
                assert_allclose(_features(case, evidence, 0, point)[8], np.log1p(users[case.units["user"][lonely[0]]]))

    def test_references_that_all_hold_the_units_teach_nothing(self) -> None:
        for _, evidence in self.examples():
            all_held = replace(evidence, held=np.ones_like(evidence.held))
            assert np.isnan(self.score(all_held, self.targets(evidence)).level).all()

    def test_it_is_a_note(self) -> None:
        assert self.attack.battery() == ()
        assert not self.attack.fails_in


def _features(case: Case, evidence: Evidence, system: int, point: int) -> Floats:
    """Four signals, their squares, log degrees: by hand."""
    reading = evidence.readings[Pairs()]
    unit = case.units.iloc[reading.unit[point]]
    own = 1 if unit["group"] == "forget" and unit["user"] >= 0 and unit["item"] >= 0 else 0
    signals = [float(reading.values[s][system, point]) for s in SIGNALS]
    degrees = [np.log(1 + max(unit[d] - own, 0)) for d in ("activity", "popularity")]
    return np.array([*signals, *(s * s for s in signals), *degrees])
