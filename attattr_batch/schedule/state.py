"""The schedules and what became of their ticks: a small SQLite file beside the stores.

Not in the store itself: DuckDB's file is locked while a run commits. A tick is claimed by inserting its row,
whose primary key is (schedule, tick); a lock file a schedule says whether the claim's process still lives.
The kernel frees that lock however the process ends, so that the next caller knows to resume.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from attattr_batch.errors import UserError, did_you_mean
from attattr_batch.schedule.settings import Schedule, make_schedule
from attattr_batch.schedule.timing import parse_stamp, stamp

Status = Literal["running", "done", "unchanged", "failed", "skipped"]

_VERSION = 2
_WAIT_S = 30.0
_TABLES = """
CREATE TABLE schedules (name TEXT PRIMARY KEY, settings TEXT NOT NULL);
CREATE TABLE ticks (
    schedule TEXT NOT NULL,
    tick TEXT NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    resolved TEXT,
    outcome TEXT,
    ran TEXT NOT NULL,
    PRIMARY KEY (schedule, tick)
);
"""
_FROM_VERSION_1 = """
ALTER TABLE ticks ADD COLUMN ran TEXT NOT NULL DEFAULT '[]';
UPDATE ticks SET ran = json_array(json_array(started_at, finished_at)) WHERE started_at IS NOT NULL;
ALTER TABLE ticks DROP COLUMN started_at;
ALTER TABLE ticks DROP COLUMN finished_at;
"""

Span = tuple[datetime, datetime | None]


@dataclass(frozen=True)
class TickRow:
    """What is known of a tick.

    Attributes:
        schedule: Name of the schedule.
        tick: The tick, in UTC.
        status: `running` (or interrupted), `done`, `unchanged` (nothing new to attribute), `failed`, or
            `skipped` (missed, or overlapped by the run before).
        attempts: How often it was started.
        resolved: Its runs, once fixed (see `template.Resolved`).
        outcome: What came of it: `message`, `runs`, `findings`.
        ran: Start and end of every attempt; the end of one whose process died is not known.
    """

    schedule: str
    tick: datetime
    status: Status
    attempts: int = 0
    resolved: dict[str, Any] | None = None
    outcome: dict[str, Any] | None = None
    ran: tuple[Span, ...] = ()

    def ran_until(self, now: datetime) -> tuple[Span, ...]:
        """`ran`, where the last attempt ends now."""
        return (*self.ran[:-1], (self.ran[-1][0], now))


class State:
    """The schedules file.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path):
        self.path = path

    @contextmanager
    def transaction(self, *, create: bool = False) -> Iterator[Transaction]:
        """Gives the file for one transaction that no other process's overlaps.

        Args:
            create: Whether to make the file where there is none; else a mistyped path would be a file without
                schedules, of which nothing is ever due.

        Raises:
            UserError: the file cannot be used.
        """
        if not (create or self.path.exists()):
            hint = "`attattr schedule add` makes it; --schedules names another"
            raise UserError("there is no schedules file", got=self.path, hint=hint)
        try:
            connection = sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)
            with closing(connection):
                connection.execute("BEGIN IMMEDIATE")
                _prepare(connection, self.path)
                yield Transaction(connection)
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            hint = "give another with --schedules, or make its folder"
            raise UserError(
                "the schedules file cannot be used", got=f"{self.path}: {error}", hint=hint
            ) from error

    def lock(self, schedule: str) -> int | None:
        """Takes the lock of a schedule's runs; None where a living process has it.

        Call it within a transaction, so that `remove` cannot delete the file in between.

        Returns:
            What `os.close` frees.

        Raises:
            UserError: the lock file cannot be used.
        """
        path = self._lock_file(schedule)
        descriptor = None
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if descriptor is not None:
                os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return None
            hint = "the folder of the schedules file must be writable, on a file system with locks"
            raise UserError(
                "the lock of a schedule cannot be taken", got=f"{path}: {error.strerror}", hint=hint
            ) from error
        return descriptor

    def remove(self, schedule: str) -> None:
        """Forgets a schedule and its ticks; the runs in the store stay.

        Raises:
            UserError: there is no such schedule, or the file cannot be used.
        """
        with self.transaction() as transaction:
            transaction.find(schedule)
            transaction.remove(schedule)
            lock = self.lock(schedule)
            if lock is not None:  # else a tick still runs
                self._lock_file(schedule).unlink(missing_ok=True)
                os.close(lock)

    def _lock_file(self, schedule: str) -> Path:
        return Path(f"{self.path}.{schedule}.lock")


class Transaction:
    """Reads and changes schedules and ticks within one transaction."""

    def __init__(self, connection: sqlite3.Connection):
        self._connection = connection

    def schedules(self) -> list[Schedule]:
        """Every schedule, by name."""
        rows = self._connection.execute("SELECT settings FROM schedules ORDER BY name").fetchall()
        return [Schedule.model_validate_json(settings) for (settings,) in rows]

    def find(self, name: str) -> Schedule:
        """The schedule of this name.

        Raises:
            UserError: there is none.
        """
        known = {schedule.name: schedule for schedule in self.schedules()}
        if name not in known:
            allowed = ", ".join(known) or "(there are none yet)"
            raise UserError("no such schedule", got=name, allowed=allowed, hint=did_you_mean(name, known))
        return known[name]

    def add(self, schedule: Schedule) -> None:
        """Stores a new schedule, which has no ticks yet, whatever an earlier one of its name left.

        Raises:
            UserError: its name is taken.
        """
        try:
            self._connection.execute(
                "INSERT INTO schedules VALUES (?, ?)", [schedule.name, schedule.model_dump_json()]
            )
        except sqlite3.IntegrityError as error:
            hint = f"`attattr schedule rm {schedule.name}` first, or choose another name"
            raise UserError("there is a schedule of this name", got=schedule.name, hint=hint) from error
        self._connection.execute("DELETE FROM ticks WHERE schedule = ?", [schedule.name])

    def remove(self, name: str) -> None:
        """Forgets a schedule and its ticks; the runs in the store stay."""
        self._connection.execute("DELETE FROM schedules WHERE name = ?", [name])
        self._connection.execute("DELETE FROM ticks WHERE schedule = ?", [name])

    def ticks(self, schedule: str) -> list[TickRow]:
        """Every known tick of a schedule, oldest first."""
        query = "SELECT * FROM ticks WHERE schedule = ? ORDER BY tick"
        return [_tick_row(row) for row in self._connection.execute(query, [schedule]).fetchall()]

    def insert(self, rows: Sequence[TickRow]) -> None:
        """Stores new ticks."""
        values = [_values(row) for row in rows]
        self._connection.executemany("INSERT INTO ticks VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def update(self, row: TickRow) -> None:
        """Changes a tick; one that went with its schedule while it ran stays away."""
        schedule, tick, *values = _values(row)
        query = "UPDATE ticks SET status = ?, attempts = ?, resolved = ?, outcome = ?, ran = ?"
        self._connection.execute(f"{query} WHERE schedule = ? AND tick = ?", [*values, schedule, tick])


def add_schedule(state: State, values: dict[str, Any]) -> Schedule:
    """Checks and stores a schedule.

    Raises:
        UserError: it cannot be used, or its name is taken.
    """
    schedule = make_schedule(values)
    with state.transaction(create=True) as transaction:
        transaction.add(schedule)
    return schedule


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0 and not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        _make_version(connection, _TABLES)
    elif version == 1:
        _make_version(connection, _FROM_VERSION_1)
    elif version != _VERSION:
        raise UserError(
            "the schedules file is not one of ours, or of another release",
            got=f"{path}: version {version}",
            allowed=f"version {_VERSION}",
        )


def _make_version(connection: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";")[:-1]:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {_VERSION}")


def _values(row: TickRow) -> list[Any]:
    texts = [None if value is None else json.dumps(value) for value in (row.resolved, row.outcome)]
    ran = [[None if time is None else time.isoformat() for time in span] for span in row.ran]
    return [row.schedule, stamp(row.tick), row.status, row.attempts, *texts, json.dumps(ran)]


def _tick_row(row: Sequence[Any]) -> TickRow:
    schedule, tick, status, attempts, resolved, outcome, ran = row
    runs, came = (None if text is None else json.loads(text) for text in (resolved, outcome))
    spans = tuple((_time(start), None if end is None else _time(end)) for start, end in json.loads(ran))
    return TickRow(schedule, parse_stamp(tick), status, attempts, runs, came, spans)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
