"""Finding plug-ins through entry points (ours and a third party's alike) and checking their options."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from auditkit.errors import ConfigurationError, PluginError

if TYPE_CHECKING:
    from auditkit.contracts import Attack, Backbone, Unlearner

Kind = Literal["backbones", "unlearners", "attacks"]


@dataclass(frozen=True)
class Registry(Mapping[str, type[Any]]):
    """Name -> class of one kind; a class is imported when it is first asked for."""

    kind: Kind
    points: Mapping[str, EntryPoint]
    registered: dict[str, type[Any]]

    def __getitem__(self, name: str) -> type[Any]:
        if name in self.registered:
            return self.registered[name]
        if name not in self.points:
            close = difflib.get_close_matches(name, list(self), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise PluginError(f"no {self.kind[:-1]} named {name!r}{hint} Known: {', '.join(sorted(self))}")
        try:
            loaded = self.points[name].load()
        except Exception as error:
            raise PluginError(
                f"{self.kind[:-1]} {name!r} ({self.points[name].value}) cannot be imported: {error}"
            ) from error
        if (own := getattr(loaded, "name", None)) != name:
            raise PluginError(f"{self.points[name].value} is registered as {name!r} but calls itself {own!r}")
        return cast(type[Any], loaded)

    def __contains__(self, name: object) -> bool:
        return name in self.registered or name in self.points

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self.points, *self.registered}))

    def __len__(self) -> int:
        return len({*self.points, *self.registered})


@cache
def registry(kind: Kind) -> Registry:
    """All plug-ins of one kind.

    Raises:
        PluginError: two distributions register one name.
    """
    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=f"auditkit.{kind}"):
        if point.name in points and points[point.name].value != point.value:
            raise PluginError(
                f"{kind[:-1]} {point.name!r} is registered twice: {points[point.name].value} and {point.value}"
            )
        points[point.name] = point
    return Registry(kind, points, {})


def backbones() -> Mapping[str, type[Backbone]]:
    """Name -> recommender architecture."""
    return registry("backbones")


def unlearners() -> Mapping[str, type[Unlearner]]:
    """Name -> unlearning method."""
    return registry("unlearners")


def attacks() -> Mapping[str, type[Attack]]:
    """Name -> attack."""
    return registry("attacks")


def register(kind: Kind, plugin: type[Any], *, force: bool = False) -> type[Any]:
    """Make a class of a script or notebook known to this process, without an entry point.

    Raises:
        PluginError: the name is taken, and not by this class; `force=True` replaces it.
    """
    known = registry(kind)
    if plugin.name in known and known.registered.get(plugin.name) is not plugin and not force:
        raise PluginError(f"{kind[:-1]} {plugin.name!r} exists already; choose another name or pass force=True")
    known.registered[plugin.name] = plugin
    return plugin


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    kind = origin or hint
    if kind is Any:
        return True
    if isinstance(value, bool):
        # A bool is an int to Python, and never what a number in a configuration is meant to be.
        return kind is bool
    if kind is float:
        return isinstance(value, int | float)
    return isinstance(value, kind)


def _shown(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, get_args(hint)))}"
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")


def _problems(chosen: type[Any], options: Mapping[str, Any], where: str) -> Iterator[str]:
    hints, known = get_type_hints(chosen), {f.name: f for f in fields(chosen)}
    for name, value in options.items():
        if name not in known:
            close = difflib.get_close_matches(name, list(known), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known) or 'none'}"
            yield f"{where} has no option {name!r}{hint}"
        elif not _fits(value, hints[name]):
            yield f"{where}: {name} must be {_shown(hints[name])}, got {value!r}"
    for name, option in known.items():
        if name not in options and option.default is MISSING and option.default_factory is MISSING:
            yield f"{where} needs option {name!r}"


def resolve_options(*wanted: tuple[type[Any], Mapping[str, Any], str]) -> list[Any]:
    """Build dataclasses from options, all problems at once.

    Args:
        wanted: (dataclass, options, where they stand) triples.

    Raises:
        ConfigurationError: unknown, missing or ill-typed options, or values that a `__post_init__` refuses.
    """
    problems: list[str] = []
    made: list[Any] = []
    for chosen, options, where in wanted:
        found = list(_problems(chosen, options, where))
        problems += found
        if not found:
            try:
                made.append(chosen(**options))
            except ConfigurationError as error:
                problems += [f"{where}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigurationError(problems)
    return made
