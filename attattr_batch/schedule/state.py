"""The schedules file: schedules and what came of their ticks, in SQLite, beside the stores.

It is not part of a store because DuckDB's file is locked while a run commits. A tick is claimed by inserting
its row, whose primary key is (schedule, tick). A lock file for each schedule shows whether the process that
claimed a tick still lives: the kernel frees the lock however that process ends, so the next caller knows that
it has to resume the tick.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from attattr_batch.errors import UserError, unknown_name
from attattr_batch.schedule.settings import Schedule
from attattr_batch.schedule.timing import parse_stamp, stamp

Status = Literal["running", "done", "unchanged", "failed"]

Resolved = list[dict[str, Any]]
"""The runs of a tick as plain JSON values: the settings of each."""

_VERSION = 4
_WAIT_S = 30.0
_UPGRADES = Path(__file__).parent / "upgrades"


@dataclass(frozen=True)
class TickOutcome:
    """What came of a tick.

    Attributes:
        message: One line for people.
        runs: Ids of its runs in the store, in the order of the spec.
        findings: What needs attention: quarantined examples, failed audits, drift.
    """

    message: str
    runs: Sequence[int] = ()
    findings: Sequence[str] = ()


@dataclass(frozen=True)
class TickRow:
    """What is known of a tick.

    Attributes:
        schedule: Name of the schedule.
        tick: The tick, in UTC.
        status: `running` (or interrupted), `done`, `unchanged` (its runs are those of the tick before) or
            `failed`.
        attempts: How often it was started.
        resolved: Its runs, once they are fixed (see `schedule.specs`).
        outcome: What came of it; None while it is running.
    """

    schedule: str
    tick: datetime
    status: Status
    attempts: int = 1
    resolved: Resolved | None = None
    outcome: TickOutcome | None = None

    @property
    def needs_attention(self) -> bool:
        """Whether it failed or has findings."""
        return self.status == "failed" or bool(self.outcome and self.outcome.findings)


class State:
    """The schedules file.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path):
        self.path = path

    @contextmanager
    def transaction(self, *, create: bool = False) -> Iterator[Transaction]:
        """Opens the file for one transaction; those of other processes wait.

        Args:
            create: Whether to make a file that does not exist. Only adding a schedule does: a mistyped path
                would otherwise be a file without schedules, in which nothing is ever due.

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
                _upgrade(connection, self.path)
                yield Transaction(connection)
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            hint = "give another with --schedules, or make its folder"
            raise UserError(
                "the schedules file cannot be used", got=f"{self.path}: {error}", hint=hint
            ) from error

    @contextmanager
    def lock(self, schedule: str) -> Iterator[bool]:
        """Holds the lock of a schedule's runs; gives False where somebody else holds it.

        Take it within a transaction, so that `remove` cannot delete the lock file in between.

        Raises:
            UserError: the lock file cannot be used.
        """
        path = self._lock_file(schedule)
        with ExitStack() as stack:
            try:
                fcntl.flock(stack.enter_context(path.open("ab")), fcntl.LOCK_EX | fcntl.LOCK_NB)
                free = True
            except BlockingIOError:
                free = False
            except OSError as error:
                hint = "the folder of the schedules file must be writable, on a file system with locks"
                raise UserError(
                    "the lock of a schedule cannot be taken", got=f"{path}: {error.strerror}", hint=hint
                ) from error
            yield free

    def remove(self, schedule: str) -> None:
        """Forgets a schedule and its ticks; the runs in the store stay.

        Raises:
            UserError: there is no such schedule, or the file cannot be used.
        """
        with self.transaction() as transaction:
            transaction.find(schedule)
            transaction.remove(schedule)
            with self.lock(schedule) as free:
                if free:  # otherwise a tick is still running
                    self._lock_file(schedule).unlink()

    def update(self, row: TickRow) -> None:
        """Changes a tick, in a transaction of its own."""
        with self.transaction() as transaction:
            transaction.update(row)

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
            raise unknown_name("schedule", name, known)
        return known[name]

    def add(self, schedule: Schedule) -> None:
        """Stores a new schedule.

        Raises:
            UserError: its name is taken.
        """
        if any(schedule.name == known.name for known in self.schedules()):
            hint = f"`attattr schedule rm {schedule.name}` first, or choose another name"
            raise UserError("there is a schedule of this name", got=schedule.name, hint=hint)
        values = [schedule.name, schedule.model_dump_json()]
        self._connection.execute("INSERT INTO schedules VALUES (?, ?)", values)

    def remove(self, name: str) -> None:
        """Forgets a schedule and its ticks."""
        self._connection.execute("DELETE FROM schedules WHERE name = ?", [name])
        self._connection.execute("DELETE FROM ticks WHERE schedule = ?", [name])

    def ticks(self, schedule: str) -> list[TickRow]:
        """Every known tick of a schedule, oldest first."""
        query = "SELECT * FROM ticks WHERE schedule = ? ORDER BY tick"
        return [_tick_row(*row) for row in self._connection.execute(query, [schedule]).fetchall()]

    def insert(self, row: TickRow) -> None:
        """Stores a new tick."""
        self._connection.execute("INSERT INTO ticks VALUES (?, ?, ?, ?, ?, ?)", _values(row))

    def update(self, row: TickRow) -> None:
        """Changes a tick, if its schedule was not removed while it ran. Runs that are fixed stay."""
        schedule, tick, *values = _values(row)
        query = "UPDATE ticks SET status = ?, attempts = ?, resolved = coalesce(?, resolved), outcome = ?"
        self._connection.execute(f"{query} WHERE schedule = ? AND tick = ?", [*values, schedule, tick])


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    """Makes the tables of a new file (of version 0), and brings those of an earlier release up to date."""
    while (version := connection.execute("PRAGMA user_version").fetchone()[0]) != _VERSION:
        script = _UPGRADES / f"from_{version}.sql"
        foreign = version == 0 and connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        if foreign or not script.exists():
            raise UserError(
                "the schedules file is not one of ours, or of another release",
                got=f"{path}: version {version}",
                allowed=f"version {_VERSION}",
            )
        for statement in script.read_text(encoding="utf-8").split(";"):
            connection.execute(statement)


def _values(row: TickRow) -> list[Any]:
    outcome = None if row.outcome is None else asdict(row.outcome)
    texts = [None if value is None else json.dumps(value) for value in (row.resolved, outcome)]
    return [row.schedule, stamp(row.tick), row.status, row.attempts, *texts]


def _tick_row(
    schedule: str, tick: str, status: Status, attempts: int, resolved: str | None, outcome: str | None
) -> TickRow:
    runs = None if resolved is None else json.loads(resolved)
    came = None if outcome is None else TickOutcome(**json.loads(outcome))
    return TickRow(schedule, parse_stamp(tick), status, attempts, runs, came)
