"""Runs: registering, finding and deleting them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Integer, Row, String, cast, func, insert, select, text
from sqlalchemy.dialects import postgresql

from attattr_batch.data.records import Dataset, Example
from attattr_batch.errors import UserError, did_you_mean, unknown_name
from attattr_batch.store.database.tables import examples, meta, runs, tables_written_by, tokens, vocabulary
from attattr_batch.store.writing.rows import check_rows, insert_rows

RUN_COLUMNS = ("run_id", "run_a", "run_b")
"""Columns that hold a run's id; the last two in tables of pairs of runs."""

JSON_COLUMNS = ("config", "identity", "provenance")
"""Columns of `runs` that hold JSON."""

INPUTS_KEY = "inputs_key"
"""What `provenance` calls the hash of what the run was planned from."""

RUNNING, SEALED = "running", "sealed"
"""The two values of a status; sealed once every example is committed or quarantined."""

_UNFINISHED = """
SELECT run, committed, total
FROM progress
WHERE kind = 'attribute' AND status = :running AND list_contains(:runs, run_id)
ORDER BY run_id
"""

_ABOUT_RUNS = """
SELECT table_name, column_name
FROM duckdb_columns()
WHERE database_name = current_database() AND list_contains(:names, column_name)
    AND table_name IN (SELECT table_name FROM duckdb_tables())
ORDER BY ALL
"""


def register_run(connection: Connection, run: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> int:
    """Stores a run and its data unless a run of the same identity is there, and returns the run's id.

    A run of the same identity gets the examples that it lacks: one that was merged while parts were missing.

    Args:
        connection: From `Store.write()`.
        run: Values by column of `runs`, less the id, the status and the times, which are added here;
            `config`, `identity` and `provenance` as mappings.
        tables: Rows of `examples`, `tokens` and `vocabulary`, by name, with those tables' columns less
            `run_id` and `tokenizer_key`, which are added here. A vocabulary already stored is not
            stored again.

    Raises:
        UserError: another run has the name, or the name is a number.
        BadFactsError: the rows do not fit their tables.
    """
    known = find_run(connection, run["run_key"])
    if known is not None:
        if count_registered(connection, known.run_id) < known.n_examples:
            add_examples(connection, known.run_id, tables)
        return int(known.run_id)
    _check_name(connection, run["name"])
    run_id = next_id(connection, "last_run_id")
    documents = {
        column: json.dumps(run[column], ensure_ascii=False, sort_keys=True) for column in JSON_COLUMNS
    }
    own = {"run_id": run_id, "status": RUNNING, "created_at": datetime.now(UTC)}
    connection.execute(insert(runs).values({**run, **documents, **own, "labels": list(run["labels"])}))
    tokenizer_key, writable = run["tokenizer_key"], tables_written_by("register")
    of_tokenizer = select(vocabulary.c.token_id).where(vocabulary.c.tokenizer_key == tokenizer_key)
    shared = bool(connection.execute(of_tokenizer.limit(1)).all())
    for name, rows in tables.items():
        if name not in writable:
            raise unknown_name("table of run data", name, writable)
        is_vocabulary = name == vocabulary.name
        if not (is_vocabulary and shared):
            key = {"tokenizer_key": tokenizer_key} if is_vocabulary else {"run_id": run_id}
            insert_rows(connection, writable[name], check_rows(writable[name], rows, **key))
    return run_id


def count_registered(connection: Connection, run_id: int) -> int:
    """Examples of a run whose texts are in the store: all, unless it was merged while parts were missing."""
    query = select(func.count()).select_from(examples).where(examples.c.run_id == run_id)
    return int(connection.execute(query).scalar_one())


def add_examples(connection: Connection, run_id: int, tables: Mapping[str, pa.Table]) -> None:
    """Adds those rows of `examples` and `tokens` that are about examples which the run lacks."""
    of_run = select(examples.c.example_id).where(examples.c.run_id == run_id)
    known = pa.array(connection.execute(of_run).scalars().all(), pa.int32())
    for table in (examples, tokens):
        rows = check_rows(table, tables[table.name], run_id=run_id)
        insert_rows(connection, table, rows.filter(pc.invert(pc.is_in(rows["example_id"], known))))


def list_runs(connection: Connection) -> list[Row[Any]]:
    """Every run as a row of `runs`, oldest first."""
    return list(connection.execute(select(runs).order_by(runs.c.run_id)).all())


def find_run(connection: Connection, run_key: str) -> Row[Any] | None:
    """The run with this identity, as a row of `runs`, or None."""
    return connection.execute(select(runs).where(runs.c.run_key == run_key)).one_or_none()


def find_finished_run(connection: Connection, inputs_key: str) -> Row[Any] | None:
    """The sealed run that was planned from these inputs (`RunInputs.key`), as a row of `runs`, or None.

    Runs of earlier releases do not say from what they were planned.
    """
    planned_from = func.json_extract_string(runs.c.provenance, f"$.{INPUTS_KEY}")
    query = select(runs).where(planned_from == inputs_key, runs.c.status == SEALED)
    return connection.execute(query).one_or_none()


def resolve_run(connection: Connection, name_or_id: str | int) -> Row[Any]:
    """The run with this name, or with this id.

    Raises:
        UserError: there is no such run; names the nearest.
    """
    wanted = str(name_or_id)
    known = list_runs(connection)
    for run in known:
        if wanted in (run.name, str(run.run_id)):
            return run
    names = [run.name for run in known]
    allowed = ", ".join(f"{run.name} ({run.run_id})" for run in known) or "(there are no runs yet)"
    raise UserError("no such run", got=wanted, allowed=allowed, hint=did_you_mean(wanted, names))


def unfinished_runs(connection: Connection, run_ids: Sequence[int]) -> list[str]:
    """Says of each of the runs that is not finished how far it is."""
    found = connection.execute(text(_UNFINISHED), {"running": RUNNING, "runs": list(run_ids)}).all()
    return [
        f"run {run} is not finished: {committed} of {total} examples are committed"
        for run, committed, total in found
    ]


def unlabelled_runs(connection: Connection, run_ids: Sequence[int]) -> list[str]:
    """Names of those of the runs that have no example with a gold label."""
    labelled = select(examples.c.run_id).where(examples.c.gold.is_not(None))
    query = select(runs.c.name).where(runs.c.run_id.in_(run_ids), runs.c.run_id.not_in(labelled))
    return list(connection.execute(query.order_by(runs.c.run_id)).scalars())


def wordless_runs(connection: Connection, run_ids: Sequence[int]) -> list[str]:
    """Names of those of the runs that do not say which word a token is a piece of: of an earlier release."""
    knowing = select(tokens.c.run_id).where(tokens.c.word.is_not(None))
    query = select(runs.c.name).where(runs.c.run_id.in_(run_ids), runs.c.run_id.not_in(knowing))
    return list(connection.execute(query.order_by(runs.c.run_id)).scalars())


def run_dataset(connection: Connection, run: Row[Any]) -> Dataset:
    """The rows of a run's split, as they were when it was registered; `run` is its row."""
    query = select(examples).where(examples.c.run_id == run.run_id).order_by(examples.c.example_id)
    rows = tuple(
        Example(row.example_id, row.text_a, row.text_b, row.gold) for row in connection.execute(query).all()
    )
    return Dataset(run.task, run.split, f"run {run.name}", tuple(run.labels), rows)


def delete_run(connection: Connection, run_id: int) -> None:
    """Deletes a run from every table, those that jobs made included, in the connection's transaction.

    Vocabularies stay: other runs may share them.
    """
    for table, column in connection.execute(text(_ABOUT_RUNS), {"names": list(RUN_COLUMNS)}).all():
        connection.execute(text(f'DELETE FROM "{table}" WHERE {column} = :run'), {"run": run_id})


def next_id(connection: Connection, counter: str) -> int:
    """The next number of a counter, which is a key of `meta`; never the same one twice in a file."""
    # A counter, not max + 1: an id must not come back after `rm`, while a stale writer may still use it.
    raised = cast(cast(meta.c.value, Integer) + 1, String)
    row = postgresql.insert(meta).values(key=counter, value="1")
    row = row.on_conflict_do_update(index_elements=["key"], set_={"value": raised})
    return int(connection.execute(row.returning(meta.c.value)).scalar_one())


def default_name(task: str, model: str) -> str:
    """Name of a run that is given none: `task-model`, of a model's folder or hub id the last part."""
    return f"{task}-{PurePath(model).name}"


def free_name(connection: Connection, name: str, run_key: str) -> str:
    """The name, followed by the start of the run key if another run has the name."""
    taken = {run.name for run in list_runs(connection)}
    return f"{name}-{run_key[:6]}" if name in taken else name


def _check_name(connection: Connection, name: str) -> None:
    if name.isdecimal():
        raise UserError("a run's name must not be a number: runs are also addressed by id", got=name)
    if connection.execute(select(runs.c.run_id).where(runs.c.name == name)).first() is not None:
        raise UserError(
            "another run, with other settings or data, already has this name",
            got=name,
            hint=f"choose another with --name, or delete that run with `attattr rm {name}`",
        )
