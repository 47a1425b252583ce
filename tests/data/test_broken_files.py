"""Files that are not what they must be: each is refused with a message of its own."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from auditkit.data.readers import read
from auditkit.errors import DataError

INTER = "userID\titemID"
LABELLED = "userID\titemID\tx_label"
RATED = "user,item,rating"
ATOMIC = "user_id:token\titem_id:token"

TEXTS: list[tuple[str, str, str, str]] = [
    ("empty file", "x.inter", "", r"x\.inter is empty"),
    ("blank file", "x.inter", " \n\n", r"x\.inter is empty"),
    ("header only", "x.inter", f"{INTER}\n", r"holds a header \(userID, itemID\) but no rows"),
    ("no user column", "x.csv", "who,item\na,b\n", "no user column; columns found: who, item"),
    ("no item column", "x.csv", "user,what\na,b\n", "no item column; columns found: user, what"),
    ("no known column", "x.csv", "a,b\nc,d\n", "no user and no item column; columns found: a, b"),
    ("no header", "x.csv", "1,2,3\n", r"has no header and is neither u\.data"),
    ("ambiguous columns", "x.csv", "user,uid,item\n1,1,2\n", "'user' and 'uid' both look like the user"),
    ("column twice", "x.inter", f"{INTER}\titemID\n0\t1\t1\n", "names a column twice: 'itemID'"),
    ("short row", "x.inter", f"{INTER}\n0\t1\n\n2\n", r"line 4 of x\.inter has 1 fields, expected 2"),
    ("long row", "x.csv", f"{RATED}\n1,2,3\n1,2,3,4\n", r"line 3 of x\.csv has 4 fields, expected 3"),
    (
        "open quotation",
        "x.csv",
        'user,item\n"a,b\nc,d\n',
        r"line 2 of x\.csv has 1 fields, expected 2",
    ),
    (
        "text for an id",
        "x.inter",
        f"{INTER}\n0\t1\nabc\t2\n",
        r"line 3 of x\.inter: userID must be an integer, got 'abc'",
    ),
    (
        "fraction for an id",
        "x.inter",
        f"{INTER}\n0\t1\n\n1\t2.5\n",
        r"line 4 .*itemID must be an integer, got '2\.5'",
    ),
    ("negative id", "x.inter", f"{INTER}\n0\t1\n1\t-3\n", r"line 3 .*itemID must be 0 or above, got -3"),
    ("missing id", "x.inter", f"{INTER}\n0\t\n", r"line 2 .*itemID must be an integer, got an empty cell"),
    ("missing token", "x.csv", "user,item\na,b\n,c\n", r"line 3 .*user must be an id, got an empty cell"),
    ("fractional tokens", "x.csv", "user,item\n1.0,3\n2.0,4\n", r"user must be an integer or text, got 1\.0"),
    ("huge id", "x.inter", f"{INTER}\n0\t200000001\n", r"largest item id is 200,000,001 .*format='table'"),
    ("sparse ids", "x.inter", f"{INTER}\n0\t1\n5000\t2\n", r"largest user id is 5,000 in 2 rows"),
    (
        "id beyond 64 bits",
        "x.inter",
        f"{INTER}\n99999999999999999999\t1\n",
        "userID must be an integer, got '9999",
    ),
    (
        "NaN rating",
        "x.csv",
        f"{RATED}\n1,2,3\n1,3,nan\n",
        r"line 3 .*rating must be a finite number, got nan",
    ),
    ("infinite rating", "x.csv", f"{RATED}\n1,2,inf\n", r"line 2 .*rating must be a finite number, got inf"),
    ("missing rating", "x.csv", f"{RATED}\n1,2,\n", r"line 2 .*rating must be a number, got an empty cell"),
    ("text for a rating", "x.csv", f"{RATED}\n1,2,good\n", r"line 2 .*rating must be a number, got 'good'"),
    ("negative rating", "x.csv", f"{RATED}\n1,2,4\n1,3,-1\n", "interaction 2 has rating -1; .*`positive`"),
    ("text for a time", "x.csv", "user,item,time\n1,2,noon\n", r"line 2 .*time must be a number, got 'noon'"),
    ("time beyond 64 bits", "x.csv", "user,item,time\n1,2,1e300\n", "times beyond 64 bits"),
    (
        "unknown label",
        "x.inter",
        f"{LABELLED}\n0\t1\t0\n0\t2\t7\n",
        r"line 3 .*x_label must be 0, 1, 2 .*got '7'",
    ),
    ("no train label", "x.inter", f"{LABELLED}\n0\t1\t2\n", "labels no row as train"),
    ("untyped column", "x.inter", f"{ATOMIC}\tcity\nu\ti\tx\n", "needs a name:type header, got 'city'"),
    (
        "ids that are floats",
        "x.inter",
        "user_id:float\titem_id:token\n1\t2\n",
        "user_id must be of type token, got float",
    ),
    (
        "rating that is a token",
        "x.inter",
        f"{ATOMIC}\trating:token\n1\t2\t3\n",
        "rating must be of type float, got token",
    ),
    ("negative movie", "u.data", "1\t-2\t3\t4\n", r"line 1 of u\.data: movieId must be 0 or above, got -2"),
    (
        "text in ratings.dat",
        "ratings.dat",
        "1::2::3::4\n1::x::3::4\n",
        r"line 2 .*movieId must be an integer, got 'x'",
    ),
    (
        "text in LightGCN",
        "train.txt",
        "0 1 2\n1 x\n",
        r"line 2 of train\.txt: item must be an integer, got 'x'",
    ),
    (
        "negative in LightGCN",
        "train.txt",
        "0 1 2\n\n1 3 -4\n",
        r"line 3 of train\.txt: item must be 0 or above, got -4",
    ),
    ("LightGCN without items", "train.txt", "0\n1 \n", "hold users but no item"),
]


@pytest.mark.parametrize(("name", "text", "message"), [case[1:] for case in TEXTS], ids=[case[0] for case in TEXTS])
def test_broken_text(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    with pytest.raises(DataError, match=message):
        read(path)


BYTES: list[tuple[str, bytes, str]] = [
    (
        "x.csv",
        "user,item\na,b\nJosé,c\n".encode("latin-1"),
        r"line 3 of x\.csv is not UTF-8 \(byte 0xe9\).*iconv",
    ),
    ("x.csv", "user,item\n1,2\n".encode("utf-16"), "is UTF-16"),
    ("x.csv", b"PK\x03\x04zip", "is a zip archive"),
    ("x.csv", b"\x1f\x8bgz", "is compressed with gzip"),
    ("x.csv", b"user\0item", "is a binary file of unknown kind"),
    ("x.parquet", b"PAR1 broken", "cannot be read as Parquet"),
    ("x.pkl", pickle.dumps({1: 2}), "looks like a pickle; .*refused"),
    ("x.npy", b"\x93NUMPY\x01\0", "is a NumPy array, not a table"),
]


@pytest.mark.parametrize(("name", "content", "message"), BYTES, ids=[case[2][:20] for case in BYTES])
def test_broken_bytes(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": [], "item": []}, r"holds columns \(user, item\) but no rows"),
        ({"user": [1, 2]}, r"no item column; columns found: user"),
        (
            {"user": ["a", None], "item": [1, 2]},
            r"row 2 of x\.parquet: user must be an id, got an empty cell",
        ),
        ({"user": [1.0, 2.5], "item": [1, 2]}, r"row 2 of x\.parquet: user must be an integer, got 2\.5"),
        ({"user": [1, 2], "item": [1, 2], "rating": [1, np.nan]}, r"row 2 of x\.parquet: rating must be a"),
        ({"user": [1, 2], "item": [[1], [2]]}, r"row 1 of x\.parquet: item must be an integer"),
    ],
)
def test_broken_parquet(tmp_path: Path, columns: dict[str, list[object]], message: str) -> None:
    pd.DataFrame(columns).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=message):
        read(tmp_path / "x.parquet")


class Touched:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.trace,)


def test_pickles_are_refused_without_being_run(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text(f"{INTER}\n0\t1\n")
    trace = tmp_path / "trace"
    np.save(tmp_path / "text_feat.npy", np.array([Touched(trace)], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"text_feat\.npy holds pickled objects"):
        read(tmp_path)
    (tmp_path / "text_feat.npy").write_bytes(pickle.dumps(Touched(trace)))
    with pytest.raises(DataError, match=r"text_feat\.npy holds pickled objects"):
        read(tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((1, 3)), r"has 1 rows, but there are 2 items"),
        (np.ones(2), r"must be \[n_items, width\], got shape \(2,\)"),
        (np.ones((2, 0)), r"got shape \(2, 0\)"),
        (np.ones((2, 2, 2)), r"got shape \(2, 2, 2\)"),
        (np.array([["a"], ["b"]]), "must hold numbers, got <U1"),
        (np.ones((2, 2), complex), "must hold numbers, got complex128"),
        (np.array([[1, 2], [np.inf, 2]]), "must be finite, got NaN or infinity in 1 rows, first in row 1"),
        (np.array([[np.nan, 2], [1, 2]]), "must be finite, got NaN or infinity in 1 rows, first in row 0"),
        (np.array([[1e300], [1]]), "must be finite"),
    ],
)
def test_broken_features(
    tmp_path: Path, values: np.ndarray[tuple[int, ...], np.dtype[np.generic]], message: str
) -> None:
    (tmp_path / "x.inter").write_text(f"{INTER}\n0\t1\n")
    np.save(tmp_path / "image_feat.npy", values)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_truncated_and_differing_features(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text(f"{INTER}\n0\t1\n")
    np.save(tmp_path / "a_feat.npy", np.ones((2, 2)))
    np.save(tmp_path / "b_feat.npy", np.ones((3, 2)))
    with pytest.raises(DataError, match="feature files differ in length"):
        read(tmp_path)
    (tmp_path / "b_feat.npy").write_bytes((tmp_path / "a_feat.npy").read_bytes()[:-8])
    with pytest.raises(DataError, match=r"b_feat\.npy is broken"):
        read(tmp_path)


def test_places_where_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "missing")
    with pytest.raises(DataError, match=r"no interactions in folder .* found no file"):
        read(tmp_path)
    (tmp_path / "readme.md").write_text("hello there")
    with pytest.raises(DataError, match=r"no interactions in folder .* found readme\.md"):
        read(tmp_path)


def test_more_than_one_data_set_in_a_folder(tmp_path: Path) -> None:
    for name in ("a.inter", "b.inter"):
        (tmp_path / name).write_text(f"{INTER}\n0\t1\n")
    with pytest.raises(DataError, match=r"more than one file of interactions: a\.inter, b\.inter"):
        read(tmp_path)


def test_part_files_with_different_columns(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(f"{RATED}\n1,2,3\n")
    (tmp_path / "test.csv").write_text("user,item\n1,3\n")
    with pytest.raises(DataError, match=r"test\.csv has columns user, item, but train\.csv has user, item, rating"):
        read(tmp_path)


def test_filters_that_leave_nothing_or_have_no_column(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("user,item,rating\n1,2,3\n")
    with pytest.raises(DataError, match="no train interaction is left of 1 rows after rating >= 9 and k_core = 5"):
        read(path, positive="rating >= 9", k_core=5)
    with pytest.raises(DataError, match="needs a timestamp column, and there is none"):
        read(path, positive="timestamp > 9")
    with pytest.raises(DataError, match="split 'global-time' needs times"):
        read(path, split="global-time")
