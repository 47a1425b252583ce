"""`auditkit plan-golds`: the training sets of a yardstick that the owner of a system trains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from auditkit.plan import Plan


def attach(app: typer.Typer) -> None:
    """Add `plan-golds` to the command line."""
    app.command("plan-golds")(plan_golds)


def plan_golds(
    config: Annotated[Path, typer.Argument(help="configuration; no [recipe] is needed")],
    out: Annotated[Path, typer.Option(help="folder to write; must be new or empty")] = Path("training-sets"),
    profile: Annotated[str | None, typer.Option(help="quick, standard or certify; overrides the configuration")] = None,
) -> None:
    """Write which pairs each Gold, reference and control of your own must be trained on; nothing is trained here."""
    from auditkit.config import load, read_data, resolve
    from auditkit.outside.source import Ids
    from auditkit.outside.training_sets import training_sets, write
    from auditkit.talk import Talk

    tables = load(config)
    with Talk() as talk:  # choosing a request may train systems
        plan = resolve(tables, progress=talk, unopened=True, profile=profile)
    data, _, names = read_data(tables)
    write(training_sets(plan, Ids(data.n_users, data.n_items, names)), out)
    typer.echo(_shown(plan, out))


def _shown(plan: Plan, out: Path) -> str:
    from auditkit.outside.training_sets import sizes

    lines = [
        f"{name:10} {golds:>6} {references:>11} {trainings:>10} {margin:>15.2f}"
        for name, golds, references, trainings, margin in sizes(plan).itertuples(index=False)
    ]
    return "\n".join([
        f"{'profile':10} {'Golds':>6} {'references':>11} {'trainings':>10} {'default margin':>15}",
        *lines,
        f"trainings: {plan.settings.originals} originals, the Golds, the references, 1 control Gold and 1 half-erased",
        "The margin that this yardstick attains is known once its systems have answered; it may be wider.",
        f"training sets: {out}",
    ])  # fmt: skip
