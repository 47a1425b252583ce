"""Putting an audit's files in place: whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from auditkit.errors import ConfigurationError, StoreError
from auditkit.record import Record, UnitsFile

UNITS = "units.parquet"
EVIDENCE = "evidence.npz"
REPORT = "report.json"


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside the target, then move into place.

    Raises:
        StoreError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        os.close(handle)
        try:
            write(Path(scratch))
            os.chmod(scratch, 0o644)
            os.replace(scratch, path)
        finally:
            Path(scratch).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}; choose another folder with --out") from error


def new_folder(out: Path, write: Callable[[Path], object]) -> None:
    """Write a folder beside its place, then move it there, whole or not at all.

    Args:
        out: nothing, or an empty folder.
        write: is given the folder to write into.

    Raises:
        ConfigurationError: there is something already.
        StoreError: it cannot be written.
    """
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise ConfigurationError(f"{out} exists already; choose another --out or remove it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        try:
            write(scratch)
            scratch.chmod(0o755)
            os.replace(scratch, out)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise StoreError(f"cannot write {out}: {error.strerror or error}; choose another folder with --out") from error


def write_outputs(record: Record, units: pd.DataFrame, out: Path) -> Record:
    """Write units.parquet, then report.json, which names its digest; returns the record as written."""
    replace_file(out / UNITS, lambda path: units.to_parquet(path, index=False))
    digest = hashlib.sha256((out / UNITS).read_bytes()).hexdigest()
    final = record.model_copy(update={"units": UnitsFile(path=UNITS, digest=digest)})
    replace_file(out / REPORT, lambda path: path.write_text(final.to_json(), encoding="utf-8"))
    return final
