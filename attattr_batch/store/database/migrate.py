"""Brings a database file to this version's tables, views and comments.

Tables change through Alembic migrations (schema/versions). Views and comments hold no data: they are written
anew whenever their text differs from what the file was last given.

To change a table: change tables.py, write the next schema/versions/NNNN_*.py by hand, raise `SCHEMA_VERSION`,
regenerate the data dictionary. tests/store/test_store_migrate.py says what the migration still lacks.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import json
import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from attattr_batch.errors import StoreError
from attattr_batch.files import data_folder
from attattr_batch.store.database.sqlfile import SqlFile, load_folder
from attattr_batch.store.database.tables import metadata

log = logging.getLogger(__name__)

SCHEMA_VERSION = "0006"
"""Newest migration in schema/versions; what this program reads and writes."""

VERSION_TABLE = "attattr_schema"
"""Alembic's bookkeeping table; its presence marks a file as ours."""

_HASH_KEY, _NAMES_KEY = "views_and_comments", "views"
"""Keys in `meta`: the hash of the views and comments that the file was last given, and the views' names."""


class SchemaState(enum.Enum):
    """How a database file relates to this program."""

    BLANK = "no tables"
    FOREIGN = "tables, but none of ours"
    OLDER = "an older schema"
    CURRENT = "this version's schema"
    NEWER = "a newer schema"


def schema_state(connection: Connection) -> tuple[SchemaState, str | None]:
    """Says how the open file relates to this program, and its schema version if it has one.

    Call it outside a transaction: the first question may fail, which would abort that transaction.
    """
    # Listing the tables takes 30 ms on a freshly opened file: ask only a file that lacks ours.
    try:
        with connection.begin():
            version = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one()
    except ProgrammingError:
        tables = "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database()"
        with connection.begin():
            blank = connection.execute(text(tables)).scalar_one() == 0
        return (SchemaState.BLANK if blank else SchemaState.FOREIGN), None
    if version == SCHEMA_VERSION:
        return SchemaState.CURRENT, version
    return (SchemaState.OLDER if version < SCHEMA_VERSION else SchemaState.NEWER), version


def check_readable(connection: Connection, path: Path) -> None:
    """Raises StoreError unless the open file has exactly this version's schema."""
    state, version = check_ours(connection, path)
    if state is SchemaState.OLDER:
        raise StoreError(
            "the database was written by an older version of attattr_batch",
            got=f"{path}, schema {version}",
            allowed=f"schema {SCHEMA_VERSION}",
            hint=f"copy it, then `attattr migrate --db {path}` brings it up to date",
        )


def check_ours(connection: Connection, path: Path) -> tuple[SchemaState, str | None]:
    """Raises StoreError unless the open file is a store of this version or an earlier one; says which."""
    state, version = schema_state(connection)
    _refuse_unusable(state, version, path)
    if state is SchemaState.BLANK:
        raise StoreError("the database is empty", got=path, hint="`attattr run` fills it")
    return state, version


def other_views(connection: Connection, path: Path) -> list[str]:
    """Names of this release's views that the file lacks or defines in another way.

    What the file says of itself does not count, for whoever writes the file writes that too.

    Raises:
        StoreError: a view stands where a table of ours belongs, or tables that our views read are not there.
    """
    query = text(
        "SELECT database_name = 'temp', lower(view_name), sql FROM duckdb_views() WHERE NOT internal"
    )
    with connection.begin() as transaction:
        hide_views(connection)
        found = connection.execute(query).all()
        transaction.rollback()
    stored = {name: sql for temporary, name, sql in found if not temporary}
    if misplaced := sorted(metadata.tables.keys() & stored.keys()):
        got = f"{path}: {', '.join(misplaced)}"
        raise StoreError(
            "the file has views where a store has tables", got=got, hint="do not trust this file"
        )
    ours = {
        name: sql.replace("CREATE TEMP VIEW", "CREATE VIEW", 1) for temporary, name, sql in found if temporary
    }
    return sorted(name for name, sql in ours.items() if stored.get(name) != sql)


def views_are_earlier(connection: Connection) -> bool:
    """Whether the file says, in a transaction, that its views and comments are not this release's."""
    return _stored(connection, _HASH_KEY) != _wanted_hash()


def hide_views(connection: Connection) -> None:
    """Puts this release's views before those of the file, for this connection alone.

    Raises:
        StoreError: the file lacks what they read.
    """
    try:
        for view in view_files():
            connection.exec_driver_sql(f"CREATE TEMP VIEW {view.name} AS\n{view.query}")
    except ProgrammingError as error:
        got = " ".join(str(error.orig).split())
        raise StoreError("the file has not the tables that it says it has", got=got) from error


def bring_up_to_date(connection: Connection, path: Path, *, views_checked: bool) -> None:
    """Migrates a blank or older file to this version and refreshes views and comments; usually a no-op.

    The migration is one transaction, followed by a checkpoint.

    Args:
        connection: Outside a transaction.
        path: The file.
        views_checked: Whether the file's views are known to be what it says that they are.

    Raises:
        StoreError: the file is not ours, or newer than this program.
    """
    state, version = schema_state(connection)
    _refuse_unusable(state, version, path)
    current = state is SchemaState.CURRENT
    with connection.begin():
        current_views = current and _stored(connection, _HASH_KEY) == _wanted_hash()
    if current_views and not views_checked and (others := other_views(connection, path)):
        log.warning("written anew: views that are not what this release makes: %s", ", ".join(others))
        current_views = False
    if current_views:
        return
    with connection.begin():
        if not current:
            command.upgrade(_alembic_config(connection), "head")
        _refresh(connection)
    with connection.begin():
        connection.exec_driver_sql("CHECKPOINT")


def view_files() -> list[SqlFile]:
    """The view definitions of schema/views, in an order in which they can be created."""
    return _load_views(data_folder("schema") / "views")


@functools.cache
def _load_views(folder: Path) -> list[SqlFile]:
    # Kept: every transaction compares their hash with the file's.
    return load_folder(folder)


def _refuse_unusable(state: SchemaState, version: str | None, path: Path) -> None:
    if state is SchemaState.FOREIGN:
        raise StoreError(
            "the file is a DuckDB database, but not one of attattr_batch",
            got=path,
            hint="give another path with --db; this file is left as it is",
        )
    if state is SchemaState.NEWER:
        raise StoreError(
            "the database was written by a newer version of attattr_batch",
            got=f"{path}, schema {version}",
            allowed=f"schema up to {SCHEMA_VERSION}",
            hint="upgrade attattr_batch, or give another path with --db",
        )


def _alembic_config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(data_folder("schema")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _stored(connection: Connection, key: str) -> str | None:
    query = text("SELECT value FROM meta WHERE key = :key")
    return connection.execute(query, {"key": key}).scalar_one_or_none()


def _wanted_hash() -> str:
    return hashlib.sha256("\n".join(_statements()).encode()).hexdigest()


def _statements() -> list[str]:
    comments = []
    for table in metadata.tables.values():
        comments.append(f"COMMENT ON TABLE {table.name} IS {_literal(table.comment)}")
        for column in table.columns:
            comments.append(f'COMMENT ON COLUMN {table.name}."{column.name}" IS {_literal(column.comment)}')
    views = []
    for view in view_files():
        views.append(f"CREATE OR REPLACE VIEW {view.name} AS\n{view.query}")
        views.append(f"COMMENT ON VIEW {view.name} IS {_literal(view.description)}")
    return comments + views


def _literal(value: str | None) -> str:
    return "'" + (value or "").replace("'", "''") + "'"


def _refresh(connection: Connection) -> None:
    try:
        for statement in [f'DROP VIEW "{name}"' for name in _outdated(connection)] + _statements():
            connection.exec_driver_sql(statement)
    except ProgrammingError as error:
        raise StoreError("the views cannot be written", got=" ".join(str(error.orig).split())) from error
    values = {_HASH_KEY: _wanted_hash(), _NAMES_KEY: json.dumps([view.name for view in view_files()])}
    for key, value in values.items():
        insert = text("INSERT OR REPLACE INTO meta VALUES (:key, :value)")
        connection.execute(insert, {"key": key, "value": value})


def _outdated(connection: Connection) -> list[str]:
    """Views that an earlier release made and this one does not know; views that others made stay."""
    made = set(json.loads(_stored(connection, _NAMES_KEY) or "[]"))
    made -= {view.name for view in view_files()}
    made -= set(connection.execute(text("SELECT DISTINCT job FROM job_runs")).scalars())
    present = connection.execute(text("SELECT view_name FROM duckdb_views() WHERE NOT internal")).scalars()
    return sorted(made.intersection(present))
