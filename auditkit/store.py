"""Where builds lie: a folder per address, arrays as safetensors beside a JSON description; atomic, verified, locked."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from auditkit.errors import StoreError

Arrays = Mapping[str, NDArray[Any]]

_ARRAYS = "arrays.safetensors"
_META = "build.json"


def _digest(described: Mapping[str, Any], blob: bytes) -> str:
    """SHA-256 of arrays and description: an altered cost would falsify a speedup as altered weights would a verdict."""
    told = {key: value for key, value in described.items() if key != "sha256"}
    state = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    state.update(blob)
    return state.hexdigest()


@dataclass(frozen=True)
class Store:
    """A folder of builds, safe to share between audits that run at once.

    Attributes:
        root: created on first use.
    """

    root: Path

    def folder(self, address: str) -> Path:
        """Where the build of `address` lies or will lie."""
        return self.root / "builds" / address

    def has(self, address: str) -> bool:
        """A complete build is there; folders appear whole or not at all."""
        return (self.folder(address) / _META).is_file()

    @contextmanager
    def locked(self, *addresses: str) -> Iterator[None]:
        """Hold the locks of these builds, so that two audits never make one build twice.

        Locks are taken in sorted order, so audits that want overlapping sets cannot wait for each other in a circle.
        """
        locks = self.root / "locks"
        try:
            locks.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot create the store at {self.root}: {error.strerror}; choose another with --store"
            ) from error
        with ExitStack() as held:
            for address in sorted(set(addresses)):
                held.enter_context(FileLock(locks / f"{address}.lock"))
            yield

    def write(self, address: str, arrays: Arrays, meta: Mapping[str, Any]) -> None:
        """Put a build in place, whole or not at all; a build already there is kept."""
        if self.has(address):
            return
        target = self.folder(address)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=target.parent))
            try:
                self._fill(scratch, address, arrays, meta)
                shutil.rmtree(target, ignore_errors=True)
                os.replace(scratch, target)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        except OSError as error:
            raise StoreError(
                f"cannot write build {address[:12]} to {target}: {error.strerror}; free space or pass --store"
            ) from error

    @staticmethod
    def _fill(folder: Path, address: str, arrays: Arrays, meta: Mapping[str, Any]) -> None:
        blob = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        (folder / _ARRAYS).write_bytes(blob)
        # A scratch folder is its owner's alone; a store is shared.
        folder.chmod(0o755)
        described = {**meta, "address": address}
        described["sha256"] = _digest(described, blob)
        (folder / _META).write_text(json.dumps(described, indent=1, sort_keys=True), encoding="utf-8")

    def read(self, address: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Load a build and check it against its digest.

        Raises:
            StoreError: absent, altered or cut short; the message says which file and what to remove.
        """
        folder = self.folder(address)
        try:
            meta = self.meta(address)
            blob = (folder / _ARRAYS).read_bytes()
        except (OSError, ValueError) as error:
            raise StoreError(f"build {folder} cannot be read ({error}); remove the folder and run again") from error
        if meta.get("address") != address or _digest(meta, blob) != meta.get("sha256"):
            raise StoreError(
                f"build {folder} does not match its digest, it was altered or cut short; remove it and run again"
            )
        try:
            return load(blob), meta
        except SafetensorError as error:
            raise StoreError(
                f"build {folder} holds no readable arrays ({error}); remove the folder and run again"
            ) from error

    def meta(self, address: str) -> dict[str, Any]:
        """The description of a stored build, without its arrays."""
        try:
            return dict(json.loads((self.folder(address) / _META).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise StoreError(
                f"build {self.folder(address)} cannot be read ({error}); remove the folder and run again"
            ) from error
