"""Tables and views that jobs make: built aside, described, and put in the place of the ones before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa
from sqlalchemy import Connection, text

from attattr_batch.errors import StoreError, one_line
from attattr_batch.files import data_folder
from attattr_batch.store.database.connection import raw
from attattr_batch.store.database.sqlfile import literal
from attattr_batch.store.writing.runs import RUN_COLUMNS


def define_macros(connection: Connection) -> None:
    """Defines the macros of jobs, for this connection alone."""
    raw(connection).execute((data_folder("jobs") / "macros.sql").read_text(encoding="utf-8"))


def prepare(connection: Connection, run_ids: Sequence[int]) -> None:
    """Defines `selected_runs` and the macros of jobs, for this connection alone."""
    define_macros(connection)
    chosen = f"SELECT * FROM runs WHERE run_id IN ({listed(run_ids)})"
    raw(connection).execute(f"CREATE OR REPLACE TEMP TABLE selected_runs AS {chosen}")


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turns what DuckDB says about a job's SQL into an error that names the job."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        hint = "build it for fewer runs at a time (--run)"
        raise StoreError(
            f"job {name} needs more memory", got=str(error).splitlines()[0], hint=hint
        ) from error
    except (duckdb.IOException, duckdb.FatalException):
        raise
    except duckdb.Error as error:
        raise StoreError(f"job {name} failed in the database", got=one_line(error)) from error


def query_rows(connection: Connection, query: str, values: Mapping[str, Any]) -> pa.Table:
    """Rows of a query whose parameters (`$name`) have these values."""
    return raw(connection).sql(query, params=dict(values)).to_arrow_table()


def make_temporary(
    connection: Connection, kind: str, name: str, query: str, values: Mapping[str, Any]
) -> None:
    """Makes a table or view (`kind`) for this connection alone; it hides the stored one of its name."""
    raw(connection).execute(f"CREATE OR REPLACE TEMP {kind} {name} AS\n{query}", dict(values))


def replace_view(connection: Connection, name: str, query: str) -> None:
    """Makes a view, in place of a table or view of its name."""
    _drop(connection, name)
    raw(connection).execute(f"CREATE VIEW {name} AS\n{query}")


def replace_table(
    connection: Connection, name: str, query: str, values: Mapping[str, Any], run_ids: Sequence[int]
) -> int:
    """Builds a table aside and puts it in place of the present one; returns its number of rows.

    Rows of the present table about any other run are kept, unless a new one is about the same pair of runs.

    Args:
        connection: From `Store.write()`, after `prepare`.
        name: The table.
        query: Gives its rows.
        values: Parameters of the query.
        run_ids: The runs it is built for.

    Raises:
        StoreError: rows are to be kept, but the columns have changed.
    """
    duck, aside = raw(connection), f"{name}__new"
    duck.execute(f"CREATE TABLE {aside} AS\n{query}", dict(values))
    if table_names(connection).get(name) == "table":
        _keep_other_runs(connection, name, aside, run_ids)
    _drop(connection, name)
    duck.execute(f"ALTER TABLE {aside} RENAME TO {name}")
    return int(duck.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0])


def describe(connection: Connection, name: str, comment: str, columns: Mapping[str, str]) -> None:
    """Writes the meanings of a job's table or view and of its columns into the database.

    Raises:
        StoreError: a column that is described does not exist.
    """
    duck, kind = raw(connection), table_names(connection)[name]
    duck.execute(f"COMMENT ON {kind} {name} IS {literal(comment)}")
    known = dict(_columns(connection, name))
    for column, meaning in columns.items():
        if column not in known:
            raise StoreError("a job describes a column that it does not make", got=f"{name}.{column}")
        if kind == "table":
            duck.execute(f'COMMENT ON COLUMN {name}."{column}" IS {literal(meaning)}')


def runs_in_pairs(connection: Connection, name: str) -> list[int]:
    """Ids of the runs in the rows of a table or view that is about pairs of runs; of any other, none."""
    if not {"run_a", "run_b"} <= dict(_columns(connection, name)).keys():
        return []
    query = f"SELECT run_a FROM {name} UNION SELECT run_b FROM {name}"
    return list(connection.execute(text(query)).scalars())


def table_names(connection: Connection) -> dict[str, str]:
    """Every table and view that can be queried: its name, and whether it is a `table` or a `view`."""
    query = (
        "SELECT table_name, 'table' FROM duckdb_tables() WHERE database_name = current_database()"
        " UNION ALL SELECT view_name, 'view' FROM duckdb_views()"
        " WHERE database_name = current_database() AND NOT internal"
    )
    return {name: kind for name, kind in connection.execute(text(query)).all()}


def listed(run_ids: Iterable[int]) -> str:
    """Run ids as they stand in `IN (...)`."""
    return ", ".join(str(int(run_id)) for run_id in run_ids) or "NULL"


def _keep_other_runs(connection: Connection, name: str, aside: str, run_ids: Sequence[int]) -> None:
    duck = raw(connection)
    before, after = _columns(connection, name), _columns(connection, aside)
    about = [column for column in RUN_COLUMNS if column in dict(before)]
    if not about:
        return
    keys = ", ".join(about)
    # A pair of a run built and another one may be among the new rows.
    others = (
        f"FROM {name} ANTI JOIN (SELECT DISTINCT {keys} FROM {aside}) USING ({keys})"
        f" WHERE {' OR '.join(f'{column} NOT IN ({listed(run_ids)})' for column in about)}"
    )
    if before == after:
        duck.execute(f"INSERT INTO {aside} BY NAME SELECT * {others}")
    elif duck.execute(f"SELECT 1 {others} LIMIT 1").fetchall():
        raise StoreError(
            "the table's columns have changed, so rows of other runs cannot stay beside the new ones",
            got=name,
            hint="build it for all runs, when all are finished: leave --run out",
        )


def _drop(connection: Connection, name: str) -> None:
    kind = table_names(connection).get(name)
    if kind is not None:
        raw(connection).execute(f"DROP {kind} {name}")


def _columns(connection: Connection, name: str) -> list[tuple[str, str]]:
    described = raw(connection).execute(f"SELECT column_name, column_type FROM (DESCRIBE {name})").fetchall()
    return [(column, type_) for column, type_ in described]
