"""What a person should know about a data set before auditing on it, as plain rows of label and text."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from auditkit.data.dataset import Dataset, Interactions, Ints
from auditkit.data.readers import ReadReport

_QUANTILES = (0, 25, 50, 75, 90, 100)
_MOST_RATINGS = 12
_WARNING = "warning"


def describe(dataset: Dataset, report: ReadReport) -> list[tuple[str, str]]:
    """Rows of (label, text): what was understood, sizes, parts, distributions, features, drops, warnings.

    Args:
        dataset: as read.
        report: that came with it.

    Returns:
        Rows in reading order; several rows may bear one label ("note", "warning").
    """
    return [
        *_understood(dataset, report),
        *_sizes(dataset),
        *_distributions(dataset),
        *_features(report),
        *_drops(report),
        *(("note", note) for note in report.notes),
        *((_WARNING, warning) for warning in warnings_of(dataset)),
    ]


def warnings_of(dataset: Dataset) -> Iterator[str]:
    """What may surprise later, in whole sentences."""
    if not len(dataset.valid):
        yield "there is no validation part: training cannot stop early on it"
    if not len(dataset.test):
        yield "there is no test part: utility cannot be measured"
    for part in ("valid", "test"):
        pairs: Interactions = getattr(dataset, part)
        for kind in ("users", "items"):
            unseen = len(np.setdiff1d(getattr(pairs, kind), getattr(dataset.train, kind)))
            if unseen:
                yield f"{unseen:,} {kind} of the {part} part have no train interaction"


def _understood(dataset: Dataset, report: ReadReport) -> Iterator[tuple[str, str]]:
    yield "name", dataset.name
    yield "format", report.format
    yield "files", ", ".join(report.files)
    yield "ids", "0-based, as in the files" if report.user_ids is None else "renumbered in sorted order"
    yield "split", report.split
    if report.positive is not None:
        yield "positive", report.positive
    if report.k_core:
        yield "k-core", str(report.k_core)


def _sizes(dataset: Dataset) -> Iterator[tuple[str, str]]:
    total = sum(len(part) for part in _parts(dataset))
    yield "users", f"{dataset.n_users:,}"
    yield "items", f"{dataset.n_items:,}"
    yield "interactions", f"{total:,}"
    yield "density", f"{total / (dataset.n_users * dataset.n_items):.4%}"
    yield "train/valid/test", "/".join(f"{len(part):,}" for part in _parts(dataset))


def _parts(dataset: Dataset) -> tuple[Interactions, Interactions, Interactions]:
    return dataset.train, dataset.valid, dataset.test


def _distributions(dataset: Dataset) -> Iterator[tuple[str, str]]:
    users = np.concatenate([part.users for part in _parts(dataset)])
    items = np.concatenate([part.items for part in _parts(dataset)])
    yield "interactions per user", _quantiles(users)
    yield "interactions per item", _quantiles(items)
    ratings = [part.ratings for part in _parts(dataset) if part.ratings is not None]
    if ratings:
        yield "ratings", _histogram(np.concatenate(ratings))
    times = [part.times for part in _parts(dataset) if part.times is not None]
    if times:
        joined = np.concatenate(times)
        yield "times", f"{joined.min()} to {joined.max()}"


def _quantiles(ids: Ints) -> str:
    """Quantiles of the degrees of the ids that occur."""
    degrees = np.unique(ids, return_counts=True)[1]
    values = np.percentile(degrees, _QUANTILES)
    names = ["min", *(f"{q}%" for q in _QUANTILES[1:-1]), "max"]
    return ", ".join(f"{name} {value:g}" for name, value in zip(names, values, strict=True))


def _histogram(ratings: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    values, counts = np.unique(ratings, return_counts=True)
    if len(values) <= _MOST_RATINGS:
        return ", ".join(f"{value:g}: {count:,}" for value, count in zip(values, counts, strict=True))
    counts, edges = np.histogram(ratings, bins=10)
    return ", ".join(f"{edges[k]:g} to {edges[k + 1]:g}: {count:,}" for k, count in enumerate(counts))


def _features(report: ReadReport) -> Iterator[tuple[str, str]]:
    for feature in report.features:
        yield f"features {feature.name}", f"{feature.width} wide, {feature.absent:,} rows absent"
    for file, columns in report.sides.items():
        yield f"columns of {file}", ", ".join(f"{c.name} ({c.kind}, {c.filled:,} filled)" for c in columns)
        floats = [column.name for column in columns if column.kind.startswith("float")]
        if floats:
            yield f"float columns of {file}", ", ".join(floats)


def _drops(report: ReadReport) -> Iterator[tuple[str, str]]:
    yield "rows read", f"{report.rows:,}"
    counted = {
        "duplicates dropped": report.duplicates,
        "pairs dropped, held by an earlier part": report.overlapping,
        "rows dropped, not positive": report.below_positive,
        "interactions dropped by the k-core": report.core_interactions,
        "users dropped by the k-core": report.core_users,
        "items dropped by the k-core": report.core_items,
        "users without interactions": report.empty_users,
        "items without interactions": report.empty_items,
    }
    yield from ((label, f"{count:,}") for label, count in counted.items() if count)
