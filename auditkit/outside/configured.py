"""From the tables [[given]] of a configuration to the systems that they name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from auditkit.battery import access_of
from auditkit.contracts import Access
from auditkit.errors import AuditkitError, ConfigurationError
from auditkit.outside.source import Elsewhere, Ids, Source

if TYPE_CHECKING:
    from auditkit.config import GivenTable

# Key of the table -> module with `source(place, ids, options, *, folder)`.
WAYS = {
    "model": "objects", "embeddings": "embeddings", "table": "tables", "endpoint": "endpoint", "onnx": "onnx_model"
}  # fmt: skip
_SYSTEM = "{system}"
# What can be asked of anything that was made elsewhere and is not there yet.
_ASKED = Access.LISTS | Access.SCORES | Access.NEW_USERS | Access.NEW_ITEMS


def form_problems(tables: Sequence[GivenTable]) -> list[str]:
    """What is wrong with the tables before any file is looked at."""
    found = [problem for k, table in enumerate(tables) for problem in _problems(k, table)]
    for role in ("original", "yardstick"):
        several = sum(table.role == role for table in tables)
        if several > 1:
            found.append(f"given: one table at most has the role {role}, got {several}")
    return found


def _problems(k: int, table: GivenTable) -> Iterable[str]:
    where = f"given.{k}" + (f" ({table.name})" if table.name else "")
    ways = [way for way in WAYS if getattr(table, way) is not None]
    if len(ways) != 1:
        yield f"{where}: exactly one of {', '.join(WAYS)} must say where it is, got {', '.join(ways) or 'none'}"
    if table.role == "unlearned" and not table.name:
        yield f"{where}: name is missing; the report calls the system so"
    for way in ways:
        place = str(getattr(table, way))
        if way == "model" and ":" not in place:
            yield f'{where}: model must be "module:function", got {place!r}'
        # A function can be told the name, a file cannot.
        if table.role == "yardstick" and way != "model" and _SYSTEM not in place:
            yield f"{where}: {way} of a yardstick must have {_SYSTEM} in it, for each of its systems, got {place!r}"
        if table.role != "yardstick" and _SYSTEM in place:
            yield f"{where}: {way} has {_SYSTEM} in it, which only a yardstick may have, got {place!r}"


def unopened_all(tables: Sequence[GivenTable]) -> Elsewhere:
    """The systems under test and the original before they are looked at, and nothing of a yardstick."""
    audited = {t.name: _unopened(t) for t in tables if t.role == "unlearned"}
    return Elsewhere(audited, next((_unopened(t) for t in tables if t.role == "original"), None))


def _unopened(table: GivenTable) -> Source:
    def refuse() -> NoReturn:
        raise ConfigurationError(f"given system {table.name!r} was not looked at, so it cannot be asked anything")

    allowed = _ASKED if table.access is None else _ASKED & access_of(table.access)
    return Source("not looked at", "", allowed, refuse)


def open_all(tables: Sequence[GivenTable], ids: Ids, names: Sequence[str], folder: Path) -> Elsewhere:
    """Look at every system.

    Args:
        tables: without problems of form.
        ids: of the audited data set.
        names: of the systems that a yardstick has.
        folder: where relative places start.

    Raises:
        ConfigurationError: what is wrong with any of them, all at once.
    """
    problems: list[str] = []
    found: dict[str, dict[str, Source]] = {"unlearned": {}, "original": {}, "yardstick": {}}
    for table in tables:
        for name in names if table.role == "yardstick" else [table.name or table.role]:
            try:
                found[table.role][name] = _source(table, name, ids, folder)
            except AuditkitError as error:
                told = error.problems if isinstance(error, ConfigurationError) else [str(error)]
                problems += [f"given system {name!r}: {problem}" for problem in told]
    if problems:
        raise ConfigurationError(problems)
    return Elsewhere(found["unlearned"], next(iter(found["original"].values()), None), found["yardstick"])


def _source(table: GivenTable, name: str, ids: Ids, folder: Path) -> Source:
    way = next(way for way in WAYS if getattr(table, way) is not None)
    place, options = str(getattr(table, way)), dict(table.options)
    if table.role == "yardstick":
        from auditkit.outside.training_sets import slug

        place = place.replace(_SYSTEM, slug(name))
        if way == "model":
            options["system"] = slug(name)
    module: Any = import_module(f"auditkit.outside.{WAYS[way]}")
    source: Source = module.source(place, ids, options, folder=folder)
    return source if table.access is None else replace(source, access=source.access & access_of(table.access))
