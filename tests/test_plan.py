"""The plan: defaults, checks made before any work, and the systems that must exist."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from auditkit.battery import PRIMARIES
from auditkit.builds import Given, Train, Unlearn
from auditkit.contracts import Access, Backbone, Recipe, Task, Unlearner
from auditkit.data.dataset import Dataset, Ints
from auditkit.deletion import EVERYBODY, NOBODY, DeletionRequest, select
from auditkit.errors import ConfigurationError, DataError
from auditkit.outside.source import collect
from auditkit.plan import (
    ALL_ACCESS,
    MARGINS,
    SIZES,
    TIMED_GOLDS,
    Method,
    Plan,
    Settings,
    audited_systems,
    background_systems,
    earlier_steps,
    make_plan,
    plain_golds,
    seed_of,
    unlearned_references,
)
from auditkit.plugins import attacks
from auditkit.unlearners.controls import NoOp, OutputMask
from auditkit.unlearners.gold import Gold
from auditkit.unlearners.reverse_bpr import ReverseBPR


class Flat:
    """A recommender made elsewhere."""

    def __init__(self, n_users: int, n_items: int) -> None:
        self.n_users, self.n_items = n_users, n_items

    def score(self, users: Ints, *, branch: str | None = None) -> torch.Tensor:
        return torch.zeros(len(users), self.n_items)


def planned(tiny: Dataset, recipe: Recipe, *methods: Any, **options: Any) -> Plan:
    request = options.pop("request", None) or select(tiny, "interaction", share=0.2)
    given = collect(options.pop("given", None), None, None, tiny)
    return make_plan(tiny, request, recipe, methods or (NoOp(),), settings=Settings(**options), given=given)


@pytest.mark.parametrize("profile", SIZES)
@pytest.mark.parametrize("regime", MARGINS)
def test_profile_and_regime_fill_in_what_is_not_said(
    tiny: Dataset, tiny_recipe: Recipe, profile: Any, regime: Any
) -> None:
    withdrawn = tiny.modalities if regime == "modality" else ()
    request = select(tiny, regime, count=5, modalities=withdrawn)
    recipe = Recipe.of("vbpr") if regime == "modality" else tiny_recipe
    plan = planned(tiny, recipe, profile=profile, request=request)
    assert (plan.settings.golds, plan.settings.references) == SIZES[profile]
    assert plan.settings.margin == plan.rules.margin == MARGINS[regime][list(SIZES).index(profile)]
    assert plan.rules.primary == PRIMARIES[regime][0]
    assert regime in attacks()[PRIMARIES[regime][0]].primary_for
    assert (plan.rules.min_power, plan.settings.tune) == (0.8, 0.0)
    assert plan.battery[0].name == plan.rules.primary
    assert {a.name for a in plan.battery} == {name for name in attacks() if attacks()[name].battery()}
    assert (plan.settings.access, plan.settings.alpha) == (ALL_ACCESS, 0.05)
    assert Access.SNAPSHOTS not in ALL_ACCESS


def test_what_is_said_overrides_the_profile(tiny: Dataset, tiny_recipe: Recipe) -> None:
    plan = planned(tiny, tiny_recipe, golds=3, references=4, margin=0.3, alpha=0.1, originals=1, min_power=0.0)
    assert plan.rules.min_power == 0.0
    assert (plan.settings.golds, plan.settings.references, plan.rules.margin, plan.rules.alpha) == (3, 4, 0.3, 0.1)


def test_the_systems_of_an_audit(tiny: Dataset, tiny_recipe: Recipe) -> None:
    plan = planned(tiny, tiny_recipe, golds=5, references=6, originals=2)
    systems = background_systems(plan)
    assert Counter(s.role for s in systems) == {"original": 2, "gold": 5, "reference": 6, "control": 2}
    assert len({s.name for s in systems}) == len(systems)
    builds = [s.build for s in systems if isinstance(s.build, Train)]
    assert len(builds) == len(systems)
    assert len({b.seed for b in builds}) == len(builds)
    assert {b.recipe.digest for b in builds} == {tiny_recipe.digest}
    by_role = {role: [s for s in systems if s.role == role] for role in ("original", "gold", "reference", "control")}
    assert all(s.build.erased == NOBODY for s in by_role["original"])
    assert all(s.build.erased == EVERYBODY for s in by_role["gold"])
    assert [s.timed for s in by_role["gold"]] == [True] * TIMED_GOLDS + [False] * 2
    assert not any(s.timed for s in systems if s.role != "gold")
    held = np.stack([s.build.held(plan.request) for s in by_role["reference"]])
    assert (held.sum(axis=0) == 3).all()
    extra, half = by_role["control"]
    assert not extra.build.held(plan.request).any()
    assert int(half.build.held(plan.request).sum()) == plan.request.n_units - round(0.5 * plan.request.n_units)


def test_unlearned_references_come_in_triples_that_turn_the_thirds(tiny: Dataset, tiny_recipe: Recipe) -> None:
    plan = planned(tiny, tiny_recipe, ReverseBPR())
    systems = unlearned_references(plan, plan.methods[0], 5)
    assert len(systems) == 6
    assert len({s.name for s in systems}) == 6
    assert {s.role for s in systems} == {"unlearned reference"}
    for triple in (systems[:3], systems[3:]):
        held = np.stack([s.build.held(plan.request) for s in triple])
        seen = np.stack([s.build.seen(plan.request) for s in triple])
        assert (held.sum(0) == 1).all()
        assert ((seen & ~held).sum(0) == 1).all()
        assert ((~seen).sum(0) == 1).all()
    parents = [s.build.parent for s in systems if isinstance(s.build, Unlearn)]
    assert len({p.seed for p in parents if isinstance(p, Train)}) == 6
    assert not np.array_equal(systems[0].build.held(plan.request), systems[3].build.held(plan.request))


def test_runs_start_from_the_first_original_each_with_its_own_seed(tiny: Dataset, tiny_recipe: Recipe) -> None:
    methods = [Method(ReverseBPR(), runs=3), Method(ReverseBPR(epochs=3), label="longer"), NoOp()]
    plan = planned(tiny, tiny_recipe, *methods, given={"ours": Flat(120, 100)})
    found = audited_systems(plan)
    assert {name: [s.name for s in systems] for name, systems in found.items()} == {
        "reverse-bpr": [f"reverse-bpr run {k}" for k in (1, 2, 3)],
        "longer": ["longer"], "no-op": ["no-op"], "ours": ["ours"],
    }  # fmt: skip
    original = background_systems(plan)[0].build
    made = [s.build for name in ("reverse-bpr", "longer", "no-op") for s in found[name]]
    assert all(isinstance(b, Unlearn) and b.parent == original and b.erased == EVERYBODY for b in made)
    assert len({b.seed for b in made if isinstance(b, Unlearn)}) == 5
    assert isinstance(found["ours"][0].build, Given)
    assert [s.timed for s in (*found["reverse-bpr"], found["ours"][0])] == [True] * 3 + [False]
    assert found["longer"][0].method == "reverse-bpr"


def test_a_larger_profile_keeps_the_trained_systems_of_a_smaller(tiny: Dataset, tiny_recipe: Recipe) -> None:
    small, large = (planned(tiny, tiny_recipe, profile=p) for p in ("quick", "standard"))
    kept = ("original", "gold", "control")
    few, many = ({s.name: s.build for s in background_systems(p) if s.role in kept} for p in (small, large))
    assert all(many[name] == one for name, one in few.items())
    assert len(many) > len(few)


def test_seeds_differ_by_role_index_and_plan() -> None:
    seeds = {seed_of(s, role, k) for s in range(5) for role in ("gold", "original", "share") for k in range(20)}
    assert len(seeds) == 300
    assert all(0 <= s < 2**31 for s in seeds)


@pytest.mark.parametrize(
    "change",
    [{"margin": 0.3}, {"golds": 5}, {"references": 8}, {"seed": 1}, {"alpha": 0.1}, {"originals": 1},
     {"access": Access.SCORES}, {"profile": "quick"}, {"min_power": 0.5}, {"tune": 0.3},
     {"list_length": 50}],
)  # fmt: skip
def test_the_digest_fixes_every_setting(tiny: Dataset, tiny_recipe: Recipe, change: dict[str, Any]) -> None:
    assert planned(tiny, tiny_recipe).digest == planned(tiny, tiny_recipe).digest
    assert planned(tiny, tiny_recipe, **change).digest != planned(tiny, tiny_recipe).digest


def test_the_digest_fixes_data_request_recipe_and_methods(tiny: Dataset, tiny_recipe: Recipe) -> None:
    other_data = Dataset.synthetic(n_users=120, n_items=100, n_interactions=4000, seed=1)
    plans = [
        planned(tiny, tiny_recipe),
        planned(tiny, tiny_recipe, request=select(tiny, "interaction", share=0.1)),
        planned(other_data, tiny_recipe, request=select(tiny, "interaction", share=0.2)),
        planned(tiny, replace(tiny_recipe, fit=replace(tiny_recipe.fit, epochs=11))),
        planned(tiny, tiny_recipe, Gold()), planned(tiny, tiny_recipe, ReverseBPR()),
        planned(tiny, tiny_recipe, ReverseBPR(epochs=3)), planned(tiny, tiny_recipe, Method(NoOp(), runs=2)),
        planned(tiny, tiny_recipe, Method(NoOp(), label="x")), planned(tiny, tiny_recipe, NoOp(), Gold()),
        planned(tiny, tiny_recipe, given={"ours": Flat(120, 100)}),
    ]  # fmt: skip
    assert len({p.digest for p in plans}) == len(plans)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"list_length": 10}, "list_length must be 20 or more"),
        ({"profile": "swift"}, "profile must be one of quick, standard, certify, got 'swift'"),
        ({"golds": 1}, r"golds must be 2 or more \(their scatter is the yardstick\), got 1"),
        ({"references": 2}, "references must be an even number of 4 or more .*, got 2"),
        ({"references": 5}, "references must be an even number of 4 or more .*, got 5"),
        ({"originals": 0}, "originals must be 1 or more, got 0"),
        ({"margin": 0.0}, r"margin must be in \(0, 1\), got 0.0"),
        ({"margin": 1.0}, r"margin must be in \(0, 1\), got 1.0"),
        ({"margin": float("nan")}, r"margin must be in \(0, 1\), got nan"),
        ({"alpha": 0.5}, r"alpha must be in \(0, 0.5\), got 0.5"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"min_power": 1.0}, r"min_power must be in \[0, 1\) \(a probability; 0 asks for none\), got 1.0"),
        ({"min_power": -0.1}, r"min_power must be in \[0, 1\)"),
        ({"min_power": float("nan")}, r"min_power must be in .*, got nan"),
        ({"tune": 0.6}, r"tune must be in \[0, 0.5\], a share of the request's clusters, got 0.6"),
        ({"tune": 0.01}, r"tune = 0.01 leaves \d+ units to tune on .* each part needs 20"),
        ({"primary": "liar"}, "primary must be one of attack-p, .*, fold-in, .*, got 'liar'"),
        ({"primary": "fold-in"}, "primary 'fold-in' cannot judge interaction requests; choose .*lira-linear"),
        ({"given": {"no-op": Flat(120, 100)}}, "two systems are called 'no-op'; give one of them a label"),
        ({"given": {"ours": Flat(120, 99)}}, "'ours' scores 120 users x 99 items, the data set has 120 x 100"),
    ],
)
def test_settings_are_refused_with_a_reason(
    tiny: Dataset, tiny_recipe: Recipe, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        planned(tiny, tiny_recipe, **options)


def test_methods_are_refused_with_a_reason(tiny: Dataset, tiny_recipe: Recipe) -> None:
    request = select(tiny, "interaction", share=0.2)
    with pytest.raises(ConfigurationError, match="there is nothing to audit: name at least one unlearner"):
        make_plan(tiny, request, tiny_recipe, ())
    with pytest.raises(ConfigurationError, match="two systems are called 'no-op'"):
        planned(tiny, tiny_recipe, NoOp(), Method(NoOp(), runs=2))
    with pytest.raises(ConfigurationError, match="unlearner 'no-op': runs must be 1 or more, got 0"):
        planned(tiny, tiny_recipe, Method(NoOp(), runs=0))


@dataclass(frozen=True)
class Picky(NoOp):
    """Says why it cannot do a backbone, whatever it is."""

    name: ClassVar[str] = "test-plan-picky"

    def refuses(self, recipe: Recipe, request: DeletionRequest) -> str | None:
        return f"{recipe.backbone} has no {request.regime} gate"


@dataclass(frozen=True)
class Halves(Unlearner):
    """A procedure of its own."""

    shards: int = 2
    name: ClassVar[str] = "test-plan-halves"
    trains: ClassVar[bool] = True

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        return model


def test_a_method_says_why_it_cannot(tiny: Dataset, tiny_recipe: Recipe) -> None:
    with pytest.raises(ConfigurationError, match="'test-plan-picky' cannot do this: bpr-mf has no interaction gate"):
        planned(tiny, tiny_recipe, Picky())


def test_a_method_that_trains_is_the_procedure_of_its_audit(tiny: Dataset, tiny_recipe: Recipe) -> None:
    plan = planned(tiny, tiny_recipe, Halves(), NoOp(), golds=5)
    assert plan.recipe == replace(tiny_recipe, trainer=Halves())
    assert plan.digest != planned(tiny, tiny_recipe, NoOp(), golds=5).digest
    systems = background_systems(plan)
    assert {s.procedure for s in systems} == {plan.recipe.digest} != {tiny_recipe.digest}
    assert [s.name for s in systems if s.timed] == ["original-1", "gold-1", "gold-2", "gold-3"]
    golds = plain_golds(plan)
    assert {s.procedure for s in golds} == {tiny_recipe.digest}
    assert [s.timed for s in golds] == [True] * TIMED_GOLDS + [False] * 2
    same = [s.build for s in background_systems(planned(tiny, tiny_recipe, golds=5)) if s.role == "gold"]
    assert [s.build for s in golds] == same
    assert plain_golds(planned(tiny, tiny_recipe)) == []


def test_one_audit_has_one_procedure(tiny: Dataset, tiny_recipe: Recipe) -> None:
    with pytest.raises(ConfigurationError) as caught:
        planned(tiny, tiny_recipe, Halves(), Method(Halves(shards=3), label="three"), ReverseBPR())
    told = caught.value.problems
    assert [p.split(":")[0] for p in told] == [
        "unlearner 'three' needs its own training, and the systems of this audit are trained by 'test-plan-halves'",
        "unlearner 'reverse-bpr' needs a plainly trained backbone, and the systems of this audit are trained by "
        "'test-plan-halves'",
    ]


def test_a_request_may_come_in_steps(tiny: Dataset, tiny_recipe: Recipe) -> None:
    plan = planned(tiny, tiny_recipe, Method(Gold(), steps=3, runs=2))
    final = audited_systems(plan)["gold"]
    assert [s.name for s in final] == ["gold run 1", "gold run 2"]
    first, second = (earlier_steps(s) for s in final)
    assert [s.name for s in first] == ["gold run 1 after 1 of 3", "gold run 1 after 2 of 3"]
    assert all(s.timed for s in (*first, *second))
    held = [int(s.build.held(plan.request).sum()) for s in (*first, final[0])]
    n = plan.request.n_units
    assert held == [n - round(n / 3), n - round(2 * n / 3), 0]
    assert len({s.build.seed for s in (*first, *second, *final) if isinstance(s.build, Unlearn)}) == 6
    assert earlier_steps(audited_systems(planned(tiny, tiny_recipe))["no-op"][0]) == []
    assert plan.digest != planned(tiny, tiny_recipe, Method(Gold(), runs=2)).digest
    with pytest.raises(ConfigurationError, match="steps must be 1 or more and at most one a unit"):
        planned(tiny, tiny_recipe, Method(Gold(), steps=n + 1))


def test_two_runs_are_cautioned_against(tiny: Dataset, tiny_recipe: Recipe) -> None:
    plan = planned(tiny, tiny_recipe, Method(NoOp(), runs=2), Method(Gold(), runs=3), ReverseBPR())
    (caution,) = plan.cautions
    assert caution.startswith("unlearner 'no-op': 2 runs need a wider margin than one")


def test_a_modality_request_names_who_cannot_answer_it(tiny: Dataset, tiny_recipe: Recipe) -> None:
    request = DeletionRequest("modality", np.array([-1]), np.array([3]), ("image",))
    with pytest.raises(ConfigurationError) as caught:
        planned(tiny, tiny_recipe, OutputMask(), request=request)
    assert caught.value.problems == (
        "unlearner 'output-mask' cannot answer modality requests, only: interaction, item, user",
        "a modality request needs a backbone that reads features; 'bpr-mf' reads none",
    )


def test_a_request_withdraws_only_what_the_data_has(tiny: Dataset, tiny_recipe: Recipe) -> None:
    request = select(tiny, "item", count=2, modalities=("smell",))
    with pytest.raises(ConfigurationError, match=r"request\.modalities: smell not in .*which has: "):
        planned(tiny, tiny_recipe, request=request)


def test_all_problems_come_at_once(tiny: Dataset, tiny_recipe: Recipe) -> None:
    with pytest.raises(ConfigurationError) as caught:
        planned(tiny, tiny_recipe, golds=1, references=3, margin=2.0, alpha=0.7, seed=-4, originals=0)
    assert len(caught.value.problems) == 6


def test_a_request_that_does_not_fit_the_data_is_refused(tiny: Dataset, tiny_recipe: Recipe) -> None:
    request = DeletionRequest("user", np.array([120]), np.array([-1]))
    with pytest.raises(DataError, match="the request names user 120, but 'synthetic' has 120 users"):
        planned(tiny, tiny_recipe, request=request)
