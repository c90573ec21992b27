"""A store: one DuckDB file, opened for a moment at a time, each time for one transaction."""

from __future__ import annotations

import logging
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
from attattr_batch.store import migrate
from attattr_batch.store.opening import (
    concerns_file,
    default_timeout_s,
    explain,
    is_lock_error,
    keyboard_interrupts,
    open_duckdb,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


log = logging.getLogger(__name__)

_VIEWS_CHECKED: set[str] = set()

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
    def read(self) -> Iterator[Connection]:
        """Opens the file for reading and gives a connection in one transaction (one consistent state).

        Raises:
            StoreError: the file is missing, held too long by another process, no store of ours, or of a
                schema that this version does not read.
        """
        self._refresh_views()
        with self._open(read_only=True) as connection:
            migrate.check_readable(connection, self.path)
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Opens the file for writing and gives a connection in one transaction, committed on success.

        An older schema is migrated first. Any exception rolls the transaction back.

        Raises:
            StoreError: as for `read`; or the file or its folder is read-only, or the disk is full.
        """
        with self._open(read_only=False) as connection:
            migrate.bring_up_to_date(connection, self.path)
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

    def _refresh_views(self) -> None:
        """Brings views that an earlier release has written up to date, once; readers rely on them."""
        key = str(self.path.absolute())
        if key in _VIEWS_CHECKED:
            return
        with self._open(read_only=True) as connection:
            migrate.check_readable(connection, self.path)
            stale = migrate.views_are_stale(connection)
        if stale:
            try:
                self.migrate()
            except StoreError as error:  # a read-only archive, say: its own views still work
                log.warning("the store's views are those of an earlier release: %s", error)
        _VIEWS_CHECKED.add(key)

    @contextmanager
    def _open(self, *, read_only: bool) -> Iterator[Connection]:
        if not (read_only or self.create or self.path.exists()):
            raise explain(duckdb.IOException("database does not exist"), self.path)

        connections = []

        def creator() -> ConnectionWrapper:
            opened = open_duckdb(self.path, read_only=read_only, timeout_s=self.timeout_s)
            if not read_only:
                # A checkpoint at every close would cost a second on a large file; the log is enough.
                opened.execute("PRAGMA disable_checkpoint_on_shutdown")
            connections.append(opened)
            return ConnectionWrapper(opened)

        engine = create_engine("duckdb://", creator=creator, poolclass=NullPool)
        try:
            with keyboard_interrupts(), engine.connect() as connection:
                yield connection
        except (DBAPIError, duckdb.Error) as error:
            original = error.orig if isinstance(error, DBAPIError) else error
            if isinstance(original, duckdb.Error) and concerns_file(original, self.path):
                raise explain(original, self.path) from error
            raise
        finally:
            engine.dispose()
            for opened in connections:  # an interrupt may have fallen into SQLAlchemy's own closing
                opened.close()


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
    try:
        yield
    finally:
        duck.unregister(name)
