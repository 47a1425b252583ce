"""The store: whole or not at all, verified when read, one maker per build."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from auditkit.errors import StoreError
from auditkit.store import Store

ADDRESS = "a" * 64
ARRAYS: dict[str, NDArray[Any]] = {
    "weights.user_table": np.arange(12, dtype=np.float32).reshape(3, 4),
    "served.users": np.array([2, 0, 1], np.int32),
    "served.present.image": np.array([True, False]),
    "own.transposed": np.arange(6.0).reshape(2, 3).T,
    "own.none": np.empty((0, 2), np.int64),
}
META = {"cost": {"wall_s": 0.1}, "backbone": "bpr-mf"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_what_is_written_is_read(store: Store) -> None:
    assert not store.has(ADDRESS)
    store.write(ADDRESS, ARRAYS, META)
    assert store.has(ADDRESS)
    arrays, meta = store.read(ADDRESS)
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert (arrays[name] == array).all()
    assert {key: meta[key] for key in META} == META
    assert store.meta(ADDRESS) == meta
    assert sorted(p.name for p in store.folder(ADDRESS).iterdir()) == ["arrays.safetensors", "build.json"]


def test_a_build_that_is_there_is_kept(store: Store) -> None:
    store.write(ADDRESS, ARRAYS, META)
    store.write(ADDRESS, {"other": np.zeros(1)}, {})
    assert set(store.read(ADDRESS)[0]) == set(ARRAYS)


@contextmanager
def smallest_files(size: int) -> Iterator[None]:
    """The system refuses files of more than `size` bytes, as a full disk or a quota would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("size", "n"), [(4096, 10_000), (4096, 100)], ids=["arrays", "description"])
def test_a_write_that_fails_in_the_middle_leaves_nothing(store: Store, size: int, n: int) -> None:
    message = rf"cannot write build {'a' * 12} .*File too large; free"
    with smallest_files(size), pytest.raises(StoreError, match=message):
        store.write(ADDRESS, {"big": np.zeros(n)}, {"note": "x" * 5000})
    assert not store.has(ADDRESS)
    assert list((store.root / "builds").iterdir()) == []
    store.write(ADDRESS, {"big": np.zeros(n)}, {"note": "x" * 5000})
    assert store.read(ADDRESS)[0]["big"].shape == (n,)


def test_what_a_killed_writer_left_is_no_build(store: Store) -> None:
    store.write(ADDRESS, ARRAYS, META)
    scratch = store.root / "builds" / ".writing-killed"
    shutil.move(store.folder(ADDRESS), scratch)
    (scratch / "build.json").unlink()
    assert not store.has(ADDRESS)
    # A folder under the address without a description, as a copy that stopped half way leaves it, is replaced.
    shutil.copytree(scratch, store.folder(ADDRESS))
    assert not store.has(ADDRESS)
    store.write(ADDRESS, ARRAYS, META)
    assert set(store.read(ADDRESS)[0]) == set(ARRAYS)


def test_a_store_that_cannot_be_created_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = Store(tmp_path / "file" / "store")
    message = r"cannot create the store at .*Not a directory; choose another with --store"
    with pytest.raises(StoreError, match=message), store.locked(ADDRESS):
        pass
    with pytest.raises(StoreError, match=r"cannot write build .*Not a directory"):
        store.write(ADDRESS, ARRAYS, META)


@pytest.fixture(scope="module")
def written() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        store.write(ADDRESS, ARRAYS, META)
        yield store


def read_with_a_byte_flipped(store: Store, name: str, place: float, flip: int) -> Any:
    path = store.folder(ADDRESS) / name
    sound = path.read_bytes()
    spoilt = bytearray(sound)
    spoilt[int(place * len(sound))] ^= flip
    try:
        path.write_bytes(spoilt)
        return store.read(ADDRESS)
    finally:
        path.write_bytes(sound)


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_of_the_arrays_is_found(written: Store, place: float, flip: int) -> None:
    with pytest.raises(StoreError, match=rf"build {written.folder(ADDRESS)} .*remove .* run again"):
        read_with_a_byte_flipped(written, "arrays.safetensors", place, flip)


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_of_the_description_is_found_or_means_nothing(written: Store, place: float, flip: int) -> None:
    sound = written.meta(ADDRESS)
    try:
        found = read_with_a_byte_flipped(written, "build.json", place, flip)[1]
    except StoreError:
        return
    # White space, and digits beyond what a float holds, may change without a change of meaning.
    assert found == sound


def test_an_altered_cost_is_found(store: Store) -> None:
    store.write(ADDRESS, ARRAYS, META)
    path = store.folder(ADDRESS) / "build.json"
    path.write_text(path.read_text().replace('"wall_s": 0.1', '"wall_s": 9.1'))
    with pytest.raises(StoreError, match="does not match its digest, it was altered"):
        store.read(ADDRESS)


@given(kept=st.floats(0, 1, exclude_max=True), data=st.booleans())
def test_a_file_cut_short_is_found(written: Store, kept: float, data: bool) -> None:
    path = written.folder(ADDRESS) / ("arrays.safetensors" if data else "build.json")
    sound = path.read_bytes()
    try:
        path.write_bytes(sound[: int(kept * len(sound))])
        with pytest.raises(StoreError, match=rf"build {written.folder(ADDRESS)} "):
            written.read(ADDRESS)
    finally:
        path.write_bytes(sound)


@pytest.mark.parametrize("name", ["arrays.safetensors", "build.json"])
def test_a_missing_file_is_named(store: Store, name: str) -> None:
    store.write(ADDRESS, ARRAYS, META)
    (store.folder(ADDRESS) / name).unlink()
    with pytest.raises(StoreError, match=rf"{name}.*remove the folder and run again"):
        store.read(ADDRESS)


def test_an_absent_build_and_one_of_another_address_are_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        store.read("b" * 64)
    with pytest.raises(StoreError, match="cannot be read"):
        store.meta("b" * 64)
    store.write(ADDRESS, ARRAYS, META)
    shutil.copytree(store.folder(ADDRESS), store.folder("b" * 64))
    with pytest.raises(StoreError, match="does not match its digest"):
        store.read("b" * 64)


MAKER = """
import sys, time
from pathlib import Path
import numpy as np
from auditkit.store import Store

store, log = Store(Path(sys.argv[1])), Path(sys.argv[2])
for address in sys.argv[3:]:
    with store.locked(*sys.argv[3:]):
        if not store.has(address):
            with log.open("a") as file:
                file.write(address + "\\n")
            time.sleep(0.05)
            store.write(address, {"x": np.zeros(3)}, {})
"""


def test_processes_make_every_build_once_whatever_their_order(store: Store, tmp_path: Path) -> None:
    log, names = tmp_path / "log", ["one", "two", "three"]
    orders = [names, names[::-1], [names[1], names[0], names[2]]]
    makers = [subprocess.Popen([sys.executable, "-c", MAKER, str(store.root), str(log), *order]) for order in orders]
    assert [maker.wait(60) for maker in makers] == [0, 0, 0]
    assert sorted(log.read_text().split()) == sorted(names)


def test_threads_make_a_build_once(store: Store) -> None:
    made = []

    def make(k: int) -> None:
        with store.locked(ADDRESS):
            if not store.has(ADDRESS):
                made.append(k)
                time.sleep(0.05)
                store.write(ADDRESS, ARRAYS, META)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(32)))
    assert len(made) == 1


def test_a_lock_is_released_when_its_holder_fails(store: Store) -> None:
    with pytest.raises(RuntimeError, match="of the maker"), store.locked(ADDRESS, "other"):
        raise RuntimeError("of the maker")
    with store.locked("other", ADDRESS, ADDRESS):
        pass
