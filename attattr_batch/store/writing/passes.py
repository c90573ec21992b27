"""Passes: registering them, what of them is done, the quarantine, sealing."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import pyarrow as pa
from sqlalchemy import Connection, Table, delete, func, insert, select, update

from attattr_batch.errors import StoreError
from attattr_batch.store.database.connection import Store, arrow_rows, raw
from attattr_batch.store.database.tables import arrow_schema, ledger, passes, quarantine, runs
from attattr_batch.store.writing.runs import RUNNING, SEALED, next_id

PassKind = Literal["attribute", "masked_answers", "attacked_answers"]


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


def find_pass(connection: Connection, pass_id: int) -> Any:
    """The run, kind and shape of a pass: run_id, kind, n_layers, n_heads, targets.

    Raises:
        StoreError: it is gone, with its run.
    """
    query = (
        select(passes.c.kind, runs.c.run_id, runs.c.n_layers, runs.c.n_heads, runs.c.targets)
        .join(runs, runs.c.run_id == passes.c.run_id)
        .where(passes.c.pass_id == pass_id)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        raise StoreError("the run was deleted while it was computed", got=f"pass {pass_id}")
    return row


def committed_ids(connection: Connection, pass_id: int) -> set[int]:
    """Examples of the pass that are committed."""
    return _example_ids(connection, ledger, pass_id)


def quarantined_ids(connection: Connection, pass_id: int) -> set[int]:
    """Examples of the pass that are quarantined."""
    return _example_ids(connection, quarantine, pass_id)


def pending_ids(connection: Connection, pass_id: int, among: Iterable[int]) -> list[int]:
    """Those of the examples that the pass has neither committed nor quarantined, in ascending order."""
    return sorted(set(among) - committed_ids(connection, pass_id) - quarantined_ids(connection, pass_id))


def quarantine_examples(store: Store, pass_id: int, given: Sequence[QuarantinedExample]) -> None:
    """Quarantines examples, some perhaps anew; one that is committed already stays so."""
    with store.write() as connection:
        run_id, now = find_pass(connection, pass_id).run_id, datetime.now(UTC)
        done = committed_ids(connection, pass_id)
        rows = [
            {"pass_id": pass_id, "run_id": run_id, "failed_at": now, **vars(one)}
            for one in given
            if one.example_id not in done
        ]
        with arrow_rows(connection, "given_rows", pa.Table.from_pylist(rows, arrow_schema(quarantine))):
            raw(connection).execute("INSERT OR REPLACE INTO quarantine BY NAME SELECT * FROM given_rows")


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
    released = quarantined_ids(connection, pass_id).difference(hopeless)
    if released:
        release(connection, pass_id, released)
        reopen_passes(connection, [pass_id])
    return len(released)


def reopen_passes(connection: Connection, pass_ids: Sequence[int]) -> None:
    """Has sealed passes running again, and the runs of those that attribute."""
    _set_state(connection, pass_ids, RUNNING, None)


def seal_pass(store: Store, pass_id: int) -> None:
    """Marks a finished pass (and, for the attribution pass, its run) as sealed, and checkpoints the file.

    Raises:
        StoreError: examples of the pass are still pending.
    """
    with store.write() as connection:
        row = connection.execute(select(passes).where(passes.c.pass_id == pass_id)).one()
        if row.pass_status == SEALED:
            return
        done, failed = len(committed_ids(connection, pass_id)), len(quarantined_ids(connection, pass_id))
        if done + failed != row.n_wanted:
            got = f"{done} committed and {failed} quarantined of {row.n_wanted}"
            raise StoreError("the pass is not finished", got=got, hint="run the same command again to resume")
        _set_state(connection, [pass_id], SEALED, datetime.now(UTC))
        if row.kind == "attribute":  # what was built before is built again
            seals = func.coalesce(runs.c.seals, 0) + 1
            connection.execute(update(runs).where(runs.c.run_id == row.run_id).values(seals=seals))
    store.checkpoint()


def _set_state(
    connection: Connection, pass_ids: Sequence[int], status: str, sealed_at: datetime | None
) -> None:
    of_pass = {"pass_status": status, "finished_at": sealed_at}
    connection.execute(update(passes).where(passes.c.pass_id.in_(pass_ids)).values(of_pass))
    run_ids = select(passes.c.run_id).where(passes.c.pass_id.in_(pass_ids), passes.c.kind == "attribute")
    of_run = {"status": status, "sealed_at": sealed_at}
    connection.execute(update(runs).where(runs.c.run_id.in_(run_ids)).values(of_run))


def _example_ids(connection: Connection, table: Table, pass_id: int) -> set[int]:
    return set(connection.execute(select(table.c.example_id).where(table.c.pass_id == pass_id)).scalars())
