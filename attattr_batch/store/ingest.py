"""Committing a worker's chunk: the ledger rows and the facts in one transaction, each example exactly once.

The ledger rows go first. An example that is there already was committed before (a chunk may be handed in
twice, or be split and overlap another), so its facts are dropped. Bad facts undo the whole transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Table, delete, select

from attattr_batch.errors import StoreError, unknown_name
from attattr_batch.store.connection import Store, arrow_rows, raw
from attattr_batch.store.facts import RunShape, check_attribution
from attattr_batch.store.rows import BadFactsError, check_rows, examples_where, insert_rows, with_constant
from attattr_batch.store.tables import arrow_schema, failures, ledger, passes, runs, tables_written_by


@dataclass(frozen=True, kw_only=True)
class ChunkFacts:
    """What a worker hands in for one chunk.

    Attributes:
        pass_id: The pass.
        example_ids: The chunk's examples, each once.
        tables: Rows by query name (`head_scores`, `edges`, ...) with those tables' columns less `run_id`. In
            a run with target `both`, rows of an example whose gold and predicted class coincide have the
            target `both` and stand for either.
        chunk: Name of the chunk, for people.
        worker: Who computed it, for people.
        seconds: Compute time of the chunk, in seconds.
    """

    pass_id: int
    example_ids: Sequence[int]
    tables: Mapping[str, pa.Table] = field(repr=False)
    chunk: str
    worker: str
    seconds: float


@dataclass(frozen=True)
class CommitResult:
    """What became of a chunk's examples.

    Attributes:
        committed: Ids committed now.
        duplicates: Ids that were committed before; their rows were dropped.
    """

    committed: tuple[int, ...]
    duplicates: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An example that failed every attempt.

    Attributes:
        example_id: The example.
        kind: Name of the error.
        message: What went wrong, in one line.
        detail: More for the developer, for example a traceback.
        attempts: Attempts made.
    """

    example_id: int
    kind: str
    message: str
    detail: str = ""
    attempts: int = 1


def commit_chunk(store: Store, facts: ChunkFacts) -> CommitResult:
    """Commits a chunk: when this returns, its examples are in the ledger and their facts on disk.

    Raises:
        BadFactsError: the rows must not be stored (wrong columns, values, counts or examples); nothing was
            committed, and no other attempt with the same rows will be.
        StoreError: the database cannot be written, or the pass is gone; nothing was committed.
    """
    if len(set(facts.example_ids)) != len(facts.example_ids):
        raise BadFactsError("the chunk names an example twice")
    with store.write() as connection:
        shape = _find_pass(connection, facts.pass_id)
        tables = _check_tables(facts, shape)
        committed = _claim(connection, facts, shape.run_id)
        duplicates = tuple(sorted(set(facts.example_ids) - set(committed)))
        if committed:
            for table, rows in tables.items():
                insert_rows(connection, table, _only(rows, committed) if duplicates else rows)
            _forget_failures(connection, facts.pass_id, committed)
    return CommitResult(committed, duplicates)


def record_failures(store: Store, pass_id: int, failed: Sequence[Failure]) -> None:
    """Quarantines examples; one that is committed already stays so, one that failed before is updated."""
    with store.write() as connection:
        run_id = _find_pass(connection, pass_id).run_id
        done = set(
            connection.execute(select(ledger.c.example_id).where(ledger.c.pass_id == pass_id)).scalars()
        )
        now = datetime.now(UTC)
        rows = [
            {"pass_id": pass_id, "run_id": run_id, "failed_at": now, **vars(failure)}
            for failure in failed
            if failure.example_id not in done
        ]
        with arrow_rows(connection, "failed_rows", pa.Table.from_pylist(rows, arrow_schema(failures))):
            raw(connection).execute("INSERT OR REPLACE INTO failures BY NAME SELECT * FROM failed_rows")


def _find_pass(connection: Connection, pass_id: int) -> RunShape:
    query = (
        select(passes.c.kind, runs.c.run_id, runs.c.n_layers, runs.c.n_heads, runs.c.target)
        .join(runs, runs.c.run_id == passes.c.run_id)
        .where(passes.c.pass_id == pass_id)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        raise StoreError("the run was deleted while it was computed", got=f"pass {pass_id}")
    return RunShape(row.run_id, row.kind, row.n_layers, row.n_heads, row.target)


def _check_tables(facts: ChunkFacts, shape: RunShape) -> dict[Table, pa.Table]:
    writable = tables_written_by("chunk")
    expected = pa.array(sorted(facts.example_ids), pa.int32())
    checked: dict[str, pa.Table] = {}
    for name, rows in facts.tables.items():
        if name not in writable:
            raise BadFactsError(str(unknown_name("table of facts", name, writable)))
        if "run_id" in rows.column_names:
            raise BadFactsError(f"{name}: run_id is not the worker's to give")
        checked[name] = check_rows(writable[name], with_constant(rows, "run_id", shape.run_id))
        foreign = pc.invert(pc.is_in(checked[name]["example_id"], expected))
        if pc.any(foreign, min_count=0).as_py():
            raise BadFactsError(f"{name}: rows of other examples", examples_where(checked[name], foreign))
    if shape.kind == "attribute":
        check_attribution(checked, expected, shape)
    return {writable[name]: rows for name, rows in checked.items()}


def _claim(connection: Connection, facts: ChunkFacts, run_id: int) -> tuple[int, ...]:
    """Enters the examples into the ledger; returns those that were not there."""
    rows = pa.table({"example_id": pa.array(facts.example_ids, pa.int32())})
    statement = (
        "INSERT INTO ledger BY NAME SELECT ?::INTEGER AS pass_id, example_id, ?::INTEGER AS run_id,"
        " ? AS chunk, ? AS worker, ?::FLOAT AS seconds, ?::TIMESTAMPTZ AS committed_at FROM claimed_rows"
        " ON CONFLICT DO NOTHING RETURNING example_id"
    )
    values = [facts.pass_id, run_id, facts.chunk, facts.worker, facts.seconds, datetime.now(UTC)]
    with arrow_rows(connection, "claimed_rows", rows):
        claimed = raw(connection).execute(statement, values).fetchall()
    return tuple(sorted(example_id for (example_id,) in claimed))


def _only(rows: pa.Table, example_ids: Sequence[int]) -> pa.Table:
    return rows.filter(pc.is_in(rows["example_id"], pa.array(example_ids, pa.int32())))


def _forget_failures(connection: Connection, pass_id: int, example_ids: Sequence[int]) -> None:
    of_pass = failures.c.pass_id == pass_id
    connection.execute(delete(failures).where(of_pass, failures.c.example_id.in_(example_ids)))
