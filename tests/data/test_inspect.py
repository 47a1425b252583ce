"""The description says what was understood, dropped and what may surprise."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from auditkit.data.inspect import describe, warnings_of
from auditkit.data.readers import read
from auditkit.data.synthetic import synthetic


def test_everything_counted_is_shown(tmp_path: Path) -> None:
    rows = [
        "0\t0\t5\t3\t0",
        "0\t0\t4\t4\t0",
        "0\t1\t1\t5\t0",
        "1\t1\t5\t6\t0",
        "1\t0\t5\t7\t2",
        "2\t2\t4\t8\t2",
    ]
    header = "userID\titemID\trating\ttimestamp\tx_label\n"
    (tmp_path / "toy.inter").write_text(header + "\n".join(rows) + "\n")
    values = np.ones((4, 2))
    values[3] = np.nan
    np.save(tmp_path / "image_feat.npy", values)
    np.savez(tmp_path / "item_category.npz", values)
    table = describe(*read(tmp_path / "toy.inter", positive="rating >= 2"))
    shown = dict(table)
    assert shown["name"] == "toy"
    assert (shown["format"], shown["split"], shown["positive"]) == ("mmrec", "file", "rating >= 2")
    assert (shown["users"], shown["items"], shown["interactions"]) == ("3", "4", "4")
    assert shown["density"] == "33.3333%"
    assert shown["train/valid/test"] == "2/0/2"
    assert shown["ratings"] == "4: 2, 5: 2"
    assert shown["times"] == "4 to 8"
    assert shown["interactions per user"].startswith("min 1, ")
    assert shown["interactions per item"].endswith("max 2")
    assert shown["features image"] == "2 wide, 1 rows absent"
    assert (shown["duplicates dropped"], shown["rows dropped, not positive"]) == ("1", "1")
    assert shown["items without interactions"] == "1"
    assert [text for label, text in table if label == "note"] == [
        "ignored item_category.npz: sparse features are not read"
    ]
    assert [text for label, text in table if label == "warning"] == [
        "there is no validation part: training cannot stop early on it",
        "1 users of the test part have no train interaction",
        "1 items of the test part have no train interaction",
    ]


def test_side_columns_and_many_ratings(tmp_path: Path) -> None:
    rows = "".join(f"u\ti{k}\t{k / 7}\n" for k in range(20))
    (tmp_path / "toy.inter").write_text("user_id:token\titem_id:token\trating:float\n" + rows)
    (tmp_path / "toy.item").write_text("item_id:token\tprice:float\ni1\t2.5\n")
    shown = dict(describe(*read(tmp_path)))
    assert shown["ids"] == "renumbered in sorted order"
    assert shown["columns of toy.item"] == "item_id (token, 1 filled), price (float, 1 filled)"
    assert shown["float columns of toy.item"] == "price"
    assert shown["ratings"].count(",") == 9


def test_a_sound_data_set_has_no_warning() -> None:
    assert list(warnings_of(synthetic(n_interactions=60_000))) == []
