"""The Record: a produced report follows the published schema, and nothing else is read as one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest

from auditkit.api import audit
from auditkit.errors import DataError
from auditkit.record import EXIT_CODES, SCHEMA_ID, SCHEMA_VERSION, Estimate, Record, Verdict, schema, worst


@pytest.fixture(scope="module")
def report(tiny_folder: Path, tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    audit(tiny_folder / "output-mask.toml", out=out, store=tiny_store)
    return out / "report.json"


def leaves(value: Any) -> Iterator[Any]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if children is None:
        yield value
    else:
        for child in children:
            yield from leaves(child)


def test_a_produced_report_follows_the_published_schema(report: Path) -> None:
    published = schema()
    jsonschema.Draft202012Validator.check_schema(published)
    assert published["$id"] == SCHEMA_ID
    content = json.loads(report.read_text("utf-8"))
    jsonschema.validate(content, published, cls=jsonschema.Draft202012Validator)
    assert content["schema_version"] == SCHEMA_VERSION


def test_what_is_undefined_is_null_wherever_it_stands(report: Path) -> None:
    whole = Record.read(report)
    odd = {"x": math.nan, "deep": [math.inf, {"y": -math.inf}], "kept": 1e-300}
    finding = (
        whole.systems[0]
        .findings[0]
        .model_copy(
            update={"parameters": odd, "p_value": math.nan, "residual_dose": Estimate(value=math.nan, low=-math.inf)}
        )
    )
    system = whole.systems[0].model_copy(update={"findings": [finding], "parameters": odd})
    text = whole.model_copy(update={"systems": [system]}).to_json()
    assert not re.search("NaN|Infinity", text)
    read = Record.model_validate_json(text).systems[0]
    assert read.parameters == read.findings[0].parameters == {"x": None, "deep": [None, {"y": None}], "kept": 1e-300}
    assert read.findings[0].p_value is None
    assert read.findings[0].residual_dose == Estimate()


def test_the_schema_refuses_what_the_record_refuses(report: Path) -> None:
    content = json.loads(report.read_text("utf-8"))
    for spoilt in ({**content, "extra": 1}, {**content, "verdict": "MAYBE"}, {**content, "systems": [{"name": "x"}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(spoilt, schema(), cls=jsonschema.Draft202012Validator)


def test_a_report_has_no_nan_and_ends_with_a_line(report: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in the report")

    text = report.read_text("utf-8")
    content = json.loads(text, parse_constant=refuse)
    numbers = [x for x in leaves(content) if isinstance(x, float)]
    assert len(numbers) > 100
    assert all(map(math.isfinite, numbers))
    assert text.endswith("}\n")


def test_reading_and_writing_are_inverse(report: Path, tmp_path: Path) -> None:
    record = Record.read(report)
    assert record.to_json() == report.read_text("utf-8")
    (tmp_path / "again.json").write_text(record.to_json(), "utf-8")
    assert Record.read(tmp_path / "again.json") == record


def test_undefined_estimates_say_why(report: Path) -> None:
    masked = next(s for s in Record.read(report).systems if s.role == "unlearned")
    primary = next(f for f in masked.findings if f.primary)
    assert (primary.section, primary.residual_dose.value) == ("not_applicable", None)
    assert "masked" in primary.note
    assert masked.depth.value is None
    assert masked.depth.note


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"surprise": 1}, "surprise"),
        ({"verdict": "MAYBE"}, "verdict"),
        ({"exit_code": "none"}, "exit_code"),
        ({"policy": {"profile": "quick"}}, r"policy\.margin"),
        ({"dataset": None}, "dataset"),
        ({"systems": [{"name": "x", "role": "boss"}]}, r"systems\.0\.role"),
        ({"retained": {"x": {"value": 1.0, "sd": 2.0}}}, r"retained\.x\.sd"),
    ],
)
def test_what_is_no_record_is_refused_with_its_place(
    report: Path, tmp_path: Path, change: dict[str, Any], place: str
) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps({**json.loads(report.read_text("utf-8")), **change}), "utf-8")
    with pytest.raises(DataError, match=rf"(?s)is not an auditkit report of schema {SCHEMA_VERSION}: .*{place}"):
        Record.read(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"{", b"\xff\xfe\x00"])
def test_files_that_hold_no_record(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is not an auditkit report of schema"):
        Record.read(path)


def test_an_absent_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read report .*nowhere\.json: No such file or directory"):
        Record.read(tmp_path / "nowhere.json")


def test_the_worst_verdict_counts() -> None:
    order: tuple[Verdict, ...] = ("FAIL", "INVALID", "INCONCLUSIVE", "PASS")
    assert set(order) == set(get_args(Verdict)) == set(EXIT_CODES)
    for size in range(1, 5):
        for drawn in permutations(order, size):
            assert worst(list(drawn)) == min(drawn, key=order.index)
    assert worst([]) == "INCONCLUSIVE"
    assert [EXIT_CODES[v] for v in order] == [1, 4, 4, 0]
