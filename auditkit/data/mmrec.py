"""The MMRec format: `<name>.inter`, tab-separated with a header, and `<modality>_feat.npy` beside it.

Columns: `userID itemID [rating] [timestamp] [x_label]`, others are ignored; `x_label` is 0 train, 1 valid,
2 test. Ids are 0-based: item k is row k of every feature file. A feature row that is NaN throughout is an
absent one. Features are read beside every format with 0-based ids.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auditkit.data.dataset import Bools, Features
from auditkit.data.formats import Source
from auditkit.data.rows import Rows, zero_based
from auditkit.data.tables import read_text
from auditkit.errors import DataError

_SUFFIX = "_feat.npy"


def read_mmrec(source: Source) -> Rows:
    """Read `.inter` files with 0-based ids.

    Raises:
        DataError: see `auditkit.data.rows.zero_based` and `auditkit.data.tables.read_text`.
    """
    return zero_based({part: read_text(path) for part, path in source.parts.items()})


def feature_files(folder: Path) -> dict[str, Path]:
    """Modality -> feature file, sorted by modality."""
    return {path.name.removesuffix(_SUFFIX): path for path in sorted(folder.glob(f"?*{_SUFFIX}"))}


def read_features(folder: Path, n_items: int) -> dict[str, Features]:
    """Read all feature files of a folder.

    Args:
        folder: where `<modality>_feat.npy` lie.
        n_items: items that the interactions name; a feature file may describe more, never fewer.

    Raises:
        DataError: a file is a pickle or broken, is not two-dimensional, not numeric or not finite, has too
            few rows, or not as many as the others.
    """
    arrays = {name: _matrix(path) for name, path in feature_files(folder).items()}
    for name, values in arrays.items():
        if len(values) < n_items:
            raise DataError(
                f"{name}{_SUFFIX} has {len(values)} rows, but there are {n_items} items; write one row per item id"
            )
    lengths = {f"{name}{_SUFFIX}": len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"feature files differ in length: {lengths}; write one row per item id in each")
    return {name: _features(values, f"{name}{_SUFFIX}") for name, values in arrays.items()}


def _matrix(path: Path) -> NDArray[np.float32]:
    try:
        values = np.load(path, allow_pickle=False)
    except ValueError as error:
        why = "holds pickled objects" if "pickle" in str(error) else f"is broken ({error})"
        raise DataError(
            f"{path.name} {why}; save a plain float32 array with numpy.save, pickles are refused"
        ) from error
    except (OSError, EOFError) as error:
        raise DataError(f"{path.name} is broken ({error}); save it again with numpy.save") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        raise DataError(f"{path.name} must hold numbers, got {getattr(values, 'dtype', 'an archive')}; save float32")
    if values.ndim != 2 or not values.shape[1]:
        raise DataError(f"{path.name} must be [n_items, width], got shape {values.shape}; save one row per item id")
    # A value beyond float32 becomes infinite here and is named by the check for finite values.
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _features(values: NDArray[np.float32], name: str) -> Features:
    present: Bools = np.asarray(~np.isnan(values).all(axis=1))
    bad = np.asarray(~np.isfinite(values).all(axis=1) & present)
    if bad.any():
        raise DataError(
            f"{name} must be finite, got NaN or infinity in {int(bad.sum())} rows, first in row "
            f"{int(np.argmax(bad))}; mend them, or set a whole row to NaN to mark it absent"
        )
    return Features(np.where(present[:, None], values, np.float32(0)), present)
