from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from auditkit.errors import DataError
from auditkit.record import Record, UnitsFile
from auditkit.reports import html, numbers, unit_rows, units_file
from auditkit.reports.svg import label
from auditkit.writing import write_outputs

from .sample import hostile, minimal, record
from .test_html import Page

NAMES = ("sisa", "finetune")


def frame(n: int = 30, names: tuple[str, ...] = NAMES, unread: int = 0) -> pd.DataFrame:
    """A per-unit table as an audit writes it; the last `unread` units have no reading."""
    rng = np.random.default_rng(3)
    table = pd.DataFrame({
        "unit": np.arange(n), "user": rng.integers(0, 90, n), "item": -1, "activity": rng.integers(1, 2_000, n),
        "popularity": rng.integers(1, 500, n), "group": "forget", "split": "judge",
        "original_score": rng.normal(2, 1, n), "gold_score": rng.normal(0, 1, n),
    })  # fmt: skip
    for name in names:
        deviation = rng.normal(0, 2, n)
        columns = {"score": deviation, "deviation": deviation, "p": rng.random(n), "q": rng.random(n)}
        for key, values in columns.items():
            table[f"{key}:{name}"] = np.where(np.arange(n) < n - unread, values, np.nan)
        table[f"side:{name}"] = np.where(deviation > 0, "above", "below")
    return table


def read(table: pd.DataFrame, whole: Record | None = None) -> unit_rows.UnitRows:
    return unit_rows.unit_rows(whole or record(), table)


def small() -> Record:
    """The usual names without figures, which cost time and are tested elsewhere."""
    return record(curves=minimal().curves, ladder=[])


def cells(rows: unit_rows.UnitRows, title: str) -> list[str]:
    place = [column.title for column in rows.columns].index(title)
    return [line[place] for line in rows.first]


def test_lines_come_by_size_of_deviation_and_methods_take_turns() -> None:
    rows = read(frame())
    assert cells(rows, "Method")[:4] == ["sisa", "finetune", "sisa", "finetune"]
    for name in NAMES:
        sizes = [
            abs(float(d)) for d, m in zip(cells(rows, "Deviation"), cells(rows, "Method"), strict=True) if m == name
        ]
        assert sizes == sorted(sizes, reverse=True)
    assert (rows.n_units, rows.n_lines, rows.n_left, rows.n_unread) == (30, 60, 0, 0)
    assert len(rows.first) == 60


def test_in_turn_skips_what_has_no_reading_and_keeps_the_order_of_ties() -> None:
    nan = np.nan
    order = unit_rows.in_turn(np.array([[1.0, -3.0, nan, 1.0], [nan, nan, 5.0, -6.0]]))
    assert order == [(0, 1), (1, 3), (0, 0), (1, 2), (0, 3)]


def test_cells_say_what_the_file_says() -> None:
    table = frame()
    rows = read(table)
    assert [column.title for column in rows.columns] == [
        *("Unit", "User", "Item", "Activity", "Popularity", "Original", "Gold"),
        *("Method", "Deviation", "p", "q", "Side"),
    ]
    line = dict(zip((column.key for column in rows.columns), rows.first[1], strict=True))
    row = table.to_dict("records")[int(line["unit"])]
    assert line["method"] == "finetune"
    assert (line["user"], line["item"], line["activity"]) == (str(row["user"]), "any", f"{row['activity']:,}")
    assert line["deviation"] == f"{row['deviation:finetune']:.2f}"
    assert line["original_score"] == f"{row['original_score']:.2f}"
    assert (line["p"], line["q"]) == tuple(numbers.p_value(row[f"{key}:finetune"]) for key in "pq")
    assert line["side"] == row["side:finetune"]


@pytest.mark.parametrize(("scale", "decimals"), [(0.0005, 6), (0.5, 3), (5.0, 2), (50.0, 1), (5e6, 0), (1e-12, 8)])
def test_three_digits_of_a_typical_deviation_are_shown(scale: float, decimals: int) -> None:
    assert unit_rows.decimals_for(np.array([[0.0, np.nan, -scale, scale]])) == decimals


def test_without_any_deviation_there_are_decimals_still() -> None:
    assert unit_rows.decimals_for(np.zeros((2, 3))) == 2


def test_a_page_holds_so_many_lines_and_counts_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_rows, "LINES", 20)
    table = frame(40, unread=7)
    rows = read(table)
    assert (rows.n_units, rows.n_lines, rows.n_left, rows.n_unread) == (10, 20, 23, 7)
    held = set(rows.data["columns"]["unit"])
    for name in NAMES:
        # Five each: no method can crowd out another's.
        assert set(table[f"deviation:{name}"].abs().nlargest(5).index) <= held
    assert rows.held("units.parquet") == (
        "This page holds 10 units with a reading; 23 more lie in units.parquet beside this report. "
        "Of units.parquet, 7 units have none."
    )
    assert read(frame(8)).held("u") == "This page holds all 8 units with a reading."


def test_facts_may_be_missing_or_texts() -> None:
    table = frame().drop(columns=["item", "activity", "gold_score"])
    table["user"] = [f"person\u202e {k}" if k else None for k in table["user"]]
    table["unit"] = table["unit"] + 2**60
    rows = read(table)
    assert [column.key for column in rows.columns][:4] == ["unit", "user", "popularity", "original_score"]
    assert all(isinstance(unit, str) for unit in rows.data["columns"]["unit"])
    assert any(cell.startswith("person? ") for cell in cells(rows, "User"))


def test_groups_are_a_column_only_where_there_are_several() -> None:
    table = frame()
    assert read(table).groups == ()
    table.loc[:9, "group"] = "outside"
    rows = read(table)
    assert set(rows.groups) == {"forget", "outside"}
    assert cells(rows, "Group").count("outside") == 20


def test_what_was_not_measured_is_not_a_number() -> None:
    table = frame()
    table[["p:sisa", "gold_score"]] = np.nan
    table.loc[4, "q:finetune"] = np.inf
    table["side:sisa"] = "=1+1"
    table = table.drop(columns="q:sisa")
    rows = read(table)
    assert set(cells(rows, "Gold")) == {"not measured"}
    of_sisa = [line for line in rows.first if "sisa" in line]
    assert {line[-3:] for line in of_sisa} == {("not measured", "not measured", "")}
    json.dumps(rows.data, allow_nan=False)
    assert rows.data["methods"][1]["q"].count(None) == 1


def test_only_audited_methods_are_listed() -> None:
    assert read(frame(names=("sisa", "someone else"))).methods == ["sisa"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (frame(names=("nobody",)), "no reading of an audited method"),
        (frame(5, unread=5), "no reading of an audited method"),
        (frame(0), "no reading of an audited method"),
        (pd.DataFrame([[1, 2]], columns=["unit", "unit"]), "names a column twice"),
    ],
)
def test_a_table_without_readings_is_refused(table: pd.DataFrame, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(table)


def test_page_lists_the_units_of_the_file_beside_it(tmp_path: Path) -> None:
    final = write_outputs(small(), frame(), tmp_path)
    html.write(final, tmp_path / "report.html")
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert source == html.render(final, tmp_path)
    page = Page(source)
    assert "Showing 60 of 60 lines." in page.words
    assert "This page holds all 30 units with a reading." in page.words
    rows = read(frame(), final)
    assert " ".join(rows.first[0]) in page.words
    heads = [head["data-key"] for head in page.all("th") if "data-key" in head]
    assert heads == [column.key for column in rows.columns]
    assert [a["hidden"] for tag, a in page.seen if a.get("id") in ("units-sift", "units-more")] == ["", ""]


def test_policy_lets_only_the_page_s_own_script_run(tmp_path: Path) -> None:
    source = html.render(write_outputs(small(), frame(), tmp_path), tmp_path)
    script = source[source.index("<script>") + 8 :]
    script = script[: script.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(m["content"] for m in Page(source).all("meta") if m.get("http-equiv"))
    assert f"script-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert [s.get("type", "") for s in Page(source).all("script")] == ["application/json", ""]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(", script)


def told(whole: Record, folder: Path | None) -> str:
    source = html.render(whole, folder)
    assert "<script" not in source
    assert "script-src" not in source
    return Page(source).words


def test_without_the_very_file_the_page_says_so_and_goes_without(tmp_path: Path) -> None:
    final = write_outputs(small(), frame(), tmp_path)
    assert "This page was made without units.parquet" in told(final, None)
    assert "This audit wrote no per-unit table." in told(minimal(), tmp_path)
    raw = bytearray((tmp_path / "units.parquet").read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "units.parquet").write_bytes(raw)
    assert "units.parquet is not the file that the report was written with" in told(final, tmp_path)
    (tmp_path / "units.parquet").unlink()
    words = told(final, tmp_path)
    assert "Units are not listed: no file units.parquet lies beside the report; keep both together." in words
    assert str(tmp_path) not in words


def test_what_is_not_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "u").write_bytes(b"no table")
    stated = UnitsFile(path="u", digest=hashlib.sha256(b"no table").hexdigest())
    with pytest.raises(DataError, match="u is not Parquet"):
        units_file.read(tmp_path, stated)


@pytest.mark.parametrize("path", ["../units.parquet", "/dev/null", "a/b", "..", ".", ""])
def test_a_file_elsewhere_is_not_read(tmp_path: Path, path: str) -> None:
    inner = tmp_path / "inner"
    write_outputs(small(), frame(), tmp_path)
    write_outputs(small(), frame(), inner)
    with pytest.raises(DataError, match="beside the report"):
        units_file.read(inner, UnitsFile(path=path, digest=""))


def test_hostile_names_and_ids_stay_text_in_the_page_and_in_its_data(tmp_path: Path) -> None:
    whole = hostile().model_copy(update={"curves": minimal().curves, "ladder": []})
    names = tuple(system.name for system in whole.systems if system.role == "unlearned")
    table = frame(12, names)
    evil = "</script><script>alert(9)</script><!-- & ' \" \u2028 \x00"
    table["user"] = evil
    source = html.render(write_outputs(whole, table, tmp_path), tmp_path)
    page = Page(source)
    assert len(page.all("script")) == 2
    assert not page.all("img")
    assert not any(name.startswith("on") for _, attributes in page.seen for name in attributes)
    assert source.count("</script>") == 2
    data: dict[str, Any] = json.loads(re.findall(r'id="units-data">(.*?)</script>', source, re.DOTALL)[0])
    assert {method["name"] for method in data["methods"]} == {label(name, 60) for name in names}
    assert set(data["columns"]["user"]) == {"</script><script>alert(9)</script><!-- & ' \" ?"}
    assert "</script><script>alert(9)</script><!-- & ' \" ?" in page.words
