"""Every reader on a small written file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from auditkit.data.dataset import Interactions
from auditkit.data.readers import read
from auditkit.errors import ConfigurationError, DataError

MMREC = "userID\titemID\trating\ttimestamp\tx_label\n"
MMREC += "0\t0\t5\t10\t0\n0\t1\t4\t11\t1\n1\t1\t3\t12\t0\n1\t2\t2\t13\t2\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def pairs(part: Interactions) -> list[tuple[int, int]]:
    return list(zip(part.users.tolist(), part.items.tolist(), strict=True))


def test_mmrec_honours_labels_and_reads_features_beside(tmp_path: Path) -> None:
    write(tmp_path / "toy.inter", MMREC)
    image = np.arange(8, dtype=np.float64).reshape(4, 2)
    image[1] = np.nan
    np.save(tmp_path / "image_feat.npy", image)
    np.save(tmp_path / "text_feat.npy", np.ones((4, 3), np.float32))
    np.savez(tmp_path / "item_category.npz", data=np.ones(1))
    data, report = read(tmp_path)
    assert (data.n_users, data.n_items, data.name) == (2, 4, tmp_path.name)
    assert [pairs(p) for p in (data.train, data.valid, data.test)] == [[(0, 0), (1, 1)], [(0, 1)], [(1, 2)]]
    assert data.train.ratings is not None
    assert data.train.ratings.tolist() == [5, 3]
    assert data.modalities == ("image", "text")
    assert data.features["image"].present.tolist() == [True, False, True, True]
    assert data.features["image"].values[2].tolist() == [4, 5]
    assert (report.format, report.split, report.rows, report.empty_items) == ("mmrec", "file", 4, 1)
    assert [(f.name, f.width, f.absent) for f in report.features] == [("image", 2, 1), ("text", 3, 0)]
    assert report.user_ids is None
    assert any("item_category.npz" in note for note in report.notes)


def test_mmrec_ignores_extra_columns_and_byte_order_marks_and_carriage_returns(tmp_path: Path) -> None:
    path = tmp_path / "toy.inter"
    path.write_bytes(b"\xef\xbb\xbfuserID\tcity\titemID\r\n0\tx\t3\r\n\r\n2\ty\t0")
    data, report = read(path)
    assert (data.n_users, data.n_items) == (3, 4)
    assert report.notes == ("columns ignored: city",)
    assert (report.empty_users, report.empty_items) == (1, 2)


def test_recbole_numbers_tokens_in_numeric_order_and_lists_side_columns(tmp_path: Path) -> None:
    write(
        tmp_path / "toy.inter",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n10\tb\t3\t7.5\n9\ta\t4\t8\n",
    )
    write(tmp_path / "toy.item", "item_id:token\tprice:float\ttags:token_seq\na\t1.5\tx y\nb\t\tz\n")
    (tmp_path / "toy.user").write_bytes("user_id:token\ttown:token\n9\tLübeck\n10\tUlm\n".encode("latin-1"))
    data, report = read(tmp_path, split="random:1/0/0")
    assert report.user_ids is not None
    assert report.item_ids is not None
    assert report.user_ids.tolist() == [9, 10]
    assert report.item_ids.tolist() == ["a", "b"]
    assert pairs(data.train) == [(1, 1), (0, 0)]
    assert data.train.times is not None
    assert data.train.times.tolist() == [7, 8]
    assert [(c.name, c.kind, c.filled) for c in report.sides["toy.item"]] == [
        ("item_id", "token", 2),
        ("price", "float", 1),
        ("tags", "token_seq", 2),
    ]
    assert [c.name for c in report.sides["toy.user"]] == ["user_id", "town"]


def test_recbole_part_files(tmp_path: Path) -> None:
    head = "user_id:token\titem_id:token\n"
    for part, row in (("train", "7\tx"), ("valid", "7\ty"), ("test", "8\tz")):
        write(tmp_path / f"toy.{part}.inter", f"{head}{row}\n")
    data, report = read(tmp_path)
    assert [pairs(p) for p in (data.train, data.valid, data.test)] == [[(0, 0)], [(0, 1)], [(1, 2)]]
    assert report.split == "file"
    assert len(report.files) == 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("u.data", "5\t20\t3\t100\n4\t30\t5\t90\n"),
        ("ratings.dat", "5::20::3::100\n4::30::5::90\n"),
        ("ratings.csv", "userId,movieId,rating,timestamp\n5,20,3.0,100\n4,30,5.0,90\n"),
    ],
)
def test_movielens_layouts_read_alike(tmp_path: Path, name: str, text: str) -> None:
    # The name says nothing: content tells the format.
    for path in (write(tmp_path / "a" / name, text).parent, write(tmp_path / "something.txt", text)):
        data, report = read(path, split="random:1/0/0")
        assert report.format == "movielens"
        assert pairs(data.train) == [(1, 0), (0, 1)]
        assert data.train.ratings is not None
        assert data.train.times is not None
        assert (data.train.ratings.tolist(), data.train.times.tolist()) == ([3, 5], [100, 90])
        assert report.item_ids is not None
        assert report.item_ids.tolist() == [20, 30]


def test_movielens_folder_prefers_the_whole_over_published_folds(tmp_path: Path) -> None:
    for name in ("u.data", "u1.base", "u1.test"):
        write(tmp_path / name, "1\t1\t3\t100\n" if name != "u.data" else "1\t1\t3\t100\n2\t1\t3\t100\n")
    assert read(tmp_path)[1].files == ("u.data",)


def test_lightgcn_tolerates_empty_users_and_trailing_spaces(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", "0 1 2 \n1\n\n2 0\n")
    write(tmp_path / "test.txt", "0 0\n3 \n")
    data, report = read(tmp_path)
    assert pairs(data.train) == [(0, 1), (0, 2), (2, 0)]
    assert pairs(data.test) == [(0, 0)]
    assert (data.n_users, data.n_items, report.split, report.empty_users) == (4, 3, "file", 2)
    assert report.notes == ("lines of a user without items: 2",)
    assert read(tmp_path / "train.txt")[0].digest == data.digest


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_tables_with_named_columns(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame(
        {
            "UID": ["b", "a", "b"],
            "Product ID": [7, 5, 5],
            "stars": [1.0, 2.5, 4.0],
            "split": ["train", "train", "test"],
        }
    )
    path = tmp_path / f"log.{suffix}"
    if suffix == "parquet":
        frame.astype({"UID": "category"}).to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="," if suffix == "csv" else "\t")
    data, report = read(path)
    assert report.format == "table"
    assert pairs(data.train) == [(1, 1), (0, 0)]
    assert pairs(data.test) == [(1, 0)]
    assert report.user_ids is not None
    assert report.user_ids.tolist() == ["a", "b"]


def test_parquet_dates_become_seconds(tmp_path: Path) -> None:
    times = pd.to_datetime(["1970-01-01 00:00:05.5", "1970-01-02 00:00:00.0"])
    pd.DataFrame({"user": [1, 2], "item": [3, 4], "time": times}).to_parquet(tmp_path / "x.parquet")
    data, _ = read(tmp_path / "x.parquet", split="random:1/0/0")
    assert data.train.times is not None
    assert data.train.times.tolist() == [5, 86400]


def test_tokens_with_leading_zeros_stay_distinct(tmp_path: Path) -> None:
    data, report = read(write(tmp_path / "x.csv", "user,item\n007,1\n7,1\n"), split="random:1/0/0")
    assert data.n_users == 2
    assert report.user_ids is not None
    assert report.user_ids.tolist() == ["007", "7"]


def test_features_beside_token_formats_are_not_mistaken_for_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "user,item\n0,5\n1,9\n")
    np.save(tmp_path / "image_feat.npy", np.ones((10, 2)))
    data, report = read(path)
    assert data.features == {}
    assert any("image_feat.npy" in note for note in report.notes)
    data, _ = read(path, format="mmrec")
    assert (data.n_items, data.modalities) == (10, ("image",))


def test_drops_are_counted_in_order(tmp_path: Path) -> None:
    rows = [
        "0\t0\t1\t0",
        "0\t0\t5\t0",
        "0\t0\t5\t2",
        "0\t1\t5\t0",
        "1\t0\t5\t0",
        "1\t1\t5\t0",
        "1\t2\t5\t0",
        "2\t2\t1\t0",
    ]
    path = write(tmp_path / "t.inter", "userID\titemID\trating\tx_label\n" + "\n".join(rows) + "\n")
    data, report = read(path, positive="rating >= 4", k_core=2)
    assert (report.rows, report.duplicates, report.overlapping, report.below_positive) == (8, 1, 1, 1)
    assert (report.core_interactions, report.core_users, report.core_items) == (1, 0, 1)
    assert sorted(pairs(data.train)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    # Ids keep their meaning: user 2 and item 2 are still there, without interactions.
    assert (data.n_users, data.n_items, report.empty_users, report.empty_items) == (3, 3, 1, 1)


def test_a_pair_in_two_parts_stays_in_the_earlier_one(tmp_path: Path) -> None:
    rows = ["0\t0\t2", "0\t0\t0", "0\t1\t2", "0\t1\t1", "0\t2\t2"]
    data, report = read(write(tmp_path / "t.inter", "userID\titemID\tx_label\n" + "\n".join(rows) + "\n"))
    assert [pairs(p) for p in (data.train, data.valid, data.test)] == [[(0, 0)], [(0, 1)], [(0, 2)]]
    assert (report.duplicates, report.overlapping) == (0, 2)


def test_the_last_rating_of_a_pair_counts_before_the_filter(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "user,item,rating\n1,1,5\n1,1,2\n1,2,5\n")
    data, _ = read(path, positive="rating > 4", split="random:1/0/0")
    assert pairs(data.train) == [(0, 1)]


def test_a_split_asked_for_overrides_labels_and_says_so(tmp_path: Path) -> None:
    data, report = read(write(tmp_path / "t.inter", MMREC), split="leave-last-out")
    assert len(data.train) == 4
    assert report.split == "leave-last-out"
    assert any("not used" in note for note in report.notes)


def test_default_split_is_random_and_seeded(tmp_path: Path) -> None:
    rows = "".join(f"{u}\t{i}\n" for u in range(5) for i in range(10))
    path = write(tmp_path / "t.inter", "userID\titemID\n" + rows)
    (data, report), (again, _), (other, _) = read(path), read(path), read(path, seed=1)
    assert report.split == "random:0.8/0.1/0.1"
    assert [len(p) for p in (data.train, data.valid, data.test)] == [40, 5, 5]
    assert data.digest == again.digest != other.digest


def test_negative_ratings_pass_only_where_positive_rules_on_them(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "user,item,rating,time\n1,1,-1,3\n1,2,5,4\n")
    assert len(read(path, positive="rating >= 0")[0].train) == 1
    with pytest.raises(DataError, match="interaction 1 has rating -1"):
        read(path, positive="timestamp > 0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "atomic"}, "format must be one of auto, mmrec"),
        ({"split": "file"}, "split = 'file' needs an x_label column"),
        ({"split": "half"}, "split must be one of random"),
        ({"positive": "rating > os.system('x')"}, "positive must read"),
        ({"k_core": -1}, "k_core must be 0"),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    path = write(tmp_path / "t.csv", "user,item,rating\n1,1,5\n")
    with pytest.raises(ConfigurationError, match=message):
        read(path, **arguments)  # type: ignore[arg-type]


def test_importing_the_data_layer_does_not_import_torch() -> None:
    modules = "auditkit.data.readers, auditkit.data.inspect, auditkit.data.synthetic"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"
