"""The ledger: what was appended is read, and whatever is done to the file behind its back shows."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import example, given, settings
from hypothesis import strategies as st

from auditkit import ledger as module
from auditkit.errors import ConfigurationError, DataError, StoreError
from auditkit.ledger import ORIGIN, Ledger, TamperedError
from auditkit.record import Curves, Depth, Record
from tests.reports.sample import METHODS, record

N = 5
Row = tuple[int, str, str, str]


def audit(place: int) -> Record:
    return record(created=f"2025-11-2{place}T09:30:00Z", curves=Curves(), ladder=[])


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("reports")
    paths = [folder / f"report-{k}.json" for k in range(N)]
    for k, path in enumerate(paths):
        path.write_text(audit(k).to_json(), encoding="utf-8")
    return paths


@pytest.fixture(scope="module")
def original(reports: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("original") / "history.sqlite"
    for report in reports:
        Ledger(path).append(report)
    return path


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(original, tmp_path / "history.sqlite"))


def rows_of(path: Path) -> list[Row]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT number, entry, previous, hash FROM audits ORDER BY number").fetchall()


def rewrite(path: Path, rows: list[Row]) -> None:
    """What an owner of the file can do: drop the triggers, put other rows in place, restore the triggers."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("DELETE FROM audits")
        connection.executemany("INSERT INTO audits VALUES (?, ?, ?, ?)", rows)
        for _, sql in triggers:
            connection.execute(sql)


def renumbered(rows: list[Row]) -> list[Row]:
    return [(number, *row[1:]) for number, row in enumerate(rows)]


def changed(row: Row) -> Row:
    return (row[0], row[1].replace("FAIL", "PASS").replace("2025", "2024").replace("started", "Started"), *row[2:])


def rehashed(rows: list[Row], start: int, stop: int) -> list[Row]:
    """The rows with numbers and chain made consistent in [start, stop), by the published formula."""
    made = list(rows)
    for k in range(start, min(stop, len(rows))):
        previous = made[k - 1][3] if k else ORIGIN
        made[k] = (k, made[k][1], previous, hashlib.sha256(f"{previous}\n{made[k][1]}".encode()).hexdigest())
    return made


def test_what_was_appended_is_read(original: Path, reports: list[Path]) -> None:
    entries = Ledger(original).entries()
    assert [entry.number for entry in entries] == [1, 2, 3, 4, 5]
    for entry, report in zip(entries, reports, strict=True):
        source = Record.read(report)
        assert entry.report_digest == hashlib.sha256(report.read_bytes()).hexdigest()
        assert (entry.audited, entry.verdict, entry.generator) == (source.created, source.verdict, source.generator)
        assert (entry.dataset, entry.dataset_digest) == (source.dataset.name, source.dataset.digest)
        assert (entry.regime, entry.request_digest) == (source.request.regime, source.request.digest)
        assert entry.config_digest == source.config_digest
        audited = [s for s in source.systems if s.role == "unlearned"]
        assert [line.name for line in entry.systems] == [name for name, *_ in METHODS]
        for line, system in zip(entry.systems, audited, strict=True):
            assert (line.method, line.verdict) == (system.method, system.verdict)
            assert (line.depth, line.depth_low, line.depth_high) == (
                system.depth.value, system.depth.low, system.depth.high,
            )  # fmt: skip


def test_the_chain_can_be_checked_without_auditkit(original: Path) -> None:
    previous = "0" * 64
    for number, (found, entry, before, own) in enumerate(rows_of(original)):
        assert (found, before) == (number, previous)
        assert entry == json.dumps(json.loads(entry), sort_keys=True, separators=(",", ":"))
        previous = own
        assert own == hashlib.sha256(f"{before}\n{entry}".encode()).hexdigest()
    assert Ledger(original).check().head == previous


def test_one_file_is_the_ledger(original: Path) -> None:
    assert {path.name for path in original.parent.iterdir()} <= {"history.sqlite", "history.sqlite.lock"}


def test_a_report_that_is_there_is_not_added_again(copy: Path, reports: list[Path]) -> None:
    entry, added = Ledger(copy).append(reports[2])
    assert (entry.number, added) == (3, False)
    assert len(Ledger(copy).entries()) == N


def test_a_depth_that_was_not_measured_stays_none(tmp_path: Path) -> None:
    whole = audit(0)
    bare = [s.model_copy(update={"depth": Depth(note="not applicable")}) for s in whole.systems]
    report = tmp_path / "report.json"
    report.write_text(whole.model_copy(update={"systems": bare}).to_json(), encoding="utf-8")
    entry, _ = Ledger(tmp_path / "l.sqlite").append(report)
    assert entry == Ledger(tmp_path / "l.sqlite").entries()[0]
    assert {line.depth for line in entry.systems} == {None}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audits SET entry = '{}' WHERE number = 2",
        "DELETE FROM audits WHERE number = 5",
        "INSERT OR REPLACE INTO audits VALUES (5, '{}', (SELECT hash FROM audits WHERE number = 4), 'x')",
        "INSERT INTO audits VALUES (7, '{}', (SELECT hash FROM audits WHERE number = 5), 'x')",
        "INSERT INTO audits VALUES (6, '{}', (SELECT hash FROM audits WHERE number = 4), 'x')",
        "INSERT INTO audits (entry, previous, hash) VALUES ('{}', 'x', 'x')",
    ],
)
def test_triggers_refuse_what_is_not_an_append(copy: Path, statement: str) -> None:
    with closing(sqlite3.connect(copy)) as connection, pytest.raises(sqlite3.IntegrityError, match="a ledger"):
        connection.execute(statement)
    assert Ledger(copy).check().broken is None


TAMPERING: dict[str, tuple[Callable[[list[Row]], list[Row]], int, str]] = {
    "changed": (lambda r: [*r[:2], changed(r[2]), *r[3:]], 2, "was changed: its content does not match its hash"),
    "start changed": (lambda r: [changed(r[0]), *r[1:]], 0, "was changed"),
    "removed": (lambda r: [*r[:3], *r[4:]], 3, "is missing, number 4 stands in its place"),
    "removed, renumbered": (lambda r: renumbered([*r[:3], *r[4:]]), 3, "does not follow 2: entries were removed"),
    "start removed": (lambda r: r[1:], 0, "is missing, number 1 stands in its place"),
    "start removed, renumbered": (lambda r: renumbered(r[1:]), 0, "is not the row that started the chain"),
    "all removed": (lambda _: [], 0, "is missing: the row that starts the chain was removed"),
    "reordered": (lambda r: renumbered([*r[:2], r[3], r[2], *r[4:]]), 2, "put in another order"),
    "inserted": (lambda r: renumbered([*r[:2], r[4], *r[2:]]), 2, "does not follow 1: entries were removed, inserted"),
    "inserted before": (lambda r: [(-1, *r[1][1:]), *r], 0, "number -1 stands in its place"),
    "copied to the end": (lambda r: renumbered([*r, r[1]]), 6, "does not follow 5"),
    "changed with its hash": (lambda r: rehashed([*r[:2], changed(r[2]), *r[3:]], 2, 3), 3, "rewritten"),
    "not an audit": (lambda r: rehashed([*r, (6, "[]", "", "")], 6, 7), 6, "it holds no audit"),
}


@pytest.mark.parametrize("kind", TAMPERING)
def test_every_kind_of_tampering_names_the_first_row_that_does_not_hold(
    copy: Path, reports: list[Path], tmp_path: Path, kind: str
) -> None:
    tamper, number, reason = TAMPERING[kind]
    rewrite(copy, tamper(rows_of(copy)))
    chain = Ledger(copy).check()
    assert chain.broken is not None
    assert chain.broken.number == number
    assert reason in str(chain.broken)
    assert [entry.number for entry in chain.entries] == list(range(1, number))
    with pytest.raises(TamperedError, match=f"does not hold; entry {number}: "):
        Ledger(copy).entries()
    fresh = tmp_path / "fresh.json"
    fresh.write_text(audit(9).to_json(), encoding="utf-8")
    before = rows_of(copy)
    with pytest.raises(TamperedError):
        Ledger(copy).append(fresh)
    assert rows_of(copy) == before


def test_a_cut_off_end_shows_only_against_a_head_kept_elsewhere(copy: Path) -> None:
    head = Ledger(copy).check().head
    rewrite(copy, rows_of(copy)[:-1])
    assert Ledger(copy).check().broken is None
    broken = Ledger(copy).check(head).broken
    assert broken is not None
    assert broken.number is None
    assert "cut off its end" in broken.reason


def test_a_ledger_written_anew_shows_only_against_a_head_kept_elsewhere(copy: Path) -> None:
    head, rows = Ledger(copy).check().head, rows_of(copy)
    rewrite(copy, rehashed([*rows[:2], changed(rows[2]), *rows[3:]], 2, N + 1))
    assert Ledger(copy).check().broken is None
    assert Ledger(copy).check(head).broken is not None


def test_an_old_head_still_vouches_after_growth(copy: Path) -> None:
    for row in rows_of(copy):
        assert Ledger(copy).check(row[3].upper()).broken is None


@pytest.mark.parametrize("head", ["", "abc", "g" * 64, "0" * 65])
def test_a_head_that_is_no_hash_is_a_usage_error(copy: Path, head: str) -> None:
    with pytest.raises(ConfigurationError, match="64 hexadecimal digits"):
        Ledger(copy).check(head)


@pytest.mark.parametrize("statement", ["DROP TRIGGER no_delete", "CREATE TABLE more (x)"])
def test_dropped_or_added_guards_are_tampering(copy: Path, statement: str) -> None:
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute(statement)
    broken = Ledger(copy).check().broken
    assert str(broken) == "the table or the triggers that forbid changes were dropped or altered"


def test_columns_that_hold_no_text_are_tampering(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("ALTER TABLE audits RENAME TO old")
        connection.execute("CREATE TABLE audits (number INTEGER PRIMARY KEY, entry, previous, hash)")
        connection.execute("INSERT INTO audits SELECT number, nullif(entry, entry), previous, hash FROM old")
        connection.execute("DROP TABLE old")
    broken = Ledger(copy).check().broken
    assert str(broken) == "entry 0: it was changed: a column holds no text"


def test_a_ledger_without_its_table_is_tampering(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("DROP TABLE audits")
    assert "entry 0: SQLite cannot read it: no such table" in str(Ledger(copy).check().broken)


STEP = st.tuples(st.sampled_from(["change", "remove", "swap", "insert"]), st.integers(0, 9), st.integers(0, 9))


def tampered(rows: list[Row], steps: list[tuple[str, int, int]]) -> list[Row]:
    made = list(rows)
    for kind, first, second in steps:
        a, b = first % max(len(made), 1), second % max(len(made), 1)
        if not made:
            break
        if kind == "change":
            made[a] = changed(made[a])
        elif kind == "remove":
            del made[a]
        elif kind == "swap":
            made[a], made[b] = made[b], made[a]
        else:
            made.insert(a, made[b])
    return renumbered(made)


@settings(max_examples=60)
@given(steps=st.lists(STEP, min_size=1, max_size=6), redo=st.none() | st.tuples(st.integers(0, 7), st.integers(0, 9)))
def test_any_sequence_of_tampering_is_found(
    original: Path, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]],
    redo: tuple[int, int] | None,
) -> None:  # fmt: skip
    copy = Path(shutil.copy(original, tmp_path_factory.mktemp("any") / "history.sqlite"))
    rows = rows_of(copy)
    made = tampered(rows, steps)
    if redo is not None:
        made = rehashed(made, redo[0], redo[0] + redo[1])
    rewrite(copy, made)
    if made[: len(rows)] == rows:
        first_added = None if len(made) == len(rows) or redo else len(rows)
        broken = Ledger(copy).check(rows[-1][3]).broken
        assert (None if broken is None or redo else broken.number) == first_added
        return
    # With the head kept elsewhere nothing passes; without it, honest rows up to the first difference do.
    assert Ledger(copy).check(rows[-1][3]).broken is not None
    chain = Ledger(copy).check()
    same = next(k for k in range(N + 1) if made[k : k + 1] != rows[k : k + 1])
    assert chain.hashes[:same] == tuple(row[3] for row in rows[:same])
    if redo is None:
        assert len(chain.hashes) == same
        assert (chain.broken is None) == (made == rows[:same] and same > 0)


@settings(max_examples=100)
@given(place=st.integers(0, 1 << 20), bit=st.integers(0, 7))
@example(place=3637, bit=7)  # a trigger's name that is no UTF-8
def test_a_flipped_bit_never_reads_as_another_history(
    original: Path, tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    content = bytearray(original.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path = tmp_path_factory.mktemp("flipped") / "history.sqlite"
    path.write_bytes(content)
    try:
        entries = Ledger(path).entries()
    except (DataError, StoreError):
        return
    # The bit lay where SQLite keeps nothing of the entries.
    assert entries == Ledger(original).entries()


def other_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE audits (number, entry, previous, hash)")


def newer_ledger(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id = {0x41554B54}")
        connection.execute("PRAGMA user_version = 2")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist; `auditkit history add report.json` starts a ledger"),
        (lambda path: path.mkdir(), "is not a file"),
        (lambda path: path.write_bytes(b""), "is empty, so it is not a ledger; remove it"),
        (lambda path: path.write_text("no database\n" * 100), "is not a ledger: file is not a database"),
        (other_database, "is a SQLite file, but not a ledger"),
        (newer_ledger, "is a ledger of format 2, this auditkit reads 1"),
    ],
)
def test_what_is_not_a_ledger_is_refused_and_left_alone(
    tmp_path: Path, reports: list[Path], make: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / "it#?.sqlite"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(DataError, match=message):
        Ledger(path).check()
    if path.exists():
        with pytest.raises(DataError, match=message):
            Ledger(path).append(reports[0])
    assert (path.read_bytes() if path.is_file() else None) == before


def test_what_is_not_a_report_is_refused_and_no_ledger_begun(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(DataError, match="is not an auditkit report"):
        Ledger(tmp_path / "l.sqlite").append(tmp_path / "report.json")
    assert not (tmp_path / "l.sqlite").exists()


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path, reports: list[Path]) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="choose another with --ledger"):
        Ledger(tmp_path / "file" / "l.sqlite").append(reports[0])


def test_a_ledger_held_by_others_is_said(copy: Path, reports: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.05)
    with FileLock(f"{copy}.lock"), pytest.raises(StoreError, match="others hold"):
        Ledger(copy).append(reports[0])


def test_a_database_held_by_others_is_not_tampering(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.05)
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="database is locked"):
            Ledger(copy).check()


def test_appends_at_once_all_arrive(tmp_path: Path, reports: list[Path]) -> None:
    path = tmp_path / "new" / "history.sqlite"
    with ThreadPoolExecutor(N) as pool:
        numbers = [entry.number for entry, _ in pool.map(lambda r: Ledger(path).append(r), reports)]
    assert sorted(numbers) == [1, 2, 3, 4, 5]
    assert {entry.audited for entry in Ledger(path).entries()} == {audit(k).created for k in range(N)}
