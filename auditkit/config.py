"""The configuration file of an audit: read, checked as a whole, and turned into a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from auditkit.errors import AuditkitError, ConfigurationError
from auditkit.requests import Names, read_request
from auditkit.toml_files import in_words, read_toml

if TYPE_CHECKING:
    from auditkit.builds import Progress
    from auditkit.canaries import PlantedRegime
    from auditkit.contracts import Recipe
    from auditkit.data.dataset import Dataset
    from auditkit.deletion import DeletionRequest
    from auditkit.memorised import Pool
    from auditkit.outside.source import Elsewhere, Ids
    from auditkit.plan import Method, Plan


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataTable(_Table):
    """[data]: what is audited on. `path` is relative to the configuration file; `format = "synthetic"` needs none."""

    path: str | None = None
    format: str = "auto"
    positive: str | None = None
    split: str | None = None
    k_core: int = Field(0, ge=0)
    seed: int = Field(0, ge=0)


class RequestTable(_Table):
    """[request]: what must be forgotten.

    Selected (`select` with `share` or `count`), listed in a `file`, or planted before training (`canaries`).
    """

    regime: Literal["interaction", "user", "item", "modality"] = "interaction"
    select: Literal["random", "core", "edge", "tail", "outlier", "memorised"] | None = None
    file: str | None = None
    canaries: int | None = Field(None, ge=1)
    share: float | None = Field(None, gt=0, le=1)
    count: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)
    modalities: tuple[str, ...] | None = None


class RecipeTable(_Table):
    """[recipe]: the backbone and how it is trained; what is not said takes the backbone's defaults."""

    backbone: str
    config: dict[str, Any] = {}
    fit: dict[str, Any] = {}


class UnlearnerTable(_Table):
    """[[unlearner]]: a method under test."""

    name: str
    params: dict[str, Any] = {}
    runs: int = Field(1, ge=1)
    label: str = ""
    steps: int = Field(1, ge=1, description="requests in a row that the units arrive in")


AccessName = Literal["lists", "scores", "new-users", "new-items", "weights", "snapshots"]


class GivenTable(_Table):
    """[[given]]: a system made elsewhere, or all of a yardstick; one of the ways in says where it is.

    A place with `{system}` in it stands for many, of which each has the name that `auditkit plan-golds` lists.
    """

    name: str = ""
    role: Literal["unlearned", "original", "yardstick"] = "unlearned"
    model: str | None = None
    embeddings: str | None = None
    table: str | None = None
    endpoint: str | None = None
    onnx: str | None = None
    options: dict[str, Any] = {}
    access: tuple[AccessName, ...] | None = None


class AuditTable(_Table):
    """[audit]: how thoroughly."""

    profile: Literal["quick", "standard", "certify"] = "standard"
    golds: int | None = Field(None, ge=2)
    references: int | None = Field(None, ge=4)
    originals: int = Field(2, ge=1)
    tune: float = Field(0.0, ge=0, le=0.5)
    seed: int = Field(0, ge=0)
    device: str = "cpu"
    access: tuple[AccessName, ...] | None = None
    attacks: tuple[str, ...] | None = None
    list_length: int | None = Field(None, ge=20)
    masked: Literal["train+valid", "train"] = "train+valid"
    store: str = ".auditkit"


class PolicyTable(_Table):
    """[policy]: what counts as forgotten; None takes the default of regime and profile."""

    margin: float | None = Field(None, gt=0, lt=1)
    alpha: float = Field(0.05, gt=0, lt=0.5)
    min_power: float = Field(0.8, ge=0, lt=1)
    primary: str | None = None


class AuditConfig(_Table):
    """A whole configuration; unknown keys are errors."""

    data: DataTable
    request: RequestTable = RequestTable()
    recipe: RecipeTable | None = None
    unlearner: tuple[UnlearnerTable, ...] = ()
    given: tuple[GivenTable, ...] = ()
    audit: AuditTable = AuditTable()
    policy: PolicyTable = PolicyTable()
    folder: Path = Field(Path(), exclude=True, description="where relative paths start")


def parse(tables: Mapping[str, Any], folder: Path = Path()) -> AuditConfig:
    """Check tables as read from TOML.

    Raises:
        ConfigurationError: every unknown, missing or ill-typed key at once.
    """
    try:
        config = AuditConfig.model_validate({**tables, "folder": folder})
    except ValidationError as error:
        raise ConfigurationError([in_words(e, "auditkit init") for e in error.errors()]) from None
    if config.recipe is None and not config.given:
        raise ConfigurationError("recipe: missing; see `auditkit init` for an example")
    return config


def load(path: Path) -> AuditConfig:
    """Read a TOML file.

    Raises:
        ConfigurationError: it is absent, is no TOML, or has problems; all of them at once.
    """
    return parse(read_toml(path, "`auditkit init` writes an example"), path.parent)


def _collect(problems: list[str], error: AuditkitError) -> None:
    problems += error.problems if isinstance(error, ConfigurationError) else [str(error)]


def resolve(config: AuditConfig, *, progress: Progress | None = None, unopened: bool = False, **overrides: Any) -> Plan:
    """Read the data, find the plug-ins and make the plan.

    Args:
        config: checked tables.
        progress: told of the systems that a request with `select = "memorised"` trains.
        unopened: systems made elsewhere are not looked at, for they may not be there yet; such a plan says what will be
            asked of them and cannot be audited.
        overrides: keys of the table [audit], such as `profile`, `access` or `attacks`, that replace the file's; None
            leaves a key as it is.

    Raises:
        ConfigurationError: everything that is wrong with recipe, unlearners, given systems, request and data, at once.
    """
    from auditkit.outside.configured import form_problems
    from auditkit.outside.source import Ids

    config = _overridden(config, {name: value for name, value in overrides.items() if value is not None})
    problems: list[str] = [*_request_problems(config.request), *form_problems(config.given)]
    found: dict[str, Any] = {}
    steps: dict[str, Callable[[], Any]] = {
        "recipe": lambda: _recipe(config),
        "methods": lambda: _methods(config),
        "data": lambda: read_data(config),
    }
    for name, step in steps.items():
        try:
            found[name] = step()
        except AuditkitError as error:
            _collect(problems, error)
    if problems:
        raise ConfigurationError(problems)
    data, split, names = found["data"]
    request = make_request(config, data, names, progress)
    return _with_given(config, data, request, found, split, Ids(data.n_users, data.n_items, names), unopened)


def _with_given(
    config: AuditConfig, data: Dataset, request: DeletionRequest, found: Mapping[str, Any], split: str, ids: Ids,
    unopened: bool,
) -> Plan:  # fmt: skip
    """The plan with what was made elsewhere; which systems a yardstick has follows from the plan without them."""
    from auditkit.outside.configured import open_all, unopened_all
    from auditkit.plan import background_systems, make_plan

    def plan(given: Elsewhere) -> Plan:
        recipe, methods = found["recipe"], found["methods"]
        return make_plan(data, request, recipe, methods, settings=_settings(config), given=given, split=split)

    planned = plan(unopened_all(config.given))
    if unopened or not config.given:
        return planned
    names = [system.name for system in background_systems(planned)]
    return plan(open_all(config.given, ids, names, config.folder))


def _recipe(config: AuditConfig) -> Recipe | None:
    from auditkit.contracts import Recipe

    table = config.recipe
    return None if table is None else Recipe.of(table.backbone, table.config, table.fit)


def _overridden(config: AuditConfig, said: Mapping[str, Any]) -> AuditConfig:
    tables = config.model_dump(exclude_unset=True)
    return parse({**tables, "audit": {**tables.get("audit", {}), **said}}, config.folder)


def _request_problems(request: RequestTable) -> Iterator[str]:
    others = [key for key in ("select", "file", "share", "count") if getattr(request, key) is not None]
    if request.canaries:
        if others:
            yield f"request: with canaries the canaries are the request; leave out {', '.join(others)}"
        return
    if request.file and (request.select or request.share or request.count):
        yield "request: give either file, or select with share or count, not both"
    if not request.file and (request.share is None) == (request.count is None):
        yield "request: give either share (in (0, 1]) or count (1 or more) of the units, or a file that lists them"


def _methods(config: AuditConfig) -> list[Method]:
    from auditkit.errors import PluginError
    from auditkit.plan import Method
    from auditkit.plugins import resolve_options, unlearners

    problems: list[str] = []
    made: list[Method] = []
    for k, table in enumerate(config.unlearner):
        try:
            unlearner = resolve_options((unlearners()[table.name], table.params, f"unlearner.{k} ({table.name})"))[0]
            made.append(Method(unlearner, table.runs, table.label, table.steps))
        except (PluginError, ConfigurationError) as error:
            _collect(problems, error)
    if problems:
        raise ConfigurationError(problems)
    return made


def read_data(config: AuditConfig) -> tuple[Dataset, str, Names]:
    """The data set with its canaries, how it was split, and the files' own ids where they were renumbered."""
    from auditkit.canaries import plant

    data, split, names = _read_files(config)
    table = config.request
    if table.canaries:
        data, _ = plant(data, cast("PlantedRegime", table.regime), table.canaries, seed=table.seed)
        names = names.planted(table.regime, table.canaries)
    return data, split, names


def _read_files(config: AuditConfig) -> tuple[Dataset, str, Names]:
    from auditkit.data.dataset import Dataset
    from auditkit.data.readers import read

    table = config.data
    if table.format == "synthetic":
        return Dataset.synthetic(seed=table.seed), "random, drawn with the data", Names()
    if table.path is None:
        raise ConfigurationError('data.path: missing; name a file or folder, or say format = "synthetic"')
    data, report = read(
        config.folder / table.path, format=table.format, positive=table.positive, split=table.split,
        k_core=table.k_core, seed=table.seed,
    )  # fmt: skip
    return data, report.split, Names(report.user_ids, report.item_ids)


def make_request(config: AuditConfig, data: Dataset, names: Names, progress: Progress | None = None) -> DeletionRequest:
    """Select the units, read them from the request's file, or name the canaries.

    Args:
        config: checked tables.
        data, names: as `read_data` returns them.
        progress: told of the systems that `select = "memorised"` trains.
    """
    from auditkit.canaries import planted_request
    from auditkit.worst_case import choose

    table = config.request
    # With an item goes what it shows, unless the request says otherwise.
    modalities = data.modalities if table.regime in ("item", "modality") else ()
    if table.modalities is not None:
        modalities = table.modalities
    if table.file:
        return read_request(config.folder / table.file, table.regime, modalities, names=names)
    if table.canaries:
        return planted_request(data, cast("PlantedRegime", table.regime), table.canaries, modalities)
    return choose(
        data, table.regime, table.select or "random", share=table.share, count=table.count, seed=table.seed,
        modalities=modalities, pool=_pool(config, progress) if table.select == "memorised" else None,
    )  # fmt: skip


def _pool(config: AuditConfig, progress: Progress | None) -> Pool:
    from auditkit.builds import silent
    from auditkit.memorised import Pool

    recipe = _recipe(config)
    if recipe is None:
        raise ConfigurationError('request: select = "memorised" trains systems, and there is no [recipe]; add one')
    store, device = Path(config.audit.store), config.audit.device
    return Pool(recipe, store=store, device=device, progress=progress or silent)


def _settings(config: AuditConfig) -> Any:
    from auditkit.battery import access_of
    from auditkit.plan import ALL_ACCESS, Settings

    table, policy = config.audit, config.policy
    return Settings(
        profile=table.profile, golds=table.golds, references=table.references, originals=table.originals,
        margin=policy.margin, alpha=policy.alpha, min_power=policy.min_power, primary=policy.primary,
        tune=table.tune, seed=table.seed, device=table.device,
        access=ALL_ACCESS if table.access is None else access_of(table.access), attacks=table.attacks,
        list_length=table.list_length, masked=table.masked,
    )  # fmt: skip
