"""An object that a function of the owner's makes. This is the one way in that runs the owner's code."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from auditkit.architecture import Side
from auditkit.contracts import Access, Backbone, Recommender
from auditkit.data.dataset import Ints
from auditkit.errors import ConfigurationError, DataError, NotApplicableError
from auditkit.outside.checks import check_answers, check_form, same_scores
from auditkit.outside.source import Ids, Source
from auditkit.outside.torch_module import TorchRecommender as TorchRecommender
from auditkit.plugins import resolve_options

_PLACE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@dataclass(frozen=True)
class Options:
    """What the function is told.

    Attributes:
        system: name of the system that it makes, for a function that takes one argument; empty: there is none.
    """

    system: str = ""


class Served:
    """Somebody else's recommender whose answers are tensors without gradients; it may answer in NumPy arrays.

    Args:
        model: an object with `n_users`, `n_items` and `score`.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.n_users, self.n_items = int(model.n_users), int(model.n_items)
        self.branches: Mapping[str, Any] = getattr(model, "branches", {})

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        """As the object's own; `branch` is passed on only where one is asked for."""
        asked = {} if branch is None else {"branch": branch}
        with torch.no_grad():
            return _tensor(self.model.score(users, **asked))


class ServedAnew(Served):
    """One that can also be told the history of a fresh user or item."""

    def fold_in(self, histories: Sequence[Ints], *, side: Side = "user") -> Tensor:
        """As the object's own."""
        with torch.no_grad():
            return _tensor(self.model.fold_in(histories, side=side))


def _tensor(found: Any) -> Tensor:
    if isinstance(found, np.ndarray) and found.dtype.kind in "fiub":
        # A copy, and in the machine's own byte order: the answer may be a view into the owner's tables.
        return torch.from_numpy(np.array(found, found.dtype.newbyteorder("=")))
    # What is neither is told apart by the checks.
    answer: Tensor = found.detach() if isinstance(found, Tensor) else found
    return answer


def source(place: str, ids: Ids, options: Mapping[str, Any], *, folder: Path) -> Source:
    """What a function returns, as a source. The function's module is imported, and the function called, at once.

    The function is called again whenever the system is opened, and must make the same system each time. Modules are
    found among the installed ones and then beside the configuration file: `folder` is put at the end of `sys.path`,
    and stays there, because the owner's code may import late.

    Args:
        place: "module:function". A function that takes an argument is told the system's name.
        ids: of the audited data set.
        options: see `Options`.
        folder: of the configuration file.

    Raises:
        ConfigurationError: an unknown option, a function that cannot be imported, or that raised.
        DataError: what it returned is no recommender over the data set's ids (see `checks.check_answers`).
    """
    told: Options = resolve_options((Options, options, f"model {place!r}"))[0]
    call = _caller(_function(place, folder), place, told.system)
    name = place + (f" ({told.system})" if told.system else "")
    text = f"what {name} returned"

    def make() -> tuple[Recommender, Tensor]:
        model = call()
        check_form(model, ids, text)
        served = _served(model)
        return served, check_answers(served, ids, text)

    model, first = make()
    access = _access(model, ids, text)
    # Many large systems are never held at once.
    del model

    def opened() -> Recommender:
        again, scores = make()
        if not same_scores(first, scores):
            raise DataError(f"{text} is another system than before; it must load one, and train or draw nothing anew")
        return again

    return Source(f"function {name}", "", access, opened)


def _function(place: str, folder: Path) -> Callable[..., Any]:
    if not _PLACE.fullmatch(place):
        raise ConfigurationError(f'model must be "module:function", got {place!r}')
    module_name, _, name = place.partition(":")
    module = _module(module_name, folder.resolve())
    if not hasattr(module, name):
        raise ConfigurationError(f"{place}: {_home(module)} has no {name!r}; write a function of that name")
    function = getattr(module, name)
    if not callable(function):
        raise ConfigurationError(
            f"{place} is a {type(function).__name__}, not a function; write one that returns the recommender"
        )
    made: Callable[..., Any] = function
    return made


def _module(name: str, folder: Path) -> ModuleType:
    if str(folder) not in sys.path:
        # Last: a file beside the configuration must not replace an installed package for everybody else.
        sys.path.append(str(folder))
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    # Importing runs the module, which can raise anything or end the process.
    except (Exception, SystemExit) as error:
        raise ConfigurationError(
            f"{name} cannot be imported: {type(error).__name__}: {error}; it must be installed or lie in the "
            "configuration's folder"
        ) from error
    _check_home(sys.modules[name.partition(".")[0]], name.partition(".")[0], folder)
    return module


def _home(module: ModuleType) -> str:
    """The file of a module; a package without `__init__.py` has only a folder, and what is built in has neither."""
    folders = list(getattr(module, "__path__", []))
    return str(getattr(module, "__file__", None) or (folders[0] if folders else module.__name__))


def _check_home(package: ModuleType, name: str, folder: Path) -> None:
    """What lies beside the configuration and is called so must be what was imported."""
    beside = [path for path in (folder / f"{name}.py", folder / name / "__init__.py") if path.exists()]
    if beside and not Path(_home(package)).resolve().is_relative_to(folder):
        raise ConfigurationError(
            f"two modules are called {name!r}: {_home(package)} was imported, not {beside[0]}; rename the latter"
        )


def _caller(function: Callable[..., Any], place: str, system: str) -> Callable[[], Any]:
    """Calls the function as it wants to be called; what it raises becomes a message."""
    arguments = _arguments(function, place, system)

    def call() -> Any:
        try:
            return function(*arguments)
        # It is the owner's code, which can raise anything or end the process.
        except (Exception, SystemExit) as error:
            raise ConfigurationError(f"{place} raised {type(error).__name__}: {error}") from error

    return call


def _arguments(function: Callable[..., Any], place: str, system: str) -> tuple[str, ...]:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        # Some built-in callables do not say what they take.
        parameters = []
    takes = [p for p in parameters if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
    needs = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(needs) > 1 or any(p.kind is p.KEYWORD_ONLY for p in needs):
        named = ", ".join(p.name for p in needs)
        raise ConfigurationError(f"{place} needs the arguments {named}; it may take one at most: the system's name")
    if needs and not system:
        raise ConfigurationError(f"{place} needs the argument {needs[0].name}; name the system in the option system")
    if system and not takes:
        raise ConfigurationError(
            f"{place} takes no argument, so it cannot tell {system!r} from other systems; let it take the system's name"
        )
    return (system,) if system else ()


def _beneath(model: Any) -> bool:
    return isinstance(model, Backbone) or hasattr(model, "backbones")


def _served(model: Any) -> Recommender:
    # Attacks with access to weights need the model itself.
    if _beneath(model):
        itself: Recommender = model
        return itself
    return ServedAnew(model) if hasattr(model, "fold_in") else Served(model)


def _access(model: Recommender, ids: Ids, text: str) -> Access:
    found = Access.LISTS | Access.SCORES
    if _beneath(model):
        found |= Access.WEIGHTS
    if hasattr(model, "fold_in"):
        sides: dict[Side, Access] = {"user": Access.NEW_USERS, "item": Access.NEW_ITEMS}
        for side, access in sides.items():
            if _folds_in(model, side, ids, text):
                found |= access
    return found


def _folds_in(model: Any, side: Side, ids: Ids, text: str) -> bool:
    size = ids.n_items if side == "user" else ids.n_users
    try:
        found = model.fold_in([np.arange(min(2, size)), np.arange(min(3, size))], side=side)
    except NotApplicableError:
        return False
    # It is the owner's code, which can raise anything.
    except Exception as error:
        raise DataError(
            f"{text}: fold_in(histories, side={side!r}) raised {type(error).__name__}: {error}; where it cannot take "
            f"new {side}s it must raise auditkit.errors.NotApplicableError"
        ) from error
    if not isinstance(found, Tensor) or not found.is_floating_point() or found.shape != (2, size):
        got = str(list(found.shape)) if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise DataError(
            f"{text}: fold_in(histories, side={side!r}) must return floating-point numbers [2, {size}] for two "
            f"histories, got {got}"
        )
    return True
