"""Features from text: what is read, what is refused, and a real encoder where the extra is installed."""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from auditkit import cli
from auditkit.data.dataset import Features
from auditkit.data.mmrec import read_features
from auditkit.data.text import item_texts, text_features, write_features
from auditkit.errors import ConfigurationError, DataError, StoreError

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "story", "of", "toys", "and", "heat")
WIDTH = 8


def table(folder: Path, text: str) -> Path:
    path = folder / "items.tsv"
    path.write_text(text, "utf-8")
    return path


def encoder_folder(folder: Path) -> Path:
    """The parts that are read before the library is: a list of modules and safetensors."""
    folder.mkdir()
    modules = ("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")
    listed = [
        {"idx": k, "name": str(k), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for k, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "model.safetensors").write_bytes(b"")
    return folder


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A tiny random BERT with mean pooling, saved as published encoders are."""
    pytest.importorskip("sentence_transformers", reason="the extra auditkit[text] is not installed")
    import torch

    transformers: Any = pytest.importorskip("transformers", reason="the extra auditkit[text] is not installed")
    folder = encoder_folder(tmp_path / "encoder")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, **sizes)
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=16).save_pretrained(folder)
    return folder


def test_a_header_names_the_columns(tmp_path: Path) -> None:
    path = table(tmp_path, 'item_id\ttitle\tgenres\n2\tHeat  "95"\tCrime \n\n0\t Toy Story\tComedy, Animation\n')
    assert item_texts(path) == ["Toy Story Comedy, Animation", "", 'Heat "95" Crime']
    assert item_texts(path, text_columns=["genres", "title"])[2] == 'Crime Heat "95"'
    assert item_texts(path, text_columns=["title"])[0] == "Toy Story"


def test_without_a_header_columns_are_numbered(tmp_path: Path) -> None:
    path = table(tmp_path, "1\t7\tHeat, and more\n0\t9\tToy Story\n")
    assert item_texts(path, text_columns=["3"]) == ["Toy Story", "Heat, and more"]
    assert item_texts(path, id_column="2", text_columns=["3"])[7:] == ["Heat, and more", "", "Toy Story"]


def test_every_line_break_becomes_a_space(tmp_path: Path) -> None:
    path = table(tmp_path, "id\ttext\n0\ta\u2028b\x0bc\u00a0 d\n")
    assert item_texts(path) == ["a b c d"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("id\ttext\n0\ta\n0\tb\n", {}, "line 3 of items.tsv: id 0 stands in an earlier row too; keep one row per item"),
        ("id\ttext\n0\ta\nx\tb\n", {}, "line 3 of items.tsv: id must be an integer, got 'x'"),
        ("id\ttext\n-1\ta\n", {}, "line 2 of items.tsv: id must be 0 or above, got -1"),
        ("id\ttext\n0\ta\tb\n", {}, "line 2 of items.tsv has 3 fields, expected 2"),
        ("id\ttext\n", {}, r"items.tsv holds a header \(id, text\) but no rows"),
        ("", {}, "items.tsv is empty"),
        ("id\ttext\n0\ta\n123456789012\tb\n", {}, "the largest item id is 123,456,789,012 in 2 rows"),
        ("asin\ttext\n0\ta\n", {"id_column": "item"}, "has no column 'item'; columns found, separated by tabs: asin"),
        ("id\ttext\n0\ta\n", {"text_columns": ["title", "x"]}, "has no column 'title', 'x'; columns found"),
        ("id,text\n0,a\n", {}, "which column of items.tsv holds the item ids"),
        ("id\n0\n", {}, "items.tsv has no column of text beside the ids"),
        ("item_id\tasin\n0\ta\n", {}, "columns 'item_id' and 'asin' both look like the item"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((DataError, ConfigurationError), match=message):
        item_texts(table(tmp_path, text), **options)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.tsv is no file; name a tab-separated one"):
        item_texts(tmp_path / "nowhere.tsv")


def test_absent_rows_survive_the_file(tmp_path: Path) -> None:
    features = Features(np.arange(6, dtype=np.float32).reshape(3, 2), np.array([True, False, True]))
    write_features(features, tmp_path / "text_feat.npy")
    found = read_features(tmp_path, 3)["text"]
    assert_array_equal(found.present, [True, False, True])
    assert_array_equal(found.values, [[0, 1], [0, 0], [4, 5]])
    assert [path.name for path in tmp_path.iterdir()] == ["text_feat.npy"]
    with pytest.raises(StoreError, match="choose another folder with --out"):
        write_features(features, tmp_path / "text_feat.npy" / "text_feat.npy")


def test_an_encoder_is_a_folder_that_lists_its_modules(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"SentenceTransformer.save wrote \(modules.json in it\), got all-Mini"
    ):
        text_features(["a"], Path("all-MiniLM-L6-v2"))


def test_pickled_weights_are_refused_unless_safetensors_lie_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = encoder_folder(tmp_path / "encoder")
    (folder / "pytorch_model.bin").write_bytes(b"\x80")
    (folder / "openvino").mkdir()
    (folder / "openvino" / "openvino_model.bin").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigurationError, match="need sentence-transformers"):
        text_features(["a"], folder)
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(ConfigurationError, match=r"pickled weights \(2_Dense/pytorch_model.bin\), which run code"):
        text_features(["a"], folder)


def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'auditkit\[text\]'`, or make text_feat.npy else"):
        text_features(["a"], encoder_folder(tmp_path / "encoder"))


@pytest.mark.parametrize("texts", [[], ["", " \n"]])
def test_items_without_any_text_are_refused(texts: list[str]) -> None:
    with pytest.raises(DataError, match=f"none of the {len(texts)} items has text"):
        text_features(texts, Path("encoder"))


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """Run `auditkit data encode` in `tmp_path`; exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGINT)

    def ran(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["auditkit", "data", "encode", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    yield ran
    signal.signal(signal.SIGINT, before)


def test_the_command_says_what_it_needs(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    table(tmp_path, "id\ttext\n0\ta\n")
    folder = str(encoder_folder(tmp_path / "encoder"))
    (tmp_path / "old_feat.npy").write_bytes(b"")
    for options, message in (
        (("--encoder", "nowhere"), "auditkit: encoder must be a folder that"),
        (("--encoder", folder), "auditkit: text features need sentence-transformers"),
        (("--encoder", folder, "--id", "item"), "auditkit: items.tsv has no column 'item'"),
        (("--encoder", folder, "--out", "text.npy"), "--out must be named <modality>_feat.npy"),
        (("--encoder", folder, "--out", "old_feat.npy"), "old_feat.npy exists already; choose another name"),
        ((), "Missing option '--encoder'"),
    ):
        code, out, err = run("items.tsv", *options)
        assert (code, out) == (2, ""), options
        assert message in " ".join(err.split()), err
    assert not (tmp_path / "text_feat.npy").exists()


def test_vectors_are_the_encoders(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean of the last hidden states, made unit length; the same again, without a socket."""

    def refused(*arguments: object) -> NoReturn:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refused)
    texts = ["a story of toys", "", "heat", "  ", "heat and heat"]
    found = text_features(texts, encoder)
    assert_array_equal(found.present, [True, False, True, False, True])
    assert not found.values[~found.present].any()
    assert_array_equal(found.values, text_features(texts, encoder).values)
    transformers: Any = pytest.importorskip("transformers", reason="the extra auditkit[text] is not installed")
    model = transformers.BertModel.from_pretrained(encoder, local_files_only=True).eval()
    for text, vector in zip(texts, found.values, strict=True):
        if text.strip():
            words = [2, *(WORDS.index(word) for word in text.split()), 3]
            import torch

            with torch.no_grad():
                mean = model(torch.tensor([words])).last_hidden_state[0].mean(0).numpy()
            np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)


def test_code_in_the_folder_is_not_run(encoder: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (encoder / "custom.py").write_text(f"from pathlib import Path\nPath({str(trace)!r}).touch()\nclass Own: ...\n")
    listed = json.loads((encoder / "modules.json").read_text())
    listed[1]["type"] = "custom.Own"
    (encoder / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        text_features(["a"], encoder)
    assert not trace.exists()


def test_broken_weights_are_named(encoder: Path) -> None:
    (encoder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        text_features(["a"], encoder)


def test_the_command_writes_what_readers_read(run: Run, encoder: Path, tmp_path: Path) -> None:
    table(tmp_path, "id\ttext\n0\ta story\n2\theat\n3\t\n")
    code, out, _ = run("items.tsv", "--encoder", str(encoder))
    assert (code, out) == (0, "rows    4\nwidth   8\nabsent  2\nfile    text_feat.npy\n")
    assert_array_equal(read_features(tmp_path, 4)["text"].present, [True, False, True, False])
    assert run("items.tsv", "--encoder", str(encoder))[0] == 2
    assert run("items.tsv", "--encoder", str(encoder), "--force")[0] == 0
