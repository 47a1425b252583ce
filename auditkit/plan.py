"""What an audit will do, all resolved: data, request, recipe, methods, rules, and the systems that must exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from auditkit.builds import Given, System, Train, Unlearn
from auditkit.contracts import Access, Attack, Recipe, Recommender, Unlearner
from auditkit.data.dataset import Dataset
from auditkit.deletion import EVERYBODY, NOBODY, DeletionRequest, Share
from auditkit.digests import canonical, digest_of
from auditkit.errors import ConfigurationError
from auditkit.findings import Rules
from auditkit.plugins import attacks
from auditkit.protocol import Masked, Protocol
from auditkit.record import Role
from auditkit.splitting import tune_clusters

Profile = Literal["quick", "standard", "certify"]

# Golds and references per profile; margins per regime are what a true Gold attains with them in nine of ten audits.
# That of modality requests is borrowed from items and not calibrated: such audits end INCONCLUSIVE by rule.
SIZES: Mapping[str, tuple[int, int]] = {"quick": (4, 16), "standard": (8, 32), "certify": (20, 64)}
MARGINS: Mapping[str, tuple[float, float, float]] = {
    "interaction": (0.10, 0.10, 0.05),
    "user": (0.20, 0.15, 0.12),
    "item": (0.40, 0.25, 0.20),
    "modality": (0.40, 0.25, 0.20),
}
# The attack that alone can PASS a system: rows of erased users or items read clean where fold-in still finds them.
PRIMARY: Mapping[str, str] = {
    "interaction": "lira-linear", "user": "fold-in", "item": "fold-in", "modality": "lira-linear"
}  # fmt: skip
TIMED_GOLDS = 3
ALL_ACCESS = Access.LISTS | Access.SCORES | Access.NEW_USERS | Access.NEW_ITEMS | Access.WEIGHTS


@dataclass(frozen=True)
class Method:
    """An unlearner under test.

    Attributes:
        unlearner: with its hyper-parameters.
        runs: how often it is run from the original, each with its own seed.
        label: what the report calls it; unique within an audit.
    """

    unlearner: Unlearner
    runs: int = 1
    label: str = ""

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
        primary: name of the primary attack; `PRIMARY` has the default of each regime.
        tune: share of the request's clusters, in [0, .5], whose units choices are tuned on; they are not judged.
        seed: of everything.
        device: torch device.
        access: what the auditor can reach.
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
    tune: float = 0.0
    seed: int = 0
    device: str = "cpu"
    access: Access = ALL_ACCESS
    masked: Masked = "train+valid"


@dataclass(frozen=True, eq=False)
class Plan:
    """A whole audit before anything is built.

    Attributes:
        data, request, recipe: what is audited.
        methods: unlearners under test.
        settings: with defaults filled in.
        rules: what is judged by.
        battery: attacks, primary first.
        given: name -> unlearned system made elsewhere.
        split: how the data was split, for the report.
    """

    data: Dataset
    request: DeletionRequest
    recipe: Recipe
    methods: tuple[Method, ...]
    settings: Settings
    rules: Rules
    battery: tuple[Attack, ...]
    given: Mapping[str, Recommender] = field(default_factory=dict)
    split: str = "given"

    @property
    def protocol(self) -> Protocol:
        """How systems are trained, selected and evaluated."""
        return Protocol(self.recipe, self.split, self.settings.masked)

    @property
    def digest(self) -> str:
        """Of everything that must be fixed before an unlearned system is probed."""
        return digest_of(
            self.data.digest, self.request.digest, self.recipe, canonical(self.settings), canonical(self.rules),
            [[m.name, m.runs, canonical(m.unlearner)] for m in self.methods], [canonical(a) for a in self.battery],
            sorted(self.given),
        )  # fmt: skip


def make_plan(
    data: Dataset,
    request: DeletionRequest,
    recipe: Recipe,
    methods: Sequence[Method | Unlearner],
    *,
    settings: Settings | None = None,
    given: Mapping[str, Recommender] | None = None,
    battery: Sequence[Attack] | None = None,
    split: str = "given",
) -> Plan:
    """Fill in defaults and check everything that can be checked before work starts.

    Raises:
        ConfigurationError: all problems at once.
        DataError: the request does not fit the data.
    """  # fmt: skip
    settings, given = settings or Settings(), dict(given or {})
    chosen = tuple(m if isinstance(m, Method) else Method(m) for m in methods)
    problems = [*_setting_problems(settings), *_method_problems(chosen, given, request, data)]
    try:
        tune_clusters(request, settings.tune, settings.seed)
    except ConfigurationError as error:
        problems += error.problems
    primary = settings.primary or PRIMARY[request.regime]
    if primary not in attacks():
        problems.append(f"primary must be one of {', '.join(attacks())}, got {primary!r}")
    elif request.regime not in attacks()[primary].primary_for and settings.primary:
        fitting = [n for n in attacks() if request.regime in attacks()[n].primary_for]
        problems.append(f"primary {primary!r} cannot judge {request.regime} requests; choose {', '.join(fitting)}")
    if request.regime == "modality" and not recipe.architecture().needs_features:
        problems.append(f"a modality request needs a backbone that reads features; {recipe.backbone!r} reads none")
    absent = [m for m in request.modalities if m not in data.modalities]
    if absent:
        known = ", ".join(data.modalities) or "none"
        problems.append(f"request.modalities: {', '.join(absent)} not in {data.name!r}, which has: {known}")
    if problems:
        raise ConfigurationError(problems)
    request.check(data)
    settings = _filled(settings, request.regime)
    rules = Rules(
        request.regime, settings.margin or 0.0, settings.alpha, primary, settings.access, settings.seed,
        settings.min_power,
    )  # fmt: skip
    ordered = sorted(battery or _default_battery(), key=lambda a: a.name != primary)
    return Plan(data, request, recipe, chosen, settings, rules, tuple(ordered), given, split)


def _default_battery() -> list[Attack]:
    return [attack for name in attacks() for attack in attacks()[name].battery()]


def _filled(settings: Settings, regime: str) -> Settings:
    golds, references = SIZES[settings.profile]
    margin = MARGINS[regime][list(SIZES).index(settings.profile)]
    return replace(
        settings,
        golds=golds if settings.golds is None else settings.golds,
        references=references if settings.references is None else settings.references,
        margin=margin if settings.margin is None else settings.margin,
    )


def _setting_problems(settings: Settings) -> list[str]:
    found = []
    if settings.profile not in get_args(Profile):
        found.append(f"profile must be one of {', '.join(get_args(Profile))}, got {settings.profile!r}")
    if settings.golds is not None and settings.golds < 2:
        found.append(f"golds must be 2 or more (their scatter is the yardstick), got {settings.golds}")
    if settings.references is not None and (settings.references < 4 or settings.references % 2):
        found.append(f"references must be an even number of 4 or more (complementary pairs), got {settings.references}")
    if settings.originals < 1:
        found.append(f"originals must be 1 or more, got {settings.originals}")
    if settings.margin is not None and not 0 < settings.margin < 1:
        found.append(f"margin must be in (0, 1), got {settings.margin}")
    if not 0 < settings.alpha < 0.5:
        found.append(f"alpha must be in (0, 0.5), got {settings.alpha}")
    if not 0 <= settings.min_power < 1:
        found.append(f"min_power must be in [0, 1) (a probability; 0 asks for none), got {settings.min_power}")
    if settings.seed < 0:
        found.append(f"seed must be 0 or more, got {settings.seed}")
    return found


def _method_problems(
    methods: Sequence[Method], given: Mapping[str, Recommender], request: DeletionRequest, data: Dataset
) -> list[str]:
    found = []
    if not methods and not given:
        found.append("there is nothing to audit: name at least one unlearner or given system")
    names = [m.name for m in methods] + list(given)
    found += [
        f"two systems are called {name!r}; give one of them a label"
        for name in sorted({n for n in names if names.count(n) > 1})
    ]
    for method in methods:
        if method.runs < 1:
            found.append(f"unlearner {method.name!r}: runs must be 1 or more, got {method.runs}")
        if request.regime not in method.unlearner.regimes:
            able = ", ".join(sorted(method.unlearner.regimes))
            found.append(f"unlearner {method.name!r} cannot answer {request.regime} requests, only: {able}")
    for name, model in given.items():
        if (model.n_users, model.n_items) != (data.n_users, data.n_items):
            found.append(
                f"given system {name!r} scores {model.n_users} users x {model.n_items} items, the data set has "
                f"{data.n_users} x {data.n_items}; ids must mean the same"
            )
    return found


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
    """Originals, Golds, references and controls."""
    s, seed = plan.settings, plan.settings.seed

    def trained(role: Role, index: int, erased: Share, *, timed: bool = False) -> System:
        return System(f"{role}-{index + 1}", role, Train(plan.recipe, erased, seed_of(seed, role, index)), role, timed)

    def control(method: str, erased: Share) -> System:
        return System(method, "control", Train(plan.recipe, erased, seed_of(seed, method, 0)), method)

    golds, references = s.golds or 0, s.references or 0
    half = Share(0.0, 0.5, seed_of(seed, "half share", 0))
    return [
        *(trained("original", k, NOBODY) for k in range(s.originals)),
        *(trained("gold", k, EVERYBODY, timed=k < TIMED_GOLDS) for k in range(golds)),
        *(trained("reference", k, share) for k, share in enumerate(reference_shares(references, seed))),
        control("control gold", EVERYBODY),
        control("half-erased", half),
    ]


def audited_systems(plan: Plan) -> dict[str, list[System]]:
    """The systems under test by method name, one per run; each run starts from the first original."""
    seed = plan.settings.seed
    parent = Train(plan.recipe, NOBODY, seed_of(seed, "original", 0))
    found: dict[str, list[System]] = {}
    for method in plan.methods:
        runs = range(method.runs)
        found[method.name] = [
            System(
                method.name if method.runs == 1 else f"{method.name} run {k + 1}", "unlearned",
                Unlearn(parent, method.unlearner, EVERYBODY, seed_of(seed, f"unlearn {method.name}", k)),
                method.unlearner.name, timed=True,
            )
            for k in runs
        ]  # fmt: skip
    for name in plan.given:
        found[name] = [System(name, "unlearned", Given(name, digest_of("given", name), EVERYBODY), "given")]
    return found
