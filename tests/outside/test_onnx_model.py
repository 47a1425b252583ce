"""ONNX graphs as recommenders: what they score, and what is refused before and while they run."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from auditkit.contracts import Access, Recommender
from auditkit.errors import ConfigurationError, DataError, NotApplicableError
from auditkit.outside import onnx_model
from auditkit.outside.source import Ids, Source

onnx = pytest.importorskip("onnx", reason="needs auditkit[onnx]")
runtime = pytest.importorskip("onnxruntime", reason="needs auditkit[onnx]")
h, T, array = onnx.helper, onnx.TensorProto, onnx.numpy_helper.from_array

N_USERS, N_ITEMS, WIDTH = 7, 11, 4
IDS = Ids(N_USERS, N_ITEMS)
RNG = np.random.default_rng(0)
USERS, ITEMS = (RNG.normal(size=(n, WIDTH)).astype(np.float32) for n in (N_USERS, N_ITEMS))
GATHER = h.make_node("Gather", ["U", "users"], ["u"])
MATMUL = h.make_node("MatMul", ["u", "I"], ["scores"])
ONE = h.make_tensor_value_info("users", T.INT64, ["n"])
OUT = h.make_tensor_value_info("scores", T.FLOAT, ["n", None])


def graph(
    nodes: list[Any] | None = None, inputs: list[Any] | None = None, outputs: list[Any] | None = None,
    users: Any = USERS, items: Any = ITEMS, more: tuple[Any, ...] = (), **options: Any,
) -> Any:  # fmt: skip
    """Gather + MatMul over two tables, or a variation of it."""
    weights = [array(users, "U"), array(np.ascontiguousarray(items.T), "I"), *more]
    made = h.make_graph(nodes or [GATHER, MATMUL], "g", inputs or [ONE], outputs or [OUT], initializer=weights)
    return h.make_model(made, **{"opset_imports": [h.make_opsetid("", 17)], "ir_version": 8, **options})


def then(*nodes: Any, more: tuple[Any, ...] = (), **options: Any) -> Any:
    """The usual scores, called `s`, with nodes behind them that make `scores` of them."""
    return graph([GATHER, h.make_node("MatMul", ["u", "I"], ["s"]), *nodes], more=more, **options)


def pairs_graph() -> Any:
    """A graph that scores pairs: both rows gathered, multiplied, summed."""
    nodes = [
        GATHER, h.make_node("Gather", ["V", "items"], ["v"]), h.make_node("Mul", ["u", "v"], ["p"]),
        h.make_node("ReduceSum", ["p", "axis"], ["scores"], keepdims=0),
    ]  # fmt: skip
    inputs = [ONE, h.make_tensor_value_info("items", T.INT32, ["n"])]
    more = (array(ITEMS, "V"), array(np.array([1]), "axis"))
    return graph(nodes, inputs, [h.make_tensor_value_info("scores", T.FLOAT, ["n"])], more=more)


def opened(model: Any, folder: Path, options: Mapping[str, Any] | None = None) -> Source:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    return onnx_model.source("model.onnx", IDS, options or {}, folder=folder)


def close(model: Recommender, wanted: Any) -> None:
    torch.testing.assert_close(model.score(np.arange(N_USERS)), torch.from_numpy(wanted), equal_nan=True)


def test_scores_are_the_products_of_the_tables(tmp_path: Path) -> None:
    source = opened(graph(), tmp_path)
    model = source.open()
    close(model, USERS @ ITEMS.T)
    assert (model.n_users, model.n_items) == (N_USERS, N_ITEMS)
    assert isinstance(model, Recommender)
    assert source.text == "ONNX graph model.onnx"
    assert source.access == Access.LISTS | Access.SCORES
    assert source.digest == hashlib.sha256((tmp_path / "model.onnx").read_bytes()).hexdigest()
    assert model.score(np.array([5, 2, 5])).tolist() == model.score(np.array([5, 2, 5])).tolist()
    assert model.score(np.array([], np.int64)).shape == (0, N_ITEMS)
    with pytest.raises(NotApplicableError, match="has no branch 'image'"):
        model.score(np.array([0]), branch="image")


def test_pairs_are_asked_for_in_full_and_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened(pairs_graph(), tmp_path, {"pairs": True, "input": "users"}).open()
    close(model, USERS @ ITEMS.T)
    monkeypatch.setattr(onnx_model, "_PAIRS_PER_RUN", 2 * N_ITEMS)
    close(model, USERS @ ITEMS.T)


def test_blocks_of_users_make_one_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_model, "_SCORES_PER_RUN", 3 * N_ITEMS)
    close(opened(graph(), tmp_path).open(), USERS @ ITEMS.T)


def test_narrow_ids_and_other_floats(tmp_path: Path) -> None:
    narrow = h.make_tensor_value_info("users", T.INT32, [None])
    close(opened(graph(inputs=[narrow]), tmp_path).open(), USERS @ ITEMS.T)
    for kind, number in ((np.float64, T.DOUBLE), (np.float16, T.FLOAT16)):
        out = h.make_tensor_value_info("scores", number, None)
        nodes = [h.make_node("Cast", ["s"], ["scores"], to=number)]
        model = opened(then(*nodes, outputs=[out]), tmp_path).open()
        rounded = (USERS @ ITEMS.T).astype(kind).astype(np.float64 if kind is np.float64 else np.float32)
        torch.testing.assert_close(
            model.score(np.arange(N_USERS)),
            torch.from_numpy(rounded),
            rtol=2e-3 if kind is np.float16 else 1e-5,
            atol=1e-3,
        )


def test_nan_is_an_item_that_is_not_offered(tmp_path: Path) -> None:
    shown = np.zeros(N_ITEMS, np.float32)
    shown[[2, 5]] = np.nan
    model = opened(then(h.make_node("Add", ["s", "shown"], ["scores"]), more=(array(shown, "shown"),)), tmp_path).open()
    close(model, USERS @ ITEMS.T + shown)


def test_the_scores_are_chosen_by_name(tmp_path: Path) -> None:
    two = graph(outputs=[h.make_tensor_value_info("u", T.FLOAT, None), OUT])
    close(opened(two, tmp_path, {"output": "scores", "input": "users"}).open(), USERS @ ITEMS.T)


def test_a_file_that_changed_is_not_opened(tmp_path: Path) -> None:
    source = opened(graph(), tmp_path)
    (tmp_path / "model.onnx").write_bytes(graph(users=USERS + 1).SerializeToString())
    with pytest.raises(DataError, match="is not the file that was checked when the audit began"):
        source.open()


def test_without_the_libraries_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnx", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(ConfigurationError, match=rf"needs the package {name},.*pip install 'auditkit\[onnx\]'"):
                opened(graph(), tmp_path)


def test_later_questions_are_checked_as_well(tmp_path: Path) -> None:
    """Only eight users are asked before the audit begins."""
    many = np.tile(USERS, (10, 1))
    many[3] = np.inf
    (tmp_path / "model.onnx").write_bytes(graph(users=many, items=abs(ITEMS)).SerializeToString())
    model = onnx_model.source("model.onnx", Ids(len(many), N_ITEMS), {}, folder=tmp_path).open()
    assert model.score(np.array([2, 4])).isfinite().all()
    with pytest.raises(DataError, match=r"11 scores of users 2\.\.3 are infinite; scores must be finite, or NaN"):
        model.score(np.array([2, 3]))


def external(*, flagged: bool = True, location: str = "weights.bin") -> Any:
    model = graph()
    tensor = model.graph.initializer[0]
    if flagged:
        tensor.data_location = T.EXTERNAL
        tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value=location)
    return model


def external_constant() -> Any:
    hidden = array(USERS, "inside")
    hidden.data_location = T.EXTERNAL
    hidden.external_data.add(key="location", value="../../secret")
    return graph([h.make_node("Constant", [], ["W"], value=hidden), GATHER, MATMUL])


def branch(name: str, tensor: Any) -> Any:
    made = h.make_node("Constant", [], [name], value=tensor)
    return h.make_graph([made], name, [], [h.make_tensor_value_info(name, T.FLOAT, None)])


def external_branch() -> Any:
    hidden = array(np.ones(1, np.float32), "in a branch")
    hidden.data_location = T.EXTERNAL
    kept = branch("kept", array(np.ones(1, np.float32), "c"))
    choice = h.make_node("If", ["yes"], ["w"], then_branch=branch("hidden", hidden), else_branch=kept)
    return graph([choice, GATHER, MATMUL], more=(array(np.array(True), "yes"),))


def foreign_function() -> Any:
    body = h.make_function(
        "ours", "twice", ["x"], ["y"], [h.make_node("Add", ["x", "x"], ["y"])], [h.make_opsetid("", 17)]
    )
    imports = [h.make_opsetid("", 17), h.make_opsetid("ours", 1)]
    return then(h.make_node("twice", ["s"], ["scores"], domain="ours"), functions=[body], opset_imports=imports)


def of_domain(name: str, operator: str) -> Any:
    imports = [h.make_opsetid("", 17), h.make_opsetid(name, 1)]
    return then(h.make_node(operator, ["s"], ["scores"], domain=name), opset_imports=imports)


def endless() -> Any:
    step = h.make_graph(
        [h.make_node("Identity", ["go"], ["on"])], "step",
        [h.make_tensor_value_info("k", T.INT64, []), h.make_tensor_value_info("go", T.BOOL, [])],
        [h.make_tensor_value_info("on", T.BOOL, [])],
    )  # fmt: skip
    return graph(
        [h.make_node("Loop", ["", "yes"], [], body=step), GATHER, MATMUL], more=(array(np.array(True), "yes"),)
    )


def sampling() -> Any:
    nodes = (h.make_node("RandomNormalLike", ["s"], ["noise"]), h.make_node("Add", ["s", "noise"], ["scores"]))
    return then(*nodes)


def dropping() -> Any:
    more = (array(np.array(0.5, np.float32), "half"), array(np.array(True), "training"))
    return then(h.make_node("Dropout", ["s", "half", "training"], ["scores"]), more=more)


def of_the_batch() -> Any:
    """Batch normalisation with the statistics of whoever is asked for together."""
    mean = h.make_node("ReduceMean", ["s"], ["m"], axes=[0])
    return then(mean, h.make_node("Sub", ["s", "m"], ["scores"]))


def of_the_order() -> Any:
    more = (array(np.array(0), "axis"),)
    return then(h.make_node("CumSum", ["s", "axis"], ["scores"]), more=more)


def with_inputs(*inputs: tuple[str, int, list[Any]]) -> Any:
    ends = [h.make_tensor_value_info(*one) for one in inputs]
    return graph(inputs=[ONE, *ends], more=()) if inputs else graph()


def as_ort_format(folder: Path) -> bytes:
    settings = runtime.SessionOptions()
    settings.optimized_model_filepath = str(folder / "model.ort")
    settings.add_session_config_entry("session.save_model_format", "ORT")
    runtime.InferenceSession(graph().SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return (folder / "model.ort").read_bytes()


def infinite() -> Any:
    return then(h.make_node("Div", ["s", "zero"], ["scores"]), more=(array(np.zeros(1, np.float32), "zero"),))


def whole_numbers() -> Any:
    out = h.make_tensor_value_info("scores", T.INT64, None)
    return then(h.make_node("Cast", ["s"], ["scores"], to=T.INT64), outputs=[out])


def column_of_pairs() -> Any:
    model = pairs_graph()
    model.graph.node[-1].attribute[0].i = 1
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].CopyFrom(h.make_tensor_value_info("scores", T.FLOAT, ["n", 1]))
    return model


def cut_short() -> bytes:
    content: bytes = graph().SerializeToString()
    return content[:-40]


def lying_tensor() -> Any:
    model = graph()
    model.graph.initializer[0].dims[0] = 10**12
    return model


def too_new() -> Any:
    return graph(opset_imports=[h.make_opsetid("", 999)])


def fixed(shape: list[Any]) -> Any:
    return graph(inputs=[h.make_tensor_value_info("users", T.INT64, shape)])


def float_ids() -> Any:
    node = h.make_node("Cast", ["users"], ["rows"], to=T.INT64)
    gather = h.make_node("Gather", ["U", "rows"], ["u"])
    return graph([node, gather, MATMUL], inputs=[h.make_tensor_value_info("users", T.FLOAT, ["n"])])


TWO = ("context", T.INT64, ["n"])
BAD: dict[str, tuple[Callable[[], Any], Mapping[str, Any], str]] = {
    "empty file": (lambda: b"", {}, "holds no graph with operators; export the model again"),
    "text": (lambda: b"user,item,score\n", {}, "is no ONNX file: DecodeError; export the model again"),
    "a pickle": (lambda: b"\x80\x04cos\nsystem\n(S'true'\ntR.", {}, "is no ONNX file: DecodeError"),
    "cut short": (cut_short, {}, "is no ONNX file: DecodeError"),
    "no operators": (lambda: h.make_model(h.make_graph([], "g", [], [])), {}, "holds no graph with operators"),
    "external data": (external, {}, r"keeps weights in other files \('U'\); save it as one file"),
    "external data not flagged": (lambda: external(flagged=False), {}, "keeps weights in other files"),
    "external data of the process": (
        lambda: external(location="*/_ORT_MEM_ADDR_/*"), {}, "keeps weights in other files"
    ),
    "external data in a constant": (external_constant, {}, r"keeps weights in other files \('inside'\)"),
    "external data in a branch": (external_branch, {}, r"keeps weights in other files \('in a branch'\)"),
    "function of its own": (foreign_function, {}, r"brings functions of its own \('twice'\); inline them"),
    "unknown domain": (
        lambda: of_domain("evil.corp", "Run"), {}, r"operators that are not in the ONNX standard: 'evil\.corp\.Run'"
    ),
    "compiled blob of a vendor": (
        lambda: of_domain("com.microsoft", "EPContext"), {}, r"not in the ONNX standard: 'com\.microsoft\.EPContext'"
    ),
    "unknown operator": (lambda: then(h.make_node("Exec", ["s"], ["scores"])), {}, r"ONNX standard: 'ai\.onnx\.Exec'"),
    "control marks in a name": (
        lambda: then(h.make_node("\x1b[2J", ["s"], ["scores"])), {}, r"ONNX standard: 'ai\.onnx\.\\x1b\[2J'"
    ),
    "endless loop": (endless, {}, r"holds loops \('Loop'\), whose end cannot be told"),
    "sampling": (sampling, {}, r"draws at random \('RandomNormalLike'\); export the model in evaluation mode"),
    "dropout in training mode": (dropping, {}, "asked twice it answered differently"),
    "statistics of the batch": (of_the_batch, {}, "asked alone it answered differently; nothing may"),
    "sums along the batch": (of_the_order, {}, "asked in another order it answered differently"),
    "a padding item": (
        lambda: graph(items=np.vstack([ITEMS[:1], ITEMS])), {}, r"shape \[7, 12\], wanted \[7, 11\]; cut off the column"
    ),
    "too few items": (lambda: graph(items=ITEMS[1:]), {}, r"gave scores of shape \[7, 10\], wanted \[7, 11\]; one row"),
    "too few users": (
        lambda: graph(users=USERS[1:]), {}, r"cannot answer for users 0\.\.6: .*must know all 7 users and 11 items"
    ),
    "one axis too few": (
        lambda: then(h.make_node("ReduceSum", ["s"], ["scores"], keepdims=0)), {}, r"shape \[\], wanted \[7, 11\]"
    ),
    "floats for ids": (float_ids, {}, r"input 'users' must hold ids as int64 or int32, got tensor\(float\)"),
    "a fixed batch": (lambda: fixed([1]), {}, r"input 'users' must have the shape \[n\] for any n, got \[1\]"),
    "a matrix of ids": (lambda: fixed(["n", 3]), {}, r"must have the shape \[n\] for any n, got \['n', 3\]"),
    "an input too many": (
        lambda: with_inputs(TWO, ("heat", T.FLOAT, [1])), {},
        "it must take users and nothing else; make other inputs constants",
    ),
    "pairs unsaid": (pairs_graph, {}, "say pairs = true if it scores pairs of users and items"),
    "pairs of one input": (graph, {"pairs": True}, r"takes 'users' .*, but it must take users and items"),
    "pairs in a column": (column_of_pairs, {"pairs": True}, r"gave scores of shape \[77, 1\], wanted \[77\]"),
    "input that is not there": (graph, {"input": "uids"}, "option input names 'uids', but the graph takes 'users'"),
    "output that is not there": (graph, {"output": "rank"}, "option output names 'rank', but the graph gives 'scores'"),
    "several outputs": (
        lambda: graph(outputs=[OUT, h.make_tensor_value_info("u", T.FLOAT, None)]), {},
        "name the scores with option output",
    ),
    "whole numbers": (whole_numbers, {}, r"output 'scores' must hold scores as floats, got tensor\(int64\)"),
    "infinite scores": (infinite, {}, r"77 scores of users 0\.\.6 are infinite; scores must be finite, or NaN"),
    "a lying tensor": (lying_tensor, {}, "onnxruntime cannot load it: "),
    "a format to come": (too_new, {}, "onnxruntime cannot load it: .*[Oo]pset 999"),
    "too large": (graph, {"max_bytes": 100}, "is larger than 100 bytes; raise the option max_bytes"),
    "limit without limits": (graph, {"max_bytes": 2**40}, r"max_bytes must be in 1\.\.2147483647"),
    "unknown option": (graph, {"outptu": "scores"}, "onnx has no option 'outptu'; did you mean 'output'"),
    "text for a switch": (graph, {"pairs": "yes"}, "onnx: pairs must be bool, got 'yes'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_system_is_refused_and_why(case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make, options, message = BAD[case]
    (tmp_path / "weights.bin").write_bytes(USERS.tobytes())
    with pytest.raises((ConfigurationError, DataError), match=message):
        opened(make(), tmp_path, options)
    assert capfd.readouterr() == ("", "")


def test_another_format_of_the_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no ONNX file"):
        opened(as_ort_format(tmp_path), tmp_path)


@pytest.mark.parametrize("place", ["absent.onnx", ".", "/dev/zero"])
def test_only_files_are_read(place: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no file; name the \.onnx file of the system"):
        onnx_model.source(place, IDS, {}, folder=tmp_path)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    bad = external()
    bad.graph.node.append(h.make_node("Exec", ["scores"], ["later"]))
    bad.graph.node.append(h.make_node("RandomNormal", [], ["noise"], shape=[1]))
    with pytest.raises(ConfigurationError) as told:
        opened(bad, tmp_path)
    assert len(told.value.problems) == 3
