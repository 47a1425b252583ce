"""What the export scripts beside this file share: the files they write, and how a model's tables are found.

It runs in the environment of the model's own framework and needs numpy, torch and, for full scores, pyarrow. Nothing
here imports auditkit, and nothing that is written is a pickle. Copy this file along with a script.

A folder of one system holds one of

- `users.npy`, `items.npy`, float32 [n_users, d] and [n_items, d], whose product is what the model serves, with
  `user_ids.npy` and `item_ids.npy`, the data files' own ids as text;
- `scores.parquet`, columns `user` (own id) and `scores` (list of float32 in the order of `items.parquet`, column
  `item`), where the scores are no product of two small tables. They answer the questions of `auditkit points`, which
  are asked of some users only.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

Ids = NDArray[Any]
Predict = Callable[[NDArray[np.int64]], Tensor]
# What an export may consist of: of two kinds in one folder nobody could tell which is the system.
EXPORTED = ("users.npy", "items.npy", "user_ids.npy", "item_ids.npy", "scores.parquet", "items.parquet")
# Users asked at once: 40,000 items make 80 MB of float32.
BLOCK = 512
_PRODUCTS = (torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__)


class LastProduct(TorchFunctionMode):
    """While it is on, remembers the last matrix product: `factors` and `result`."""

    def __init__(self) -> None:
        super().__init__()
        self.factors: tuple[Tensor, Tensor] | None = None
        self.result: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by torch in place of every one of its functions."""
        made = func(*args, **(kwargs or {}))
        if func in _PRODUCTS and len(args) == 2 and args[0].ndim == args[1].ndim == 2:
            self.factors, self.result = (args[0], args[1]), made
        return made


def tables_of(predict: Predict, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor] | None:
    """The two tables whose product a model serves, seen while it predicts.

    Looking beats guessing by attribute: some models map their tables once more before they multiply them, and every
    framework names them differently.

    Args:
        predict: scores of all items for the users in some rows, [n, n_items].
        rows: every user's row in the model.

    Returns:
        Tables [n_rows, d] and [n_items, d]; None where the scores are not exactly the last product made, where its
        right side depends on the user, or where the tables would be no smaller than the scores.
    """
    users: list[Tensor] = []
    items: Tensor | None = None
    for start in range(0, len(rows), BLOCK):
        with torch.no_grad(), LastProduct() as last:
            scores = predict(rows[start : start + BLOCK])
        if last.factors is None or last.result is None or not torch.equal(last.result.flatten(), scores.flatten()):
            return None
        left, right = last.factors[0].detach().cpu(), last.factors[1].detach().cpu().T
        # A graph may be propagated anew for every block, and on a GPU not to the same last bit.
        if items is not None and not torch.allclose(items, right, rtol=1e-4, atol=1e-6):
            return None
        items = right if items is None else items
        users.append(left)
        if left.shape[1] * (len(rows) + len(items)) >= len(rows) * len(items):
            return None
    return (torch.cat(users), items) if items is not None else None


def write_system(
    folder: Path,
    predict: Predict,
    user_rows: NDArray[np.int64],
    item_rows: NDArray[np.int64],
    users: Ids,
    items: Ids,
    questions: Path | None = None,
) -> str:
    """Write one system: tables where the model is their product, else full scores; an earlier export of it goes.

    Args:
        folder: made where it does not exist.
        predict: scores of all the model's items for the users in some rows, on any device.
        user_rows, item_rows: the rows, in the model, of the users and items that are written.
        users, items: their ids, in the same order.
        questions: folder that `auditkit points` wrote: full scores are written of its users alone; None: of all.

    Returns:
        What was written, for a person: `tables of width 64` or `scores`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in EXPORTED:
        (folder / name).unlink(missing_ok=True)
    tables = tables_of(predict, user_rows)
    if tables is not None:
        return write_tables(folder, tables[0].numpy(), tables[1].numpy()[item_rows], users, items)
    asked = np.isin(as_text(users), column_of(questions / "users.parquet", "user")) if questions else slice(None)
    return write_scores(folder, _blocks(predict, user_rows[asked], item_rows), users[asked], items)


def column_of(path: Path, name: str) -> Ids:
    """A column of a Parquet file as text."""
    import pyarrow.parquet as pq

    return np.asarray(pq.read_table(path, columns=[name])[name].to_pylist()).astype(str)


def _blocks(predict: Predict, user_rows: NDArray[np.int64], item_rows: NDArray[np.int64]) -> Iterable[Any]:
    for start in range(0, len(user_rows), BLOCK):
        rows = user_rows[start : start + BLOCK]
        with torch.no_grad():
            yield predict(rows).reshape(len(rows), -1).cpu().numpy()[:, item_rows]


def write_tables(folder: Path, user_table: Any, item_table: Any, users: Ids, items: Ids) -> str:
    """Write two tables and the ids of their rows."""
    for name, values in (("users", user_table), ("items", item_table)):
        np.save(folder / f"{name}.npy", np.ascontiguousarray(values, np.float32), allow_pickle=False)
    for name, ids in (("user_ids", users), ("item_ids", items)):
        np.save(folder / f"{name}.npy", as_text(ids), allow_pickle=False)
    return f"tables of width {user_table.shape[1]}"


def write_scores(folder: Path, blocks: Iterable[Any], users: Ids, items: Ids) -> str:
    """Write full scores, block after block, so that they are never held at once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"item": as_text(items).tolist()}), folder / "items.parquet")
    names, start = as_text(users).tolist(), 0
    schema = pa.schema([("user", pa.string()), ("scores", pa.list_(pa.float32()))])
    with pq.ParquetWriter(folder / "scores.parquet", schema) as writer:
        for block in blocks:
            flat = pa.array(np.ascontiguousarray(block, np.float32).reshape(-1))
            bounds = pa.array(np.arange(len(block) + 1, dtype=np.int32) * block.shape[1])
            lists = pa.ListArray.from_arrays(bounds, flat)
            writer.write_table(pa.table([names[start : start + len(block)], lists], schema=schema))
            start += len(block)
    return "scores"


def as_text(ids: Ids | Sequence[Any]) -> Ids:
    """Ids as text without objects, and without what a tab-separated file cannot hold.

    Raises:
        ValueError: an id is empty, holds a tab or a line break, or begins or ends with a space.
    """
    text = np.asarray(ids).astype(str)
    bad = [name for name in text.tolist() if name != name.strip() or not name or set(name) & set("\t\r\n")]
    if bad:
        raise ValueError(f"{len(bad)} ids cannot stand in a tab-separated file, such as {bad[0]!r}; rename them")
    return text


def write_split(folder: Path, name: str, parts: Mapping[str, tuple[Ids, Ids]]) -> None:
    """Write interactions as RecBole's atomic files `<name>.<part>.inter`, which auditkit reads as a given split.

    Args:
        folder: `data.path` of the audit.
        name: of the data set.
        parts: train, valid, test -> own ids of users and items, pair by pair; parts without a pair are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part, (users, items) in parts.items():
        if not len(users):
            continue
        with (folder / f"{name}.{part}.inter").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
            writer.writerow(("user_id:token", "item_id:token"))
            writer.writerows(zip(as_text(users).tolist(), as_text(items).tolist(), strict=True))


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a small document, such as a framework's own metrics."""
    path.write_text(json.dumps(values, indent=1) + "\n", "utf-8")
