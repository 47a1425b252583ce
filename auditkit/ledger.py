"""The ledger: an append-only, hash-chained file of audits, in which a later change shows.

It is one SQLite file without a write-ahead log, so that copying the file copies the ledger. Table `audits` has a row
per audit, in order of arrival, after one row that only starts the chain:

- `number`: 0, 1, 2, ...; row 0 starts the chain;
- `entry`: what is recorded, as JSON with sorted keys, no spaces, ASCII only;
- `previous`: `hash` of the row before, 64 zeros for row 0;
- `hash`: SHA-256, in hexadecimal digits, of the bytes `previous`, a line feed, `entry`.

Anybody can check that with `sqlite3` and `sha256sum`. Triggers refuse UPDATE, DELETE and rows out of turn; they stop
mistakes, not an owner of the file, who can drop them. That is what the chain is for. The chain alone cannot show that
its end was cut off or written anew, or the whole ledger was: that shows against a head hash kept elsewhere. Who wrote
an entry is not shown at all; a signed certificate says that.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from auditkit.errors import ConfigurationError, DataError, StoreError
from auditkit.record import Record

ORIGIN = "0" * 64
WAIT_S = 30.0
_APPLICATION = 0x41554B54  # "AUKT": tells a ledger from other SQLite files
_FORMAT = 1
_SCHEMA = (
    "CREATE TABLE audits (number INTEGER PRIMARY KEY, entry TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL)",
    "CREATE TRIGGER no_update BEFORE UPDATE ON audits BEGIN SELECT RAISE(ABORT, 'a ledger is append-only'); END",
    "CREATE TRIGGER no_delete BEFORE DELETE ON audits BEGIN SELECT RAISE(ABORT, 'a ledger is append-only'); END",
    # INSERT OR REPLACE would overwrite a row without waking the two above.
    "CREATE TRIGGER in_turn BEFORE INSERT ON audits "
    "WHEN NEW.number IS NOT (SELECT coalesce(max(number) + 1, 0) FROM audits) "
    "OR NEW.previous IS NOT coalesce((SELECT hash FROM audits ORDER BY number DESC LIMIT 1), printf('%064d', 0)) "
    "BEGIN SELECT RAISE(ABORT, 'a ledger takes rows in turn'); END",
)
_CUT = "entries were cut off its end, or the ledger was written anew"
# The machine's fault, not the file's: busy, interrupted, no permission, no space.
_ENVIRONMENT = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_INTERRUPT,
}  # fmt: skip


# sqlite3 decodes names that it puts into its messages, and fails on damaged ones.
_UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)


class TamperedError(DataError):
    """A ledger does not hold; the message names the first place where."""


@dataclass(frozen=True)
class SystemLine:
    """One audited system in a ledger entry; `depth` and its interval are None where it was not measured."""

    name: str
    method: str
    verdict: str | None
    depth: float | None
    depth_low: float | None
    depth_high: float | None


@dataclass(frozen=True)
class Entry:
    """One audit in the ledger.

    Attributes:
        number: 1, 2, ... in order of arrival.
        hash: of this entry and, through the chain, of all before it; the head hash while it is the last.
        added, audited: when it came into the ledger, and when the report was made; ISO 8601, UTC.
        verdict: of the report.
        generator: what wrote the report.
        config_digest, dataset_digest, request_digest: as in the report.
        report_digest: SHA-256 of the bytes of report.json.
        dataset, regime: name of the data set, kind of the request.
        systems: the audited ones.
    """

    number: int
    hash: str
    added: str
    audited: str
    verdict: str
    generator: str
    config_digest: str
    report_digest: str
    dataset: str
    dataset_digest: str
    regime: str
    request_digest: str
    systems: tuple[SystemLine, ...]


@dataclass(frozen=True)
class Break:
    """The first place where a ledger does not hold; `number` is None where no single entry is at fault."""

    number: int | None
    reason: str

    def __str__(self) -> str:
        """As in a message."""
        return self.reason if self.number is None else f"entry {self.number}: {self.reason}"


@dataclass(frozen=True)
class Chain:
    """A ledger as checked: the entries that hold, the hashes of all rows that do (row 0, too), and the first break."""

    entries: tuple[Entry, ...]
    hashes: tuple[str, ...]
    broken: Break | None

    @property
    def head(self) -> str:
        """Hash of the last row that holds; kept elsewhere, it vouches for everything before it."""
        return self.hashes[-1] if self.hashes else ORIGIN


@dataclass(frozen=True)
class _Row:
    # Raw, since a row that was tampered with may hold anything.
    number: Any
    entry: Any
    previous: Any
    hash: Any


def chain_hash(previous: bytes, entry: bytes) -> str:
    """SHA-256, as 64 hexadecimal digits, of the hash before, a line feed and the entry's text."""
    return hashlib.sha256(previous + b"\n" + entry).hexdigest()


def _canonical(content: dict[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


@dataclass(frozen=True)
class Ledger:
    """A file of audits, safe to share between processes that append at once.

    Attributes:
        path: of the SQLite file; the first `append` creates it. A lock file `<path>.lock` lies beside it while it
            is written.
    """

    path: Path

    def append(self, report: Path) -> tuple[Entry, bool]:
        """Add an audit.

        Returns:
            The entry of `report`, and whether it was added now: a report.json that is there already is not added again.

        Raises:
            DataError: the report cannot be read, or the file is not a ledger.
            TamperedError: the ledger does not hold; nothing is added to it.
            StoreError: the file cannot be written, or others hold it for longer than `WAIT_S` seconds.
        """
        record = Record.read(report)
        digest = hashlib.sha256(report.read_bytes()).hexdigest()
        try:
            text = _canonical(_content(record, digest))
        except ValueError as error:
            raise DataError(f"{report} holds a forgetting depth that is no finite number; audit again") from error
        with self._locked():
            if not self.path.exists():
                self._create()
            chain = self._whole()
            known = next((entry for entry in chain.entries if entry.report_digest == digest), None)
            return (known, False) if known else (self._insert(text, chain), True)

    def entries(self) -> tuple[Entry, ...]:
        """All audits, oldest first.

        Raises:
            DataError: the file is absent or not a ledger.
            TamperedError: it does not hold.
        """
        return self._whole().entries

    def check(self, head: str | None = None) -> Chain:
        """Verify every row, its place in the chain, and the file's own guards.

        Args:
            head: a head hash kept elsewhere, 64 hexadecimal digits. It may be an old one: entries after it are
                growth. One that is nowhere in the chain means that entries were cut off or the ledger was written anew.

        Raises:
            ConfigurationError: `head` is no hash.
            DataError: the file is absent, not a ledger, or of a newer format.
            StoreError: it cannot be read now.
        """
        kept = None if head is None else _hash(head)
        with self._opened("ro") as connection:
            rows, unreadable = _rows(connection)
            entries, hashes, broken = _follow(rows)
            broken = broken or unreadable or _unguarded(connection)
        if kept is not None and broken is None and kept not in hashes:
            broken = Break(None, f"the kept head hash {kept} is nowhere in the chain: {_CUT}")
        return Chain(entries, hashes, broken)

    def _whole(self) -> Chain:
        chain = self.check()
        if chain.broken is not None:
            raise TamperedError(f"the ledger {self.path} does not hold; {chain.broken}")
        return chain

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock", timeout=WAIT_S):
                yield
        except Timeout as error:
            raise StoreError(f"others hold {self.path} for more than {WAIT_S:g} s; try again when they end") from error
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error.strerror}; choose another with --ledger") from error

    @contextmanager
    def _opened(self, mode: Literal["ro", "rw", "rwc"]) -> Iterator[sqlite3.Connection]:
        if mode != "rwc":
            self._present()
        try:
            uri = f"{self.path.absolute().as_uri()}?mode={mode}"
            with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=WAIT_S)) as connection:
                # Text as it lies in the file: what was tampered with need not be UTF-8.
                connection.text_factory = bytes
                if mode != "rwc":
                    self._recognise(connection)
                yield connection
        except sqlite3.DatabaseError as error:
            raise StoreError(f"cannot use the ledger {self.path}: {error}; check permissions and free space") from error

    def _present(self) -> None:
        if not self.path.exists():
            raise DataError(f"{self.path} does not exist; `auditkit history add report.json` starts a ledger")
        if not self.path.is_file():
            raise DataError(f"{self.path} is not a file; name the ledger's file with --ledger")
        if self.path.stat().st_size == 0:
            raise DataError(f"{self.path} is empty, so it is not a ledger; remove it if none was ever kept there")

    def _recognise(self, connection: sqlite3.Connection) -> None:
        try:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        except _UNREADABLE as error:
            if _environmental(error):
                raise
            raise DataError(f"{self.path} is not a ledger: {error}; name another with --ledger") from error
        if application != _APPLICATION:
            raise DataError(f"{self.path} is a SQLite file, but not a ledger; name another with --ledger")
        if version != _FORMAT:
            raise DataError(f"{self.path} is a ledger of format {version}, this auditkit reads {_FORMAT}; upgrade it")

    def _create(self) -> None:
        start = _canonical({"ledger": "auditkit", "started": _now()})
        with self._opened("rwc") as connection, _transaction(connection):
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {_FORMAT}")
            _add(connection, 0, start, ORIGIN)

    def _insert(self, text: str, chain: Chain) -> Entry:
        number = len(chain.hashes)
        with self._opened("rw") as connection, _transaction(connection):
            made = _add(connection, number, text, chain.head)
        return _parse(number, text, made)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _hash(text: str) -> str:
    lowered = text.strip().lower()
    if len(lowered) != len(ORIGIN) or set(lowered) - set("0123456789abcdef"):
        raise ConfigurationError(f"--head must be a hash of 64 hexadecimal digits, got {text!r}; `check` prints it")
    return lowered


def _environmental(error: Exception) -> bool:
    # The low byte is the kind; what lies above refines it.
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _ENVIRONMENT


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # Closing without COMMIT takes everything back.
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("COMMIT")


def _add(connection: sqlite3.Connection, number: int, text: str, previous: str) -> str:
    made = chain_hash(previous.encode(), text.encode())
    connection.execute("INSERT INTO audits VALUES (?, ?, ?, ?)", (number, text, previous, made))
    return made


def _content(record: Record, report_digest: str) -> dict[str, Any]:
    """What is hashed: all of `Entry` but the number and the hash."""
    systems = tuple(
        SystemLine(s.name, s.method, s.verdict, s.depth.value, s.depth.low, s.depth.high)
        for s in record.systems
        if s.role == "unlearned"
    )
    entry = Entry(
        number=0, hash="", added=_now(), audited=record.created, verdict=record.verdict, generator=record.generator,
        config_digest=record.config_digest, report_digest=report_digest, dataset=record.dataset.name,
        dataset_digest=record.dataset.digest, regime=record.request.regime, request_digest=record.request.digest,
        systems=systems,
    )  # fmt: skip
    return {key: value for key, value in asdict(entry).items() if key not in ("number", "hash")}


def _parse(number: int, text: str | bytes, made: str) -> Entry:
    content = json.loads(text)
    systems = tuple(SystemLine(**line) for line in content.pop("systems"))
    return Entry(number=number, hash=made, systems=systems, **content)


def _rows(connection: sqlite3.Connection) -> tuple[list[_Row], Break | None]:
    """All rows that SQLite can read, in order, and why it cannot read on."""
    rows: list[_Row] = []
    try:
        for values in connection.execute("SELECT number, entry, previous, hash FROM audits ORDER BY number"):
            rows.append(_Row(*values))
    except _UNREADABLE as error:
        if _environmental(error):
            raise
        return rows, Break(len(rows), f"SQLite cannot read it: {error}; the file was damaged or altered")
    return rows, None if rows else Break(0, "it is missing: the row that starts the chain was removed")


def _follow(rows: list[_Row]) -> tuple[tuple[Entry, ...], tuple[str, ...], Break | None]:
    entries: list[Entry] = []
    hashes: list[str] = []
    for expected, row in enumerate(rows):
        fault = _fault(row, expected, hashes[-1] if hashes else ORIGIN)
        if fault is None and expected > 0:
            try:
                entries.append(_parse(expected, row.entry, row.hash.decode()))
            except (ValueError, TypeError, KeyError, AttributeError):
                fault = "it holds no audit: it was not written by auditkit"
        if fault is not None:
            return tuple(entries), tuple(hashes), Break(expected, fault)
        hashes.append(row.hash.decode())
    return tuple(entries), tuple(hashes), None


def _fault(row: _Row, expected: int, previous: str) -> str | None:
    if row.number != expected:
        return f"it is missing, number {row.number!r} stands in its place: entries were removed or inserted"
    columns = (row.entry, row.previous, row.hash)
    if not all(isinstance(column, bytes) for column in columns):
        return "it was changed: a column holds no text"
    if row.hash != chain_hash(row.previous, row.entry).encode():
        return "it was changed: its content does not match its hash"
    if row.previous != previous.encode():
        before = "it is not the row that started the chain" if expected == 0 else f"it does not follow {expected - 1}"
        return f"{before}: entries were removed, inserted, rewritten or put in another order"
    return None


def _schema(connection: sqlite3.Connection) -> list[tuple[bytes, ...]]:
    # What SQLite keeps for itself is named sqlite_*.
    asked = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY type, name"
    return [tuple(row) for row in connection.execute(asked)]


def _unguarded(connection: sqlite3.Connection) -> Break | None:
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.text_factory = bytes
        for statement in _SCHEMA:
            fresh.execute(statement)
        intact = _schema(connection) == _schema(fresh)
    return None if intact else Break(None, "the table or the triggers that forbid changes were dropped or altered")
