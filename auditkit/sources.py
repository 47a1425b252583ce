"""Which source files decide what a plug-in yields: their digest is part of the address of everything it builds."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# Every module whose source decides what training yields, beside the backbone's and the unlearner's own.
_ENGINE = (
    "auditkit.architecture",
    "auditkit.contracts",
    "auditkit.deletion",
    "auditkit.data.dataset",
    "auditkit.backbones.graph",
    "auditkit.backbones.item_graph",
    "auditkit.backbones.layers",
    "auditkit.backbones.multimodal",
    "auditkit.training",
)


def _files(module_name: str) -> list[Path]:
    module = importlib.import_module(module_name)
    own = Path(str(module.__file__))
    return sorted(own.parent.glob("*.py")) if own.name == "__init__.py" else [own]


def _own_source(plugin: type) -> bytes:
    """The class as written; where it was typed into an interpreter, the compiled bodies of its methods."""
    try:
        return inspect.getsource(plugin).encode()
    except (OSError, TypeError):
        bodies = [member.__code__ for _, member in sorted(vars(plugin).items()) if inspect.isfunction(member)]
        return b"|".join(body.co_code + repr((body.co_names, body.co_varnames)).encode() for body in bodies)


# Our plug-ins' packages: those of a third party may build on what lies there.
_OURS = ("auditkit.backbones", "auditkit.unlearners")


def _imported(path: Path, package: str) -> Iterator[Path]:
    """Files that a file imports anywhere in it, by absolute or relative name, from its own package or from ours."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            module = f"{package}.{node.module or ''}".rstrip(".") if node.level else node.module or ""
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.startswith(tuple(f"{known}." for known in (package, *_OURS))):
                found = _located(name)
                if found is not None:
                    yield found


@cache
def _located(module: str) -> Path | None:
    """Where a module lies; None where the name is that of something within a module."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


def _with_imports(start: Path, package: str) -> set[Path]:
    """A file and all that it imports from its package or from ours, directly or through others."""
    found, waiting = {start}, [start]
    while waiting:
        path = waiting.pop()
        ours = next((known for known in _OURS if path.parent == _folder(known)), package)
        fresh = set(_imported(path, ours)) - found
        found |= fresh
        waiting += fresh
    return found


@cache
def _folder(package: str) -> Path:
    located = _located(package)
    assert located is not None
    return located.parent


@cache
def source_digest(plugin: type) -> str:
    """SHA-256 of the sources that decide what a plug-in yields.

    These are the engine, the files of its class line, and whatever each of these imports from its own package or from
    our plug-ins' (an unlearner's helpers): touching one method makes nothing anew for the others.
    """
    paths = {path for name in _ENGINE for path in _files(name)}
    for base in plugin.__mro__:
        source = None if base.__module__ in ("builtins", "__main__") else inspect.getsourcefile(base)
        if source and not base.__module__.startswith(("torch", "abc", "typing")):
            package = base.__module__.rpartition(".")[0]
            # The kit's own package is the engine, of which every file that matters is listed.
            paths |= {Path(source)} if package in ("", "auditkit") else _with_imports(Path(source), package)
    state = hashlib.sha256()
    for path in sorted(paths, key=lambda p: (p.name, str(p))):
        state.update(path.name.encode() + path.read_bytes())
    if plugin.__module__ == "__main__":
        state.update(_own_source(plugin))
    return state.hexdigest()
