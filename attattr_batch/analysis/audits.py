"""Audits: queries that return offending rows; no rows mean that all is well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection

from attattr_batch.files import data_folder
from attattr_batch.store.database.connection import Store, arrow_result, raw
from attattr_batch.store.database.sqlfile import check_folder, literal, load_folder
from attattr_batch.store.writing.jobs import listed, table_names
from attattr_batch.store.writing.runs import RUN_COLUMNS

SHOWN_ROWS = 20


@dataclass(frozen=True)
class AuditResult:
    """What one audit found.

    Attributes:
        name: Name of the audit.
        description: What it promises.
        columns: Column names of the offending rows.
        rows: The first `SHOWN_ROWS` of them.
        n_rows: How many there are.
    """

    name: str
    description: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    n_rows: int

    @property
    def passed(self) -> bool:
        """Whether nothing offends."""
        return self.n_rows == 0


def run_audits(store: Store, folder: Path | None = None) -> tuple[list[AuditResult], list[str]]:
    """Runs every audit over one consistent state of the store.

    Args:
        store: The store.
        folder: Folder of audit files; the package's own by default.

    Returns:
        What the audits found, and the names of those left out because a job they are about is not built.

    Raises:
        StoreError: the store cannot be read.
        UserError: the folder holds no audit.
    """
    if folder is not None:
        check_folder(folder, "audits")
    results, left_out = [], []
    with store.read() as connection:
        known = table_names(connection)
        for audit in load_folder(folder or data_folder("jobs") / "audits"):
            if not known.keys() >= set(audit.depends):
                left_out.append(audit.name)
                continue
            first = offending_rows(connection, audit.query, SHOWN_ROWS)
            columns, rows = tuple(first.column_names), [tuple(row.values()) for row in first.to_pylist()]
            n_rows = len(rows)
            if n_rows == SHOWN_ROWS:  # a broken store may have millions: they are counted, not fetched
                counted = raw(connection).execute(f"SELECT count(*) FROM ({audit.query}\n)").fetchall()
                n_rows = int(counted[0][0])
            results.append(AuditResult(audit.name, audit.description, columns, tuple(rows), n_rows))
    return results, left_out


def offending_rows(connection: Connection, query: str, limit: int) -> pa.Table:
    """The first rows that an audit's query returns."""
    return arrow_result(connection, f"SELECT * FROM ({query}\n) LIMIT {int(limit)}")


def audit_of(connection: Connection, query: str, run_ids: Sequence[int], job: str | None = None) -> str:
    """An audit's query, narrowed to rows about these runs (and about this job, if one is given).

    It is narrowed by those of the columns `run_id`, `run_a`, `run_b` and `job` that its rows have.
    """
    named = offending_rows(connection, query, 0).column_names
    about = [column for column in RUN_COLUMNS if column in named]
    chosen = " OR ".join(f"coalesce({column} IN ({listed(run_ids)}), true)" for column in about)
    conditions = [f"({chosen})"] if about else []
    if job is not None and "job" in named:
        conditions.append(f"job = {literal(job)}")
    return f"SELECT * FROM ({query}\n) WHERE {' AND '.join(conditions) or 'true'}"
