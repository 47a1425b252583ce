"""The audit as a Python call: from a configuration, or from objects of the caller's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from auditkit.builds import Progress, silent
from auditkit.config import AuditConfig, load, resolve
from auditkit.contracts import Recipe, Recommender, Unlearner
from auditkit.data.dataset import Dataset
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError
from auditkit.flow import audit as run_audit
from auditkit.outside.source import Source, collect
from auditkit.plan import Method, Plan, Settings, make_plan
from auditkit.record import Record


def audit(
    config: AuditConfig | Path | str | None = None,
    *,
    data: Dataset | None = None,
    request: DeletionRequest | None = None,
    recipe: Recipe | None = None,
    unlearners: Sequence[Unlearner | Method] = (),
    given: Mapping[str, Recommender | Source] | None = None,
    original: Recommender | Source | None = None,
    yardstick: Mapping[str, Recommender | Source] | None = None,
    settings: Settings | None = None,
    out: Path | str | None = None,
    store: Path | str | None = None,
    progress: Progress = silent,
) -> Record:
    """Audit deletion.

    Either name a configuration, or pass `data`, `request`, `recipe` and `unlearners` (or `given` systems).

    Systems made elsewhere are laid on Golds that `recipe` trains, if it imitates how the `original` was trained; or on
    a `yardstick` of their owner's, and then there is no recipe; without either nothing has a dose.

    Args:
        config: an `audit.toml`, or tables already parsed.
        data, request, recipe: what is audited; see `Dataset`, `DeletionRequest`, `Recipe.of`.
        unlearners: methods under test; `Method` sets runs and a label.
        given: name -> unlearned recommender made elsewhere, over the same ids.
        original: what the given systems were before, made elsewhere too; without it nothing shows that `recipe` trains
            as they were trained, and the verdict is INCONCLUSIVE.
        yardstick: name -> originals, Golds, references and controls made elsewhere, all that
            `auditkit.plan.background_systems` lists.
        settings: profile, counts, margin, seed, device.
        out: folder for report.json, report.html, units.parquet and evidence.npz; None writes nothing.
        store: where builds lie (default: the configuration's, or ./.auditkit).
        progress: called with a text and how much of how much is done.

    Returns:
        The Record; `record.verdict` is PASS, FAIL, INCONCLUSIVE or INVALID.

    Raises:
        ConfigurationError: what was asked for cannot be done; all problems at once.
        DataError: the data are not what they must be.
    """  # fmt: skip
    if config is not None:
        objects: tuple[object, ...] = (data, request, recipe, given, original, yardstick)
        if unlearners or any(one is not None for one in objects):
            raise ConfigurationError("pass either a configuration or objects (data, request, recipe, ...), not both")
        tables = config if isinstance(config, AuditConfig) else load(Path(config))
        plan, home = resolve(tables), tables.audit.store
    else:
        plan = plan_of(data, request, recipe, unlearners, given, original, yardstick, settings)
        home = ".auditkit"
    place = None if out is None else Path(out)
    return audit_plan(plan, out=place, store=Path(store if store is not None else home), progress=progress)


def audit_plan(plan: Plan, *, out: Path | None, store: Path, progress: Progress = silent) -> Record:
    """Audit a plan and write its report, per-unit table, evidence and page into `out` (None: nothing is written)."""
    from auditkit.reports.html import write

    record = run_audit(plan, out=out, store=store, progress=progress)
    if out is not None:
        write(record, out / "report.html")
    return record


def plan_of(
    data: Dataset | None, request: DeletionRequest | None, recipe: Recipe | None,
    unlearners: Sequence[Unlearner | Method], given: Mapping[str, Recommender | Source] | None,
    original: Recommender | Source | None, yardstick: Mapping[str, Recommender | Source] | None,
    settings: Settings | None,
) -> Plan:  # fmt: skip
    """The plan of an audit of objects; arguments as `audit` takes them.

    Raises:
        ConfigurationError: what is missing or does not fit; all problems at once.
    """
    # Systems made elsewhere need no recipe.
    needed = {"data": data, "request": request} | ({} if given else {"recipe": recipe})
    missing = [f"{name} is missing; pass it, or a configuration" for name, value in needed.items() if value is None]
    if data is None or request is None or missing:
        raise ConfigurationError(missing)
    elsewhere = collect(given, original, yardstick, data)
    return make_plan(data, request, recipe, unlearners, settings=settings, given=elsewhere)
