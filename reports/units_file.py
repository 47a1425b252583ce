"""The per-unit table that a report names: read only where it is the very file that the report was written with."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pandas as pd

from auditkit.errors import DataError
from auditkit.record import UnitsFile


def read(folder: Path, stated: UnitsFile) -> pd.DataFrame:
    """One row a unit, columns as `auditkit.unit_table.unit_table` makes them.

    Args:
        folder: where the report lies.
        stated: what the report says of the file.

    Raises:
        DataError: the file is absent, not a file beside the report, another one, or not Parquet. The message names the
            file only, never the folder: a page repeats it.
    """
    name = stated.path
    # A report is not to be trusted with paths: neither out of its folder nor into a device.
    if Path(name).name != name or not (folder / name).is_file():
        raise DataError(f"no file {name} lies beside the report; keep both together")
    try:
        raw = (folder / name).read_bytes()
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror}") from error
    if hashlib.sha256(raw).hexdigest() != stated.digest:
        raise DataError(f"{name} is not the file that the report was written with: its digest is another")
    try:
        return pd.read_parquet(io.BytesIO(raw))
    except (OSError, ValueError) as error:
        raise DataError(f"{name} is not Parquet") from error
