"""`auditkit points`: the questions of an audit as files, for the owner of a system that only they can ask."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditkit.commands.files import content_of

if TYPE_CHECKING:
    from auditkit.outside.question_files import Questions


def attach(app: typer.Typer) -> None:
    """Add `points` to the command line."""
    app.command()(points)


def points(
    config: Annotated[Path, typer.Argument(help="configuration of the audit")],
    out: Annotated[Path, typer.Option(help="folder to write; it must be new or empty")] = Path("points"),
    key: Annotated[
        Path | None, typer.Option(help="secret key, as `auditkit report unit-key` writes it: ids become pseudonyms")
    ] = None,
) -> None:
    """Write the questions that an audit asks of a system, as files that its owner answers."""
    from auditkit.commitment import read_key
    from auditkit.config import load, read_data, resolve
    from auditkit.outside.questions import write_questions
    from auditkit.talk import Talk

    secret = None if key is None else read_key(content_of(key))
    tables = load(config)
    with Talk() as talk:  # choosing a request may train systems
        plan = resolve(tables, progress=talk, unopened=True)
    found = write_questions(plan, read_data(tables)[2], out, secret)
    typer.echo(str(out))
    typer.echo(_summary(found), err=True)


def _summary(found: Questions) -> str:
    lines = [f"wanted: {found.wanted} of {len(found.users):,} users for {len(found.items):,} items"]
    if found.length is not None:
        lines[0] += f", {found.length} in each list"
    if found.histories:
        lines.append(f"and of {len(found.histories):,} new {found.side}s told a history (folded.parquet)")
    if found.pseudonyms:
        lines.append("pseudonyms.parquet links pseudonyms to ids: send it apart from the rest, to whoever answers")
    return "\n".join([*lines, f"digest {found.digest}", "README.txt says how to answer"])
