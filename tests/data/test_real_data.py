"""The readers on published data sets: the published counts, and the speed that a large file needs."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from auditkit.data.inspect import describe
from auditkit.data.readers import read

PUBLISHED = [
    ("tiktok", 9_308, 6_710, (59_541, 3_051, 6_130)),
    ("amazon-baby", 19_445, 7_050, (118_551, 21_682, 20_559)),
    ("ml-1m", 6_040, 3_416, (797_275, 0, 202_336)),
    ("gowalla", 29_858, 40_981, (810_128, 0, 217_242)),
]


@pytest.mark.parametrize(("name", "n_users", "n_items", "sizes"), PUBLISHED)
def test_published_splits(data_root: Path, name: str, n_users: int, n_items: int, sizes: tuple[int, int, int]) -> None:
    data, report = read(data_root / name)
    assert (data.n_users, data.n_items) == (n_users, n_items)
    assert (len(data.train), len(data.valid), len(data.test)) == sizes
    assert (report.format, report.split, report.rows) == ("mmrec", "file", sum(sizes))
    assert (report.duplicates, report.overlapping, report.empty_users) == (0, 0, 0)


def test_tiktok_features(data_root: Path) -> None:
    data, _ = read(data_root / "tiktok")
    assert data.modalities == ("audio", "image")
    assert data.features["image"].values.shape == (6_710, 128)
    raw = np.load(data_root / "tiktok" / "image_feat.npy", allow_pickle=False)
    assert np.array_equal(data.features["image"].values, raw)


def test_ml_100k_in_both_formats_is_one_data_set(data_root: Path, tmp_path: Path) -> None:
    mmrec, _ = read(data_root / "ml-100k")
    recbole, report = read(data_root / "ml-100k-recbole")
    assert (mmrec.n_users, mmrec.n_items, report.rows) == (943, 1_682, 100_000)
    assert mmrec.features["text"].values.shape == (1_682, 384)
    assert report.user_ids is not None
    assert report.item_ids is not None
    assert report.user_ids.tolist() == list(range(1, 944))
    assert report.item_ids.tolist() == list(range(1, 1_683))
    for part in ("train", "valid", "test"):
        assert len(getattr(mmrec, part)) == len(getattr(recbole, part))
    assert [column.name for column in report.sides["ml-100k.item"]][1] == "movie_title"
    lines = (data_root / "ml-100k-recbole" / "ml-100k.inter").read_text().split("\n", 1)[1]
    (tmp_path / "u.data").write_text(lines)
    assert read(tmp_path)[0].digest == recbole.digest


def test_ml_100k_ratings_and_core(data_root: Path) -> None:
    data, report = read(data_root / "ml-100k-recbole", positive="rating >= 4", k_core=10, split="leave-last-out")
    # 34,174 fours and 21,201 fives.
    assert report.rows - report.below_positive == 55_375
    kept = len(data.train) + len(data.valid) + len(data.test)
    assert kept == 55_375 - report.core_interactions
    parts = (data.train, data.valid, data.test)
    for ids in (np.concatenate([p.users for p in parts]), np.concatenate([p.items for p in parts])):
        assert np.unique(ids, return_counts=True)[1].min() >= 10
    assert "ratings" in dict(describe(data, report))


def test_gowalla_is_read_fast_in_both_layouts(data_root: Path, tmp_path: Path) -> None:
    start = time.process_time()
    data, _ = read(data_root / "gowalla")
    assert time.process_time() - start < 3
    for part in ("train", "test"):
        matrix = getattr(data, part).matrix(data.n_users, data.n_items)
        rows = (matrix.indices[a:b] for a, b in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True))
        lines = [" ".join(map(str, [user, *items.tolist()])) for user, items in enumerate(rows)]
        (tmp_path / f"{part}.txt").write_text("\n".join(lines) + "\n")
    start = time.process_time()
    again, report = read(tmp_path)
    assert time.process_time() - start < 3
    assert report.format == "lightgcn"
    for part in ("train", "test"):
        was, now = (np.sort(getattr(one, part).codes(data.n_items)) for one in (data, again))
        assert np.array_equal(was, now)
