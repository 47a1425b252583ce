"""Which inputs and which output of a graph are users, items and scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from auditkit.errors import ConfigurationError

_IDS: Mapping[str, type[np.integer[Any]]] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_SCORES = ("tensor(float)", "tensor(double)", "tensor(float16)")


@dataclass(frozen=True)
class Signature:
    """Names of what is fed and read.

    Attributes:
        users: input of user ids, [n].
        items: input of item ids, [n], where the graph scores pairs; else None.
        output: scores.
        types: input -> int64 or int32.
    """

    users: str
    items: str | None
    output: str
    types: Mapping[str, type[np.integer[Any]]]


def signature(session: Any, path: Path, users: str | None, output: str | None, *, pairs: bool) -> Signature:
    """Find users, items and scores among the inputs and outputs of a loaded graph.

    Args:
        session: of onnxruntime.
        path: for messages.
        users: name of the input of users; None takes the only one, or the first of a graph that scores pairs.
        output: name of the scores; None takes the only output.
        pairs: the graph scores pairs, so that the other input takes items.

    Raises:
        ConfigurationError: everything in which the graph does not fit, at once.
    """
    inputs, outputs = session.get_inputs(), session.get_outputs()
    problems = [
        *_input_problems(inputs, users, pairs=pairs), *_output_problems(outputs, output),
    ]  # fmt: skip
    if problems:
        raise ConfigurationError([f"{path}: {problem}" for problem in problems])
    first = users or inputs[0].name
    items = next((one.name for one in inputs if one.name != first), None)
    types = {one.name: _IDS[one.type] for one in inputs}
    return Signature(first, items, output or outputs[0].name, types)


def _input_problems(inputs: Sequence[Any], users: str | None, *, pairs: bool) -> Iterator[str]:
    names = [one.name for one in inputs]
    if users is not None and users not in names:
        yield f"option input names {users!r}, but the graph takes {_listed(inputs)}"
    elif len(inputs) != 1 + pairs:
        wanted = "users and items, which option pairs asks for" if pairs else "users"
        hint = "; say pairs = true if it scores pairs of users and items" if len(inputs) == 2 else ""
        yield (
            f"it takes {_listed(inputs)}, but it must take {wanted} and nothing else{hint}; "
            "make other inputs constants of the graph"
        )
    for one in inputs:
        if one.type not in _IDS:
            yield f"input {one.name!r} must hold ids as int64 or int32, got {one.type}"
        elif len(one.shape) != 1 or isinstance(one.shape[0], int):
            yield f"input {one.name!r} must have the shape [n] for any n, got {one.shape}; export it with a free axis"


def _output_problems(outputs: Sequence[Any], output: str | None) -> Iterator[str]:
    chosen = [one for one in outputs if output in (None, one.name)]
    if output is not None and not chosen:
        yield f"option output names {output!r}, but the graph gives {_listed(outputs)}"
    elif len(chosen) != 1:
        yield f"it gives {_listed(outputs)}; name the scores with option output"
    elif chosen[0].type not in _SCORES:
        yield f"output {chosen[0].name!r} must hold scores as floats, got {chosen[0].type}"


def _listed(ends: Sequence[Any]) -> str:
    return ", ".join(f"{one.name!r} ({one.type})" for one in ends) or "nothing"
