"""Putting an audit's files in place: whole or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from auditkit.errors import StoreError
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


def write_outputs(record: Record, units: pd.DataFrame, out: Path) -> Record:
    """Write units.parquet, then report.json, which names its digest; returns the record as written."""
    replace_file(out / UNITS, lambda path: units.to_parquet(path, index=False))
    digest = hashlib.sha256((out / UNITS).read_bytes()).hexdigest()
    final = record.model_copy(update={"units": UnitsFile(path=UNITS, digest=digest)})
    replace_file(out / REPORT, lambda path: path.write_text(final.to_json(), encoding="utf-8"))
    return final
