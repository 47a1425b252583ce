"""Telling formats apart by content, and finding the files that belong together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from auditkit.data.rows import roles_of
from auditkit.data.tables import delimiter_of, first_line
from auditkit.errors import ConfigurationError, DataError

Format = Literal["mmrec", "recbole", "movielens", "lightgcn", "table"]
FORMATS: Mapping[Format, str] = {
    "mmrec": "MMRec: .inter (userID, itemID, x_label, ...) with *_feat.npy beside it.",
    "recbole": "RecBole atomic files: .inter, .item, .user with name:type headers.",
    "movielens": "MovieLens: u.data, ratings.dat or ratings.csv.",
    "lightgcn": "LightGCN: train.txt and test.txt, one user and its items a line.",
    "table": "CSV, TSV or Parquet with named columns.",
}
TYPED = re.compile(r"(.+):(token|token_seq|float|float_seq)")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_HEAD = 1 << 16
_PART_WORDS: Mapping[str, str] = {"train": "train", "valid": "valid", "val": "valid", "test": "test"}
# Names that data sets are published under, first come first served where a folder holds more than one table.
_PUBLISHED = ("u.data", "ratings.dat", "ratings.csv")
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (
        b"\x93NUMPY",
        "is a NumPy array, not a table of interactions; name the folder or the .inter file beside it",
    ),
    (
        b"\x80",
        "looks like a pickle; pickles run code when they are read and are refused, write a table instead",
    ),
    (b"PK\x03\x04", "is a zip archive; unpack it first"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
    (b"\xff\xfe", "is UTF-16; convert it with `iconv -f utf-16 -t utf-8`"),
    (b"\xfe\xff", "is UTF-16; convert it with `iconv -f utf-16 -t utf-8`"),
)


@dataclass(frozen=True)
class Source:
    """Files that together hold one data set.

    Attributes:
        format: how they are written.
        parts: "all", or "train", "valid" and "test" -> file.
        name: of the data set.
    """

    format: Format
    parts: Mapping[str, Path]
    name: str

    @property
    def folder(self) -> Path:
        """Where the files, and features beside them, lie."""
        return next(iter(self.parts.values())).parent


def locate(path: Path, wanted: str = "auto") -> Source:
    """Find the interaction files at `path` and how they are written.

    Args:
        path: a file, or a folder that holds one data set. Naming the train part brings the others along.
        wanted: a format, or "auto": told by content.

    Raises:
        ConfigurationError: an unknown format.
        DataError: nothing there, nothing readable, or more than one data set.
    """
    known = ("auto", *get_args(Format))
    if wanted not in known:
        raise ConfigurationError(f"format must be one of {', '.join(known)}, got {wanted!r}")
    if not path.exists():
        raise DataError(f"{path} does not exist; name a file of interactions or a folder that holds one")
    source = _in_folder(path, wanted) if path.is_dir() else _at_file(path, wanted)
    return source if wanted == "auto" else Source(cast(Format, wanted), source.parts, source.name)


def sniff(path: Path) -> Format | None:
    """The format of a file of interactions, told by its first bytes; None where it is none of ours."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"PAR1"):
        return "table"
    if not head.strip() or b"\0" in head or any(head.startswith(magic) for magic, _ in _MAGIC):
        return None
    return _told_by(first_line(head.removeprefix(b"\xef\xbb\xbf"))[0])


def _told_by(line: str) -> Format | None:
    cells = [cell.strip() for cell in line.split("\t")]
    # One typed column is enough: the reader says which others lack their type.
    if any(TYPED.fullmatch(cell) for cell in cells):
        return "recbole" if {"user", "item"} <= set(_roles([TYPED.sub(r"\1", cell) for cell in cells])) else None
    if {"userID", "itemID"} <= set(cells):
        return "mmrec"
    for delimiter in ("\t", "::"):
        if len(row := line.split(delimiter)) == 4 and all(_NUMBER.fullmatch(cell.strip()) for cell in row):
            return "movielens"
    if all(cell.isdigit() for cell in line.split()):
        return "lightgcn"
    if {"userId", "movieId", "rating"} <= {cell.strip() for cell in line.split(",")}:
        return "movielens"
    named = _roles([cell.strip(' "') for cell in line.split(delimiter_of(line))])
    return "table" if {"user", "item"} <= set(named) else None


def _roles(names: list[str]) -> list[str]:
    try:
        return list(roles_of(names))
    except DataError:
        # An ambiguous table is still a table: its reader says which columns collide.
        return ["user", "item"]


def _at_file(path: Path, wanted: str) -> Source:
    found = cast(Format, wanted) if wanted != "auto" else sniff(path)
    if found is None:
        raise _refusal(path)
    part, key = _part(path)
    parts = {"all": path}
    if part == "train":
        parts = _siblings([other for other in path.parent.iterdir() if other.is_file()], key)
    return Source(found, parts, _stem(path))


def _in_folder(folder: Path, wanted: str) -> Source:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    fitting = {path: found for path in files if (found := sniff(path)) is not None and wanted in ("auto", found)}
    if not fitting:
        shown = ", ".join(path.name for path in files[:12]) or "no file"
        what = "interactions" if wanted == "auto" else f"{wanted} interactions"
        raise DataError(f"no {what} in folder {folder.name}; found {shown}; name the file, or its format")
    parts = _preferred(_groups(list(fitting)), folder)
    return Source(fitting[next(iter(parts.values()))], parts, folder.resolve().name)


def _groups(files: list[Path]) -> list[dict[str, Path]]:
    """Part files with a train part, together; every other file alone."""
    grouped = [_siblings(files, key) for part, key in map(_part, files) if part == "train"]
    taken = {path for group in grouped for path in group.values()}
    return grouped + [{"all": path} for path in files if path not in taken]


def _preferred(groups: list[dict[str, Path]], folder: Path) -> dict[str, Path]:
    ranks = [_rank(group, folder) for group in groups]
    if ranks.count(min(ranks)) > 1:
        shown = ", ".join(sorted(path.name for group in groups for path in group.values())[:12])
        raise DataError(f"folder {folder.name} holds more than one file of interactions: {shown}; name one of them")
    return groups[ranks.index(min(ranks))]


def _rank(group: Mapping[str, Path], folder: Path) -> int:
    """How plainly a group is the data set of the folder; 0 is plainest."""
    name = group.get("all", Path()).name
    if name == f"{folder.resolve().name}.inter":
        return 0
    if name in _PUBLISHED:
        return 1 + _PUBLISHED.index(name)
    if "train" in group:
        return len(_PUBLISHED) + 1
    return len(_PUBLISHED) + (2 if name.endswith(".inter") else 3)


def _part(path: Path) -> tuple[str | None, tuple[str, ...]]:
    """Which part a file name says it is (train.txt, x.valid.inter), and what is left of the name."""
    words = path.name.lower().split(".")
    for word in words:
        if word in _PART_WORDS:
            return _PART_WORDS[word], tuple(other for other in words if other != word)
    return None, tuple(words)


def _siblings(files: list[Path], key: tuple[str, ...]) -> dict[str, Path]:
    parts = {part: path for path in files for part, rest in [_part(path)] if part is not None and rest == key}
    return {part: parts[part] for part in ("train", "valid", "test") if part in parts}


def _stem(path: Path) -> str:
    words = [word for word in path.name.split(".")[:-1] if word.lower() not in _PART_WORDS]
    return ".".join(words) or path.resolve().parent.name


def _refusal(path: Path) -> DataError:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head.strip():
        return DataError(f"{path.name} is empty; expected interactions")
    for magic, why in _MAGIC:
        if head.startswith(magic):
            return DataError(f"{path.name} {why}")
    if b"\0" in head:
        return DataError(f"{path.name} is a binary file of unknown kind; write a table (CSV, TSV or Parquet)")
    return _unknown_text(path, first_line(head)[0])


def _unknown_text(path: Path, line: str) -> DataError:
    cells = [cell.strip() for cell in line.split(delimiter_of(line))]
    if any(_NUMBER.fullmatch(cell) for cell in cells):
        return DataError(
            f"{path.name} has no header and is neither u.data (4 numbers, tabs), ratings.dat (::) "
            f"nor LightGCN (user item item ...); its first line is {line[:80]!r}; "
            "name the columns in a header line"
        )
    missing = " and no ".join(role for role in ("user", "item") if role not in _roles(cells))
    return DataError(
        f"{path.name} has no {missing} column; columns found: {', '.join(cells)[:200]}; call them user_id and item_id"
    )
