"""Rows of a table have no order: what jobs make of shuffled tables is the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from helpers.calling import build_jobs

from attattr_batch.analysis.catalogue import load_catalogue
from attattr_batch.store.database.connection import Store, raw
from attattr_batch.store.database.tables import tables_written_by

Rows = list[tuple[Any, ...]]


def shuffle(store: Store, tables: Iterable[str]) -> None:
    """Writes every table again, its rows in a random order that is the same at every call."""
    with store.write() as connection:
        duck = raw(connection)
        for name in tables:
            duck.execute(f"CREATE TEMP TABLE shuffled AS SELECT * FROM {name} ORDER BY hash(rowid, 'drawn')")
            duck.execute(f"DELETE FROM {name}")
            duck.execute(f"INSERT INTO {name} SELECT * FROM shuffled")
            duck.execute("DROP TABLE shuffled")


def made_by_jobs(store: Store) -> dict[str, Rows]:
    """The rows of every table and view of a job, sorted."""
    names = sorted({job.table for job in load_catalogue().jobs.values()})
    with store.read() as connection:
        return {name: _sorted_rows(raw(connection).sql(f"FROM {name}")) for name in names}


def _sorted_rows(relation: Any) -> Rows:
    kinds = list(zip(relation.columns, map(str, relation.types), strict=True))
    measured = [name for name, kind in kinds if kind.startswith(("FLOAT", "DOUBLE"))]
    exact = [name for name, _ in kinds if name not in measured]
    # Rounded, for sums differ in the last bits with the order of what is added; lists only follow.
    order = [*exact, *(f"round({name}, 4)" for name, kind in kinds if kind in ("FLOAT", "DOUBLE"))]
    found: Rows = relation.project(", ".join(exact + measured)).order(", ".join(order)).fetchall()
    return found


def first_rows(store: Store, name: str) -> Rows:
    with store.read() as connection:
        return raw(connection).execute(f"FROM {name} LIMIT 20").fetchall()


def test_no_job_leans_on_the_order_of_rows(built_store: Store) -> None:
    facts = [table.name for table in tables_written_by("chunk").values()]
    before, stored = made_by_jobs(built_store), first_rows(built_store, "head_scores_dedup")
    shuffle(built_store, [*facts, "examples", "tokens", "ledger"])
    assert first_rows(built_store, "head_scores_dedup") != stored, "nothing was shuffled"
    build_jobs(built_store.path)
    after = made_by_jobs(built_store)
    assert after.keys() == before.keys() and len(after) > 25
    for name, rows in after.items():
        assert rows == _nearly(before[name]), name


def _nearly(rows: Rows) -> Rows:
    return [tuple(map(_near, row)) for row in rows]


def _near(value: Any) -> Any:
    if isinstance(value, float) or (isinstance(value, list) and value and isinstance(value[0], float)):
        return pytest.approx(value, rel=1e-5, abs=1e-6, nan_ok=True)
    return value
