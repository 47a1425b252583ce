"""Small questions of a made-up data set with good answers, to be read or spoiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from auditkit.outside import tables
from auditkit.outside.question_files import Questions, history_id, put
from auditkit.outside.source import Ids, Source
from auditkit.requests import Names

USERS, ITEMS = [f"u{k}" for k in range(8)], [f"i{k}" for k in range(6)]
IDS = Ids(8, 6, Names(np.array(USERS), np.array(ITEMS)))
ASKED = USERS[:5]
TOLD = (("i0", "i1"), ("i3",))
HISTORIES = {history_id("user", told): told for told in TOLD}
LEFT_OUT = pd.DataFrame({"user": ["u0", "u0", "u1"], "item": ["i0", "i1", "i2"]})
SCORES = np.random.default_rng(0).standard_normal((5, 6))
FRESH = np.random.default_rng(1).standard_normal((2, 6))
LISTS = [["i2", "i3", "i4"], ["i0", "i1", "i3"], ["i0", "i1", "i2"], ["i5", "i4", "i3"], ["i1", "i2", "i3"]]


def write(path: Path, attrs: dict[str, str] | None = None, **columns: Any) -> None:
    table = pd.DataFrame(columns)
    table.attrs.update(attrs or {})
    table.to_parquet(path, index=False)


def write_scores(folder: Path, users: Any = ASKED, scores: Any = SCORES, **attrs: str) -> None:
    write(folder / "scores.parquet", attrs, user=users, scores=list(scores))


def write_lists(folder: Path, lists: Any = LISTS, users: Any = ASKED, **attrs: str) -> None:
    write(folder / "lists.parquet", attrs, user=users, items=lists)


def lay_scores(folder: Path) -> Path:
    """Questions that want scores under points/, good answers under ours/."""
    (folder / "points").mkdir()
    (folder / "ours").mkdir()
    put(Questions("scores", tuple(ASKED), tuple(ITEMS), histories=HISTORIES), folder / "points")
    write_scores(folder / "ours")
    write(folder / "ours" / "items.parquet", item=ITEMS)
    write(folder / "ours" / "folded.parquet", history=list(HISTORIES), scores=list(FRESH))
    return folder


def lay_lists(folder: Path) -> Path:
    """Questions that want lists under points/, good answers under ours/."""
    (folder / "points").mkdir()
    (folder / "ours").mkdir()
    asked = Questions(
        "lists", tuple(ASKED), tuple(ITEMS), histories=HISTORIES, left_out=LEFT_OUT.astype(object), length=3
    )
    put(asked, folder / "points")
    write_lists(folder / "ours")
    write(folder / "ours" / "folded.parquet", history=list(HISTORIES), items=[["i5", "i3", "i2"], ["i0", "i5", "i4"]])
    return folder


def opened(folder: Path, **options: Any) -> Source:
    return tables.source("ours", IDS, {"questions": "points", **options}, folder=folder)


def changed(values: np.ndarray[Any, Any], place: Any, value: float) -> np.ndarray[Any, Any]:
    made = values.copy()
    made[place] = value
    return made


def arrow(folder: Path, name: str = "scores.parquet", **columns: pa.Array) -> None:
    pq.write_table(pa.table(columns), folder / name)
