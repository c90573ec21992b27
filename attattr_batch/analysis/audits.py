"""Audits: queries that return offending rows; empty means good."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attattr_batch.files import data_folder
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.sqlfile import check_folder, load_folder
from attattr_batch.store.writing.jobs import count_offending, offending_rows, table_names

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
            if not known.issuperset(audit.depends):
                left_out.append(audit.name)
                continue
            first = offending_rows(connection, audit.query, SHOWN_ROWS)
            columns, rows = tuple(first.column_names), [tuple(row.values()) for row in first.to_pylist()]
            # Most return nothing; of a broken store's millions only the number is wanted.
            n_rows = len(rows) if len(rows) < SHOWN_ROWS else count_offending(connection, audit.query)
            results.append(AuditResult(audit.name, audit.description, columns, tuple(rows), n_rows))
    return results, left_out
