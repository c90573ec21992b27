"""A store: one DuckDB file, opened for a moment at a time, each time for one transaction."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import duckdb
from duckdb_sqlalchemy import ConnectionWrapper
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from attattr_batch.errors import UserError
from attattr_batch.store.database import migrate
from attattr_batch.store.database.opening import (
    HeldError,
    concerns_file,
    default_timeout_s,
    explain,
    open_duckdb,
)

if TYPE_CHECKING:
    import pyarrow as pa  # slow to import, and `fetched_rows` does without

log = logging.getLogger(__name__)

_PATIENT_S = 600.0  # a long query or export holds the file
_INTERRUPTED = ("Query interrupted", "failed: KeyboardInterrupt: ")


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

        Views of this release answer as this release defines them, whatever the file has under their names.

        Args:
            folder: Absolute path of a folder in which statements may write files; they reach no other.

        Raises:
            StoreError: the file is missing, held too long by another process, no store of ours, or of a
                schema that this version does not read; or a query or a view reaches for other files.
        """
        with self._open(read_only=True, folder=folder) as connection:
            migrate.check_ours(connection, self.path)
            with connection.begin():
                migrate.hide_other_views(connection, self.path)
                yield connection

    @contextmanager
    def read_earlier(self, *, folder: Path | None = None) -> Iterator[Connection]:
        """As `read`, but of an earlier release's schema too, with its own views, and in no transaction."""
        with self._open(read_only=True, folder=folder) as connection:
            migrate.check_ours(connection, self.path, earlier=True)
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
        """Brings tables and views to this version, as every `write()` does; a no-op when they are."""
        with self.write():
            pass

    def patient(self) -> Store:
        """The same store for work of hours, which waits at least ten minutes for the file."""
        return Store(self.path, timeout_s=max(self.timeout_s, _PATIENT_S))

    def checkpoint(self) -> None:
        """Moves the write-ahead log into the database file; a later one does if someone holds the file.

        Raises:
            StoreError: the file is missing or read-only, or the disk is full.
        """
        try:
            with self._open(read_only=False) as connection:
                raw(connection).execute("CHECKPOINT")
        except HeldError as error:  # what was committed is safe in the log
            log.debug("no checkpoint: %s", error)

    @contextmanager
    def _open(self, *, read_only: bool, folder: Path | None = None) -> Iterator[Connection]:
        if not (read_only or self.create or self.path.exists()):
            raise explain(duckdb.IOException("database does not exist"), self.path)

        try:
            # Closed here too, as an interrupt may fall into SQLAlchemy's own closing.
            with closing(
                open_duckdb(self.path, read_only=read_only, timeout_s=self.timeout_s, folder=folder)
            ) as opened:
                if not read_only:
                    # A checkpoint at every close would cost a second on a large file; the log is enough.
                    opened.execute("PRAGMA disable_checkpoint_on_shutdown")
                # Only `begin` rolls back: SQLAlchemy's rolling back at the end would log and forget a Ctrl-C.
                engine = create_engine(
                    "duckdb://",
                    creator=lambda: ConnectionWrapper(opened),
                    poolclass=NullPool,
                    pool_reset_on_return=None,
                )
                with engine.connect() as connection:
                    yield connection
        except Exception as error:
            if _is_interrupt(error):
                raise KeyboardInterrupt from error
            original = error.orig if isinstance(error, DBAPIError) else error
            if isinstance(original, duckdb.Error) and concerns_file(original):
                raise explain(original, self.path) from error
            raise


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether an error comes of a Ctrl-C.

    DuckDB makes errors of its own of a Ctrl-C during a statement, or while it reads Arrow data, and what that
    breaks may complain in turn.
    """
    while error is not None:
        message = str(error) if isinstance(error, RuntimeError | duckdb.Error) else ""
        if isinstance(error, KeyboardInterrupt) or any(fragment in message for fragment in _INTERRUPTED):
            return True
        error = error.__cause__ or error.__context__
    return False


def raw(connection: Connection) -> duckdb.DuckDBPyConnection:
    """DuckDB's own connection under a SQLAlchemy one; shares its transaction."""
    return cast(duckdb.DuckDBPyConnection, connection.connection.driver_connection)


@contextmanager
def statement_errors() -> Iterator[None]:
    """Around the reading of a store: turns what DuckDB finds wrong with a statement into a UserError."""
    try:
        yield
    except duckdb.Error as error:
        raise UserError("the query failed", got=error) from error


def fetched_rows(connection: Connection, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of a query of ours, in the connection's transaction; for few rows."""
    with statement_errors():
        found = raw(connection).execute(sql)
        return [column[0] for column in found.description or ()], found.fetchall()


def arrow_result(connection: Connection, sql: str, values: Sequence[Any] = ()) -> pa.Table:
    """Rows of a query as an Arrow table, in the connection's transaction; `?` stands for the values."""
    found = raw(connection).sql(sql, params=list(values))
    if found is None:
        raise UserError("the statement gives no rows", got=sql)
    return found.to_arrow_table()


@contextmanager
def arrow_rows(connection: Connection, name: str, rows: pa.Table | pa.RecordBatchReader) -> Iterator[None]:
    """Makes Arrow rows readable under `name` in SQL on this connection, without copying them.

    Batches of a reader can be read once.
    """
    duck = raw(connection)
    duck.register(name, rows)
    yield
    # After an error the name stays until the connection closes: in a broken transaction DuckDB refuses to
    # remove it, and that complaint would hide what happened.
    duck.unregister(name)
