"""Arrays in files that others wrote: what a file says it holds is checked before it is read, and nothing is executed.

Three forms: a folder of `.npy` files, each called after its array; a `.safetensors` file; a `.pt` or `.pth` file that
holds nothing but tensors in dictionaries.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from auditkit.errors import ConfigurationError, DataError

FORMS = "a folder of .npy files, or a .safetensors, .pt or .pth file"

# A million users and a million items of 256 single-precision factors take half of this. Beyond it a file is likelier to
# be hostile, or another than was meant, than to be audited on one machine.
MAX_BYTES = 4 * 2**30
# Before it, a crafted file could run code even where only weights are loaded (CVE-2025-32434, CVE-2026-24747).
_SAFE_TORCH = (2, 10)
# Tensors of a checkpoint lie this many dictionaries deep at most; a dictionary can hold itself.
_DEEPEST = 3
_FLOATS = ("float16", "bfloat16", "float32", "float64")
# The first bytes of an archive.
_ZIP = b"PK\x03\x04"
# What the format calls a type -> its name and bytes.
_SAFETENSORS = {
    "F16": ("float16", 2), "BF16": ("bfloat16", 2), "F32": ("float32", 4), "F64": ("float64", 8),
    "U8": ("uint8", 1), "U16": ("uint16", 2), "U32": ("uint32", 4), "U64": ("uint64", 8),
    "I8": ("int8", 1), "I16": ("int16", 2), "I32": ("int32", 4), "I64": ("int64", 8),
}  # fmt: skip
_HEADERS: Mapping[tuple[int, int], Callable[[Any], tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True, eq=False)
class Stored:
    """One array of a file, known by what the file says of it.

    Attributes:
        what: file and name, for messages.
        path: the file.
        shape: as declared.
        dtype: such as `float32`, `int64`, or `str..` for text.
        n_bytes: in memory.
        read: the array itself; float16 and bfloat16 are raised to float32.
    """

    what: str
    path: Path
    shape: tuple[int, ...]
    dtype: str
    n_bytes: int
    read: Callable[[], NDArray[Any]]

    @property
    def is_float(self) -> bool:
        """Real numbers that scores can be made of."""
        return self.dtype in _FLOATS

    @property
    def is_id(self) -> bool:
        """Whole numbers or text."""
        return self.dtype.startswith(("int", "uint", "str"))


def named_arrays(place: str, path: Path, max_bytes: int) -> Mapping[str, Callable[[], Stored]]:
    """What a folder or a file holds: name -> its description, looked at when it is asked for.

    Args:
        place: as the configuration says it, for messages.
        path: where it is.
        max_bytes: the largest file that is looked into.

    Raises:
        ConfigurationError: nothing is there, or nothing that can be read.
        DataError: it is too large, broken, or holds what is never loaded; also by what is returned.
    """
    if path.is_dir():
        return _folder(place, path, max_bytes)
    readers = {".safetensors": _safetensors, ".pt": _torch_file, ".pth": _torch_file}
    if path.suffix not in readers:
        # A path without an ending was meant to be a folder.
        why = f"has the ending {path.suffix!r}" if path.exists() and path.suffix else "is not there"
        raise ConfigurationError(f"{place} {why}; name {FORMS}")
    _check_file(place, path, max_bytes)
    return {name: _always(stored) for name, stored in readers[path.suffix](place, path, max_bytes).items()}


def npy_file(what: str, path: Path, max_bytes: int) -> Stored:
    """A `.npy` file that lies in the folder that its path names.

    Raises:
        DataError: it is missing, too large, broken, holds objects, or lies elsewhere (a symbolic link).
    """
    if not path.resolve().is_relative_to(path.parent.resolve()):
        raise DataError(f"{what} is a link that leads out of its folder; put the file itself there")
    _check_file(what, path, max_bytes)
    try:
        shape, dtype, start = _npy_header(path)
    # The parsers of a header raise errors of many kinds where it is broken.
    except Exception as error:
        raise DataError(f"{what} is no .npy file ({error}); save a plain array with numpy.save") from error
    if dtype.hasobject:
        raise DataError(f"{what} holds pickled objects, which are never loaded; save numbers, or text as dtype str")
    n_bytes, there = math.prod(shape) * dtype.itemsize, path.stat().st_size - start
    if min(shape, default=0) < 0 or n_bytes != there:
        raise DataError(
            f"{what} says that it holds {list(shape)} values of {dtype} ({n_bytes} bytes), but {there} bytes follow; "
            "it was cut short or altered, save it again with numpy.save"
        )
    return Stored(what, path, shape, dtype.name, n_bytes, lambda: _raised(np.load(path, allow_pickle=False)))


def _folder(place: str, folder: Path, max_bytes: int) -> Mapping[str, Callable[[], Stored]]:
    def one(path: Path) -> Callable[[], Stored]:
        return lambda: npy_file(f"{place}/{path.name}", path, max_bytes)

    return {path.stem: one(path) for path in sorted(folder.glob("*.npy"))}


def _always(stored: Stored) -> Callable[[], Stored]:
    return lambda: stored


def _check_file(what: str, path: Path, max_bytes: int) -> None:
    if not path.is_file():
        raise DataError(f"{what} {'is no regular file' if path.exists() else 'is not there'}; it must be a file")
    if path.stat().st_size > max_bytes:
        raise DataError(
            f"{what} has {path.stat().st_size} bytes, more than max_bytes ({max_bytes}); where that is right, raise "
            "max_bytes in the options"
        )


def _npy_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"version {version[0]}.{version[1]} of the format holds no plain array")
        shape, _, dtype = _HEADERS[version](file)
        return shape, dtype, file.tell()


def _raised(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind != "f":
        return values
    # torch knows the machine's own byte order alone.
    wanted = np.dtype(np.float32) if values.dtype.itemsize == 2 else values.dtype.newbyteorder("=")
    return np.ascontiguousarray(values, wanted)


def _safetensors(place: str, path: Path, max_bytes: int) -> dict[str, Stored]:
    try:
        with safe_open(path, framework="pt") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            told = {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in parts.items()}
    # It raises an error of its own, and others where shapes overflow.
    except Exception as error:
        raise DataError(f"{place} is no readable safetensors file ({error}); write it again") from error
    return {name: _safetensor(place, path, name, *known) for name, known in told.items()}


def _safetensor(place: str, path: Path, name: str, shape: tuple[int, ...], code: str) -> Stored:
    def read() -> NDArray[Any]:
        with safe_open(path, framework="pt") as file:
            return _values(file.get_tensor(name))

    # A type that is not known here is refused by whoever asks for it, whatever its width.
    dtype, width = _SAFETENSORS.get(code, (code, 1))
    return Stored(f"{place}: {name}", path, shape, dtype, math.prod(shape) * width, read)


def _torch_file(place: str, path: Path, max_bytes: int) -> dict[str, Stored]:
    _check_archive(place, path, max_bytes)
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    # What it refuses it says in many ways, and advises to load without the guard: that advice must not be passed on.
    except Exception as error:
        raise DataError(
            f"{place} holds more than tensors in dictionaries, or is broken ({type(error).__name__}); objects are "
            "never loaded, write the tables with torch.save({'users': ..., 'items': ...}) or as safetensors"
        ) from error
    return {name: _torch_tensor(place, path, name, tensor) for name, tensor in _tensors(held)}


def _torch_tensor(place: str, path: Path, name: str, tensor: Tensor) -> Stored:
    n_bytes, dtype = tensor.numel() * tensor.element_size(), str(tensor.dtype).removeprefix("torch.")
    return Stored(f"{place}: {name}", path, tuple(tensor.shape), dtype, n_bytes, lambda: _values(tensor))


def _check_archive(place: str, path: Path, max_bytes: int) -> None:
    if torch.torch_version.TorchVersion(torch.__version__) < _SAFE_TORCH:  # type: ignore[operator]
        raise ConfigurationError(
            f"{place}: with torch {torch.__version__} such a file could run code; install torch 2.10 or later, or have "
            "the tables written as safetensors or .npy"
        )
    # What does not begin as an archive torch reads by older rules, whatever stands behind it.
    with path.open("rb") as file:
        begins = file.read(len(_ZIP)) == _ZIP
    if not (begins and zipfile.is_zipfile(path)):
        raise DataError(f"{place} is no archive as torch.save writes it; save it again with torch 1.6 or later")
    entries = _entries(place, path)
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise DataError(f"{place} has compressed parts, which torch.save never writes; save it again")
    if sum(entry.file_size for entry in entries) > max_bytes:
        raise DataError(f"{place} says that it unpacks to more than max_bytes ({max_bytes}); save it again")


def _entries(place: str, path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise DataError(f"{place} is a broken archive ({error}); save it again") from error


def _tensors(held: Any, depth: int = 0, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Dense tensors with their names; those of inner dictionaries are joined by dots."""
    if isinstance(held, Tensor):
        if held.layout is torch.strided and held.device.type == "cpu" and prefix:
            yield prefix, held.detach()
    elif isinstance(held, Mapping) and depth < _DEEPEST:
        for name, part in held.items():
            yield from _tensors(part, depth + 1, f"{prefix}.{name}" if prefix else str(name))


def _values(tensor: Tensor) -> NDArray[Any]:
    return np.asarray((tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor).numpy())
