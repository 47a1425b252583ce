"""What an audit will do, all resolved: data, request, recipe, methods, rules, and the systems that must exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from auditkit.battery import battery_problems, choose_battery, in_order, primary_of
from auditkit.builds import Given, System, Train, Unlearn
from auditkit.contracts import Access, Attack, Probe, Recipe, Unlearner
from auditkit.data.dataset import Dataset
from auditkit.deletion import EVERYBODY, NOBODY, DeletionRequest, Share
from auditkit.digests import canonical, digest_of
from auditkit.errors import ConfigurationError
from auditkit.outside.source import Elsewhere, Source
from auditkit.plan_checks import (
    Profile as Profile,
)
from auditkit.plan_checks import (
    given_problems,
    method_problems,
    primary_problems,
    request_problems,
    setting_problems,
)
from auditkit.protocol import Masked, Protocol
from auditkit.record import Role
from auditkit.yardstick import Rules

# Golds and references per profile; margins per regime are what a true Gold attains with them in nine of ten audits.
# That of modality requests is borrowed from items and not calibrated: such audits end INCONCLUSIVE by rule.
SIZES: Mapping[str, tuple[int, int]] = {"quick": (4, 16), "standard": (8, 32), "certify": (20, 64)}
MARGINS: Mapping[str, tuple[float, float, float]] = {
    "interaction": (0.10, 0.10, 0.05),
    "user": (0.20, 0.15, 0.12),
    "item": (0.30, 0.25, 0.20),
    "modality": (0.40, 0.25, 0.20),
}
TIMED_GOLDS = 3
# Its name among the systems made elsewhere.
THEIR_ORIGINAL = "their original"
# Who made the yardstick: it was trained here, the owner gave it, or there is none.
Maker = Literal["here", "owner", "none"]
ALL_ACCESS = Access.LISTS | Access.SCORES | Access.NEW_USERS | Access.NEW_ITEMS | Access.WEIGHTS


@dataclass(frozen=True)
class Method:
    """An unlearner under test.

    Attributes:
        unlearner: with its hyper-parameters.
        runs: how often it is run from the original, each with its own seed.
        label: what the report calls it; unique within an audit.
        steps: in how many requests the units arrive, one after another in their order; each starts from what the one
            before left. The last system is judged, those before it are read along the way, the cost is the sum.
    """

    unlearner: Unlearner
    runs: int = 1
    label: str = ""
    steps: int = 1

    @property
    def name(self) -> str:
        """What the report calls it."""
        return self.label or self.unlearner.name


@dataclass(frozen=True)
class Settings:
    """How the audit is done; None takes the default of profile and regime.

    Attributes:
        profile: quick, standard or certify.
        golds, references, originals: counts; at least 2 Golds, an even number of at least 4 references, 1 original.
        margin: on the dose scale, in (0, 1).
        alpha: of the one-sided bounds, in (0, .5).
        min_power: smallest acceptable probability, in [0, 1), that a system which holds half of the units is found;
            where the Golds promise less, nothing can PASS. 0 asks for none.
        primary: name of the primary attack; None takes the one of regime and access (`auditkit.battery`).
        attacks: names of the attacks that run; None is `default`, those that run when nothing is said.
        tune: share of the request's clusters, in [0, .5], whose units choices are tuned on; they are not judged.
        seed: of everything.
        device: torch device.
        access: what the auditor can reach.
        list_length: items in the longest list that the auditor gets, 20 or more; None: any length can be had.
        masked: pairs that leave the rankings which utility is measured on, `train+valid` or `train`.
    """

    profile: Profile = "standard"
    golds: int | None = None
    references: int | None = None
    originals: int = 2
    margin: float | None = None
    alpha: float = 0.05
    min_power: float = 0.8
    primary: str | None = None
    attacks: tuple[str, ...] | None = None
    tune: float = 0.0
    seed: int = 0
    device: str = "cpu"
    access: Access = ALL_ACCESS
    list_length: int | None = None
    masked: Masked = "train+valid"


@dataclass(frozen=True, eq=False)
class Plan:
    """A whole audit before anything is built.

    Attributes:
        data, request: what is audited.
        recipe: how systems are trained here; None where none are.
        methods: unlearners under test.
        settings: with defaults filled in.
        rules: what is judged by.
        battery: attacks, primary first.
        given: systems made elsewhere.
        split: how the data was split, for the report.
    """

    data: Dataset
    request: DeletionRequest
    recipe: Recipe | None
    methods: tuple[Method, ...]
    settings: Settings
    rules: Rules
    battery: tuple[Attack, ...]
    given: Elsewhere = field(default_factory=Elsewhere)
    split: str = "given"

    @property
    def protocol(self) -> Protocol:
        """How systems are trained, selected and evaluated."""
        return Protocol(self.recipe, self.split, self.settings.masked)

    @property
    def granted_probes(self) -> list[Probe]:
        """The probes of those attacks that the auditor has the access for; nothing else is asked of any system."""
        regime, access = self.request.regime, self.settings.access
        granted = [attack for attack in self.battery if not attack.access_in(regime) & ~access]
        return list(dict.fromkeys(probe for attack in granted for probe in attack.probes))

    @property
    def trained(self) -> Recipe:
        """The recipe of an audit that trains its systems here; to be asked only where one does."""
        assert self.recipe is not None
        return self.recipe

    @property
    def sources(self) -> dict[str, Source]:
        """Every system made elsewhere, by the name that its build has."""
        found = {**self.given.yardstick, **self.given.audited}
        return found if self.given.original is None else {**found, THEIR_ORIGINAL: self.given.original}

    @property
    def yardstick(self) -> Maker:
        """Where originals, Golds, references and controls come from."""
        if self.given.yardstick:
            return "owner"
        return "none" if self.recipe is None else "here"

    @property
    def cautions(self) -> list[str]:
        """What can be done and is seldom what was meant; for stderr, nothing depends on it."""
        return [
            f"unlearner {m.name!r}: 2 runs need a wider margin than one, since two that lie apart say little about "
            "their scatter; ask for 1, or for 3 and more"
            for m in self.methods
            if m.runs == 2
        ]

    @property
    def digest(self) -> str:
        """Of everything that must be fixed before an unlearned system is probed."""
        return digest_of(
            self.data.digest, self.request.digest, self.recipe, canonical(self.settings), canonical(self.rules),
            [[m.name, m.runs, m.steps, canonical(m.unlearner)] for m in self.methods],
            [canonical(a) for a in self.battery],
            [[name, source.text, source.digest] for name, source in sorted(self.sources.items())],
        )  # fmt: skip


def make_plan(
    data: Dataset,
    request: DeletionRequest,
    recipe: Recipe | None,
    methods: Sequence[Method | Unlearner],
    *,
    settings: Settings | None = None,
    given: Elsewhere | None = None,
    battery: Sequence[Attack] | None = None,
    split: str = "given",
) -> Plan:
    """Fill in defaults and check everything that can be checked before work starts.

    One audit has one access: what is granted, cut to what can be asked of all systems made elsewhere.

    Raises:
        ConfigurationError: all problems at once.
        DataError: the request does not fit the data.
    """  # fmt: skip
    settings, given = settings or Settings(), given or Elsewhere()
    lengths = [length for length in (settings.list_length, given.list_length) if length is not None]
    settings = replace(settings, access=settings.access & given.access, list_length=min(lengths) if lengths else None)
    chosen = tuple(m if isinstance(m, Method) else Method(m) for m in methods)
    primary = settings.primary or primary_of(request.regime, settings.access)
    recipe = recipe and _with_trainer(recipe, chosen)
    problems = [
        *setting_problems(settings, request), *battery_problems(settings.attacks),
        *primary_problems(settings.primary, primary, request.regime),
        *given_problems([m.name for m in chosen], given, recipe), *method_problems(chosen, recipe, request),
        *request_problems(request, recipe, data),
    ]  # fmt: skip
    if problems:
        raise ConfigurationError(problems)
    request.check(data)
    settings = _filled(settings, request.regime)
    rules = Rules(
        request.regime, settings.margin or 0.0, settings.alpha, primary, settings.access, settings.seed,
        settings.min_power,
    )  # fmt: skip
    ordered = in_order(battery, primary) if battery else choose_battery(settings.attacks, primary, settings.list_length)
    return Plan(data, request, recipe, chosen, settings, rules, tuple(ordered), given, split)


def _with_trainer(recipe: Recipe, methods: Sequence[Method]) -> Recipe:
    """The procedure under audit: that of the method which brings its own, else the recipe as it is."""
    trainers = [m.unlearner for m in methods if m.unlearner.trains]
    return replace(recipe, trainer=trainers[0]) if trainers and recipe.trainer is None else recipe


def _filled(settings: Settings, regime: str) -> Settings:
    golds, references = SIZES[settings.profile]
    margin = MARGINS[regime][list(SIZES).index(settings.profile)]
    return replace(
        settings,
        golds=golds if settings.golds is None else settings.golds,
        references=references if settings.references is None else settings.references,
        margin=margin if settings.margin is None else settings.margin,
    )


def seed_of(plan_seed: int, role: str, index: int) -> int:
    """Seed of one system: a larger profile keeps the systems of a smaller one."""
    return int(digest_of(plan_seed, role, index)[:8], 16) & 0x7FFFFFFF


def reference_shares(references: int, seed: int) -> list[Share]:
    """Erased shares of K references, in complementary pairs: every unit is held by exactly K/2 of them."""
    shares = []
    for j in range(references // 2):
        cut, order = (2 * j + 1) / references, seed_of(seed, "share", j)
        shares += [Share(0.0, cut, order), Share(cut, 1.0, order)]
    return shares


def background_systems(plan: Plan) -> list[System]:
    """Originals, Golds, references and controls: trained here, or to be had from the owner."""
    s, seed, recipe = plan.settings, plan.settings.seed, plan.recipe

    def made(name: str, erased: Share, number: int) -> Train | Given:
        if recipe is not None and plan.yardstick == "here":
            return Train(recipe, erased, number)
        source = plan.given.yardstick.get(name)
        return Given(name, source.digest if source else "", erased)

    def trained(role: Role, index: int, erased: Share, *, timed: bool = False) -> System:
        name = f"{role}-{index + 1}"
        return System(name, role, made(name, erased, seed_of(seed, role, index)), role, timed)

    # What training itself costs is asked of procedures that are not plain; else it is Gold's own time.
    sharded = recipe is not None and recipe.trainer is not None

    def control(method: str, erased: Share) -> System:
        return System(method, "control", made(method, erased, seed_of(seed, method, 0)), method)

    golds, references = s.golds or 0, s.references or 0
    half = Share(0.0, 0.5, seed_of(seed, "half share", 0))
    return [
        *(trained("original", k, NOBODY, timed=sharded and k == 0) for k in range(s.originals)),
        *(trained("gold", k, EVERYBODY, timed=k < TIMED_GOLDS) for k in range(golds)),
        *(trained("reference", k, share) for k, share in enumerate(reference_shares(references, seed))),
        control("control gold", EVERYBODY),
        control("half-erased", half),
    ]


def plain_golds(plan: Plan) -> list[System]:
    """Golds of the plain recipe, the yardstick of utility and speedup where the procedure under audit is not plain.

    They have the seeds of the Golds of a plain audit. Empty where the procedure is plain: its Golds are these.
    """
    if plan.recipe is None or plan.recipe.trainer is None:
        return []
    recipe, seed = replace(plan.recipe, trainer=None), plan.settings.seed
    return [
        System(
            f"plain gold-{k + 1}", "gold", Train(recipe, EVERYBODY, seed_of(seed, "gold", k)), "gold", k < TIMED_GOLDS
        )
        for k in range(plan.settings.golds or 0)
    ]


def unlearned_references(plan: Plan, method: Method, count: int) -> list[System]:
    """Systems trained on all but a third of the units that `method` then made forget another third, in triples.

    Over a triple every unit was once held, once unlearned and once never trained on (U-LiRA: Hayes et al., arXiv
    2403.01218). The method runs as it does on the whole request, on a third as many units.

    Args:
        plan: the audit.
        method: under test.
        count: how many are wanted; rounded up to whole triples.
    """
    seed, found = plan.settings.seed, []
    for k in range(-(-count // 3)):
        order = seed_of(seed, "thirds", k)
        thirds = [Share(r / 3, (r + 1) / 3, order) for r in range(3)]
        for r in range(3):
            index = 3 * k + r
            parent = Train(plan.trained, thirds[r], seed_of(seed, "unlearned reference", index))
            made = Unlearn(parent, method.unlearner, thirds[(r + 1) % 3], seed_of(seed, f"again {method.name}", index))
            name = f"{method.name} reference-{index + 1}"
            found.append(System(name, "unlearned reference", made, method.unlearner.name))
    return found


def audited_systems(plan: Plan) -> dict[str, list[System]]:
    """The systems under test by method name, one per run; each run starts from the first original."""
    found: dict[str, list[System]] = {}
    for method in plan.methods:
        parent = Train(plan.trained, NOBODY, seed_of(plan.settings.seed, "original", 0))
        names = [method.name] if method.runs == 1 else [f"{method.name} run {k + 1}" for k in range(method.runs)]
        found[method.name] = [
            System(name, "unlearned", _chain(plan, method, parent, k), method.unlearner.name, timed=True)
            for k, name in enumerate(names)
        ]
    for name, source in plan.given.audited.items():
        found[name] = [System(name, "unlearned", Given(name, source.digest, EVERYBODY), "given")]
    return found


def their_original(plan: Plan) -> list[System]:
    """The owner's own original; empty where it is not given."""
    source = plan.given.original
    return [] if source is None else [System(THEIR_ORIGINAL, "original", Given(THEIR_ORIGINAL, source.digest), "given")]


def _chain(plan: Plan, method: Method, parent: Train, run: int) -> Unlearn:
    """One run: the whole request at once, or its steps, each from what the step before left."""
    seed, first = plan.settings.seed, f"unlearn {method.name}"
    if method.steps == 1:
        return Unlearn(parent, method.unlearner, EVERYBODY, seed_of(seed, first, run))
    made: Train | Unlearn = parent
    for step in range(method.steps):
        share = Share(step / method.steps, (step + 1) / method.steps)
        made = Unlearn(made, method.unlearner, share, seed_of(seed, f"{first} step {step}", run))
    assert isinstance(made, Unlearn)
    return made


def earlier_steps(system: System) -> list[System]:
    """The systems that a chain of requests went through before its last, first step first; none of a single request."""
    found: list[System] = []
    one = system.build.parent if isinstance(system.build, Unlearn) else None
    while isinstance(one, Unlearn):
        found.insert(0, System("", "unlearned", one, system.method, timed=True))
        one = one.parent
    n = len(found) + 1
    return [replace(s, name=f"{system.name} after {k + 1} of {n}") for k, s in enumerate(found)]
