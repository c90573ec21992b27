"""Committing workers' chunks: ledger rows and facts in one transaction, each example exactly once.

Facts are checked before the file is opened for writing, so that nobody waits for it meanwhile. In the
transaction the ledger rows go first. An example that is there already was committed before (a chunk may be
handed in twice, or be split and overlap another), so its facts are dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Row, Table

from attattr_batch.errors import BadFactsError, unknown_name
from attattr_batch.store.database.connection import Store, arrow_rows, raw
from attattr_batch.store.database.tables import quarantine, tables_written_by
from attattr_batch.store.writing.passes import check_is_there, pass_examples, pass_shape, release
from attattr_batch.store.writing.rows import check_answers, check_attribution, check_rows, insert_rows, refuse

log = logging.getLogger(__name__)

_CLAIM = """
INSERT INTO ledger BY NAME
SELECT *, ?::INTEGER AS pass_id, ?::INTEGER AS run_id, ?::TIMESTAMPTZ AS committed_at FROM claimed_rows
ON CONFLICT DO NOTHING
RETURNING example_id
"""


@dataclass(frozen=True)
class ChunkFacts:
    """What a worker hands in for one chunk.

    Attributes:
        example_ids: The chunk's examples, each once.
        tables: Rows by query name (`head_scores`, `edges`, ...) with those tables' columns less `run_id`. In
            a run with target `both`, rows of an example whose gold and predicted class coincide have the
            target `both` and stand for either.
        worker: Who computed it, for people.
        seconds: Compute time of the chunk, in seconds.
    """

    example_ids: Sequence[int]
    tables: Mapping[str, pa.Table] = field(repr=False)
    worker: str
    seconds: float

    @property
    def name(self) -> str:
        """Name of the chunk, for people: `640+63` is example 640 and 63 others."""
        return f"{self.example_ids[0]}+{len(self.example_ids) - 1}"


def commit_chunk(store: Store, pass_id: int, facts: ChunkFacts) -> list[int]:
    """Commits a chunk of a pass: when this returns, its examples are in the ledger, their facts on disk.

    Returns:
        The examples newly committed, ascending; rows of those committed before are dropped.

    Raises:
        BadFactsError: the rows must not be stored (wrong columns, values, counts or examples); nothing was
            committed, and the same rows never will be.
        StoreError: the database cannot be written, or the pass is gone; nothing was committed.
    """
    return _commit(store, pass_id, [facts])[0]


def commit_chunks(
    store: Store, pass_id: int, chunks: Sequence[ChunkFacts]
) -> list[list[int] | BadFactsError]:
    """Commits several chunks of a pass, in one transaction where possible: opening the file costs most.

    Returns:
        For each chunk, in order, the examples newly committed, or the error if its facts are bad; a bad chunk
        does not keep the others out.

    Raises:
        StoreError: as for `commit_chunk`.
    """
    if len(chunks) > 1:
        try:
            return list(_commit(store, pass_id, chunks))
        except BadFactsError:
            log.debug("committing %d chunks one by one: one has bad facts", len(chunks))
    results: list[list[int] | BadFactsError] = []
    for facts in chunks:
        try:
            results.append(commit_chunk(store, pass_id, facts))
        except BadFactsError as error:
            results.append(error)
    return results


def _commit(store: Store, pass_id: int, chunks: Sequence[ChunkFacts]) -> list[list[int]]:
    """Commits chunks in one transaction; bad facts in one keep all out."""
    example_ids = [example_id for facts in chunks for example_id in facts.example_ids]
    if len(set(example_ids)) != len(example_ids):
        raise BadFactsError("a chunk names an example twice, or two chunks do")
    of_pass = pass_shape(store, pass_id)
    tables = _check_tables(_joined(chunks), example_ids, of_pass)
    with store.write() as connection:
        check_is_there(connection, pass_id, of_pass)
        new = _claim(connection, pass_id, of_pass.run_id, chunks)
        if new:
            for table, rows in tables.items():
                insert_rows(connection, table, rows if len(new) == len(example_ids) else _only(rows, new))
            if released := pass_examples(connection, quarantine, pass_id) & new:
                release(connection, pass_id, released)
    return [sorted(new.intersection(facts.example_ids)) for facts in chunks]


def _joined(chunks: Sequence[ChunkFacts]) -> dict[str, pa.Table]:
    given: dict[str, list[pa.Table]] = {}
    for facts in chunks:
        for name, rows in facts.tables.items():
            given.setdefault(name, []).append(rows)
    try:
        return {name: pa.concat_tables(parts) for name, parts in given.items()}
    except pa.ArrowInvalid as error:
        raise BadFactsError(f"chunks have different columns: {error}") from error


def _check_tables(
    tables: Mapping[str, pa.Table], example_ids: Sequence[int], of_pass: Row[Any]
) -> dict[Table, pa.Table]:
    writable = tables_written_by("chunk")
    expected = pa.array(sorted(example_ids), pa.int32())
    checked: dict[str, pa.Table] = {}
    for name, rows in tables.items():
        if name not in writable:
            raise BadFactsError(str(unknown_name("table of facts", name, writable)))
        if "run_id" in rows.column_names:
            raise BadFactsError(f"{name}: run_id is not the worker's to give")
        checked[name] = check_rows(writable[name], rows, run_id=of_pass.run_id)
        foreign = pc.invert(pc.is_in(checked[name]["example_id"], expected))
        refuse(f"{name}: rows of other examples", checked[name], foreign)
    if of_pass.kind == "attribute":
        check_attribution(checked, expected, of_pass)
    else:
        check_answers(checked, expected)
    return {writable[name]: rows for name, rows in checked.items()}


def _claim(connection: Connection, pass_id: int, run_id: int, chunks: Sequence[ChunkFacts]) -> set[int]:
    """Enters the examples into the ledger; returns those that were not there."""
    rows = [
        {"example_id": example_id, "chunk": facts.name, "worker": facts.worker, "seconds": facts.seconds}
        for facts in chunks
        for example_id in facts.example_ids
    ]
    with arrow_rows(connection, "claimed_rows", pa.Table.from_pylist(rows)):
        claimed = raw(connection).execute(_CLAIM, [pass_id, run_id, datetime.now(UTC)]).fetchall()
    return {example_id for (example_id,) in claimed}


def _only(rows: pa.Table, example_ids: Set[int]) -> pa.Table:
    return rows.filter(pc.is_in(rows["example_id"], pa.array(sorted(example_ids), pa.int32())))
