"""Features of items from their text, by an encoder on disk: the extra `auditkit[text]`.

Needed once per data set: what comes out is saved as `text_feat.npy` beside the interactions and read like any other
features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError

from auditkit.data.dataset import Features, Ints
from auditkit.data.rows import roles_of, size_of
from auditkit.data.tables import Table, first_line, read_text, text_of
from auditkit.errors import ConfigurationError, DataError
from auditkit.writing import replace_file

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_MODULES = "modules.json"
# The one name under which pickled weights would be read where a module has no safetensors.
_PICKLE = "pytorch_model.bin"


def text_features(texts: Sequence[str], encoder: Path) -> Features:
    """Encode one text per item; vectors have the length that the encoder gives them.

    The encoder is loaded from its folder alone: nothing is fetched, no code of the folder is run, and weights are read
    from safetensors, never from pickles. It runs on the CPU. Text beyond the encoder's longest input is cut off.

    Args:
        texts: of every item; empty or blank ones make absent rows.
        encoder: folder as `SentenceTransformer.save` writes it.

    Returns:
        float32 [n_items, width]; absent rows hold zeros.

    Raises:
        ConfigurationError: the extra is not installed, or the folder is no encoder that can be loaded so.
        DataError: no item has text.
    """
    present = np.array([bool(text.strip()) for text in texts], np.bool_)
    if not present.any():
        raise DataError(f"none of the {len(texts)} items has text; at least one row must have some")
    found = _loaded(encoder).encode([text for text in texts if text.strip()], show_progress_bar=False)
    values = np.zeros((len(texts), found.shape[1]), np.float32)
    values[present] = found
    return Features(values, present)


def item_texts(path: Path, *, id_column: str | None = None, text_columns: Sequence[str] = ()) -> list[str]:
    """Read the text of every item from a tab-separated file with one row per item, UTF-8.

    The first line names the columns, unless its first cell is an integer: then they are called 1, 2, 3, ...

    Args:
        path: the file.
        id_column: holds the 0-based ids; None: the one that is named like an item, or `id`, or is called 1.
        text_columns: joined by spaces, in this order; empty: all but the ids, in the order of the file.

    Returns:
        One text per id up to the largest, line breaks and runs of spaces made one space; "" where an id has no row.

    Raises:
        ConfigurationError: a column is not there, or cannot be told.
        DataError: the file cannot be read, an id is no 0-based integer or stands twice.
    """
    table = _table(path)
    id_column = id_column or _id_column(table)
    chosen = list(text_columns) or [name for name in table.columns if name != id_column]
    missing = ", ".join(repr(name) for name in (id_column, *chosen) if name not in table.columns)
    if missing or not chosen:
        raise ConfigurationError(
            f"{path.name} has no column {missing or 'of text beside the ids'}; columns found, separated by tabs: "
            f"{', '.join(table.columns)}"
        )
    ids = table.ids(id_column)
    _refuse_twice(table, id_column, ids)
    texts = [""] * size_of(ids, "item")
    for item, *cells in zip(ids, *(table.columns[name].to_pylist() for name in chosen), strict=True):
        texts[item] = " ".join(" ".join(cells).split())
    return texts


def write_features(features: Features, path: Path) -> None:
    """Write a feature file, float32 [n_items, width] with absent rows NaN, whole or not at all.

    Args:
        features: of one modality.
        path: `<modality>_feat.npy`, as the readers look for it.

    Raises:
        StoreError: the folder cannot be written.
    """
    values = np.where(features.present[:, None], features.values, np.float32(np.nan))

    def save(scratch: Path) -> None:
        with scratch.open("wb") as file:
            np.save(file, values, allow_pickle=False)

    replace_file(path, save)


def check_encoder(encoder: Path) -> None:
    """Raise a ConfigurationError unless the folder holds an encoder with weights as safetensors alone."""
    if not (encoder / _MODULES).is_file():
        raise ConfigurationError(
            f"encoder must be a folder that SentenceTransformer.save wrote ({_MODULES} in it), got {encoder}; "
            f"get one beforehand: nothing is fetched"
        )
    for path in sorted(encoder.rglob(_PICKLE)):
        if not any(path.parent.glob("*.safetensors")):
            raise ConfigurationError(
                f"encoder {encoder} has pickled weights ({path.relative_to(encoder)}), which run code when they are "
                f"read; save it again with safe_serialization=True"
            )


def _loaded(encoder: Path) -> SentenceTransformer:
    check_encoder(encoder)
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ConfigurationError(
            f"text features need sentence-transformers ({error}); install it with `pip install 'auditkit[text]'`, or "
            f"make text_feat.npy elsewhere"
        ) from error
    try:
        return SentenceTransformer(
            str(encoder),
            device="cpu",
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ConfigurationError(
            f"encoder {encoder} cannot be loaded ({error}); choose one that needs no code of its own, no network and "
            f"no pickles, or save it again"
        ) from error


def _table(path: Path) -> Table:
    if not path.is_file():
        raise DataError(f"{path} is no file; name a tab-separated one with a column of ids and one of text")
    cells = first_line(text_of(path))[0].split("\t")
    names = [str(k) for k in range(1, len(cells) + 1)] if cells[0].strip().isdigit() else None
    return read_text(path, names=names, delimiter="\t")


def _id_column(table: Table) -> str:
    found = roles_of(list(table.columns)).get("item")
    known = [name for name in (found, "id", "1") if name in table.columns]
    if not known:
        raise ConfigurationError(
            f"which column of {table.path.name} holds the item ids? say it with --id; columns found, separated by "
            f"tabs: {', '.join(table.columns)}"
        )
    return str(known[0])


def _refuse_twice(table: Table, name: str, ids: Ints) -> None:
    order = np.argsort(ids, kind="stable")
    later = order[1:][ids[order][1:] == ids[order][:-1]]
    if len(later):
        row = int(later.min())
        raise DataError(f"{table.where(row)}: {name} {ids[row]} stands in an earlier row too; keep one row per item")
