"""Passes that jobs request of the model: registering them, counting answers and taking wrong ones back.

The kind of such a pass is the name of the table of its answers.
"""

from __future__ import annotations

import json

from sqlalchemy import Connection, delete, func, select

from attattr_batch.identity import content_key
from attattr_batch.store.database.connection import arrow_result, raw
from attattr_batch.store.database.tables import ledger, metadata, passes, quarantine
from attattr_batch.store.writing.builds import forget_build_keys
from attattr_batch.store.writing.jobs import literal
from attattr_batch.store.writing.passes import PassKind, quarantined_ids, register_pass, reopen_passes
from attattr_batch.store.writing.runs import SEALED


def answered(connection: Connection, run_id: int, kind: PassKind, job: str, request_key: str) -> int | None:
    """Examples quarantined in a job's finished pass over a run; None unless this very request is answered."""
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
    query = select(passes).where(passes.c.run_id == run_id, passes.c.kind == kind)
    for row in connection.execute(query).all():
        if json.loads(row.settings).get("job") != job:
            continue
        if row.pass_key == key:
            return int(row.pass_id)
        for table in (ledger, quarantine, passes):
            connection.execute(delete(table).where(table.c.pass_id == row.pass_id))
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
    duck = raw(connection)
    duck.execute(f"""
        CREATE OR REPLACE TEMP TABLE taken_back AS
        SELECT l.pass_id, l.run_id, l.example_id
        FROM ledger AS l
        JOIN passes AS p USING (pass_id)
        WHERE p.kind = {literal(kind)} AND json_extract_string(p.settings, '$.job') = {literal(job)}
            AND (l.run_id, l.example_id) IN (SELECT (run_id, example_id) FROM ({query}\n))
        """)
    duck.execute(f"""
        DELETE FROM {kind} AS a USING taken_back AS t
        WHERE a.job = {literal(job)} AND a.run_id = t.run_id AND a.example_id = t.example_id
        """)
    duck.execute("""
        DELETE FROM ledger USING taken_back AS t
        WHERE ledger.pass_id = t.pass_id AND ledger.example_id = t.example_id
        """)
    taken = duck.execute("SELECT pass_id, run_id FROM taken_back").fetchall()
    reopen_passes(connection, sorted({pass_id for pass_id, _ in taken}))
    forget_build_keys(connection, job, sorted({run_id for _, run_id in taken}))
    return len(taken)


def count_answers(connection: Connection, kind: PassKind, job: str) -> int:
    """Answers that are stored for a job's passes."""
    answers = metadata.tables[kind]
    query = select(func.count()).select_from(answers).where(answers.c.job == job)
    return int(connection.execute(query).scalar_one())
