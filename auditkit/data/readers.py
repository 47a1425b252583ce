"""Reading a data set from files: what was understood, what was dropped, and how it was divided.

Order of work: rows -> duplicates -> overlap of parts -> positive filter -> k-core -> split. Nothing is
dropped unsaid: every drop is counted in the `ReadReport`.

- A pair that stands twice within a part counts once, the last row. A pair that stands in two parts stays in
  the earlier one (train before valid before test).
- A rating or time that is empty, NaN or no number is an error that names the line. A negative rating is an
  error unless `positive` filters on the rating: some sources write -1 for "seen, not rated".
- Dropped users and items keep their ids and simply have no interactions.
- Without `split`, parts given by the files (labels or part files) are used; where the files give none,
  `random`, which is 0.8/0.1/0.1 per user: it leaves a validation part to stop training on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from auditkit.data.dataset import Bools, Dataset, Features, Interactions, Ints
from auditkit.data.formats import Format, Source, locate
from auditkit.data.lightgcn import read_lightgcn
from auditkit.data.mmrec import feature_files, read_features, read_mmrec
from auditkit.data.movielens import read_movielens
from auditkit.data.prepare import Positive, k_core
from auditkit.data.recbole import read_recbole
from auditkit.data.rows import PARTS, Column, Rows, tokens
from auditkit.data.splits import Parts, Split
from auditkit.data.splits import split as split_interactions
from auditkit.data.tables import Tokens, read_parquet, read_text
from auditkit.errors import ConfigurationError, DataError

DEFAULT_SPLIT = "random"
FILE_SPLIT = "file"


@dataclass(frozen=True)
class FeatureReport:
    """One feature file: modality, width, and how many of its rows are absent."""

    name: str
    width: int
    absent: int


@dataclass(frozen=True, eq=False)
class ReadReport:
    """What was understood of the files, and every drop, counted.

    Attributes:
        format: mmrec, recbole, movielens, lightgcn or table.
        files: names of the files read.
        rows: interactions in the files.
        n_users, n_items: sizes of the id spaces.
        duplicates: rows dropped because a later row holds the same pair.
        overlapping: rows dropped because an earlier part holds the same pair.
        positive: the filter as understood, or None.
        below_positive: rows that the filter dropped.
        k_core: the k asked for; 0 is off.
        core_interactions, core_users, core_items: dropped by the k-core.
        empty_users, empty_items: ids without any interaction in the end.
        features: of each modality.
        split: as used: "file", or a spec with its shares.
        user_ids, item_ids: original id of every id where ids were renumbered, else None.
        sides: side file -> its columns.
        notes: what else a person should know.
    """

    format: Format
    files: tuple[str, ...]
    rows: int
    n_users: int
    n_items: int
    duplicates: int
    overlapping: int
    positive: str | None
    below_positive: int
    k_core: int
    core_interactions: int
    core_users: int
    core_items: int
    empty_users: int
    empty_items: int
    split: str
    features: tuple[FeatureReport, ...] = ()
    user_ids: Tokens | None = None
    item_ids: Tokens | None = None
    sides: Mapping[str, tuple[Column, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read(
    path: str | Path,
    *,
    format: str = "auto",  # noqa: A002 - the name that the configuration gives it
    positive: str | None = None,
    split: str | None = None,
    k_core: int = 0,
    seed: int = 0,
) -> tuple[Dataset, ReadReport]:
    """Read a data set.

    Args:
        path: a file of interactions, or a folder that holds one data set.
        format: mmrec, recbole, movielens, lightgcn, table, or "auto": told by content.
        positive: which interactions count, such as "rating >= 4"; None: all.
        split: "file" (labels or part files), or a spec of `auditkit.data.splits`; None: "file" where the
            files say, else "random".
        k_core: users and items with fewer interactions are dropped until none is left; 0 is off.
        seed: of the random split.

    Returns:
        The data set, and the report on how it was read.

    Raises:
        ConfigurationError: an argument is not what it must be.
        DataError: the files are not what they must be; the message names file, line and remedy.
    """
    condition = None if positive is None else Positive.parse(positive)
    spec = None if split in (None, FILE_SPLIT) else Split.parse(str(split))
    source = locate(Path(path), format)
    rows = _READERS[source.format](source)
    if split == FILE_SPLIT and rows.labels is None:
        raise ConfigurationError(
            f"split = 'file' needs an x_label column or train/valid/test files, and {source.name} has "
            "neither; use 'random', 'leave-last-out' or 'global-time'"
        )
    _refuse_negative(rows, condition)
    features, notes = _features(source, rows)
    n_items = max([rows.n_items, *(len(feature.present) for feature in features.values())])
    rows = replace(rows, n_items=n_items, notes=rows.notes + notes)
    prepared, report = _prepare(_unlabelled(rows) if spec else rows, source.format, condition, k_core)
    (train, valid, test), used = _divided(prepared, spec, rows.n_users, seed)
    dataset = Dataset(source.name, rows.n_users, n_items, train, valid, test, features)
    summary = tuple(FeatureReport(n, f.values.shape[1], int((~f.present).sum())) for n, f in features.items())
    return dataset, replace(report, split=used, features=summary)


def _read_tables(source: Source) -> Rows:
    """Read CSV, TSV or Parquet files with named columns; ids are tokens."""
    return tokens({part: read_parquet(p) if _is_parquet(p) else read_text(p) for part, p in source.parts.items()})


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


_READERS: Mapping[Format, Callable[[Source], Rows]] = {
    "mmrec": read_mmrec,
    "recbole": read_recbole,
    "movielens": read_movielens,
    "lightgcn": read_lightgcn,
    "table": _read_tables,
}


def _refuse_negative(rows: Rows, condition: Positive | None) -> None:
    if rows.ratings is None or (condition is not None and condition.column == "rating"):
        return
    if (rows.ratings < 0).any():
        row = int(np.argmax(rows.ratings < 0))
        raise DataError(
            f"interaction {row + 1} has rating {rows.ratings[row]:g}; ratings must be 0 or above, "
            "unless `positive` says which count, such as 'rating >= 0'"
        )


def _features(source: Source, rows: Rows) -> tuple[dict[str, Features], tuple[str, ...]]:
    """Features beside 0-based files, and notes on what lies there unused."""
    notes = [f"ignored {path.name}: sparse features are not read" for path in sorted(source.folder.glob("*.npz"))]
    if rows.item_ids is None:
        return read_features(source.folder, rows.n_items), tuple(notes)
    unused = [path.name for path in feature_files(source.folder).values()]
    if unused:
        notes.append(f"ignored {', '.join(unused)}: ids were renumbered; features need 0-based ids (format='mmrec')")
    return {}, tuple(notes)


def _unlabelled(rows: Rows) -> Rows:
    if rows.labels is None:
        return rows
    return replace(
        rows, labels=None, notes=(*rows.notes, "parts given by the files are not used: a split was asked for")
    )


def _prepare(
    rows: Rows,
    written: Format,
    condition: Positive | None,
    k: int,
) -> tuple[list[Interactions], ReadReport]:
    """Drop what does not count from one part (unlabelled) or three, and count it."""
    parts, duplicates = _deduplicated(rows)
    parts, overlapping = _disjoint(parts, rows.n_items)
    parts, below = _positives(parts, condition)
    before = _degrees(parts, rows)
    parts, cut = _core(parts, k)
    after = _degrees(parts, rows)
    if not len(parts[0]):
        filters = [str(condition)] if condition else []
        filters += [f"k_core = {k}"] if k else []
        raise DataError(
            f"no train interaction is left of {len(rows.users)} rows after {' and '.join(filters)}; relax them"
        )
    lost = [int(((old > 0) & (new == 0)).sum()) for old, new in zip(before, after, strict=True)]
    return parts, ReadReport(
        format=written,
        files=rows.files,
        rows=len(rows.users),
        n_users=rows.n_users,
        n_items=rows.n_items,
        duplicates=duplicates,
        overlapping=overlapping,
        positive=None if condition is None else str(condition),
        below_positive=below,
        k_core=k,
        core_interactions=cut,
        core_users=lost[0],
        core_items=lost[1],
        empty_users=int((after[0] == 0).sum()),
        empty_items=int((after[1] == 0).sum()),
        split=FILE_SPLIT,
        user_ids=rows.user_ids,
        item_ids=rows.item_ids,
        sides=rows.sides or {},
        notes=rows.notes,
    )


def _deduplicated(rows: Rows) -> tuple[list[Interactions], int]:
    everything = np.ones(len(rows.users), np.bool_)
    masks = [everything] if rows.labels is None else [rows.labels == part for part in range(len(PARTS))]
    made = [_unique(rows, mask) for mask in masks]
    return [interactions for interactions, _ in made], sum(dropped for _, dropped in made)


def _unique(rows: Rows, mask: Bools) -> tuple[Interactions, int]:
    ratings = None if rows.ratings is None else rows.ratings[mask]
    times = None if rows.times is None else rows.times[mask]
    return Interactions.unique(rows.users[mask], rows.items[mask], ratings, times)


def _disjoint(parts: list[Interactions], n_items: int) -> tuple[list[Interactions], int]:
    """Take from every part the pairs that an earlier one holds."""
    seen = parts[0].codes(n_items)
    kept, dropped = [parts[0]], 0
    for part in parts[1:]:
        codes = part.codes(n_items)
        again = np.isin(codes, seen, assume_unique=True)
        kept.append(part.take(~again))
        dropped += int(again.sum())
        seen = np.concatenate([seen, codes[~again]])
    return kept, dropped


def _positives(parts: list[Interactions], condition: Positive | None) -> tuple[list[Interactions], int]:
    if condition is None:
        return parts, 0
    kept = [part.take(condition.holds(part)) for part in parts]
    return kept, sum(map(len, parts)) - sum(map(len, kept))


def _core(parts: list[Interactions], k: int) -> tuple[list[Interactions], int]:
    """The k-core of all parts together."""
    stays = k_core(np.concatenate([p.users for p in parts]), np.concatenate([p.items for p in parts]), k)
    bounds = np.cumsum([len(part) for part in parts])[:-1]
    kept = [part.take(mask) for part, mask in zip(parts, np.split(stays, bounds), strict=True)]
    return kept, int((~stays).sum())


def _degrees(parts: list[Interactions], rows: Rows) -> tuple[Ints, Ints]:
    users = sum(np.bincount(part.users, minlength=rows.n_users) for part in parts)
    items = sum(np.bincount(part.items, minlength=rows.n_items) for part in parts)
    return np.asarray(users, np.int64), np.asarray(items, np.int64)


def _divided(parts: list[Interactions], spec: Split | None, n_users: int, seed: int) -> tuple[Parts, str]:
    if len(parts) == len(PARTS):
        return (parts[0], parts[1], parts[2]), FILE_SPLIT
    wanted = spec or Split.parse(DEFAULT_SPLIT)
    return split_interactions(parts[0], wanted, n_users=n_users, seed=seed), str(wanted)
