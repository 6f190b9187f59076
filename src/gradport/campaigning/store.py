"""The store of a campaign: one SQLite file with a row for each case, and their Evidence by its hash.

Only the process of the campaign writes, and each result is committed before the next one is taken, so the end of this
process at any time loses the cases in flight only. Others may read meanwhile (write-ahead log).

https://www.sqlite.org/wal.html, https://www.sqlite.org/backup.html
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import sqlite3
import zlib
from collections.abc import Sequence
from typing import Any

from gradport.campaigning.cases import Action, CaseOutcome, Options, Result
from gradport.campaigning.planning import Planned
from gradport.errors import OutputError, SpecError

__all__ = ["Row", "Store", "copy_store", "count_outcomes"]

_VERSION = 1
"""Of the tables; `PRAGMA user_version` has it. `_UPGRADES` brings an older store to it."""

_UPGRADES: dict[int, str] = {}
"""By version: the statements that lead to the next one."""

_TABLES = """
CREATE TABLE environments (id TEXT PRIMARY KEY, versions TEXT NOT NULL);
CREATE TABLE options (id TEXT PRIMARY KEY, options TEXT NOT NULL);
CREATE TABLE sources (name TEXT PRIMARY KEY, pickled BLOB NOT NULL);
CREATE TABLE evidence (hash TEXT PRIMARY KEY, json BLOB NOT NULL);
CREATE TABLE cases (
    id TEXT PRIMARY KEY, source TEXT NOT NULL, subject TEXT NOT NULL, action TEXT NOT NULL,
    opset INTEGER, dtype TEXT, functions TEXT, dynamic INTEGER, runtime TEXT, python TEXT NOT NULL, task TEXT NOT NULL,
    column_name TEXT NOT NULL,
    outcome TEXT NOT NULL, kind TEXT NOT NULL, figure REAL, unit TEXT NOT NULL, message TEXT NOT NULL,
    location TEXT NOT NULL, evidence TEXT NOT NULL, seconds REAL NOT NULL, processor_seconds REAL NOT NULL,
    peak INTEGER NOT NULL, tries INTEGER NOT NULL, signal TEXT NOT NULL, output TEXT NOT NULL,
    digest TEXT NOT NULL, options TEXT NOT NULL, environment TEXT NOT NULL, finished TEXT NOT NULL
);
"""


@dataclasses.dataclass(frozen=True)
class Row:
    """One case with its result; `row["outcome"]` is `row.outcome`.

    Attributes:
        id: of the case.
        source, subject, action, opset, dtype, functions, dynamic, runtime, python, task: see Case.
        column: of the matrix: action and setting.
        outcome, kind, figure, unit, message, where: see Result.
        seconds, processor_seconds, peak, tries, signal, output: see Result.
        evidence: the hash under which the store has the Evidence; empty without one.
        digest: of the Subject's source, the settings and the versions: while it is equal, the case need not run again.
        options: of the campaign that ran it.
        versions: of the environment that ran it.
        finished: the time in UTC, ISO 8601.
    """

    id: str
    source: str
    subject: str
    action: Action
    opset: int | None
    dtype: str | None
    functions: str | None
    dynamic: bool | None
    runtime: str | None
    python: str
    task: str
    column: str
    outcome: CaseOutcome
    kind: str
    figure: float | None
    unit: str
    message: str
    where: str
    evidence: str
    seconds: float
    processor_seconds: float
    peak: int
    tries: int
    signal: str
    output: str
    digest: str
    options: Options
    versions: dict[str, str]
    finished: str

    def __getitem__(self, name: str) -> Any:
        if name not in _FIELDS:
            raise KeyError(name)
        return getattr(self, name)

    def keys(self) -> tuple[str, ...]:
        """The names of the fields."""
        return _FIELDS

    def to_dict(self) -> dict[str, Any]:
        """The fields in JSON types."""
        return {**dataclasses.asdict(self), "action": str(self.action), "outcome": str(self.outcome)}


_FIELDS = tuple(field.name for field in dataclasses.fields(Row))


def count_outcomes(rows: Sequence[Row]) -> dict[str, int]:
    """The number of rows of each outcome, in the order of CaseOutcome."""
    counted = collections.Counter(row.outcome for row in rows)
    return {str(outcome): counted[outcome] for outcome in CaseOutcome if counted[outcome]}


class Store:
    """A file of results.

    Args:
        path: the file; created if it is missing. None: in memory.
        writes: take it for writing; otherwise it is read only.

    Raises:
        SpecError: the file is not a store, is of a later gradport, or does not exist and is only read.
        OutputError: the file cannot be written, or another campaign writes it.
    """

    def __init__(self, path: str | os.PathLike[str] | None, *, writes: bool = False) -> None:
        self.path = None if path is None else pathlib.Path(path)
        self._lock: int | None = None
        if self.path is not None and self.path.is_dir():
            raise SpecError(f"{self.path} is a folder; give the file of a store.")
        if self.path is not None and not writes and not self.path.is_file():
            raise SpecError(f"{self.path}: file not found; a campaign writes it with --store.")
        if self.path is not None and writes:
            self._lock = _lock(self.path)
        try:
            self._database = self._open(writes)
        except BaseException:
            self._unlock()
            raise
        self._known: set[tuple[str, str]] = set()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._database.close()
        self._unlock()  # after the database: closing a descriptor would end the locks of SQLite

    def add(self, planned: Planned, result: Result, options: Options) -> None:
        """Writes a result, which replaces an earlier one of the same case.

        Args:
            planned: the case.
            result: its result, with the text of its Evidence.
            options: of the campaign.

        Raises:
            OutputError: the disk is full, or the file cannot be written.
        """
        case, text = planned.case, result.evidence.encode("utf-8", "backslashreplace")
        versions, settings = (_text(one) for one in (planned.versions, dataclasses.asdict(options)))
        measured = {name: _storable(value) for name, value in result.to_dict().items()}
        values = {**case.to_dict(), **measured, "evidence": _hash(text) if text else ""}
        values |= {"id": case.id, "column_name": planned.column, "location": values.pop("where")}
        values |= {"digest": planned.digest, "finished": _now()}
        values |= {"environment": _hash(versions.encode()), "options": _hash(settings.encode())}
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        run = self._database.execute
        try:
            with self._database:
                if (values["environment"], values["options"]) not in self._known:
                    run("INSERT OR IGNORE INTO environments VALUES (?, ?)", (values["environment"], versions))
                    run("INSERT OR IGNORE INTO options VALUES (?, ?)", (values["options"], settings))
                if text:
                    run("INSERT OR IGNORE INTO evidence VALUES (?, ?)", (values["evidence"], zlib.compress(text)))
                run(f"INSERT OR REPLACE INTO cases ({names}) VALUES ({marks})", [*values.values()])
        except sqlite3.Error as error:
            raise OutputError(
                f"{self.path}: the result of {case.subject} cannot be written ({error}); the store keeps all earlier "
                "results. Free space on the disk and start the same command again: it goes on from there."
            ) from error
        self._known.add((values["environment"], values["options"]))

    def add_source(self, name: str, pickled: bytes) -> None:
        """Keeps the objects of a source, so that its cases can be repeated."""
        with self._database:
            self._database.execute("INSERT OR REPLACE INTO sources VALUES (?, ?)", (name, pickled))

    def source(self, name: str) -> bytes | None:
        """The objects of a source that was sent with the cases; None for a file or a module."""
        found = self._database.execute("SELECT pickled FROM sources WHERE name = ?", (name,)).fetchone()
        return None if found is None else bytes(found[0])

    def rows(self) -> list[Row]:
        """All rows in the order of their subjects and columns."""
        run = self._database.execute
        versions = {id: json.loads(text) for id, text in run("SELECT id, versions FROM environments")}
        options = {id: Options(**json.loads(text)) for id, text in run("SELECT id, options FROM options")}
        found = run("SELECT * FROM cases ORDER BY rowid")
        names = [column[0] for column in found.description]
        return [_row(dict(zip(names, values, strict=True)), versions, options) for values in found]

    def unchanged(self, planned: Sequence[Planned], options: Options) -> dict[str, CaseOutcome]:
        """The outcomes of cases whose results still hold, by id; a case that broke a limit runs again under another
        limit."""
        own = _hash(_text(dataclasses.asdict(options)).encode())
        limits = (CaseOutcome.TIME, CaseOutcome.MEMORY)
        found = self._database.execute("SELECT id, digest, outcome, options FROM cases")
        held = {
            id: (digest, CaseOutcome(outcome))
            for id, digest, outcome, used in found
            if outcome not in limits or used == own
        }
        nothing = ("", CaseOutcome.OK)
        return {one.case.id: held[one.case.id][1] for one in planned if held.get(one.case.id, nothing)[0] == one.digest}

    def evidence(self, hash: str) -> str:
        """The JSON of Evidence.

        Raises:
            SpecError: the store does not have it.
        """
        found = self._database.execute("SELECT json FROM evidence WHERE hash = ?", (hash,)).fetchone()
        if found is None:
            raise SpecError(f"{self.path} has no Evidence {hash!r}.")
        return zlib.decompress(found[0]).decode()

    def back_up(self, place: pathlib.Path) -> int:
        """Writes a copy, and gives the number of its cases."""
        with contextlib.closing(sqlite3.connect(place)) as copied:
            self._database.backup(copied)
            count: int = copied.execute("SELECT count(*) FROM cases").fetchone()[0]
        return count

    def _open(self, writes: bool) -> sqlite3.Connection:
        name = ":memory:" if self.path is None else str(self.path)
        try:
            # a reader writes too: SQLite needs its log file, which holds the newest rows; a read-only store has no log
            is_fixed = self.path is not None and not writes and not os.access(self.path, os.W_OK)
            name = f"{self.path.absolute().as_uri()}?immutable=1" if self.path is not None and is_fixed else name
            database = sqlite3.connect(name, timeout=30.0, check_same_thread=False, uri=is_fixed)
            version = database.execute("PRAGMA user_version").fetchone()[0]
            tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables and (writes or self.path is None):
                database.execute("PRAGMA journal_mode = WAL")
                database.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")
                version = _VERSION
            elif "cases" not in tables:
                raise SpecError(f"{self.path} is not the store of a campaign.")
            database.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.DatabaseError as error:
            kind = OutputError if isinstance(error, sqlite3.OperationalError) else SpecError
            raise kind(f"{self.path} cannot be opened as the store of a campaign: {error}.") from error
        if version > _VERSION:
            raise SpecError(f"{self.path} has version {version}, and this gradport reads {_VERSION}; update gradport.")
        for step in range(version, _VERSION):
            database.executescript(f"BEGIN; {_UPGRADES[step]} PRAGMA user_version = {step + 1}; COMMIT;")
        return database

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def copy_store(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> int:
    """Copies a store, also while a campaign writes it; the copy has all results that were committed before its end.

    Returns:
        The number of cases.

    Raises:
        SpecError: the source is not a store.
        OutputError: the target exists, or cannot be written.
    """
    place = pathlib.Path(target)
    if place.exists():
        raise OutputError(f"{place} exists; give another name, or remove it.")
    part = place.with_name(f".{place.name}.part")
    with Store(source) as store:
        try:
            part.unlink(missing_ok=True)
            count = store.back_up(part)
            part.rename(place)
        except (sqlite3.Error, OSError) as error:
            raise OutputError(f"{place} cannot be written: {error}.") from error
        finally:
            part.unlink(missing_ok=True)
    return count


def _lock(path: pathlib.Path) -> int:
    """Takes the file for this process; others are refused until it ends."""
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}; give another --store.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise OutputError(f"{path}: another campaign writes this store; give another --store.") from error
    return descriptor


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _storable(value: Any) -> Any:
    """Texts without lone surrogates, which SQLite refuses: a user's code may print anything."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)


def _row(values: dict[str, Any], versions: dict[str, dict[str, str]], options: dict[str, Options]) -> Row:
    values |= {"column": values.pop("column_name"), "where": values.pop("location")}
    values |= {"action": Action(values["action"]), "outcome": CaseOutcome(values["outcome"])}
    values["dynamic"] = None if values["dynamic"] is None else bool(values["dynamic"])
    environment = values.pop("environment")
    return Row(**{**values, "options": options[values["options"]]}, versions=versions[environment])


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
