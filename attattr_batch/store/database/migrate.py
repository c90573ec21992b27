"""Brings a database file to this version's tables, views and comments.

Tables change through Alembic migrations (schema/versions). Views and comments hold no data: they are written
anew whenever a file does not have them as this release defines them.

To change a table: change tables.py, write the next schema/versions/NNNN_*.py by hand, raise `SCHEMA_VERSION`,
regenerate the data dictionary. tests/store/test_store_migrate.py says what the migration still lacks.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.schema import CreateTable

from attattr_batch.errors import StoreError, one_line
from attattr_batch.files import data_folder
from attattr_batch.store.database.opening import identity
from attattr_batch.store.database.sqlfile import SqlFile, literal, load_folder
from attattr_batch.store.database.tables import job_runs, meta, metadata

SCHEMA_VERSION = "0008"
"""Newest migration in schema/versions; what this program reads and writes."""

VERSION_TABLE = "attattr_schema"
"""Alembic's bookkeeping table; its presence marks a file as ours."""

_HASH_KEY, _NAMES_KEY = "views_and_comments", "views"
"""Keys in `meta`: the hash of the views and comments that the file was last given, and the views' names."""

# Files whose views are known to be this release's: listing them takes 25 ms on a freshly opened file. With
# their paths, because a new file may get the inode of one that was deleted.
_compared: set[tuple[Path, tuple[int, int]]] = set()

_TABLES = "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()"
_VIEWS = (
    "SELECT lower(view_name), sql FROM duckdb_views()"
    " WHERE database_name = current_database() AND NOT internal"
)


def check_ours(connection: Connection, path: Path, *, earlier: bool = False) -> None:
    """Checks that the open file has exactly this release's schema, or, with `earlier`, one before it.

    Raises:
        StoreError: it has not.
    """
    version = _schema_version(connection, path)
    if version is None:
        raise StoreError("the database is empty", got=path, hint="`attattr run` fills it")
    if version < SCHEMA_VERSION and not earlier:
        raise StoreError(
            "the database was written by an older version of attattr_batch",
            got=f"{path}, schema {version}",
            allowed=f"schema {SCHEMA_VERSION}",
            hint=f"copy it, then `attattr migrate --db {path}` brings it up to date",
        )


def bring_up_to_date(connection: Connection, path: Path) -> None:
    """Migrates a blank or older file to this version and refreshes views and comments; usually a no-op.

    The migration is one transaction, followed by a checkpoint.

    Args:
        connection: Outside a transaction.
        path: The file.

    Raises:
        StoreError: the file is not ours, or newer than this program.
    """
    version = _schema_version(connection, path)
    with connection.begin():
        if version == SCHEMA_VERSION and not _differs(connection, path):
            return
        if version != SCHEMA_VERSION:
            _upgrade(connection)
        _refresh(connection)
    with connection.begin():
        connection.exec_driver_sql("CHECKPOINT")


def _upgrade(connection: Connection) -> None:
    from alembic import command  # takes as long to import as DuckDB, for migrations alone
    from alembic.config import Config
    from duckdb_sqlalchemy import alembic_impl  # noqa: F401  # tells Alembic what DuckDB is

    config = Config()
    config.set_main_option("script_location", str(data_folder("schema")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def own_views(connection: Connection, path: Path) -> list[str]:
    """Statements that put this release's views before the file's for one connection; none if they are equal.

    Raises:
        StoreError: a table of ours is not there, or a view stands in its place.
    """
    if not _differs(connection, path):
        return []
    return [f"CREATE TEMP VIEW {view.name} AS\n{view.query}" for view in view_files()]


def hide_other_views(connection: Connection, path: Path) -> None:
    """Puts this release's views before those of the file, for this connection alone, if they differ.

    Raises:
        StoreError: the file lacks what they read, or a view stands in the place of a table of ours.
    """
    try:
        for statement in own_views(connection, path):
            connection.exec_driver_sql(statement)
    except ProgrammingError as error:
        what = "the file lacks tables or columns that a store of its schema has"
        raise StoreError(what, got=one_line(error.orig)) from error


@contextmanager
def blank_database() -> Iterator[Connection]:
    """A connection to a database in memory with this release's tables and views, less their comments."""
    with create_engine("duckdb://").begin() as connection:
        for table in metadata.tables.values():  # `create_all` adds the comments, and takes five times as long
            connection.execute(CreateTable(table))
        for view in view_files():
            connection.exec_driver_sql(f"CREATE VIEW {view.name} AS\n{view.query}")
        yield connection


def view_files() -> list[SqlFile]:
    """The view definitions of schema/views, in an order in which they can be created."""
    return _load_views(data_folder("schema") / "views")


_load_views = functools.cache(load_folder)  # every transaction compares them with the file's


@functools.cache
def _stored_definitions(folder: Path) -> dict[str, str]:
    """SQL of the views of a folder as DuckDB keeps it, by name."""
    with blank_database() as connection:
        return _views(connection)


def _views(connection: Connection) -> dict[str, str]:
    return {name: sql for name, sql in connection.execute(text(_VIEWS)).all()}


def _differs(connection: Connection, path: Path) -> bool:
    """Whether the file lacks views of this release, or defines them or says what things mean in another way.

    Raises:
        StoreError: a table of ours is not there, or a view stands in its place.
    """
    if _meta(connection, _HASH_KEY) != _wanted_hash():
        return True
    known = identity(path)
    if known is not None and (path, known) in _compared:
        return False
    # Whoever writes the views into a file can write the hash too, so the views themselves are compared.
    if missing := sorted(metadata.tables.keys() - set(connection.execute(text(_TABLES)).scalars())):
        what = "the file lacks tables that a store has, or has views in their place"
        raise StoreError(what, got=", ".join(missing), hint="do not trust this file")
    if not _stored_definitions(data_folder("schema") / "views").items() <= _views(connection).items():
        return True
    if known is not None:
        _compared.add((path, known))
    return False


def _schema_version(connection: Connection, path: Path) -> str | None:
    """The schema of the open file: this release's or an earlier one; None for a blank file.

    Call it outside a transaction: the first question may fail, which would abort that transaction.

    Raises:
        StoreError: the file is not ours, or newer than this program.
    """
    # Listing the tables takes 30 ms on a freshly opened file: ask only a file that lacks ours.
    try:
        with connection.begin():
            version = str(connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one())
    except ProgrammingError as error:
        with connection.begin():
            if not connection.execute(text(_TABLES)).all():
                return None
        raise StoreError(
            "the file is a DuckDB database, but not one of attattr_batch",
            got=path,
            hint="give another path with --db; this file is left as it is",
        ) from error
    if version > SCHEMA_VERSION:
        raise StoreError(
            "the database was written by a newer version of attattr_batch",
            got=f"{path}, schema {version}",
            allowed=f"schema up to {SCHEMA_VERSION}",
            hint="upgrade attattr_batch, or give another path with --db",
        )
    return version


def _meta(connection: Connection, key: str) -> str | None:
    return connection.execute(select(meta.c.value).where(meta.c.key == key)).scalar_one_or_none()


def _wanted_hash() -> str:
    return hashlib.sha256("\n".join(_statements()).encode()).hexdigest()


def _statements() -> list[str]:
    comments = []
    for table in metadata.tables.values():
        comments.append(f"COMMENT ON TABLE {table.name} IS {literal(table.comment)}")
        for column in table.columns:
            comments.append(f'COMMENT ON COLUMN {table.name}."{column.name}" IS {literal(column.comment)}')
    views = []
    for view in view_files():
        views.append(f"CREATE OR REPLACE VIEW {view.name} AS\n{view.query}")
        views.append(f"COMMENT ON VIEW {view.name} IS {literal(view.description)}")
    return comments + views


def _refresh(connection: Connection) -> None:
    try:
        for statement in [f'DROP VIEW "{name}"' for name in _outdated(connection)] + _statements():
            connection.exec_driver_sql(statement)
    except ProgrammingError as error:
        raise StoreError("the views cannot be written", got=one_line(error.orig)) from error
    names = json.dumps([view.name for view in view_files()])
    for key, value in ((_HASH_KEY, _wanted_hash()), (_NAMES_KEY, names)):
        row = insert(meta).values(key=key, value=value)
        connection.execute(row.on_conflict_do_update(index_elements=["key"], set_={"value": value}))


def _outdated(connection: Connection) -> list[str]:
    """Views that an earlier release made and this one does not know; views that others made stay."""
    made = set(json.loads(_meta(connection, _NAMES_KEY) or "[]"))
    made -= {view.name for view in view_files()}
    made -= set(connection.execute(select(job_runs.c.job).distinct()).scalars())
    return sorted(made & _views(connection).keys())
