"""A store: one DuckDB file, opened for a moment at a time, each time for one transaction."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import duckdb
import pyarrow as pa
from duckdb_sqlalchemy import ConnectionWrapper
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from attattr_batch.errors import StoreError, UserError
from attattr_batch.store.database import migrate
from attattr_batch.store.database.interrupts import keyboard_interrupts
from attattr_batch.store.database.opening import (
    concerns_file,
    default_timeout_s,
    explain,
    identity,
    is_lock_error,
    open_duckdb,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


log = logging.getLogger(__name__)

# Files, whatever their paths: those whose views are known to be this release's, and those that keep others,
# which every reader has to pass over.
_views_checked: set[tuple[int, int]] = set()
_views_passed_over: set[tuple[int, int]] = set()

_PATIENT_S = 600.0  # a long query or export holds the file


class Store:
    """One database file. Cheap to make; the file is touched only inside `read()` and `write()`.

    Attributes:
        path: The database file.
        timeout_s: How long to wait while another process holds the file, in seconds; None stands for the
            environment's ATTATTR_LOCK_TIMEOUT, or 30.
        create: Whether `write()` makes a missing file.
    """

    def __init__(self, path: str | Path, *, timeout_s: float | None = None, create: bool = False):
        self.path = Path(path)
        self.timeout_s = default_timeout_s() if timeout_s is None else timeout_s
        self.create = create

    @contextmanager
    def read(self, *, folder: Path | None = None) -> Iterator[Connection]:
        """Opens the file for reading and gives a connection in one transaction (one consistent state).

        Args:
            folder: Absolute path of a folder in which statements may write files; they reach no other.

        Raises:
            StoreError: the file is missing, held too long by another process, no store of ours, or of a
                schema that this version does not read; or a query or a view reaches for other files.
        """
        started = time.monotonic()
        self._check_views()
        with self._rest(started)._open(read_only=True, folder=folder) as connection:
            migrate.check_readable(connection, self.path)
            with connection.begin():
                passed_over = identity(self.path) in _views_passed_over
                # The same file may have been overwritten by an earlier release's.
                if passed_over or migrate.views_are_earlier(connection):
                    migrate.hide_views(connection)
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Opens the file for writing and gives a connection in one transaction, committed on success.

        An older schema is migrated first. Any exception rolls the transaction back.

        Raises:
            StoreError: as for `read`; or the file or its folder is read-only, or the disk is full.
        """
        with self._open(read_only=False) as connection:
            known = identity(self.path)
            migrate.bring_up_to_date(connection, self.path, views_checked=known in _views_checked)
            if known is not None:
                _views_checked.add(known)
            with connection.begin():
                yield connection

    def migrate(self) -> None:
        """Brings tables and views to this version (every `write()` does so too); a no-op when they are."""
        with self.write():
            pass

    def check_ours(self) -> None:
        """Checks that the file is a store, of this release or an earlier one.

        Raises:
            StoreError: it is not, or it cannot be read.
        """
        with self._open(read_only=True) as connection:
            migrate.check_ours(connection, self.path)

    def patient(self) -> Store:
        """The same store for one who has worked for hours: it waits at least ten minutes for the file."""
        return Store(self.path, timeout_s=max(self.timeout_s, _PATIENT_S))

    def checkpoint(self) -> None:
        """Moves the write-ahead log into the database file; a later one does if someone holds the file.

        Raises:
            StoreError: the file is missing or read-only, or the disk is full.
        """
        try:
            with self._open(read_only=False) as connection:
                raw(connection).execute("CHECKPOINT")
        except StoreError as error:
            if error.__cause__ is None or not is_lock_error(error.__cause__):
                raise
            # What was committed is safe in the log, and whoever committed it has more to say.
            log.debug("no checkpoint: %s", error)

    def _check_views(self) -> None:
        """Sees to it, once for a file, that its views are this release's, whoever wrote it."""
        started, known = time.monotonic(), identity(self.path)
        if known in _views_checked:
            return
        with self._open(read_only=True) as connection:
            migrate.check_readable(connection, self.path)
            others = migrate.other_views(connection, self.path)
        if others:
            try:
                self._rest(started).migrate()
            except StoreError as error:  # a read-only archive, say
                log.warning("views of the store that are not this release's are passed over: %s", error)
                if known is not None:
                    _views_passed_over.add(known)
        if known is not None:
            _views_checked.add(known)

    def _rest(self, started: float) -> Store:
        """The same store for one who has waited since `started`, by `time.monotonic()`."""
        left_s = max(self.timeout_s - (time.monotonic() - started), 0.0)
        return Store(self.path, timeout_s=left_s, create=self.create)

    @contextmanager
    def _open(self, *, read_only: bool, folder: Path | None = None) -> Iterator[Connection]:
        if not (read_only or self.create or self.path.exists()):
            raise explain(duckdb.IOException("database does not exist"), self.path)

        connections = []

        def creator() -> ConnectionWrapper:
            opened = open_duckdb(self.path, read_only=read_only, timeout_s=self.timeout_s, folder=folder)
            connections.append(opened)
            if not read_only:
                # A checkpoint at every close would cost a second on a large file; the log is enough.
                opened.execute("PRAGMA disable_checkpoint_on_shutdown")
            return ConnectionWrapper(opened)

        # Nothing is rolled back at the end but by `begin`: the connection is closed, and a Ctrl-C that falls
        # into SQLAlchemy's own rolling back would be logged and forgotten.
        engine = create_engine("duckdb://", creator=creator, poolclass=NullPool, pool_reset_on_return=None)
        try:
            with keyboard_interrupts(), engine.connect() as connection:
                yield connection
        except (DBAPIError, duckdb.Error) as error:
            original = error.orig if isinstance(error, DBAPIError) else error
            if isinstance(original, duckdb.PermissionException):
                raise _out_of_reach(original, self.path) from error
            if isinstance(original, duckdb.Error) and concerns_file(original, self.path):
                raise explain(original, self.path) from error
            raise
        finally:
            engine.dispose()
            for opened in connections:  # an interrupt may have fallen into SQLAlchemy's own closing
                opened.close()


def _out_of_reach(error: duckdb.PermissionException, path: Path) -> StoreError:
    return StoreError(
        "a query, or a view in the database, reaches for what is not in the database, and none may",
        got=f"{path}: {str(error).partition(chr(10))[0]}",
        hint="read files of your own beside the store, not through it; a view that you do not know says that"
        " the database is not to be trusted",
    )


def raw(connection: Connection) -> DuckDBPyConnection:
    """DuckDB's own connection under a SQLAlchemy one; shares its transaction."""
    return cast("DuckDBPyConnection", connection.connection.driver_connection)


@contextmanager
def statement_errors() -> Iterator[None]:
    """Around the reading of a store: what DuckDB finds wrong with a statement is its writer's to mend."""
    try:
        yield
    except duckdb.Error as error:
        raise UserError("the query failed", got=error) from error


def arrow_result(connection: Connection, sql: str, values: Sequence[Any] = ()) -> pa.Table:
    """Rows of a query as an Arrow table, in the connection's transaction; `?` stands for the values."""
    found = raw(connection).sql(sql, params=list(values))
    if found is None:
        raise UserError("the statement gives no rows", got=sql)
    return found.to_arrow_table()


@contextmanager
def arrow_rows(connection: Connection, name: str, rows: pa.Table) -> Iterator[None]:
    """Makes an Arrow table readable under `name` in SQL on this connection, without copying it."""
    duck = raw(connection)
    duck.register(name, rows)
    yield
    # After an error it stays, as long as the connection: in a transaction that was broken off DuckDB refuses
    # this too, and its complaint would hide what happened.
    duck.unregister(name)
