from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from auditkit.attacks.lira_linear import LiraLinear
from auditkit.builds import System, Train, Workshop, build, silent
from auditkit.contracts import Probe, Recipe, Recommender
from auditkit.data.dataset import Bools, Dataset, Floats
from auditkit.deletion import EVERYBODY, NOBODY, Share, select
from auditkit.errors import ConfigurationError
from auditkit.evidence import Case, Evidence, Reading, entitlement, fix_points, make_case, observe
from auditkit.flow import Observations
from auditkit.imitation import METRICS, Imitation, check_imitation
from auditkit.plan import reference_shares
from auditkit.probes import Lists, Pairs
from auditkit.protocol import Protocol
from auditkit.record import Control, Role
from auditkit.store import Store
from auditkit.usefulness import Usefulness, measure_usefulness
from auditkit.yardstick import Rules, Yardstick, calibrate

from .gaussian import ALL, RECIPE

RULES = Rules("interaction", 0.1, 0.05, "lira-linear", ALL, 0)
_DATA = Dataset.synthetic(n_users=120, n_items=100, n_interactions=4000)
_CASE = make_case(_DATA, select(_DATA, "interaction", share=0.2), seed=0)
GOOD = {"recall@20": 0.3, "ndcg@20": 0.25}


def shares(originals: int, golds: int, references: int) -> dict[str, tuple[Role, Share]]:
    """Name -> role and what is erased."""
    made: dict[str, tuple[Role, Share]] = {f"original-{k}": ("original", NOBODY) for k in range(originals)}
    made |= {f"gold-{k}": ("gold", EVERYBODY) for k in range(golds)}
    erased = reference_shares(references, 0)
    made |= {f"reference-{k}": ("reference", share) for k, share in enumerate(erased)}
    return made | {"control gold": ("control", EVERYBODY), "half-erased": ("control", Share(0, 0.5, 17))}


def systems(recipe: Recipe, originals: int = 2, golds: int = 6, references: int = 16) -> list[System]:
    listed = shares(originals, golds, references)
    return [
        System(name, role, Train(recipe, erased, 100 + k)) for k, (name, (role, erased)) in enumerate(listed.items())
    ]


@dataclass(eq=False)
class Procedure:
    """Signals of systems drawn from a Gaussian model: what a pair gains by being held, and a system's own noise.

    Attributes:
        case: what is asked.
        gain: mean gain of a pair that is held, in standard deviations of a system's noise.
        bias: of every pair, held or not.
        wide: standard deviation over pairs of what is this procedure's own.
        seed: of what is drawn.
    """

    case: Case = _CASE
    gain: float = 2.0
    bias: float = 0.0
    wide: float = 0.0
    seed: int = 0
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def observe(self, listed: Sequence[System], **metrics: float) -> Observations:
        points, (seen, held) = self.case.pairs(), entitlement(listed, self.case)
        reading = Reading(points, {"z": self.signal(held[:, points["unit"]])}, len(self.case.units))
        found = Observations({s.name: self.quality(**metrics) for s in listed if s.role != "reference"})
        found.evidence = Evidence(tuple(listed), self.case.units, seen, held, {Pairs(): reading})
        return found

    def signal(self, held: Bools) -> Floats:
        known = np.random.default_rng(99)
        base, gains = known.standard_normal(held.shape[1]), self.gain * known.gamma(4.0, 0.25, held.shape[1])
        own = self.wide * np.random.default_rng(98).standard_normal(held.shape[1])
        return base + gains * held + self.bias + own + self.rng.standard_normal(held.shape)

    def quality(self, **metrics: float) -> Usefulness:
        return Usefulness({k: v * (1 + 0.01 * self.rng.standard_normal()) for k, v in {**GOOD, **metrics}.items()}, 0.1)


def theirs(procedure: Procedure, **metrics: float) -> Observations:
    return procedure.observe([System("their original", "original", Train(RECIPE, NOBODY, 0))], **metrics)


def yardstick(background: Observations, rules: Rules = RULES) -> Yardstick:
    return calibrate(LiraLinear(), background.evidence.of_split("judge"), rules)


@pytest.fixture(scope="module")
def background() -> Observations:
    return Procedure().observe(systems(RECIPE))


@pytest.fixture(scope="module")
def primary(background: Observations) -> Yardstick:
    return yardstick(background)


def refused_by(found: Imitation) -> set[str]:
    return {name for name, figure in found.figures.items() if not figure.inside}


def test_a_system_of_the_same_procedure_is_accepted(background: Observations, primary: Yardstick) -> None:
    found = check_imitation(theirs(Procedure(seed=1)), background, primary, _CASE, RULES)
    assert found.accepted
    assert list(found.figures) == [
        "dose", "pattern", "gold level", "gold pattern", "retained shift", "retained spread", "outside spread",
        "recall@20", "ndcg@20",
    ]  # fmt: skip
    assert found.skipped == {}
    assert isinstance(found.control, Control)
    assert found.control.name == "imitation"
    assert found.control.ok
    assert found.control.observed.startswith("9 checks passed: dose ")
    assert found.figures["dose"].ours == pytest.approx(1)
    assert found.figures["dose"].low == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize(
    ("other", "metrics", "blamed"),
    [
        pytest.param(Procedure(gain=1.2, seed=1), {}, {"dose", "retained shift"}, id="remembers less"),
        pytest.param(Procedure(gain=3.0, seed=1), {}, {"dose", "retained shift"}, id="remembers more"),
        pytest.param(Procedure(bias=0.5, seed=1), {}, {"gold level", "dose"}, id="another level of what was not seen"),
        pytest.param(Procedure(wide=1.5, seed=1), {}, {"retained spread", "outside spread"}, id="another architecture"),
        pytest.param(Procedure(seed=1), {"recall@20": 0.2}, {"recall@20"}, id="ranks worse"),
        pytest.param(Procedure(seed=1), {"ndcg@20": 0.4}, {"ndcg@20"}, id="ranks better"),
    ],
)
def test_another_procedure_is_refused(
    other: Procedure, metrics: dict[str, float], blamed: set[str], background: Observations, primary: Yardstick
) -> None:
    found = check_imitation(theirs(other, **metrics), background, primary, _CASE, RULES)
    assert not found.accepted
    assert blamed <= refused_by(found)
    assert not found.control.ok
    assert found.control.observed.startswith(f"refused by {len(refused_by(found))} of 9 checks: ")
    assert all(name in found.control.observed for name in blamed)
    assert found.control.consequence.startswith("INVALID: ")


def test_what_their_gold_would_read_is_carried_over(background: Observations, primary: Yardstick) -> None:
    found = check_imitation(theirs(Procedure(bias=0.5, seed=1)), background, primary, _CASE, RULES)
    # Half a standard deviation at every pair is a quarter of the mean gain of two.
    assert found.figures["gold level"].theirs == pytest.approx(0.25, abs=0.06)
    # Their original is off by as much, plus the whole dose.
    assert found.figures["dose"].theirs == pytest.approx(1.25, abs=0.06)


def test_a_wider_margin_accepts_more(background: Observations) -> None:
    rules = replace(RULES, margin=0.4)
    found = check_imitation(theirs(Procedure(gain=2.4, seed=1)), background, yardstick(background, rules), _CASE, rules)
    assert found.accepted
    assert found.figures["dose"].theirs == pytest.approx(1.2, abs=0.06)


def test_fresh_systems_are_seldom_refused() -> None:
    rules, refused = replace(RULES, margin=1e-6), 0
    for k in range(12):
        background = Procedure(seed=k).observe(systems(RECIPE, golds=4, references=8))
        one, own = theirs(Procedure(seed=1000 + k)), yardstick(background, rules)
        refused += not check_imitation(one, background, own, _CASE, rules).accepted
    # Without a tolerance the prediction intervals alone must hold: 5% of 12, and chance about it.
    assert refused <= 2


def without_probes(found: Observations) -> Observations:
    made = Observations(found.usefulness)
    made.evidence = replace(found.evidence, readings={})
    return made


def test_ranking_quality_alone_shows_no_procedure(background: Observations) -> None:
    found = check_imitation(without_probes(theirs(Procedure(seed=1))), background, None, _CASE, RULES)
    assert set(found.figures) == set(METRICS)
    assert not found.accepted
    assert found.control.observed.startswith("nothing but ranking quality could be compared: ")
    assert found.control.consequence.startswith("INCONCLUSIVE: ")


def test_no_answer_at_all_is_not_comparable(background: Observations, primary: Yardstick) -> None:
    one = without_probes(theirs(Procedure(seed=1)))
    one.usefulness = {}
    found = check_imitation(one, background, primary, _CASE, RULES)
    assert not found.accepted
    assert not found.figures
    assert found.skipped["dose"] == "the system cannot be asked its probe pairs"
    assert found.skipped["recall@20"] == "it was not measured"
    assert found.control.consequence.startswith("INCONCLUSIVE: ")


def answering(values: Floats) -> Observations:
    """Their original with other answers."""
    made = theirs(Procedure(seed=1))
    reading = made.evidence.readings[Pairs()]
    other = Reading(reading.points, {"z": values[None]}, reading.n_units)
    made.evidence = replace(made.evidence, readings={Pairs(): other})
    return made


def test_a_constant_scorer_has_no_z_and_is_not_comparable(background: Observations, primary: Yardstick) -> None:
    found = check_imitation(answering(np.full(len(_CASE.pairs()), np.nan)), background, primary, _CASE, RULES)
    assert not found.accepted
    assert set(found.figures) == set(METRICS)
    assert found.skipped["dose"].startswith("the system answered none of the questions")
    assert found.skipped["gold level"] == "it answered fewer than 200 pairs outside training"
    assert found.skipped["retained shift"].startswith("it answered 0 of ")


def test_what_is_not_answered_is_left_out_and_said(background: Observations, primary: Yardstick) -> None:
    values = theirs(Procedure(seed=1)).evidence.readings[Pairs()].values["z"][0]
    values[::4] = np.nan
    found = check_imitation(answering(values), background, primary, _CASE, RULES)
    assert found.accepted
    assert found.figures["dose"].note == "75% of the units answered"
    assert found.figures["retained shift"].note == "75% of the pairs answered"
    assert "75% of the units answered" in found.control.observed


def test_one_original_borrows_the_golds_scatter() -> None:
    background = Procedure().observe(systems(RECIPE, originals=1))
    found = check_imitation(theirs(Procedure(seed=1)), background, yardstick(background), _CASE, RULES)
    assert found.accepted
    assert found.figures["dose"].ours == pytest.approx(1)


def test_without_power_no_dose_is_read() -> None:
    background = Procedure(gain=0.0).observe(systems(RECIPE))
    found = check_imitation(theirs(Procedure(gain=0.0, seed=1)), background, yardstick(background), _CASE, RULES)
    assert found.skipped["dose"] == "the audit has no power"
    assert "dose" not in found.figures


def test_a_procedure_without_noise_is_held_to_the_margin() -> None:
    background, one = Procedure().observe(systems(RECIPE)), theirs(Procedure(seed=1))
    for made in (background, one):
        reading, held = made.evidence.readings[Pairs()], made.evidence.held
        at = reading.points["unit"]
        reading.values["z"][:] = held[:, at] * 2.0
        made.usefulness = {name: Usefulness(dict(GOOD), 0.1) for name in made.usefulness}
    found = check_imitation(one, background, yardstick(background), _CASE, RULES)
    assert found.accepted
    assert found.figures["dose"].low == pytest.approx(0.9)
    assert found.figures["dose"].high == pytest.approx(1.1)
    assert found.figures["recall@20"].low == pytest.approx(0.27)


def test_two_systems_are_no_original(background: Observations, primary: Yardstick) -> None:
    with pytest.raises(ConfigurationError, match="against one original, got 26; name one with role"):
        check_imitation(background, background, primary, _CASE, RULES)


BPR = Recipe.of("bpr-mf", {"factors": 16}, {"epochs": 60})


@dataclass(frozen=True)
class Trained:
    """Really trained systems, asked for scores and for lists."""

    store: Store

    def observe(self, made: Sequence[System], *probes: Probe) -> Observations:
        found, questions = Observations(), fix_points(probes, _CASE, seed=0)

        def stream() -> Iterator[tuple[System, Recommender]]:
            for system, model, _ in build(made, Workshop(_DATA, _CASE.request, self.store), silent):
                found.usefulness[system.name] = measure_usefulness(model, _CASE, Protocol(BPR))
                yield system, model

        found.evidence = observe(stream(), questions, _CASE, seed=0)
        return found

    def both(self, recipe: Recipe, *probes: Probe) -> tuple[Observations, Observations]:
        """Their original, trained by `recipe`, and ours."""
        one = [System("their original", "original", Train(recipe, NOBODY, 7))]
        return self.observe(one, *probes), self.observe(systems(BPR, references=8), *probes)

    def check(self, recipe: Recipe) -> Imitation:
        one, background = self.both(recipe, Pairs())
        return check_imitation(one, background, yardstick(background), _CASE, RULES)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(Store(tmp_path_factory.mktemp("store")))


def test_a_fresh_training_of_the_recipe_is_accepted(real: Trained) -> None:
    found = real.check(BPR)
    assert found.accepted, found.control.observed


@pytest.mark.parametrize(
    ("recipe", "blamed"),
    [
        pytest.param(Recipe.of("bpr-mf", {"factors": 16}, {"epochs": 15}), "gold level", id="a quarter of the epochs"),
        pytest.param(Recipe.of("bpr-mf", {"factors": 2}, {"epochs": 60}), "dose", id="fewer factors"),
        pytest.param(Recipe.of("lightgcn", {"factors": 16}, {"epochs": 5}), "dose", id="another backbone"),
        pytest.param(Recipe.of("ease"), "retained spread", id="a closed form"),
    ],
)
def test_a_wrong_recipe_is_refused(recipe: Recipe, blamed: str, real: Trained) -> None:
    found = real.check(recipe)
    assert not found.accepted
    assert blamed in refused_by(found), found.control.observed


def test_where_only_lists_can_be_read_their_overlap_is_compared(real: Trained) -> None:
    one, background = real.both(BPR, Lists(k=5))
    right = check_imitation(one, background, None, _CASE, RULES)
    assert set(right.figures) == {"overlap", *METRICS}
    assert right.accepted, right.control.observed
    # Every user gets the list of another: ids that mean something else there.
    one.evidence.readings[Lists(k=5)].values["items"][:] = one.evidence.readings[Lists(k=5)].values["items"][:, ::-1]
    wrong = check_imitation(one, background, None, _CASE, RULES)
    assert refused_by(wrong) == {"overlap"}
    one.evidence.readings[Lists(k=5)].values["items"][:] = -1
    empty = check_imitation(one, background, None, _CASE, RULES)
    assert not empty.accepted
