"""The command line. stdout is data, stderr is talk; exit codes: 0 PASS, 1 FAIL, 2 usage, 3 internal, 4 no verdict."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, cast

import typer

from auditkit.commands import certificate, gate, history, plan_golds, points, report
from auditkit.errors import AuditkitError, StoreError

if TYPE_CHECKING:
    from auditkit.plan import Plan
    from auditkit.record import Record

app = typer.Typer(no_args_is_help=True, add_completion=False, help=(
    "Audits whether a recommender still carries the data it was told to forget. "
    "Exit codes of audit: 0 PASS, 1 FAIL, 2 usage or configuration, 3 internal, 4 INCONCLUSIVE or INVALID."
))  # fmt: skip
data_app = typer.Typer(no_args_is_help=True, help="Look at data sets, and make features from text.")
app.add_typer(data_app, name="data")

INTERNAL = 3
INTERRUPTED = 130


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    # Not left to KeyboardInterrupt: typer swallows it, and some versions exit with 1, which means FAIL here.
    sys.stderr.write("auditkit: interrupted; the same command goes on where it stopped\n")
    sys.exit(INTERRUPTED)


def main() -> None:
    """Run the command line; every error becomes a message and an exit code."""
    # Before torch is loaded: its idle threads would else spin, which on a busy machine costs several times the work.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    signal.signal(signal.SIGINT, _interrupted)
    try:
        app(standalone_mode=True, prog_name="auditkit")
    except AuditkitError as error:
        sys.stderr.write(f"auditkit: {error}\n")
        sys.exit(INTERNAL if isinstance(error, StoreError) else 2)
    except Exception as error:  # the last resort: a fault of ours must not look like a verdict
        import traceback

        traceback.print_exc()
        sys.stderr.write(f"auditkit: internal error: {type(error).__name__}: {error}\n")
        sys.exit(INTERNAL)


@app.command()
def demo(
    quick: Annotated[bool, typer.Option("--quick", help="one request, quick profile: under a minute")] = False,
    out: Annotated[Path, typer.Option(help="folder for the reports")] = Path("auditkit-demo"),
) -> None:
    """Audit good and bad unlearners on a synthetic data set; exit 0 when every verdict is the expected one."""
    from auditkit.demo import run_demo
    from auditkit.talk import Talk

    with Talk() as talk:
        table, as_expected = run_demo(out, quick=quick, progress=talk)
    typer.echo(table)
    raise typer.Exit(0 if as_expected else INTERNAL)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="file to write")] = Path("audit.toml"),
    force: Annotated[bool, typer.Option("--force", help="overwrite")] = False,
) -> None:
    """Write a commented configuration to start from."""
    from auditkit.config_example import EXAMPLE
    from auditkit.errors import ConfigurationError
    from auditkit.writing import replace_file

    if path.exists() and not force:
        raise ConfigurationError(f"{path} exists already; choose another name or pass --force")
    replace_file(path, lambda scratch: scratch.write_text(EXAMPLE, encoding="utf-8"))
    typer.echo(str(path))


@app.command()
def audit(
    config: Annotated[Path, typer.Argument(help="configuration; `auditkit init` writes one")],
    profile: Annotated[str | None, typer.Option(help="quick, standard or certify; overrides the configuration")] = None,
    access: Annotated[
        str | None, typer.Option(help="what the auditor can reach, such as lists or scores,new-users; overrides")
    ] = None,
    attacks: Annotated[
        str | None, typer.Option(help="attacks that run: default, all, or names with commas; overrides")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="folder for report.json, report.html, units.parquet and evidence.npz")
    ] = Path("report"),
    store: Annotated[Path | None, typer.Option(help="folder of trained systems; overrides the configuration")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the report as one JSON document on stdout")] = False,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="print what would be built and how long it takes; build nothing")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
) -> None:
    """Audit as a configuration says; the exit code is the verdict."""
    from auditkit.config import load, resolve
    from auditkit.talk import Talk

    tables = load(config)
    with Talk(quiet=quiet) as talk:  # choosing a request may train systems
        plan = resolve(
            tables, progress=talk, profile=profile, access=_names(access), attacks=_names(attacks),
            store=None if store is None else str(store),
        )  # fmt: skip
    place = store or Path(tables.audit.store)
    for caution in plan.cautions:
        typer.echo(f"note: {caution}", err=True)
    if plan_only:
        _print_plan(plan, place)
        return
    record = _audited(plan, out, place, quiet=quiet)
    typer.echo(record.to_json() if as_json else _shown(record, out), nl=not as_json)
    raise typer.Exit(record.exit_code)


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def _audited(plan: Plan, out: Path, store: Path, *, quiet: bool) -> Record:
    from auditkit.api import audit_plan
    from auditkit.talk import Talk

    with Talk(quiet=quiet) as talk:
        return audit_plan(plan, out=out, store=store, progress=talk)


def _print_plan(plan: Plan, store: Path) -> None:
    from auditkit.builds import Given
    from auditkit.estimate import foresee
    from auditkit.store import Store

    lines = foresee(plan, Store(store))
    for line in lines:
        state = (
            "made elsewhere"
            if isinstance(line.system.build, Given)
            else "stored"
            if line.stored
            else "to build, time not known"
            if line.seconds is None
            else f"to build, about {line.seconds:.1f} s"
        )
        typer.echo(f"{line.system.name:24} {line.system.role:10} {state}")
    todo = [line for line in lines if not line.stored]
    total, unknown = sum(line.seconds or 0.0 for line in todo), sum(line.seconds is None for line in todo)
    rest = f", without {unknown} whose time is not known" if unknown else ""
    typer.echo(
        f"{len(lines)} systems, {len(lines) - len(todo)} stored, {len(todo)} to build in at most {total:.0f} s "
        f"one after another{rest}"
    )
    typer.echo(f"configuration {plan.digest}")


def _shown(record: Record, out: Path) -> str:
    lines = [f"{record.verdict}"]
    lines += [f"  {s.name}: {s.verdict}" for s in record.systems if s.verdict is not None]
    return "\n".join([*lines, f"report: {out / 'report.html'}", f"record: {out / 'report.json'}"])


@app.command()
def show(
    report: Annotated[Path, typer.Argument(help="a report.json")],
    as_json: Annotated[bool, typer.Option("--json", help="print the checked report as JSON")] = False,
) -> None:
    """Show a report on the terminal."""
    from rich.console import Console

    from auditkit.record import Record
    from auditkit.reports.terminal import render

    record = Record.read(report)
    if as_json:
        typer.echo(record.to_json(), nl=False)
    else:
        render(record, Console())


def _datasets() -> list[tuple[str, str]]:
    from auditkit.data.formats import FORMATS

    return [("synthetic", "Generated from a seed; nothing to download."), *FORMATS.items()]


@app.command("list")
def list_(kind: Annotated[str, typer.Argument(help="backbones, unlearners, attacks or datasets")]) -> None:
    """List what is known: ours and every installed plug-in's."""
    from auditkit.errors import ConfigurationError
    from auditkit.plugins import registry

    if kind == "datasets":
        rows = _datasets()
    elif kind in ("backbones", "unlearners", "attacks"):
        known = registry(cast(Literal["backbones", "unlearners", "attacks"], kind))
        rows = [(name, _described(known[name])) for name in known]
    else:
        raise ConfigurationError(f"list knows backbones, unlearners, attacks and datasets, not {kind!r}")
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        typer.echo(f"{name:{width}}  {text}")


def _described(plugin: type[Any]) -> str:
    """The first line of its docstring, with what an unlearner can answer, and what an attack weighs and needs."""
    from auditkit.battery import access_words, standing
    from auditkit.contracts import Attack, Unlearner

    text = (plugin.__doc__ or "").strip().split("\n")[0]
    if issubclass(plugin, Unlearner):
        return f"{plugin.label}; {', '.join(sorted(plugin.regimes))}. {text}"
    if issubclass(plugin, Attack):
        runs = "runs by default" if plugin.battery() else "runs when named"
        return f"{standing(plugin)}; {runs}; needs {access_words(plugin.variants()[0].access)}. {text}"
    return text


@data_app.command("inspect")
def inspect_data(
    path: Annotated[Path, typer.Argument(help="file or folder")],
    format_: Annotated[str, typer.Option("--format", help="auto tells formats apart by content")] = "auto",
    positive: Annotated[str | None, typer.Option(help='which rows count, such as "rating >= 4"')] = None,
    split: Annotated[
        str | None, typer.Option(help="file, random:0.8/0.1/0.1, leave-last-out, global-time:0.8/0.1/0.1")
    ] = None,
    k_core: Annotated[int, typer.Option(help="keep users and items with at least this many pairs")] = 0,
    seed: Annotated[int, typer.Option(help="of a random split")] = 0,
) -> None:
    """Print what was understood of a data set: format, sizes, splits, features, drops."""
    from auditkit.data.inspect import describe
    from auditkit.data.readers import read

    rows = describe(*read(path, format=format_, positive=positive, split=split, k_core=k_core, seed=seed))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        typer.echo(f"{name:{width}}  {text}")


@data_app.command("encode")
def encode_text(
    path: Annotated[Path, typer.Argument(help="tab-separated file: a column of 0-based item ids, columns of text")],
    encoder: Annotated[Path, typer.Option(help="folder of a sentence-transformers encoder; nothing is fetched")],
    out: Annotated[Path, typer.Option(help="<modality>_feat.npy to write")] = Path("text_feat.npy"),
    id_: Annotated[str | None, typer.Option("--id", help="column of ids; default: item_id, id or the first")] = None,
    text: Annotated[list[str] | None, typer.Option(help="column to read, repeatable; default: all others")] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite")] = False,
) -> None:
    """Encode item text to features, one row per id; items without text become absent rows."""
    from auditkit.data import text as reading
    from auditkit.errors import ConfigurationError

    if not out.name.endswith("_feat.npy"):
        raise ConfigurationError(f"--out must be named <modality>_feat.npy, as readers look for it, got {out.name}")
    if out.exists() and not force:
        raise ConfigurationError(f"{out} exists already; choose another name or pass --force")
    reading.check_encoder(encoder)
    found = reading.text_features(reading.item_texts(path, id_column=id_, text_columns=text or ()), encoder)
    reading.write_features(found, out)
    rows, width = found.values.shape
    typer.echo(f"rows    {rows:,}\nwidth   {width}\nabsent  {rows - int(found.present.sum()):,}\nfile    {out}")


for group in (plan_golds, points, gate, report, certificate, history):
    group.attach(app)


if __name__ == "__main__":
    main()
