"""What commands share: files read and written as they are, and lines that a terminal can only show."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def line(text: object) -> str:
    """One line that a terminal or a build server can only show: no control, no direction mark, no line break."""
    return "".join(c if c.isprintable() else " " if c == "\n" else "?" for c in str(text))


def content_of(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        DataError: it cannot be read.
    """
    from auditkit.errors import DataError

    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; name a file that can be read") from error


def create(path: Path, content: bytes, mode: int) -> None:
    """Write a file that must not be there yet, with these permissions.

    Raises:
        StoreError: it is there, or the folder cannot be written.
    """
    from auditkit.errors import StoreError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Opened with its mode, so that a private key is at no time open to others; O_EXCL follows no link.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}; choose another place with --out") from error


def check_new(path: Path) -> None:
    """See that a file is not there yet.

    Raises:
        ConfigurationError: it is.
    """
    from auditkit.errors import ConfigurationError

    if path.exists() or path.is_symlink():
        raise ConfigurationError(f"{path} exists already; choose another --out or remove it")


def digest(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        DataError: it cannot be read.
    """
    from auditkit.errors import DataError

    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; name a file that can be read") from error


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of all files under a folder of evidence by their paths in it; links lead elsewhere and are left out.

    Raises:
        DataError: it is no folder, or a file in it cannot be read.
    """
    from auditkit.errors import DataError

    if not folder.is_dir():
        raise DataError(f"--evidence must be a folder, got {folder}; name the one with units.parquet")
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): digest(path) for path in files}
