"""ONNX graphs as recommenders, run by onnxruntime.

On the CPU and one thread, so that the same question gets the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditkit.contracts import Access
from auditkit.data.dataset import Ints
from auditkit.errors import ConfigurationError, DataError, NotApplicableError
from auditkit.outside.checks import check_answers, check_users
from auditkit.outside.onnx_graph import graph_problems, library
from auditkit.outside.onnx_signature import Signature, signature
from auditkit.outside.source import Ids, Source
from auditkit.plugins import resolve_options

# Millions of users and items at 64 factors; a graph is held three times over while it is checked and loaded.
_MAX_BYTES = 2**30
# No protobuf message can be larger.
_PROTOBUF = 2**31 - 1
# Scores computed in one run: 64 MB as float32, as elsewhere.
_SCORES_PER_RUN = 2**24
# Pairs in one run: their ids and what is gathered for each are held at once.
_PAIRS_PER_RUN = 2**20
# Characters of the runtime's own message that are shown.
_TEXT = 300


@dataclass(frozen=True)
class Options:
    """What a configuration may say of a graph.

    Attributes:
        input: name of the input that takes users, where there are several.
        output: name of the output with the scores, where there are several.
        pairs: the graph takes users and items, [n] each, and gives the scores of these pairs, [n].
        max_bytes: largest file that is read, in bytes.
    """

    input: str | None = None
    output: str | None = None
    pairs: bool = False
    max_bytes: int = _MAX_BYTES

    def __post_init__(self) -> None:
        if not 1 <= self.max_bytes <= _PROTOBUF:
            raise ConfigurationError(
                f"max_bytes must be in 1..{_PROTOBUF} (the largest ONNX file there is), got {self.max_bytes}"
            )


def source(place: str, ids: Ids, options: Mapping[str, Any], *, folder: Path) -> Source:
    """A graph that scores all items for users, or pairs of both; users and items are the data set's own 0-based ids.

    Args:
        place: the file, relative to `folder`.
        ids: of the audited data set.
        options: fields of `Options`.
        folder: where relative paths start.

    Raises:
        ConfigurationError: options that there are not, or that do not fit the graph; onnxruntime is not installed.
        DataError: the file cannot be read, is refused, or its answers are not scores.
    """
    (chosen,) = resolve_options((Options, options, "onnx"))
    path = folder / place
    content = _content(path, chosen.max_bytes)
    problems = [f"{path} {problem}" for problem in graph_problems(content)]
    if problems:
        raise ConfigurationError(problems)
    digest = hashlib.sha256(content).hexdigest()
    model = _loaded(path, content, ids, chosen)
    # What is wrong with the graph is told in its own words; then whether its answers depend on the user alone.
    model.score(check_users(ids.n_users))
    check_answers(model, ids, str(path))

    def reopen() -> OnnxModel:
        again = _content(path, chosen.max_bytes)
        if hashlib.sha256(again).hexdigest() != digest:
            raise DataError(f"{path} is not the file that was checked when the audit began; leave it alone meanwhile")
        return _loaded(path, again, ids, chosen)

    return Source(f"ONNX graph {place}", digest, Access.LISTS | Access.SCORES, reopen)


def _content(path: Path, most: int) -> bytes:
    if not path.is_file():
        raise DataError(f"{path} is no file; name the .onnx file of the system")
    try:
        with path.open("rb") as file:
            content = file.read(most + 1) if path.stat().st_size <= most else None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; name a file that can be read") from error
    if content is None or len(content) > most:
        raise DataError(f"{path} is larger than {most} bytes; raise the option max_bytes if that is meant")
    return content


def _loaded(path: Path, content: bytes, ids: Ids, options: Options) -> OnnxModel:
    runtime = library("onnxruntime")
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.use_deterministic_compute = True
    # Errors are raised, and stderr is ours.
    settings.log_severity_level = 4
    # Else the library guesses, and takes another format than the one that was checked.
    settings.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        session = runtime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors have no common base
        raise DataError(f"{path}: onnxruntime cannot load it: {_said(error)}") from error
    asked = signature(session, path, options.input, options.output, pairs=options.pairs)
    return OnnxModel(ids.n_users, ids.n_items, path, session, asked)


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    # The reason stands at the end, behind places in the runtime's source.
    return "".join(c if c.isprintable() else "?" for c in text)[-_TEXT:]


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A loaded graph.

    Attributes:
        n_users, n_items: sizes of the audited data set's id spaces.
        path: for messages.
        session: of onnxruntime.
        signature: which inputs and output are used.
    """

    n_users: int
    n_items: int
    path: Path
    session: Any
    signature: Signature

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        """Scores of all items, float32 or float64 [n_given_users, n_items]; NaN where an item is not offered.

        Raises:
            DataError: the graph fails, or gives something else than scores.
            NotApplicableError: a branch is asked for; a graph has none.
        """
        if branch is not None:
            raise NotApplicableError(f"an ONNX graph has no branch {branch!r}")
        asked = np.asarray(users, np.int64)
        if not len(asked):
            return torch.empty(0, self.n_items)
        size = max(1, (_PAIRS_PER_RUN if self.signature.items else _SCORES_PER_RUN) // self.n_items)
        blocks = [self._answer(asked[start : start + size]) for start in range(0, len(asked), size)]
        return torch.from_numpy(np.concatenate(blocks))

    def _answer(self, users: Ints) -> NDArray[Any]:
        questions: dict[str, Ints] = {self.signature.users: users}
        wanted: tuple[int, ...] = (len(users), self.n_items)
        if self.signature.items:
            everything = np.arange(self.n_items)
            questions = {
                self.signature.users: np.repeat(users, self.n_items),
                self.signature.items: np.tile(everything, len(users)),
            }
            wanted = (len(users) * self.n_items,)
        found = self._run(questions)
        if found.shape != wanted:
            raise DataError(self._misshapen(found.shape, wanted))
        if np.isinf(found).any():
            raise DataError(
                f"{self.path}: {int(np.isinf(found).sum())} scores of users {users.min()}..{users.max()} are infinite; "
                "scores must be finite, or NaN where an item is not offered"
            )
        kept = found.astype(np.float32) if found.dtype == np.float16 else found
        return kept.reshape(len(users), self.n_items)

    def _run(self, questions: Mapping[str, Ints]) -> NDArray[Any]:
        types = self.signature.types
        try:
            (found,) = self.session.run(
                [self.signature.output], {name: ids.astype(types[name]) for name, ids in questions.items()}
            )
        except Exception as error:  # the runtime's errors have no common base
            users = questions[self.signature.users]
            raise DataError(
                f"{self.path} cannot answer for users {users.min()}..{users.max()}: {_said(error)}; it must know all "
                f"{self.n_users} users and {self.n_items} items of the data by their 0-based ids"
            ) from error
        return np.asarray(found)

    def _misshapen(self, shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
        text = f"{self.path} gave scores of shape {list(shape)}, wanted {list(wanted)}"
        if not self.signature.items and len(shape) == 2 and shape[1] == self.n_items + 1:
            return f"{text}; cut off the column of the padding item, and see that user 0 is no padding user"
        return f"{text}; one row per user and one column per item of the data, in the order of its 0-based ids"
