"""What an ONNX file may hold, checked before any of it is run: standard operators and its own weights."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from auditkit.extras import needed

# The empty name is the standard one.
_DOMAINS = {"": "", "ai.onnx": "", "ai.onnx.ml": "ai.onnx.ml"}
# Whose answers differ from one asking to the next.
_RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
# Whose number of rounds the graph decides: one file could hold up an audit for ever.
_ENDLESS = {"Loop", "Scan", "SequenceMap"}
# How many names a message shows.
_SHOWN = 5


def library(name: str) -> Any:
    """`onnx` or `onnxruntime`, imported when it is needed.

    Raises:
        ConfigurationError: it is not installed.
    """
    with needed("onnx", f"an ONNX graph needs the package {name}, which cannot be imported"):
        return import_module(name)


def graph_problems(content: bytes) -> list[str]:
    """Why a graph is not run at all, one sentence each; empty where nothing speaks against it.

    Args:
        content: the file.
    """
    onnx = library("onnx")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # the parser's own errors have no common base among the versions of protobuf
        return [f"is no ONNX file: {type(error).__name__}; export the model again"]
    if not model.graph.node:
        return ["holds no graph with operators; export the model again"]
    return [*_foreign(onnx, model), *_operator_problems(onnx, model)]


def _within(onnx: Any, message: Any) -> Iterator[Any]:
    """A message and all messages in it; tensors are not looked into, since their bytes would be copied."""
    yield message
    if isinstance(message, onnx.TensorProto):
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if hasattr(value, "__len__") else (value,):
                yield from _within(onnx, part)


def _foreign(onnx: Any, model: Any) -> Iterator[str]:
    tensors = [part for part in _within(onnx, model) if isinstance(part, onnx.TensorProto)]
    # Either mark is enough for some reader to go and look.
    outside = [t.name for t in tensors if t.data_location == onnx.TensorProto.EXTERNAL or len(t.external_data)]
    if outside:
        yield f"keeps weights in other files ({_some(outside)}); save it as one file, without external data"
    if len(model.functions):
        yield (
            f"brings functions of its own ({_some([f.name for f in model.functions])}); inline them with "
            "onnx.inliner.inline_local_functions"
        )


def _operator_problems(onnx: Any, model: Any) -> Iterator[str]:
    nodes = {(part.domain, part.op_type) for part in _within(onnx, model) if isinstance(part, onnx.NodeProto)}
    known = {(d, name) for d, name in nodes if d in _DOMAINS and onnx.defs.has(name, _DOMAINS[d])}
    unknown = [f"{domain or 'ai.onnx'}.{name}" for domain, name in nodes - known]
    if unknown:
        yield f"uses operators that are not in the ONNX standard: {_some(unknown)}; export it with standard ones"
    names = {name for _, name in known}
    if names & _RANDOM:
        yield f"draws at random ({_some(names & _RANDOM)}); export the model in evaluation mode"
    if names & _ENDLESS:
        yield f"holds loops ({_some(names & _ENDLESS)}), whose end cannot be told; export it without"


def _some(names: Any) -> str:
    ordered = sorted({repr(name[:80]) for name in names})
    rest = len(ordered) - _SHOWN
    return ", ".join(ordered[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
