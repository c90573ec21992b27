"""Runs and passes: registering, finding, resuming, sealing and deleting them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import pyarrow as pa
from sqlalchemy import Connection, Row, Table, delete, func, insert, select, text, update

from attattr_batch.choices import Target
from attattr_batch.data.records import Dataset, Example
from attattr_batch.errors import StoreError, UserError, did_you_mean
from attattr_batch.store.database.connection import Store, raw
from attattr_batch.store.database.tables import (
    examples,
    ledger,
    meta,
    passes,
    quarantine,
    runs,
    tables_written_by,
    vocabulary,
)
from attattr_batch.store.writing.rows import check_rows, insert_rows, with_constant

PassKind = Literal["attribute", "masked_answers", "attacked_answers"]

RUN_COLUMNS = ("run_id", "run_a", "run_b")
"""Columns that hold a run's id; the last two in tables of pairs of runs."""

RUNNING = "running"
SEALED = "sealed"

_RESUMED = "resumed"


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What is stored about a run when it is registered; each field is the column of `runs` of that name."""

    name: str
    run_key: str
    labels: Sequence[str]
    task: str
    split: str
    model: str
    family: str
    n_layers: int
    n_heads: int
    n_examples: int
    targets: Target
    quadrature: str
    fixed_nodes: int | None
    tolerance: float
    dtype: str
    tokenizer_key: str
    config: Mapping[str, Any] = field(repr=False)
    identity: Mapping[str, Any] = field(repr=False)
    provenance: Mapping[str, Any] = field(repr=False)


def register_run(connection: Connection, record: RunRecord, tables: Mapping[str, pa.Table]) -> int:
    """Stores a run and its data unless a run of the same identity is there, and returns the run's id.

    Args:
        connection: From `Store.write()`.
        record: The run.
        tables: Rows of `examples`, `tokens` and `vocabulary`, by name, with those tables' columns less
            `run_id` and `tokenizer_key`, which are added here. A vocabulary already stored is not
            stored again.

    Raises:
        UserError: another run has the name, or the name is a number.
        BadFactsError: the rows do not fit their tables.
    """
    known = connection.execute(
        select(runs.c.run_id).where(runs.c.run_key == record.run_key)
    ).scalar_one_or_none()
    if known is not None:
        return int(known)
    _check_name(connection, record.name)
    run_id = next_id(connection, "last_run_id")
    values: dict[str, Any] = {**asdict(record), "labels": list(record.labels)}
    for column in ("config", "identity", "provenance"):
        values[column] = json.dumps(values[column], ensure_ascii=False, sort_keys=True)
    connection.execute(insert(runs).values(run_id=run_id, status=RUNNING, created_at=_now(), **values))
    writable = tables_written_by("register")
    for name, rows in tables.items():
        if name not in writable:
            raise StoreError("no such table of run data", got=name, allowed=", ".join(sorted(writable)))
        _insert_run_rows(connection, writable[name], rows, (run_id, record.tokenizer_key))
    return run_id


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
    pass_id = next_id(connection, "last_pass_id")
    row = {
        "pass_id": pass_id,
        "run_id": run_id,
        "kind": kind,
        "pass_key": pass_key,
        "settings": json.dumps(settings, ensure_ascii=False, sort_keys=True),
        "n_wanted": n_wanted,
        "pass_status": RUNNING,
        "registered_at": _now(),
    }
    connection.execute(insert(passes).values(**row))
    return pass_id


def list_runs(connection: Connection) -> list[Row[Any]]:
    """Every run as a row of `runs`, oldest first."""
    return list(connection.execute(select(runs).order_by(runs.c.run_id)).all())


def find_run(connection: Connection, run_key: str) -> Row[Any] | None:
    """The run with this identity, as a row of `runs`, or None."""
    return connection.execute(select(runs).where(runs.c.run_key == run_key)).one_or_none()


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
    query = (
        "SELECT run, committed, total FROM progress WHERE kind = 'attribute' AND status = :running"
        " AND list_contains(:runs, run_id) ORDER BY run_id"
    )
    found = connection.execute(text(query), {"running": RUNNING, "runs": list(run_ids)}).all()
    return [
        f"run {run} is not finished: {committed} of {total} examples are committed"
        for run, committed, total in found
    ]


def unlabelled_runs(connection: Connection, run_ids: Sequence[int]) -> list[str]:
    """Names of those of the runs that have no example with a gold label."""
    query = (
        "SELECT name FROM runs ANTI JOIN (SELECT DISTINCT run_id FROM examples WHERE gold IS NOT NULL)"
        " USING (run_id) WHERE list_contains(:runs, run_id) ORDER BY run_id"
    )
    return list(connection.execute(text(query), {"runs": list(run_ids)}).scalars())


def run_dataset(connection: Connection, run: Row[Any]) -> Dataset:
    """The rows of a run's split, as they were when it was registered; `run` is its row."""
    query = select(examples).where(examples.c.run_id == run.run_id).order_by(examples.c.example_id)
    rows = tuple(
        Example(row.example_id, row.text_a, row.text_b, row.gold) for row in connection.execute(query).all()
    )
    return Dataset(run.task, run.split, f"run {run.name}", tuple(run.labels), rows)


def pending_example_ids(
    connection: Connection, pass_id: int, among: Sequence[int] | None = None
) -> list[int]:
    """Ids of the run's examples that the pass has neither committed nor quarantined, in ascending order.

    Args:
        connection: From `Store.read()` or `write()`.
        pass_id: The pass.
        among: The examples the pass is about, when it is not about all of the run's.
    """
    done = select(ledger.c.example_id).where(ledger.c.pass_id == pass_id)
    failed = select(quarantine.c.example_id).where(quarantine.c.pass_id == pass_id)
    query = (
        select(examples.c.example_id)
        .join(passes, passes.c.run_id == examples.c.run_id)
        .where(passes.c.pass_id == pass_id)
        .where(examples.c.example_id.not_in(done), examples.c.example_id.not_in(failed))
        .order_by(examples.c.example_id)
    )
    pending = connection.execute(query).scalars().all()
    if among is None:
        return list(pending)
    wanted = set(among)
    return [example_id for example_id in pending if example_id in wanted]


def count_committed(connection: Connection, pass_id: int) -> int:
    """Examples of the pass that are committed."""
    return _count(connection, ledger, pass_id)


def count_failures(connection: Connection, pass_id: int) -> int:
    """Examples of the pass that are quarantined."""
    return _count(connection, quarantine, pass_id)


def clear_failures(connection: Connection, pass_id: int, hopeless: Collection[int] = ()) -> int:
    """Forgets the pass's quarantined examples, so that they are pending again; returns how many.

    A sealed pass, and its run, are running again if there were any.

    Args:
        connection: From `Store.write()`.
        pass_id: The pass.
        hopeless: Examples that would fail again whatever is tried: they stay, and make nothing run again.
    """
    of_pass = quarantine.c.pass_id == pass_id
    quarantined = set(connection.execute(select(quarantine.c.example_id).where(of_pass)).scalars())
    cleared = sorted(quarantined.difference(hopeless))
    if cleared:
        connection.execute(delete(quarantine).where(of_pass, quarantine.c.example_id.in_(cleared)))
        reopen_passes(connection, [pass_id])
    return len(cleared)


def reopen_passes(connection: Connection, pass_ids: Sequence[int]) -> None:
    """Has sealed passes running again, and the runs of those that attribute."""
    reopened = {"pass_status": RUNNING, "finished_at": None}
    connection.execute(update(passes).where(passes.c.pass_id.in_(pass_ids)).values(**reopened))
    run_id = select(passes.c.run_id).where(passes.c.pass_id.in_(pass_ids), passes.c.kind == "attribute")
    running = {"status": RUNNING, "sealed_at": None}
    connection.execute(update(runs).where(runs.c.run_id.in_(run_id)).values(**running))


def seal_pass(store: Store, pass_id: int) -> None:
    """Marks a finished pass (and, for the attribution pass, its run) as sealed, and checkpoints the file.

    Raises:
        StoreError: examples of the pass are still pending.
    """
    with store.write() as connection:
        row = connection.execute(select(passes).where(passes.c.pass_id == pass_id)).one()
        done, failed = count_committed(connection, pass_id), count_failures(connection, pass_id)
        if done + failed != row.n_wanted:
            got = f"{done} committed and {failed} quarantined of {row.n_wanted}"
            raise StoreError("the pass is not finished", got=got, hint="run the same command again to resume")
        if row.pass_status == SEALED:
            return
        now = _now()
        finished = {"pass_status": SEALED, "finished_at": now}
        connection.execute(update(passes).where(passes.c.pass_id == pass_id).values(**finished))
        if row.kind == "attribute":
            seals = func.coalesce(runs.c.seals, 0) + 1  # what was built before is built again
            sealed = {"status": SEALED, "sealed_at": now, "seals": seals}
            connection.execute(update(runs).where(runs.c.run_id == row.run_id).values(**sealed))
    store.checkpoint()


def delete_run(connection: Connection, run_id: int) -> dict[str, int]:
    """Deletes a run from every table, those that jobs made included, in the connection's transaction.

    Vocabularies stay: other runs may share them.

    Returns:
        Rows deleted, by table; tables without any are left out.
    """
    query = text(
        "SELECT table_name, column_name FROM duckdb_columns()"
        " WHERE database_name = current_database() AND list_contains(:names, column_name)"
        " AND table_name IN (SELECT table_name FROM duckdb_tables()) ORDER BY ALL"
    )
    deleted: dict[str, int] = {}
    for table_name, column_name in connection.execute(query, {"names": list(RUN_COLUMNS)}).all():
        statement = f'DELETE FROM "{table_name}" WHERE {column_name} = ?'
        (count,) = raw(connection).execute(statement, [run_id]).fetchall()[0]
        deleted[table_name] = deleted.get(table_name, 0) + count
    return {name: count for name, count in deleted.items() if count}


def take_up(connection: Connection, run: Row[Any]) -> None:
    """Notes in the provenance of a run, of which this is the row, that another command goes on with it."""
    provenance = json.dumps(
        {**json.loads(run.provenance), _RESUMED: True}, ensure_ascii=False, sort_keys=True
    )
    connection.execute(update(runs).where(runs.c.run_id == run.run_id).values(provenance=provenance))


def is_taken_up(connection: Connection, run_id: int) -> bool:
    """Whether another command than the one that registered the run has gone on with it."""
    query = select(runs.c.provenance).where(runs.c.run_id == run_id)
    return _RESUMED in json.loads(connection.execute(query).scalar_one_or_none() or "{}")


def _check_name(connection: Connection, name: str) -> None:
    if name.isdecimal():
        raise UserError("a run's name must not be a number: runs are also addressed by id", got=name)
    if connection.execute(select(runs.c.run_id).where(runs.c.name == name)).first() is not None:
        raise UserError(
            "another run, with other settings or data, already has this name",
            got=name,
            hint=f"choose another with --name, or delete that run with `attattr rm {name}`",
        )


def _insert_run_rows(connection: Connection, table: Table, rows: pa.Table, keys: tuple[int, str]) -> None:
    run_id, tokenizer_key = keys
    if table is not vocabulary:
        insert_rows(connection, table, check_rows(table, with_constant(rows, "run_id", run_id)))
        return
    stored = select(func.count()).select_from(table).where(table.c.tokenizer_key == tokenizer_key)
    if connection.execute(stored).scalar_one() == 0:
        insert_rows(connection, table, check_rows(table, with_constant(rows, "tokenizer_key", tokenizer_key)))


def next_id(connection: Connection, counter: str) -> int:
    """The next number of a counter, which is a key of `meta`; never the same one twice in a file."""
    # A counter, not max + 1: an id must not come back after `rm`, while a stale writer may still use it.
    last = connection.execute(select(meta.c.value).where(meta.c.key == counter)).scalar_one_or_none()
    next_id = int(last or 0) + 1
    if last is None:
        connection.execute(insert(meta).values(key=counter, value=str(next_id)))
    else:
        connection.execute(update(meta).where(meta.c.key == counter).values(value=str(next_id)))
    return next_id


def _count(connection: Connection, table: Table, pass_id: int) -> int:
    query = select(func.count()).select_from(table).where(table.c.pass_id == pass_id)
    return int(connection.execute(query).scalar_one())


def _now() -> datetime:
    return datetime.now(UTC)
