"""Embedding tables that are refused, malformed and hostile ones: each a real file, with its message."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from auditkit.errors import AuditkitError, ConfigurationError, DataError
from auditkit.outside.embeddings import source
from tests.outside.small_tables import IDS, N_ITEMS, N_USERS, WIDTH, tables, tensors, write

# Writes real files and returns the place and the options.
Case = Callable[[Path], tuple[str, dict[str, Any]]]


def arrays_case(options: dict[str, Any] | None = None, **arrays: Any) -> Case:
    def write_it(folder: Path) -> tuple[str, dict[str, Any]]:
        write(folder / "ours", tables(**arrays))
        return "ours", options or {}

    return write_it


def without(name: str) -> Case:
    def write_it(folder: Path) -> tuple[str, dict[str, Any]]:
        write(folder / "ours", {key: values for key, values in tables().items() if key != name})
        return "ours", {}

    return write_it


def bytes_case(content: bytes | Callable[[bytes], bytes], name: str = "users.npy") -> Case:
    """Replace a good file by bytes."""

    def write_it(folder: Path) -> tuple[str, dict[str, Any]]:
        path = write(folder / "ours", tables()) / name
        path.write_bytes(content(path.read_bytes()) if callable(content) else content)
        return "ours", {}

    return write_it


def single_case(name: str, content: bytes | Callable[[], bytes], options: dict[str, Any] | None = None) -> Case:
    def write_it(folder: Path) -> tuple[str, dict[str, Any]]:
        (folder / name).write_bytes(content() if callable(content) else content)
        return name, options or {}

    return write_it


def npy_header(text: str, rest: bytes = b"\0" * 32, version: bytes = b"\x01\x00") -> bytes:
    padded = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(padded)) + padded + rest


def declared(shape: str, dtype: str = "<f4") -> bytes:
    return npy_header(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}")


def torch_bytes(held: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(held, buffer)
    return buffer.getvalue()


class Payload:
    """Creates a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["AUDITKIT_TEST_TRAP"],)


def packed(held: Any, level: int) -> bytes:
    """What torch.save writes, with its entries compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(torch_bytes(held))) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry), compress_type=level)
    return buffer.getvalue()


def short_record() -> bytes:
    """A state dict whose pickle claims more of a storage than the archive holds."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(torch_bytes(tensors(tables())))) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            new.writestr(entry.filename, content[:4] if "/data/" in entry.filename else content)
    return buffer.getvalue()


def legacy(held: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(held, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def disguised() -> bytes:
    """The old form, with an archive behind it: what looks at the end sees an archive, what looks at the start none."""
    return legacy(tensors(tables())) + torch_bytes(tensors(tables()))


def safetensors_bytes(users: dict[str, Any], rest: bytes = b"") -> bytes:
    header = json.dumps({"users": users, "items": {"dtype": "F32", "shape": [5, 3], "data_offsets": [0, 60]}}).encode()
    return struct.pack("<Q", len(header)) + header + rest


def linked_out(folder: Path) -> tuple[str, dict[str, Any]]:
    write(folder / "theirs", tables())
    ours = write(folder / "ours", {"items": tables()["items"]})
    (ours / "users.npy").symlink_to(folder / "theirs" / "users.npy")
    return "ours", {}


def pipe(folder: Path) -> tuple[str, dict[str, Any]]:
    ours = write(folder / "ours", {"items": tables()["items"]})
    os.mkfifo(ours / "users.npy")
    return "ours", {}


def inner_folder(folder: Path) -> tuple[str, dict[str, Any]]:
    ours = write(folder / "ours", {"items": tables()["items"]})
    (ours / "users.npy").mkdir()
    return "ours", {}


def expanded() -> bytes:
    """A tensor of many values over one number."""
    return torch_bytes({"users": torch.zeros(1).expand(N_USERS, 10**12), "items": torch.zeros(N_ITEMS, 3)})


def empty_folder(folder: Path) -> tuple[str, dict[str, Any]]:
    (folder / "ours").mkdir()
    return "ours", {}


def padded_ids(**extra: Any) -> Case:
    return arrays_case(
        users=np.zeros((N_USERS + 1, WIDTH)), user_ids=np.array(["[PAD]", *map(str, range(N_USERS))]), options=extra
    )


def with_nan(value: float, name: str = "users") -> Case:
    given: dict[str, Any] = tables()
    given[name][1, 2] = value
    return arrays_case(**given)


CUT = r"says that it holds \[.*\] values of .* but \d+ bytes follow; it was cut short or altered"
HOSTILE: dict[str, tuple[Case, str]] = {
    "nothing there": (lambda _: ("absent", {}), r"absent is not there; name a folder of \.npy files, or a \.safetens"),
    "another ending": (single_case("ours.csv", b"1,2"), r"ours\.csv has the ending '\.csv'; name a folder of \.npy"),
    "a numpy archive": (single_case("ours.npz", b"PK"), r"ours\.npz has the ending '\.npz'; name a folder"),
    "an absent file": (lambda _: ("absent.pt", {}), r"absent\.pt is not there; it must be a file"),
    "an empty folder": (empty_folder, r"(?s)2 problems.*ours has no array 'users'.*nothing of"),
    "no users": (without("users"), r"ours has no array 'users' for the option users; it holds 'items'"),
    "no items": (without("items"), r"ours has no array 'items' for the option items; it holds 'users'"),
    "a named bias is absent": (
        arrays_case({"item_bias": "b"}), r"ours has no array 'b' for the option item_bias; it holds 'items', 'users'"
    ),
    "an unknown option": (arrays_case({"user": "u"}), r"embeddings 'ours' has no option 'user'; did you mean 'users'"),
    "an option of another kind": (arrays_case({"cosine": "yes"}), r"cosine must be bool, got 'yes'"),
    "no bytes allowed": (arrays_case({"max_bytes": 0}), r"max_bytes must be 1 or more, got 0"),
    "a name that leads elsewhere": (arrays_case({"users": "../ours/users"}), r"has no array '\.\./ours/users' for the"),
    "pickled objects": (
        arrays_case(users=np.array([[Payload()] * 3] * N_USERS, object)),
        r"ours/users\.npy holds pickled objects, which are never loaded; save numbers",
    ),
    "a bare pickle": (bytes_case(b"\x80\x04K\x01."), r"ours/users\.npy is no \.npy file \(.*\); save a plain array"),
    "an empty file": (bytes_case(b""), r"ours/users\.npy is no \.npy file"),
    "cut short": (bytes_case(lambda b: b[:-5]), CUT),
    "bytes behind the end": (bytes_case(lambda b: b + b"x"), CUT),
    "a million million rows": (bytes_case(declared("(1000000000000, 3)")), CUT),
    "a product beyond 64 bits": (bytes_case(declared("(4294967296, 4294967296)")), CUT),
    "negative sizes": (bytes_case(declared("(-2, -4)")), CUT),
    "text of a gigabyte each": (bytes_case(declared("(6,)", "<U268435456"), "user_ids.npy"), CUT),
    "a header of code": (bytes_case(npy_header("__import__('os').abort()")), r"ours/users\.npy is no \.npy file"),
    "a header without end": (bytes_case(npy_header("{" * 9000)), r"ours/users\.npy is no \.npy file"),
    "a version to come": (bytes_case(npy_header("", version=b"\x03\x00")), r"version 3\.0 of the format holds no plai"),
    "a link out of the folder": (linked_out, r"ours/users\.npy is a link that leads out of its folder"),
    "a pipe": (pipe, r"ours/users\.npy is no regular file; it must be a file"),
    "a folder of that name": (inner_folder, r"ours/users\.npy is no regular file"),
    "too large": (
        arrays_case({"max_bytes": 150}), r"users\.npy has \d+ bytes, more than max_bytes \(150\); where that is right"
    ),
    "too large together": (arrays_case({"max_bytes": 250}), r"the tables take \d+ bytes, more than max_bytes \(250\)"),
    "one axis": (arrays_case(users=np.zeros(N_USERS)), r"users\.npy must be a table of rows and factors.*shape \[6\]"),
    "three axes": (arrays_case(items=np.zeros((N_ITEMS, WIDTH, 2))), r"items\.npy must be a table.*shape \[5, 3, 2\]"),
    "no factors": (arrays_case(users=np.zeros((N_USERS, 0))), r"users\.npy must be a table.*neither empty.*\[6, 0\]"),
    "no rows": (arrays_case(users=np.zeros((0, WIDTH))), r"users\.npy must be a table.*neither empty.*\[0, 3\]"),
    "a scalar": (arrays_case(users=np.array(1.0)), r"users\.npy must be a table of rows and factors.*shape \[\]"),
    "whole numbers": (arrays_case(users=np.zeros((N_USERS, WIDTH), np.int64)), r"must hold real numbers.*got int64"),
    "complex numbers": (arrays_case(users=np.zeros((N_USERS, WIDTH), complex)), r"real numbers.*got complex128"),
    "records": (arrays_case(users=np.zeros((N_USERS, WIDTH), "f4,f4")), r"real numbers.*got void64"),
    "widths differ": (arrays_case(users=np.zeros((N_USERS, 4))), r"users have 4 factors and items 3; both tables must"),
    "a user too many": (
        arrays_case(users=np.zeros((N_USERS + 1, WIDTH))),
        r"users\.npy has 7 rows, but the data set has 6 users; write one row per id in order, or name the rows in user",
    ),
    "an item too few": (arrays_case(items=np.zeros((4, WIDTH))), r"items\.npy has 4 rows, but the data set has 5 item"),
    "NaN": (with_nan(np.nan), r"users\.npy must be finite, got NaN or infinity in 1 rows, first in row 1; leave out"),
    "infinity": (with_nan(np.inf, "items"), r"items\.npy must be finite, got NaN or infinity in 1 rows"),
    "a bias of NaN": (arrays_case(user_bias=np.full(N_USERS, np.nan)), r"user_bias\.npy must be finite.*6 rows"),
    "a bias too short": (
        arrays_case(item_bias=np.zeros(4)), r"item_bias\.npy must have one value per row of ours/items\.npy \(\[5\]\)"
    ),
    "a bias as a column": (arrays_case(item_bias=np.zeros((N_ITEMS, 1))), r"item_bias\.npy must have one value.*\[5,"),
    "a bias of text": (arrays_case(user_bias=np.array(list("abcdef"))), r"user_bias\.npy must hold real numbers"),
    "ids too short": (arrays_case(user_ids=np.arange(3)), r"user_ids\.npy must have one value per row.*\[3\]"),
    "ids of fractions": (arrays_case(user_ids=np.arange(6.0)), r"user_ids\.npy must hold whole numbers or text, got f"),
    "ids of bytes": (arrays_case(user_ids=np.arange(6).astype("S1")), r"user_ids\.npy must hold whole numbers or text"),
    "an unknown id": (
        arrays_case(user_ids=np.arange(1, 7)), r"user_ids\.npy: 1 of 6 ids are not in the data, such as '6'; name users"
    ),
    "an id twice": (
        arrays_case(items=np.zeros((6, WIDTH)), item_ids=np.array([0, 1, 2, 3, 4, 4])),
        r"item_ids\.npy: 1 ids stand twice, such as '4'",
    ),
    "padding that is not named": (padded_ids(), r"user_ids\.npy: 1 of 7 ids are not in the data, such as '\[PAD\]'"),
    "nothing but padding": (
        arrays_case({"ignore": list(range(5))}, item_ids=np.arange(5)), r"item_ids\.npy leaves no item of the data set"
    ),
    "padding without ids": (arrays_case({"ignore": ["[PAD]"]}), r"the option ignore names rows by the owner's ids, an"),
    "a safetensors of noise": (single_case("a.safetensors", b"noise" * 9), r"a\.safetensors is no readable safetensor"),
    "a safetensors that is empty": (single_case("a.safetensors", b""), r"a\.safetensors is no readable safetensors"),
    "offsets beyond the end": (
        single_case("a.safetensors", safetensors_bytes({"dtype": "F32", "shape": [6, 3], "data_offsets": [60, 132]})),
        r"a\.safetensors is no readable safetensors file",
    ),
    "a shape that its bytes deny": (
        single_case(
            "a.safetensors",
            safetensors_bytes({"dtype": "F32", "shape": [10**12, 3], "data_offsets": [60, 132]}, b"\0" * 132),
        ),
        r"a\.safetensors is no readable safetensors file",
    ),
    "overlapping tensors": (
        single_case(
            "a.safetensors", safetensors_bytes({"dtype": "F32", "shape": [6, 3], "data_offsets": [0, 72]}, b"\0" * 72)
        ),
        r"a\.safetensors is no readable safetensors file",
    ),
    "a header that claims the machine": (
        single_case("a.safetensors", struct.pack("<Q", 2**62) + b"{}"), r"a\.safetensors is no readable safetensors"
    ),
    "other names of tensors": (
        single_case("a.safetensors", lambda: safetensors.torch.save({"U": torch.zeros(6, 3), "V": torch.zeros(5, 3)})),
        r"(?s)no array 'users' for the option users; it holds 'U', 'V'.*no array 'items'",
    ),
    "tensors of 8 bits": (
        single_case(
            "a.safetensors",
            lambda: safetensors.torch.save({k: v.to(torch.float8_e4m3fn) for k, v in tensors(tables()).items()}),
        ),
        r"a\.safetensors: users must hold real numbers.*got F8_E4M3",
    ),
    "a pickled object": (
        single_case("a.pt", lambda: torch_bytes({**tensors(tables()), "config": Payload()})),
        r"a\.pt holds more than tensors in dictionaries, or is broken \(UnpicklingError\); objects are never loaded",
    ),
    "a pickled module": (
        single_case("a.pth", lambda: torch_bytes(torch.nn.Linear(2, 2))), r"a\.pth holds more than tensors in dictionar"
    ),
    "the old form": (single_case("a.pt", lambda: legacy(tensors(tables()))), r"a\.pt is no archive as torch\.save wri"),
    "the old form with a payload": (single_case("a.pt", lambda: legacy(Payload())), r"a\.pt is no archive as torch\.s"),
    "the old form disguised": (single_case("a.pt", disguised), r"a\.pt is no archive as torch\.save writes it; save i"),
    "no archive": (single_case("a.pt", b"PK\x03\x04 but no more"), r"a\.pt is no archive as torch\.save writes it"),
    "an archive of something else": (
        single_case("a.pt", lambda: packed({}, zipfile.ZIP_STORED).replace(b"data.pkl", b"fata.pkl")),
        r"a\.pt holds more than tensors in dictionaries, or is broken \(RuntimeError\)",
    ),
    "a compressed archive": (
        single_case("a.pt", lambda: packed({"users": torch.zeros(10**6)}, zipfile.ZIP_DEFLATED)),
        r"a\.pt has compressed parts, which torch\.save never writes",
    ),
    "a storage shorter than it says": (single_case("a.pt", short_record), r"a\.pt holds more than tensors.*or is brok"),
    "one number as a table": (single_case("a.pt", expanded), r"the tables take \d{14} bytes, more than max_bytes"),
    "sparse tensors": (
        single_case("a.pt", lambda: torch_bytes({k: v.to_sparse() for k, v in tensors(tables()).items()})),
        r"a\.pt has no array 'users' for the option users; it holds nothing of use",
    ),
    "a tensor without a name": (
        single_case("a.pt", lambda: torch_bytes(torch.zeros(6, 3))), r"a\.pt has no array 'users'.*it holds nothing of"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = tmp_path / "trap"
    monkeypatch.setenv("AUDITKIT_TEST_TRAP", str(trap))
    make, message = HOSTILE[name]
    (tmp_path / "files").mkdir()
    place, options = make(tmp_path / "files")
    with pytest.raises(AuditkitError, match=message) as caught:
        source(place, IDS, options, folder=tmp_path / "files")
    assert isinstance(caught.value, ConfigurationError | DataError)
    assert not trap.exists(), "code from the file ran"
    assert str(tmp_path) not in str(caught.value)


def test_the_payload_is_a_real_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDITKIT_TEST_TRAP", str(tmp_path / "trap"))
    torch.load(io.BytesIO(torch_bytes(Payload())), weights_only=False)
    assert (tmp_path / "trap").exists()


def test_a_dictionary_that_holds_itself_ends(tmp_path: Path) -> None:
    held: dict[str, Any] = dict(tensors(tables()))
    held["again"] = held
    torch.save(held, tmp_path / "a.pt")
    assert source("a.pt", IDS, {}, folder=tmp_path).open().n_users == N_USERS


def test_an_old_torch_loads_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(tensors(tables()), tmp_path / "a.pt")
    safetensors.torch.save_file(tensors(tables()), tmp_path / "a.safetensors")
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.9.1"))
    with pytest.raises(
        ConfigurationError, match=r"with torch 2\.9\.1 such a file could run code; install torch 2\.10 or"
    ):
        source("a.pt", IDS, {}, folder=tmp_path)
    assert source("a.safetensors", IDS, {}, folder=tmp_path).open().n_items == N_ITEMS


def test_a_false_header_costs_no_memory(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="only POSIX systems count the memory of a process")
    place, _ = bytes_case(declared("(1000000000000, 3)"))(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError):
        source(place, IDS, {}, folder=tmp_path)
    kibibytes = 1 if sys.platform == "darwin" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * kibibytes < 64 * 2**20
