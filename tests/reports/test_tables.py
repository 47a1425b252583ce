from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from auditkit.errors import DataError
from auditkit.record import Record
from auditkit.reports import tables
from auditkit.writing import write_outputs

from .sample import METHODS, hostile, minimal, record


def rows(sheet: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(sheet, newline="")))


def test_numbers_read_back_as_they_are() -> None:
    found = {row["name"]: row for row in rows(tables.systems(record()))}
    assert list(found) == [*(method[0] for method in METHODS), "original", "Gold"]
    for system in record().systems:
        row = found[system.name]
        assert float(row["depth"]) == system.depth.value
        assert float(row["residual_dose_high"]) == system.residual_dose.high
        recall = system.utility["recall@20"]
        assert float(row["recall@20_low"]) == recall.low
        assert float(row["recall@20_delta"]) == recall.delta_vs_gold.value
        assert row["verdict"] == (system.verdict or "")
        assert float(row["train_s"]) == 41.3
    assert found["finetune"]["runs"] == "3"
    assert found["finetune"]["solo"] == "False"


def test_what_was_not_measured_is_empty_and_says_why() -> None:
    found = {row["name"]: row for row in rows(tables.systems(record()))}
    assert found["finetune"]["speedup"] == ""
    assert found["finetune"]["speedup_note"] == "it shared the machine with another job"
    (bare,) = rows(tables.systems(minimal()))
    assert {bare[name] for name in ("depth", "depth_low", "pattern", "speedup", "train_s", "verdict")} == {""}


def test_no_cell_is_a_formula_or_breaks_a_row() -> None:
    evil = ('=HYPERLINK("http://x")', "+1,2", "-1", "@sum", 'a"b\r\nc', "\x1b[31m")
    bare = [record().systems[2].model_copy(update={"name": name, "method": name}) for name in evil]
    sheet = tables.systems(record(systems=bare))
    found = rows(sheet)
    assert sheet.count("\r\n") == len(evil) + 1
    assert [row["name"] for row in found] == [
        '\'=HYPERLINK("http://x")', "'+1,2", "'-1", "'@sum", 'a"b? c', "?[31m",
    ]  # fmt: skip
    # A number below 0 is a number, not a formula.
    assert float(found[0]["residual_dose_low"]) == pytest.approx(-0.029)
    assert len(rows(tables.systems(hostile()))) == 7


def written(folder: Path, units: pd.DataFrame) -> Path:
    write_outputs(record(), units, folder)
    return folder / "report.json"


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    scores = rng.normal(0, 1, 50)
    scores[3] = np.nan
    return pd.DataFrame({
        "unit": np.arange(50), "user": rng.integers(0, 9, 50), "item": -1, "group": "forget",
        "score:=evil\n": scores, "side:sisa": ["=1+1", "above"] * 25,
    })  # fmt: skip


def test_units_read_back_as_they_are(tmp_path: Path, frame: pd.DataFrame) -> None:
    sheet = tables.units(written(tmp_path, frame))
    again = rows(sheet)
    assert list(again[0]) == ["unit", "user", "item", "group", "score:=evil", "side:sisa"]
    assert again[3]["score:=evil"] == ""
    scores = [float(row["score:=evil"] or "nan") for row in again]
    np.testing.assert_array_equal(scores, frame["score:=evil\n"])
    assert [int(row["user"]) for row in again] == frame["user"].tolist()
    assert {row["side:sisa"] for row in again} == {"'=1+1", "above"}


def test_a_changed_or_absent_table_is_refused(tmp_path: Path, frame: pd.DataFrame) -> None:
    report = written(tmp_path, frame)
    place = tmp_path / "units.parquet"
    raw = bytearray(place.read_bytes())
    raw[len(raw) // 2] ^= 1
    place.write_bytes(raw)
    with pytest.raises(DataError, match="is not the file that"):
        tables.units(report)
    place.unlink()
    with pytest.raises(DataError, match="keep both together"):
        tables.units(report)


@pytest.mark.parametrize("path", ["../units.parquet", "/etc/passwd", "a/b", ".."])
def test_a_table_elsewhere_is_not_read(tmp_path: Path, path: str) -> None:
    whole = record()
    assert whole.units is not None
    elsewhere = whole.model_copy(update={"units": whole.units.model_copy(update={"path": path})})
    with pytest.raises(DataError):
        tables.units(_put(tmp_path, elsewhere))


def test_a_report_without_a_table_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="names no per-unit table"):
        tables.units(_put(tmp_path, minimal()))


def test_what_is_not_parquet_is_refused(tmp_path: Path, frame: pd.DataFrame) -> None:
    report = written(tmp_path, frame)
    (tmp_path / "units.parquet").write_bytes(b"no table")
    import hashlib

    whole = Record.read(report)
    assert whole.units is not None
    digest = hashlib.sha256(b"no table").hexdigest()
    _put(tmp_path, whole.model_copy(update={"units": whole.units.model_copy(update={"digest": digest})}))
    with pytest.raises(DataError, match="is not Parquet"):
        tables.units(report)


def _put(folder: Path, whole: Record) -> Path:
    path = folder / "report.json"
    path.write_text(whole.to_json(), encoding="utf-8")
    return path
