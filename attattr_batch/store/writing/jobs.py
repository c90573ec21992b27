"""What jobs do to the database: tables rebuilt aside and renamed, passes they order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import duckdb
import pyarrow as pa
from sqlalchemy import Connection, delete, select, text

from attattr_batch.errors import StoreError
from attattr_batch.files import data_folder
from attattr_batch.identity import content_key
from attattr_batch.store.database.connection import arrow_result, raw
from attattr_batch.store.database.tables import attacked_answers, ledger, masked_answers, passes, quarantine
from attattr_batch.store.writing.passes import PassKind, quarantined_ids, register_pass, reopen_passes
from attattr_batch.store.writing.runs import (
    RUN_COLUMNS,
    SEALED,
)

ANSWERS = {"masked_answers": masked_answers, "attacked_answers": attacked_answers}
"""Where the answers to each kind of ordered pass are kept."""


def define_macros(connection: Connection) -> None:
    """Makes the macros of jobs, for this connection alone."""
    raw(connection).execute((data_folder("jobs") / "macros.sql").read_text(encoding="utf-8"))


def prepare(connection: Connection, run_ids: Sequence[int]) -> None:
    """Makes `selected_runs` and the macros of jobs, for this connection alone."""
    define_macros(connection)
    chosen = f"SELECT * FROM runs WHERE run_id IN ({_listed(run_ids)})"
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
        raise StoreError(f"job {name} failed in the database", got=" ".join(str(error).split())) from error


def query_rows(connection: Connection, query: str, values: Mapping[str, Any]) -> pa.Table:
    """Rows of a job's query, after `prepare`; `values` are its parameters."""
    return raw(connection).sql(query, params=dict(values)).to_arrow_table()


def replace_view(connection: Connection, name: str, query: str) -> None:
    """Makes or replaces a view."""
    _drop(connection, name)
    raw(connection).execute(f"CREATE VIEW {name} AS\n{query}")


def make_temporary(
    connection: Connection, name: str, query: str, values: Mapping[str, Any], *, is_view: bool
) -> None:
    """Makes a job's table or view for this connection alone, where it hides the stored one of its name."""
    kind = "VIEW" if is_view else "TABLE"
    raw(connection).execute(f"CREATE OR REPLACE TEMP {kind} {name} AS\n{query}", dict(values))


def replace_table(
    connection: Connection,
    name: str,
    query: str,
    values: Mapping[str, Any],
    run_ids: Sequence[int],
) -> int:
    """Builds a table aside and puts it in the place of the present one; returns its number of rows.

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
    if _kind(connection, name) == "table":
        _keep_other_runs(connection, name, aside, run_ids)
    _drop(connection, name)
    duck.execute(f"ALTER TABLE {aside} RENAME TO {name}")
    return int(duck.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0])


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
        f" WHERE {' OR '.join(f'{column} NOT IN ({_listed(run_ids)})' for column in about)}"
    )
    if before == after:
        duck.execute(f"INSERT INTO {aside} BY NAME SELECT * {others}")
    elif duck.execute(f"SELECT 1 {others} LIMIT 1").fetchall():
        raise StoreError(
            "the table's columns have changed, so rows of other runs cannot stay beside the new ones",
            got=name,
            hint="build it for all runs, when all are finished: leave --run out",
        )


def audit_of(connection: Connection, query: str, run_ids: Sequence[int], job: str | None = None) -> str:
    """An audit's query, for those of its rows that are about the runs (and the job, if one is given).

    Rows are told apart by the columns `run_id`, or `run_a` and `run_b`, and `job`, as far as there are any.
    """
    named = offending_rows(connection, query, 0).column_names
    about = [column for column in RUN_COLUMNS if column in named]
    chosen = " OR ".join(f"coalesce({column} IN ({_listed(run_ids)}), true)" for column in about)
    conditions = [f"({chosen})"] if about else []
    if job is not None and "job" in named:
        conditions.append(f"job = {_literal(job)}")
    return f"SELECT * FROM ({query}\n) WHERE {' AND '.join(conditions) or 'true'}"


def describe(connection: Connection, name: str, comment: str, columns: Mapping[str, str]) -> None:
    """Writes down what a job's table or view and its columns mean.

    Raises:
        StoreError: a column that is described does not exist.
    """
    duck, kind = raw(connection), _kind(connection, name)
    duck.execute(f"COMMENT ON {kind} {name} IS {_literal(comment)}")
    known = dict(_columns(connection, name))
    for column, meaning in columns.items():
        if column not in known:
            raise StoreError("a job describes a column that it does not make", got=f"{name}.{column}")
        if kind == "table":
            duck.execute(f'COMMENT ON COLUMN {name}."{column}" IS {_literal(meaning)}')


def table_names(connection: Connection) -> set[str]:
    """Names of all tables and views that can be queried."""
    query = (
        "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()"
        " UNION SELECT view_name FROM duckdb_views()"
        " WHERE database_name = current_database() AND NOT internal"
    )
    return set(connection.execute(text(query)).scalars())


def offending_rows(connection: Connection, query: str, limit: int) -> pa.Table:
    """The first rows that an audit's query returns."""
    return arrow_result(connection, f"SELECT * FROM ({query}\n) LIMIT {int(limit)}")


def count_offending(connection: Connection, query: str) -> int:
    """How many rows an audit's query returns."""
    return int(raw(connection).execute(f"SELECT count(*) FROM ({query}\n)").fetchall()[0][0])


def answered(connection: Connection, run_id: int, kind: PassKind, job: str, request_key: str) -> int | None:
    """Examples quarantined in a job's finished pass over a run; None unless this very order is answered."""
    query = select(passes.c.pass_id).where(
        passes.c.run_id == run_id,
        passes.c.kind == kind,
        passes.c.pass_key == _pass_key(job, request_key),
        passes.c.pass_status == SEALED,
    )
    pass_id = connection.execute(query).scalar_one_or_none()
    return None if pass_id is None else len(quarantined_ids(connection, pass_id))


def register_requested_pass(
    connection: Connection, run_id: int, kind: PassKind, job: str, request_key: str, n_examples: int
) -> int:
    """Registers the pass that a job orders, in the place of the job's earlier one if the order has changed.

    Args:
        connection: From `Store.write()`.
        run_id: The run.
        kind: Kind of the pass.
        job: The job's name.
        request_key: Hash of the order.
        n_examples: Examples it is about.

    Returns:
        The pass: the earlier one, answers and all, if the same was ordered before.
    """
    key = _pass_key(job, request_key)
    query = select(passes).where(passes.c.run_id == run_id, passes.c.kind == kind)
    for row in connection.execute(query).all():
        if json.loads(row.settings).get("job") != job:
            continue
        if row.pass_key == key:
            return int(row.pass_id)
        for table in (ledger, quarantine, passes):
            connection.execute(delete(table).where(table.c.pass_id == row.pass_id))
        answers = ANSWERS[kind]
        connection.execute(delete(answers).where(answers.c.run_id == run_id, answers.c.job == job))
    return register_pass(connection, run_id, kind, key, {"job": job}, n_examples)


def _pass_key(job: str, request_key: str) -> str:
    # With the job's name: another job may want the very same answers under its own.
    return content_key([job, request_key])


def take_back(connection: Connection, kind: PassKind, job: str, query: str) -> int:
    """Makes those examples of a job's passes pending again that an audit's query returns.

    Returns:
        How many; 0 where the rows do not say which (`run_id`, `example_id`).
    """
    duck, named = raw(connection), set(offending_rows(connection, query, 0).column_names)
    if not {"run_id", "example_id"} <= named:
        return 0
    duck.execute(f"""
        CREATE OR REPLACE TEMP TABLE taken_back AS
        SELECT l.pass_id, l.run_id, l.example_id
        FROM ledger AS l
        JOIN passes AS p USING (pass_id)
        WHERE p.kind = {_literal(kind)} AND json_extract_string(p.settings, '$.job') = {_literal(job)}
            AND (l.run_id, l.example_id) IN (SELECT (run_id, example_id) FROM ({query}\n))
        """)
    duck.execute(f"""
        DELETE FROM {ANSWERS[kind].name} AS a USING taken_back AS t
        WHERE a.job = {_literal(job)} AND a.run_id = t.run_id AND a.example_id = t.example_id
        """)
    duck.execute("""
        DELETE FROM ledger USING taken_back AS t
        WHERE ledger.pass_id = t.pass_id AND ledger.example_id = t.example_id
        """)
    pass_ids = [pass_id for (pass_id,) in duck.execute("SELECT pass_id FROM taken_back").fetchall()]
    reopen_passes(connection, sorted(set(pass_ids)))
    return len(pass_ids)


def count_answers(connection: Connection, kind: PassKind, job: str) -> int:
    """Answers that are stored for a job's passes."""
    query = text(f"SELECT count(*) FROM {ANSWERS[kind].name} WHERE job = :job")
    return int(connection.execute(query, {"job": job}).scalar_one())


def _listed(run_ids: Iterable[int]) -> str:
    return ", ".join(str(int(run_id)) for run_id in run_ids) or "NULL"


def _drop(connection: Connection, name: str) -> None:
    kind = _kind(connection, name)
    if kind is not None:
        raw(connection).execute(f"DROP {kind} {name}")


def _kind(connection: Connection, name: str) -> Literal["table", "view"] | None:
    query = (
        "SELECT 'table' FROM duckdb_tables() WHERE database_name = current_database() AND table_name = $name"
        " UNION ALL SELECT 'view' FROM duckdb_views()"
        " WHERE database_name = current_database() AND NOT internal AND view_name = $name"
    )
    found = raw(connection).execute(query, {"name": name}).fetchall()
    return found[0][0] if found else None


def _columns(connection: Connection, name: str) -> list[tuple[str, str]]:
    described = raw(connection).execute(f"SELECT column_name, column_type FROM (DESCRIBE {name})").fetchall()
    return [(column, type_) for column, type_ in described]


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
