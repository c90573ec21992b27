"""Passes: registering them, what of them is done, the quarantine, sealing; those that jobs request.

The kind of a requested pass is the name of the table of its answers.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

import pyarrow as pa
from sqlalchemy import Connection, Row, Table, delete, func, insert, select, update

from attattr_batch.errors import StoreError
from attattr_batch.identity import content_key
from attattr_batch.store.database.connection import Store, arrow_result, arrow_rows, raw
from attattr_batch.store.database.sqlfile import literal
from attattr_batch.store.database.tables import arrow_schema, ledger, metadata, passes, quarantine, runs
from attattr_batch.store.writing.builds import forget_build_keys
from attattr_batch.store.writing.runs import RUNNING, SEALED, next_id

PassKind = Literal["attribute", "masked_answers", "attacked_answers", "path_scores"]

_QUARANTINE = """
INSERT OR REPLACE INTO quarantine BY NAME
SELECT * FROM given_rows ANTI JOIN ledger USING (pass_id, example_id)
"""


@dataclass(frozen=True, kw_only=True)
class QuarantinedExample:
    """An example that failed every attempt; each field is the column of `quarantine` of that name."""

    example_id: int
    error: str
    message: str
    detail: str = ""
    attempts: int = 1


def register_pass(
    connection: Connection,
    run_id: int,
    kind: PassKind,
    pass_key: str,
    settings: Mapping[str, Any],
    n_wanted: int,
) -> int:
    """Stores a pass over `n_wanted` examples of a run unless it is there; returns its id."""
    query = select(passes.c.pass_id).where(
        passes.c.run_id == run_id, passes.c.kind == kind, passes.c.pass_key == pass_key
    )
    known = connection.execute(query).scalar_one_or_none()
    if known is not None:
        return int(known)
    row = {
        "pass_id": next_id(connection, "last_pass_id"),
        "run_id": run_id,
        "kind": kind,
        "pass_key": pass_key,
        "settings": json.dumps(settings, ensure_ascii=False, sort_keys=True),
        "n_wanted": n_wanted,
        "pass_status": RUNNING,
        "registered_at": datetime.now(UTC),
    }
    return int(connection.execute(insert(passes).values(row).returning(passes.c.pass_id)).scalar_one())


def find_pass(connection: Connection, pass_id: int) -> Row[Any]:
    """The kind and pass_key of a pass; the run_id, run_key, n_layers, n_heads and targets of its run.

    Raises:
        StoreError: it is gone, with its run.
    """
    of_run = [runs.c[name] for name in ("run_id", "run_key", "n_layers", "n_heads", "targets")]
    query = select(passes.c.kind, passes.c.pass_key, *of_run).join(runs, runs.c.run_id == passes.c.run_id)
    row = connection.execute(query.where(passes.c.pass_id == pass_id)).one_or_none()
    if row is None:
        raise _deleted(pass_id)
    return row


def _deleted(pass_id: int) -> StoreError:
    return StoreError("the run was deleted while it was computed", got=f"pass {pass_id}")


@lru_cache
def pass_shape(store: Store, pass_id: int) -> Row[Any]:
    """What `find_pass` says, read from the file once: nothing of it changes while the pass is there.

    Raises:
        StoreError: as for `find_pass`, or the store cannot be read.
    """
    with store.read() as connection:
        return find_pass(connection, pass_id)


def check_is_there(connection: Connection, pass_id: int, of_pass: Row[Any]) -> None:
    """Checks that the pass is still the one that `pass_shape` has read.

    Raises:
        StoreError: it is gone, with its run.
    """
    query = "SELECT pass_key FROM passes WHERE pass_id = ?"
    if raw(connection).execute(query, [pass_id]).fetchall() != [(of_pass.pass_key,)]:
        raise _deleted(pass_id)


def count_examples(connection: Connection, table: Table, pass_id: int) -> int:
    """How many examples of the pass are in a table: the ledger, or the quarantine."""
    query = select(func.count()).select_from(table).where(table.c.pass_id == pass_id)
    return int(connection.execute(query).scalar_one())


def pass_examples(connection: Connection, table: Table, pass_id: int) -> set[int]:
    """Examples of the pass that are in a table: the ledger, or the quarantine."""
    return set(connection.execute(select(table.c.example_id).where(table.c.pass_id == pass_id)).scalars())


def pending_ids(connection: Connection, pass_id: int, among: Iterable[int]) -> list[int]:
    """Those of the examples that the pass has neither committed nor quarantined, in ascending order."""
    done = (pass_examples(connection, table, pass_id) for table in (ledger, quarantine))
    return sorted(set(among).difference(*done))


def quarantine_examples(store: Store, pass_id: int, given: Sequence[QuarantinedExample]) -> None:
    """Quarantines examples, some perhaps anew; one that is committed already stays so."""
    with store.write() as connection:
        run_id, now = find_pass(connection, pass_id).run_id, datetime.now(UTC)
        rows = [{"pass_id": pass_id, "run_id": run_id, "failed_at": now, **vars(one)} for one in given]
        with arrow_rows(connection, "given_rows", pa.Table.from_pylist(rows, arrow_schema(quarantine))):
            raw(connection).execute(_QUARANTINE)


def release(connection: Connection, pass_id: int, example_ids: Collection[int]) -> None:
    """Takes examples of a pass out of the quarantine."""
    where = quarantine.c.pass_id == pass_id, quarantine.c.example_id.in_(sorted(example_ids))
    connection.execute(delete(quarantine).where(*where))


def retry_quarantined(connection: Connection, pass_id: int, hopeless: Collection[int] = ()) -> int:
    """Makes the pass's quarantined examples pending again; returns how many.

    A sealed pass, and its run, are running again if there were any.

    Args:
        connection: From `Store.write()`.
        pass_id: The pass.
        hopeless: Examples that would fail again whatever is tried: they stay, and make nothing run again.
    """
    released = pass_examples(connection, quarantine, pass_id).difference(hopeless)
    if released:
        release(connection, pass_id, released)
        _set_sealed(connection, [pass_id], None)
    return len(released)


def reopen_pass(connection: Connection, pass_id: int) -> None:
    """Marks a pass, and its run, as running again: examples have come that were not committed before."""
    _set_sealed(connection, [pass_id], None)


def seal_pass(store: Store, pass_id: int) -> None:
    """Marks a finished pass (and, for the attribution pass, its run) as sealed, and checkpoints the file.

    Raises:
        StoreError: examples of the pass are still pending.
    """
    with store.write() as connection:
        row = connection.execute(select(passes).where(passes.c.pass_id == pass_id)).one()
        if row.pass_status == SEALED:
            return
        done, failed = (count_examples(connection, table, pass_id) for table in (ledger, quarantine))
        if done + failed != row.n_wanted:
            got = f"{done} committed and {failed} quarantined of {row.n_wanted}"
            raise StoreError("the pass is not finished", got=got, hint="run the same command again to resume")
        _set_sealed(connection, [pass_id], datetime.now(UTC))
        if row.kind == "attribute":  # what was built before is built again
            seals = func.coalesce(runs.c.seals, 0) + 1
            connection.execute(update(runs).where(runs.c.run_id == row.run_id).values(seals=seals))
    store.checkpoint()


def answered(connection: Connection, run_id: int, kind: PassKind, job: str, request_key: str) -> int | None:
    """Examples quarantined in a job's finished pass over a run; None unless this very request is answered."""
    query = select(passes.c.pass_id).where(
        passes.c.run_id == run_id,
        passes.c.kind == kind,
        passes.c.pass_key == _pass_key(job, request_key),
        passes.c.pass_status == SEALED,
    )
    pass_id = connection.execute(query).scalar_one_or_none()
    return None if pass_id is None else count_examples(connection, quarantine, pass_id)


def register_requested_pass(
    connection: Connection, run_id: int, kind: PassKind, job: str, request_key: str, n_examples: int
) -> int:
    """Registers the pass that a job requests; if the request has changed, in place of the job's earlier one.

    Args:
        connection: From `Store.write()`.
        run_id: The run.
        kind: Kind of the pass.
        job: The job's name.
        request_key: Hash of the request.
        n_examples: Examples it is about.

    Returns:
        Id of the pass: of the earlier one, whose answers stay, if the request is the same.
    """
    key = _pass_key(job, request_key)
    of_job = func.json_extract_string(passes.c.settings, "$.job") == job
    query = select(passes.c.pass_id).where(
        passes.c.run_id == run_id, passes.c.kind == kind, passes.c.pass_key != key, of_job
    )
    if earlier := list(connection.execute(query).scalars()):
        for table in (ledger, quarantine, passes):
            connection.execute(delete(table).where(table.c.pass_id.in_(earlier)))
        answers = metadata.tables[kind]
        connection.execute(delete(answers).where(answers.c.run_id == run_id, answers.c.job == job))
        forget_build_keys(connection, job, [run_id])
    return register_pass(connection, run_id, kind, key, {"job": job}, n_examples)


def _pass_key(job: str, request_key: str) -> str:
    # With the job's name: another job may want the very same answers under its own.
    return content_key([job, request_key])


def take_back(connection: Connection, kind: PassKind, job: str, query: str) -> int:
    """Makes those examples of a job's passes pending again that an audit's query returns.

    Returns:
        How many; 0 where the rows do not say which (`run_id`, `example_id`).
    """
    named = arrow_result(connection, f"SELECT * FROM ({query}\n) LIMIT 0").column_names
    if not {"run_id", "example_id"} <= set(named):
        return 0
    of_job = f"kind = {literal(kind)} AND json_extract_string(settings, '$.job') = {literal(job)}"
    statement = f"""
        DELETE FROM ledger
        WHERE pass_id IN (SELECT pass_id FROM passes WHERE {of_job})
            AND (run_id, example_id) IN (SELECT (run_id, example_id) FROM ({query}\n))
        RETURNING pass_id, run_id, example_id
        """
    taken = arrow_result(connection, statement)
    with arrow_rows(connection, "taken_back", taken):
        raw(connection).execute(f"""
            DELETE FROM {kind} AS a USING taken_back AS t
            WHERE a.job = {literal(job)} AND a.run_id = t.run_id AND a.example_id = t.example_id
            """)
    _set_sealed(connection, taken["pass_id"].unique().to_pylist(), None)
    forget_build_keys(connection, job, taken["run_id"].unique().to_pylist())
    return int(taken.num_rows)


def count_answers(connection: Connection, kind: PassKind, job: str) -> int:
    """Answers that are stored for a job's passes."""
    answers = metadata.tables[kind]
    query = select(func.count()).select_from(answers).where(answers.c.job == job)
    return int(connection.execute(query).scalar_one())


def _set_sealed(connection: Connection, pass_ids: Sequence[int], at: datetime | None) -> None:
    """Marks passes, and the runs of those that attribute, as sealed at a time, or as running again."""
    status = RUNNING if at is None else SEALED
    of_pass = {"pass_status": status, "finished_at": at}
    connection.execute(update(passes).where(passes.c.pass_id.in_(pass_ids)).values(of_pass))
    run_ids = select(passes.c.run_id).where(passes.c.pass_id.in_(pass_ids), passes.c.kind == "attribute")
    of_run = {"status": status, "sealed_at": at}
    connection.execute(update(runs).where(runs.c.run_id.in_(run_ids)).values(of_run))
