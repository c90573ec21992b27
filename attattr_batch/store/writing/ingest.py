"""Committing workers' chunks: ledger rows and facts in one transaction, each example exactly once.

The ledger rows go first. An example that is there already was committed before (a chunk may be handed in
twice, or be split and overlap another), so its facts are dropped. Bad facts undo the whole transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Table, delete, select

from attattr_batch.errors import BadFactsError, StoreError, unknown_name
from attattr_batch.store.database.connection import Store, arrow_rows, raw
from attattr_batch.store.database.tables import (
    arrow_schema,
    ledger,
    passes,
    quarantine,
    runs,
    tables_written_by,
)
from attattr_batch.store.writing.facts import RunShape, check_answers, check_attribution
from attattr_batch.store.writing.rows import (
    check_rows,
    examples_where,
    insert_rows,
    with_constant,
)

log = logging.getLogger(__name__)


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
        error: Name of the error.
        message: What went wrong, in one line.
        detail: More for the developer, for example a traceback.
        attempts: Attempts made.
    """

    example_id: int
    error: str
    message: str
    detail: str = ""
    attempts: int = 1


def commit_chunk(store: Store, facts: ChunkFacts) -> CommitResult:
    """Commits a chunk: when this returns, its examples are in the ledger and their facts on disk.

    Raises:
        BadFactsError: the rows must not be stored (wrong columns, values, counts or examples); nothing was
            committed, and the same rows never will be.
        StoreError: the database cannot be written, or the pass is gone; nothing was committed.
    """
    return _commit(store, [facts])[0]


def commit_chunks(store: Store, chunks: Sequence[ChunkFacts]) -> list[CommitResult | BadFactsError]:
    """Commits several chunks, in one transaction where that is possible: most of its cost is its own.

    Returns:
        What became of each chunk, in order; the error of one with bad facts, beside which the others stand.

    Raises:
        StoreError: as for `commit_chunk`.
    """
    if len(chunks) > 1:
        try:
            return list(_commit(store, chunks))
        except BadFactsError:
            log.debug("committing %d chunks one by one: one has bad facts", len(chunks))
    results: list[CommitResult | BadFactsError] = []
    for facts in chunks:
        try:
            results.append(commit_chunk(store, facts))
        except BadFactsError as error:
            results.append(error)
    return results


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
        with arrow_rows(connection, "failed_rows", pa.Table.from_pylist(rows, arrow_schema(quarantine))):
            raw(connection).execute("INSERT OR REPLACE INTO quarantine BY NAME SELECT * FROM failed_rows")


def _find_pass(connection: Connection, pass_id: int) -> RunShape:
    query = (
        select(passes.c.kind, runs.c.run_id, runs.c.n_layers, runs.c.n_heads, runs.c.targets)
        .join(runs, runs.c.run_id == passes.c.run_id)
        .where(passes.c.pass_id == pass_id)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        raise StoreError("the run was deleted while it was computed", got=f"pass {pass_id}")
    return RunShape(row.run_id, row.kind, row.n_layers, row.n_heads, row.targets)


def _commit(store: Store, chunks: Sequence[ChunkFacts]) -> list[CommitResult]:
    """Commits chunks of one pass in one transaction; bad facts in one undo all."""
    pass_id = chunks[0].pass_id
    if any(facts.pass_id != pass_id for facts in chunks):
        raise BadFactsError("chunks are of different passes")
    example_ids = [example_id for facts in chunks for example_id in facts.example_ids]
    if len(set(example_ids)) != len(example_ids):
        raise BadFactsError("a chunk names an example twice, or two chunks do")
    with store.write() as connection:
        shape = _find_pass(connection, pass_id)
        tables = _check_tables(_joined(chunks), example_ids, shape)
        committed = _claim(connection, chunks, shape.run_id)
        if committed:
            for table, rows in tables.items():
                whole = len(committed) == len(example_ids)
                insert_rows(connection, table, rows if whole else _only(rows, committed))
            _forget_failures(connection, pass_id, committed)
    return [
        CommitResult(
            tuple(sorted(committed.intersection(facts.example_ids))),
            tuple(sorted(set(facts.example_ids) - committed)),
        )
        for facts in chunks
    ]


def _joined(chunks: Sequence[ChunkFacts]) -> dict[str, pa.Table]:
    names = set(chunks[0].tables)
    if any(set(facts.tables) != names for facts in chunks):
        raise BadFactsError("chunks have different tables")
    try:
        return {name: pa.concat_tables([facts.tables[name] for facts in chunks]) for name in names}
    except pa.ArrowInvalid as error:
        raise BadFactsError(f"chunks have different columns: {error}") from error


def _check_tables(
    tables: Mapping[str, pa.Table], example_ids: Sequence[int], shape: RunShape
) -> dict[Table, pa.Table]:
    writable = tables_written_by("chunk")
    expected = pa.array(sorted(example_ids), pa.int32())
    checked: dict[str, pa.Table] = {}
    for name, rows in tables.items():
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
    else:
        check_answers(checked, expected)
    return {writable[name]: rows for name, rows in checked.items()}


def _claim(connection: Connection, chunks: Sequence[ChunkFacts], run_id: int) -> set[int]:
    """Enters the examples into the ledger; returns those that were not there."""
    rows = pa.table(
        {
            "example_id": pa.array([one for facts in chunks for one in facts.example_ids], pa.int32()),
            "chunk": [facts.chunk for facts in chunks for _ in facts.example_ids],
            "worker": [facts.worker for facts in chunks for _ in facts.example_ids],
            "seconds": pa.array([facts.seconds for facts in chunks for _ in facts.example_ids], pa.float32()),
        }
    )
    statement = (
        "INSERT INTO ledger BY NAME SELECT *, ?::INTEGER AS pass_id, ?::INTEGER AS run_id,"
        " ?::TIMESTAMPTZ AS committed_at FROM claimed_rows ON CONFLICT DO NOTHING RETURNING example_id"
    )
    with arrow_rows(connection, "claimed_rows", rows):
        values = [chunks[0].pass_id, run_id, datetime.now(UTC)]
        claimed = raw(connection).execute(statement, values).fetchall()
    return {example_id for (example_id,) in claimed}


def _only(rows: pa.Table, example_ids: Set[int]) -> pa.Table:
    return rows.filter(pc.is_in(rows["example_id"], pa.array(sorted(example_ids), pa.int32())))


def _forget_failures(connection: Connection, pass_id: int, example_ids: Set[int]) -> None:
    of_pass = quarantine.c.pass_id == pass_id
    quarantined = set(connection.execute(select(quarantine.c.example_id).where(of_pass)).scalars())
    if forgiven := sorted(quarantined & example_ids):
        connection.execute(delete(quarantine).where(of_pass, quarantine.c.example_id.in_(forgiven)))
